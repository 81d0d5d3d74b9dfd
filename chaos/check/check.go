// Package check judges the history of a chaos run. It is given events only, so that the same rules
// judge a live run, a history from a file, and the planted bugs of its tests.
//
// The rules, by their names in reports:
//
//	C1 lost       every send that is ok is found by each final reader at its offset
//	C2 duplicate  a value lies at one offset; counted only where the producer is not idempotent
//	C3 changed    an offset holds one value with one sum, over all sends and all readers, for all time
//	C4 order      the offsets of a producer's ok sends to a partition increase in the order in which
//	              they were sent; a reader's offsets increase without a gap
//	C5 phantom    no reader sees a value that nobody sent, or whose send is a definite failure
//	C8 offset     an ok send has a real offset, before the end that the final readers reached
//	C10 commit    what a group is told is committed is not behind any commit that was ok before it
//	              asked, and not ahead of every commit that it tried
//	C11 compacted of a compacted topic each final reader sees exactly the newest record of every key,
//	              or none where that is a tombstone; the run waits for the cleaner before they read
//	C12 consumed  every ok send to a topic of a group was handled by one of its members
//
// C1 and C4 ask less of some topics. Of a compacted one C11 says what is there, and offsets may have gaps.
// One with a retention limit begins where the broker says, and what lies before is deleted. A topic that
// was deleted in the run is judged by the reader that had read all of it before.
//
// C1 with a sum is "the same bytes": a record that was found with other bytes is C3.
package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kalda-io/kalda/chaos/history"
)

// Options say what the rules may assume.
type Options struct {
	// Idempotent names the topics whose producers are idempotent.
	Idempotent map[string]bool
	// EachIdempotent says so of every topic.
	EachIdempotent bool
	// FinalReaders names the processes that read every partition to its end after the last kill.
	FinalReaders []string
	// DeletedReader is the process that reads a topic to its end before it is deleted.
	DeletedReader string
	// Compacted names the topics with cleanup.policy=compact, Trimmed those with a retention limit.
	Compacted, Trimmed map[string]bool
	// Groups names the groups that must have handled every record of their topics.
	Groups map[string][]string
}

// Report is what the rules found.
type Report struct {
	OK, Failed, Unknown int            // sends by type
	Read                int            // records read by all final readers together
	Kills               int            //
	Commits             int            // ok commits of groups
	Joins, Leaves       int            // of members of groups
	Consumed            int            // records handled by groups
	Deleted             int            // topics deleted
	Trimmed             int64          // offsets before the beginning of partitions with a retention limit
	Compacted           int64          // ok sends of compacted topics of which no record is left
	Duplicates          map[string]int // by topic, allowed ones included
	Violations          []string       // empty if all rules hold; at most maxViolations
	Hidden              int            // violations beyond maxViolations
}

// maxViolations bounds a report: the first few say what broke.
const maxViolations = 50

func (r *Report) violate(format string, args ...any) {
	if len(r.Violations) == maxViolations {
		r.Hidden++
		return
	}
	r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
}

// place is one offset of one partition.
type place struct {
	topic     string
	partition int32
	offset    int64
}

func (p place) String() string { return fmt.Sprintf("%s-%d@%d", p.topic, p.partition, p.offset) }

// content is what a place holds, and who said so first.
type content struct{ value, sum, by string }

// stream is one process on one partition.
type stream struct {
	process, topic string
	partition      int32
}

// Check applies every rule to the events.
func Check(events []history.Event, o Options) Report {
	c := newChecker(o)
	for _, e := range events {
		c.take(e)
	}
	c.lost(events)
	c.order()
	for s, list := range c.groups {
		c.r.commits(s, list)
	}
	c.phantoms(events)
	c.duplicates()
	c.compacted()
	c.consumed(events)
	return c.r
}

// checker is what the rules gather in one walk through the events.
type checker struct {
	o Options
	r Report

	holds   map[place]content
	sends   map[string]history.Event   // by value
	acked   map[stream][]history.Event // ok sends
	lastSaw map[stream]int64           // readers' last offsets
	first   map[string]place           // by topic and value, where a reader saw it first
	more    map[string]map[place]bool  // by topic and value, all places, where there are several
	finals  map[string]map[place]bool  // by final reader, what it saw
	begins  map[stream]int64           // by final reader and partition
	ends    map[stream]int64           // by final reader and partition
	groups  map[stream][]history.Event // commits and what was committed
	handled map[string]map[place]bool  // by group
	deleted map[string]bool            // topics
	keys    map[key]*keyState          // of compacted topics
}

func newChecker(o Options) *checker {
	c := &checker{o: o, r: Report{Duplicates: make(map[string]int)},
		holds: make(map[place]content), sends: make(map[string]history.Event), acked: make(map[stream][]history.Event),
		lastSaw: make(map[stream]int64), first: make(map[string]place), more: make(map[string]map[place]bool),
		finals: make(map[string]map[place]bool), begins: make(map[stream]int64), ends: make(map[stream]int64),
		groups: make(map[stream][]history.Event), handled: make(map[string]map[place]bool), deleted: make(map[string]bool),
		keys: make(map[key]*keyState)}
	for _, f := range o.FinalReaders {
		c.finals[f] = make(map[place]bool)
	}
	if o.DeletedReader != "" {
		c.finals[o.DeletedReader] = make(map[place]bool)
	}
	for g := range o.Groups {
		c.handled[g] = make(map[place]bool)
	}
	return c
}

// claim notes who says that a place holds what.
func (c *checker) claim(e history.Event) {
	p := place{e.Topic, e.Partition, e.Offset}
	was, known := c.holds[p]
	switch {
	case !known:
		c.holds[p] = content{e.Value, e.Sum, e.Process}
	case was.value != e.Value:
		c.r.violate("C3 changed: %s holds %s for %s and %s for %s", p, was.value, was.by, e.Value, e.Process)
	case was.sum != e.Sum:
		c.r.violate("C3 changed: %s: the bytes of %s differ between %s and %s", p, e.Value, was.by, e.Process)
	}
}

// take notes one event, and applies the rules that need nothing but what came before.
func (c *checker) take(e history.Event) {
	r := &c.r
	p, s := place{e.Topic, e.Partition, e.Offset}, stream{e.Process, e.Topic, e.Partition}
	switch e.F {
	case history.Kill:
		r.Kills++
	case history.Send:
		if _, twice := c.sends[e.Value]; twice {
			r.violate("history: value %s was sent twice", e.Value)
		}
		c.sends[e.Value] = e
		switch e.Type {
		case history.OK:
			r.OK++
			if e.Offset < 0 {
				r.violate("C8 offset: %s was acknowledged at offset %d", e.Value, e.Offset)
				return
			}
			c.claim(e)
			c.acked[s] = append(c.acked[s], e)
		case history.Fail:
			r.Failed++
		default:
			r.Unknown++
		}
		c.noteKey(e)
	case history.Poll:
		c.claim(e)
		c.gap(e, s)
		c.saw(e, p)
		if final := c.finals[e.Process]; final != nil {
			final[p] = true
			r.Read++
		}
		c.noteKey(e)
	case history.Consume:
		c.claim(e)
		c.saw(e, p)
		if handled := c.handled[e.Process]; handled != nil {
			handled[p] = true
		}
		r.Consumed++
	case history.Commit, history.Committed:
		c.groups[s] = append(c.groups[s], e)
	case history.Join:
		r.Joins++
	case history.Leave:
		r.Leaves++
	case history.Delete:
		c.deleted[e.Topic] = true
		r.Deleted++
	case history.Begin:
		c.begins[s] = e.Offset
		if len(c.o.FinalReaders) > 0 && e.Process == c.o.FinalReaders[0] {
			r.Trimmed += e.Offset
		}
	case history.End:
		c.ends[s] = e.Offset
	}
}

// gap applies C4 to a reader.
func (c *checker) gap(e history.Event, s stream) {
	last, before := c.lastSaw[s]
	c.lastSaw[s] = e.Offset
	switch {
	case c.o.Compacted[e.Topic]:
		if before && e.Offset <= last {
			c.r.violate("C4 order: %s read %s-%d at offset %d after %d", e.Process, e.Topic, e.Partition, e.Offset, last)
		}
	case before && e.Offset != last+1:
		c.r.violate("C4 order: %s read %s-%d at offset %d after %d", e.Process, e.Topic, e.Partition, e.Offset, last)
	case !before && c.o.Trimmed[e.Topic]:
		if at := c.begins[s]; e.Offset != at {
			c.r.violate("C4 order: %s began %s-%d at offset %d, not at %d", e.Process, e.Topic, e.Partition, e.Offset, at)
		}
	case !before && e.Offset != 0:
		c.r.violate("C4 order: %s began %s-%d at offset %d, not at 0", e.Process, e.Topic, e.Partition, e.Offset)
	}
}

// saw notes that a reader saw a value at a place.
func (c *checker) saw(e history.Event, p place) {
	name := e.Topic + " " + e.Value
	was, known := c.first[name]
	switch {
	case !known:
		c.first[name] = p
	case was != p:
		if c.more[name] == nil {
			c.more[name] = map[place]bool{was: true}
		}
		c.more[name][p] = true
	}
}

// readers returns who must have read a topic to its end.
func (c *checker) readers(topic string) []string {
	if c.deleted[topic] {
		return []string{c.o.DeletedReader}
	}
	return c.o.FinalReaders
}

// lost applies C1.
func (c *checker) lost(events []history.Event) {
	r, lost, unfinished := &c.r, make(map[string]bool), make(map[stream]bool)
	for _, e := range events {
		if e.F != history.Send || e.Type != history.OK || e.Offset < 0 {
			continue
		}
		for _, f := range c.readers(e.Topic) {
			s := stream{f, e.Topic, e.Partition}
			end, read := c.ends[s]
			switch found := c.finals[f][place{e.Topic, e.Partition, e.Offset}]; {
			case !read:
				if !unfinished[s] {
					unfinished[s] = true
					r.violate("history: final reader %s did not reach the end of %s-%d", f, e.Topic, e.Partition)
				}
			case e.Offset >= end && !lost[e.Value]:
				lost[e.Value] = true
				r.violate("C1 lost: %s was acknowledged at %s-%d@%d, but %s finds the end at %d", e.Value, e.Topic, e.Partition, e.Offset, f, end)
			case c.o.Compacted[e.Topic]: // C11
			case c.o.Trimmed[e.Topic] && e.Offset < c.begins[s]: // deleted
			case !found && !lost[e.Value]:
				lost[e.Value] = true
				r.violate("C1 lost: %s was acknowledged at %s-%d@%d, and %s finds nothing there", e.Value, e.Topic, e.Partition, e.Offset, f)
			}
			// Another value at the place is C3, which claim has told.
		}
	}
}

// order applies C4 to the producers.
func (c *checker) order() {
	for s, list := range c.acked {
		slices.SortStableFunc(list, func(a, b history.Event) int { return cmp.Compare(a.Invoke, b.Invoke) })
		for i := 1; i < len(list); i++ {
			if list[i].Offset <= list[i-1].Offset {
				c.r.violate("C4 order: %s sent %s before %s to %s-%d, but they lie at %d and %d", s.process, list[i-1].Value, list[i].Value,
					s.topic, s.partition, list[i-1].Offset, list[i].Offset)
			}
		}
	}
}

// phantoms applies C5.
func (c *checker) phantoms(events []history.Event) {
	phantoms := make(map[string]bool)
	for _, e := range events {
		if e.F != history.Poll && e.F != history.Consume {
			continue
		}
		s, sent := c.sends[e.Value]
		switch {
		case phantoms[e.Value]:
		case !sent || s.Topic != e.Topic || s.Partition != e.Partition:
			phantoms[e.Value] = true
			c.r.violate("C5 phantom: %s read %s in %s-%d, where nobody sent it", e.Process, e.Value, e.Topic, e.Partition)
		case s.Type == history.Fail:
			phantoms[e.Value] = true
			c.r.violate("C5 phantom: %s read %s, whose send had failed: %s", e.Process, e.Value, s.Error)
		}
	}
}

// duplicates applies C2.
func (c *checker) duplicates() {
	for _, s := range c.sends {
		name := s.Topic + " " + s.Value
		if _, seen := c.first[name]; seen && s.Type == history.OK && s.Offset >= 0 {
			// The acknowledgement is a witness too.
			c.saw(s, place{s.Topic, s.Partition, s.Offset})
		}
		where := c.more[name]
		if len(where) < 2 {
			continue
		}
		c.r.Duplicates[s.Topic] += len(where) - 1
		if c.o.EachIdempotent || c.o.Idempotent[s.Topic] {
			var places []string
			for p := range where {
				places = append(places, p.String())
			}
			slices.Sort(places)
			c.r.violate("C2 duplicate: %s lies at %v although its producer is idempotent", s.Value, places)
		}
	}
}

// commits applies C10 to the commits of one group for one partition, and what it was told of them.
func (r *Report) commits(s stream, list []history.Event) {
	// Three walks in step: what was told in the order of asking, the ok commits in the order of their ends,
	// the commits in the order of their beginnings.
	var tolds, done, begun []history.Event
	for _, e := range list {
		switch {
		case e.F == history.Committed:
			tolds = append(tolds, e)
			continue
		case e.Type == history.OK:
			r.Commits++
			done = append(done, e)
		}
		begun = append(begun, e)
	}
	by := func(at func(history.Event) int64) func(a, b history.Event) int {
		return func(a, b history.Event) int { return cmp.Compare(at(a), at(b)) }
	}
	invoke := func(e history.Event) int64 { return e.Invoke }
	complete := func(e history.Event) int64 { return e.Complete }
	slices.SortStableFunc(done, by(complete))
	slices.SortStableFunc(begun, by(invoke))
	least, most := make(map[int64]int64, len(tolds)), make(map[int64]int64, len(tolds))
	slices.SortStableFunc(tolds, by(invoke))
	atLeast, i := int64(-1), 0
	for _, told := range tolds {
		for ; i < len(done) && done[i].Complete <= told.Invoke; i++ {
			atLeast = max(atLeast, done[i].Offset)
		}
		least[told.Invoke] = atLeast
	}
	slices.SortStableFunc(tolds, by(complete))
	atMost, i := int64(-1), 0
	for _, told := range tolds {
		for ; i < len(begun) && begun[i].Invoke <= told.Complete; i++ {
			atMost = max(atMost, begun[i].Offset)
		}
		most[told.Complete] = atMost
	}
	for _, told := range tolds {
		if atLeast, atMost := least[told.Invoke], most[told.Complete]; told.Offset < atLeast || told.Offset > atMost {
			r.violate("C10 commit: %s is told that %d is committed of %s-%d, want %d to %d", s.process, told.Offset, s.topic, s.partition, atLeast, atMost)
		}
	}
}
