package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/server/memnet"
	"github.com/kalda-io/kalda/internal/wire"
)

// 100,000 requests pipelined by a client that reads nothing: the server stops reading
// with a bounded number of answers in memory, and closes after the stall. The same client,
// if it begins to read in time, gets every answer.
func TestPipelinedWithoutReading(t *testing.T) {
	const n = 100_000
	for _, reads := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Options{OutputBytes: 100 << 10}, 32<<10)
			r.h.pad = 1000
			c := r.dial()
			var sent error
			var sending sync.WaitGroup
			sending.Go(func() {
				var b []byte
				for id := range n {
					b = append(b[:0], request("metadata", id, "done")...)
					if _, sent = c.Write(b); sent != nil {
						return
					}
				}
			})
			<-time.After(59 * time.Second)
			synctest.Wait()
			ran := strings.Count(r.h.take(), "run ")
			// What fits: answers in the client's socket, the answers at the bound, and one drain.
			if limit := (32<<10+2*(100<<10))/1000 + 2; ran == 0 || ran > limit {
				t.Errorf("%d requests ran for a client that reads nothing, want at most %d", ran, limit)
			}
			if reads {
				buf := reading(c)
				for id := range n {
					if got := buf.answer(t); got != id {
						t.Fatalf("answer %d instead of %d", got, id)
					}
				}
				sending.Wait()
				if sent != nil {
					t.Error(sent)
				}
			} else {
				<-time.After(17 * time.Second)
				synctest.Wait()
				if log := r.h.take(); !strings.Contains(log, `class="stalled"`) {
					t.Errorf("not closed after 76 s: %s", log)
				}
				sending.Wait()
				if sent == nil {
					t.Error("the client wrote everything to a connection that is closed")
				}
				if r.s.Stats().Closes[CloseStalled] != 1 {
					t.Error("not counted")
				}
			}
			c.Close()
			r.stop()
		})
	}
}

// A client that takes a large answer slowly is served, however long it takes; stalled
// is only who takes nothing.
func TestSlowReaderIsNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{OutputBytes: 64 << 20}, 64<<10)
		r.h.pad = 12 << 20
		c := r.dial()
		_, _ = c.Write(append(request("produce", 1, "done"), request("produce", 2, "done")...))
		total := 0
		for buf := make([]byte, 50<<10); total < 2*(8+(12<<20)); {
			<-time.After(time.Second)
			n, err := c.Read(buf)
			if err != nil {
				t.Fatalf("after %d bytes: %v", total, err)
			}
			total += n
		}
		c.Close()
		r.stop()
		if st := r.s.Stats(); st.Closes[CloseStalled] != 0 || st.BytesOut != uint64(total) {
			t.Errorf("%+v after %d bytes", st, total)
		}
	})
}

// answerReader reads answers from a connection.
type answerReader struct {
	c   net.Conn
	buf []byte
}

func reading(c net.Conn) *answerReader { return &answerReader{c: c} }

func (r *answerReader) answer(t *testing.T) int {
	for {
		if len(r.buf) >= 8 {
			if size := 4 + int(binary.BigEndian.Uint32(r.buf)); len(r.buf) >= size {
				id := int(binary.BigEndian.Uint32(r.buf[4:]))
				r.buf = r.buf[size:]
				return id
			}
		}
		b := make([]byte, 64<<10)
		n, err := r.c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		r.buf = append(r.buf, b[:n]...)
	}
}

func TestIdleConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: time.Minute, FirstRequest: time.Hour}, 0)
		start := time.Now()
		c := r.dial()
		step := func(at time.Duration) { <-time.After(time.Until(start.Add(at))) }
		open := func() int64 { synctest.Wait(); return r.s.Stats().Active }
		step(50 * time.Second)
		_, _ = c.Write(request("produce", 1, "none")) // unanswered traffic is traffic
		step(109 * time.Second)
		if open() != 1 {
			t.Error("closed 59 s after the last request")
		}
		_, _ = c.Write(request("fetch", 2, "park"))
		step(10 * time.Minute)
		if open() != 1 {
			t.Error("closed although an answer is awaited")
		}
		r.h.complete(2, "")
		step(10*time.Minute + 59*time.Second)
		if open() != 1 {
			t.Error("closed 59 s after the last answer")
		}
		step(12 * time.Minute)
		if open() != 0 || r.s.Stats().Closes[CloseIdle] != 1 {
			t.Errorf("an idle connection stays open: %+v", r.s.Stats())
		}
		c.Close()
		r.stop()
	})
}

// What an idle connection holds: the small buffer, no spare slots, no second goroutine.
func TestIdleConnectionGivesMemoryBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newScripted()
		s, err := New(Options{Handler: h})
		if err != nil {
			t.Fatal(err)
		}
		client, server := memnet.Pipe(0)
		go func() { _, _ = io.Copy(io.Discard, client) }()
		c := newConn(s, server, "test")
		var running sync.WaitGroup
		running.Go(c.run)
		for range 2 { // it comes back after new traffic, too
			for id := range 100 {
				_, _ = client.Write(request("produce", id, "park"+strings.Repeat("x", 10000)))
			}
			synctest.Wait()
			for id := range 100 {
				h.complete(id, "")
			}
			synctest.Wait()
			c.queue.Lock() // the reader takes it between its uses of what is read here
			if len(c.frames.buf) <= startBytes || len(c.queue.spare) == 0 || !c.queue.writer {
				t.Errorf("the load left no traces: buffer %d, %d slots", len(c.frames.buf), len(c.queue.spare))
			}
			c.queue.Unlock()
			<-time.After(30 * time.Second)
			synctest.Wait()
			c.queue.Lock()
			if len(c.frames.buf) != startBytes || c.queue.spare != nil || c.queue.ring != nil || c.send.batch != nil || c.queue.writer {
				t.Errorf("idle: buffer %d, %d slots, ring %d, writer %v", len(c.frames.buf), len(c.queue.spare), len(c.queue.ring), c.queue.writer)
			}
			c.queue.Unlock()
		}
		client.Close()
		running.Wait()
	})
}

func TestIdleConnectionIsSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's shadow memory would be measured")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newScripted()
	s, err := New(Options{Handler: h})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ctx, ln) })
	const n = 300
	conns := make([]net.Conn, n)
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := memory()
	for i := range conns {
		if conns[i], err = net.Dial("tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		_, _ = conns[i].Write(request("metadata", 1, "done"))
		reading(conns[i]).answer(t)
	}
	h.take()
	each := int64(memory()-before) / n // includes the client's end
	t.Logf("%d bytes per connection", each)
	if each > 40<<10 {
		t.Errorf("%d bytes per idle connection, want at most 40 KiB", each)
	}
	cancel()
	serving.Wait()
}

// A client that takes nothing holds up a stop for no longer than the grace.
func TestStopWithStalledClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, 1000)
		r.h.pad = 10000
		reader, writer := r.dial(), r.dial()
		_, _ = reader.Write(request("metadata", 1, "done")) // the reader goroutine hangs in Write
		_, _ = writer.Write(request("fetch", 2, "encode"))
		synctest.Wait()
		r.h.complete(2, "") // here it is the writer goroutine
		synctest.Wait()
		start := time.Now()
		r.stop()
		if d := time.Since(start); d != time.Second {
			t.Errorf("the stop took %v, want the grace of 1 s", d)
		}
		if st := r.s.Stats(); st.Closes[CloseShutdown] != 2 || st.Active != 0 {
			t.Errorf("%+v", st)
		}
		reader.Close()
		writer.Close()
	})
}

// A stop lets answers out that are ready, and cancels the others.
func TestStopUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, 0)
		var clients sync.WaitGroup
		for range 20 {
			c := r.dial()
			clients.Go(func() {
				defer c.Close()
				var reading sync.WaitGroup
				reading.Go(func() { _, _ = io.Copy(io.Discard, c) })
				for id := 0; ; id++ {
					if _, err := c.Write(request("produce", id, []string{"done", "stage", "early"}[id%3])); err != nil {
						break
					}
					<-time.After(time.Millisecond)
				}
				reading.Wait()
			})
		}
		<-time.After(time.Second)
		r.stop()
		clients.Wait()
		if st := r.s.Stats(); st.Active != 0 || st.Closes[CloseShutdown] != 20 {
			t.Errorf("%+v", st)
		}
	})
}

type flakyListener struct {
	net.Listener
	errs []error
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func (l *flakyListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newScripted()
		s, err := New(Options{Handler: h, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		network := memnet.New(0)
		ln, _ := network.Listen("127.0.0.1:1")
		broken := errors.New("broken")
		// Passing errors are waited out; another one ends Serve and closes the listener.
		err = s.Serve(t.Context(), &flakyListener{ln, []error{temporary{errors.New("busy")}, temporary{errors.New("busy")}, broken}})
		if !errors.Is(err, broken) {
			t.Errorf("Serve: %v", err)
		}
		if _, err := network.Dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
			t.Error("the listener is still open")
		}
	})
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Handler: newScripted(), MaxPending: -1}, {Handler: newScripted(), WriteStall: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if got := len(CloseReasons()); got != closeReasons || slices.Contains(names(), "") {
		t.Errorf("%d reasons: %v", got, names())
	}
}

func names() (out []string) {
	for _, r := range CloseReasons() {
		out = append(out, r.String())
	}
	return out
}

// A client id is kept per connection and the header's tags and header version follow
// the API: what the handler sees.
func TestWhatTheHandlerSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []wire.Pending
		var conn wire.Conn
		h := handlerFunc(func(p *wire.Pending) wire.Outcome {
			seen = append(seen, wire.Pending{
				Key: p.Key, Version: p.Version, CorrelationID: p.CorrelationID, ClientID: p.ClientID,
				Arrived: p.Arrived, Body: bytes.Clone(p.Body), State: p.State, Resp: bytes.Clone(p.Resp),
			})
			conn = *p.Conn
			p.State = "mine"
			return wire.Done
		})
		r := newRig(t, Options{Handler: h, Listener: "OUTSIDE"}, 0)
		c := r.dial()
		<-time.After(3 * time.Second)
		_, _ = c.Write(append(request("versions", 5, "body"), request("metadata", 6, "")...))
		synctest.Wait()
		if len(seen) != 2 {
			t.Fatalf("%d requests", len(seen))
		}
		a, b := seen[0], seen[1]
		if a.Key != 18 || a.Version != 3 || a.CorrelationID != 5 || a.ClientID != "me" || string(a.Body) != "body" ||
			a.Arrived != 3*time.Second || a.State != nil || len(a.Resp) != 8 {
			t.Errorf("%+v", a)
		}
		if b.Key != 3 || len(b.Body) != 0 || b.State != nil || b.Arrived != a.Arrived {
			t.Errorf("%+v", b)
		}
		if conn.ID == 0 || conn.Listener != "OUTSIDE" || conn.ClientID != "me" || conn.Local.String() != r.addr || conn.Remote == nil {
			t.Errorf("%+v", conn)
		}
		c.Close()
		r.stop()
	})
}

// handlerFunc is a handler that answers at once.
type handlerFunc func(p *wire.Pending) wire.Outcome

func (f handlerFunc) Handle(p *wire.Pending) wire.Outcome { return f(p) }
func (f handlerFunc) Flush(*wire.Conn)                    {}
func (f handlerFunc) Cancel(*wire.Pending)                {}
func (f handlerFunc) Closed(*wire.Conn)                   {}
