package broker

import (
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/wire"
)

// The wheel takes an entry out before it tells of it. Meanwhile the request can be
// answered and its state serve the next request, which must not notice: an expiry of the
// former one neither completes it nor puts timeouts into its slots.
func TestExpiryOfAnEarlierUseIsIgnored(t *testing.T) {
	b := newBench(t, 1).b
	var queue completed
	var ps *produceState
	for reused := false; !reused; { // a pool may drop what it is given
		p := &wire.Pending{}
		p.Bind(&queue)
		ps = b.newProduceState(p)
		ps.handled(time.Second)
		if queue.n.Load() != 1 {
			t.Fatal("a request without partitions is not complete")
		}
		ps.EncodeAnswer(p)
		queue.n.Store(0)
		p2 := &wire.Pending{}
		p2.Bind(&queue)
		again := b.newProduceState(p2)
		if reused = again == ps; !reused {
			again.abandon()
		}
	}
	first := ps.addSlot()
	ps.Expire(&ps.expiry, 2*time.Second)
	second := ps.addSlot()
	ps.Acked(second, ps.gen, nil)
	ps.handled(time.Minute)
	ps.Expire(&ps.expiry, 3*time.Second)
	if queue.n.Load() != 0 {
		t.Fatal("the request is answered although its first partition has no ack")
	}
	var w replica.Waiter = ps
	w.Acked(first, ps.gen, nil)
	if queue.n.Load() != 1 || ps.slots[first].err != nil || ps.slots[second].err != nil {
		t.Fatalf("completed %d times, slots %+v", queue.n.Load(), ps.slots)
	}
}
