package node

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/server/memnet"
	"github.com/kalda-io/kalda/internal/wire"
)

// allTopics asks for all topics.
func allTopics() *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 12, nil
	return req
}

// announced is the queue of one request that notes what its answer was said to take.
type announced struct {
	bytes int
	ready chan struct{}
}

func (a *announced) Ready(*wire.Pending)                            { close(a.ready) }
func (a *announced) Reserve(*wire.Pending, int) error               { return nil }
func (a *announced) Release(*wire.Pending)                          {}
func (a *announced) Room(_ *wire.Pending, n int) int                { return n }
func (a *announced) ReserveAnswer(_ *wire.Pending, bytes int) error { a.bytes = bytes; return nil }

// What an answer is said to take is about what it takes, wherever a few bytes ask for a long one.
func TestAnswersAreEstimated(t *testing.T) {
	suffers(t, func(d *ward) {
		const topics, partitions = 40, 50
		var names []string
		for i := range topics {
			names = append(names, fmt.Sprintf("a-topic-with-a-name-%d", i))
			d.create(names[i], partitions, nil)
		}
		var groups []string
		c := d.w.member("").wireConn
		defer c.c.Close()
		for i := range 50 {
			groups = append(groups, fmt.Sprint("group-", i))
			m := joinWith(c, 3, groups[i], "", nil)
			sg := kmsg.NewPtrSyncGroupRequest()
			sg.Version, sg.Group, sg.MemberID, sg.Generation = 2, groups[i], m.MemberID, m.Generation
			as := kmsg.NewSyncGroupRequestGroupAssignment()
			as.MemberID, as.MemberAssignment = m.MemberID, make([]byte, 20_000)
			sg.GroupAssignment = append(sg.GroupAssignment, as)
			ask[*kmsg.SyncGroupResponse](c, sg)
			ask[*kmsg.OffsetCommitResponse](c, commitOf(groups[i]+"-offsets", names[0], partitions))
		}
		describe := func(f func(*kmsg.DescribeConfigsRequest)) kmsg.Request {
			req := kmsg.NewPtrDescribeConfigsRequest()
			req.Version = 4
			for _, name := range names {
				rr := kmsg.NewDescribeConfigsRequestResource()
				rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, name
				req.Resources = append(req.Resources, rr)
			}
			f(req)
			return req
		}
		for what, req := range map[string]kmsg.Request{
			"all topics": allTopics(),
			"topics by name": func() kmsg.Request {
				req := kmsg.NewPtrMetadataRequest()
				req.Version = 12
				for i := range names {
					rt := kmsg.NewMetadataRequestTopic()
					rt.Topic = &names[i]
					req.Topics = append(req.Topics, rt)
				}
				return req
			}(),
			"partitions": func() kmsg.Request {
				req := kmsg.NewPtrDescribeTopicPartitionsRequest()
				req.ResponsePartitionLimit = 1 << 30
				return req
			}(),
			"log dirs": func() kmsg.Request {
				req := kmsg.NewPtrDescribeLogDirsRequest()
				req.Version, req.Topics = 4, nil
				return req
			}(),
			"configs":           describe(func(*kmsg.DescribeConfigsRequest) {}),
			"configs explained": describe(func(r *kmsg.DescribeConfigsRequest) { r.IncludeDocumentation, r.IncludeSynonyms = true, true }),
			"offsets": func() kmsg.Request {
				req := kmsg.NewPtrListOffsetsRequest()
				req.Version, req.ReplicaID = 7, -1
				for _, name := range names {
					rt := kmsg.NewListOffsetsRequestTopic()
					rt.Topic = name
					for i := range partitions {
						rp := kmsg.NewListOffsetsRequestTopicPartition()
						rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = int32(i), -1, -1
						rt.Partitions = append(rt.Partitions, rp)
					}
					req.Topics = append(req.Topics, rt)
				}
				return req
			}(),
			"created topics": func() kmsg.Request {
				req := kmsg.NewPtrCreateTopicsRequest()
				req.Version, req.TimeoutMillis, req.ValidateOnly = 7, 10_000, true
				for i := range topics {
					rt := kmsg.NewCreateTopicsRequestTopic()
					rt.Topic, rt.NumPartitions, rt.ReplicationFactor = fmt.Sprint("new-", i), 1, 1
					req.Topics = append(req.Topics, rt)
				}
				return req
			}(),
			"groups": func() kmsg.Request {
				req := kmsg.NewPtrDescribeGroupsRequest()
				req.Version, req.Groups = 5, groups
				return req
			}(),
			"committed offsets": func() kmsg.Request {
				req := kmsg.NewPtrOffsetFetchRequest()
				req.Version = 8
				for _, g := range groups {
					rg := kmsg.NewOffsetFetchRequestGroup()
					rg.Group, rg.Topics = g+"-offsets", nil
					req.Groups = append(req.Groups, rg)
				}
				return req
			}(),
		} {
			q := &announced{ready: make(chan struct{})}
			p := &wire.Pending{Conn: &wire.Conn{Listener: "PLAINTEXT", Local: c.c.LocalAddr()}, Key: req.Key(), Version: req.GetVersion(), Body: req.AppendTo(nil)}
			p.Bind(q)
			synctest.Wait()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if d.handler.Handle(p) == wire.Parked {
				<-q.ready
				if p.Encode != nil {
					p.Encode.EncodeAnswer(p)
				}
			}
			runtime.ReadMemStats(&after)
			took := int(after.TotalAlloc - before.TotalAlloc)
			if len(p.Resp) < 30_000 {
				t.Errorf("%s: an answer of %d bytes shows nothing", what, len(p.Resp))
			}
			// What append and maps throw away on the way counts in took, at most as much again.
			if took > 2*q.bytes || q.bytes > 4*took {
				t.Errorf("%s: %d bytes were announced, %d were allocated for an answer of %d", what, q.bytes, took, len(p.Resp))
			}
		}
	})
}

// Clients that ask for all topics in twenty bytes and read nothing: no more answers are made
// than there is memory for, and others are served.
func TestUnreadMetadata(t *testing.T) {
	const budget, clients = 4 << 20, 60
	bubble(t, func(t *testing.T, w *world) {
		w.net = memnet.New(4 << 10) // what the network takes is little
		b := w.start(fmt.Sprintf("kalda.queued.max.response.bytes=%d", budget))
		defer b.stop()
		b.create("large", 5000, nil)
		other := w.dial()
		defer other.c.Close()
		one := len(ask[*kmsg.MetadataResponse](other, allTopics()).AppendTo(nil))
		before := heap()
		var conns []*wireConn
		for range clients {
			c := w.dial()
			defer c.c.Close()
			c.send(allTopics())
			c.send(allTopics())
			conns = append(conns, c)
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		if waiting, _ := b.limits.answers.Waits(); waiting < clients/2 {
			t.Errorf("%d of %d wait", waiting, clients)
		}
		if grown := heap() - before; grown > 2*budget+clients*int64(64<<10) {
			t.Errorf("%d bytes more for answers of %d", grown, one)
		}
		// What is short is told at once, and so is all of it to who reads.
		short := allTopics()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr("nosuch")
		short.Topics, short.AllowAutoTopicCreation = append(short.Topics, rt), false
		if resp := ask[*kmsg.MetadataResponse](other, short); len(resp.Topics) != 1 {
			t.Errorf("%+v", resp)
		}
		var reading sync.WaitGroup
		for _, c := range conns {
			reading.Go(func() {
				for range 2 {
					frame, err := readFrame(c.c)
					if err != nil {
						t.Error(err)
						return
					}
					resp := kmsg.NewPtrMetadataResponse()
					resp.Version = 12
					_, body := cutHeader(frame, resp)
					if err := resp.ReadFrom(body); err != nil || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 5000 {
						t.Errorf("%d topics: %v", len(resp.Topics), err)
					}
				}
			})
		}
		reading.Wait()
	})
}

// Members that wait for the others of their group do not keep the memory of requests from
// producers.
func TestParkedJoinsLeaveMemory(t *testing.T) {
	suffers(t, func(d *ward) {
		var conns []*wireConn
		first := d.w.member("").wireConn
		conns = append(conns, first)
		for i := range 6 {
			c := d.w.dial()
			conns = append(conns, c)
			jp := kmsg.NewJoinGroupRequestProtocol()
			jp.Name, jp.Metadata = "range", make([]byte, 600<<10)
			req := kmsg.NewPtrJoinGroupRequest()
			req.Version, req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 3, fmt.Sprint("g", i), 30_000, 300_000
			req.ProtocolType, req.Protocols = "consumer", append(req.Protocols, jp)
			c.send(req)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if st := d.limits.requests.Stats(); st.Held > 1<<20 || st.Waiting != 0 {
			t.Errorf("%+v", st)
		}
		for _, c := range conns {
			_ = c.c.Close()
		}
	}, "queued.max.request.bytes=2097152", "group.initial.rebalance.delay.ms=60000")
}

// commitOf commits an offset of each of a topic's partitions, from outside of the group.
func commitOf(group, topic string, partitions int) *kmsg.OffsetCommitRequest {
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = topic
	for i := range partitions {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.Metadata = int32(i), 5, kmsg.StringPtr("a note of some length")
		rt.Partitions = append(rt.Partitions, rp)
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation, req.Topics = 5, group, -1, append(req.Topics, rt)
	return req
}
