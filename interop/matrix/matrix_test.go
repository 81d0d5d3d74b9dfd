package matrix

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sample() *Matrix {
	m := New("kalda", []string{"first", "second"}, []Column{{"a", "v1"}, {"b", "v2"}})
	m.Put(Cell{Scenario: "second", Client: "a", Outcome: Fail, Reason: "broke here\nand more words", Millis: 3})
	m.Put(Cell{Scenario: "first", Client: "a", Outcome: Pass, Millis: 1})
	m.Put(Cell{Scenario: "first", Client: "b", Outcome: NA, Reason: "b cannot"})
	return m
}

func TestMarkdown(t *testing.T) {
	const want = `# Clients against kalda

1 passed, 1 failed, 0 skipped, 1 not applicable

| scenario | a v1 | b v2 |
|---|---|---|
| first | pass | n/a |
| second | fail |  |

- first, b: n/a: b cannot
- second, a: fail: broke here
`
	if got := sample().Markdown(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"m.md", "m.json"} {
		if err := sample().Write(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "m.md"))
	if err != nil || !strings.HasPrefix(string(text), "# Clients") {
		t.Errorf("m.md: %q, %v", text, err)
	}
	text, err = os.ReadFile(filepath.Join(dir, "m.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Target  string
		Results []Cell
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Target != "kalda" || len(got.Results) != 3 || got.Results[0].Scenario != "first" || got.Results[2].Reason != "broke here\nand more words" {
		t.Errorf("m.json: %+v", got)
	}
}

func TestPutTwicePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the same cell was put twice without a panic")
		}
	}()
	sample().Put(Cell{Scenario: "first", Client: "a", Outcome: Pass})
}
