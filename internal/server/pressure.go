package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/kalda-io/kalda/internal/wire"
)

const (
	// outputBase is what the answers of one connection may hold without asking the
	// budget of all.
	outputBase = 64 << 10
	// outputStep is by how much a connection changes what it holds of that budget.
	outputStep = 64 << 10
	// probeEvery is how often a connection that waits for the budget looks whether its
	// client is still there.
	probeEvery = time.Second
	// answerProbes is how many of those, and the one at its beginning, an answer may wait for
	// its memory while the memory of its request is waited for by others; none if that is a
	// muchHeld part of all.
	answerProbes = 2
	muchHeld     = 8
	// stepBase and stepHeld are what an incomplete request must bring within RequestStall:
	// one that fits in the small buffer, and one that holds a part of the budget.
	stepBase, stepHeld = 4 << 10, 64 << 10
	// stepPressed is what the latter must bring within a pressPart of that time while
	// others wait for the budget: 51 KiB per second as it stands.
	stepPressed, pressPart = 256 << 10, 6
)

// partial watches over the request that has come in part.
type partial struct {
	open  bool
	whole uint64 // frames.whole when it began
	step  step   // of RequestStall
	press step   // of a part of that
}

// step is a span of time in which a request must bring so many bytes.
type step struct {
	waited time.Duration // spent in Read since it began
	got    uint64        // conn.got when it began
}

// room is frames.space with leave of the budget.
func (c *conn) room() ([]byte, *closing) {
	f := &c.frames
	if f.allowed > aheadBytes && c.srv.o.Requests.tight() {
		f.drop()
	}
	f.now = c.now
	buf := f.space()
	if len(buf) == 0 {
		// Memory that others may want is not taken for a request that cannot start anyhow.
		if why := c.ownOutput(); why != nil {
			return nil, why
		}
		n := f.needs() - f.allowed
		if why := c.take(int64(n), f.missing()); why != nil {
			return nil, why
		}
		f.allowed += n
		buf = f.space()
	}
	c.settleInput()
	return buf, nil
}

// yieldInput gives a large read buffer back before answers are written that the client may
// leave unread for long, and whenever memory is short: the requests in it are done.
func (c *conn) yieldInput() {
	c.queue.Lock()
	c.open.settle(&c.queue)
	long := c.queue.outBytes > outputBase
	c.queue.Unlock()
	if long || c.srv.o.Requests.tight() {
		c.frames.shrink()
		c.settleInput()
	}
}

// settleInput gives back what the read buffer does not take any more.
func (c *conn) settleInput() {
	if is := max(len(c.frames.buf), aheadBytes); is < c.frames.allowed {
		c.mem.give(int64(c.frames.allowed - is))
		c.frames.allowed = is
	}
}

// ownOutput waits until the client has read enough of its answers for another request.
func (c *conn) ownOutput() *closing {
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	for !c.outputLocked() {
		if why := c.overLocked(); why != nil {
			return why
		}
		if !c.sendLocked() {
			c.waitLocked()
		}
	}
	return nil
}

// take waits for n bytes of the budget of requests.
func (c *conn) take(n int64, missing int) *closing {
	if c.mem.tryTake(n) {
		return nil
	}
	lined := false
	why := c.await(func() <-chan struct{} { lined = true; return c.mem.line(n) }, missing, nil)
	if why != nil && lined {
		c.mem.leave()
	}
	return why
}

// takeOutput waits for n bytes of the budget of answers. While it does, it must not keep
// the memory of its request from others for long.
func (c *conn) takeOutput(n int64) *closing {
	out := c.srv.o.Answers
	if out.tryTake(n) {
		return nil
	}
	in := c.srv.o.Requests
	waited := 0
	giveUp := func() *closing {
		held := c.mem.holds()
		if !in.pressed() || held == 0 {
			waited = 0
			return nil
		}
		if waited++; waited <= answerProbes && held < in.limit.Load()/muchHeld {
			return nil
		}
		return &closing{CloseLimit, fmt.Sprintf("an answer of about %d bytes waits for memory, and its request holds %d that others wait for: kalda.queued.max.response.bytes=%d, queued.max.request.bytes=%d",
			n, held, out.limit.Load(), in.limit.Load())}
	}
	if why := giveUp(); why != nil {
		return why
	}
	var w *outputWait
	why := c.await(func() <-chan struct{} { w = out.line(n); return w.granted }, 0, giveUp)
	if why != nil && w != nil {
		out.leave(w)
	}
	return why
}

// await sleeps until the channel that line returns is closed. Answers are written
// meanwhile, and the end of the connection is noticed: its own, the server's, and the
// client's if the bytes that are missing cannot come any more. giveUp, if not nil, is asked
// at each probeEvery.
func (c *conn) await(line func() <-chan struct{}, missing int, giveUp func() *closing) *closing {
	q := &c.queue
	alarm := make(chan struct{}, 1)
	q.Lock()
	why := c.overLocked()
	if why != nil {
		q.Unlock()
		return why
	}
	before := q.reader
	q.alarm, q.reader = alarm, readerReads
	if !q.sending && q.sendable() {
		c.wakeWriterLocked()
	}
	q.Unlock()
	why = c.waitInLine(line(), alarm, missing, giveUp)
	c.now = c.srv.o.Clock.Boot()
	q.Lock()
	q.alarm, q.reader = nil, before
	q.Unlock()
	return why
}

func (c *conn) waitInLine(granted, alarm <-chan struct{}, missing int, giveUp func() *closing) *closing {
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	for {
		select {
		case <-granted:
			return nil
		case <-alarm:
			c.queue.Lock()
			why := c.overLocked()
			c.queue.Unlock()
			if why != nil {
				return why
			}
		case <-probe.C:
			if peerGone(c.nc, missing) {
				return &closing{reason: CloseByClient}
			}
			if giveUp != nil {
				if why := giveUp(); why != nil {
					return why
				}
			}
		}
	}
}

// Reserve implements wire.Memory: the decoded request takes so many bytes until its answer
// is encoded. It runs within Handle.
func (s *slot) Reserve(_ *wire.Pending, bytes int) error {
	if bytes <= outputBase {
		return nil
	}
	c := s.c
	c.settleEarlier()
	if why := c.take(int64(bytes), 0); why != nil {
		return c.endsWaiting(why)
	}
	c.queue.Lock()
	s.mem += int64(bytes)
	c.queue.Unlock()
	return nil
}

// settleEarlier gives back what the drain's earlier requests hold and do not need any more,
// before the one at hand takes more, and lets their answers go while it waits.
func (c *conn) settleEarlier() {
	c.queue.Lock()
	defer c.queue.Unlock()
	c.open.settleEarlier(&c.queue)
}

// endsWaiting notes that the connection ends while a request of it waits for memory.
func (c *conn) endsWaiting(why *closing) error {
	c.queue.Lock()
	defer c.queue.Unlock()
	if c.queue.broken == nil {
		c.queue.broken = why
	}
	return errors.New("the connection ended while the request waited for memory")
}

// Release implements wire.Memory.
func (s *slot) Release(*wire.Pending) {
	s.c.queue.Lock()
	defer s.c.queue.Unlock()
	s.giveMem()
}

// giveMem gives back what the decoded request took.
func (s *slot) giveMem() {
	if s.mem > 0 {
		s.c.mem.give(s.mem)
		s.mem = 0
	}
}

// ReserveAnswer implements wire.Memory: the answer will take about so many bytes. It runs within Handle.
func (s *slot) ReserveAnswer(_ *wire.Pending, bytes int) error {
	n := bytes - outputBase
	if n <= 0 {
		return nil
	}
	c := s.c
	c.settleEarlier()
	if why := c.takeOutput(int64(n)); why != nil {
		return c.endsWaiting(why)
	}
	c.queue.Lock()
	s.reserved += n
	c.queue.Unlock()
	return nil
}

// unreserve turns what ReserveAnswer took into what the answer takes; its
// bytes are counted by then.
func (q *queue) unreserve(s *slot) {
	if s.reserved > 0 {
		q.output.add(int64(-s.reserved))
		s.reserved = 0
	}
}

// settleOutput tells the budget what whole answers and kept buffers take.
func (q *queue) settleOutput() {
	want := int64(0)
	if n := q.outBytes + q.spareBytes - outputBase; n > 0 {
		want = int64(n+outputStep-1) / outputStep * outputStep
	}
	if want != q.charged {
		q.output.add(want - q.charged)
		q.charged = want
	}
}

// raise wakes a reader that waits for the budget.
func (q *queue) raise() {
	if q.alarm != nil {
		select {
		case q.alarm <- struct{}{}:
		default:
		}
	}
}

// slow says why the request that has come in part is not waited for any longer. A
// connection counts as being within its first request from its start.
func (c *conn) slow() *closing {
	f, p := &c.frames, &c.part
	if f.whole > 0 && f.r == f.w {
		p.open = false
		return nil
	}
	if !p.open || p.whole != f.whole {
		*p = partial{open: true, whole: f.whole, step: step{got: c.got}, press: step{got: c.got}}
		return nil
	}
	stall, key := c.srv.o.RequestStall, "kalda.connections.request.stall.ms"
	if f.whole == 0 {
		stall, key = c.srv.o.FirstRequest, "kalda.connections.first.request.ms"
	}
	if got, ended := p.press.end(c.got, stall/pressPart); ended && got < stepPressed && c.holds() && c.srv.o.Requests.pressed() {
		return &closing{CloseSlowRequest, fmt.Sprintf("an incomplete request brought %d bytes in %v and holds memory that others wait for: queued.max.request.bytes=%d, %s=%d",
			got, stall/pressPart, c.srv.o.Requests.limit.Load(), key, stall.Milliseconds())}
	}
	want := stepBase
	if c.holds() {
		want = stepHeld
	}
	switch got, ended := p.step.end(c.got, stall); {
	case !ended || got >= want:
		return nil
	case c.got == 0:
		return &closing{CloseNoRequest, fmt.Sprintf("no request came within %s=%d", key, stall.Milliseconds())}
	default:
		return &closing{CloseSlowRequest, fmt.Sprintf("an incomplete request brought %d bytes, fewer than %d, within %s=%d", got, want, key, stall.Milliseconds())}
	}
}

// end says whether the step is over, and how many bytes it brought; then it begins anew.
func (s *step) end(got uint64, length time.Duration) (brought int, ended bool) {
	if s.waited < length {
		return 0, false
	}
	brought = int(got - s.got)
	*s = step{got: got}
	return brought, true
}

// read notes the time that a Read took.
func (p *partial) read(d time.Duration) {
	p.step.waited += d
	p.press.waited += d
}

// holds says that the read buffer takes a part of the budget.
func (c *conn) holds() bool { return c.frames.allowed > aheadBytes }

// slowLeft is how long the request that has come in part may go on without bytes.
func (c *conn) slowLeft() time.Duration {
	stall := c.srv.o.RequestStall
	if c.frames.whole == 0 {
		stall = c.srv.o.FirstRequest
	}
	left := stall - c.part.step.waited
	if c.holds() {
		left = min(left, stall/pressPart-c.part.press.waited)
	}
	return left
}
