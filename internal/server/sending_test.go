package server

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/server/memnet"
	"github.com/kalda-io/kalda/internal/wire"
)

// readIDs reads n answers and returns their ids.
func readIDs(t *testing.T, c net.Conn, n int) (ids []int) {
	r := reading(c)
	for range n {
		ids = append(ids, r.answer(t))
	}
	return ids
}

func sameIDs(t *testing.T, got []int, want ...int) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("answers %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("answers %v, want %v", got, want)
		}
	}
}

// An answer that completes while the reader is busy writing is sent afterwards.
func TestCompletedWhileTheReaderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, 500)
		r.h.pad = 1000
		c := r.dial()
		_, _ = c.Write(append(request("produce", 1, "done"), request("produce", 2, "park")...))
		synctest.Wait() // the reader hangs in its write of 1
		r.h.complete(2, "")
		sameIDs(t, readIDs(t, c, 2), 1, 2)
		c.Close()
		r.stop()
	})
}

// A reader that waits for a bound goes on when the writer has written.
func TestReaderGoesOnAfterTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{OutputBytes: 900}, 500)
		r.h.pad = 1000
		c := r.dial()
		_, _ = c.Write(request("produce", 1, "encode"))
		synctest.Wait()
		r.h.complete(1, "") // the writer hangs in its write
		synctest.Wait()
		r.h.take()
		_, _ = c.Write(request("produce", 2, "done"))
		synctest.Wait()
		if got := r.h.take(); got != "nothing\n" {
			t.Errorf("beyond the bound: %s", got)
		}
		sameIDs(t, readIDs(t, c, 2), 1, 2)
		c.Close()
		r.stop()
	})
}

// blocking is a handler whose Encode waits for the test.
type blocking struct {
	*scripted
	encode chan struct{}
}

func (h *blocking) Handle(p *wire.Pending) wire.Outcome {
	out := h.scripted.Handle(p)
	if p.Encode != nil {
		p.Encode = h
	}
	return out
}

func (h *blocking) EncodeAnswer(p *wire.Pending) {
	<-h.encode
	h.scripted.EncodeAnswer(p)
}

// The next request need not wait until an answer is written, only until it is encoded.
func TestNextRequestStartsOnceEncoded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &blocking{newScripted(), make(chan struct{})}
		r := newRig(t, Options{Handler: h}, 500)
		h.pad = 1000
		c := r.dial()
		_, _ = c.Write(request("fetch", 1, "encode"))
		synctest.Wait()
		h.complete(1, "")
		synctest.Wait() // the writer hangs in EncodeAnswer
		h.take()
		_, _ = c.Write(request("metadata", 2, "done"))
		synctest.Wait()
		if got := h.take(); got != "nothing\n" {
			t.Errorf("before the answer is encoded: %s", got)
		}
		h.encode <- struct{}{}
		synctest.Wait()
		if got := h.take(); !strings.Contains(got, "run 2") {
			t.Errorf("encoded, but stuck in the socket: %s", got)
		}
		sameIDs(t, readIDs(t, c, 2), 1, 2)
		c.Close()
		r.stop()
	})
}

// A write that fails in the middle of several answers: those that were not encoded are
// cancelled, each once; those that were are not.
func TestCancelAfterFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{OutputBytes: 900}, 500)
		r.h.pad = 1000
		c := r.dial()
		for id := 1; id <= 4; id++ {
			_, _ = c.Write(request("produce", id, "encode"))
		}
		synctest.Wait()
		r.h.take()
		r.h.complete(3, "")
		r.h.complete(2, "")
		r.h.complete(1, "")
		synctest.Wait() // 1 is encoded and hangs in its write
		c.Close()
		synctest.Wait()
		// (The tap notes a write when it returns to it whole answers, so before the failure.)
		if got := r.h.take(); got != "encode 1\nwrite [1]\ncancel 2\ncancel 3\ncancel 4\nclosed\n" {
			t.Errorf("%s", got)
		}
		r.stop()
	})
}

// The writer's stalled write ends a connection whose reader sits in Read.
func TestStalledWriterEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, 500)
		r.h.pad = 1000
		c := r.dial()
		_, _ = c.Write(request("fetch", 1, "encode"))
		synctest.Wait()
		r.h.complete(1, "")
		<-time.After(76 * time.Second)
		synctest.Wait()
		if st := r.s.Stats(); st.Active != 0 || st.Closes[CloseStalled] != 1 {
			t.Errorf("%+v", st)
		}
		c.Close()
		r.stop()
	})
}

// A stop does not cut an answer that the client is about to take.
func TestStopLetsTheWriterFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, 500)
		r.h.pad = 1000
		c := r.dial()
		_, _ = c.Write(request("fetch", 1, "encode"))
		synctest.Wait()
		r.h.complete(1, "")
		synctest.Wait() // the writer hangs in its write
		var stopping sync.WaitGroup
		stopping.Go(r.stop)
		synctest.Wait()
		sameIDs(t, readIDs(t, c, 1), 1)
		stopping.Wait()
		c.Close()
	})
}

// A wait for earlier answers ends a drain, so the request behind it arrives later.
func TestArrivedAfterAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var arrived []time.Duration
		h := &arrivals{newScripted(), &arrived}
		r := newRig(t, Options{Handler: h}, 0)
		c := r.dial()
		_, _ = c.Write(append(request("fetch", 1, "park"), request("metadata", 2, "done")...))
		<-time.After(5 * time.Second)
		h.complete(1, "")
		sameIDs(t, readIDs(t, c, 2), 1, 2)
		if len(arrived) != 2 || arrived[0] != 0 || arrived[1] != 5*time.Second {
			t.Errorf("arrived at %v", arrived)
		}
		c.Close()
		r.stop()
	})
}

type arrivals struct {
	*scripted
	at *[]time.Duration
}

func (h *arrivals) Handle(p *wire.Pending) wire.Outcome {
	*h.at = append(*h.at, p.Arrived)
	return h.scripted.Handle(p)
}

// A connection that we end while the client still sends is not reset: earlier answers
// and the end arrive.
func TestClosingIsNotAReset(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newScripted()
	r := &rig{t: t, h: h}
	stop := r.serve(Options{}, ln)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := append(request("metadata", 1, "done"), request("metadata", 2, "close")...)
	if _, err := c.Write(append(b, make([]byte, 150<<10)...)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("the client reads: %v", err)
	}
	ids, _, _ := answers(got)
	sameIDs(t, ids, 1)
	c.Close()
	stop()
}

// Spare slots keep the buffers of answers for later requests, within bounds.
func TestSpareAnswersAreBounded(t *testing.T) {
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
		spare := func(pad, n int) (kept int) {
			h.pad = pad
			for id := range n {
				_, _ = client.Write(request("produce", id, "encode"))
			}
			synctest.Wait()
			for id := range n {
				h.complete(id, "")
			}
			synctest.Wait()
			c.queue.Lock()
			defer c.queue.Unlock()
			for _, s := range c.queue.spare {
				kept += cap(s.p.Resp)
			}
			if kept != c.queue.spareBytes {
				t.Errorf("%d bytes kept, %d counted", kept, c.queue.spareBytes)
			}
			return kept
		}
		if kept := spare(1000, 50); kept < 50*1000 {
			t.Errorf("%d bytes kept of 50 small answers", kept)
		}
		if kept := spare(100_000, 50); kept < 500_000 || kept > keepSpareBytes {
			t.Errorf("%d bytes kept of 50 answers of 100 kB", kept)
		}
		if kept := spare(2<<20, 50); kept > keepSpareBytes {
			t.Errorf("%d bytes kept of 50 answers of 2 MiB", kept)
		}
		client.Close()
		running.Wait()
	})
}
