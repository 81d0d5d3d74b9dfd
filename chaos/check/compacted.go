package check

import (
	"fmt"
	"slices"

	"github.com/kalda-io/kalda/chaos/history"
)

// key is one key of one compacted partition.
type key struct {
	topic     string
	partition int32
	name      string
}

func (k key) String() string { return fmt.Sprintf("%s of %s-%d", k.name, k.topic, k.partition) }

// keyState is what is known of a key.
type keyState struct {
	newest    int64              // the largest offset that was acknowledged or seen
	tombstone bool               // of the record there
	unknown   bool               // a send of it has an unknown fate
	sent      int64              // ok sends
	seen      map[string][]int64 // by final reader
}

// noteKey notes a send to a compacted topic, or a record of it that was read.
func (c *checker) noteKey(e history.Event) {
	if !c.o.Compacted[e.Topic] {
		return
	}
	name := key{e.Topic, e.Partition, e.Key}
	k := c.keys[name]
	if k == nil {
		k = &keyState{newest: -1, seen: make(map[string][]int64)}
		c.keys[name] = k
	}
	if e.F == history.Send {
		k.unknown = k.unknown || e.Type == history.Info
		if e.Type != history.OK || e.Offset < 0 {
			return
		}
		k.sent++
	}
	if e.Offset > k.newest {
		k.newest, k.tombstone = e.Offset, e.Tombstone
	}
	if slices.Contains(c.o.FinalReaders, e.Process) {
		k.seen[e.Process] = append(k.seen[e.Process], e.Offset)
	}
}

// compacted applies C11. A key of which the newest record may be one of unknown fate has no model: a tombstone that
// arrived may have done its work and be gone.
func (c *checker) compacted() {
	for name, k := range c.keys {
		if k.newest < 0 || k.unknown {
			continue
		}
		for i, f := range c.o.FinalReaders {
			saw := k.seen[f]
			if i == 0 {
				c.r.Compacted += k.sent - int64(len(saw))
			}
			switch {
			case len(saw) == 0 && k.tombstone:
			case len(saw) == 0:
				c.r.violate("C11 compacted: the newest record of %s lies at %d, but %s finds none", name, k.newest, f)
			case len(saw) > 1 || saw[0] != k.newest:
				c.r.violate("C11 compacted: the newest record of %s lies at %d, but %s finds it at %v", name, k.newest, f, saw[:min(len(saw), 5)])
			}
		}
	}
}

// consumed applies C12.
func (c *checker) consumed(events []history.Event) {
	for group, topics := range c.o.Groups {
		missing := make(map[stream]int)
		for _, e := range events {
			if e.F != history.Send || e.Type != history.OK || e.Offset < 0 || !slices.Contains(topics, e.Topic) {
				continue
			}
			if c.handled[group][place{e.Topic, e.Partition, e.Offset}] {
				continue
			}
			s := stream{group, e.Topic, e.Partition}
			if missing[s]++; missing[s] == 1 {
				c.r.violate("C12 consumed: no member of %s handled %s at %s-%d@%d", group, e.Value, e.Topic, e.Partition, e.Offset)
			}
		}
		for s, n := range missing {
			if n > 1 {
				c.r.violate("C12 consumed: %d records of %s-%d in all were not handled by %s", n, s.topic, s.partition, group)
			}
		}
	}
}
