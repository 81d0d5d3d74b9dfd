package broker

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/coordinator"
	"github.com/kalda-io/kalda/internal/group"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// offsetsLog is a partition of __consumer_offsets in memory, committed at once.
type offsetsLog struct {
	mu  sync.Mutex
	end model.Offset
}

func (l *offsetsLog) Append(b record.Batch) (model.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end += model.Offset(b.NumRecords())
	return l.end - 1, nil
}
func (l *offsetsLog) NotifyCommitted(_ model.Offset, done func(error)) { done(nil) }
func (l *offsetsLog) Read(model.Offset, []byte) (int, model.Offset, error) {
	return 0, 0, io.ErrUnexpectedEOF // the test begins with an empty log
}
func (l *offsetsLog) StartOffset() model.Offset { return 0 }
func (l *offsetsLog) EndOffset() model.Offset   { return 0 }

// groupCluster is a broker with a group coordinator, in an image that tests may change.
type groupCluster struct {
	meta.Admin
	t       *testing.T
	b       *Broker
	image   atomic.Pointer[meta.Image]
	created int
	refuse  error
	conn    *wire.Conn
}

// CreateTopics implements the one call of meta.Admin that these tests need.
func (c *groupCluster) CreateTopics(_ context.Context, topics []meta.NewTopic, _ bool) ([]meta.NewTopicResult, int64, error) {
	c.created++
	if c.refuse != nil {
		return make([]meta.NewTopicResult, len(topics)), 0, c.refuse
	}
	for _, t := range topics {
		if !t.Internal || t.Config["cleanup.policy"] != "compact" {
			c.t.Errorf("created %+v", t)
		}
		c.addTopic(t.Name, 3)
	}
	return make([]meta.NewTopicResult, len(topics)), 1, nil
}

func (c *groupCluster) addTopic(name string, partitions int) *meta.Topic {
	old := c.image.Load()
	im := *old
	im.Topics, im.TopicsByID = map[string]*meta.Topic{}, map[model.TopicID]*meta.Topic{}
	t := &meta.Topic{Name: name, ID: model.TopicID{byte(len(old.Topics) + 1)}}
	for range partitions {
		t.Partitions = append(t.Partitions, &meta.PartitionState{Leader: model.Pair{ID: 1, Epoch: 7}})
	}
	for _, o := range old.Topics {
		im.Topics[o.Name], im.TopicsByID[o.ID] = o, o
	}
	im.Topics[name], im.TopicsByID[t.ID] = t, t
	c.image.Store(&im)
	return t
}

func withGroups(t *testing.T, f func(t *testing.T, c *groupCluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &groupCluster{t: t, conn: &wire.Conn{Listener: "PLAINTEXT", Remote: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5}}}
		im := meta.EmptyImage()
		im.Brokers[1] = &meta.Broker{ID: 1, Epoch: 7, Status: meta.BrokerActive, Endpoints: []meta.Endpoint{{Name: "PLAINTEXT", Host: "one", Port: 9092}}}
		im.Brokers[2] = &meta.Broker{ID: 2, Epoch: 8, Status: meta.BrokerFenced}
		c.image.Store(im)
		log := slog.New(slog.DiscardHandler)
		partitions := func() int32 {
			if t := c.image.Load().Topics[meta.OffsetsTopic]; t != nil {
				return int32(len(t.Partitions))
			}
			return 0
		}
		groups := group.NewService(model.SystemClock(), partitions, group.Options{}, coordinator.Options{Logger: log})
		defer groups.Close()
		for p := range int32(3) {
			groups.Elect(p, 1, &offsetsLog{})
		}
		c.b = New(Options{
			NodeID: 1, Image: c.image.Load, Admin: c, Groups: groups, Clock: model.SystemClock(), Logger: log,
			WaitApplied: func(context.Context, int64) error { return nil },
		})
		defer c.b.Close()
		synctest.Wait()
		f(t, c)
	})
}

type readyQueue struct{ n atomic.Int32 }

func (q *readyQueue) Ready(*wire.Pending) { q.n.Add(1) }

// ask sends a request by way of its bytes; nil if it is still parked.
func (c *groupCluster) ask(req kmsg.Request) kmsg.Response {
	c.t.Helper()
	q := &readyQueue{}
	p := &wire.Pending{Conn: c.conn, Key: req.Key(), Version: req.GetVersion(), ClientID: "client", Body: req.AppendTo(nil)}
	p.Bind(q)
	switch out := c.b.Handle(p); out {
	case wire.Done:
	case wire.Parked:
		clear(p.Body) // the read buffer is used again
		synctest.Wait()
		switch q.n.Load() {
		case 0:
			return nil
		case 1:
			p.Encode.EncodeAnswer(p)
		default:
			c.t.Fatalf("%T: completed %d times", req, q.n.Load())
		}
	default:
		c.t.Fatalf("%T v%d: outcome %d, %s", req, req.GetVersion(), out, p.CloseReason)
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(p.Resp); err != nil {
		c.t.Fatalf("%T v%d: %v", req, req.GetVersion(), err)
	}
	return resp
}

func want(t *testing.T, what string, code int16, e *kerr.Error) {
	t.Helper()
	if e == nil && code != 0 || e != nil && code != e.Code {
		t.Fatalf("%s: code %d, want %v", what, code, e)
	}
}

func TestFindCoordinator(t *testing.T) {
	withGroups(t, func(t *testing.T, c *groupCluster) {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
		c.refuse = kerr.With(kerr.InvalidReplicationFactor, "too few brokers")
		req.Version = 4
		r := c.ask(req).(*kmsg.FindCoordinatorResponse)
		want(t, "creation fails", r.Coordinators[0].ErrorCode, kerr.CoordinatorNotAvailable)
		if m := r.Coordinators[0].ErrorMessage; m == nil || !strings.Contains(*m, "too few brokers") {
			t.Fatalf("message %v", m)
		}
		c.refuse = nil
		for v := range int16(7) {
			req.Version = v
			r := c.ask(req).(*kmsg.FindCoordinatorResponse)
			if v < 4 {
				r.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{Key: "g", NodeID: r.NodeID, Host: r.Host, Port: r.Port, ErrorCode: r.ErrorCode}}
			} else if len(r.Coordinators) != 2 || r.Coordinators[1].Key != "h" {
				t.Fatalf("v%d: %+v", v, r.Coordinators)
			}
			for _, k := range r.Coordinators {
				if k.ErrorCode != 0 || k.NodeID != 1 || k.Host != "one" || k.Port != 9092 {
					t.Fatalf("v%d: %+v", v, k)
				}
			}
		}
		if c.created != 2 {
			t.Fatalf("created %d times", c.created)
		}
		req.Version, req.CoordinatorType = 6, 1
		want(t, "transactions", c.ask(req).(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode, kerr.TransactionalIDAuthorizationFailed)
		req.Version = 1
		want(t, "transactions", c.ask(req).(*kmsg.FindCoordinatorResponse).ErrorCode, kerr.TransactionalIDAuthorizationFailed)
		req.Version, req.CoordinatorType = 6, 2
		want(t, "share groups", c.ask(req).(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode, kerr.InvalidRequest)
		// The partition's leader is fenced: there is a coordinator, but not now.
		c.image.Load().Topics[meta.OffsetsTopic].Partitions[coordinator.PartitionOf("g", 3)].Leader = model.Pair{ID: 2, Epoch: 8}
		req.CoordinatorType = 0
		want(t, "fenced leader", c.ask(req).(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode, kerr.CoordinatorNotAvailable)
	})
}

// commitTo asks to commit offset 5 to partitions 0 and 9 of t (id 1), and of a topic
// that does not exist.
func commitTo(version int16) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = version, "g", -1
	for i, name := range []string{"t", "nosuch"} {
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = name
		rt.TopicID = [16]byte{byte(1 + 99*i)}
		for _, n := range []int32{9, 0} {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset = n, 5
			rt.Partitions = append(rt.Partitions, p)
		}
		req.Topics = append(req.Topics, rt)
	}
	return req
}

func TestOffsetsOfUnknownTopics(t *testing.T) {
	withGroups(t, func(t *testing.T, c *groupCluster) {
		id := c.addTopic("t", 2).ID
		c.addTopic(meta.OffsetsTopic, 3)
		for v := int16(1); v <= 10; v++ {
			r := c.ask(commitTo(v)).(*kmsg.OffsetCommitResponse)
			got := map[[2]int32]int16{}
			for _, rt := range r.Topics {
				known := int32(0)
				if rt.Topic == "t" || rt.TopicID == id {
					known = 1
				}
				for _, p := range rt.Partitions {
					got[[2]int32{known, p.Partition}] = p.ErrorCode
				}
			}
			missing := kerr.UnknownTopicOrPartition.Code
			if v >= 10 {
				missing = kerr.UnknownTopicID.Code
			}
			for k, code := range map[[2]int32]int16{{1, 0}: 0, {1, 9}: kerr.UnknownTopicOrPartition.Code, {0, 0}: missing, {0, 9}: missing} {
				if c, ok := got[k]; !ok || c != code {
					t.Fatalf("v%d: %v: got %v", v, k, got)
				}
			}
		}
		// Nothing is left to commit: answered without the group.
		only := commitTo(9)
		only.Topics = only.Topics[1:]
		if r := c.ask(only).(*kmsg.OffsetCommitResponse); len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 2 {
			t.Fatalf("%+v", r.Topics)
		}

		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Group = "g"
		fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}, {Topic: "nosuch", Partitions: []int32{0}}}
		for v := int16(1); v < 8; v++ {
			fetch.Version = v
			r := c.ask(fetch).(*kmsg.OffsetFetchResponse)
			want(t, "fetch", r.ErrorCode, nil)
			if a, b, n := r.Topics[0].Partitions[0], r.Topics[0].Partitions[1], r.Topics[1].Partitions[0]; a.Offset != 5 || b.Offset != -1 || n.Offset != -1 || n.ErrorCode != 0 {
				t.Fatalf("v%d: %+v", v, r.Topics)
			}
		}
		fetch.Version = 10
		var answers []kmsg.OffsetFetchResponseGroup
		for _, g := range []kmsg.OffsetFetchRequestGroup{
			{Group: "g", Topics: []kmsg.OffsetFetchRequestGroupTopic{{TopicID: id, Partitions: []int32{0}}, {TopicID: [16]byte{77}, Partitions: []int32{0}}}},
			{Group: "g"},
			{Group: "g", Topics: []kmsg.OffsetFetchRequestGroupTopic{}},
			{Group: "nosuch", Topics: []kmsg.OffsetFetchRequestGroupTopic{{TopicID: id, Partitions: []int32{1}}}},
		} {
			fetch.Groups = []kmsg.OffsetFetchRequestGroup{g, g} // the second is refused
			r := c.ask(fetch).(*kmsg.OffsetFetchResponse)
			if r.Groups[1].ErrorCode != kerr.InvalidRequest.Code || len(r.Groups[1].Topics) != 0 {
				t.Fatalf("twice in one request: %+v", r.Groups[1])
			}
			answers = append(answers, r.Groups[0])
		}
		if g := answers[0]; len(g.Topics) != 2 || g.Topics[0].TopicID != id || g.Topics[0].Partitions[0].Offset != 5 ||
			g.Topics[1].TopicID != [16]byte{77} || g.Topics[1].Partitions[0].ErrorCode != kerr.UnknownTopicID.Code {
			t.Fatalf("by id: %+v", g.Topics)
		}
		if g := answers[1]; len(g.Topics) != 1 || g.Topics[0].TopicID != id || g.Topics[0].Partitions[0].Offset != 5 {
			t.Fatalf("all: %+v", g.Topics)
		}
		if g := answers[2]; len(g.Topics) != 0 {
			t.Fatalf("none: %+v", g.Topics)
		}
		if g := answers[3]; g.ErrorCode != 0 || g.Topics[0].Partitions[0].Offset != -1 || g.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("of a group that does not exist: %+v", g)
		}

		del := kmsg.NewPtrOffsetDeleteRequest()
		del.Group = "g"
		del.Topics = []kmsg.OffsetDeleteRequestTopic{
			{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}, {Partition: 9}}},
			{Topic: "nosuch", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}},
		}
		d := c.ask(del).(*kmsg.OffsetDeleteResponse)
		want(t, "delete", d.ErrorCode, nil)
		codes := map[string]int16{}
		for _, rt := range d.Topics {
			for _, p := range rt.Partitions {
				codes[rt.Topic+string(rune('0'+p.Partition))] = p.ErrorCode
			}
		}
		if len(codes) != 3 || codes["t0"] != 0 || codes["t9"] != kerr.UnknownTopicOrPartition.Code || codes["nosuch0"] != kerr.UnknownTopicOrPartition.Code {
			t.Fatalf("delete: %v", codes)
		}
	})
}

// One member's life in every version of every API.
func TestMembership(t *testing.T) {
	withGroups(t, func(t *testing.T, c *groupCluster) {
		c.addTopic(meta.OffsetsTopic, 3)
		for v := range int16(10) {
			g := "g" + string(rune('0'+v))
			j := kmsg.NewPtrJoinGroupRequest()
			j.Version, j.Group, j.ProtocolType, j.SessionTimeoutMillis, j.RebalanceTimeoutMillis = v, g, "consumer", 10_000, 10_000
			j.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("metadata")}}
			joined := c.ask(j).(*kmsg.JoinGroupResponse)
			if v >= 4 {
				want(t, "first join", joined.ErrorCode, kerr.MemberIDRequired)
				j.MemberID = joined.MemberID
				joined = c.ask(j).(*kmsg.JoinGroupResponse)
			}
			want(t, "join", joined.ErrorCode, nil)
			if joined.LeaderID != joined.MemberID || string(joined.Members[0].ProtocolMetadata) != "metadata" || !strings.HasPrefix(joined.MemberID, "client-") {
				t.Fatalf("v%d: %+v", v, joined)
			}
			s := kmsg.NewPtrSyncGroupRequest()
			s.Version, s.Group, s.MemberID, s.Generation = min(v, 5), g, joined.MemberID, joined.Generation
			s.ProtocolType, s.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
			s.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte("mine")}}
			synced := c.ask(s).(*kmsg.SyncGroupResponse)
			want(t, "sync", synced.ErrorCode, nil)
			if string(synced.MemberAssignment) != "mine" {
				t.Fatalf("v%d: %+v", v, synced)
			}
			h := kmsg.NewPtrHeartbeatRequest()
			h.Version, h.Group, h.MemberID, h.Generation = min(v, 4), g, joined.MemberID, joined.Generation
			want(t, "heartbeat", c.ask(h).(*kmsg.HeartbeatResponse).ErrorCode, nil)

			d := kmsg.NewPtrDescribeGroupsRequest()
			d.Version, d.Groups, d.IncludeAuthorizedOperations = min(v, 6), []string{g}, true
			for _, software := range []string{"kalda-cli", "apache-kafka-java"} {
				c.conn.SoftwareName = software
				dg := c.ask(d).(*kmsg.DescribeGroupsResponse).Groups[0]
				if dg.State != "Stable" || string(dg.Members[0].MemberAssignment) != "mine" || dg.Members[0].ClientHost != "/10.0.0.1" {
					t.Fatalf("v%d: %+v", v, dg)
				}
				if v >= 3 && dg.AuthorizedOperations != groupOperations {
					t.Fatalf("v%d: operations %d", v, dg.AuthorizedOperations)
				}
				if tagged := dg.UnknownTags.Len() > 0; tagged != (v >= 5 && software == "kalda-cli") {
					t.Fatalf("v%d %s: tags %v", v, software, tagged)
				}
			}
			l := kmsg.NewPtrListGroupsRequest()
			l.Version, l.StatesFilter = min(v, 5), []string{"stable"}
			lr := c.ask(l).(*kmsg.ListGroupsResponse)
			want(t, "list", lr.ErrorCode, nil)
			if v >= 4 && len(lr.Groups) != 1 || v < 4 && len(lr.Groups) != int(v)+1 {
				t.Fatalf("v%d: %d groups", v, len(lr.Groups))
			}
			x := kmsg.NewPtrDeleteGroupsRequest()
			x.Version, x.Groups = min(v, 3), []string{g, "nosuch"}
			xr := c.ask(x).(*kmsg.DeleteGroupsResponse)
			want(t, "delete", xr.Groups[0].ErrorCode, kerr.NonEmptyGroup)
			want(t, "delete", xr.Groups[1].ErrorCode, kerr.GroupIDNotFound)

			lv := kmsg.NewPtrLeaveGroupRequest()
			lv.Version, lv.Group, lv.MemberID = min(v, 5), g, joined.MemberID
			lv.Members = []kmsg.LeaveGroupRequestMember{{MemberID: joined.MemberID}}
			want(t, "leave", c.ask(lv).(*kmsg.LeaveGroupResponse).ErrorCode, nil)
			want(t, "heartbeat", c.ask(h).(*kmsg.HeartbeatResponse).ErrorCode, kerr.UnknownMemberID)
		}
	})
}

// A second member's JoinGroup stays parked until the first one comes back.
func TestJoinIsParked(t *testing.T) {
	withGroups(t, func(t *testing.T, c *groupCluster) {
		c.addTopic(meta.OffsetsTopic, 3)
		j := kmsg.NewPtrJoinGroupRequest()
		j.Version, j.Group, j.ProtocolType, j.SessionTimeoutMillis, j.RebalanceTimeoutMillis = 3, "g", "consumer", 10_000, 10_000
		j.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		first := c.ask(j).(*kmsg.JoinGroupResponse)
		if r := c.ask(j); r != nil {
			t.Fatalf("answered at once: %+v", r)
		}
		again := *j
		again.MemberID = first.MemberID
		if r, ok := c.ask(&again).(*kmsg.JoinGroupResponse); !ok || r.Generation != 2 || len(r.Members) != 2 {
			t.Fatalf("the first comes back: %+v", r)
		}
	})
}
