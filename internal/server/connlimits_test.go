package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

// limited runs f with a server under limits.
func limited(t *testing.T, o ConnOptions, f func(r *rig, l *ConnLimits)) {
	synctest.Test(t, func(t *testing.T) {
		l := NewConnLimits(model.Clock{})
		l.Set(o)
		r := newRig(t, Options{Connections: l}, 0)
		f(r, l)
		r.stop()
		if l.Open() != 0 || len(l.perIP) != 0 {
			t.Errorf("%d connections of %d addresses are counted after the end", l.Open(), len(l.perIP))
		}
	})
}

// served says whether a connection gets an answer to a request without further ado.
func served(t *testing.T, c net.Conn) bool {
	t.Helper()
	if _, err := c.Write(request("metadata", 7, "done")); err != nil {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, _ := c.Read(make([]byte, 100))
	return n > 0
}

// Beyond max.connections a client waits until another one leaves; nobody else notices.
func TestMaxConnectionsWait(t *testing.T) {
	for name, o := range map[string]ConnOptions{
		"max.connections=2 reached":                       {Max: 2, PerIP: -1, Rate: -1},
		"max.connections=2 of listener PLAINTEXT reached": {Max: -1, PerIP: -1, Rate: -1, MaxListener: map[string]int{"PLAINTEXT": 2}},
	} {
		limited(t, o, func(r *rig, l *ConnLimits) {
			a, b, c := r.dial(), r.dial(), r.dial()
			synctest.Wait()
			if served(t, c) || !served(t, a) || !served(t, b) {
				t.Error("the third connection is served, or one of the first two is not")
			}
			if log := r.h.take(); strings.Count(log, name) != 1 {
				t.Errorf("the log does not say %q once: %s", name, log)
			}
			a.Close()
			synctest.Wait()
			if !served(t, c) {
				t.Error("a place is free and the third connection is not served")
			}
			d := r.dial()
			synctest.Wait()
			if served(t, d) {
				t.Error("the fourth is served beside two others")
			}
			raised := o
			raised.Max, raised.MaxListener = 3, nil
			l.Set(raised)
			synctest.Wait()
			if !served(t, d) {
				t.Error("the limit was raised and the fourth is not served")
			}
			if st := r.s.Stats(); st.Active != 3 || st.Delayed != 2 || st.Accepted != 4 {
				t.Errorf("%+v", st)
			}
			for _, x := range []net.Conn{b, c, d} {
				x.Close()
			}
		})
	}
}

// A server that stops does not wait for the connection that waits.
func TestStopWhileAConnectionWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewConnLimits(model.Clock{})
		l.Set(ConnOptions{Max: 0, PerIP: -1, Rate: -1})
		r := newRig(t, Options{Connections: l}, 0)
		r.dialReading()
		synctest.Wait()
		start := time.Now()
		r.stop()
		if d := time.Since(start); d != 0 || r.s.Stats().Closes[CloseShutdown] != 1 {
			t.Errorf("the stop took %v; %+v", d, r.s.Stats())
		}
	})
}

// An address with all connections that it may have gets no more; they are closed at once.
func TestMaxConnectionsPerIP(t *testing.T) {
	for _, o := range []ConnOptions{
		{Max: -1, Rate: -1, PerIP: 2},
		{Max: -1, Rate: -1, PerIP: 0, Overrides: map[string]int{"127.0.0.1": 2}},
		// Where both hold, the address is told at once.
		{Max: 2, Rate: -1, PerIP: 2},
	} {
		limited(t, o, func(r *rig, l *ConnLimits) {
			a, b, c := r.dial(), r.dial(), r.dial()
			synctest.Wait()
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the third connection got %v, want EOF", err)
			}
			if st := r.s.Stats(); st.Active != 2 || st.Closes[CloseLimit] != 1 {
				t.Errorf("%+v", st)
			}
			want := "max.connections.per.ip=2 reached by 127.0.0.1"
			if o.Overrides != nil {
				want = "max.connections.per.ip.overrides=2 reached by 127.0.0.1"
			}
			r.dial().Close() // no second line within the minute
			synctest.Wait()
			if log := r.h.take(); strings.Count(log, want) != 1 {
				t.Errorf("the log does not say %q once: %s", want, log)
			}
			a.Close()
			synctest.Wait()
			d := r.dial()
			if !served(t, d) {
				t.Error("a place is free and the connection is not served")
			}
			l.Set(ConnOptions{Max: -1, PerIP: 0, Rate: -1, Overrides: map[string]int{"10.0.0.1": 9}})
			if !served(t, b) || !served(t, d) {
				t.Error("open connections do not outlive a lower limit")
			}
			for _, x := range []net.Conn{b, c, d} {
				x.Close()
			}
		})
	}
}

// New connections come at max.connection.creation.rate; a second's worth may come at once.
func TestConnectionRate(t *testing.T) {
	for name, o := range map[string]ConnOptions{
		"creation.rate=10 per second":                       {Max: -1, PerIP: -1, Rate: 10},
		"creation.rate=10 per second of listener PLAINTEXT": {Max: -1, PerIP: -1, Rate: -1, RateListener: map[string]int{"PLAINTEXT": 10}},
	} {
		limited(t, o, func(r *rig, l *ConnLimits) {
			<-time.After(time.Hour)
			var all []net.Conn
			for range 40 {
				all = append(all, r.dial())
			}
			first := all[0]
			accepted := func() int { synctest.Wait(); return int(r.s.Stats().Accepted) }
			if n := accepted(); n < 10 || n > 11 {
				t.Errorf("%d at once, want 10", n)
			}
			for i := 1; i <= 2; i++ {
				<-time.After(time.Second)
				if n := accepted(); n < 10+10*i || n > 11+10*i {
					t.Errorf("%d after %d s", n, i)
				}
				if !served(t, first) {
					t.Error("an open connection is not served while others wait")
				}
			}
			if log := r.h.take(); strings.Count(log, name) != 1 {
				t.Errorf("the log does not say %q once: %s", name, log)
			}
			l.Set(ConnOptions{Max: -1, PerIP: -1, Rate: -1})
			if n := accepted(); n != 40 {
				t.Errorf("%d without a limit", n)
			}
			for _, c := range all {
				c.Close()
			}
		})
	}
	var p pace
	if p.wait(0, 0) >= 0 {
		t.Error("a rate of 0 lets a connection in")
	}
}

// Several servers share one count, as the listeners of a broker do.
func TestListenersShareLimits(t *testing.T) {
	l := NewConnLimits(model.Clock{})
	l.Set(ConnOptions{Max: 2, PerIP: -1, Rate: -1, MaxListener: map[string]int{"B": 1}})
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // who would wait is refused
	in := func(listener string) bool {
		why, _ := l.acquire(ctx, listener, "1.2.3.4", func(string) {})
		return why == nil
	}
	got := fmt.Sprint(in("B"), in("B"), in("A"), in("A"))
	l.release("B", "1.2.3.4")
	got += fmt.Sprint(" ", in("A"), in("B"))
	if got != "true false true false true false" {
		t.Error(got)
	}
}

// A flood on real sockets: beyond the address's limit connections are closed, and one that
// is open goes on being served.
func TestFloodOnLoopback(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewConnLimits(model.Clock{})
	l.Set(ConnOptions{Max: -1, PerIP: 20, Rate: -1})
	r := &rig{t: t, h: newScripted(), addr: ln.Addr().String()}
	r.stop = r.serve(Options{Connections: l}, ln)
	good, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	var flood sync.WaitGroup
	for range 4 {
		flood.Go(func() {
			for range 250 {
				if c, err := net.Dial("tcp", r.addr); err == nil {
					defer c.Close()
				}
			}
		})
	}
	buf := reading(good)
	for id := range 500 {
		if _, err := good.Write(request("metadata", id, "done")); err != nil {
			t.Fatal(err)
		}
		if got := buf.answer(t); got != id {
			t.Fatalf("answer %d, want %d", got, id)
		}
	}
	flood.Wait()
	good.Close()
	r.stop()
	st := r.s.Stats()
	if st.Closes[CloseLimit] < 900 || st.Accepted > 100 || st.Active != 0 {
		t.Errorf("%+v", st)
	}
	if n := strings.Count(r.h.take(), "max.connections.per.ip"); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
}
