package server

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/wire"
)

// takes is a rig whose handler answers at once, with pad bytes each, over a network that
// holds so many bytes.
func takes(t *testing.T, o Options, pad, buffer int) *rig {
	h := newScripted()
	h.pad = pad
	o.Handler = &atOnce{scripted: h}
	return newRigOf(t, h, o, buffer)
}

// manyTakes are n requests; some 170 fit in the first read buffer.
func manyTakes(n int) (b []byte) {
	for i := range n {
		b = append(b, request("produce", i+1, "take")...)
	}
	return b
}

// A drain with more requests than are taken at a time is answered in parts.
func TestTakenRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := takes(t, Options{}, 0, 1<<20)
		c := r.dialReading()
		_, _ = c.Write(manyTakes(150))
		synctest.Wait()
		most, all := 0, 0
		for line := range strings.Lines(r.h.take()) {
			if rest, ok := strings.CutPrefix(line, "answer "); ok {
				n := len(strings.Fields(rest))
				most, all = max(most, n), all+n
			}
		}
		if most != maxTaken || all != 150 {
			t.Fatalf("%d answered, at most %d at a time; want 150 and %d", all, most, maxTaken)
		}
		c.Close()
		r.stop()
	})
}

// After a write that failed, no further request of the drain runs, and none after a stop: the
// client that cannot be told sends them again.
func TestNothingIsTakenForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := takes(t, Options{WriteStall: 10 * time.Second}, 100, 4000)
		c := r.dial()
		_, _ = c.Write(manyTakes(150))
		<-time.After(20 * time.Second) // the client reads nothing
		synctest.Wait()
		out := r.h.take()
		if strings.Contains(out, "take 65") || strings.Contains(out, "run ") || !strings.Contains(out, `class="stalled"`) {
			t.Fatalf("a connection that takes no answers:\n%s", out)
		}
		c.Close()
		r.stop()

		r = takes(t, Options{ShutdownGrace: time.Second}, 100, 4000)
		c = r.dial()
		_, _ = c.Write(manyTakes(150))
		synctest.Wait() // the first part hangs in its write
		stopped := make(chan struct{})
		go func() { r.stop(); close(stopped) }()
		synctest.Wait()
		go func() { _, _ = io.Copy(io.Discard, c) }() // and gets through
		<-stopped
		if out := r.h.take(); strings.Contains(out, "take 65") || strings.Contains(out, "run ") {
			t.Fatalf("a server that stops:\n%s", out)
		}
		c.Close()
	})
}

// Taken requests are requests like others to whoever counts.
func TestTakenRequestsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := takes(t, Options{}, 8, 1<<20)
		c := r.dial()
		_, _ = c.Write(manyTakes(3))
		sameIDs(t, readIDs(t, c, 3), 1, 2, 3)
		c.Close()
		r.stop()
		if st := r.s.Stats(); st.Requests != 3 || st.BytesOut != 3*(8+8) {
			t.Fatalf("%+v", st)
		}
	})
}

// seesHandle calls see for each request that goes through Handle.
type seesHandle struct {
	*atOnce
	see func()
}

func (h *seesHandle) Handle(*wire.Pending) wire.Outcome { h.see(); return wire.Done }

// While another request lies in the read buffer its memory stays accounted for, though those
// before it are answered and memory is short.
func TestReadBufferCountsToTheEnd(t *testing.T) {
	h := &seesHandle{atOnce: &atOnce{scripted: newScripted()}}
	r := newRigOf(t, h.scripted, Options{Handler: h, Requests: NewBudget(1536 << 10)}, 1<<20)
	defer r.stop()
	client, end := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, client) }()
	c := newConn(r.s, end, "test")
	if !c.mem.tryTake(1<<20 - aheadBytes) {
		t.Fatal("no memory")
	}
	c.frames.buf, c.frames.allowed = make([]byte, 1<<20), 1<<20
	c.frames.filled(copy(c.frames.buf, append(request("produce", 1, "take"), request("metadata", 2, "done")...)))
	c.clear = true
	seen := false
	h.see = func() { seen = c.mem.holds() > 0 }
	if why := c.drain(); why != nil || !seen {
		t.Errorf("%v; the buffer of a request that runs is accounted for: %v", why, seen)
	}
	if n := c.mem.holds(); n != 0 {
		t.Errorf("%d bytes held after the drain, though memory is short", n)
	}
	end.Close()
}
