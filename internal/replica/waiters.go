package replica

import "github.com/kalda-io/kalda/internal/model"

// Waiter is told when what it waits for is so. Acked is called with the partition's
// lock held: it must not block nor call the partition.
type Waiter interface {
	// Acked says that the append registered as (slot, gen) is vouched for, or with err
	// that it never will be by this leader.
	Acked(slot int32, gen uint32, err error)
}

// waiter is one append that waits for a position of its partition.
type waiter struct {
	end  model.Offset // released once the position is at least end
	w    Waiter
	slot int32
	gen  uint32
}

// waitList is an ordered list of waiters, nearest first. Appends come in offset order,
// so adding is at the tail; only a duplicate of an older batch is sorted in. It keeps
// its memory, and holds nothing while empty for long (see release).
type waitList struct {
	q    []waiter
	head int
}

func (l *waitList) add(w waiter) {
	l.q = append(l.q, w)
	for i := len(l.q) - 1; i > l.head && l.q[i-1].end > w.end; i-- {
		l.q[i], l.q[i-1] = l.q[i-1], l.q[i]
	}
}

// extend is add for a waiter that wants to hear of failures only: if its Waiter is the last of
// the list already, that entry waits for this append as well.
func (l *waitList) extend(w waiter) {
	if n := len(l.q); n > l.head && l.q[n-1].w == w.w {
		l.q[n-1].end = max(l.q[n-1].end, w.end)
		return
	}
	l.add(w)
}

// release tells every waiter for a position up to pos.
func (l *waitList) release(pos model.Offset) {
	for l.head < len(l.q) && l.q[l.head].end <= pos {
		w := l.q[l.head]
		l.q[l.head] = waiter{}
		l.head++
		w.w.Acked(w.slot, w.gen, nil)
	}
	if l.head == len(l.q) {
		l.q = l.q[:0]
		l.head = 0
	}
}

// fail tells every waiter for a position above pos that it will not come, and forgets it.
func (l *waitList) fail(pos model.Offset, err error) {
	keep := l.q[:l.head]
	for _, w := range l.q[l.head:] {
		if w.end > pos {
			w.w.Acked(w.slot, w.gen, err)
			continue
		}
		keep = append(keep, w)
	}
	clear(l.q[len(keep):])
	l.q = keep
}

// FetchOwner is a parked fetch. Available is called with a partition's lock held: it
// must not block nor call a partition.
type FetchOwner interface {
	// Available says that the partition in slot has n bytes to read below its high
	// watermark now, or with n < 0 that it must be asked again at once (it is no longer
	// led here, or its start moved).
	Available(slot int, n int)
}

// FetchWatch ties one partition of a parked fetch to the partition, for as long as the
// fetch is parked. The owner keeps the memory; nothing is allocated per fetch.
type FetchWatch struct {
	owner      FetchOwner
	slot       int
	from       model.Offset
	maxBytes   int
	prev, next *FetchWatch
	on         bool
}

// fetchList is the intrusive list of watches of one partition.
type fetchList struct{ first *FetchWatch }

func (l *fetchList) add(w *FetchWatch) {
	w.prev, w.next, w.on = nil, l.first, true
	if l.first != nil {
		l.first.prev = w
	}
	l.first = w
}

func (l *fetchList) remove(w *FetchWatch) {
	if !w.on {
		return
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.on = nil, nil, false
}
