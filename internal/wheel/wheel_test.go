package wheel

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kalda-io/kalda/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// alarm is an Entry that notes when it fired.
type alarm struct {
	Entry
	clock model.Clock
	fired []time.Duration
	then  func(now time.Duration)
}

func newAlarm(clock model.Clock) *alarm {
	a := &alarm{clock: clock}
	a.Target = a
	return a
}

func (a *alarm) Expire(_ *Entry, now time.Duration) {
	a.fired = append(a.fired, a.clock.Boot())
	if a.then != nil {
		a.then(now)
	}
}

// inBubble runs f beside a running wheel, in fake time.
func inBubble(t *testing.T, f func(t *testing.T, w *Wheel, clock model.Clock)) {
	synctest.Test(t, func(t *testing.T) {
		clock := model.SystemClock()
		w := New(clock)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(ctx) })
		f(t, w, clock)
		cancel()
		wg.Wait()
	})
}

// pass lets d of fake time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestFiresAtItsMillisecond(t *testing.T) {
	delays := []time.Duration{
		-time.Second, 0, 1, time.Millisecond, 1500 * time.Microsecond, 63 * time.Millisecond, 64 * time.Millisecond,
		65 * time.Millisecond, 4095 * time.Millisecond, 4096 * time.Millisecond, 4097 * time.Millisecond,
		262143 * time.Millisecond, 262145 * time.Millisecond, time.Hour, 30 * 24 * time.Hour, 400 * 24 * time.Hour,
	}
	for _, start := range []time.Duration{0, time.Millisecond, 4095 * time.Millisecond, 7777777 * time.Millisecond} {
		inBubble(t, func(t *testing.T, w *Wheel, clock model.Clock) {
			pass(start)
			alarms := make([]*alarm, len(delays))
			begin := clock.Boot()
			for i, d := range delays {
				alarms[i] = newAlarm(clock)
				w.Schedule(d, &alarms[i].Entry)
			}
			pass(500 * 24 * time.Hour)
			for i, d := range delays {
				want := begin + max(d, 0)
				if up := want.Truncate(time.Millisecond); up != want {
					want = up + time.Millisecond
				}
				if len(alarms[i].fired) != 1 || alarms[i].fired[0] != want {
					t.Errorf("start %v, after %v: fired at %v, want once at %v", start, d, alarms[i].fired, want)
				}
			}
		})
	}
}

func TestOverflowIsFarAway(t *testing.T) {
	inBubble(t, func(t *testing.T, w *Wheel, clock model.Clock) {
		pass(time.Second)
		a := newAlarm(clock)
		w.Schedule(math.MaxInt64, &a.Entry)
		pass(100 * 365 * 24 * time.Hour)
		if len(a.fired) != 0 {
			t.Errorf("fired at %v", a.fired)
		}
		if !w.Cancel(&a.Entry) || w.Len() != 0 {
			t.Error("the far entry was not scheduled")
		}
	})
}

// Tens of thousands of alarms, a part of them cancelled or moved on the way, against
// the obvious model: each fires exactly at its last time, or never.
func TestManyAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	inBubble(t, func(t *testing.T, w *Wheel, clock model.Clock) {
		const n = 40000
		alarms := make([]*alarm, n)
		want := make([]time.Duration, n) // -1: never
		delay := func() time.Duration {
			return time.Duration(rnd.Int64N(1<<rnd.IntN(24))) * time.Millisecond
		}
		for i := range alarms {
			alarms[i] = newAlarm(clock)
			d := delay()
			want[i] = clock.Boot() + d
			w.Schedule(d, &alarms[i].Entry)
			if i%100 == 0 {
				pass(time.Duration(rnd.IntN(50)) * time.Millisecond)
			}
			j := rnd.IntN(i + 1)
			pending := want[j] > clock.Boot()
			switch {
			case pending && i%3 == 0:
				if !w.Cancel(&alarms[j].Entry) {
					t.Fatalf("alarm %d due at %v cannot be cancelled at %v", j, want[j], clock.Boot())
				}
				want[j] = -1
			case pending && i%3 == 1:
				d := delay()
				want[j] = clock.Boot() + d
				w.Schedule(d, &alarms[j].Entry)
			}
		}
		pass(10 * time.Hour)
		for i, a := range alarms {
			if want[i] < 0 {
				if len(a.fired) != 0 {
					t.Fatalf("cancelled alarm %d fired at %v", i, a.fired)
				}
			} else if len(a.fired) != 1 || a.fired[0] != want[i] {
				t.Fatalf("alarm %d fired at %v, want once at %v", i, a.fired, want[i])
			}
		}
		if w.Len() != 0 {
			t.Errorf("%d entries left", w.Len())
		}
	})
}

func TestSameMillisecondKeepsOrderAndCanStillBeCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T, w *Wheel, clock model.Clock) {
		a, b, c := newAlarm(clock), newAlarm(clock), newAlarm(clock)
		var order []string
		a.then = func(time.Duration) {
			order = append(order, "a")
			if !w.Cancel(&b.Entry) {
				t.Error("b is due but its turn has not come: it can be cancelled")
			}
			if w.Cancel(&a.Entry) {
				t.Error("a is running: Cancel must say false")
			}
		}
		b.then = func(time.Duration) { order = append(order, "b") }
		c.then = func(time.Duration) { order = append(order, "c") }
		for _, x := range []*alarm{a, b, c} {
			w.Schedule(time.Second, &x.Entry)
		}
		pass(2 * time.Second)
		if len(order) != 2 || order[0] != "a" || order[1] != "c" {
			t.Errorf("order %v, want [a c]", order)
		}
	})
}

// An alarm that schedules itself from Expire, at once or later, is an ordinary alarm.
func TestRescheduleFromExpire(t *testing.T) {
	inBubble(t, func(t *testing.T, w *Wheel, clock model.Clock) {
		a, other := newAlarm(clock), newAlarm(clock)
		a.then = func(time.Duration) {
			switch n := len(a.fired); {
			case n < 1000:
				w.Schedule(0, &a.Entry)
			case n < 1010:
				w.Schedule(10*time.Millisecond, &a.Entry)
			}
		}
		w.Schedule(5*time.Millisecond, &a.Entry)
		w.Schedule(5*time.Millisecond, &other.Entry)
		pass(time.Second)
		if len(a.fired) != 1010 || a.fired[999] != 5*time.Millisecond || a.fired[1009] != 105*time.Millisecond {
			t.Errorf("fired %d times, last %v", len(a.fired), a.fired[len(a.fired)-1])
		}
		if len(other.fired) != 1 || other.fired[0] != 5*time.Millisecond {
			t.Errorf("the other fired at %v", other.fired)
		}
	})
}

// countingClock counts how often the wheel looks at the clock: that is how often it woke.
func countingClock() (model.Clock, *atomic.Int64) {
	clock, n := model.SystemClock(), new(atomic.Int64)
	boot := clock.Boot
	clock.Boot = func() time.Duration { n.Add(1); return boot() }
	return clock, n
}

func TestSleepsUntilEarliest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, reads := countingClock()
		w := New(clock)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(ctx) })
		synctest.Wait()

		reads.Store(0)
		pass(1000 * time.Hour)
		if reads.Load() != 0 {
			t.Errorf("the empty wheel looked at the clock %d times", reads.Load())
		}
		// One entry an hour away: a handful of looks (one per level), not one per tick.
		a := newAlarm(model.SystemClock())
		w.Schedule(time.Hour, &a.Entry)
		pass(2 * time.Hour)
		if len(a.fired) != 1 || reads.Load() > 3*levels {
			t.Errorf("fired %d times with %d looks at the clock", len(a.fired), reads.Load())
		}
		// A stream of long polls that are all cancelled at once wakes the wheel once per
		// timeout, not once per poll.
		pass(time.Hour)
		reads.Store(0)
		for range 1000 {
			w.ScheduleAt(clock.Boot()+500*time.Millisecond, &a.Entry)
			reads.Add(-1) // that was ours
			pass(time.Millisecond)
			if !w.Cancel(&a.Entry) {
				t.Fatal("not scheduled")
			}
		}
		if reads.Load() > 40 {
			t.Errorf("1000 cancelled entries in one second made the wheel look %d times", reads.Load())
		}
		cancel()
		wg.Wait()
	})
}

// The timer of package time may fire before Boot has come so far (another clock, or a
// test's offset): the wheel must look again instead of firing early.
func TestBootDecidesNotTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		// Boot runs at half the speed of package time.
		clock := model.Clock{Boot: func() time.Duration { return time.Since(start) / 2 }, Wall: time.Now}
		w := New(clock)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(ctx) })
		a := newAlarm(clock)
		w.Schedule(time.Second, &a.Entry)
		pass(10 * time.Second)
		if len(a.fired) != 1 || a.fired[0] < time.Second || a.fired[0] > time.Second+time.Millisecond {
			t.Errorf("fired at %v of Boot, want 1s", a.fired)
		}
		cancel()
		wg.Wait()
	})
}

func TestScheduledBeforeRunAndLeftAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := model.SystemClock()
		w := New(clock)
		a, b := newAlarm(clock), newAlarm(clock)
		w.Schedule(time.Second, &a.Entry)
		w.Schedule(time.Hour, &b.Entry)
		pass(2 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(ctx) })
		synctest.Wait()
		if len(a.fired) != 1 || a.fired[0] != 2*time.Second {
			t.Errorf("fired at %v, want when Run began", a.fired)
		}
		cancel()
		wg.Wait()
		pass(2 * time.Hour)
		if len(b.fired) != 0 || w.Len() != 1 {
			t.Error("the wheel fired after Run returned")
		}
	})
}

func TestNoAllocations(t *testing.T) {
	w := New(model.SystemClock())
	a := newAlarm(model.SystemClock())
	if n := testing.AllocsPerRun(1000, func() {
		w.Schedule(time.Second, &a.Entry)
		w.Schedule(time.Hour, &a.Entry)
		w.Cancel(&a.Entry)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// counter counts how often it fired; used from many goroutines.
type counter struct {
	Entry
	mu    sync.Mutex
	fired int
}

func (c *counter) Expire(*Entry, time.Duration) {
	c.mu.Lock()
	c.fired++
	c.mu.Unlock()
}

// Real time, many goroutines: every schedule ends in exactly one of fired or cancelled.
func TestRace(t *testing.T) {
	w := New(model.SystemClock())
	ctx, cancel := context.WithCancel(t.Context())
	var run, users sync.WaitGroup
	run.Go(func() { w.Run(ctx) })
	for g := range 8 {
		users.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 7))
			for range 300 {
				c := new(counter)
				c.Target = c
				w.Schedule(time.Duration(rnd.IntN(3000))*time.Microsecond, &c.Entry)
				if rnd.IntN(2) == 0 {
					<-time.After(time.Duration(rnd.IntN(1000)) * time.Microsecond)
				}
				cancelled := w.Cancel(&c.Entry)
				// A marker scheduled after c's Cancel: when it fired, c's Expire is over.
				m := marker{done: make(chan struct{})}
				m.Target = &m
				w.Schedule(0, &m.Entry)
				<-m.done
				c.mu.Lock()
				if cancelled == (c.fired == 1) {
					t.Errorf("cancelled %v, fired %d times", cancelled, c.fired)
				}
				c.mu.Unlock()
			}
		})
	}
	users.Wait()
	cancel()
	run.Wait()
	if w.Len() != 0 {
		t.Errorf("%d entries left", w.Len())
	}
}

type marker struct {
	Entry
	done chan struct{}
}

func (m *marker) Expire(*Entry, time.Duration) { close(m.done) }

func BenchmarkScheduleCancel(b *testing.B) {
	w := New(model.SystemClock())
	a := newAlarm(model.SystemClock())
	b.ReportAllocs()
	at := w.clock.Boot() + 500*time.Millisecond
	for b.Loop() {
		w.ScheduleAt(at, &a.Entry)
		w.Cancel(&a.Entry)
	}
}
