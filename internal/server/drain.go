package server

import (
	"fmt"

	"github.com/kalda-io/kalda/internal/wire"
)

// maxReserved is how many Produce requests, beside the one at hand, start with one look at
// the queue. They lie in the read buffer already.
const maxReserved = 63

// opened are the slots of a drain's Produce requests that are not settled, in the queue's
// order. Several requests start with one look at the queue, and one more, at the end of
// their drain, tells which of them have their answers: between the two a request takes no
// lock of the queue. The reader's, but for what its methods are given.
//
//	slots  [ handled, answered or not | reserved ]
//	       0                          used       len
type opened struct {
	slots []*slot
	used  int
	// room is what answers that are there at once may take before the next look.
	room int
}

func (o *opened) reserved() int { return len(o.slots) - o.used }

// next is the slot of the next request; one must be reserved.
func (o *opened) next() *slot {
	o.used++
	return o.slots[o.used-1]
}

// settle tells q what became of the requests that were handled, and gives back what is
// reserved behind them. q is locked.
func (o *opened) settle(q *queue) {
	o.drop(q)
	for _, s := range o.slots {
		q.settle(s)
	}
	o.keep(o.slots[:0])
}

// settleEarlier is settle without the request at hand, which is the last.
func (o *opened) settleEarlier(q *queue) {
	o.drop(q)
	if o.used == 0 {
		return
	}
	last := o.slots[o.used-1]
	for _, s := range o.slots[:o.used-1] {
		q.settle(s)
	}
	o.keep(append(o.slots[:0], last))
}

// settleDone is settle of those whose answers are there. The others stay as they are, to be
// answered by the end of the drain.
func (o *opened) settleDone(q *queue) {
	o.drop(q)
	left := o.slots[:0]
	for _, s := range o.slots {
		if s.done || s.completed() {
			q.settle(s)
		} else {
			left = append(left, s)
		}
	}
	o.keep(left)
}

// keep makes left, which shares its memory with slots, all that is open.
func (o *opened) keep(left []*slot) {
	clear(o.slots[len(left):])
	o.slots, o.used = left, len(left)
}

// drop gives back what is reserved.
func (o *opened) drop(q *queue) {
	for n := len(o.slots); n > o.used; n-- {
		q.dropLast(o.slots[n-1])
	}
	clear(o.slots[o.used:])
	o.slots = o.slots[:o.used]
}

// drain runs every complete request in the buffer and sends the answers that are ready.
func (c *conn) drain() *closing {
	why := c.runAll()
	c.answerTaken(true)
	if why != nil {
		return why
	}
	if c.clear && !c.staged {
		return nil // whatever there was is answered
	}
	c.flush()
	if why := c.wc.CloseReason; why != "" {
		return &closing{CloseByHandler, why}
	}
	if c.holds() {
		c.yieldInput()
	}
	c.queue.Lock()
	c.open.settle(&c.queue)
	c.sendLocked()
	c.queue.Unlock()
	return nil
}

// runAll runs every complete request in the buffer.
func (c *conn) runAll() *closing {
	for {
		frame, why := c.frames.next()
		if why != nil {
			return why
		}
		if frame == nil {
			return nil
		}
		hd := &c.header
		var body []byte
		var err error
		if *hd, body, err = wire.ParseHeader(frame); err != nil {
			return &closing{CloseBadHeader, err.Error()}
		}
		if string(hd.ClientID) != c.wc.ClientID {
			c.wc.ClientID = string(hd.ClientID)
		}
		hd.ClientID = nil // it would keep the read buffer of an idle connection
		produce := hd.Key == wire.KeyProduce
		if produce && c.clear && c.takeNow(hd, body) {
			continue
		}
		// Nothing overtakes it, and it overtakes nothing.
		c.answerTaken(false)
		c.clear = false
		s, why := c.start(produce, len(frame))
		if why != nil {
			return why
		}
		c.handle(s, hd, body)
	}
}

// start waits until the next request may run, and returns its place in the queue. Of a
// Produce, size is that of its frame.
func (c *conn) start(produce bool, size int) (*slot, *closing) {
	if produce && c.open.reserved() > 0 && c.open.room > 0 {
		return c.open.next(), nil
	}
	if !produce && c.stagedProduce {
		c.flush()
	}
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	if produce {
		c.open.settleDone(q)
	}
	for waited := false; ; {
		if why := c.overLocked(); why != nil {
			return nil, why
		}
		if q.mayStart(produce) && q.n < c.srv.o.MaxPending && c.outputLocked() {
			if waited {
				c.now = c.srv.o.Clock.Boot()
			}
			if !produce {
				return q.push(c, false), nil
			}
			n := 1
			if c.open.room = min(c.srv.o.OutputBytes-q.elsewhere, outputBase) - q.outBytes; c.open.room > 0 {
				n += min(c.frames.unread()/size, maxReserved, c.srv.o.MaxPending-q.n-1)
			}
			for range n {
				c.open.slots = append(c.open.slots, q.push(c, true))
			}
			return c.open.next(), nil
		}
		// Waiting ends the drain: what is staged may be what the answers wait for.
		if c.staged || len(c.open.slots) > 0 {
			q.Unlock()
			c.flush()
			q.Lock()
			c.open.settle(q)
			continue
		}
		if !c.sendLocked() {
			c.waitLocked()
		}
		waited = true
	}
}

// outputLocked says whether there is room for the answer of another request.
func (c *conn) outputLocked() bool {
	q := &c.queue
	return q.outBytes+q.elsewhere < c.srv.o.OutputBytes && (q.outBytes < outputBase || !q.output.full())
}

// waitLocked sleeps until something in the queue changed.
func (c *conn) waitLocked() {
	c.queue.reader = readerWaits
	c.queue.readerWake.Wait()
	c.queue.reader = readerDrains
}

// handle runs one request.
func (c *conn) handle(s *slot, hd *wire.Header, body []byte) {
	p := &s.p
	p.Key, p.Version, p.CorrelationID = hd.Key, hd.Version, hd.CorrelationID
	p.ClientID, p.Arrived, p.Body = c.wc.ClientID, c.now, body
	p.Resp = wire.AppendResponseHeader(p.Resp[:0], hd.Key, hd.Version, hd.CorrelationID)
	p.Encode, p.CloseReason, p.State = nil, "", nil
	c.staged = true
	if hd.Key == wire.KeyProduce {
		c.stagedProduce = true
	}
	c.requests++
	outcome := c.srv.o.Handler.Handle(p)
	p.Body = nil
	if outcome == wire.CloseConn && p.CloseReason == "" {
		p.CloseReason = fmt.Sprintf("request with API key %d refused", p.Key)
	}
	s.done = outcome == wire.Done || outcome == wire.CloseConn
	if outcome != wire.Parked {
		s.forgetComplete()
	}

	produce := p.Key == wire.KeyProduce
	if s.done || s.completed() { // else someone may be writing to it
		c.open.room -= len(p.Resp)
	}
	if produce && outcome != wire.CloseConn && (outcome != wire.NoAnswer || s.mem == 0 && s.reserved == 0) {
		if outcome == wire.NoAnswer {
			c.open.used-- // its slot serves the next one
		}
		return
	}
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	switch {
	case produce && outcome == wire.NoAnswer:
		c.open.used--
		c.open.drop(q)
	case produce:
		c.open.settle(q)
	case outcome == wire.NoAnswer:
		q.dropLast(s)
	default:
		q.settle(s)
	}
}

// flush lets the handler write what the requests since the last one staged.
func (c *conn) flush() {
	if c.staged {
		c.staged, c.stagedProduce = false, false
		c.srv.o.Handler.Flush(&c.wc)
	}
}
