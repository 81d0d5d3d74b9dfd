package check

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/chaos/history"
)

// run builds the history of a healthy run: two producers, two topics of two partitions, one reader
// during the run and two at the end, a few sends of unknown fate of which half arrived.
func run() []history.Event {
	var events []history.Event
	clock := int64(0)
	next := make(map[string]int64)
	logs := make(map[string][]history.Event)
	for i := range 400 {
		clock += 10
		topic, process := "plain", "kcat"
		if i%2 == 0 {
			topic, process = "idem", "franz"
		}
		e := history.Event{Process: process, F: history.Send, Topic: topic, Partition: int32(i / 2 % 2), Invoke: clock, Complete: clock + 5, Type: history.OK}
		e.Value = fmt.Sprintf("%s/%d", process, i)
		e.Sum = history.Sum([]byte(e.Value), []byte("padding"))
		where := fmt.Sprintf("%s-%d", topic, e.Partition)
		e.Offset = next[where]
		arrived := true
		if i%50 == 1 {
			e.Type, e.Error = history.Info, "request timed out"
			arrived = i%100 == 1
		}
		if arrived {
			logs[where] = append(logs[where], e)
			next[where]++
		}
		if e.Type == history.Info {
			e.Offset = -1
		}
		events = append(events, e)
		if i == 200 {
			events = append(events, history.Event{Process: "chaos", F: history.Kill, Type: history.OK, Offset: -1})
			events = append(events, read("poller", logs, nil)...)
		}
	}
	for _, f := range []string{"final-1", "final-2"} {
		events = append(events, read(f, logs, next)...)
	}
	return events
}

// read makes the events of a reader; with ends it is a final one.
func read(process string, logs map[string][]history.Event, ends map[string]int64) []history.Event {
	var out []history.Event
	for _, where := range slices.Sorted(func(yield func(string) bool) {
		for k := range logs {
			if !yield(k) {
				return
			}
		}
	}) {
		log := logs[where]
		for offset, e := range log {
			e.Process, e.F, e.Type, e.Error, e.Offset = process, history.Poll, history.OK, "", int64(offset)
			out = append(out, e)
		}
		if ends != nil {
			out = append(out, history.Event{Process: process, F: history.End, Topic: log[0].Topic, Partition: log[0].Partition, Offset: ends[where], Type: history.OK})
		}
	}
	return out
}

var options = Options{Idempotent: map[string]bool{"idem": true}, FinalReaders: []string{"final-1", "final-2"}}

func TestHealthyRunPasses(t *testing.T) {
	r := Check(run(), options)
	if len(r.Violations) != 0 {
		t.Fatalf("violations in a healthy run:\n%s", strings.Join(r.Violations, "\n"))
	}
	if r.OK != 392 || r.Unknown != 8 || r.Failed != 0 || r.Kills != 1 || r.Read != 2*396 {
		t.Errorf("counts: %+v", r)
	}
}

// TestPlantedBugs changes a healthy history as a broken broker would and demands the right report.
func TestPlantedBugs(t *testing.T) {
	// find returns the index of the n-th event that fits.
	find := func(events []history.Event, process, f, topic string, partition int32, offset int64) int {
		i := slices.IndexFunc(events, func(e history.Event) bool {
			return e.Process == process && e.F == f && e.Topic == topic && e.Partition == partition && e.Offset == offset
		})
		if i < 0 {
			t.Fatalf("no event %s %s %s-%d@%d", process, f, topic, partition, offset)
		}
		return i
	}
	// shift drops offset of a partition from one reader and moves the later ones down.
	drop := func(events []history.Event, process, topic string, partition int32, offset int64) []history.Event {
		i := find(events, process, history.Poll, topic, partition, offset)
		events = slices.Delete(events, i, i+1)
		for j := range events {
			if e := &events[j]; e.Process == process && e.Topic == topic && e.Partition == partition && e.Offset > offset {
				e.Offset--
			}
		}
		return events
	}
	both := func(do func(events []history.Event, reader string) []history.Event) func([]history.Event) []history.Event {
		return func(events []history.Event) []history.Event {
			for _, f := range options.FinalReaders {
				events = do(events, f)
			}
			return events
		}
	}
	for name, bug := range map[string]struct {
		plant func([]history.Event) []history.Event
		says  string
	}{
		"an acknowledged record vanished from the tail": {both(func(events []history.Event, f string) []history.Event {
			return drop(events, f, "idem", 1, 99)
		}), "C1 lost"},
		"one reader of two misses it": {func(events []history.Event) []history.Event {
			return drop(events, "final-2", "idem", 1, 99)
		}, "C1 lost"},
		"a record vanished from the middle": {both(func(events []history.Event, f string) []history.Event {
			return drop(events, f, "plain", 0, 20)
		}), "C3 changed"},
		"a hole in the log": {both(func(events []history.Event, f string) []history.Event {
			i := find(events, f, history.Poll, "plain", 0, 20)
			return slices.Delete(events, i, i+1)
		}), "C1 lost"},
		"a hole is also out of order": {both(func(events []history.Event, f string) []history.Event {
			i := find(events, f, history.Poll, "plain", 0, 20)
			return slices.Delete(events, i, i+1)
		}), "C4 order"},
		"a retried batch was appended twice": {both(func(events []history.Event, f string) []history.Event {
			e := events[find(events, f, history.Poll, "idem", 0, 99)]
			e.Offset = 100
			events = append(events, e)
			events[find(events, f, history.End, "idem", 0, 100)].Offset = 101
			return events
		}), "C2 duplicate"},
		"a byte changed": {both(func(events []history.Event, f string) []history.Event {
			events[find(events, f, history.Poll, "idem", 0, 7)].Sum = "0"
			return events
		}), "C3 changed"},
		"a reader saw what was overwritten after the kill": {func(events []history.Event) []history.Event {
			e := &events[find(events, "poller", history.Poll, "plain", 0, 5)]
			e.Value = "kcat/1" // sent, of unknown fate
			return events
		}, "C3 changed"},
		"two acknowledged records changed places": {both(func(events []history.Event, f string) []history.Event {
			a, b := find(events, f, history.Poll, "idem", 0, 10), find(events, f, history.Poll, "idem", 0, 11)
			events[a].Value, events[b].Value = events[b].Value, events[a].Value
			events[a].Sum, events[b].Sum = events[b].Sum, events[a].Sum
			return events
		}), "C3 changed"},
		"acknowledged in another order than sent": {func(events []history.Event) []history.Event {
			a, b := find(events, "franz", history.Send, "idem", 0, 10), find(events, "franz", history.Send, "idem", 0, 11)
			events[a].Invoke, events[b].Invoke = events[b].Invoke, events[a].Invoke
			return events
		}, "C4 order"},
		"two records acknowledged at one offset": {func(events []history.Event) []history.Event {
			events[find(events, "kcat", history.Send, "plain", 0, 11)].Offset = 10
			return events
		}, "C3 changed"},
		"a reader jumped back": {func(events []history.Event) []history.Event {
			i := find(events, "poller", history.Poll, "idem", 0, 5)
			return slices.Insert(events, i+1, events[i-1])
		}, "C4 order"},
		"the log begins late": {func(events []history.Event) []history.Event {
			i := find(events, "poller", history.Poll, "idem", 0, 0)
			return slices.Delete(events, i, i+1)
		}, "C4 order"},
		"a record that nobody sent": {both(func(events []history.Event, f string) []history.Event {
			i := find(events, f, history.End, "idem", 0, 100)
			events[i].Offset = 101
			return append(events, history.Event{Process: f, F: history.Poll, Topic: "idem", Offset: 100, Value: "ghost", Type: history.OK})
		}), "C5 phantom"},
		"a record in the wrong partition": {both(func(events []history.Event, f string) []history.Event {
			e := events[find(events, f, history.Poll, "plain", 1, 50)]
			e.Partition, e.Offset = 0, 100
			return append(events, e)
		}), "C5 phantom"},
		"a send that failed for certain was read": {func(events []history.Event) []history.Event {
			e := &events[slices.IndexFunc(events, func(e history.Event) bool { return e.Value == "kcat/1" })]
			e.Type = history.Fail
			return events
		}, "C5 phantom"},
		"an offset was made up": {func(events []history.Event) []history.Event {
			events[find(events, "franz", history.Send, "idem", 0, 10)].Offset = -1
			return events
		}, "C8 offset"},
		"an offset beyond the end": {func(events []history.Event) []history.Event {
			events[find(events, "franz", history.Send, "idem", 0, 99)].Offset = 5000
			return events
		}, "C1 lost"},
		"a final reader did not finish": {func(events []history.Event) []history.Event {
			i := find(events, "final-1", history.End, "idem", 0, 100)
			return slices.Delete(events, i, i+1)
		}, "did not reach the end"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Check(bug.plant(run()), options)
			if !slices.ContainsFunc(r.Violations, func(v string) bool { return strings.Contains(v, bug.says) }) {
				t.Errorf("no %q in %d violations:\n%s", bug.says, len(r.Violations), strings.Join(r.Violations, "\n"))
			}
		})
	}
}

// TestDuplicateAllowed has the retried batch in the topic without idempotence: counted, no violation.
func TestDuplicateAllowed(t *testing.T) {
	events := run()
	for _, f := range options.FinalReaders {
		last := slices.IndexFunc(events, func(e history.Event) bool {
			return e.Process == f && e.F == history.End && e.Topic == "plain" && e.Partition == 1
		})
		again := events[last-1]
		again.Offset = events[last].Offset
		events[last].Offset++
		events = slices.Insert(events, last, again)
	}
	r := Check(events, options)
	if len(r.Violations) != 0 || r.Duplicates["plain"] != 1 {
		t.Errorf("duplicates %v, violations:\n%s", r.Duplicates, strings.Join(r.Violations, "\n"))
	}
}

// TestHistoryRoundTrip judges a history that went through its file.
func TestHistoryRoundTrip(t *testing.T) {
	var file bytes.Buffer
	log := history.NewLog(&file)
	for _, e := range run() {
		log.Add(e)
	}
	if _, err := log.Close(); err != nil {
		t.Fatal(err)
	}
	events, err := history.Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	if r := Check(events, options); len(r.Violations) != 0 || r.OK != 392 {
		t.Errorf("%+v", r)
	}
	if _, err := history.Read(strings.NewReader("{\"process\":\"a\"}\n{\"proc")); err == nil {
		t.Error("a torn history was read without an error")
	}
}
