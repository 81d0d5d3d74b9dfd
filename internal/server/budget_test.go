package server

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newAccount(b *Budget) *account { return &account{b: b} }

// has says whether a channel is closed.
func has(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestBudgetLine(t *testing.T) {
	b := NewBudget(100)
	x, y, z := newAccount(b), newAccount(b), newAccount(b)
	if !x.tryTake(60) || !y.tryTake(40) {
		t.Fatal("what fits is not given")
	}
	if z.tryTake(1) {
		t.Fatal("more than the limit is given to one who holds nothing")
	}
	first := z.line(10)
	w := newAccount(b)
	second := w.line(1)
	if has(first) || has(second) || !b.pressed() {
		t.Fatal("given without bytes")
	}
	y.give(5) // 1 would fit, but its owner came later
	if has(first) || has(second) {
		t.Fatal("the second in line went first")
	}
	if v := newAccount(b); v.tryTake(1) {
		t.Fatal("a newcomer went before those in line")
	}
	y.give(6)
	if !has(first) || !has(second) {
		t.Fatal("not given although there is room")
	}
	if st := b.Stats(); st != (BudgetStats{Limit: 100, Held: 100, Waits: 2}) {
		t.Fatalf("%+v", st)
	}
	for _, a := range []*account{w, x, y, z} {
		a.close()
	}
	if b.Stats().Held != 0 {
		t.Error("something is held in the end")
	}
}

// Two that hold everything and both want more do not wait for each other.
func TestBudgetHasNoDeadlock(t *testing.T) {
	b := NewBudget(100)
	x, y, z := newAccount(b), newAccount(b), newAccount(b)
	x.tryTake(50)
	y.tryTake(50)
	late := z.line(10)
	if !x.tryTake(50) {
		t.Fatal("nobody may go beyond the limit")
	}
	wants := y.line(50)
	if has(wants) {
		t.Fatal("two go beyond the limit")
	}
	if !x.tryTake(1000) {
		t.Fatal("who is beyond the limit cannot come to its end")
	}
	x.close()
	if !has(wants) || has(late) {
		t.Fatal("a holder does not go before who holds nothing")
	}
	y.close()
	if !has(late) {
		t.Fatal("the last one waits for nobody")
	}
	z.close()
}

// More than the limit passes, one at a time.
func TestBudgetLargerThanTheLimit(t *testing.T) {
	b := NewBudget(100)
	x, y := newAccount(b), newAccount(b)
	x.tryTake(60)
	big := y.line(500)
	if has(big) {
		t.Fatal("given while more than half is held")
	}
	x.give(20)
	if !has(big) {
		t.Fatal("never given")
	}
	y.close()
	x.close()
}

func TestBudgetLeave(t *testing.T) {
	b := NewBudget(100)
	x, y, z := newAccount(b), newAccount(b), newAccount(b)
	x.tryTake(100)
	left, stays := y.line(90), z.line(20)
	y.leave()
	x.give(30)
	if has(left) || !has(stays) {
		t.Fatal("who left is still in line")
	}
	again := y.line(30)
	x.close()
	if !has(again) {
		t.Fatal("not given")
	}
	y.leave() // it did not notice: the bytes come back
	if b.Stats().Held != 20 {
		t.Errorf("%+v", b.Stats())
	}
}

// Many at once: the limit is exceeded by one of them at most, everybody comes to an end.
func TestBudgetAtRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, most = 1000, 700
		b := NewBudget(limit)
		var wg sync.WaitGroup
		for seed := range uint64(50) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, 1))
				a := newAccount(b)
				for range 200 {
					held := int64(0)
					for held < most && r.IntN(4) > 0 {
						n := 1 + r.Int64N(most-held)
						if !a.tryTake(n) {
							granted := a.line(n)
							select {
							case <-granted:
							case <-time.After(time.Duration(r.IntN(100)+1) * time.Second):
								a.leave()
								n = 0
							}
						}
						held += n
						if h := b.Stats().Held; h > limit+most {
							t.Errorf("%d held of %d", h, limit)
						}
						<-time.After(time.Duration(r.IntN(10)) * time.Millisecond)
					}
					a.give(held)
				}
			})
		}
		wg.Wait()
		if st := b.Stats(); st.Held != 0 || st.Waiting != 0 || b.mu.over != nil {
			t.Errorf("%+v", st)
		}
	})
}
