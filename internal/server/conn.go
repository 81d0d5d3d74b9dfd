package server

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/wire"
)

const (
	// idleAfter is how long a connection without traffic keeps its large buffers.
	idleAfter = 10 * time.Second
	// lingerTime and lingerBytes bound how long a connection that we end takes what the
	// client still sends: closing a socket with unread bytes makes the kernel send a
	// reset, which can destroy answers that the client has not read yet.
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 256 << 10
	// busyOthers is how many requests of other connections from one drain to the next make a
	// server that is busy: a connection then yields before it reads. With fewer there is
	// hardly anyone to yield to, and each attempt may wake a thread in vain.
	busyOthers = 4
)

// aLongTimeAgo as a deadline ends a Read at once.
var aLongTimeAgo = time.Unix(1, 0)

// conn is one connection.
type conn struct {
	srv    *Server
	nc     net.Conn
	socket io.ReadWriter // nc, or a cheaper way to the same socket
	source string        // the remote address without port

	// These belong to the reader goroutine.
	wc            wire.Conn
	frames        frames
	header        wire.Header   // of the request at hand
	now           time.Duration // Clock.Boot at the start of this drain
	readBy        time.Duration // the read deadline that is set, in Clock.Boot; 0: none
	idle          bool          // large buffers were given back
	staged        bool          // Handle ran since the last Flush
	stagedProduce bool          // and one of them was a Produce
	requests      uint64        // in this drain
	total         uint64        // requests of all connections up to the last drain
	got           uint64        // bytes read
	part          partial       // the request that has come in part
	open          opened
	taken         int  // requests that the handler took and has not answered
	clear         bool // requests may be answered at once

	mem account // what it holds of Options.Requests

	// send belongs to whoever holds the sending token.
	send sender

	queue  queue
	writer sync.WaitGroup // the writer goroutine
}

func newConn(s *Server, nc net.Conn, source string) *conn {
	c := &conn{srv: s, nc: nc, socket: nc, source: source, frames: newFrames(&s.o), now: s.o.Clock.Boot()}
	c.wc = wire.Conn{ID: s.nextID.Add(1), Local: nc.LocalAddr(), Remote: nc.RemoteAddr(), Listener: s.o.Listener}
	if p := newPlain(nc); p != nil {
		c.socket = p
	}
	c.queue.readerWake.L = &c.queue
	c.queue.writerWake.L = &c.queue
	c.frames.since = c.now
	c.queue.active = c.now
	c.queue.output = s.o.Answers
	c.mem.b = s.o.Requests
	c.part.open = true // a new connection counts as being within its first request
	return c
}

// run serves the connection until it ends. It is the reader goroutine.
func (c *conn) run() {
	why := c.serve()
	// What was handled is written whatever happens to the connection.
	c.flush()
	c.end(why)
}

func (c *conn) serve() *closing {
	for {
		if why := c.read(); why != nil {
			if why.reason == CloseByClient || why.reason == CloseIdle {
				return why
			}
			return c.finish(why)
		}
		why := c.drain()
		total := c.srv.counts.requests.Add(c.requests)
		others := total - c.total - c.requests
		c.total, c.requests = total, 0
		if why != nil {
			return c.finish(why)
		}
		if others >= busyOthers {
			// The others go first. By then the next request is often here, and spares a vain
			// read, a wait and a wake.
			runtime.Gosched()
		}
	}
}

// read waits for bytes. Meanwhile the writer sends what completes.
func (c *conn) read() *closing {
	for {
		buf, why := c.room()
		if why != nil {
			return why
		}
		if why := c.slow(); why != nil {
			return why
		}
		if c.part.open {
			c.now = c.srv.o.Clock.Boot()
		}
		begun := c.now
		c.armRead()
		if why := c.beginRead(); why != nil {
			return why
		}
		n, err := c.socket.Read(buf)
		c.now = c.srv.o.Clock.Boot()
		c.part.read(c.now - begun)
		c.queue.Lock()
		c.queue.reader = readerDrains
		if n > 0 {
			c.queue.active = c.now
		}
		c.clear = c.srv.atOnce != nil && c.queue.clear()
		c.queue.Unlock()
		switch {
		case n > 0: // an error comes again with the next Read
			c.frames.filled(n)
			c.got += uint64(n)
			c.srv.counts.bytesIn.Add(uint64(n))
			c.idle = false
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if why := c.readTimeout(); why != nil {
				return why
			}
		case err != nil:
			return &closing{reason: CloseByClient}
		}
	}
}

// beginRead hands the queue to the writer, or says why there is nothing more to read.
func (c *conn) beginRead() *closing {
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	if why := c.overLocked(); why != nil {
		return why
	}
	q.reader = readerReads
	if !q.sending && q.sendable() { // completed while the reader wrote
		c.wakeWriterLocked()
	}
	return nil
}

// overLocked says why no further request may start.
func (c *conn) overLocked() *closing {
	q := &c.queue
	switch {
	case q.broken != nil:
		return q.broken
	case q.stopping:
		return &closing{reason: CloseShutdown}
	case q.closes:
		for i := range q.n {
			if s := q.at(i); s.state == slotClose {
				return &closing{CloseByHandler, s.p.CloseReason}
			}
		}
	}
	return nil
}

// armRead sets the read deadline, which serves three ends: to give large buffers back,
// to end an idle connection, and one whose request does not come to its end. A deadline that fires is checked against the time, so
// it is moved only when it comes too near, not for every read.
func (c *conn) armRead() {
	limit := c.srv.o.IdleTimeout
	if !c.idle {
		after := idleAfter
		if limit > 0 {
			after = min(after, limit/2)
		}
		by := c.readBy
		if by < c.now+after {
			by = c.now + after + after/2
		}
		if c.part.open { // one that is set and fires too early does no harm
			if slow := c.now + c.slowLeft(); by > slow && (c.readBy <= c.now || c.readBy > slow) {
				by = slow
			} else if by > slow {
				by = c.readBy
			}
		}
		if by != c.readBy {
			c.readBy = by
			_ = c.nc.SetReadDeadline(time.Now().Add(by - c.now))
		}
		return
	}
	left := time.Duration(math.MaxInt64)
	if limit > 0 {
		_, left = c.idleLeft()
	}
	if c.part.open {
		left = min(left, c.slowLeft())
	}
	if left == math.MaxInt64 {
		_ = c.nc.SetReadDeadline(time.Time{})
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(left))
}

// idleLeft says whether answers are awaited, and how long the connection may stay idle.
func (c *conn) idleLeft() (waiting bool, left time.Duration) {
	c.queue.Lock()
	defer c.queue.Unlock()
	if c.queue.n > 0 {
		return true, c.srv.o.IdleTimeout
	}
	return false, c.queue.active + c.srv.o.IdleTimeout - c.now
}

// readTimeout is called when nothing came for a while, or when someone cut Read short.
func (c *conn) readTimeout() *closing {
	waiting, left := c.idleLeft()
	if limit := c.srv.o.IdleTimeout; limit > 0 && !waiting && left <= 0 {
		return &closing{reason: CloseIdle}
	}
	c.queue.Lock()
	quiet := c.now - c.queue.active
	c.queue.Unlock()
	if !c.idle && (!c.part.open || quiet >= idleAfter) {
		c.idle = true
		c.frames.shrink()
		c.settleInput()
		c.queue.Lock()
		c.queue.shrink()
		if c.queue.writer && !c.queue.sending && !c.queue.sendable() {
			c.queue.writerStop = true // it costs a stack; the next completion starts it again
			c.queue.writerWake.Signal()
		}
		if !c.queue.sending {
			c.send.batch, c.send.vec, c.send.bufs = nil, nil, nil
		}
		c.queue.Unlock()
	}
	return nil
}

// finish sends the answers that are still to come before the connection ends: all
// earlier ones if a request ended it, those that are ready if the server stops.
func (c *conn) finish(why *closing) *closing {
	c.flush()
	q := &c.queue
	q.Lock()
	c.open.settle(q)
	for q.broken == nil && (q.sending || q.n > 0 && !q.atClose()) {
		if c.sendLocked() {
			continue
		}
		if q.stopping && !q.sending {
			break
		}
		c.waitLocked()
	}
	if q.broken != nil {
		why = q.broken
	}
	q.Unlock()
	switch why.reason {
	case CloseByHandler, CloseBadFrame, CloseBadHeader, CloseNoRequest, CloseSlowRequest:
		c.linger()
	}
	return why
}

// linger closes our direction and takes what the client still sends, within bounds.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	// A stop of the server may have set a deadline already; the bound is short anyway.
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	buf := make([]byte, startBytes)
	for taken := 0; taken < lingerBytes; {
		n, err := c.nc.Read(buf)
		if err != nil {
			return
		}
		taken += n
	}
}

// shutdown makes the connection end; it does not wait.
func (c *conn) shutdown() {
	c.queue.Lock()
	c.queue.stopping = true
	c.queue.wakeReader()
	c.queue.raise()
	c.queue.Unlock()
	_ = c.nc.SetReadDeadline(aLongTimeAgo)
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.srv.o.ShutdownGrace))
}

// end closes the socket, waits for the writer and tells the handler.
func (c *conn) end(why *closing) {
	q := &c.queue
	q.Lock()
	q.dead, q.writerStop = true, true
	q.writerWake.Signal()
	q.Unlock()
	c.nc.Close() // a writer that is in Write returns
	c.writer.Wait()

	// From here on the reader is alone: completions look at dead and go.
	q.Lock()
	unsent, whole := c.send.unsent, []*slot(nil)
	for _, s := range unsent {
		q.unreserve(s)
	}
	for i := range q.n {
		s := q.at(i)
		q.unreserve(s) // there was no answer that would have
		switch s.state {
		case slotParked, slotReady:
			unsent = append(unsent, s)
		case slotWhole:
			whole = append(whole, s)
		}
	}
	q.outBytes, q.elsewhere, q.spareBytes = 0, 0, 0
	q.settleOutput()
	q.Unlock()
	c.mem.close()
	for _, s := range whole {
		s.endStream()
	}
	for _, s := range unsent {
		c.srv.o.Handler.Cancel(&s.p)
	}
	c.srv.o.Handler.Closed(&c.wc)
	c.srv.counts.closes[why.reason].Add(1)
	c.srv.log.note(c.source, c.wc.Remote, c.wc.ClientID, why)
}
