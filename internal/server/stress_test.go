package server

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/server/memnet"
	"github.com/kalda-io/kalda/internal/wire"
)

// stressHandler does everything that a handler may do, at random, and looks at the insides
// of the connection while its reader runs.
type stressHandler struct {
	t        *testing.T
	closing  bool // some requests end their connection
	reserves bool
	wg       sync.WaitGroup

	mu     sync.Mutex
	rnd    *rand.Rand
	conns  map[*wire.Conn]*conn
	state  map[*wire.Conn]*stressConn
	closed map[*wire.Conn]bool
}

type stressConn struct {
	staged  []*wire.Pending
	open    map[int32]*wire.Pending // parked and not completed, by id
	parked  map[int32]int           // 1: parked, 2: completed, 3: cancelled
	runs    int32                   // the last id
	answers map[int32]bool          // ids that get an answer
}

func newStressHandler(t *testing.T, seed uint64) *stressHandler {
	return &stressHandler{t: t, rnd: rand.New(rand.NewPCG(seed, 9)), conns: map[*wire.Conn]*conn{}, state: map[*wire.Conn]*stressConn{}, closed: map[*wire.Conn]bool{}}
}

func (h *stressHandler) add(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[&c.wc] = c
	h.state[&c.wc] = &stressConn{open: map[int32]*wire.Pending{}, parked: map[int32]int{}, answers: map[int32]bool{}, runs: -1}
}

// consistent looks at the queue and the slots of the drain. It runs on the reader goroutine.
func (c *conn) consistent(handling bool) error {
	q, o := &c.queue, &c.open
	q.Lock()
	defer q.Unlock()
	seen := map[*slot]string{}
	var ring []*slot
	produce, other := 0, 0
	for i := range q.n {
		s := q.at(i)
		if s == nil {
			return fmt.Errorf("no slot at %d of %d", i, q.n)
		}
		if seen[s] != "" {
			return fmt.Errorf("slot twice in the ring")
		}
		seen[s] = "ring"
		ring = append(ring, s)
		if s.state == slotFree {
			return fmt.Errorf("a free slot in the ring")
		}
		if s.state == slotRunning || s.state == slotParked || s.state == slotReady {
			if s.produce() {
				produce++
			} else {
				other++
			}
		}
	}
	for _, s := range q.spare {
		if seen[s] != "" {
			return fmt.Errorf("a spare slot is in %s, too", seen[s])
		}
		seen[s] = "spare"
		if s.state != slotFree || s.mem != 0 || s.reserved != 0 {
			return fmt.Errorf("spare slot in state %d with %d, %d", s.state, s.mem, s.reserved)
		}
	}
	if !q.sending && (produce != q.openProduce || other != q.openOther) || produce > q.openProduce || other > q.openOther {
		return fmt.Errorf("%d and %d are open, %d and %d counted", produce, other, q.openProduce, q.openOther)
	}
	if q.n > c.srv.o.MaxPending {
		return fmt.Errorf("%d pending", q.n)
	}
	at := -1
	for i, s := range o.slots {
		k := slices.Index(ring, s)
		if k <= at {
			return fmt.Errorf("open slot %d is at %d, behind %d", i, k, at)
		}
		at = k
		if s.state != slotRunning {
			return fmt.Errorf("open slot %d in state %d", i, s.state)
		}
		if i >= o.used && k != len(ring)-len(o.slots)+i {
			return fmt.Errorf("reserved slot %d of %d is at %d of %d", i, len(o.slots), k, len(ring))
		}
	}
	running := 0
	for _, s := range ring {
		if s.state == slotRunning {
			running++
		}
	}
	if handling && running != len(o.slots) && (running != 1 || len(o.slots) != 0) || !handling && running != len(o.slots) {
		return fmt.Errorf("%d slots run, %d are open", running, len(o.slots))
	}
	if handling {
		bytes := 0
		for i := 0; i+1 < o.used; i++ {
			if o.slots[i].done {
				bytes += len(o.slots[i].p.Resp)
			}
		}
		if bytes >= c.srv.o.OutputBytes+largestAnswer {
			return fmt.Errorf("%d bytes wait that the queue does not know of", bytes)
		}
	}
	return nil
}

// largestAnswer is more than stressHandler answers.
const largestAnswer = 2<<10 + 16

func (h *stressHandler) Handle(p *wire.Pending) wire.Outcome {
	h.mu.Lock()
	c := h.conns[p.Conn]
	st := h.state[p.Conn]
	h.mu.Unlock()
	if err := c.consistent(true); err != nil {
		h.t.Errorf("Handle: %v", err)
	}
	h.mu.Lock()
	id := p.CorrelationID
	if id != st.runs+1 {
		h.t.Errorf("request %d after %d", id, st.runs)
	}
	if p.Key != wire.KeyProduce && len(st.open) > 0 {
		h.t.Errorf("request %d of another kind runs behind %d parked ones", id, len(st.open))
	}
	if p.Encode != nil || p.State != nil || p.CloseReason != "" {
		h.t.Errorf("a Pending is not fresh")
	}
	st.runs = id
	n, m := h.rnd.IntN(20), h.rnd.IntN(8)
	size := h.rnd.IntN(1 << h.rnd.IntN(12))
	mem := 0
	if h.reserves && h.rnd.IntN(4) == 0 {
		mem = h.rnd.IntN(400 << 10)
	}
	ends := h.closing && h.rnd.IntN(300) == 0
	late := h.closing && h.rnd.IntN(100) == 0
	wait := time.Duration(h.rnd.IntN(2000)) * time.Microsecond
	spins := h.rnd.IntN(30)
	h.mu.Unlock()
	if mem > 0 {
		if err := p.Reserve(mem); err != nil {
			return wire.CloseConn
		}
		if m == 0 && h.closing { // may end the connection
			if err := p.ReserveAnswer(mem); err != nil {
				return wire.CloseConn
			}
		}
		if err := c.consistent(true); err != nil {
			h.t.Errorf("Reserve: %v", err)
		}
	}
	answer := func() {
		p.Resp = binary.BigEndian.AppendUint32(p.Resp, uint32(id))
		p.Resp = append(p.Resp, make([]byte, size)...)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ends {
		p.CloseReason = "random"
		return wire.CloseConn
	}
	switch {
	case n < 3:
		if p.Key == wire.KeyProduce {
			if n == 0 {
				p.Complete() // in vain
			}
			return wire.NoAnswer
		}
		fallthrough
	case n < 6:
		answer()
		if n == 4 {
			p.Complete() // in vain
		}
		st.answers[id] = true
		return wire.Done
	}
	st.answers[id] = true
	st.parked[id] = 1
	st.open[id] = p
	complete := func() {
		h.mu.Lock()
		if st.parked[id] == 1 {
			st.parked[id] = 2
		}
		delete(st.open, id)
		h.mu.Unlock()
		p.Complete()
	}
	encode := m >= 4
	if encode {
		p.State = size
	} else {
		answer()
	}
	if mem > 0 && h.rnd.IntN(2) == 0 {
		h.mu.Unlock()
		p.Release()
		h.mu.Lock()
	}
	switch {
	case n < 9 && p.Key == wire.KeyProduce: // as the broker with policy os
		if encode {
			p.Encode = h
		}
		st.staged = append(st.staged, p)
	case n < 12:
		if encode {
			p.Encode = h
		}
		if late {
			p.CloseReason = "late"
		}
		st.parked[id] = 2
		delete(st.open, id)
		p.Complete()
	default:
		h.wg.Go(func() {
			if n < 16 {
				for range spins {
					runtime.Gosched()
				}
			} else {
				<-time.After(wait)
			}
			if encode {
				p.Encode = h
			}
			if late {
				p.CloseReason = "late"
			}
			complete()
		})
	}
	return wire.Parked
}

func (h *stressHandler) EncodeAnswer(p *wire.Pending) {
	p.Resp = binary.BigEndian.AppendUint32(p.Resp, uint32(p.CorrelationID))
	p.Resp = append(p.Resp, make([]byte, p.State.(int))...)
}

func (h *stressHandler) Flush(c *wire.Conn) {
	h.mu.Lock()
	st := h.state[c]
	staged := st.staged
	st.staged = nil
	for _, p := range staged {
		id := p.CorrelationID
		st.parked[id] = 2
		delete(st.open, id)
	}
	cn := h.conns[c]
	h.mu.Unlock()
	if err := cn.consistent(false); err != nil {
		h.t.Errorf("Flush: %v", err)
	}
	for _, p := range staged {
		p.Complete()
	}
}

func (h *stressHandler) Cancel(p *wire.Pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.state[p.Conn]
	id := p.CorrelationID
	if st.parked[id] == 0 || st.parked[id] == 3 {
		h.t.Errorf("cancel of request %d in state %d", id, st.parked[id])
	}
	st.parked[id] = 3
}

func (h *stressHandler) Closed(c *wire.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed[c] {
		h.t.Error("closed twice")
	}
	h.closed[c] = true
	st := h.state[c]
	if len(st.staged) > 0 {
		h.t.Errorf("%d are staged at the end", len(st.staged))
	}
	for id := range st.open {
		if st.parked[id] != 3 {
			h.t.Errorf("request %d is neither complete nor cancelled", id)
		}
	}
	cn := h.conns[c]
	cn.queue.Lock()
	defer cn.queue.Unlock()
	if len(cn.open.slots) != 0 || cn.open.used != 0 {
		h.t.Error("open slots at the end")
	}
}

// stress sends random requests over four connections. closing: the handler ends some.
// reserves: requests take memory. resets: three of the four end in the middle.
func stress(t *testing.T, seed uint64, o Options, requests int, closing, reserves, resets bool, pair func() (client, server net.Conn)) {
	h := newStressHandler(t, seed)
	h.closing, h.reserves = closing, reserves
	o.Handler = h
	o.Logger = slog.New(slog.DiscardHandler)
	o.Requests, o.Answers = NewBudget(1<<20), NewOutputBudget(1<<20)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	var running, clients sync.WaitGroup
	for i := range 4 {
		client, server := pair()
		c := newConn(s, server, "test")
		h.add(c)
		running.Go(c.run)
		clients.Go(func() {
			defer client.Close()
			rnd := rand.New(rand.NewPCG(seed, uint64(100+i)))
			var stream []byte
			for id := range requests {
				api := "produce"
				if rnd.IntN(25) == 0 {
					api = []string{"fetch", "metadata"}[rnd.IntN(2)]
				}
				stream = append(stream, request(api, id, string(make([]byte, rnd.IntN(1<<rnd.IntN(12)))))...)
			}
			cut := -1
			if resets && i < 3 {
				cut = rnd.IntN(len(stream))
			}
			var sending sync.WaitGroup
			sending.Go(func() {
				for len(stream) > 0 {
					n := min(len(stream), 1+rnd.IntN(1<<rnd.IntN(17)))
					if _, err := client.Write(stream[:n]); err != nil {
						if !closing && !resets {
							t.Error(err)
						}
						return
					}
					stream = stream[n:]
					if cut >= 0 && len(stream) < cut {
						if i == 0 {
							c.shutdown()
						} else {
							client.Close()
						}
						return
					}
				}
			})
			// Answers in order until the last one that gets one.
			head := make([]byte, 8)
			last := int32(-1)
			for {
				h.mu.Lock()
				st := h.state[&c.wc]
				more := st.runs < int32(requests-1)
				for id := range st.answers {
					more = more || id > last
				}
				h.mu.Unlock()
				if !more {
					break
				}
				_ = client.SetReadDeadline(time.Now().Add(20 * time.Second))
				if _, err := io.ReadFull(client, head); err != nil {
					if ne, ok := err.(net.Error); ok && ne.Timeout() {
						h.mu.Lock()
						all := st.runs >= int32(requests-1)
						lost := 0
						for id := range st.answers {
							if id > last {
								lost++
							}
						}
						h.mu.Unlock()
						if all && lost == 0 {
							break
						}
						t.Errorf("conn %d: stuck behind answer %d, %d handled, %d lost", i, last, st.runs, lost)
						break
					}
					if !closing && !resets {
						t.Errorf("conn %d: %v", i, err)
					}
					break
				}
				body := make([]byte, int(binary.BigEndian.Uint32(head))-4)
				if _, err := io.ReadFull(client, body); err != nil {
					break
				}
				id := int32(binary.BigEndian.Uint32(head[4:]))
				h.mu.Lock()
				for k := last + 1; k < id; k++ {
					if st.answers[k] {
						t.Errorf("no answer %d before %d", k, id)
					}
				}
				if !st.answers[id] {
					t.Errorf("answer to %d", id)
				}
				h.mu.Unlock()
				if len(body) < 4 || int32(binary.BigEndian.Uint32(body)) != id {
					t.Errorf("answer %d is that of another: %x", id, body[:min(len(body), 8)])
				}
				last = id
			}
			client.Close()
			sending.Wait()
		})
	}
	clients.Wait()
	running.Wait()
	h.wg.Wait()
	if st := o.Requests.Stats(); st.Held != 0 || st.Waiting != 0 {
		t.Errorf("requests at the end: %+v", st)
	}
	if _, held := o.Answers.Stats(); held != 0 {
		t.Errorf("answers at the end: %d", held)
	}
}

// Every answer comes, once and in order, whoever completes it and when; what is parked is
// completed or cancelled; no slot is used twice, and no memory stays held.
func TestStress(t *testing.T) {
	for round := range 24 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(round, " ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			o := Options{MaxPending: 1 + r.IntN(100), OutputBytes: 1 + r.IntN(1<<r.IntN(18))}
			closing, reserves, resets := round%3 == 1, round%5 < 2, round%3 == 2
			if round%4 < 2 {
				synctest.Test(t, func(t *testing.T) {
					stress(t, seed, o, 800, closing, reserves, resets, func() (net.Conn, net.Conn) {
						a, b := memnet.Pipe(1 + r.IntN(20000))
						return a, b
					})
				})
				return
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			stress(t, seed, o, 800, closing, reserves, resets, func() (net.Conn, net.Conn) {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				s, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				return c, s
			})
		})
	}
}
