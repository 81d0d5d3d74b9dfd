package server

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Budget bounds the bytes that the requests of all connections hold: read buffers beyond
// aheadBytes, which every connection may have without asking, and requests that are taken
// apart. Servers share one. It never refuses, it lets wait:
//
//   - who holds nothing waits in line until the bytes fit;
//   - who holds something goes first, because its end gives bytes back;
//   - one holder at a time may go beyond the limit, so that holders which all wait for
//     each other cannot exist.
//
// So what is held is at most the limit and one request. A request larger than the limit
// passes, alone, once no more than half of the limit is held.
type Budget struct {
	limit atomic.Int64
	held  atomic.Int64 // written under mu
	queue atomic.Int64 // length of mu.waiting, for readers without the lock
	waits atomic.Uint64

	mu struct {
		sync.Mutex
		waiting []*account // in the order of arrival
		over    *account   // goes beyond the limit
	}
}

// NewBudget returns a budget of so many bytes; 0 or less is no limit.
func NewBudget(bytes int64) *Budget {
	b := &Budget{}
	if bytes <= 0 {
		bytes = math.MaxInt64
	}
	b.limit.Store(bytes)
	return b
}

// BudgetStats is a snapshot of a Budget.
type BudgetStats struct {
	// Limit and Held are bytes.
	Limit, Held int64
	// Waiting connections now, and Waits since the start.
	Waiting int64
	Waits   uint64
}

// Stats returns what is held now.
func (b *Budget) Stats() BudgetStats {
	return BudgetStats{Limit: b.limit.Load(), Held: b.held.Load(), Waiting: b.queue.Load(), Waits: b.waits.Load()}
}

// tight says that more than half is held: nobody shall keep what it does not use.
func (b *Budget) tight() bool { return b.held.Load() > b.limit.Load()/2 }

// pressed says that somebody waits.
func (b *Budget) pressed() bool { return b.queue.Load() > 0 }

// account is what one connection holds of a budget. Only its connection's reader takes;
// others may give.
type account struct {
	b       *Budget
	held    int64 // guarded by b.mu, as the rest
	want    int64
	granted chan struct{} // not nil while it waits
}

// tryTake takes n bytes if nobody has to wait for it.
func (a *account) tryTake(n int64) bool {
	if n <= 0 {
		return true
	}
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	behind := len(b.mu.waiting) > 0 && (a.held == 0 || b.firstHolderLocked() >= 0)
	if behind && b.mu.over != a || !b.fitsLocked(a, n) {
		return false
	}
	b.takeLocked(a, n)
	return true
}

// line takes n bytes as soon as they are there; the channel is closed then. Call leave if
// they are not wanted any more.
func (a *account) line(n int64) <-chan struct{} {
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	a.want, a.granted = n, make(chan struct{})
	got := a.granted
	b.mu.waiting = append(b.mu.waiting, a)
	b.queue.Add(1)
	b.waits.Add(1)
	b.serveLocked()
	return got
}

// leave ends the waiting; what was taken in the meantime is given back.
func (a *account) leave() {
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.granted == nil {
		b.giveLocked(a, a.want)
	} else {
		for i, w := range b.mu.waiting {
			if w == a {
				b.removeLocked(i)
				break
			}
		}
		a.granted = nil
	}
	b.serveLocked()
}

// give gives n bytes back; more than is held counts as all.
func (a *account) give(n int64) {
	if n <= 0 {
		return
	}
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveLocked(a, n)
	b.serveLocked()
}

// holds is how many bytes the connection holds.
func (a *account) holds() int64 {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	return a.held
}

// close gives everything back.
func (a *account) close() { a.give(math.MaxInt64) }

func (b *Budget) giveLocked(a *account, n int64) {
	n = min(n, a.held)
	a.held -= n
	b.held.Add(-n)
	if b.mu.over == a && (a.held == 0 || b.held.Load() <= b.limit.Load()) {
		b.mu.over = nil
	}
}

func (b *Budget) takeLocked(a *account, n int64) {
	a.held += n
	if b.held.Add(n) > b.limit.Load() && b.mu.over == nil {
		b.mu.over = a
	}
}

// fitsLocked says whether a may take n now.
func (b *Budget) fitsLocked(a *account, n int64) bool {
	held, limit := b.held.Load(), b.limit.Load()
	if n <= limit-held || b.mu.over == a {
		return true
	}
	return b.mu.over == nil && (a.held > 0 || held <= limit/2)
}

func (b *Budget) firstHolderLocked() int {
	for i, a := range b.mu.waiting {
		if a.held > 0 {
			return i
		}
	}
	return -1
}

// serveLocked lets through who may go now.
func (b *Budget) serveLocked() {
	for len(b.mu.waiting) > 0 {
		i := b.firstHolderLocked()
		if b.mu.over != nil && b.mu.over.granted != nil {
			// Whoever is beyond the limit already must come to its end.
			for j, a := range b.mu.waiting {
				if a == b.mu.over {
					i = j
				}
			}
		}
		a := b.mu.waiting[max(i, 0)]
		if !b.fitsLocked(a, a.want) {
			return
		}
		b.removeLocked(max(i, 0))
		b.takeLocked(a, a.want)
		close(a.granted)
		a.granted = nil
	}
}

func (b *Budget) removeLocked(i int) {
	b.mu.waiting = append(b.mu.waiting[:i], b.mu.waiting[i+1:]...)
	b.queue.Add(-1)
}

// OutputBudget bounds the bytes of answers that all connections hold in memory beyond
// outputBase each. At the bound a connection starts no request before its own answers are
// written, the answers of Fetch are sent in smaller pieces, and other large ones wait in
// line (wire.Pending.ReserveAnswer) until they fit, or until no more than half is held: so
// what is held is at most the limit, or half of it and one answer.
type OutputBudget struct {
	limit, held atomic.Int64
	queue       atomic.Int64 // length of mu.waiting, for readers without the lock
	waits       atomic.Uint64

	mu struct {
		sync.Mutex
		waiting []*outputWait // in the order of arrival
	}
}

// outputWait is an answer that waits for its bytes.
type outputWait struct {
	bytes   int64
	granted chan struct{} // closed when they are taken
}

// NewOutputBudget returns a budget of so many bytes; 0 or less is no limit.
func NewOutputBudget(bytes int64) *OutputBudget {
	b := &OutputBudget{}
	if bytes <= 0 {
		bytes = math.MaxInt64
	}
	b.limit.Store(bytes)
	return b
}

// Stats returns what is held now.
func (b *OutputBudget) Stats() (limit, held int64) { return b.limit.Load(), b.held.Load() }

// Waits returns how many answers wait now, and how many had to since the start.
func (b *OutputBudget) Waits() (waiting int64, total uint64) { return b.queue.Load(), b.waits.Load() }

// pressed says that somebody waits.
func (b *OutputBudget) pressed() bool { return b.queue.Load() > 0 }

// add changes what is held. What is given back goes to those who wait.
func (b *OutputBudget) add(n int64) {
	b.held.Add(n)
	if n < 0 && b.pressed() {
		b.mu.Lock()
		b.serveLocked()
		b.mu.Unlock()
	}
}

// tryTake takes n bytes, all of them, if nobody has to wait for that.
func (b *OutputBudget) tryTake(n int64) bool { return !b.pressed() && b.takeIfFits(n) }

func (b *OutputBudget) takeIfFits(n int64) bool {
	for {
		held, limit := b.held.Load(), b.limit.Load()
		if n > limit-held && held > limit/2 {
			return false
		}
		if b.held.CompareAndSwap(held, held+n) {
			return true
		}
	}
}

// line takes n bytes as soon as they are there; granted is closed then. Call leave with
// the result if they are not wanted any more.
func (b *OutputBudget) line(n int64) *outputWait {
	w := &outputWait{bytes: n, granted: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.waiting = append(b.mu.waiting, w)
	b.queue.Add(1) // before it looks: whoever gives back later sees it
	b.waits.Add(1)
	b.serveLocked()
	return w
}

// leave ends the waiting; what was taken in the meantime is given back.
func (b *OutputBudget) leave(w *outputWait) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.mu.waiting {
		if b.mu.waiting[i] == w {
			b.removeLocked(i)
			b.serveLocked() // it may have been all that the next ones waited for
			return
		}
	}
	b.held.Add(-w.bytes)
	b.serveLocked()
}

func (b *OutputBudget) serveLocked() {
	for len(b.mu.waiting) > 0 && b.takeIfFits(b.mu.waiting[0].bytes) {
		close(b.mu.waiting[0].granted)
		b.removeLocked(0)
	}
}

func (b *OutputBudget) removeLocked(i int) {
	b.mu.waiting = slices.Delete(b.mu.waiting, i, i+1)
	b.queue.Add(-1)
}

func (b *OutputBudget) full() bool  { return b.held.Load() >= b.limit.Load() }
func (b *OutputBudget) tight() bool { return b.held.Load() > b.limit.Load()/2 }

// spare takes n bytes if they are there and nobody waits for them.
func (b *OutputBudget) spare(n int64) bool {
	for !b.pressed() {
		held := b.held.Load()
		if n > b.limit.Load()-held {
			return false
		}
		if b.held.CompareAndSwap(held, held+n) {
			return true
		}
	}
	return false
}
