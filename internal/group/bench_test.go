package group

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/coordinator"
)

// crowd returns a shard with one stable group of n members, their ids and the time.
func crowd(tb testing.TB, n int) (*Shard, []string, coordinator.Now) {
	ids := 0
	s := NewShard(Options{NewID: func() string { ids++; return fmt.Sprint(ids) }, InitialRebalanceDelay: time.Second})
	var out coordinator.Effects[*Call]
	var members []string
	for range n {
		j := kmsg.NewPtrJoinGroupRequest()
		j.Version, j.Group, j.ProtocolType, j.SessionTimeoutMillis, j.RebalanceTimeoutMillis = 3, "g", "consumer", 10_000, 10_000
		j.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscribe([]string{"t"}, "")}}
		s.Step(coordinator.Now{}, NewCall(j, Client{ID: "c"}, func(c *Call) {
			members = append(members, c.Resp.(*kmsg.JoinGroupResponse).MemberID)
		}), &out)
	}
	now := coordinator.Now{}
	for len(out.Replies) == 0 {
		now.Boot += time.Second
		s.Wake(now, &out)
	}
	for _, c := range out.Replies {
		c.Release()
	}
	out = coordinator.Effects[*Call]{}
	for _, id := range members {
		y := kmsg.NewPtrSyncGroupRequest()
		y.Group, y.MemberID, y.Generation = "g", id, 1
		s.Step(now, NewCall(y, Client{}, func(*Call) {}), &out)
	}
	if g := s.groups["g"]; g.state != stable || len(g.members) != n {
		tb.Fatalf("%s with %d members", g.state, len(g.members))
	}
	return s, members, now
}

// A heartbeat costs its answer and nothing else, however many members there are.
func TestHeartbeatAllocs(t *testing.T) {
	s, members, now := crowd(t, 5000)
	h := kmsg.NewPtrHeartbeatRequest()
	h.Group, h.Generation = "g", 1
	c := NewCall(h, Client{}, nil)
	out := coordinator.Effects[*Call]{Replies: make([]*Call, 0, 1)}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		h.MemberID = members[i%len(members)]
		i++
		now.Boot += time.Millisecond
		out.Replies = out.Replies[:0]
		s.Step(now, c, &out)
		if c.Resp.(*kmsg.HeartbeatResponse).ErrorCode != 0 {
			t.Fatal("refused")
		}
	}); n > 1 {
		t.Fatalf("%v allocations per heartbeat", n)
	}
}

// The time of five thousand members' heartbeats, timers included.
func BenchmarkHeartbeats(b *testing.B) {
	s, members, now := crowd(b, 5000)
	h := kmsg.NewPtrHeartbeatRequest()
	h.Group, h.Generation = "g", 1
	c := NewCall(h, Client{}, nil)
	var out coordinator.Effects[*Call]
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h.MemberID = members[i%len(members)]
		now.Boot += 600 * time.Microsecond // each of them every three seconds
		out.Replies = out.Replies[:0]
		if at, ok := s.Deadline(); ok && at <= now.Boot {
			s.Wake(now, &out)
		}
		s.Step(now, c, &out)
	}
	if len(s.groups["g"].members) != len(members) {
		b.Fatal("somebody expired")
	}
}
