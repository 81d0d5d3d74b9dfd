package group

import (
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/coordinator"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// memoryLog is a partition of which everything is committed at once.
type memoryLog struct {
	mu struct {
		sync.Mutex
		batches []record.Batch
		end     model.Offset
	}
}

func (l *memoryLog) Append(b record.Batch) (model.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.SetBaseOffset(l.mu.end)
	l.mu.batches = append(l.mu.batches, append(record.Batch(nil), b...))
	l.mu.end = b.NextOffset()
	return b.LastOffset(), nil
}

func (l *memoryLog) NotifyCommitted(_ model.Offset, done func(error)) { done(nil) }

func (l *memoryLog) Read(from model.Offset, buf []byte) (int, model.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.mu.batches {
		if b.NextOffset() > from {
			if len(b) > len(buf) {
				return 0, from, io.ErrShortBuffer
			}
			return copy(buf, b), b.NextOffset(), nil
		}
	}
	return 0, from, nil
}

func (l *memoryLog) StartOffset() model.Offset { return 0 }

func (l *memoryLog) EndOffset() model.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.end
}

// answers plays the server: it encodes each answer when it is ready.
type answers struct {
	mu    sync.Mutex
	ready []*wire.Pending
}

func (q *answers) Ready(p *wire.Pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready = append(q.ready, p)
}

// service runs f with a service of three partitions, of which this broker leads two.
func service(t *testing.T, f func(t *testing.T, s *Service, ask func(kmsg.Request, func(kmsg.Response)) kmsg.Response)) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService(model.SystemClock(), func() int32 { return 3 }, Options{}, coordinator.Options{Logger: slog.New(slog.DiscardHandler)})
		defer s.Close()
		s.Elect(0, 1, &memoryLog{})
		s.Elect(1, 1, &memoryLog{})
		synctest.Wait()
		conn := &wire.Conn{SoftwareName: "kalda-cli", Remote: &net.TCPAddr{IP: net.IPv6loopback, Port: 1234}}
		ask := func(req kmsg.Request, finish func(kmsg.Response)) kmsg.Response {
			t.Helper()
			q := &answers{}
			p := &wire.Pending{Conn: conn, ClientID: "tester"}
			p.Bind(q)
			s.Submit(p, req, finish)
			synctest.Wait()
			if len(q.ready) == 0 {
				return nil
			}
			if len(q.ready) != 1 || q.ready[0] != p {
				t.Fatalf("%T: completed %d times", req, len(q.ready))
			}
			p.Encode.EncodeAnswer(p)
			resp := req.ResponseKind()
			if err := resp.ReadFrom(p.Resp); err != nil {
				t.Fatalf("%T v%d: %v", req, req.GetVersion(), err)
			}
			return resp
		}
		f(t, s, ask)
	})
}

// groupIn returns a group id that belongs to partition p of 3.
func groupIn(p int32) string {
	for c := 'a'; ; c++ {
		if coordinator.PartitionOf(string(c), 3) == p {
			return string(c)
		}
	}
}

func commitOne(group string) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, group, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = 42
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = "t"
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	return req
}

func TestServiceRoutes(t *testing.T) {
	service(t, func(t *testing.T, s *Service, ask func(kmsg.Request, func(kmsg.Response)) kmsg.Response) {
		for p := range int32(3) {
			resp := ask(commitOne(groupIn(p)), nil).(*kmsg.OffsetCommitResponse)
			want := int16(0)
			if p == 2 { // another broker leads it
				want = kerr.NotCoordinator.Code
			}
			if got := resp.Topics[0].Partitions[0].ErrorCode; got != want {
				t.Fatalf("partition %d: %s", p, errName(got))
			}
		}

		// One request about groups of several shards, one of them elsewhere.
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version = 9
		for _, p := range []int32{2, 1, 0} {
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group = groupIn(p)
			fetch.Groups = append(fetch.Groups, g)
		}
		finished := 0
		got := ask(fetch, func(r kmsg.Response) { finished++ }).(*kmsg.OffsetFetchResponse)
		if finished != 1 {
			t.Fatalf("finish ran %d times", finished)
		}
		for i, g := range got.Groups {
			switch {
			case g.Group != fetch.Groups[i].Group:
				t.Fatalf("answer %d is about %s", i, g.Group)
			case i == 0 && g.ErrorCode != kerr.NotCoordinator.Code:
				t.Fatalf("%s: %s", g.Group, errName(g.ErrorCode))
			case i > 0 && (g.ErrorCode != 0 || g.Topics[0].Partitions[0].Offset != 42):
				t.Fatalf("%s: %s %v", g.Group, errName(g.ErrorCode), g.Topics)
			}
		}

		list := kmsg.NewPtrListGroupsRequest()
		list.Version = 5
		if r := ask(list, nil).(*kmsg.ListGroupsResponse); r.ErrorCode != 0 || len(r.Groups) != 2 {
			t.Fatalf("list: %+v", r)
		}

		describe := kmsg.NewPtrDescribeGroupsRequest()
		describe.Version, describe.Groups = 6, []string{groupIn(0), groupIn(2), ""}
		d := ask(describe, nil).(*kmsg.DescribeGroupsResponse)
		if d.Groups[0].State != "Empty" || d.Groups[0].UnknownTags.Len() != 1 {
			t.Fatalf("describe: %+v", d.Groups[0])
		}
		if d.Groups[1].ErrorCode != kerr.NotCoordinator.Code || d.Groups[2].ErrorCode != kerr.InvalidGroupID.Code {
			t.Fatalf("describe: %+v", d.Groups[1:])
		}

		s.TopicsDeleted([]string{"t"})
		if r := ask(list, nil).(*kmsg.ListGroupsResponse); len(r.Groups) != 0 {
			t.Fatalf("list after the topic is gone: %+v", r)
		}

		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Version, del.Groups = 3, []string{groupIn(0), groupIn(2)}
		r := ask(del, nil).(*kmsg.DeleteGroupsResponse)
		if r.Groups[0].ErrorCode != kerr.GroupIDNotFound.Code || r.Groups[1].ErrorCode != kerr.NotCoordinator.Code {
			t.Fatalf("delete: %+v", r.Groups)
		}

		s.Resign(0, 1)
		s.Resign(1, 1)
		if r := ask(list, nil).(*kmsg.ListGroupsResponse); r.ErrorCode != 0 || len(r.Groups) != 0 {
			t.Fatalf("list without shards: %+v", r)
		}
	})
}

// What a request shares with the read buffer is copied: the buffer is used again as soon
// as Submit returns.
func TestServiceCopiesTheBody(t *testing.T) {
	service(t, func(t *testing.T, s *Service, ask func(kmsg.Request, func(kmsg.Response)) kmsg.Response) {
		metadata := subscribe([]string{"t"}, "")
		j := kmsg.NewPtrJoinGroupRequest()
		j.Version, j.Group, j.ProtocolType, j.SessionTimeoutMillis = 3, groupIn(0), "consumer", 10_000
		j.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: metadata}}
		joined := ask(j, nil).(*kmsg.JoinGroupResponse)
		if joined.ErrorCode != 0 {
			t.Fatal(errName(joined.ErrorCode))
		}
		clear(metadata)
		assignment := []byte{1, 2, 3}
		y := kmsg.NewPtrSyncGroupRequest()
		y.Version, y.Group, y.MemberID, y.Generation = 2, j.Group, joined.MemberID, joined.Generation
		y.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: assignment}}
		if r := ask(y, nil).(*kmsg.SyncGroupResponse); r.ErrorCode != 0 {
			t.Fatal(errName(r.ErrorCode))
		}
		clear(assignment)
		d := kmsg.NewPtrDescribeGroupsRequest()
		d.Groups = []string{j.Group}
		m := ask(d, nil).(*kmsg.DescribeGroupsResponse).Groups[0].Members[0]
		if string(m.MemberAssignment) != "\x01\x02\x03" || string(m.ProtocolMetadata) != string(subscribe([]string{"t"}, "")) {
			t.Fatalf("got %x and %x", m.MemberAssignment, m.ProtocolMetadata)
		}
		if m.ClientHost != "/::1" || m.ClientID != "tester" {
			t.Fatalf("client %s at %s", m.ClientID, m.ClientHost)
		}
		// In the bubble's time the session runs out by itself.
		<-time.After(11 * time.Second)
		synctest.Wait()
		if g := ask(d, nil).(*kmsg.DescribeGroupsResponse).Groups[0]; g.State != "Empty" {
			t.Fatalf("state is %s", g.State)
		}
	})
}

func TestServiceWithoutTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService(model.SystemClock(), func() int32 { return 0 }, Options{}, coordinator.Options{})
		var got kmsg.Response
		s.submit(NewCall(commitOne("g"), Client{}, func(c *Call) { got = c.Resp }))
		if code := got.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; code != kerr.NotCoordinator.Code {
			t.Fatal(errName(code))
		}
		s.Close()
	})
}

// Every request can be refused in every version, with the error where clients look for it.
func TestErrorAnswers(t *testing.T) {
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group = "g"
	fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	fetch.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}}
	code := func(r kmsg.Response) int16 {
		switch r := r.(type) {
		case *kmsg.JoinGroupResponse:
			return r.ErrorCode
		case *kmsg.SyncGroupResponse:
			return r.ErrorCode
		case *kmsg.HeartbeatResponse:
			return r.ErrorCode
		case *kmsg.LeaveGroupResponse:
			return r.ErrorCode
		case *kmsg.OffsetDeleteResponse:
			return r.ErrorCode
		case *kmsg.ListGroupsResponse:
			return r.ErrorCode
		case *kmsg.OffsetCommitResponse:
			return r.Topics[0].Partitions[0].ErrorCode
		case *kmsg.DescribeGroupsResponse:
			return r.Groups[0].ErrorCode
		case *kmsg.DeleteGroupsResponse:
			return r.Groups[0].ErrorCode
		case *kmsg.OffsetFetchResponse:
			switch {
			case r.Version < 2:
				return r.Topics[0].Partitions[0].ErrorCode
			case r.Version < 8:
				return r.ErrorCode
			default:
				return r.Groups[0].ErrorCode
			}
		}
		return 0
	}
	for _, req := range []kmsg.Request{
		&kmsg.JoinGroupRequest{MemberID: "m"}, &kmsg.SyncGroupRequest{}, &kmsg.HeartbeatRequest{}, &kmsg.LeaveGroupRequest{},
		commitOne("g"), fetch, kmsg.NewPtrOffsetDeleteRequest(), &kmsg.ListGroupsRequest{},
		&kmsg.DescribeGroupsRequest{Groups: []string{"g"}}, &kmsg.DeleteGroupsRequest{Groups: []string{"g"}},
	} {
		for v := int16(0); v <= req.MaxVersion(); v++ {
			if _, ok := req.(*kmsg.OffsetFetchRequest); ok && v == 0 {
				continue // offsets in ZooKeeper
			}
			req.SetVersion(v)
			c := NewCall(req, Client{}, func(done *Call) {
				b := done.Resp.AppendTo(nil)
				back := req.ResponseKind()
				if err := back.ReadFrom(b); err != nil {
					t.Fatalf("%T v%d: %v", req, v, err)
				}
				if got := code(back); got != kerr.NotCoordinator.Code {
					t.Errorf("%T v%d: got %s", req, v, errName(got))
				}
			})
			c.Fail(kerr.NotCoordinator)
		}
	}
}
