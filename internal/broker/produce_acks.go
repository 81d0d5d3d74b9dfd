package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/wheel"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// produceState is one Produce request that waits for acks. It stays with its Pending and
// serves that one's next request as well; gen tells an ack for an earlier use from one
// for this.
//
// Whoever takes left to 0 ends the use: it alone completes the request, and until then
// nobody begins another use. With one partition, as nearly all requests have, that is one
// atomic step; with more of them mu is held, which guards their slots, too.
type produceState struct {
	b *Broker
	p *wire.Pending
	// gen is the present use. The reader's.
	gen uint32
	// left is the gen in its upper half and below how many partitions have no ack, with the
	// bit single if there was one from the beginning.
	left   atomic.Uint64
	slots  []produceSlot
	failed bool // one of them has an error that came after its answer was encoded

	// armed says that the expiry may be scheduled, for the use armedFor, at deadline
	// (Clock.Boot). mu is held to change it.
	armed    atomic.Bool
	mu       sync.Mutex
	armedFor uint32
	deadline time.Duration
	expiry   wheel.Entry
}

// produceSlot is one partition of the request.
type produceSlot struct {
	err     error
	patchAt int // where its answer starts in Resp
	acked   bool
}

const (
	single   = 1 << 31
	leftMask = single - 1
)

// leftOf is the value of produceState.left of a use.
func leftOf(gen uint32, count uint32) uint64 { return uint64(gen)<<32 | uint64(count) }

// beginProduce readies the state of p for a request with n partitions.
func (b *Broker) beginProduce(p *wire.Pending, n int) *produceState {
	ps, _ := p.Kept.(*produceState)
	if ps == nil {
		ps = &produceState{b: b, p: p}
		ps.expiry.Target = ps
		p.Kept = ps
	}
	ps.gen++
	ps.failed = false
	if n > cap(ps.slots) {
		ps.slots = make([]produceSlot, n)
	}
	ps.slots = ps.slots[:n]
	clear(ps.slots)
	count := uint32(n)
	if n == 1 {
		count |= single
	}
	ps.left.Store(leftOf(ps.gen, count))
	return ps
}

// waits says whether the use gen still waits for acks.
func (ps *produceState) waits(gen uint32) bool {
	left := ps.left.Load()
	return uint32(left>>32) == gen && left&leftMask != 0
}

// Acked implements replica.Waiter. It may come while Handle still runs, and for an earlier
// use.
func (ps *produceState) Acked(slot int32, gen uint32, err error) {
	if ps.left.CompareAndSwap(leftOf(gen, single|1), leftOf(gen, single)) {
		if err != nil {
			ps.slots[0].err, ps.failed = err, true
		}
		ps.finish()
		return
	}
	ps.mu.Lock()
	ended := ps.ackLocked(slot, gen, err)
	ps.mu.Unlock()
	if ended {
		ps.finish()
	}
}

// ackLocked notes the ack of one partition of several, and says whether it was the last.
func (ps *produceState) ackLocked(slot int32, gen uint32, err error) (ended bool) {
	if !ps.waits(gen) || ps.slots[slot].acked {
		return false
	}
	s := &ps.slots[slot]
	s.acked, s.err = true, err
	ps.failed = ps.failed || err != nil
	return ps.left.Add(^uint64(0))&leftMask == 0
}

// finish completes the request. Only who took left to 0 calls it.
func (ps *produceState) finish() {
	if ps.armed.Load() {
		ps.mu.Lock()
		ps.armed.Store(false)
		ps.b.o.Wheel.Cancel(&ps.expiry)
		ps.mu.Unlock()
	}
	if ps.failed {
		ps.p.Encode = ps
	}
	ps.p.Complete()
}

// arm sets the timeout of a use that waits after its drain's writes.
func (ps *produceState) arm(gen uint32, deadline time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.armedFor, ps.deadline = gen, deadline
	ps.armed.Store(true)
	ps.b.o.Wheel.ScheduleAt(deadline, &ps.expiry)
	// If it ended meanwhile, finish may have seen nothing to cancel. The wheel would hold this,
	// and with it the connection, for as long as the client gave.
	if !ps.waits(gen) {
		ps.armed.Store(false)
		ps.b.o.Wheel.Cancel(&ps.expiry)
	}
}

// Expire implements wheel.Target: what is not acked by now is unknown to the client.
func (ps *produceState) Expire(_ *wheel.Entry, now time.Duration) {
	ps.mu.Lock()
	// The entry may have been due for an earlier use of this state.
	ended := now >= ps.deadline && ps.expireLocked(ps.armedFor)
	ps.mu.Unlock()
	if ended {
		ps.finish()
	}
}

// expireLocked gives up on all partitions without an ack. false: the use is over.
func (ps *produceState) expireLocked(gen uint32) bool {
	if ps.left.CompareAndSwap(leftOf(gen, single|1), leftOf(gen, single)) {
		ps.slots[0].err, ps.failed = kerr.RequestTimedOut, true
		return true
	}
	if !ps.waits(gen) {
		return false
	}
	for i := range ps.slots {
		if s := &ps.slots[i]; !s.acked {
			s.acked, s.err = true, kerr.RequestTimedOut
		}
	}
	ps.failed = true
	ps.left.Store(leftOf(gen, 0))
	return true
}

// EncodeAnswer implements wire.Encoder: it patches what failed after staging. Where
// nothing did, the answer is whole already and this is not called.
func (ps *produceState) EncodeAnswer(p *wire.Pending) {
	for i := range ps.slots {
		if s := &ps.slots[i]; s.err != nil {
			wire.PatchProduceError(p.Resp, s.patchAt, p.Version, kerr.Code(s.err))
		}
	}
}

// forget ends the use by a request that gets no answer.
func (ps *produceState) forget() {
	ps.gen++
	ps.left.Store(leftOf(ps.gen, 0))
}
