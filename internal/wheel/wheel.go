// Package wheel is the broker's alarm clock: one timing wheel for every expiry that
// a request may need (fetch.max.wait.ms, produce timeouts, sessions), so that no
// request costs a timer, a channel or a goroutine.
//
// Time is cut into ticks of one millisecond. Seven levels of 64 slots cover 139
// years; a level's slot spans all 64 slots of the level below it:
//
//	level 0   |0|1|2| ... |63|                   1 ms each
//	level 1   |  0  |  1  | ... |  63  |        64 ms each
//	level 2   |       0       | ...           4096 ms each
//
// An entry sits at the level of the highest bit group in which its tick differs from
// the wheel's present. When the present reaches the slot of an upper level, its
// entries move down; at level 0 they are due.
//
// Invariants:
//
//  1. An entry never fires before its time; it fires in the first millisecond at which
//     Clock.Boot has reached it and the wheel's goroutine runs.
//  2. Every linked entry lies behind the present, in the slot that its tick names, so the
//     lowest level that holds anything holds the earliest entry.
//  3. The goroutine sleeps until the first occupied slot. It has no tick: an empty
//     wheel never wakes. An entry that is cancelled leaves its wake-up in place, so that a
//     stream of "schedule, cancel" costs one wake-up per timeout and not one per entry.
//
// Schedule and Cancel are safe from any goroutine, also with locks held and inside
// Expire: the wheel calls out without its own lock.
package wheel

import (
	"context"
	"math"
	"math/bits"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

const (
	slotBits  = 6
	slotCount = 1 << slotBits
	levels    = 7
	// lastTick is the farthest tick that the wheel can tell from others (139 years).
	lastTick = 1<<(slotBits*levels) - 1
	// awake marks, in wakeAt, a goroutine that is awake (or not started): it looks
	// at the wheel again before it sleeps, so nobody needs to signal it.
	awake = math.MinInt64
	// now is the wake-up of a wheel that has due entries. A sleeper always waits for a
	// tick behind the present, so for 1 at least.
	now = 0
	// never is the wake-up of an empty wheel.
	never = math.MaxInt64
)

// Target is told when an entry's time has come.
type Target interface {
	// Expire runs on the wheel's goroutine, so it must be short and must not block. now
	// is Clock.Boot when this round of expiries began. e is not scheduled any more and
	// may be scheduled again, also from here.
	Expire(e *Entry, now time.Duration)
}

// Where an entry is linked.
const (
	unlinked = iota
	inDue
	inLevel // inLevel+l: in level l
)

// Entry is one alarm. Embed it in the thing that expires and set Target once; a zero
// Entry is not scheduled. An Entry must not be copied or dropped while scheduled.
type Entry struct {
	// Target is told; set it before the first Schedule.
	Target Target

	// The rest is guarded by the wheel's lock.
	next, prev *Entry // a ring; nil when unlinked
	tick       int64  // millisecond of Clock.Boot at which the entry is due
	place      uint8  // unlinked, inDue, or inLevel plus the level
}

// Wheel holds entries until their time. Use New.
type Wheel struct {
	clock model.Clock
	// signal tells the sleeping goroutine that wakeAt moved forward. Capacity 1: a
	// second signal before the first is seen says nothing new.
	signal chan struct{}

	mu struct {
		sync.Mutex
		present  int64 // every tick up to here has been dealt with
		wakeAt   int64 // the tick until which the goroutine sleeps; awake; never
		count    int
		occupied [levels]uint64
		slots    [levels][slotCount]*Entry
		due      *Entry // due but not yet told, oldest first
		dueCount int
	}
}

// New returns an empty wheel that reads clock.Boot. Nothing fires until Run.
func New(clock model.Clock) *Wheel {
	w := &Wheel{clock: clock, signal: make(chan struct{}, 1)}
	w.mu.present = toTickDown(clock.Boot())
	w.mu.wakeAt = awake
	return w
}

// toTickDown returns the millisecond that has begun by d.
func toTickDown(d time.Duration) int64 { return int64(d / time.Millisecond) }

// toTickUp returns the first millisecond not before d, within the wheel's reach.
func toTickUp(d time.Duration) int64 {
	t := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		t++
	}
	return min(t, lastTick)
}

// Schedule makes e fire once after has passed; at once (on the wheel's goroutine) if
// after is not positive. An entry that is scheduled already is moved.
func (w *Wheel) Schedule(after time.Duration, e *Entry) {
	boot := w.clock.Boot()
	at := boot + after
	if after > 0 && at < boot { // overflow: as far as the wheel reaches
		at = math.MaxInt64
	}
	w.ScheduleAt(at, e)
}

// ScheduleAt is Schedule for a point of Clock.Boot. Callers that hold the time of
// their drain use it to save reading the clock.
func (w *Wheel) ScheduleAt(at time.Duration, e *Entry) {
	w.mu.Lock()
	if e.place != unlinked {
		w.unlinkLocked(e)
	}
	e.tick = toTickUp(at)
	start := w.linkLocked(e)
	wake := start < w.mu.wakeAt
	if wake {
		w.mu.wakeAt = start
	}
	w.mu.Unlock()
	if wake {
		select {
		case w.signal <- struct{}{}:
		default:
		}
	}
}

// Cancel takes e out. It says whether e was scheduled: if true, Expire will not be
// called; if false, e was never scheduled, or Expire has run or is running now.
func (w *Wheel) Cancel(e *Entry) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.place == unlinked {
		return false
	}
	w.unlinkLocked(e)
	return true
}

// Len returns how many entries are scheduled.
func (w *Wheel) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.count
}

// Run fires entries until ctx ends. Entries that are still scheduled then stay so and
// do not fire. Only one Run at a time.
func (w *Wheel) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		wakeAt := w.fire(ctx)
		for wakeAt != awake {
			// The timer runs on the clock of package time, which may stand still while
			// the machine sleeps. Boot decides, so it is read again after every wake-up.
			left := time.Duration(math.MaxInt64)
			if wakeAt != never {
				left = time.Duration(wakeAt)*time.Millisecond - w.clock.Boot()
			}
			if left <= 0 {
				break
			}
			timer.Reset(left)
			select {
			case <-ctx.Done():
				w.stay()
				return
			case <-timer.C:
				wakeAt = w.stay()
			case <-w.signal:
				w.mu.Lock()
				wakeAt = w.mu.wakeAt
				w.mu.Unlock()
			}
		}
	}
	w.stay()
}

// stay marks the goroutine as awake.
func (w *Wheel) stay() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.wakeAt = awake
	return awake
}

// fire tells everything that is due and returns the tick until which to sleep.
func (w *Wheel) fire(ctx context.Context) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.wakeAt = awake
	boot := w.clock.Boot()
	w.advanceLocked(toTickDown(boot))
	// One at a time: an entry can be cancelled until the moment its own turn comes. An
	// Expire that schedules itself at once again waits for the next round, so that it
	// cannot hold up the rest of the wheel.
	for n := w.mu.dueCount; n > 0 && w.mu.due != nil && ctx.Err() == nil; n-- {
		e := w.mu.due
		w.unlinkLocked(e)
		w.mu.Unlock()
		e.Target.Expire(e, boot)
		w.mu.Lock()
	}
	w.mu.wakeAt = w.firstLocked()
	return w.mu.wakeAt
}

// linkLocked puts e where its tick belongs and returns the tick at which the wheel
// must look at it next.
func (w *Wheel) linkLocked(e *Entry) int64 {
	w.mu.count++
	if e.tick <= w.mu.present {
		e.place = inDue
		push(&w.mu.due, e)
		w.mu.dueCount++
		return now // before any tick that a sleeper waits for
	}
	level := (bits.Len64(uint64(e.tick^w.mu.present)) - 1) / slotBits
	shift := uint(level * slotBits)
	slot := (e.tick >> shift) & (slotCount - 1)
	e.place = uint8(inLevel + level)
	push(&w.mu.slots[level][slot], e)
	w.mu.occupied[level] |= 1 << slot
	return e.tick >> shift << shift
}

func (w *Wheel) unlinkLocked(e *Entry) {
	w.mu.count--
	if e.place == inDue {
		w.mu.dueCount--
		remove(&w.mu.due, e)
	} else {
		level := int(e.place) - inLevel
		slot := (e.tick >> uint(level*slotBits)) & (slotCount - 1)
		remove(&w.mu.slots[level][slot], e)
		if w.mu.slots[level][slot] == nil {
			w.mu.occupied[level] &^= 1 << slot
		}
	}
	e.place = unlinked
}

// firstSlotLocked returns the earliest occupied slot and the tick at which it begins.
func (w *Wheel) firstSlotLocked() (level, slot int, start int64, ok bool) {
	for level := range levels {
		if occupied := w.mu.occupied[level]; occupied != 0 {
			slot := bits.TrailingZeros64(occupied)
			shift := uint(level * slotBits)
			base := w.mu.present >> (shift + slotBits) << (shift + slotBits)
			return level, slot, base + int64(slot)<<shift, true
		}
	}
	return 0, 0, 0, false
}

func (w *Wheel) firstLocked() int64 {
	if w.mu.due != nil {
		return now
	}
	if _, _, start, ok := w.firstSlotLocked(); ok {
		return start
	}
	return never
}

// advanceLocked moves the present to the given tick; what becomes due on the way joins the due list.
func (w *Wheel) advanceLocked(to int64) {
	for {
		level, slot, start, ok := w.firstSlotLocked()
		if !ok || start > to {
			break
		}
		w.mu.present = start
		head := &w.mu.slots[level][slot]
		for *head != nil {
			e := *head
			w.unlinkLocked(e)
			w.linkLocked(e) // one level down, or due
		}
	}
	w.mu.present = max(w.mu.present, to)
}

// push appends e to the ring that *head begins.
func push(head **Entry, e *Entry) {
	if *head == nil {
		e.next, e.prev = e, e
		*head = e
		return
	}
	first, last := *head, (*head).prev
	last.next, e.prev = e, last
	e.next, first.prev = first, e
}

// remove takes e out of the ring that *head begins.
func remove(head **Entry, e *Entry) {
	if e.next == e {
		*head = nil
	} else {
		e.prev.next, e.next.prev = e.next, e.prev
		if *head == e {
			*head = e.next
		}
	}
	e.next, e.prev = nil, nil
}
