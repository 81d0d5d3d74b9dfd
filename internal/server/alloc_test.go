package server

import (
	"context"
	"io"
	"sync"
	"testing"

	"github.com/kalda-io/kalda/internal/server/memnet"
	"github.com/kalda-io/kalda/internal/wire"
)

// steady is a handler without allocations of its own. It answers at once, in Flush, or
// from another goroutine.
type steady struct {
	how    string
	body   []byte
	staged []*wire.Pending
	later  chan *wire.Pending
}

func (h *steady) Handle(p *wire.Pending) wire.Outcome {
	switch h.how {
	case "done":
		p.Resp = append(p.Resp, h.body...)
		return wire.Done
	case "flush":
		h.staged = append(h.staged, p)
	case "later":
		p.Encode = h
		h.later <- p
	}
	return wire.Parked
}

func (h *steady) Flush(*wire.Conn) {
	for _, p := range h.staged {
		p.Resp = append(p.Resp, h.body...)
		p.Complete()
	}
	h.staged = h.staged[:0]
}

func (h *steady) EncodeAnswer(p *wire.Pending) { p.Resp = append(p.Resp, h.body...) }
func (h *steady) Cancel(*wire.Pending)         {}
func (h *steady) Closed(*wire.Conn)            {}

// serveSteady runs f with a client connection to a server with handler h.
func serveSteady(tb testing.TB, h *steady, f func(c *memnet.Conn)) {
	s, err := New(Options{Handler: h})
	if err != nil {
		tb.Fatal(err)
	}
	client, server := memnet.Pipe(256 << 10)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(newConn(s, server, "test").run)
	wg.Go(func() {
		for {
			select {
			case p := <-h.later:
				p.Complete()
			case <-ctx.Done():
				return
			}
		}
	})
	f(client)
	client.Close()
	cancel()
	wg.Wait()
}

// exchange returns a function that sends 16 Produce requests with one write and reads
// their answers.
func exchange(tb testing.TB, h *steady, c io.ReadWriter) func() {
	var batch []byte
	for id := range 16 {
		batch = append(batch, request("produce", id, "0123456789")...)
	}
	got := make([]byte, 16*(8+len(h.body)))
	return func() {
		if _, err := c.Write(batch); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestNoAllocationsPerRequest(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, how := range []string{"done", "flush", "later"} {
		for _, size := range []int{50, 20000} { // packed answers, answers sent in place
			h := &steady{how: how, body: make([]byte, size), later: make(chan *wire.Pending, 64)}
			serveSteady(t, h, func(c *memnet.Conn) {
				run := exchange(t, h, c)
				for range 100 { // buffers and slots grow to their size
					run()
				}
				if n := testing.AllocsPerRun(500, run); n != 0 {
					t.Errorf("%s, answers of %d bytes: %v allocations per 16 requests", how, size, n)
				}
			})
		}
	}
}

func BenchmarkPipelined(b *testing.B) {
	for _, how := range []string{"done", "flush", "later"} {
		b.Run(how, func(b *testing.B) {
			h := &steady{how: how, body: make([]byte, 50), later: make(chan *wire.Pending, 64)}
			serveSteady(b, h, func(c *memnet.Conn) {
				run := exchange(b, h, c)
				b.ReportAllocs()
				for b.Loop() {
					run()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/16, "ns/request")
			})
		})
	}
}
