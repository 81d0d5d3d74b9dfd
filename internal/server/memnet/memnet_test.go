package memnet

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What goes in comes out, in order, in both directions at once, for any sizes of reads
// and writes around a small ring.
func TestStream(t *testing.T) {
	a, b := Pipe(777)
	var wg sync.WaitGroup
	const total = 1 << 20
	for i, c := range []*Conn{a, b} {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for sent := 0; sent < total; {
				chunk := make([]byte, min(total-sent, rnd.IntN(3000)))
				for j := range chunk {
					chunk[j] = byte((sent + j) * 31 >> 3)
				}
				n, err := c.Write(chunk)
				if err != nil || n != len(chunk) {
					t.Errorf("wrote %d of %d: %v", n, len(chunk), err)
					return
				}
				sent += n
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(2, uint64(i)))
			got := 0
			for {
				buf := make([]byte, 1+rnd.IntN(2000))
				n, err := c.Read(buf)
				for j := range n {
					if buf[j] != byte((got+j)*31>>3) {
						t.Errorf("byte %d is wrong", got+j)
						return
					}
				}
				got += n
				if err != nil {
					if err != io.EOF || got != total {
						t.Errorf("%v after %d bytes", err, got)
					}
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(10)
		begin := time.Now()
		_ = a.SetReadDeadline(begin.Add(time.Second))
		_, err := a.Read(make([]byte, 1))
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() || time.Since(begin) != time.Second {
			t.Errorf("read: %v after %v", err, time.Since(begin))
		}
		// It stays passed until it is moved; bytes that came are not lost.
		_, _ = b.Write([]byte("x"))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read after the deadline: %v", err)
		}
		_ = a.SetReadDeadline(time.Now().Add(time.Hour))
		if n, err := a.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("read with a new deadline: %d, %v", n, err)
		}
		// A deadline set by another goroutine ends a Read that is under way.
		go func() {
			<-time.After(time.Minute)
			_ = a.SetReadDeadline(time.Unix(1, 0))
		}()
		begin = time.Now()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("interrupted: %v after %v", err, time.Since(begin))
		}
		// A write of more than fits stops at its deadline and says how much went out.
		_ = a.SetDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, 15)); n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %d, %v", n, err)
		}
		_ = a.SetDeadline(time.Time{})
		a.Close()
		b.Close()
	})
}

func TestClose(t *testing.T) {
	a, b := Pipe(100)
	_, _ = a.Write([]byte("rest"))
	a.Close()
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read on the closed end: %v", err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write on the closed end: %v", err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to the closed peer: %v", err)
	}
	if got, err := io.ReadAll(b); string(got) != "rest" || err != nil {
		t.Errorf("read from the closed peer: %q, %v", got, err)
	}
	b.Close()
}

func TestListenAndDial(t *testing.T) {
	n := New(0)
	ln, err := n.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if _, err := n.Listen(addr); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	c, err := n.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if s.LocalAddr().String() != addr || s.RemoteAddr().String() != c.LocalAddr().String() || c.RemoteAddr().String() != addr {
		t.Errorf("addresses %v %v %v", s.LocalAddr(), s.RemoteAddr(), c.LocalAddr())
	}
	// Not accepted when the listener closes: the client sees the end.
	waiting, err := n.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if _, err := waiting.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if _, err := n.Dial(t.Context(), "tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial: %v", err)
	}
	if ln, err = n.Listen(addr); err != nil {
		t.Errorf("the address is not free again: %v", err)
	}
	// The backlog is bounded; a dial beyond it waits for its context.
	ctx, cancel := context.WithCancel(t.Context())
	for range backlog {
		if _, err := n.Dial(ctx, "tcp", addr); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if _, err := n.Dial(ctx, "tcp", addr); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial beyond the backlog: %v", err)
	}
	ln.Close()
}
