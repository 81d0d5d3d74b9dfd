package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/server/memnet"
	"github.com/kalda-io/kalda/internal/wire"
)

// randomHandler parks a part of the requests and completes them from other goroutines
// at random times, and checks the rules that a handler can see.
type randomHandler struct {
	t  *testing.T
	wg sync.WaitGroup

	mu           sync.Mutex
	rnd          *rand.Rand
	running      map[*wire.Conn]bool
	open         map[*wire.Conn]map[int32]int16 // parked, by id: the API key
	staged       map[*wire.Conn]int
	stagedAppend map[*wire.Conn]bool
	lost         map[*wire.Pending]bool // cancelled
	cancels      int
	taken        map[*wire.Conn][]takenRequest
	answered     int // requests that were taken
}

// takenRequest is one that goes without a Pending. The body is not copied: it stays until Answer.
type takenRequest struct {
	id   int32
	body []byte
}

// Take implements wire.AtOnce for some of the Produce requests.
func (h *randomHandler) Take(c *wire.Conn, hd *wire.Header, body []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hd.Key != wire.KeyProduce {
		h.t.Errorf("request %d with key %d is to be answered at once", hd.CorrelationID, hd.Key)
	}
	if len(h.open[c]) > 0 || h.staged[c] > 0 {
		h.t.Errorf("request %d is to be answered at once behind %v, %d staged", hd.CorrelationID, h.open[c], h.staged[c])
	}
	if h.rnd.IntN(20) == 0 {
		return false
	}
	h.taken[c] = append(h.taken[c], takenRequest{hd.CorrelationID, body})
	return true
}

func (h *randomHandler) Answer(c *wire.Conn, out []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.taken[c]); n == 0 || n > maxTaken {
		h.t.Errorf("Answer for %d requests", n)
	}
	for _, r := range h.taken[c] {
		start := len(out)
		out = append(wire.AppendResponseHeader(out, wire.KeyProduce, 3, r.id), r.body...)
		wire.FinishFrame(out[start:], 0)
		h.answered++
	}
	h.taken[c] = nil
	return out
}

func newRandomHandler(t *testing.T, seed uint64) *randomHandler {
	return &randomHandler{
		t: t, rnd: rand.New(rand.NewPCG(seed, 3)), running: map[*wire.Conn]bool{}, open: map[*wire.Conn]map[int32]int16{},
		staged: map[*wire.Conn]int{}, stagedAppend: map[*wire.Conn]bool{}, lost: map[*wire.Pending]bool{},
		taken: map[*wire.Conn][]takenRequest{},
	}
}

func (h *randomHandler) Handle(p *wire.Pending) wire.Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running[p.Conn] {
		h.t.Error("two requests of one connection run at once")
	}
	if len(h.taken[p.Conn]) > 0 {
		h.t.Errorf("request %d runs before those that were taken are answered", p.CorrelationID)
	}
	if h.open[p.Conn] == nil {
		h.open[p.Conn] = map[int32]int16{}
	}
	for id, key := range h.open[p.Conn] {
		if key != wire.KeyProduce || p.Key != wire.KeyProduce {
			h.t.Errorf("request %d (key %d) runs behind parked request %d (key %d)", p.CorrelationID, p.Key, id, key)
		}
	}
	if p.Key != wire.KeyProduce && h.stagedAppend[p.Conn] {
		h.t.Errorf("request %d (key %d) runs before the staged appends are written", p.CorrelationID, p.Key)
	}
	h.staged[p.Conn]++
	h.stagedAppend[p.Conn] = p.Key == wire.KeyProduce || h.stagedAppend[p.Conn]
	body := bytes.Clone(p.Body)
	n := h.rnd.IntN(10)
	if len(body)%2 == 0 && h.rnd.IntN(10) > 0 {
		n = 0 // what a calm client sends hardly ever waits
	}
	switch {
	case n < 4:
		p.Resp = append(p.Resp, body...)
		return wire.Done
	case n < 5 && p.Key == wire.KeyProduce && bytes.HasPrefix(body, []byte("quiet")):
		return wire.NoAnswer
	default:
		id := p.CorrelationID
		h.open[p.Conn][id] = p.Key
		if h.rnd.IntN(2) == 0 {
			p.State = body
			p.Encode = h
		}
		wait := time.Duration(h.rnd.IntN(3000)) * time.Microsecond
		h.wg.Go(func() {
			if wait > 500*time.Microsecond {
				<-time.After(wait)
			}
			h.mu.Lock()
			if p.Encode == nil && !h.lost[p] {
				p.Resp = append(p.Resp, body...)
			}
			delete(h.open[p.Conn], id)
			h.mu.Unlock()
			p.Complete()
		})
		return wire.Parked
	}
}

func (h *randomHandler) EncodeAnswer(p *wire.Pending) { p.Resp = append(p.Resp, p.State.([]byte)...) }

func (h *randomHandler) Flush(c *wire.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.staged[c] == 0 {
		h.t.Error("Flush without a request before it")
	}
	h.staged[c], h.stagedAppend[c] = 0, false
}

func (h *randomHandler) Cancel(p *wire.Pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost[p] = true
	h.cancels++
}

func (h *randomHandler) Closed(c *wire.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.taken[c]) > 0 {
		h.t.Error("the connection ended with requests that were taken and not answered")
	}
	if h.staged[c] != 0 {
		h.t.Error("the connection ended with requests that were not flushed")
	}
}

// Random requests in random pieces on several connections: every answer comes, in
// order, with its own bytes; the rules of order hold.
func testRandom(t *testing.T, seed uint64, ln net.Listener, dial func() net.Conn, requests int) {
	t.Logf("seed %d", seed)
	h := newRandomHandler(t, seed)
	s, err := New(Options{Handler: h, MaxPending: 50, OutputBytes: 20000, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving, clients sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	var wrote, read atomicSum
	for i := range 4 {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(100+i)))
			c := dial()
			defer c.Close()
			var stream []byte
			var want [][]byte
			for id := range requests {
				api := []string{"produce", "produce", "produce", "fetch", "metadata"}[rnd.IntN(5)]
				size := rnd.IntN(1 << rnd.IntN(15))
				if i%2 == 0 && rnd.IntN(30) > 0 { // a calm client, of which much is answered at once
					api, size = "produce", size&^1
				}
				body := make([]byte, size)
				for i := range body {
					body[i] = byte(rnd.Uint32())
				}
				want = append(want, body)
				stream = append(stream, request(api, id, string(body))...)
			}
			wrote.add(len(stream))
			var sending sync.WaitGroup
			sending.Go(func() {
				for len(stream) > 0 {
					n := min(len(stream), 1+rnd.IntN(1<<rnd.IntN(16)))
					if _, err := c.Write(stream[:n]); err != nil {
						t.Error(err)
						return
					}
					stream = stream[n:]
				}
			})
			head := make([]byte, 8)
			for id, body := range want {
				if _, err := io.ReadFull(c, head); err != nil {
					t.Errorf("answer %d: %v", id, err)
					break
				}
				got := make([]byte, int(binary.BigEndian.Uint32(head))-4)
				_, _ = io.ReadFull(c, got)
				read.add(8 + len(got))
				if int(binary.BigEndian.Uint32(head[4:])) != id || !bytes.Equal(got, body) {
					t.Errorf("answer %d instead of %d, or %d bytes instead of %d", binary.BigEndian.Uint32(head[4:]), id, len(got), len(body))
					break
				}
			}
			sending.Wait()
		})
	}
	clients.Wait()
	cancel()
	serving.Wait()
	h.wg.Wait()
	if h.answered < 50 {
		t.Errorf("%d of %d requests were answered at once: too few to tell anything", h.answered, 4*requests)
	}
	st := s.Stats()
	if st.Requests != uint64(4*requests) || st.Accepted != 4 || st.Active != 0 {
		t.Errorf("stats %+v after %d requests", st, 4*requests)
	}
	if st.BytesIn != uint64(wrote.sum()) || st.BytesOut != uint64(read.sum()) {
		t.Errorf("stats say %d in, %d out; the clients %d and %d", st.BytesIn, st.BytesOut, wrote.sum(), read.sum())
	}
	if n := st.Closes[CloseByClient] + st.Closes[CloseShutdown]; n != 4 {
		t.Errorf("closes %v", st.Closes)
	}
}

type atomicSum struct {
	mu sync.Mutex
	n  int
}

func (a *atomicSum) add(n int) { a.mu.Lock(); a.n += n; a.mu.Unlock() }
func (a *atomicSum) sum() int  { a.mu.Lock(); defer a.mu.Unlock(); return a.n }

func TestRandomInBubble(t *testing.T) {
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			network := memnet.New(3000)
			ln, err := network.Listen("127.0.0.1:9092")
			if err != nil {
				t.Fatal(err)
			}
			testRandom(t, rand.Uint64(), ln, func() net.Conn {
				c, err := network.Dial(t.Context(), "tcp", "127.0.0.1:9092")
				if err != nil {
					t.Fatal(err)
				}
				return c
			}, 600)
		})
	}
}

func TestRandomOnLoopback(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	testRandom(t, rand.Uint64(), ln, func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}, 1000)
}
