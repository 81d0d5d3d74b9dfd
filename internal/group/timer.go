package group

import (
	"container/heap"
	"time"
)

// timer is one deadline: a member's session, a group's join or sync phase. Its owner
// embeds it. Moving a deadline later only writes due: the heap finds out when the old
// place comes up. A heartbeat therefore costs a store, and the heap works once per
// session timeout and member, not once per heartbeat.
type timer struct {
	// due is when the timer fires, on the scale of coordinator.Now.Boot.
	due time.Duration
	// place is where the heap has it; place <= due while it is queued.
	place time.Duration
	// index in the heap plus one; 0 when it is not queued.
	index int
	// fire is what happens at due. It is set once by the owner.
	fire func()
}

// timers is a heap of timers by place.
type timers []*timer

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].place < h[j].place }
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}
func (h *timers) Push(x any) {
	t := x.(*timer)
	*h = append(*h, t)
	t.index = len(*h)
}
func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = 0
	return t
}

// set makes t fire at due instead of whenever it would have.
func (h *timers) set(t *timer, due time.Duration) {
	t.due = due
	switch {
	case t.index == 0:
		t.place = due
		heap.Push(h, t)
	case due < t.place:
		t.place = due
		heap.Fix(h, t.index-1)
	}
}

// stop takes t out; it does not fire. Stopping a stopped timer does nothing.
func (h *timers) stop(t *timer) {
	if t.index != 0 {
		heap.Remove(h, t.index-1)
	}
}

// next returns when the heap wants to look again; false when it is empty.
func (h timers) next() (time.Duration, bool) {
	if len(h) == 0 {
		return 0, false
	}
	return h[0].place, true
}

// run fires all that is due.
func (h *timers) run(now time.Duration) {
	for len(*h) > 0 && (*h)[0].place <= now {
		t := (*h)[0]
		if t.due > now {
			t.place = t.due
			heap.Fix(h, 0)
			continue
		}
		heap.Pop(h)
		t.fire()
	}
}
