package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Pipe returns the two ends of a connection whose directions hold buffer bytes each;
// 0 means DefaultBuffer.
func Pipe(buffer int) (*Conn, *Conn) {
	if buffer <= 0 {
		buffer = DefaultBuffer
	}
	addr := func(port int) *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }
	return pair(buffer, addr(1), addr(2))
}

func pair(buffer int, a, b *net.TCPAddr) (*Conn, *Conn) {
	ab, ba := newPipe(buffer), newPipe(buffer)
	return &Conn{local: a, remote: b, in: ba, out: ab}, &Conn{local: b, remote: a, in: ab, out: ba}
}

// Conn is one end of a connection in memory; it implements net.Conn.
type Conn struct {
	local, remote *net.TCPAddr
	in, out       *pipe
}

// Read returns what has arrived; it blocks while nothing has.
func (c *Conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write returns once everything lies in the buffer of this direction.
func (c *Conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close ends both directions.
func (c *Conn) Close() error {
	c.in.closeReader()
	c.out.closeWriter()
	return nil
}

// CloseWrite ends the direction to the peer, which reads io.EOF after the rest.
func (c *Conn) CloseWrite() error {
	c.out.closeWriter()
	return nil
}

// LocalAddr returns this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.reading.set(c.in, t)
	c.out.writing.set(c.out, t)
	return nil
}

// SetReadDeadline makes a Read that blocks at t or later return os.ErrDeadlineExceeded.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.reading.set(c.in, t)
	return nil
}

// SetWriteDeadline makes a Write that blocks at t or later return os.ErrDeadlineExceeded.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.writing.set(c.out, t)
	return nil
}

// pipe is one direction.
type pipe struct {
	mu               sync.Mutex
	changed          sync.Cond // any field changed
	buf              []byte    // a ring
	start, n         int
	readEnd, wrote   bool // the reader closed; the writer closed
	reading, writing deadline
}

func newPipe(size int) *pipe {
	p := &pipe{buf: make([]byte, size)}
	p.changed.L = &p.mu
	return p
}

// deadline is guarded by its pipe's lock.
type deadline struct {
	passed bool
	timer  *time.Timer
	turn   int // a timer of an earlier set must not mark this one
}

func (d *deadline) set(p *pipe, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.turn++
	turn := d.turn
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	left := time.Until(t)
	d.passed = !t.IsZero() && left <= 0
	if !t.IsZero() && left > 0 {
		d.timer = time.AfterFunc(left, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if d.turn == turn {
				d.passed = true
				p.changed.Broadcast()
			}
		})
	}
	p.changed.Broadcast()
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readEnd:
			return 0, net.ErrClosed
		case p.reading.passed:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case p.n > 0:
			read := 0
			for read < len(b) && p.n > 0 { // at most twice: up to the ring's end, and from its start
				n := copy(b[read:], p.buf[p.start:min(p.start+p.n, len(p.buf))])
				p.start = (p.start + n) % len(p.buf)
				p.n -= n
				read += n
			}
			p.changed.Broadcast()
			return read, nil
		case p.wrote:
			return 0, io.EOF
		}
		p.changed.Wait()
	}
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := 0
	for {
		switch {
		case p.wrote:
			return written, net.ErrClosed
		case p.readEnd:
			return written, syscall.EPIPE
		case p.writing.passed:
			return written, os.ErrDeadlineExceeded
		case written == len(b):
			return written, nil
		case p.n < len(p.buf):
			end := (p.start + p.n) % len(p.buf)
			n := copy(p.buf[end:min(len(p.buf), end+len(p.buf)-p.n)], b[written:])
			p.n += n
			written += n
			p.changed.Broadcast()
			continue
		}
		p.changed.Wait()
	}
}

func (p *pipe) closeReader() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readEnd = true
	p.reading.stop()
	p.changed.Broadcast()
}

func (p *pipe) closeWriter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrote = true
	p.writing.stop()
	p.changed.Broadcast()
}

func (d *deadline) stop() {
	d.turn++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// PeerGone says that the peer has ended its direction, or the connection, with fewer than
// missing bytes on the way; with missing 0, whatever is on the way.
func (c *Conn) PeerGone(missing int) bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.wrote && (missing == 0 || c.in.n < missing)
}
