package group

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/kalda-io/kalda/internal/coordinator"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// world is a random history of a shard: clients that mostly behave, time, failovers.
type world struct {
	rt      *rapid.T
	t       *testing.T
	shard   *Shard
	opts    Options
	now     coordinator.Now
	log     []record.Record
	topics  map[string]int32
	actors  []*actor
	ids     int
	pending map[*Call]string // calls without an answer

	// generations is the highest that each group had in this shard.
	generations map[string]int32
	// owned is who got what, by group, generation and member.
	owned map[string]map[string]string
}

// actor is one client.
type actor struct {
	group, id  string
	instance   *string
	generation int32
	protocol   string
	leads      []kmsg.JoinGroupResponseMember
	waits      *Call
}

func newWorld(rt *rapid.T, t *testing.T) *world {
	w := &world{
		rt: rt, t: t, topics: map[string]int32{"t": 3, "u": 2}, pending: map[*Call]string{},
		generations: map[string]int32{}, owned: map[string]map[string]string{},
		now: coordinator.Now{Wall: time.UnixMilli(1_700_000_000_000)},
	}
	w.opts = Options{
		InitialRebalanceDelay:  rapid.SampledFrom([]time.Duration{0, 3 * time.Second}).Draw(rt, "delay"),
		MaxSize:                rapid.SampledFrom([]int{0, 2}).Draw(rt, "maxSize"),
		OffsetsRetention:       time.Hour,
		RetentionCheckInterval: 10 * time.Minute,
		NewID:                  func() string { w.ids++; return fmt.Sprint(w.ids) },
		TopicPartitions:        func(t string) int32 { return w.topics[t] },
	}
	w.shard = NewShard(w.opts)
	for i := range 6 {
		a := &actor{group: []string{"g", "h"}[i%2], generation: -1}
		if i >= 4 {
			s := fmt.Sprintf("static%d", i)
			a.instance = &s
		}
		w.actors = append(w.actors, a)
	}
	return w
}

func (w *world) send(req kmsg.Request, who string, then func(kmsg.Response)) {
	c := NewCall(req, Client{ID: who}, nil)
	c.done = func(c *Call) {
		if _, ok := w.pending[c]; !ok {
			w.rt.Fatalf("a call of %s was answered twice", who)
		}
		delete(w.pending, c)
		// What leaves must be well formed in its version.
		b := c.Resp.AppendTo(nil)
		again := c.Req.ResponseKind()
		if err := again.ReadFrom(b); err != nil {
			w.rt.Fatalf("answer to %T v%d: %v", c.Req, c.Req.GetVersion(), err)
		}
		then(c.Resp)
	}
	w.pending[c] = who
	var out coordinator.Effects[*Call]
	w.shard.Step(w.now, c, &out)
	w.apply(&out)
}

func (w *world) apply(out *coordinator.Effects[*Call]) {
	w.log = append(w.log, out.Records...)
	for _, c := range out.Replies {
		c.Release()
	}
	w.check()
}

func (w *world) check() {
	checkInvariants(w.rt, w.shard)
	for id, g := range w.shard.groups {
		if g.generation < w.generations[id] {
			w.rt.Fatalf("group %s went from generation %d to %d", id, w.generations[id], g.generation)
		}
		w.generations[id] = g.generation
	}
	for id := range w.generations {
		if w.shard.groups[id] == nil {
			delete(w.generations, id) // a group that is gone begins anew
			for k := range w.owned {
				if strings.HasPrefix(k, id+"/") {
					delete(w.owned, k)
				}
			}
		}
	}
	// No parked call is lost.
	parked := 0
	for _, g := range w.shard.groups {
		for _, m := range g.members {
			if m.join != nil {
				parked++
			}
			if m.sync != nil {
				parked++
			}
		}
	}
	if parked != len(w.pending) {
		w.rt.Fatalf("%d calls without an answer, %d parked", len(w.pending), parked)
	}
}

// owns checks that nobody else has got what a has got in its generation.
func (w *world) owns(a *actor, assignment []byte) {
	key := fmt.Sprintf("%s/%d", a.group, a.generation)
	if w.owned[key] == nil {
		w.owned[key] = map[string]string{}
	}
	who := a.id
	if a.instance != nil {
		who = *a.instance
	}
	got := assignmentText(assignment)
	if before, ok := w.owned[key][who]; ok && before != got {
		w.rt.Fatalf("%s owned %q in %s and now %q", who, before, key, got)
	}
	w.owned[key][who] = got
	for other, theirs := range w.owned[key] {
		for _, tp := range list(theirs) {
			if other != who && slices.Contains(list(got), tp) {
				w.rt.Fatalf("%s is owned by %s and %s in %s", tp, other, who, key)
			}
		}
	}
}

func (w *world) join(a *actor, i int) {
	if a.waits != nil && rapid.IntRange(0, 4).Draw(w.rt, "impatient") > 0 {
		return
	}
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = int16(rapid.IntRange(0, 9).Draw(w.rt, "version"))
	if a.instance != nil {
		req.Version = int16(rapid.IntRange(5, 9).Draw(w.rt, "version"))
	}
	req.Group, req.MemberID, req.InstanceID, req.ProtocolType = a.group, a.id, a.instance, "consumer"
	req.SessionTimeoutMillis = 10_000
	req.RebalanceTimeoutMillis = rapid.SampledFrom([]int32{5_000, 30_000}).Draw(w.rt, "rebalance")
	for _, p := range rapid.SampledFrom([][]string{{"range"}, {"range", "sticky"}, {"sticky", "range", "sticky"}, {"other"}}).Draw(w.rt, "protocols") {
		topics := rapid.SampledFrom([][]string{{"t"}, {"t", "u"}}).Draw(w.rt, "topics")
		req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: subscribe(topics, "")})
	}
	var call *Call
	w.send(req, fmt.Sprintf("c%d", i), func(r kmsg.Response) {
		resp := r.(*kmsg.JoinGroupResponse)
		switch resp.ErrorCode {
		case 0:
			a.id, a.generation, a.protocol, a.leads = resp.MemberID, resp.Generation, *resp.Protocol, nil
			if !resp.SkipAssignment {
				a.leads = resp.Members
			}
		case kerr.MemberIDRequired.Code:
			a.id = resp.MemberID
		case kerr.UnknownMemberID.Code:
			a.id, a.generation = "", -1
		}
		a.waits = nil
	})
	for c := range w.pending {
		if c.Req == req {
			call = c
		}
	}
	a.waits = call
}

func (w *world) sync(a *actor, i int) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version = 5
	req.Group, req.MemberID, req.InstanceID, req.Generation = a.group, a.id, a.instance, a.generation
	if a.leads != nil {
		req.GroupAssignment = rangeAssign(a.leads, w.topics)
	}
	generation := a.generation
	w.send(req, fmt.Sprintf("c%d", i), func(r kmsg.Response) {
		if resp := r.(*kmsg.SyncGroupResponse); resp.ErrorCode == 0 {
			now := a.generation
			a.generation = generation
			w.owns(a, resp.MemberAssignment)
			a.generation = now
		}
	})
}

func (w *world) heartbeat(a *actor, i int) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, a.group, a.id, a.instance, a.generation
	w.send(req, fmt.Sprintf("c%d", i), func(r kmsg.Response) {
		if r.(*kmsg.HeartbeatResponse).ErrorCode == kerr.UnknownMemberID.Code {
			a.id, a.generation = "", -1
		}
	})
}

func (w *world) commit(a *actor, i int) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version = int16(rapid.IntRange(1, 10).Draw(w.rt, "version"))
	req.RetentionTimeMillis = -1
	req.Group, req.MemberID, req.InstanceID, req.Generation = a.group, a.id, a.instance, a.generation
	p := rapid.Int32Range(0, 2).Draw(w.rt, "partition")
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = p, rapid.Int64Range(0, 1000).Draw(w.rt, "offset")
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = "t", []kmsg.OffsetCommitRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	valid := false
	if g := w.shard.groups[a.group]; g != nil && g.generation == a.generation && a.generation >= 0 {
		if a.instance != nil {
			valid = g.static[*a.instance] == g.byID[a.id]
		}
		valid = (valid || a.instance == nil) && g.byID[a.id] != nil && g.state != completing
	}
	w.send(req, fmt.Sprintf("c%d", i), func(r kmsg.Response) {
		code := r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
		if code == 0 && a.generation >= 0 && !valid {
			w.rt.Fatalf("commit of generation %d by %q was accepted", a.generation, a.id)
		}
	})
}

func (w *world) leave(a *actor, i int) {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group, req.MemberID = 5, a.group, a.id
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID, m.InstanceID = a.id, a.instance
	req.Members = append(req.Members, m)
	w.send(req, fmt.Sprintf("c%d", i), func(kmsg.Response) {})
	a.id, a.generation = "", -1
}

func (w *world) forget(a *actor) { a.id, a.generation, a.leads = "", -1, nil }

func (w *world) admin() {
	groups := []string{"g", "h"}
	switch rapid.IntRange(0, 3).Draw(w.rt, "admin") {
	case 0:
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Version, req.Groups = 3, groups
		w.send(req, "admin", func(kmsg.Response) {})
	case 1:
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = "g"
		req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
		w.send(req, "admin", func(kmsg.Response) {})
	case 2:
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Version, req.Groups = 6, groups
		w.send(req, "admin", func(kmsg.Response) {})
	case 3:
		var out coordinator.Effects[*Call]
		w.shard.Step(w.now, &Call{event: topicsDeleted{[]string{"u"}}}, &out)
		w.apply(&out)
	}
}

func (w *world) advance(d time.Duration) {
	end := w.now.Boot + d
	for {
		at, ok := w.shard.Deadline()
		if !ok || at > end {
			break
		}
		w.sleep(max(at-w.now.Boot, 0))
		var out coordinator.Effects[*Call]
		w.shard.Wake(w.now, &out)
		w.apply(&out)
	}
	w.sleep(end - w.now.Boot)
}

func (w *world) sleep(d time.Duration) { w.now.Boot += d; w.now.Wall = w.now.Wall.Add(d) }

func (w *world) replayed() *Shard {
	s := NewShard(w.opts)
	for i := range w.log {
		if err := s.Replay(&w.log[i]); err != nil {
			w.rt.Fatal(err)
		}
	}
	return s
}

// compare checks that a replay gives the state that was written.
func (w *world) compare() {
	r := w.replayed()
	for id, g := range w.shard.groups { // groups that rebalance are not written as they are
		if g.state == preparing || g.state == completing {
			if o := r.groups[id]; o != nil {
				o.written = false
				o.state = preparing
			}
		}
	}
	if live, back := w.shard.persistent(), r.persistent(); live != back {
		w.rt.Fatalf("live:\n%s\nreplayed:\n%s", live, back)
	}
}

func (w *world) failover() {
	for _, c := range w.shard.Parked() {
		c.Fail(kerr.NotCoordinator)
	}
	w.shard = w.replayed()
	w.generations = map[string]int32{} // unwritten generations are forgotten
	var out coordinator.Effects[*Call]
	w.shard.Loaded(w.now, &out)
	w.apply(&out)
}

func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, t)
		steps := rapid.IntRange(1, 120).Draw(rt, "steps")
		for range steps {
			i := rapid.IntRange(0, len(w.actors)-1).Draw(rt, "actor")
			a := w.actors[i]
			switch rapid.IntRange(0, 19).Draw(rt, "action") {
			case 0, 1, 2, 3, 4:
				w.join(a, i)
			case 5, 6, 7, 8:
				w.sync(a, i)
			case 9, 10:
				w.heartbeat(a, i)
			case 11, 12:
				w.commit(a, i)
			case 13:
				w.leave(a, i)
			case 14:
				w.forget(a)
			case 15:
				w.admin()
			case 16, 17:
				w.advance(time.Duration(rapid.IntRange(1, 12_000).Draw(rt, "ms")) * time.Millisecond)
			case 18:
				w.advance(30 * time.Second)
			case 19:
				w.failover()
			}
			w.compare()
		}
		// Left alone, every group comes to rest, and in the end nothing is left.
		w.advance(20 * time.Minute)
		if len(w.pending) > 0 {
			rt.Fatalf("%d calls were never answered", len(w.pending))
		}
		w.advance(2 * time.Hour)
		w.compare()
		for _, id := range sortedKeys(w.shard.groups) {
			rt.Fatalf("group %s is %s", id, w.shard.groups[id].state)
		}
		if left := w.replayed().groups; len(left) > 0 {
			rt.Fatalf("%d groups are left in the log", len(left))
		}
	})
}
