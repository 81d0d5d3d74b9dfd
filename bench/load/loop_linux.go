package load

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// loop sends small requests over many connections from one thread: it waits for all their
// sockets at once, and a request costs the generator little more than its two system
// calls. A goroutine for each connection would cost half as much again, of processor time
// that the broker under test shares.
type loop struct {
	poll   int // the epoll descriptor
	conns  []*looped
	open   int // connections that still send or wait
	budget *budget
}

// looped is a connection of a loop.
type looped struct {
	*connection
	index  int // in loop.conns
	fd     int
	sentAt []time.Time // of request i at i modulo its length
	begun  int         // requests sent, or waiting in rest
	over   int         // requests answered
	rest   []byte      // of out, what the socket did not take yet
	full   bool        // the socket will say when it takes more
	t      *tally
}

// loops says whether a loop may run these requests: all that one connection has
// outstanding goes into one write.
func loops(o *Options, frame int) bool {
	return !o.Fetch && o.Acks != 0 && frame*o.Outstanding <= packBytes
}

// runLoop produces over conns until the budget is used up.
func runLoop(conns []*connection, b *budget, tallies []tally) (err error) {
	l := &loop{budget: b}
	if l.poll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	defer syscall.Close(l.poll)
	for i, c := range conns {
		fd, err := detach(c)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		l.conns = append(l.conns, &looped{connection: c, index: i, fd: fd, sentAt: make([]time.Time, c.o.Outstanding), t: &tallies[i]})
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}
		if err := syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	now := time.Now()
	for _, c := range l.conns {
		if err := l.send(c, now); err != nil {
			return err
		}
		if c.over < c.begun {
			l.open++
		}
	}
	return l.run()
}

// detach takes the connection's socket out of the hands of package net, whose own poller
// would be woken by it as well.
func detach(c *connection) (fd int, err error) {
	raw, err := c.nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	if cerr := raw.Control(func(of uintptr) { fd, err = syscall.Dup(int(of)) }); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, fmt.Errorf("dup: %w", err)
	}
	return fd, errors.Join(c.nc.Close(), syscall.SetNonblock(fd, true))
}

func (l *loop) run() error {
	events := make([]syscall.EpollEvent, 128)
	heard := time.Now()
	for l.open > 0 {
		n, err := syscall.EpollWait(l.poll, events, 1000)
		if err != nil && err != syscall.EINTR {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		now := time.Now()
		if n <= 0 {
			if now.Sub(heard) > answerTimeout {
				return fmt.Errorf("no answer for %v", answerTimeout)
			}
			continue
		}
		heard = now
		for _, e := range events[:n] {
			c := l.conns[e.Fd]
			if e.Events&syscall.EPOLLOUT != 0 {
				if err := l.flush(c); err != nil {
					return err
				}
			}
			if e.Events&^syscall.EPOLLOUT == 0 {
				continue
			}
			if err := l.receive(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// receive takes what answers there are and sends as many requests.
func (l *loop) receive(c *looped) error {
	if c.r > 0 {
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	n, err := syscall.Read(c.fd, c.in[c.w:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return errors.New("the broker closed a connection")
	}
	c.w += n
	now := time.Now()
	for a, ok := c.answer(); ok; a, ok = c.answer() {
		if err := checkProduced(a); err != nil {
			return err
		}
		c.t.latency.record(int64(now.Sub(c.sentAt[c.over%len(c.sentAt)])), 1)
		c.over++
		c.count(c.t, 1)
	}
	if c.w-c.r == len(c.in) {
		return fmt.Errorf("an answer is larger than %d bytes", len(c.in))
	}
	if err := l.send(c, now); err != nil {
		return err
	}
	if c.over == c.begun {
		l.open--
	}
	return nil
}

// send fills up what is outstanding.
func (l *loop) send(c *looped, now time.Time) error {
	n := l.budget.take(c.o.Outstanding-(c.begun-c.over), int64(len(c.frames[c.next])), now)
	if n <= 0 {
		return nil
	}
	c.out = append(c.out[:0], c.rest...)
	for range n {
		c.out = append(c.out, c.frame()...)
		c.sentAt[c.begun%len(c.sentAt)] = now
		c.begun++
	}
	c.rest = c.out
	if c.full {
		return nil // the socket will say when
	}
	return l.flush(c)
}

// flush writes what the socket takes, and asks to be told when it takes more.
func (l *loop) flush(c *looped) error {
	n, err := syscall.Write(c.fd, c.rest)
	if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
		return fmt.Errorf("write: %w", err)
	}
	c.rest = c.rest[max(n, 0):]
	if full := len(c.rest) > 0; full != c.full {
		c.full = full
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.index)}
		if full {
			event.Events |= syscall.EPOLLOUT
		}
		if err := syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_MOD, c.fd, &event); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return nil
}
