package server

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// maxPlain is the largest read or write that plain makes: copying this much takes the kernel
// some 10 us. Larger ones go the ordinary way.
const maxPlain = 64 << 10

// plain reads from and writes to a socket of the system by calls that Go's scheduler is not
// told of. It may, since they never block: the socket says EAGAIN, and waiting, with the
// deadlines of the net.Conn, is package net's as ever. The scheduler takes a goroutine in
// a system call for one that may be gone for long; its monitor then wakes every 20 us to look
// whether the processor should be given to another, which was a tenth of the broker's
// processor time where requests come one by one.
type plain struct {
	nc   net.Conn
	conn syscall.RawConn
	// One reader and one writer may be at work at once.
	in, out plainCall
}

// plainCall is one Read or Write.
type plainCall struct {
	buf   []byte
	n     int
	errno syscall.Errno
	try   func(fd uintptr) bool
}

// newPlain returns nil if nc is no socket of package net itself: who wraps one may read and
// write otherwise, and has its SyscallConn by embedding.
func newPlain(nc net.Conn) *plain {
	var sc syscall.Conn
	switch nc := nc.(type) {
	case *net.TCPConn:
		sc = nc
	case *net.UnixConn:
		sc = nc
	default:
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	p := &plain{nc: nc, conn: rc}
	p.in.try, p.out.try = p.in.read, p.out.write
	return p
}

// Read implements io.Reader.
func (p *plain) Read(b []byte) (int, error) {
	if len(b) > maxPlain {
		return p.nc.Read(b)
	}
	c := &p.in
	c.buf, c.n, c.errno = b, 0, 0
	err := p.conn.Read(c.try)
	c.buf = nil
	switch {
	case err != nil:
		return 0, err
	case c.errno != 0:
		return 0, os.NewSyscallError("read", c.errno)
	case c.n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return c.n, nil
}

// Write implements io.Writer.
func (p *plain) Write(b []byte) (int, error) {
	if len(b) > maxPlain {
		return p.nc.Write(b)
	}
	c := &p.out
	c.buf, c.n, c.errno = b, 0, 0
	err := p.conn.Write(c.try)
	c.buf = nil
	if err == nil && c.errno != 0 {
		err = os.NewSyscallError("write", c.errno)
	}
	return c.n, err
}

// read says whether it is done; if not the caller waits for the socket.
func (c *plainCall) read(fd uintptr) bool {
	for {
		n, errno := call(syscall.SYS_READ, fd, c.buf)
		switch errno {
		case 0:
			c.n = n
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
			continue
		default:
			c.errno = errno
		}
		return true
	}
}

func (c *plainCall) write(fd uintptr) bool {
	for c.n < len(c.buf) {
		n, errno := call(syscall.SYS_WRITE, fd, c.buf[c.n:])
		switch errno {
		case 0:
			c.n += n
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			c.errno = errno
			return true
		}
	}
	return true
}

func call(trap, fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}
