package broker

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

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
	w.Acked(1, ps.gen, nil) // once is enough
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

// So it is for the only partition of a request.
func TestLateErrorOfOnePartition(t *testing.T) {
	b := newBench(t, 1).b
	var queue completed
	p := &wire.Pending{}
	p.Bind(&queue)
	for n, tc := range []struct {
		end  func(ps *produceState)
		want error
	}{
		{func(ps *produceState) { ps.Acked(0, ps.gen, kerr.NotLeaderOrFollower) }, kerr.NotLeaderOrFollower},
		{func(ps *produceState) { ps.Expire(&ps.expiry, time.Second) }, kerr.RequestTimedOut},
		{func(ps *produceState) { ps.Acked(0, ps.gen, nil) }, nil},
	} {
		p.Encode = nil
		ps := b.beginProduce(p, 1)
		ps.arm(ps.gen, time.Second)
		tc.end(ps)
		ps.Acked(0, ps.gen, kerr.KafkaStorageError)
		ps.Expire(&ps.expiry, 2*time.Second)
		if int(queue.n.Load()) != n+1 || ps.slots[0].err != tc.want || (p.Encode != nil) != (tc.want != nil) {
			t.Errorf("completed %d times, encoder %v, slots %+v, want %v", queue.n.Load(), p.Encode, ps.slots, tc.want)
		}
	}
}

// A request whose acks have come leaves nothing in the wheel, and one with acks=0 is not
// completed, whatever becomes of it: nothing of it was parked.
func TestNothingStaysOfARequest(t *testing.T) {
	h := newBench(t, 1)
	var queue completed
	p := &wire.Pending{Conn: h.conn, Version: 9}
	p.Bind(&queue)
	ps := h.b.beginProduce(p, 1)
	ps.arm(ps.gen, time.Hour)
	if n := h.b.o.Wheel.Len(); n != 1 {
		t.Fatalf("%d entries", n)
	}
	ps.Acked(0, ps.gen, nil)
	if n := h.b.o.Wheel.Len(); n != 0 {
		t.Errorf("%d entries stay", n)
	}
	ps = h.b.beginProduce(p, 1)
	ps.Acked(0, ps.gen, nil) // while Flush is about to arm it
	ps.arm(ps.gen, time.Hour)
	if n := h.b.o.Wheel.Len(); n != 0 {
		t.Errorf("%d entries stay of a request that ended before", n)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = 9, 0
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = "nowhere"
	rt.Partitions = append(rt.Partitions, kmsg.NewProduceRequestTopicPartition())
	req.Topics = append(req.Topics, rt)
	p.Body, p.Resp = body(req), nil
	if got := h.b.Handle(p); got != wire.CloseConn || queue.n.Load() != 2 {
		t.Errorf("%v, completed %d times", got, queue.n.Load()-2)
	}
}
