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
	// FinalReaders names the processes that read every partition to its end after the last kill.
	FinalReaders []string
}

// Report is what the rules found.
type Report struct {
	OK, Failed, Unknown int            // sends by type
	Read                int            // records read by all final readers together
	Kills               int            //
	Commits             int            // ok commits of groups
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
	r := Report{Duplicates: make(map[string]int)}
	var (
		holds   = make(map[place]content)
		sends   = make(map[string]history.Event)    // by value
		acked   = make(map[stream][]history.Event)  // ok sends
		lastSaw = make(map[stream]int64)            // readers' last offsets
		at      = make(map[string]map[int64]place)  // by topic/value, the offsets at which readers saw it
		finals  = make(map[string]map[place]string) // by final reader, place -> value
		ends    = make(map[stream]int64)            // by final reader and partition
		seen    []history.Event                     // polls, for rules that need all sends first
		groups  = make(map[stream][]history.Event)  // commits and what was committed
	)
	for _, f := range o.FinalReaders {
		finals[f] = make(map[place]string)
	}
	claim := func(e history.Event) {
		p := place{e.Topic, e.Partition, e.Offset}
		was, known := holds[p]
		switch {
		case !known:
			holds[p] = content{e.Value, e.Sum, e.Process}
		case was.value != e.Value:
			r.violate("C3 changed: %s holds %s for %s and %s for %s", p, was.value, was.by, e.Value, e.Process)
		case was.sum != e.Sum:
			r.violate("C3 changed: %s: the bytes of %s differ between %s and %s", p, e.Value, was.by, e.Process)
		}
	}
	for _, e := range events {
		switch e.F {
		case history.Kill:
			r.Kills++
		case history.Send:
			if _, twice := sends[e.Value]; twice {
				r.violate("history: value %s was sent twice", e.Value)
			}
			sends[e.Value] = e
			switch e.Type {
			case history.OK:
				r.OK++
				if e.Offset < 0 {
					r.violate("C8 offset: %s was acknowledged at offset %d", e.Value, e.Offset)
					continue
				}
				claim(e)
				s := stream{e.Process, e.Topic, e.Partition}
				acked[s] = append(acked[s], e)
			case history.Fail:
				r.Failed++
			default:
				r.Unknown++
			}
		case history.Poll:
			claim(e)
			s := stream{e.Process, e.Topic, e.Partition}
			if last, ok := lastSaw[s]; ok && e.Offset != last+1 {
				r.violate("C4 order: %s read %s-%d at offset %d after %d", e.Process, e.Topic, e.Partition, e.Offset, last)
			} else if !ok && e.Offset != 0 {
				r.violate("C4 order: %s began %s-%d at offset %d, not at 0", e.Process, e.Topic, e.Partition, e.Offset)
			}
			lastSaw[s] = e.Offset
			name := e.Topic + " " + e.Value
			if at[name] == nil {
				at[name] = make(map[int64]place, 1)
			}
			// The partition is part of the place: the same offset of two partitions is two places.
			p := place{e.Topic, e.Partition, e.Offset}
			at[name][e.Offset<<16|int64(e.Partition)] = p
			if final := finals[e.Process]; final != nil {
				final[p] = e.Value
				r.Read++
			}
			seen = append(seen, e)
		case history.Commit, history.Committed:
			s := stream{e.Process, e.Topic, e.Partition}
			groups[s] = append(groups[s], e)
		case history.End:
			ends[stream{e.Process, e.Topic, e.Partition}] = e.Offset
		}
	}

	lost, unfinished := make(map[string]bool), make(map[stream]bool)
	for _, e := range events {
		if e.F != history.Send || e.Type != history.OK || e.Offset < 0 {
			continue
		}
		for _, f := range o.FinalReaders {
			end, read := ends[stream{f, e.Topic, e.Partition}]
			switch _, found := finals[f][place{e.Topic, e.Partition, e.Offset}]; {
			case !read:
				if unread := (stream{f, e.Topic, e.Partition}); !unfinished[unread] {
					unfinished[unread] = true
					r.violate("history: final reader %s did not reach the end of %s-%d", f, e.Topic, e.Partition)
				}
			case e.Offset >= end && !lost[e.Value]:
				lost[e.Value] = true
				r.violate("C1 lost: %s was acknowledged at %s-%d@%d, but %s finds the end at %d", e.Value, e.Topic, e.Partition, e.Offset, f, end)
			case !found && !lost[e.Value]:
				lost[e.Value] = true
				r.violate("C1 lost: %s was acknowledged at %s-%d@%d, and %s finds nothing there", e.Value, e.Topic, e.Partition, e.Offset, f)
			}
			// Another value at the place is C3, which claim has told.
		}
	}
	for s, list := range acked {
		slices.SortStableFunc(list, func(a, b history.Event) int { return cmp.Compare(a.Invoke, b.Invoke) })
		for i := 1; i < len(list); i++ {
			if list[i].Offset <= list[i-1].Offset {
				r.violate("C4 order: %s sent %s before %s to %s-%d, but they lie at %d and %d", s.process, list[i-1].Value, list[i].Value,
					s.topic, s.partition, list[i-1].Offset, list[i].Offset)
			}
		}
	}
	for s, list := range groups {
		r.commits(s, list)
	}
	phantoms := make(map[string]bool)
	for _, e := range seen {
		s, sent := sends[e.Value]
		switch {
		case phantoms[e.Value]:
		case !sent || s.Topic != e.Topic || s.Partition != e.Partition:
			phantoms[e.Value] = true
			r.violate("C5 phantom: %s read %s in %s-%d, where nobody sent it", e.Process, e.Value, e.Topic, e.Partition)
		case s.Type == history.Fail:
			phantoms[e.Value] = true
			r.violate("C5 phantom: %s read %s, whose send had failed: %s", e.Process, e.Value, s.Error)
		}
	}
	for _, s := range sends {
		where := at[s.Topic+" "+s.Value]
		if s.Type == history.OK && s.Offset >= 0 {
			// The acknowledgement is a witness too.
			if where == nil {
				continue
			}
			where[s.Offset<<16|int64(s.Partition)] = place{s.Topic, s.Partition, s.Offset}
		}
		if len(where) < 2 {
			continue
		}
		r.Duplicates[s.Topic] += len(where) - 1
		if o.Idempotent[s.Topic] {
			var places []string
			for _, p := range where {
				places = append(places, p.String())
			}
			slices.Sort(places)
			r.violate("C2 duplicate: %s lies at %v although its producer is idempotent", s.Value, places)
		}
	}
	return r
}

// commits applies C10 to the commits of one group for one partition, and what it was told of them.
func (r *Report) commits(s stream, list []history.Event) {
	for _, told := range list {
		if told.F == history.Commit && told.Type == history.OK {
			r.Commits++
		}
		if told.F != history.Committed {
			continue
		}
		atLeast, atMost := int64(-1), int64(-1)
		for _, e := range list {
			switch {
			case e.F != history.Commit || e.Invoke > told.Complete:
			case e.Type == history.OK && e.Complete <= told.Invoke:
				atLeast = max(atLeast, e.Offset)
				fallthrough
			default:
				atMost = max(atMost, e.Offset)
			}
		}
		if told.Offset < atLeast || told.Offset > atMost {
			r.violate("C10 commit: %s is told that %d is committed of %s-%d, want %d to %d", s.process, told.Offset, s.topic, s.partition, atLeast, atMost)
		}
	}
}
