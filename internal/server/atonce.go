package server

import "github.com/kalda-io/kalda/internal/wire"

// Produce requests that a handler answers at once (wire.AtOnce) go around the queue. A
// connection that has nothing else under way hands them over one after the other, and sends
// their answers with one write when the drain ends or something comes that is not of this
// kind. No slot, no answer buffer and no lock of the queue is touched for each of them: with
// sixteen requests per read that memory would be more than the processor's first cache.

// maxTaken is how many requests are taken before they are answered. Their answers fit in a
// pack, but for error messages.
const maxTaken = 64

// clear says whether the next answer would be the next to leave: nothing waits in the queue,
// and nobody sends. It stays so while the reader runs requests of this kind, since only it
// adds to the queue, and the writer sends nothing from an empty one.
func (q *queue) clear() bool {
	return q.n == 0 && !q.sending && q.broken == nil && !q.stopping
}

// takeNow offers a request to the handler, to be answered at once. c.clear must hold.
func (c *conn) takeNow(hd *wire.Header, body []byte) bool {
	if !c.srv.atOnce.Take(&c.wc, hd, body) {
		return false
	}
	c.requests++
	if c.taken++; c.taken >= min(maxTaken, c.srv.o.MaxPending) {
		c.answerTaken(false)
		c.queue.Lock()
		c.clear = c.queue.clear()
		c.queue.Unlock()
	}
	return true
}

// answerTaken has the requests that were taken written, and sends their answers. last says
// that no other request lies in the read buffer.
func (c *conn) answerTaken(last bool) {
	if c.taken == 0 {
		return
	}
	c.taken = 0
	pack := packs.Get().(*[packBytes]byte)
	defer packs.Put(pack)
	out := c.srv.atOnce.Answer(&c.wc, pack[:0])
	if last && c.holds() {
		c.yieldInput()
	}
	written, err := c.writeVec(append(c.send.vec[:0], out))
	c.srv.counts.bytesOut.Add(uint64(written))
	now := c.srv.o.Clock.Boot()
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	q.active = now
	if err != nil && q.broken == nil {
		q.broken = c.writeFailedLocked(err, len(out)-written)
	}
}
