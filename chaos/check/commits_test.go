package check

import (
	"strings"
	"testing"

	"github.com/kalda-io/kalda/chaos/history"
)

// TestCommits states C10 by short histories of one group: a commit is ok or of unknown fate, then the
// group is told what is committed.
func TestCommits(t *testing.T) {
	commit := func(offset, invoke int64, typ history.Type) history.Event {
		return history.Event{Process: "g", F: history.Commit, Topic: "t", Offset: offset, Invoke: invoke, Complete: invoke + 5, Type: typ}
	}
	told := func(offset, invoke int64) history.Event {
		return history.Event{Process: "g", F: history.Committed, Topic: "t", Offset: offset, Invoke: invoke, Complete: invoke + 5, Type: history.OK}
	}
	for _, c := range []struct {
		name   string
		events []history.Event
		broken bool
	}{
		{"nothing was committed", []history.Event{told(-1, 0)}, false},
		{"the last commit", []history.Event{commit(1, 0, history.OK), commit(2, 10, history.OK), told(2, 20)}, false},
		{"an acknowledged commit is lost", []history.Event{commit(1, 0, history.OK), commit(2, 10, history.OK), told(1, 20)}, true},
		{"all commits are lost", []history.Event{commit(1, 0, history.OK), told(-1, 20)}, true},
		{"an unknown commit did not arrive", []history.Event{commit(1, 0, history.OK), commit(2, 10, history.Info), told(1, 20)}, false},
		{"an unknown commit arrived", []history.Event{commit(1, 0, history.OK), commit(2, 10, history.Info), told(2, 20)}, false},
		{"a commit under way may be seen or not", []history.Event{commit(1, 0, history.OK), commit(2, 18, history.OK), told(1, 20), told(2, 21)}, false},
		{"nobody committed that", []history.Event{commit(1, 0, history.OK), told(7, 20)}, true},
	} {
		r := Check(c.events, Options{})
		if got := len(r.Violations) > 0; got != c.broken || got && !strings.HasPrefix(r.Violations[0], "C10 commit") {
			t.Errorf("%s: violations %q", c.name, r.Violations)
		}
	}
}
