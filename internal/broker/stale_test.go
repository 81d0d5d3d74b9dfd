package broker

import (
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// The wheel takes an entry out before it tells of it. Meanwhile the request can be
// answered and its state serve the next request, which must not notice: an expiry or an
// ack of the former one neither completes it nor puts anything into its slots.
func TestWhatComesForAnEarlierUseIsIgnored(t *testing.T) {
	b := newBench(t, 1).b
	var queue completed
	p := &wire.Pending{}
	p.Bind(&queue)
	ps := b.beginProduce(p, 1)
	before := ps.gen
	ps.arm(before, time.Second)
	ps.Acked(0, before, nil)
	if queue.n.Load() != 1 || p.Encode != nil {
		t.Fatal("a request whose only partition has its ack is not complete")
	}
	queue.n.Store(0)
	if again := b.beginProduce(p, 2); again != ps {
		t.Fatal("the state does not stay with its Pending")
	}
	ps.Expire(&ps.expiry, 2*time.Second)
	var w replica.Waiter = ps
	w.Acked(0, before, kerr.NotLeaderOrFollower)
	w.Acked(1, ps.gen, nil)
	ps.arm(before, time.Second)
	ps.Expire(&ps.expiry, 3*time.Second)
	ps.arm(ps.gen, time.Minute)
	ps.Expire(&ps.expiry, 3*time.Second)
	if queue.n.Load() != 0 {
		t.Fatal("the request is answered although its first partition has no ack")
	}
	w.Acked(0, ps.gen, nil)
	if queue.n.Load() != 1 || p.Encode != nil || ps.slots[0].err != nil || ps.slots[1].err != nil {
		t.Fatalf("completed %d times, slots %+v", queue.n.Load(), ps.slots)
	}
}

// What fails after the answer was encoded, or is late, is patched into it when it is sent.
func TestLateErrorsArePatchedIn(t *testing.T) {
	b := newBench(t, 1).b
	var queue completed
	p := &wire.Pending{}
	p.Bind(&queue)
	ps := b.beginProduce(p, 2)
	ps.Acked(0, ps.gen, kerr.NotLeaderOrFollower)
	ps.arm(ps.gen, time.Second)
	ps.Expire(&ps.expiry, time.Second)
	ps.Expire(&ps.expiry, 2*time.Second)
	ps.Acked(1, ps.gen, nil)
	if queue.n.Load() != 1 || p.Encode != wire.Encoder(ps) || ps.slots[0].err != kerr.NotLeaderOrFollower || ps.slots[1].err != kerr.RequestTimedOut {
		t.Fatalf("completed %d times, encoder %v, slots %+v", queue.n.Load(), p.Encode, ps.slots)
	}
}
