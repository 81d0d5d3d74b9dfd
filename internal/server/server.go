// Package server turns sockets into requests and answers into bytes, and keeps the
// order that Kafka's clients rely on. It knows frames and request headers; what a
// request means is the wire.Handler's business.
//
// A connection has one goroutine that reads, runs requests and writes the answers
// that are ready; a second one, started when it is first needed, writes what completes
// later. The ordered queue of answers is the only place where they meet:
//
//	socket -> frames -> Handle, Handle, ... Flush -> one write -> socket
//	                       | Parked                      ^
//	                       v                             | reader, at the end of its drain
//	            queue: [ whole | whole | parked | whole ]|
//	                       ^                             | writer, while the reader reads
//	                   Complete (any goroutine)          v
//
// Rules of a connection:
//
//  1. Answers leave in the order of their requests.
//  2. Produce starts unless an earlier request of another kind has no answer yet. Any
//     other request starts only when every earlier one has its answer, and after
//     Handler.Flush if Produce requests ran since the last one. So nothing starts
//     behind a parked request that is not a Produce.
//  3. Only the reader runs requests. While a complete request may not start it waits for
//     the queue; otherwise it stays in Read, so that a disconnect is seen at once and
//     cancels what is parked.
//  4. One drain (everything that one read brought) ends with one Flush and one write. A
//     wait for rule 2 or for a bound ends a drain, too. Its Produce requests begin and end
//     together, as far as the queue is concerned: they are settled behind the Flush.
//  5. Whoever takes the sending token encodes and writes; the other one leaves the
//     queue's head alone. Complete only marks and signals, it never writes or blocks; for a
//     request that is not settled yet it takes no lock.
//  6. A handler that answers some Produce requests at once (wire.AtOnce) gets them before they
//     have a place in the queue, as long as that is empty; they are answered before anything
//     else starts. See atonce.go.
//  7. Every request that was parked either has its answer encoded or is told to
//     Handler.Cancel, never both. Handler.Closed is the last call of a connection.
//
// Bounds: request size, answers waiting in memory, unanswered requests, connections, and
// over all connections the bytes of requests and of answers. At a bound the connection
// stops reading. A peer that takes no byte of an answer for WriteStall is closed, and one
// that leaves a request unfinished for RequestStall.
//
// An answer may leave a part of its bytes where they lie (wire.Stream): they are read and
// written piece by piece, so that its length takes no memory.
//
// Memory: an idle connection keeps its goroutine and a read buffer of 4 KiB. In the
// steady state a request costs no allocation.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
)

// Options configure a Server. The zero value of a field means its default.
type Options struct {
	// Handler serves the requests; required.
	Handler wire.Handler
	// Clock gives Pending.Arrived and the idle times; default model.SystemClock.
	Clock model.Clock
	// Logger gets refused connections and broken ones, at most one line per source
	// address and minute; default slog.Default.
	Logger *slog.Logger
	// Listener is the name in wire.Conn.Listener; default PLAINTEXT.
	Listener string
	// MaxRequestBytes is socket.request.max.bytes; default 100 MiB.
	MaxRequestBytes int
	// FirstFrameBytes bounds the first request of a connection unless Serves knows it;
	// default 512 KiB.
	FirstFrameBytes int
	// Serves says whether the handler serves an API in a version. It is asked about a
	// first request larger than FirstFrameBytes; nil means no.
	Serves func(key, version int16) bool
	// OutputBytes bounds the answers of one connection that are whole but not written;
	// at the bound no further request starts. One answer may exceed it. Default 4 MiB.
	OutputBytes int
	// MaxPending bounds the requests of one connection without a written answer;
	// default 1024.
	MaxPending int
	// Requests and Answers bound the memory of all connections, of this server and of
	// those that share them; default: no limit.
	Requests *Budget
	Answers  *OutputBudget
	// Connections bounds the connections, of this server and of those that share it;
	// default: no limit.
	Connections *ConnLimits
	// IdleTimeout is connections.max.idle.ms; default 10 minutes, negative: never.
	IdleTimeout time.Duration
	// WriteStall is how long a write may take before the connection is closed (it may
	// be closed up to a quarter later); default 60 s.
	WriteStall time.Duration
	// FirstRequest is how long a new connection may take to bring its first request, and
	// RequestStall how long any later one may pause within a request; a large one must
	// bring a part of its bytes in that time. Default 30 s each.
	FirstRequest, RequestStall time.Duration
	// ShutdownGrace is how long a last write may take when the server stops; default 1 s.
	ShutdownGrace time.Duration
}

func (o Options) withDefaults() Options {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	defTime := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	if o.Clock.Boot == nil {
		o.Clock = model.SystemClock()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Listener == "" {
		o.Listener = "PLAINTEXT"
	}
	def(&o.MaxRequestBytes, 100<<20)
	def(&o.FirstFrameBytes, 512<<10)
	def(&o.OutputBytes, 4<<20)
	def(&o.MaxPending, 1024)
	if o.Requests == nil {
		o.Requests = NewBudget(0)
	}
	if o.Answers == nil {
		o.Answers = NewOutputBudget(0)
	}
	if o.Connections == nil {
		o.Connections = NewConnLimits(o.Clock)
	}
	defTime(&o.FirstRequest, 30*time.Second)
	defTime(&o.RequestStall, 30*time.Second)
	defTime(&o.IdleTimeout, 10*time.Minute)
	defTime(&o.WriteStall, time.Minute)
	defTime(&o.ShutdownGrace, time.Second)
	return o
}

func (o *Options) validate() error {
	if o.Handler == nil {
		return errors.New("server: no handler")
	}
	for _, f := range []struct {
		name string
		n    int64
	}{
		{"MaxRequestBytes", int64(o.MaxRequestBytes)},
		{"FirstFrameBytes", int64(o.FirstFrameBytes)},
		{"OutputBytes", int64(o.OutputBytes)},
		{"MaxPending", int64(o.MaxPending)},
		{"FirstRequest", int64(o.FirstRequest)},
		{"RequestStall", int64(o.RequestStall)},
		{"WriteStall", int64(o.WriteStall)},
		{"ShutdownGrace", int64(o.ShutdownGrace)},
	} {
		if f.n < 0 {
			return fmt.Errorf("server: %s is %d", f.name, f.n)
		}
	}
	return nil
}

// Server accepts connections and serves them. One Server may serve several listeners
// of the same name; they share its limits and counters.
type Server struct {
	o      Options
	atOnce wire.AtOnce // the handler, if it is one
	log    *closeLog
	nextID atomic.Uint64
	counts counters

	mu sync.Mutex // guards the sets of connections that Serve keeps
}

// New returns a server; it fails if an option is out of range or the handler missing.
func New(o Options) (*Server, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Server{o: o}
	s.atOnce, _ = o.Handler.(wire.AtOnce)
	s.log = newCloseLog(o.Logger, o.Clock)
	return s, nil
}

// Serve accepts connections from ln until ctx ends or ln fails. Then it closes ln, lets
// every connection that it accepted finish the request at hand and write the answers
// that are ready, closes them all, and returns when all goroutines are gone: nil if
// ctx ended, else the listener's error.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		ln.Close()
	})
	mine := map[*conn]struct{}{} // guarded by s.mu
	var failed error
	delay := time.Duration(0)
	for {
		nc, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			break
		}
		if err != nil {
			if !passing(err) {
				failed = fmt.Errorf("accept on %v: %w", ln.Addr(), err)
				break
			}
			// Too many open files, or a connection that died in the backlog.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.o.Logger.Warn("cannot accept a connection", "listener", s.o.Listener, "error", err, "retry_in", delay)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
			continue
		}
		delay = 0
		c := s.admit(ctx, nc, mine)
		if c == nil {
			continue
		}
		wg.Go(func() {
			c.run()
			s.leave(c, mine)
		})
	}
	stop()
	s.mu.Lock()
	for c := range mine {
		c.shutdown()
	}
	s.mu.Unlock()
	wg.Wait()
	return failed
}

// passing says whether Accept may succeed later.
func passing(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// admit counts a connection in, when its turn has come, or closes it and returns nil.
func (s *Server) admit(ctx context.Context, nc net.Conn, mine map[*conn]struct{}) *conn {
	source := sourceOf(nc.RemoteAddr())
	why, delayed := s.o.Connections.acquire(ctx, s.o.Listener, source, func(limit string) {
		s.log.line("connections wait", "listener "+s.o.Listener, nc.RemoteAddr(), "", &closing{CloseLimit, limit})
	})
	if delayed {
		s.counts.delayed.Add(1)
	}
	if why != nil {
		s.counts.closes[why.reason].Add(1)
		s.log.note(source, nc.RemoteAddr(), "", why)
		nc.Close()
		return nil
	}
	c := newConn(s, nc, source)
	s.mu.Lock()
	mine[c] = struct{}{}
	s.mu.Unlock()
	s.counts.accepted.Add(1)
	s.counts.active.Add(1)
	return c
}

// leave counts a connection out.
func (s *Server) leave(c *conn, mine map[*conn]struct{}) {
	s.o.Connections.release(s.o.Listener, c.source)
	s.mu.Lock()
	delete(mine, c)
	s.mu.Unlock()
	s.counts.active.Add(-1)
}

// sourceOf returns the address without the port.
func sourceOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
