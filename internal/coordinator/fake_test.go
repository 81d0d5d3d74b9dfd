package coordinator

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// fakeLog is a partition in memory, shared by its leaders one after the other.
type fakeLog struct {
	mu struct {
		sync.Mutex
		batches []record.Batch
		start   model.Offset
		end, hw model.Offset
		epoch   model.LeaderEpoch // of the present leader
		// held keeps the high watermark where it is until commit.
		held      bool
		appendErr error
		readErr   error
		waiters   []waiter
		// gate, where set, holds up each Append until something is received from it.
		gate chan struct{}
	}
}

type waiter struct {
	upTo  model.Offset
	epoch model.LeaderEpoch
	done  func(error)
}

// lead makes epoch the present leader and returns the log as that leader sees it.
func (l *fakeLog) lead(epoch model.LeaderEpoch) Log {
	l.mu.Lock()
	l.mu.epoch = epoch
	lost := l.mu.waiters
	l.mu.waiters = nil
	l.mu.Unlock()
	for _, w := range lost {
		w.done(kerr.NotLeaderOrFollower)
	}
	return &leaderLog{l, epoch}
}

// hold keeps the high watermark from moving; commit moves it to the log end.
func (l *fakeLog) hold() { l.mu.Lock(); l.mu.held = true; l.mu.Unlock() }

func (l *fakeLog) commit() {
	l.mu.Lock()
	l.mu.hw = l.mu.end
	var ready, rest []waiter
	for _, w := range l.mu.waiters {
		if w.upTo < l.mu.hw {
			ready = append(ready, w)
		} else {
			rest = append(rest, w)
		}
	}
	l.mu.waiters = rest
	l.mu.Unlock()
	for _, w := range ready {
		w.done(nil)
	}
}

func (l *fakeLog) failAppends(err error) { l.mu.Lock(); l.mu.appendErr = err; l.mu.Unlock() }

func (l *fakeLog) numBatches() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.mu.batches) }

type leaderLog struct {
	l     *fakeLog
	epoch model.LeaderEpoch
}

func (g *leaderLog) Append(b record.Batch) (model.Offset, error) {
	l := g.l
	l.mu.Lock()
	gate := l.mu.gate
	l.mu.Unlock()
	if gate != nil {
		<-gate
	}
	l.mu.Lock()
	if g.epoch != l.mu.epoch {
		l.mu.Unlock()
		return 0, fmt.Errorf("append: %w", kerr.NotLeaderOrFollower)
	}
	if l.mu.appendErr != nil {
		defer l.mu.Unlock()
		return 0, l.mu.appendErr
	}
	b.SetBaseOffset(l.mu.end)
	b.SetLeaderEpoch(g.epoch)
	l.mu.batches = append(l.mu.batches, append(record.Batch(nil), b...))
	l.mu.end = b.NextOffset()
	held := l.mu.held
	l.mu.Unlock()
	if !held {
		l.commit()
	}
	return b.LastOffset(), nil
}

func (g *leaderLog) NotifyCommitted(upTo model.Offset, done func(error)) {
	l := g.l
	l.mu.Lock()
	switch {
	case g.epoch != l.mu.epoch:
		l.mu.Unlock()
		done(kerr.NotLeaderOrFollower)
	case upTo < l.mu.hw:
		l.mu.Unlock()
		done(nil)
	default:
		l.mu.waiters = append(l.mu.waiters, waiter{upTo, g.epoch, done})
		l.mu.Unlock()
	}
}

func (g *leaderLog) Read(from model.Offset, buf []byte) (n int, next model.Offset, err error) {
	l := g.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.readErr != nil {
		return 0, from, l.mu.readErr
	}
	next = from
	for _, b := range l.mu.batches {
		if b.NextOffset() <= from {
			continue
		}
		if n+len(b) > len(buf) {
			if n == 0 {
				return 0, from, io.ErrShortBuffer
			}
			break
		}
		n += copy(buf[n:], b)
		next = b.NextOffset()
	}
	return n, next, nil
}

func (g *leaderLog) StartOffset() model.Offset {
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	return g.l.mu.start
}

func (g *leaderLog) EndOffset() model.Offset {
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	return g.l.mu.end
}

// request is a call to a table core: "put key value", "get key", "park", "unpark",
// "alarm 5s", "calm", "many".
type request struct {
	text   string
	answer string

	mu     sync.Mutex
	result string // "" until answered
	count  int
	at     time.Time
}

func (r *request) Release()       { r.finish(r.answer) }
func (r *request) Fail(err error) { r.finish(kerr.Of(err).Name) }

func (r *request) finish(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	r.at = time.Now()
	if r.count > 1 {
		s = "ANSWERED TWICE"
	}
	r.result = s
}

func (r *request) got() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.result
}

// table is a core that holds keys and values.
type table struct {
	values map[string]string
	parked []*request
	alarm  time.Duration
	alarms bool
	woken  *request
}

func newTable(int32) Core[*request] { return &table{values: map[string]string{}} }

func (t *table) Replay(r *record.Record) error {
	if string(r.Key) == "odd" {
		return errors.New("not understood")
	}
	t.values[string(r.Key)] = string(r.Value)
	return nil
}

func (t *table) Loaded(Now, *Effects[*request]) {}

func (t *table) Step(now Now, c *request, out *Effects[*request]) {
	f := strings.Fields(c.text)
	switch f[0] {
	case "put":
		t.values[f[1]] = f[2]
		out.Records = append(out.Records, record.Record{Timestamp: now.Wall.UnixMilli(), Key: []byte(f[1]), Value: []byte(f[2])})
		c.answer = "ok"
	case "get":
		c.answer = "=" + t.values[f[1]]
	case "park":
		t.parked = append(t.parked, c)
		return
	case "unpark":
		for _, p := range t.parked {
			p.answer = "unparked"
			out.Replies = append(out.Replies, p)
		}
		t.parked = nil
		c.answer = "ok"
	case "alarm":
		d, _ := time.ParseDuration(f[1])
		t.alarm, t.alarms, t.woken = now.Boot+d, true, c
		return
	case "calm":
		t.alarms = false
		t.woken.answer = "calmed"
		out.Replies = append(out.Replies, t.woken)
		c.answer = "ok"
	case "many":
		for i := range 100 {
			out.Records = append(out.Records, record.Record{Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, 100)})
			t.values[fmt.Sprintf("k%d", i)] = string(make([]byte, 100))
		}
		c.answer = "ok"
	}
	out.Replies = append(out.Replies, c)
}

func (t *table) Wake(now Now, out *Effects[*request]) {
	if t.alarms && now.Boot >= t.alarm {
		t.alarms = false
		t.woken.answer = "woken"
		out.Replies = append(out.Replies, t.woken)
	}
}

func (t *table) Deadline() (time.Duration, bool) { return t.alarm, t.alarms }

func (t *table) Parked() []*request {
	p := t.parked
	t.parked = nil
	if t.alarms {
		p = append(p, t.woken)
	}
	return p
}
