package check

import (
	"strings"
	"testing"

	"github.com/kalda-io/kalda/chaos/history"
)

// TestCompacted states C11 by short histories of one partition: who sent what of which key, and what two readers find.
func TestCompacted(t *testing.T) {
	o := Options{FinalReaders: []string{"r1", "r2"}, Compacted: map[string]bool{"t": true}}
	send := func(offset int64, key string, typ history.Type, tombstone bool) history.Event {
		e := history.Event{Process: "p", F: history.Send, Topic: "t", Offset: offset, Key: key, Value: key + "/" + string(rune('a'+offset)), Type: typ, Tombstone: tombstone, Invoke: offset}
		if typ != history.OK {
			e.Offset = -1
		}
		return e
	}
	value := func(offset int64, key string) history.Event { return send(offset, key, history.OK, false) }
	grave := func(offset int64, key string) history.Event { return send(offset, key, history.OK, true) }
	for _, c := range []struct {
		name  string
		sent  []history.Event
		left  []int64 // offsets that the readers find
		wants string
	}{
		{"the newest of each key is left", []history.Event{value(0, "x"), value(1, "y"), value(2, "x")}, []int64{1, 2}, ""},
		{"nothing was compacted", []history.Event{value(0, "x"), value(1, "y"), value(2, "x")}, []int64{0, 1, 2}, "C11"},
		{"the newest is gone", []history.Event{value(0, "x"), value(1, "y"), value(2, "x")}, []int64{1}, "C11"},
		{"an old one is left in its place", []history.Event{value(0, "x"), value(1, "x"), value(2, "y")}, []int64{0, 2}, "C11"},
		{"a tombstone is left", []history.Event{value(0, "x"), grave(1, "x"), value(2, "y")}, []int64{1, 2}, ""},
		{"a tombstone has gone", []history.Event{value(0, "x"), grave(1, "x"), value(2, "y")}, []int64{2}, ""},
		{"a deleted key is back", []history.Event{value(0, "x"), grave(1, "x"), value(2, "y")}, []int64{0, 2}, "C11"},
		{"a tombstone of unknown fate may have done its work", []history.Event{value(0, "x"), send(1, "x", history.Info, true), value(2, "y")}, []int64{2}, ""},
	} {
		events := append([]history.Event(nil), c.sent...)
		for _, reader := range o.FinalReaders {
			for _, at := range c.left {
				e := c.sent[at]
				e.Process, e.F, e.Type, e.Offset = reader, history.Poll, history.OK, at
				events = append(events, e)
			}
			events = append(events, history.Event{Process: reader, F: history.End, Topic: "t", Offset: 3})
		}
		expect(t, c.name, Check(events, o), c.wants)
	}
}

// TestTrimmedDeletedConsumed states what C1, C4 and C12 say of topics with a limit, of deleted ones, and of groups.
func TestTrimmedDeletedConsumed(t *testing.T) {
	o := Options{FinalReaders: []string{"r1"}, DeletedReader: "d", Trimmed: map[string]bool{"short": true}, Groups: map[string][]string{"g": {"long"}}}
	names := []string{"a", "b", "c", "d"}
	event := func(process, f, topic string, offset int64) history.Event {
		e := history.Event{Process: process, F: f, Topic: topic, Offset: offset, Type: history.OK, Invoke: offset}
		if f == history.Send || f == history.Poll || f == history.Consume {
			e.Value = topic + "/" + names[offset]
		}
		return e
	}
	sends := func(topic string) (out []history.Event) {
		for i := range int64(4) {
			out = append(out, event("p", history.Send, topic, i))
		}
		return out
	}
	reads := func(process, f, topic string, from, to int64) (out []history.Event) {
		if f == history.Poll {
			out = append(out, event(process, history.Begin, topic, from))
		}
		for i := from; i < to; i++ {
			out = append(out, event(process, f, topic, i))
		}
		if f == history.Poll {
			out = append(out, event(process, history.End, topic, to))
		}
		return out
	}
	join := func(lists ...[]history.Event) (out []history.Event) {
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	gone := []history.Event{event("p", history.Delete, "gone", -1)}
	for _, c := range []struct {
		name   string
		events []history.Event
		wants  string
	}{
		{"the beginning was deleted by retention", join(sends("short"), reads("r1", history.Poll, "short", 2, 4)), ""},
		{"the end is missing", join(sends("short"), reads("r1", history.Poll, "short", 2, 3)), "C1"},
		{"everything is missing", join(sends("short"), []history.Event{event("r1", history.Begin, "short", 0), event("r1", history.End, "short", 0)}), "C1"},
		{"what is left begins later than the broker says", join(sends("short"),
			[]history.Event{event("r1", history.Begin, "short", 1)}, reads("r1", history.Poll, "short", 2, 4)[1:]), "C4"},
		{"a topic without a limit may not begin late", join(sends("gone"), reads("r1", history.Poll, "gone", 1, 4)), "C4"},
		{"a deleted topic was read before", join(sends("gone"), reads("d", history.Poll, "gone", 0, 4), gone), ""},
		{"a deleted topic had lost a record", join(sends("gone"), reads("d", history.Poll, "gone", 0, 3), gone), "C1"},
		{"nobody read it", join(sends("gone"), gone), "history"},
		{"the group handled all", join(sends("long"), reads("r1", history.Poll, "long", 0, 4), reads("g", history.Consume, "long", 0, 4)), ""},
		{"some of it twice", join(sends("long"), reads("r1", history.Poll, "long", 0, 4), reads("g", history.Consume, "long", 0, 3),
			reads("g", history.Consume, "long", 1, 4)), ""},
		{"the group missed one", join(sends("long"), reads("r1", history.Poll, "long", 0, 4), reads("g", history.Consume, "long", 0, 2),
			reads("g", history.Consume, "long", 3, 4)), "C12"},
	} {
		expect(t, c.name, Check(c.events, o), c.wants)
	}
}

// expect demands a violation whose text begins with rule, or none.
func expect(t *testing.T, name string, r Report, rule string) {
	t.Helper()
	found := false
	for _, v := range r.Violations {
		found = found || rule != "" && strings.HasPrefix(v, rule)
	}
	if rule == "" && len(r.Violations) > 0 || rule != "" && !found {
		t.Errorf("%s: want %q, violations %q", name, rule, r.Violations)
	}
}
