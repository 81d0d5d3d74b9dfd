package server

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/wire"
)

// A bubble in which requests of every size are accepted at once.
func pressed(t *testing.T, o Options, buffer int, f func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		o.Serves = func(int16, int16) bool { return true }
		if o.Requests == nil {
			o.Requests = NewBudget(1 << 20)
		}
		r := newRig(t, o, buffer)
		f(r)
		r.stop()
		if st := o.Requests.Stats(); st.Held != 0 || st.Waiting != 0 {
			t.Errorf("after the end: %+v", st)
		}
	})
}

// large is a Produce of so many bytes.
func large(id, size int) []byte { return request("produce", id, strings.Repeat("x", size)) }

// Large requests that together exceed the budget, each of which has come by half: all are
// answered in the end, small requests of others are served meanwhile, and nothing stays
// held.
func TestLargeRequestsShareTheBudget(t *testing.T) {
	const size, clients = 700 << 10, 4
	pressed(t, Options{}, 16<<10, func(r *rig) {
		r.h.pad = 10
		small := r.dial()
		var wg sync.WaitGroup
		var conns []net.Conn
		for i := range clients {
			c := r.dial()
			conns = append(conns, c)
			b := large(i, size)
			wg.Go(func() {
				_, _ = c.Write(b[:size/2])
				<-time.After(5 * time.Second)
				if _, err := c.Write(b[size/2:]); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			})
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		st := r.s.o.Requests.Stats()
		if st.Waiting == 0 || st.Held > 1<<20+2*size {
			t.Errorf("by half: %+v", st)
		}
		if !served(t, small) {
			t.Error("a small request is not served while large ones wait")
		}
		wg.Wait()
		synctest.Wait()
		for i := range clients { // they are parked: their requests are not "done"
			r.h.complete(i, "")
			if got := reading(conns[i]).answer(t); got != i {
				t.Errorf("answer %d instead of %d", got, i)
			}
			conns[i].Close()
		}
		small.Close()
	})
}

// The buffers of connections that have done with their large request are not kept when
// memory is short.
func TestKeptBuffersGoUnderPressure(t *testing.T) {
	pressed(t, Options{}, 0, func(r *rig) {
		var conns []net.Conn
		for i := range 10 {
			c := r.dial()
			conns = append(conns, c)
			_, _ = c.Write(large(i, 300<<10))
			synctest.Wait()
		}
		if st := r.s.o.Requests.Stats(); st.Held == 0 || st.Held > 1<<20 || st.Waits > 0 {
			t.Errorf("%+v", st)
		}
		for i, c := range conns {
			r.h.complete(i, "")
			c.Close()
		}
		synctest.Wait()
	})
}

// A connection that waits for the budget still writes answers that complete, and notices
// that its client is gone, or that the server stops.
func TestWaitingForTheBudget(t *testing.T) {
	for _, end := range []string{"granted", "client", "stop"} {
		pressed(t, Options{}, 1<<20, func(r *rig) {
			a := r.s.o.Requests
			hog := newAccount(a)
			hog.tryTake(1 << 20)
			c := r.dial()
			_, _ = c.Write(request("produce", 1, "encode"))
			b := large(2, 200<<10)
			_, _ = c.Write(b[:150<<10])
			synctest.Wait()
			if a.Stats().Waiting != 1 {
				t.Fatalf("%+v", a.Stats())
			}
			r.h.complete(1, "")
			if got := reading(c).answer(t); got != 1 {
				t.Errorf("answer %d", got)
			}
			switch end {
			case "granted":
				hog.close()
				_, _ = c.Write(b[150<<10:])
				synctest.Wait()
				if log := r.h.take(); !strings.Contains(log, "run 2") {
					t.Errorf("the request does not run: %s", log)
				}
				r.h.complete(2, "")
				c.Close()
			case "client":
				c.Close()
				<-time.After(2 * time.Second)
				synctest.Wait()
				if st := r.s.Stats(); st.Active != 0 || st.Closes[CloseByClient] != 1 || a.Stats().Waiting != 0 {
					t.Errorf("%+v", st)
				}
			case "stop":
				start := time.Now()
				r.stop()
				if d := time.Since(start); d > time.Second || r.s.Stats().Closes[CloseShutdown] != 1 {
					t.Errorf("the stop took %v, %+v", d, r.s.Stats())
				}
				c.Close()
			}
			hog.close()
			if end == "stop" {
				r.stop = func() {}
			}
		})
	}
}

// A client that closed its sending direction after a whole request waits for its answer,
// also when the request first waits for the budget.
func TestHalfClosedWhileWaiting(t *testing.T) {
	pressed(t, Options{}, 1<<20, func(r *rig) {
		hog := newAccount(r.s.o.Requests)
		hog.tryTake(1 << 20)
		c := r.dial()
		_, _ = c.Write(large(1, 200<<10))
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		<-time.After(5 * time.Second)
		synctest.Wait()
		hog.close()
		synctest.Wait()
		if log := r.h.take(); !strings.Contains(log, "run 1") {
			t.Errorf("the request does not run: %s", log)
		}
		c.Close()
	})
}

// reserving is a handler whose requests take memory when they are decoded.
type reserving struct {
	*scripted
	bytes int
}

func (h *reserving) Handle(p *wire.Pending) wire.Outcome {
	if err := p.Reserve(h.bytes); err != nil {
		p.CloseReason = err.Error()
		return wire.CloseConn
	}
	return h.scripted.Handle(p)
}

// What a decoded request takes is held until its answer is encoded.
func TestDecodedRequestsAreHeld(t *testing.T) {
	h := &reserving{newScripted(), 300 << 10}
	pressed(t, Options{Handler: h}, 0, func(r *rig) {
		var conns []net.Conn
		for i := range 5 {
			c := r.dial()
			conns = append(conns, c)
			_, _ = c.Write(request("fetch", i, "park"))
			synctest.Wait()
		}
		// The third one goes beyond half, so a fourth is one too many.
		if st := r.s.o.Requests.Stats(); st.Held != 900<<10 || st.Waiting != 2 {
			t.Errorf("%+v", st)
		}
		h.complete(0, "")
		synctest.Wait()
		if st := r.s.o.Requests.Stats(); st.Held != 900<<10 || st.Waiting != 1 {
			t.Errorf("after the first answer: %+v", st)
		}
		conns[4].Close()
		<-time.After(2 * time.Second)
		synctest.Wait()
		if st := r.s.Stats(); st.Active != 4 || st.Closes[CloseByClient] != 1 || r.s.o.Requests.Stats().Waiting != 0 {
			t.Errorf("after one that waited is gone: %+v", st)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

// Who brings no request, or not the end of one, is closed; a slow but steady client is not.
func TestSlowRequests(t *testing.T) {
	trickle := func(c net.Conn, b []byte, n int, every time.Duration) {
		for len(b) > 0 {
			k := min(n, len(b))
			if _, err := c.Write(b[:k]); err != nil {
				return
			}
			b = b[k:]
			<-time.After(every)
		}
	}
	half := large(1, 2000)[:1000]
	for _, tc := range []struct {
		name  string
		do    func(c net.Conn)
		why   CloseReason // 0: served
		after time.Duration
		log   string
	}{
		{"nothing", func(net.Conn) {}, CloseNoRequest, 30 * time.Second, "kalda.connections.first.request.ms=30000"},
		{"half a header", func(c net.Conn) { _, _ = c.Write(half[:7]) }, CloseSlowRequest, 30 * time.Second, "kalda.connections.first.request.ms=30000"},
		{"half a request", func(c net.Conn) { _, _ = c.Write(half) }, CloseSlowRequest, 30 * time.Second, "brought 1000 bytes"},
		{"a byte a second", func(c net.Conn) { trickle(c, large(1, 9000), 1, time.Second) }, CloseSlowRequest, 30 * time.Second, "kalda.connections.first.request.ms"},
		{"half of a second one", func(c net.Conn) {
			_, _ = c.Write(append(request("produce", 0, "none"), half...))
		}, CloseSlowRequest, 30 * time.Second, "kalda.connections.request.stall.ms=20000"},
		{"a large one that stops", func(c net.Conn) { trickle(c, large(1, 600<<10)[:400<<10], 20<<10, time.Second) }, CloseSlowRequest, 80 * time.Second, "fewer than 65536"},
		{"a small one, slowly", func(c net.Conn) { trickle(c, large(1, 9000), 300, time.Second) }, 0, 40 * time.Second, ""},
		{"a large one, slowly", func(c net.Conn) { trickle(c, large(1, 600<<10), 3<<10, time.Second) }, 0, 210 * time.Second, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pressed(t, Options{IdleTimeout: time.Hour, RequestStall: 20 * time.Second}, 0, func(r *rig) {
				other := r.dialReading()
				_, _ = other.Write(request("produce", 9, "none"))
				c := r.dialReading()
				var doing sync.WaitGroup
				doing.Go(func() { tc.do(c) })
				<-time.After(tc.after + 2*time.Second)
				synctest.Wait()
				log, st := r.h.take(), r.s.Stats()
				switch {
				case tc.why == 0 && (st.Active != 2 || !strings.Contains(log, "run 1")):
					t.Errorf("not served: %s", log)
				case tc.why != 0 && (st.Active != 1 || st.Closes[tc.why] != 1 || !strings.Contains(log, tc.log) || strings.Contains(log, "run 1\n")):
					t.Errorf("%+v\n%s", st, log)
				}
				other.Close()
				c.Close()
				doing.Wait()
			})
		})
	}
}

// Between requests a connection may pause as long as it likes, and while the server makes
// it wait, too.
func TestPausesThatAreNoStalls(t *testing.T) {
	pressed(t, Options{IdleTimeout: -1, OutputBytes: 100}, 2000, func(r *rig) {
		r.h.pad = 10000
		c := r.dial()
		_, _ = c.Write(request("metadata", 1, "done")) // its answer does not fit in the socket
		_, _ = c.Write(append(request("metadata", 2, "done"), large(3, 5000)[:100]...))
		<-time.After(55 * time.Second) // the reader waits for the client to read
		buf := reading(c)
		for id := 1; id <= 2; id++ {
			if got := buf.answer(t); got != id {
				t.Errorf("answer %d", got)
			}
		}
		_, _ = c.Write(large(3, 5000)[100:])
		synctest.Wait()
		if log := r.h.take(); !strings.Contains(log, "run 3") {
			t.Errorf("%s", log)
		}
		r.h.complete(3, "")
		<-time.After(24 * time.Hour)
		synctest.Wait()
		if r.s.Stats().Active != 1 {
			t.Error("closed between requests")
		}
		c.Close()
	})
}

// A connection that holds memory for which others wait must bring its bytes faster.
func TestStalledHolderIsClosedUnderPressure(t *testing.T) {
	pressed(t, Options{}, 0, func(r *rig) {
		var conns []net.Conn
		var sending sync.WaitGroup
		for i := range 3 {
			c := r.dialReading()
			conns = append(conns, c)
			b := large(i, 3<<20)
			sending.Go(func() {
				for len(b) > 0 { // half a MiB at once, then 5 KiB each second
					n := min(5<<10, len(b))
					if len(b) > 5<<19 {
						n = 1 << 19
					}
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
					b = b[n:]
					<-time.After(time.Second)
				}
			})
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		if st := r.s.o.Requests.Stats(); st.Waiting == 0 {
			t.Errorf("%+v", st)
		}
		quick := r.dialReading() // an honest one comes in between
		go func() { _, _ = quick.Write(large(9, 600<<10)) }()
		<-time.After(40 * time.Second)
		synctest.Wait()
		log := r.h.take()
		if !strings.Contains(log, "run 9") || !strings.Contains(log, "queued.max.request.bytes") {
			t.Errorf("%s", log)
		}
		for _, c := range append(conns, quick) {
			c.Close()
		}
		sending.Wait()
	})
}

// Answers that clients do not read: all connections together hold no more than the
// budget, and others are served.
func TestUnreadAnswersAreBoundedInTotal(t *testing.T) {
	out := NewOutputBudget(1 << 20)
	pressed(t, Options{Answers: out}, 4<<10, func(r *rig) {
		r.h.pad = 20 << 10
		const clients = 20
		var conns []net.Conn
		for range clients {
			c := r.dial()
			conns = append(conns, c)
			go func() {
				for id := range 100 {
					if _, err := c.Write(request("produce", id, "early")); err != nil {
						return
					}
				}
			}()
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		_, held := out.Stats()
		if max := int64(1<<20 + clients*(outputStep+64<<10)); held < 1<<20 || held > max {
			t.Errorf("%d bytes held, want at most %d", held, max)
		}
		good := r.dial()
		for id := range 10 {
			_, _ = good.Write(request("metadata", id, "done"))
			if got := reading(good).answer(t); got != id {
				t.Errorf("answer %d", got)
			}
		}
		good.Close()
		<-time.After(80 * time.Second)
		synctest.Wait()
		if st := r.s.Stats(); st.Closes[CloseStalled] != clients {
			t.Errorf("%d of %d are closed for not reading", st.Closes[CloseStalled], clients)
		}
		if _, held := out.Stats(); held != 0 {
			t.Errorf("%d bytes held in the end", held)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

// HTTP and TLS bytes on real sockets: closed at once, the log says why, others go on.
func TestOtherProtocolsOnLoopback(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, h: newScripted(), addr: ln.Addr().String()}
	r.stop = r.serve(Options{}, ln)
	good, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, first := range [][]byte{
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3},
		bytes.Repeat([]byte{0xff}, 100),
		{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8},
	} {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(first)
		if got, err := io.ReadAll(c); len(got) != 0 || err != nil {
			t.Errorf("%q is answered %q, %v", first, got, err)
		}
		c.Close()
		if !served2(t, good) {
			t.Fatal("another connection is not served")
		}
	}
	good.Close()
	r.stop()
	st := r.s.Stats()
	if st.Closes[CloseHTTP] != 1 || st.Closes[CloseTLS] != 1 || st.Closes[CloseBadFrame] != 2 {
		t.Errorf("%v", st.Closes)
	}
	// Which of them has the line is open: a client may be back before its last end is logged.
	if log := r.h.take(); strings.Count(log, "connection closed") != 1 {
		t.Errorf("want one line for this source and minute: %s", log)
	}
}

// served2 asks on a real socket and waits for the answer.
func served2(t *testing.T, c net.Conn) bool {
	t.Helper()
	_, err := c.Write(request("metadata", 7, "done"))
	return err == nil && reading(c).answer(t) == 7
}
