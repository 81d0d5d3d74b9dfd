package group

import (
	"maps"
	"strings"
)

// failer is a test of package testing or rapid.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Fatal(args ...any)
}

// checkInvariants tests the invariants of the package doc on a shard at rest.
func checkInvariants(t failer, s *Shard) {
	t.Helper()
	for id, g := range s.groups {
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("group %s (%s, generation %d): "+format, append([]any{id, g.state, g.generation}, args...)...)
		}
		if g.id != id || len(g.byID) != len(g.members) {
			fail("indexes disagree: %d ids, %d members", len(g.byID), len(g.members))
		}
		if g.isVoid() {
			fail("is void and still here")
		}
		switch { // a rebalance may wait for an id that was handed out, and for nobody else
		case g.state == empty && len(g.members) > 0,
			g.state != empty && len(g.members) == 0 && (g.state != preparing || len(g.pending) == 0):
			fail("has %d members", len(g.members))
		}
		if (g.leader == nil) != (len(g.members) == 0) {
			fail("leader is %v with %d members", g.leader, len(g.members))
		}
		joining, bytes, statics := 0, 0, 0
		owners := map[string]string{}
		for _, m := range g.members {
			if g.byID[m.id] != m {
				fail("member %s is not found by its id", m.id)
			}
			if m.instance != nil {
				statics++
				if g.static[*m.instance] != m {
					fail("instance %s is not %s", *m.instance, m.id)
				}
			}
			if g.pending[m.id] != nil {
				fail("member %s is pending too", m.id)
			}
			if m.join != nil {
				joining++
				if g.state != preparing {
					fail("member %s is parked in JoinGroup", m.id)
				}
			}
			if m.sync != nil && g.state != completing {
				fail("member %s is parked in SyncGroup", m.id)
			}
			if m.session.index == 0 {
				fail("member %s has no deadline", m.id)
			}
			bytes += m.bytes
			if g.state == stable {
				for _, tp := range list(assignmentText(m.assignment)) {
					if tp != "?" && owners[tp] != "" {
						fail("%s is owned by %s and %s", tp, owners[tp], m.id)
					}
					owners[tp] = m.id
				}
			}
		}
		support := map[string]int{}
		for _, m := range g.members {
			mine := map[string]bool{}
			for _, p := range m.protocols {
				mine[p.name] = true
			}
			for p := range mine {
				support[p]++
			}
		}
		if !maps.Equal(support, g.support) {
			fail("support is %v, counted %v", g.support, support)
		}
		if joining != g.joining {
			fail("joining is %d, counted %d", g.joining, joining)
		}
		if bytes != g.bytes {
			fail("bytes is %d, counted %d", g.bytes, bytes)
		}
		if g.counted != g.size() {
			fail("takes %d bytes, the budget knows of %d", g.size(), g.counted)
		}
		offsets := 0
		for topic, ps := range g.offsets {
			offsets += topicSize(topic)
			for _, o := range ps {
				offsets += offsetSize(o)
			}
		}
		if offsets != g.offsetBytes {
			fail("offsets take %d bytes, counted %d", offsets, g.offsetBytes)
		}
		if statics != len(g.static) {
			fail("%d instances, counted %d", len(g.static), statics)
		}
		if g.state == preparing && g.joinTimer.index == 0 {
			fail("nothing ends the rebalance")
		}
		if g.state == completing && g.syncTimer.index == 0 {
			fail("nothing ends the sync phase")
		}
		if (g.state == preparing) != (g.history.open != nil) {
			fail("open rebalance: %v", g.history.open)
		}
	}
	total := 0
	for _, g := range s.groups {
		total += g.size()
	}
	if used := s.opts.budget.used.Load(); used != int64(total) {
		t.Fatalf("the groups take %d bytes, the budget knows of %d", total, used)
	}
	for i, tm := range s.timers {
		if tm.index != i+1 || tm.place > tm.due {
			t.Fatalf("timer %d: index %d, place %s, due %s", i, tm.index, tm.place, tm.due)
		}
	}
	if len(s.groups) > 0 && s.retention.index == 0 {
		t.Fatal("nothing looks for expired offsets")
	}
}

// persistent renders what a replay must bring back.
func (s *Shard) persistent() string {
	var b strings.Builder
	for _, id := range sortedKeys(s.groups) {
		g := s.groups[id]
		var out strings.Builder
		w := &out
		for _, t := range sortedKeys(g.offsets) {
			for _, p := range sortedKeys(g.offsets[t]) {
				printf(w, " %s-%d=%+v\n", t, p, g.offsets[t][p])
			}
		}
		if g.written && (g.state == stable || g.state == empty) {
			printf(w, " %s generation=%d type=%q protocol=%q leader=%q since=%d\n", g.state, g.generation, g.protocolType, g.protocol, g.leaderID(), g.stateSince)
			for _, m := range g.members {
				printf(w, "  %s %q %s %s %s %s %x %x\n", m.id, deref(m.instance), m.clientID, m.host, m.sessionTimeout, m.rebalanceTimeout, m.metadata(g.protocol), m.assignment)
			}
		}
		if out.Len() > 0 {
			printf(&b, "%s\n%s", id, out.String())
		}
	}
	return b.String()
}
