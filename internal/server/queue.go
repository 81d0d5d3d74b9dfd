package server

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/wire"
)

// slotState is how far the answer of one request has come.
type slotState uint8

const (
	slotFree    slotState = iota
	slotRunning           // Handle has it, or had it and the reader has not settled it
	slotParked            // waits for Complete
	slotReady             // complete; Encode must still append the body
	slotWhole             // Resp holds the answer
	slotClose             // the connection ends here instead of answering
)

// slot is a request in the queue of its connection.
type slot struct {
	p wire.Pending
	c *conn
	// state is guarded by the queue's lock; once the slot is taken out of the queue it
	// belongs to whoever holds the sending token.
	state slotState
	// turn tells whether Complete was called before the slot was settled, without the lock: it
	// is use until one of them comes. Complete makes it nextUse(use), settling use|settled.
	// Each completed use has the next number, so nothing needs to be reset.
	turn atomic.Uint32
	use  uint32
	// done says that the answer was there when Handle returned. The reader's.
	done bool
	// mem is what the request holds of the budget of requests, reserved what ReserveAnswer
	// took of that of answers. Guarded by the queue's lock.
	mem      int64
	reserved int
}

// settled is the bit of slot.turn for a request that was parked.
const settled = 1 << 31

func nextUse(use uint32) uint32 { return (use + 1) &^ settled }

// elsewhere is how many bytes of the answer its stream gives.
func (s *slot) elsewhere() int {
	n := 0
	for _, part := range s.p.Parts {
		n += part.Len
	}
	return n
}

// endStream tells the answer's stream that it is over. Call it without the queue's lock.
func (s *slot) endStream() {
	if s.p.Stream != nil {
		s.p.Stream.EndStream()
		s.p.Stream, s.p.Parts = nil, s.p.Parts[:0]
	}
}

func (s *slot) produce() bool { return s.p.Key == wire.KeyProduce }

// readerState is what the reader goroutine does, as far as others care.
type readerState uint8

const (
	readerDrains readerState = iota // runs requests and will look at the queue itself
	readerReads                     // sits in Read: the writer must send
	readerWaits                     // sleeps on readerWake: signal it
)

// queue is the ordered queue of a connection's answers; all of it is guarded by its
// lock.
type queue struct {
	sync.Mutex
	ring       []*slot // length is a power of two
	head, n    int
	spare      []*slot // free slots, last used last
	spareBytes int     // capacity of the answers that spare slots keep

	// openProduce and openOther count the requests in the ring whose answer is not whole.
	openProduce, openOther int
	// outBytes counts the bytes of whole answers that are not written, here and in the
	// hands of the token's holder; elsewhere those of their streams, which take no memory.
	outBytes, elsewhere int
	// output is the budget of all; charged is what it was told of outBytes and spareBytes.
	output  *OutputBudget
	charged int64

	sending    bool // someone holds the sending token
	reader     readerState
	readerWake sync.Cond
	writer     bool // the writer goroutine lives
	writerStop bool // it shall end
	writerWake sync.Cond

	closes   bool          // there is a slotClose in the ring: start nothing but what is reserved
	stopping bool          // the server stops
	broken   *closing      // a write failed
	dead     bool          // the connection is over: completions are dropped
	active   time.Duration // when bytes were last read or written
	alarm    chan struct{} // rings for a reader that waits for the budget
}

const (
	// keepRespBytes is the largest answer buffer that is kept for the next request.
	keepRespBytes = 1 << 20
	// keepSpareBytes bounds the answer buffers that one busy connection keeps in spare slots.
	keepSpareBytes = 1 << 20
)

func (q *queue) at(i int) *slot { return q.ring[(q.head+i)&(len(q.ring)-1)] }

// push appends a slot in state running.
func (q *queue) push(c *conn, produce bool) *slot {
	var s *slot
	if last := len(q.spare) - 1; last >= 0 {
		s = q.spare[last]
		q.spare[last] = nil
		q.spare = q.spare[:last]
		q.spareBytes -= cap(s.p.Resp)
	} else {
		s = &slot{c: c}
		s.p.Conn = &c.wc
		s.p.Bind(s)
	}
	if q.n == len(q.ring) {
		grown := make([]*slot, max(4, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.at(i)
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = s
	q.n++
	s.state, s.done = slotRunning, false
	if produce {
		s.p.Key = wire.KeyProduce
		q.openProduce++
	} else {
		q.openOther++
	}
	return s
}

// answered takes a request off the count of those without an answer.
func (q *queue) answered(produce bool) {
	if produce {
		q.openProduce--
	} else {
		q.openOther--
	}
}

// completed says that Complete was called before the request was settled.
func (s *slot) completed() bool { return s.turn.Load() == nextUse(s.use) }

// forgetComplete is for a request that was not parked after all: if the handler called
// Complete nevertheless, the slot's next request must not be taken for answered.
func (s *slot) forgetComplete() {
	if s.completed() {
		s.use = nextUse(s.use)
	}
}

// settle moves on a request that Handle returned.
func (q *queue) settle(s *slot) {
	switch {
	case s.done:
		q.complete(s)
	case !s.completed() && s.turn.CompareAndSwap(s.use, s.use|settled):
		s.state = slotParked
	default:
		s.use = nextUse(s.use)
		q.complete(s)
	}
}

// dropLast takes the request that was pushed last out again: it gets no answer.
func (q *queue) dropLast(s *slot) {
	q.n--
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = nil
	q.answered(s.produce())
	q.free(s)
}

// complete moves a request on whose answer is there.
func (q *queue) complete(s *slot) {
	switch {
	case s.p.CloseReason != "":
		s.state = slotClose
		q.closes = true
		q.answered(s.produce())
	case s.p.Encode != nil:
		s.state = slotReady // still open: nothing but Produce starts before it is encoded
	default:
		s.state = slotWhole
		q.answered(s.produce())
		q.outBytes += len(s.p.Resp)
		q.elsewhere += s.elsewhere()
		s.giveMem() // the request is of no use any more, however slowly the client reads
		q.settleOutput()
		q.unreserve(s)
	}
}

// sendable says that the head of the queue has its answer.
func (q *queue) sendable() bool {
	return q.n > 0 && (q.at(0).state == slotReady || q.at(0).state == slotWhole)
}

// atClose says that the connection ends now: all earlier answers are taken.
func (q *queue) atClose() bool { return q.n > 0 && q.at(0).state == slotClose }

// mayStart is rule 2 of the package.
func (q *queue) mayStart(produce bool) bool {
	return q.openOther == 0 && (produce || q.openProduce == 0)
}

// take moves the answers that are ready from the queue's head to batch.
func (q *queue) take(batch []*slot) []*slot {
	for q.sendable() {
		batch = append(batch, q.at(0))
		q.ring[q.head] = nil
		q.head = (q.head + 1) & (len(q.ring) - 1)
		q.n--
	}
	return batch
}

// free makes s available for a later request.
func (q *queue) free(s *slot) {
	s.state = slotFree
	q.unreserve(s)
	s.giveMem()
	if c := cap(s.p.Resp); c > keepRespBytes || q.spareBytes+c > keepSpareBytes || q.spareBytes+c > outputBase && q.output.tight() {
		s.p.Resp = nil
	}
	s.p.Body, s.p.Encode, s.p.State, s.p.ClientID = nil, nil, nil, ""
	q.spareBytes += cap(s.p.Resp)
	q.spare = append(q.spare, s)
}

// shrink gives the memory of an idle connection back.
func (q *queue) shrink() {
	q.spare, q.spareBytes = nil, 0
	if q.n == 0 {
		q.ring, q.head = nil, 0
	}
	q.settleOutput()
}

// Ready implements wire.Queue: the answer of a parked request is there. It marks and
// signals, no more, since it is called with the locks of other rooms held.
func (s *slot) Ready(*wire.Pending) {
	if s.turn.CompareAndSwap(s.use, nextUse(s.use)) {
		return // the reader goes on with it when it settles the requests of its drain
	}
	c := s.c
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	switch {
	case q.dead:
		return
	case s.state != slotParked:
		panic("server: Complete called for a request that is not parked")
	}
	s.use = nextUse(s.use)
	s.turn.Store(s.use)
	q.complete(s)
	q.wakeReader()
	if q.reader == readerReads && !q.sending && (q.sendable() || q.atClose()) {
		c.wakeWriterLocked()
	}
}

// wakeReader tells the reader, if it waits for the queue, that something changed.
func (q *queue) wakeReader() {
	if q.reader == readerWaits {
		q.readerWake.Signal()
	}
}
