package node

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/group"
	"github.com/kalda-io/kalda/kerr"
)

// groups_test.go: groups on a whole broker. Package group's own scripts have the rules of
// the protocol; here it is time, restarts and topics.

const (
	theGroup = "g"
	session  = 10 * time.Second
)

// groupMember is a member of theGroup that speaks by hand.
type groupMember struct {
	*wireConn
	id, instance string
	generation   int32
}

// member connects a member that has not joined yet; instance "" is a dynamic one. The
// group's coordinator is there afterwards.
func (w *world) member(instance string) *groupMember {
	w.t.Helper()
	c := w.dial()
	c.findCoordinator()
	return &groupMember{wireConn: c, instance: instance, generation: -1}
}

// findCoordinator asks until the group's coordinator is ready.
func (c *wireConn) findCoordinator() {
	c.t.Helper()
	began := time.Now()
	for {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.Version, req.CoordinatorKeys = 6, []string{theGroup}
		found := ask[*kmsg.FindCoordinatorResponse](c, req).Coordinators[0].ErrorCode
		loaded := c.fetchAll().ErrorCode
		if found == 0 && loaded == 0 {
			return
		}
		if time.Since(began) > 30*time.Second {
			c.t.Fatalf("no coordinator: code %d, loading: code %d", found, loaded)
		}
		<-time.After(time.Millisecond)
	}
}

// fetchAll asks for all offsets of the group.
func (c *wireConn) fetchAll() kmsg.OffsetFetchResponseGroup {
	c.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 9
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group, rg.Topics = theGroup, nil
	req.Groups = append(req.Groups, rg)
	return ask[*kmsg.OffsetFetchResponse](c, req).Groups[0]
}

// committedTo is what the group committed to one partition, -1 for nothing.
func (c *wireConn) committedTo(topic string, partition int32) int64 {
	c.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 9
	rt := kmsg.NewOffsetFetchRequestGroupTopic()
	rt.Topic, rt.Partitions = topic, []int32{partition}
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group, rg.Topics = theGroup, append(rg.Topics, rt)
	req.Groups = append(req.Groups, rg)
	g := ask[*kmsg.OffsetFetchResponse](c, req).Groups[0]
	if g.ErrorCode != 0 || g.Topics[0].Partitions[0].ErrorCode != 0 {
		c.t.Fatalf("fetching offsets: %+v", g)
	}
	return g.Topics[0].Partitions[0].Offset
}

func (m *groupMember) instanceID() *string {
	if m.instance == "" {
		return nil
	}
	return &m.instance
}

// sendJoin asks to join; the answer is for joined.
func (m *groupMember) sendJoin() {
	m.t.Helper()
	sub := kmsg.NewConsumerMemberMetadata()
	sub.Topics = []string{"t"}
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", sub.AppendTo(nil)
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID = 9, theGroup, m.id, m.instanceID()
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(session.Milliseconds()), 60_000
	req.ProtocolType, req.Protocols = "consumer", append(req.Protocols, p)
	m.send(req)
}

// joined waits for the answer to sendJoin, which must not be an error.
func (m *groupMember) joined() *kmsg.JoinGroupResponse {
	m.t.Helper()
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = 9
	m.receive(resp)
	if m.id == "" && resp.ErrorCode == kerr.MemberIDRequired.Code {
		m.id = resp.MemberID
		m.sendJoin()
		return m.joined()
	}
	if resp.ErrorCode != 0 {
		m.t.Fatalf("join: code %d", resp.ErrorCode)
	}
	m.id, m.generation = resp.MemberID, resp.Generation
	return resp
}

// sync asks for the assignment, or gives out those of the members by their ids.
func (m *groupMember) sync(assign map[string]string) string {
	m.t.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 5, theGroup, m.id, m.instanceID(), m.generation
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	for id, a := range assign {
		ga := kmsg.NewSyncGroupRequestGroupAssignment()
		ga.MemberID, ga.MemberAssignment = id, []byte(a)
		req.GroupAssignment = append(req.GroupAssignment, ga)
	}
	resp := ask[*kmsg.SyncGroupResponse](m.wireConn, req)
	if resp.ErrorCode != 0 {
		m.t.Fatalf("sync: code %d", resp.ErrorCode)
	}
	return string(resp.MemberAssignment)
}

func (m *groupMember) heartbeatRequest() *kmsg.HeartbeatRequest {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, theGroup, m.id, m.instanceID(), m.generation
	return req
}

// heartbeat returns the code of the answer.
func (m *groupMember) heartbeat() int16 {
	m.t.Helper()
	return ask[*kmsg.HeartbeatResponse](m.wireConn, m.heartbeatRequest()).ErrorCode
}

func (m *groupMember) commitRequest(topic string, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 9, theGroup, m.id, m.instanceID(), m.generation
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = partition, offset
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// commit commits one offset, which must succeed.
func (m *groupMember) commit(topic string, partition int32, offset int64) {
	m.t.Helper()
	resp := ask[*kmsg.OffsetCommitResponse](m.wireConn, m.commitRequest(topic, partition, offset))
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		m.t.Fatalf("commit: code %d", code)
	}
}

// leave ends the membership.
func (m *groupMember) leave() {
	m.t.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 5, theGroup
	lm := kmsg.NewLeaveGroupRequestMember()
	lm.MemberID, lm.InstanceID = m.id, m.instanceID()
	req.Members = append(req.Members, lm)
	if resp := ask[*kmsg.LeaveGroupResponse](m.wireConn, req); resp.ErrorCode != 0 || resp.Members[0].ErrorCode != 0 {
		m.t.Fatalf("leave: %+v", resp)
	}
}

// pair has a and b in one stable group: a leads and owns "a's", b owns "b's".
func (w *world) pair(a, b *groupMember) {
	w.t.Helper()
	a.sendJoin()
	a.joined()
	a.sync(map[string]string{a.id: "all"})
	if b.instance == "" { // its id comes first
		b.sendJoin()
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.Version = 9
		if b.receive(resp); resp.ErrorCode != kerr.MemberIDRequired.Code {
			w.t.Fatalf("a join without an id: code %d", resp.ErrorCode)
		}
		b.id = resp.MemberID
	}
	b.sendJoin()
	synctest.Wait()
	if code := a.heartbeat(); code != kerr.RebalanceInProgress.Code {
		w.t.Fatalf("heartbeat of the first after the second came: code %d", code)
	}
	a.sendJoin()
	if n := len(a.joined().Members); n != 2 {
		w.t.Fatalf("the leader sees %d members", n)
	}
	b.joined()
	if got := a.sync(map[string]string{a.id: "a's", b.id: "b's"}); got != "a's" {
		w.t.Fatalf("a owns %q", got)
	}
	if got := b.sync(nil); got != "b's" {
		w.t.Fatalf("b owns %q", got)
	}
}

// rebalances is the group's history as a client of that software sees it; has says whether
// the answer holds one.
func (w *world) rebalances(software string) (rs []group.Rebalance, has bool) {
	w.t.Helper()
	c := w.dial()
	defer c.c.Close()
	hello := kmsg.NewPtrApiVersionsRequest()
	hello.Version, hello.ClientSoftwareName, hello.ClientSoftwareVersion = 3, software, "1"
	if resp := ask[*kmsg.ApiVersionsResponse](c, hello); resp.ErrorCode != 0 {
		w.t.Fatalf("ApiVersions: code %d", resp.ErrorCode)
	}
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Version, req.Groups = 5, []string{theGroup}
	g := ask[*kmsg.DescribeGroupsResponse](c, req).Groups[0]
	if g.ErrorCode != 0 {
		w.t.Fatalf("DescribeGroups: code %d", g.ErrorCode)
	}
	g.UnknownTags.Each(func(tag uint32, value []byte) {
		if tag != group.TagRebalances {
			return
		}
		var err error
		if rs, err = group.DecodeRebalances(value); err != nil {
			w.t.Fatal(err)
		}
		has = true
	})
	return rs, has
}

// until waits for a moment of fake time, and for all that happens in it.
func until(at time.Time) {
	<-time.After(time.Until(at))
	synctest.Wait()
}

// A silent member is out after its session timeout, to the millisecond, and the history
// says why to our own tools only.
func TestSessionTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		defer r.stop()
		r.create("t", 2, nil)
		a, b := w.member(""), w.member("")
		w.pair(a, b)
		// Heartbeats, not the join, count.
		until(time.Now().Add(1234 * time.Millisecond))
		if code := b.heartbeat(); code != 0 {
			t.Fatalf("b's last heartbeat: code %d", code)
		}
		over := time.Now().Add(session)
		for _, at := range []time.Duration{-7 * time.Second, -3 * time.Second, -time.Millisecond} {
			until(over.Add(at))
			if code := a.heartbeat(); code != 0 {
				t.Fatalf("a's heartbeat %v from the end of b's session: code %d", at, code)
			}
		}
		until(over)
		if code := a.heartbeat(); code != kerr.RebalanceInProgress.Code {
			t.Fatalf("a's heartbeat at the end of b's session: code %d", code)
		}
		if code := b.heartbeat(); code != kerr.UnknownMemberID.Code {
			t.Fatalf("b's heartbeat at the end of its session: code %d", code)
		}
		a.sendJoin()
		if ms := a.joined().Members; len(ms) != 1 || ms[0].MemberID != a.id || time.Since(over) != 0 {
			t.Fatalf("after %v a is told to assign to %+v", time.Since(over), ms)
		}
		if got := a.sync(map[string]string{a.id: "all"}); got != "all" {
			t.Fatalf("a owns %q", got)
		}
		rs, has := w.rebalances("kalda-test")
		if !has || len(rs) == 0 {
			t.Fatalf("no history for our own tools: %+v", rs)
		}
		last := rs[len(rs)-1]
		want := "member " + b.id + ": no heartbeat within session.timeout.ms=" + session.String()
		if strings.Join(last.Reasons, "; ") != want || last.StartedMs != over.UnixMilli() || last.EndedMs != over.UnixMilli() ||
			last.Generation != a.generation || last.Members != 1 {
			t.Fatalf("last rebalance: %+v, want %q at %d", last, want, over.UnixMilli())
		}
		if rs, has := w.rebalances("apache-kafka-java"); has {
			t.Fatalf("another software was sent the history: %+v", rs)
		}
	})
}
