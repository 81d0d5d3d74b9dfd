package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
)

// What waits for the answers' budget goes in the order of arrival, one that is larger than
// all of it when half is free.
func TestOutputBudgetLine(t *testing.T) {
	b := NewOutputBudget(100)
	got := func(w *outputWait) bool {
		select {
		case <-w.granted:
			return true
		default:
			return false
		}
	}
	if !b.tryTake(40) || !b.tryTake(60) || b.tryTake(1) {
		t.Fatalf("%d held", b.held.Load())
	}
	large, small, gone := b.line(200), b.line(1), b.line(1)
	if n, all := b.Waits(); n != 3 || all != 3 {
		t.Errorf("%d of %d wait", n, all)
	}
	b.add(-40)
	if got(large) || got(small) || b.tryTake(1) {
		t.Error("somebody overtakes the first in line")
	}
	b.leave(gone)
	b.add(-10)
	if !got(large) || got(small) {
		t.Error("half is free, and the first in line waits")
	}
	b.leave(large) // it did not notice: the bytes come back
	if !got(small) || b.held.Load() != 51 || b.pressed() {
		t.Errorf("%d held", b.held.Load())
	}
	// Whoever leaves the head of the line lets the next ones go.
	b.add(49)
	first, second := b.line(200), b.line(1)
	b.add(-40)
	if got(first) || got(second) {
		t.Error("60 of 100 are held, and the first goes")
	}
	b.leave(first)
	if !got(second) {
		t.Error("the second in line waits for one that is gone")
	}
}

// Many at once: no more than the bound is held, everybody comes to an end.
func TestOutputBudgetAtRandom(t *testing.T) {
	const limit, largest = 1000, 400
	b := NewOutputBudget(limit)
	var wg sync.WaitGroup
	var most atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 2000 {
				n := 1 + r.Int64N(largest)
				if !b.tryTake(n) {
					w := b.line(n)
					if r.IntN(10) == 0 {
						b.leave(w)
						continue
					}
					<-w.granted
				}
				for held := b.held.Load(); ; {
					if old := most.Load(); held <= old || most.CompareAndSwap(old, held) {
						break
					}
				}
				b.add(-n)
			}
		})
	}
	wg.Wait()
	if most.Load() > max(limit, limit/2+largest) || b.held.Load() != 0 || b.pressed() {
		t.Errorf("at most %d were held, %d are in the end", most.Load(), b.held.Load())
	}
}

// announcing is a handler whose answers cannot be made smaller.
type announcing struct {
	*scripted
	bytes    int // of an answer
	decoded  int // of a request
	waiting  atomic.Int64
	reserved func() // is called when a request was decoded
}

func (h *announcing) Handle(p *wire.Pending) wire.Outcome {
	if string(p.Body) != "long" {
		return h.scripted.Handle(p)
	}
	err := p.Reserve(h.decoded)
	if err == nil && h.reserved != nil {
		h.reserved()
	}
	if err == nil {
		h.waiting.Add(1)
		err = p.ReserveAnswer(h.bytes)
		h.waiting.Add(-1)
	}
	if err != nil {
		p.CloseReason = err.Error()
		return wire.CloseConn
	}
	p.Resp = append(p.Resp, make([]byte, h.bytes)...)
	return wire.Done
}

// Long answers that clients do not read, to a request of a few bytes: they are not even made
// while there is no memory for them. Short answers do not wait, and all that are read come.
func TestLongAnswersWait(t *testing.T) {
	const bytes, clients = 300 << 10, 20
	out := NewOutputBudget(1 << 20)
	h := &announcing{scripted: newScripted(), bytes: bytes}
	pressed(t, Options{Handler: h, Answers: out}, 4<<10, func(r *rig) {
		var conns []net.Conn
		for id := range clients {
			c := r.dial()
			conns = append(conns, c)
			_, _ = c.Write(request("metadata", id, "long"))
		}
		synctest.Wait()
		if _, held := out.Stats(); held < 512<<10 || held > 1<<20+outputStep*clients {
			t.Errorf("%d bytes held", held)
		}
		if n := h.waiting.Load(); n < clients-5 {
			t.Errorf("%d answers wait", n)
		}
		good := r.dial()
		_, _ = good.Write(request("metadata", 99, "done"))
		if got := reading(good).answer(t); got != 99 {
			t.Errorf("answer %d", got)
		}
		good.Close()
		conns[clients-1].Close() // one that waits
		var reads sync.WaitGroup
		for id, c := range conns[:clients-1] {
			reads.Go(func() {
				if got := reading(c).answer(t); got != id {
					t.Errorf("answer %d, want %d", got, id)
				}
			})
		}
		reads.Wait()
		<-time.After(2 * time.Second)
		synctest.Wait()
		if n, all := out.Waits(); n != 0 || all < clients-5 {
			t.Errorf("%d wait, of %d", n, all)
		}
		if st := r.s.Stats(); st.Closes[CloseByClient] != 2 {
			t.Errorf("%d clients are gone, want the one that waited too", st.Closes[CloseByClient])
		}
		for _, c := range conns {
			c.Close()
		}
		synctest.Wait()
		if _, held := out.Stats(); held != 0 {
			t.Errorf("%d bytes held in the end", held)
		}
	})
}

// While others wait for the memory of answers, whoever holds it must read faster: one that
// takes nothing has a sixth of the time, and 100 KiB per second are enough.
func TestSlowReadersUnderPressure(t *testing.T) {
	const bytes = 3 << 20
	h := &announcing{scripted: newScripted(), bytes: bytes}
	pressed(t, Options{Handler: h, Answers: NewOutputBudget(6 << 20)}, 4<<10, func(r *rig) {
		take := func(c net.Conn, n, each int, every time.Duration) error {
			b := make([]byte, each)
			for got := 0; got < n; {
				k, err := c.Read(b)
				if got += k; err != nil {
					return err
				}
				if every > 0 {
					<-time.After(every)
				}
			}
			return nil
		}
		slow, stalled, next := r.dial(), r.dial(), r.dial()
		conns := []net.Conn{slow, stalled, next}
		for id, c := range conns {
			_, _ = c.Write(request("metadata", id, "long"))
			synctest.Wait()
		}
		if h.waiting.Load() != 1 {
			t.Fatal("the third does not wait")
		}
		var reading sync.WaitGroup
		reading.Go(func() {
			if err := take(slow, bytes, 4<<10, 40*time.Millisecond); err != nil {
				t.Errorf("the slow one: %v", err)
			}
		})
		// The first portion began before anybody waited; from the second on time is short.
		if err := take(stalled, 3<<19, 4<<10, 0); err != nil {
			t.Error(err)
		}
		<-time.After(13 * time.Second)
		synctest.Wait()
		log, st := r.h.take(), r.s.Stats()
		if st.Closes[CloseStalled] != 1 || !strings.Contains(log, "kalda.queued.max.response.bytes=6291456") {
			t.Errorf("%d are closed:\n%s", st.Closes[CloseStalled], log)
		}
		reading.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
}

// An answer that is there does not wait for a later request of the same drain that waits for
// memory.
func TestAnswersDoNotWaitForMemory(t *testing.T) {
	h := &announcing{scripted: newScripted(), decoded: 900 << 10}
	pressed(t, Options{Handler: h}, 1<<20, func(r *rig) {
		holder, c := r.dial(), r.dial()
		_, _ = holder.Write(large(0, 700<<10)) // parked, and in its buffer while it comes
		_, _ = holder.Write(large(1, 900<<10)[:600<<10])
		synctest.Wait()
		var b []byte
		for id, what := range []string{"early", "park", "early", "long", "done"} {
			b = append(b, request("produce", 10+id, what)...)
		}
		_, _ = c.Write(b)
		synctest.Wait()
		if st := r.s.o.Requests.Stats(); st.Waiting != 1 {
			t.Fatalf("%+v", st)
		}
		answers := reading(c)
		if got := answers.answer(t); got != 10 {
			t.Errorf("answer %d", got)
		}
		h.complete(11, "")
		for _, want := range []int{11, 12} {
			if got := answers.answer(t); got != want {
				t.Errorf("answer %d instead of %d", got, want)
			}
		}
		holder.Close()
		for _, want := range []int{13, 14} {
			if got := answers.answer(t); got != want {
				t.Errorf("answer %d instead of %d", got, want)
			}
		}
		c.Close()
	})
}

// The memory of a decoded request whose answer is there is not held while a later request of
// the same drain takes its own.
func TestAnsweredRequestsOfADrainHoldNothing(t *testing.T) {
	h := &announcing{scripted: newScripted(), decoded: 400 << 10}
	pressed(t, Options{Handler: h}, 1<<20, func(r *rig) {
		peak := int64(0)
		h.reserved = func() { peak = max(peak, r.s.o.Requests.Stats().Held) }
		c := r.dial()
		var b []byte
		for id := range 5 {
			b = append(b, request("produce", id, "long")...)
		}
		_, _ = c.Write(b)
		sameIDs(t, readIDs(t, c, 5), 0, 1, 2, 3, 4)
		if peak != 400<<10 {
			t.Errorf("%d bytes held", peak)
		}
		c.Close()
	})
}

// The memory of a decoded request is for others once its answer is encoded, however
// slowly that is read; so is that of a parked request which the handler gave back.
func TestDecodedRequestsEndWithTheAnswer(t *testing.T) {
	h := &announcing{scripted: newScripted(), bytes: 200 << 10, decoded: 900 << 10}
	pressed(t, Options{Handler: h}, 4<<10, func(r *rig) {
		var conns []net.Conn
		for id := range 4 {
			c := r.dial()
			conns = append(conns, c)
			_, _ = c.Write(request("metadata", id, "long"))
			synctest.Wait()
			if st := r.s.o.Requests.Stats(); st.Held != 0 || st.Waits != 0 {
				t.Errorf("with %d unread answers: %+v", id+1, st)
			}
		}
		for _, c := range conns {
			c.Close()
		}
	})
	// The same where the answer is encoded when it is sent.
	e := &reserving{newScripted(), 900 << 10}
	pressed(t, Options{Handler: e}, 4<<10, func(r *rig) {
		e.pad = 200 << 10
		c := r.dial()
		_, _ = c.Write(request("metadata", 0, "encode"))
		synctest.Wait()
		if st := r.s.o.Requests.Stats(); st.Held != 900<<10 {
			t.Errorf("while it is parked: %+v", st)
		}
		e.complete(0, "")
		synctest.Wait()
		if st := r.s.o.Requests.Stats(); st.Held != 0 {
			t.Errorf("with an unread answer: %+v", st)
		}
		c.Close()
	})
	g := &releasing{reserving{newScripted(), 900 << 10}}
	pressed(t, Options{Handler: g}, 4<<10, func(r *rig) {
		var conns []net.Conn
		for id := range 4 {
			c := r.dial()
			conns = append(conns, c)
			_, _ = c.Write(request("metadata", id, "park"))
			synctest.Wait()
		}
		if st := r.s.o.Requests.Stats(); st.Held != 0 || st.Waits != 0 {
			t.Errorf("%+v", st)
		}
		for id := range conns {
			g.complete(id, "")
			if got := reading(conns[id]).answer(t); got != id {
				t.Errorf("answer %d", got)
			}
			conns[id].Close()
		}
	})
}

// releasing parks requests and keeps nothing of them.
type releasing struct{ reserving }

func (h *releasing) Handle(p *wire.Pending) wire.Outcome {
	outcome := h.reserving.Handle(p)
	p.Release()
	return outcome
}

// A client that does not read its answers gets no memory for a further large request, which
// could not start anyhow.
func TestNoMemoryForWhoDoesNotRead(t *testing.T) {
	pressed(t, Options{OutputBytes: 1 << 20}, 4<<10, func(r *rig) {
		r.h.pad = 2 << 20
		c := r.dial()
		_, _ = c.Write(request("produce", 0, "encode"))
		synctest.Wait()
		r.h.complete(0, "") // the writer sends it, and the reader reads
		synctest.Wait()     // before it is encoded nobody knows how long it is
		go func() { _, _ = c.Write(large(1, 900<<10)) }()
		<-time.After(time.Second)
		synctest.Wait()
		if st := r.s.o.Requests.Stats(); st.Held != 0 {
			t.Errorf("%+v", st)
		}
		answers := reading(c)
		if got := answers.answer(t); got != 0 {
			t.Errorf("answer %d", got)
		}
		synctest.Wait() // it goes on once the client has read
		r.h.complete(1, "")
		if got := answers.answer(t); got != 1 {
			t.Errorf("answer %d", got)
		}
		c.Close()
	})
}

// The buffer of a large request is for others while its answer is not read.
func TestUnreadAnswerYieldsTheBuffer(t *testing.T) {
	h := &announcing{scripted: newScripted(), bytes: 300 << 10}
	pressed(t, Options{Handler: longer{h}}, 4<<10, func(r *rig) {
		c := r.dial()
		_, _ = c.Write(large(0, 400<<10))
		synctest.Wait()
		if st := r.s.o.Requests.Stats(); st.Held != 0 {
			t.Errorf("%+v", st)
		}
		c.Close()
	})
}

// longer answers every request at once, and at length.
type longer struct{ *announcing }

func (h longer) Handle(p *wire.Pending) wire.Outcome {
	p.Resp = append(p.Resp, make([]byte, h.bytes)...)
	return wire.Done
}

// An answer that waits for memory must not keep that of its request from others: not for
// long if it is little, and not at all if it is much.
func TestWaitingAnswerLetsRequestsPass(t *testing.T) {
	for _, row := range []struct {
		clients, decoded int
		after            time.Duration
		closed           uint64
	}{
		{14, 100 << 10, time.Second, 0},
		{14, 100 << 10, 4 * time.Second, 3},
		{3, 900 << 10, time.Second, 1}, // the first has passed; the second ends at its next probe
	} {
		out := NewOutputBudget(1 << 20)
		h := &announcing{scripted: newScripted(), bytes: 900 << 10, decoded: row.decoded}
		pressed(t, Options{Handler: h, Answers: out}, 4<<10, func(r *rig) {
			var conns []net.Conn
			for id := range row.clients {
				c := r.dial()
				conns = append(conns, c)
				_, _ = c.Write(request("metadata", id, "long"))
				synctest.Wait()
			}
			if n := h.waiting.Load(); n == 0 {
				t.Fatal("no answer waits")
			}
			honest := r.dial()
			conns = append(conns, honest)
			go func() { _, _ = honest.Write(large(99, 900<<10)) }()
			<-time.After(row.after)
			synctest.Wait()
			log, st := r.h.take()+h.take(), r.s.Stats()
			if st.Closes[CloseLimit] < row.closed || row.closed == 0 && st.Closes[CloseLimit] > 0 ||
				row.closed > 0 && (!strings.Contains(log, "run 99") || !strings.Contains(log, "kalda.queued.max.response.bytes=1048576")) {
				t.Errorf("%+v: %d closed\n%s", row, st.Closes[CloseLimit], log)
			}
			for _, c := range conns {
				c.Close()
			}
		})
	}
}

// A line about a closed connection tells its address in one word, as JSON too.
func TestLogOfAClose(t *testing.T) {
	var b bytes.Buffer
	l := newCloseLog(slog.New(slog.NewJSONHandler(&b, nil)), model.SystemClock())
	l.note("10.0.0.1", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 77}, "c", &closing{CloseBadFrame, "why"})
	var line struct{ Remote string }
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line.Remote != "10.0.0.1:77" {
		t.Errorf("%s: %v", b.String(), err)
	}
}
