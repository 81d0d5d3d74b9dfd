package storage

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"

	"github.com/kalda-io/kalda/internal/model"
)

// keptProducers is how many producers a log remembers however full the directory is, so that
// those of one partition cannot take all room from those of another.
const keptProducers = 16

// producerBudget bounds the producers that the logs of a directory remember. A producer id is
// any number that a client puts into a batch, so without a bound clients decide how much
// memory they take.
type producerBudget struct {
	max  int64 // 0 is no bound
	used atomic.Int64
}

// recount tells the budget how many producers there are.
func (p *producers) recount() {
	if p.budget != nil {
		p.budget.used.Add(int64(len(p.byID) - p.counted))
		p.counted = len(p.byID)
	}
}

// reset forgets all producers.
func (p *producers) reset() {
	*p = producers{budget: p.budget, counted: p.counted}
	p.recount()
}

// release gives back what a closed log counted; its state stays for CleanEntry.
func (p *producers) release() {
	if p.budget != nil {
		p.budget.used.Add(int64(-p.counted))
		p.budget, p.counted = nil, 0
	}
}

// makeRoom forgets a quarter of the producers, those that appended least recently, when one
// more would exceed the directory's bound. What is forgotten is what an expiry forgets, and
// a write that fails later does not bring it back: a
// producer that goes on is taken for a new one, and repeats of its last batches are not
// recognised. One with an open transaction stays. A quarter at a time keeps the search for
// the oldest cheap per producer, and cannot empty a log.
func (p *producers) makeRoom() {
	if p.budget == nil || p.budget.max == 0 || len(p.byID) < keptProducers || p.budget.used.Load() < p.budget.max {
		return
	}
	type idle struct {
		id   model.ProducerID
		last model.Offset
	}
	var all []idle
	for id, st := range p.byID {
		if st.txnFirst >= 0 {
			continue
		}
		i := idle{id, math.MinInt64}
		if st.n > 0 {
			i.last = st.batches[st.n-1].last
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b idle) int { return cmp.Or(cmp.Compare(a.last, b.last), cmp.Compare(a.id, b.id)) })
	n := min(len(all), max(len(p.byID)/4, 1))
	for _, i := range all[:n] {
		delete(p.byID, i.id)
	}
	p.changed = p.changed || n > 0
	p.recount()
}
