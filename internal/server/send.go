package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/wire"
)

const (
	// packBytes is the buffer into which small answers are copied so that one write(2)
	// takes them all.
	packBytes = 64 << 10
	// smallBytes is the largest answer that is copied; copying this much costs less than
	// one more entry in a writev(2).
	smallBytes = 8 << 10
	// portionBytes is what must get through within WriteStall, so the slowest reader that
	// is served takes 17 KiB per second.
	portionBytes = 1 << 20
	// pressedPortion is what must get through within a pressPart of WriteStall while others
	// wait for the memory of answers: 51 KiB per second as it stands.
	pressedPortion = 512 << 10
)

// packs are shared by all connections: only a connection that writes needs one.
var packs = sync.Pool{New: func() any { return new([packBytes]byte) }}

// sender is the state of whoever holds the sending token.
type sender struct {
	batch   []*slot       // taken from the queue, in order
	vec     [][]byte      // backing of bufs, reused
	bufs    net.Buffers   // what a writev is given
	writeBy time.Duration // the write deadline that is set, in Clock.Boot; 0: none
	unsent  []*slot       // not encoded because a write failed
	// stall is how long the last write could take, pressed that this was less than
	// WriteStall because others wait for memory.
	stall   time.Duration
	pressed bool
}

// sendLocked takes the sending token if it is free and the head of the queue has its
// answer, and sends. It says whether it did. The queue is unlocked meanwhile.
func (c *conn) sendLocked() bool {
	q := &c.queue
	if q.sending || q.broken != nil || !q.sendable() {
		return false
	}
	q.sending = true
	c.send.batch = q.take(c.send.batch[:0])
	q.Unlock()
	why := c.transmit()
	q.Lock()
	q.sending = false
	if why != nil && q.broken == nil {
		q.broken = why
	}
	clear(c.send.batch)
	return true
}

// transmit encodes and writes the batch, in portions of about OutputBytes. It returns
// why the connection cannot be written to any more.
func (c *conn) transmit() *closing {
	q := &c.queue
	for batch := c.send.batch; len(batch) > 0; {
		n, total, elsewhere := 0, 0, 0
		encodedProduce, encodedOther, encodedBytes, encodedElsewhere, encodedReserved := 0, 0, 0, 0, 0
		encodedMem := int64(0)
		for n < len(batch) && total+elsewhere < c.srv.o.OutputBytes {
			s := batch[n]
			if s.state == slotReady {
				s.p.Encode.EncodeAnswer(&s.p)
				s.state = slotWhole
				encodedBytes += len(s.p.Resp)
				encodedElsewhere += s.elsewhere()
				encodedReserved += s.reserved // nobody else looks at a slot that was taken
				encodedMem += s.mem
				s.reserved, s.mem = 0, 0
				if s.produce() {
					encodedProduce++
				} else {
					encodedOther++
				}
			}
			more := s.elsewhere()
			wire.FinishFrame(s.p.Resp, more)
			total += len(s.p.Resp)
			elsewhere += more
			n++
		}
		if encodedProduce+encodedOther > 0 {
			q.Lock()
			q.openProduce -= encodedProduce
			q.openOther -= encodedOther
			q.outBytes += encodedBytes
			q.elsewhere += encodedElsewhere
			q.settleOutput()
			if encodedReserved > 0 {
				q.output.add(int64(-encodedReserved))
			}
			if encodedMem > 0 {
				c.mem.give(encodedMem)
			}
			q.wakeReader()
			q.Unlock()
		}
		written, err := c.write(batch[:n])
		c.srv.counts.bytesOut.Add(uint64(written))
		now := c.srv.o.Clock.Boot()
		ended := batch[:n]
		if err != nil {
			ended = batch
		}
		for _, s := range ended {
			s.endStream()
		}

		q.Lock()
		q.active = now
		q.outBytes -= total
		q.elsewhere -= elsewhere
		for _, s := range batch[:n] {
			q.free(s)
		}
		q.settleOutput()
		batch = batch[n:]
		if err != nil {
			for _, s := range batch {
				if s.state == slotReady {
					c.send.unsent = append(c.send.unsent, s)
				}
			}
			why := c.writeFailedLocked(err, total+elsewhere-written)
			q.Unlock()
			return why
		}
		q.Unlock()
	}
	return nil
}

// armWrite gives the next write, of n bytes, at least WriteStall; less if others wait for
// what they take. The deadline is moved only when it comes too near, or is too far then,
// which spares most writes the call. It returns how many bytes must get through by then.
func (c *conn) armWrite(now time.Duration, n int) (portion int) {
	stall, portion := c.srv.o.WriteStall, portionBytes
	pressed := n > outputBase && c.srv.o.Answers.pressed()
	if pressed {
		stall, portion = stall/pressPart, pressedPortion
	}
	if late := c.send.writeBy > now+stall+stall/4; c.send.writeBy >= now+stall && !(pressed && late) {
		return portion
	}
	c.send.stall, c.send.pressed = stall, pressed
	c.send.writeBy = now + stall + stall/4
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.send.writeBy - now))
	c.queue.Lock()
	stopping := c.queue.stopping
	c.queue.Unlock()
	if stopping { // shutdown may have set its own before ours
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.srv.o.ShutdownGrace))
	}
	return portion
}

// writeFailedLocked says why a write failed.
func (c *conn) writeFailedLocked(err error, left int) *closing {
	q := &c.queue
	switch {
	case q.stopping:
		return &closing{reason: CloseShutdown}
	case errors.Is(err, errStream):
		return &closing{CloseByHandler, err.Error()}
	case errors.Is(err, os.ErrDeadlineExceeded) && c.send.pressed:
		return &closing{CloseStalled, fmt.Sprintf("the client took too little of %d bytes of answers within %v, and others wait for their memory: kalda.queued.max.response.bytes=%d, kalda.connections.response.stall.ms=%d",
			left, c.send.stall, q.output.limit.Load(), c.srv.o.WriteStall.Milliseconds())}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &closing{CloseStalled, fmt.Sprintf("the client took nothing of %d bytes of answers within kalda.connections.response.stall.ms=%d", left, c.srv.o.WriteStall.Milliseconds())}
	}
	return &closing{reason: CloseByClient}
}

// write sends the answers with as few system calls as possible: small ones are copied
// side by side, large ones are sent from where they are.
func (c *conn) write(slots []*slot) (written int, err error) {
	if len(slots) == 1 && slots[0].p.Stream == nil {
		return c.writeVec(append(c.send.vec[:0], slots[0].p.Resp))
	}
	pack := packs.Get().(*[packBytes]byte)
	defer packs.Put(pack)
	vec, out := c.send.vec[:0], pack[:0]
	begun := 0 // start in out of the run of small answers that is not in vec yet
	for _, s := range slots {
		b := s.p.Resp
		if s.p.Stream != nil {
			if begun < len(out) {
				vec = append(vec, out[begun:])
			}
			n, err := c.writeVec(vec)
			written += n
			if err == nil {
				n, err = c.stream(s)
				written += n
			}
			if err != nil {
				return written, err
			}
			vec, out, begun = c.send.vec[:0], pack[:0], 0
			continue
		}
		if len(b) > smallBytes {
			if begun < len(out) {
				vec = append(vec, out[begun:])
				begun = len(out)
			}
			vec = append(vec, b)
			continue
		}
		if len(out)+len(b) > packBytes {
			n, err := c.writeVec(append(vec, out[begun:]))
			written += n
			if err != nil {
				return written, err
			}
			vec, out, begun = c.send.vec[:0], pack[:0], 0
		}
		out = append(out, b...)
	}
	if begun < len(out) {
		vec = append(vec, out[begun:])
	}
	n, err := c.writeVec(vec)
	return written + n, err
}

// writeVec writes vec in portions, each with a deadline of its own: a client that is
// slow but takes something is not a stalled one.
func (c *conn) writeVec(vec [][]byte) (written int, err error) {
	c.send.vec = vec // keeps what append grew
	defer clear(vec)
	all := 0
	for _, b := range vec {
		all += len(b)
	}
	for len(vec) > 0 {
		portion := c.armWrite(c.srv.o.Clock.Boot(), all)
		n, total := 0, 0
		for n < len(vec) && total+len(vec[n]) <= portion {
			total += len(vec[n])
			n++
		}
		switch {
		case n == 0: // the first alone is too large
			k, err := c.nc.Write(vec[0][:portion])
			written, all = written+k, all-k
			if err != nil {
				return written, err
			}
			vec[0] = vec[0][portion:]
		case n == 1:
			k, err := c.socket.Write(vec[0])
			written, all = written+k, all-k
			if err != nil {
				return written, err
			}
			vec = vec[1:]
		default:
			c.send.bufs = vec[:n:n]
			k, err := c.send.bufs.WriteTo(c.nc)
			written, all = written+int(k), all-int(k)
			if err != nil {
				return written, err
			}
			vec = vec[n:]
		}
	}
	return written, nil
}

// wakeWriterLocked gets the writer going, starting it if need be.
func (c *conn) wakeWriterLocked() {
	q := &c.queue
	q.writerStop = false
	if q.writer {
		q.writerWake.Signal()
		return
	}
	q.writer = true
	c.writer.Go(c.writeLater)
}

// writeLater is the writer goroutine: it sends what completes while the reader reads.
func (c *conn) writeLater() {
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	for !q.dead {
		mine := q.reader == readerReads
		switch {
		case mine && c.sendLocked():
			q.wakeReader()
			continue
		case mine && (q.broken != nil || q.atClose()):
			// The reader ends the connection; get it out of Read, or out of its wait.
			q.raise()
			q.Unlock()
			_ = c.nc.SetReadDeadline(aLongTimeAgo)
			q.Lock()
			if q.reader != readerReads {
				continue
			}
		case q.writerStop:
			q.writer, q.writerStop = false, false
			return
		}
		if !q.dead {
			q.writerWake.Wait()
		}
	}
	q.writer = false
}
