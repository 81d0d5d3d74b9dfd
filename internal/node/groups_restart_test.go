package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// Offsets and members outlive the broker, whether it ends in order or is killed: dynamic
// members go on with their ids and a static one that was restarted, too, keeps what it owns.
func TestGroupOutlivesBroker(t *testing.T) {
	for _, how := range []string{"stop", "kill"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				r := w.start()
				r.create("t", 2, nil)
				a, b := w.member(""), w.member("fixed")
				w.pair(a, b)
				a.commit("t", 0, 17)
				b.commit("t", 1, 18)
				if how == "stop" {
					r.stop()
				} else {
					r.crash(processDies)
				}
				r = w.start()
				defer r.stop()
				a.wireConn, b.wireConn = w.dial(), w.dial()
				a.findCoordinator()
				for i, want := range []int64{17, 18} {
					if got := a.committedTo("t", int32(i)); got != want {
						t.Errorf("partition %d: offset %d, want %d", i, got, want)
					}
				}
				if code := a.heartbeat(); code != 0 {
					t.Errorf("a's heartbeat with its old id: code %d", code)
				}
				a.commit("t", 0, 19)
				generation, was := b.generation, b.id
				b.id = ""
				b.sendJoin()
				if b.joined(); b.generation != generation || b.id == was {
					t.Errorf("the static member came back as %q in generation %d, was %q in %d", b.id, b.generation, was, generation)
				}
				if got := b.sync(nil); got != "b's" {
					t.Errorf("the static member owns %q", got)
				}
				b.commit("t", 1, 20)
				if code := a.heartbeat(); code != 0 {
					t.Errorf("the other member's heartbeat: code %d", code)
				}
				if rs, has := w.rebalances("kalda-test"); !has || len(rs) != 0 {
					t.Errorf("rebalances since the start: %+v (sent: %v)", rs, has)
				}
				// Its former self is fenced.
				ghost := groupMember{b.wireConn, was, "fixed", generation}
				if code := ghost.heartbeat(); code != kerr.FencedInstanceID.Code {
					t.Errorf("heartbeat of the static member's former id: code %d", code)
				}
			})
		})
	}
}

// delete removes a topic.
func (c *wireConn) delete(topic string) {
	c.t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis = 6, 10_000
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	if code := ask[*kmsg.DeleteTopicsResponse](c, req).Topics[0].ErrorCode; code != 0 {
		c.t.Fatalf("deleting %s: code %d", topic, code)
	}
}

// The offsets of a deleted topic go with it, those of others stay, and the next topic of
// that name starts without; so it is after a restart.
func TestDeletedTopicOffsets(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		old := r.create("t", 1, nil)
		r.create("other", 1, nil)
		m := w.member("")
		m.sendJoin()
		m.joined()
		m.sync(map[string]string{m.id: "all"})
		m.commit("t", 0, 5)
		m.commit("other", 0, 6)
		check := func(when string) {
			t.Helper()
			if g := m.fetchAll(); len(g.Topics) != 1 || g.Topics[0].Topic != "other" || g.Topics[0].Partitions[0].Offset != 6 {
				t.Errorf("%s: %+v, want only other's offset 6", when, g.Topics)
			}
		}
		m.delete("t")
		synctest.Wait()
		check("deleted")
		if id := r.create("t", 1, nil); id == old {
			t.Fatal("the new topic has the old one's id")
		}
		if got := m.committedTo("t", 0); got != -1 {
			t.Errorf("the new topic starts with offset %d", got)
		}
		check("created again")
		r.stop()
		r = w.start()
		defer r.stop()
		m.wireConn = w.dial()
		m.findCoordinator()
		check("restarted")
		m.commit("t", 0, 7)
		if got := m.committedTo("t", 0); got != 7 {
			t.Errorf("the new topic's own offset is %d, want 7", got)
		}
	})
}

// A broker that dies between the deletion of a topic and the coordinator's hearing of it
// does not bring the offsets back.
func TestDeletedTopicOffsetsAfterKill(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		r.create("t", 1, nil)
		m := w.member("")
		m.commit("t", 0, 5)
		before := w.disk.Clone() // the disk has not heard of the deletion
		m.delete("t")
		synctest.Wait()
		r.crash(func(d *vfs.Mem) *vfs.Mem { return before })
		r = w.start()
		defer r.stop()
		m.wireConn = w.dial()
		m.findCoordinator()
		if g := m.fetchAll(); len(g.Topics) != 0 {
			t.Errorf("after the restart: %+v", g.Topics)
		}
		r.create("t", 1, nil)
		if got := m.committedTo("t", 0); got != -1 {
			t.Errorf("the new topic starts with offset %d", got)
		}
	})
}

// Nor does one that dies when the topic was created again as well: what was committed to the
// former topic is not taken for the new one's.
func TestRecreatedTopicOffsetsAfterKill(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		r.create("t", 1, nil)
		r.create("u", 1, nil)
		m := w.member("")
		m.commit("t", 0, 5)
		m.commit("u", 0, 6)
		before := w.disk.Clone() // the disk has not heard of the deletion
		m.delete("t")
		r.create("t", 1, nil)
		synctest.Wait()
		r.crash(func(d *vfs.Mem) *vfs.Mem { return before })
		r = w.start()
		defer r.stop()
		m.wireConn = w.dial()
		m.findCoordinator()
		if got := m.committedTo("t", 0); got != -1 {
			t.Errorf("the new topic starts with offset %d", got)
		}
		if got := m.committedTo("u", 0); got != 6 {
			t.Errorf("the other topic is at offset %d, want 6", got)
		}
	})
}

// Offsets expire at the first check at least offsets.retention.minutes after the group
// became empty; however old, not while it has a member.
func TestOffsetRetention(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start("offsets.retention.minutes=1", "offsets.retention.check.interval.ms=10000")
		defer r.stop()
		r.create("t", 1, nil)
		m := w.member("")
		created := time.Now() // the checks count from here
		m.sendJoin()
		m.joined()
		m.sync(map[string]string{m.id: "all"})
		m.commit("t", 0, 5)
		for range 30 {
			until(time.Now().Add(5 * time.Second))
			if code := m.heartbeat(); code != 0 {
				t.Fatalf("heartbeat: code %d", code)
			}
		}
		if got := m.committedTo("t", 0); got != 5 {
			t.Fatalf("%v after the commit, with a member: offset %d", time.Since(created), got)
		}
		until(time.Now().Add(3500 * time.Millisecond))
		m.leave()
		left := time.Since(created) // 153.5 s, so its minute is over at 213.5 s
		gone := (left + time.Minute).Truncate(10*time.Second) + 10*time.Second
		for _, at := range []struct {
			after time.Duration
			want  int64
		}{{left + time.Minute - time.Millisecond, 5}, {left + time.Minute, 5}, {gone - time.Millisecond, 5}, {gone, -1}} {
			until(created.Add(at.after))
			if got := m.committedTo("t", 0); got != at.want {
				t.Fatalf("%v after the group became empty: offset %d, want %d", at.after-left, got, at.want)
			}
		}
		// Of the group nothing is left either.
		req := kmsg.NewPtrListGroupsRequest()
		req.Version = 4
		if gs := ask[*kmsg.ListGroupsResponse](m.wireConn, req).Groups; len(gs) != 0 {
			t.Errorf("groups: %+v", gs)
		}
	})
}

// tryAsk is ask for when the broker may be gone; ok says that there was an answer.
func (c *wireConn) tryAsk(req kmsg.Request) (resp kmsg.Response, ok bool) {
	resp = req.ResponseKind()
	if _, err := c.c.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("by-hand")).AppendRequest(nil, req, c.corr.Add(1))); err != nil {
		return nil, false
	}
	frame, err := readFrame(c.c)
	if err != nil {
		return nil, false
	}
	_, body := cutHeader(frame, resp)
	if err := resp.ReadFrom(body); err != nil {
		c.t.Error(err)
		return nil, false
	}
	return resp, true
}

// Heartbeats, commits and a parked JoinGroup on a broker that stops end: by an answer or
// with the connection. Stopping takes bounded time and loses no acknowledged commit.
func TestStopWithGroups(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		r.create("t", 2, nil)
		a, b, late := w.member(""), w.member("fixed"), w.member("late")
		w.pair(a, b)
		ended := make(chan string)
		// every sends request after request until there is no answer or the last one.
		every := func(who string, c *wireConn, d time.Duration, one func(n int64) (code int16, ok bool)) {
			go func() {
				defer func() { ended <- who }()
				for n := int64(1); ; n++ {
					switch code, ok := one(n); {
					case !ok || code == kerr.NotCoordinator.Code:
						return
					case code != 0 && code != kerr.RebalanceInProgress.Code:
						t.Errorf("%s, request %d: code %d", who, n, code)
						return
					}
					<-time.After(d)
				}
			}()
		}
		every("heartbeats", a.wireConn, 3*time.Millisecond, func(int64) (int16, bool) {
			resp, ok := a.tryAsk(a.heartbeatRequest())
			if !ok {
				return 0, false
			}
			return resp.(*kmsg.HeartbeatResponse).ErrorCode, true
		})
		var acked int64
		every("commits", b.wireConn, time.Millisecond, func(n int64) (int16, bool) {
			resp, ok := b.tryAsk(b.commitRequest("t", 1, n))
			if !ok {
				return 0, false
			}
			code := resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
			if code == 0 {
				acked = n
			}
			return code, true
		})
		late.sendJoin() // waits for a, which does not rejoin
		go func() {
			_, _ = readFrame(late.c)
			ended <- "the parked join"
		}()
		until(time.Now().Add(100 * time.Millisecond))
		began := time.Now()
		r.stop()
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("stop took %v", d)
		}
		waiting := map[string]bool{"heartbeats": true, "commits": true, "the parked join": true}
		for len(waiting) > 0 {
			select {
			case who := <-ended:
				delete(waiting, who)
			case <-time.After(time.Second):
				t.Fatalf("a second after the stop still without an answer: %v", waiting)
			}
		}
		if acked < 50 {
			t.Errorf("only %d commits were acknowledged", acked)
		}
		r = w.start()
		defer r.stop()
		c := w.dial()
		c.findCoordinator()
		// One that was not acknowledged may be there.
		if got := c.committedTo("t", 1); got < acked || got > acked+1 {
			t.Errorf("offset %d is stored, the last acknowledged was %d", got, acked)
		}
	})
}
