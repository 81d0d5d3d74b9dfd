package main

import (
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	want := `north: offset 0: hello 0 from north
north: offset 1: hello 1 from north
north: offset 2: hello 2 from north
south: offset 0: hello 0 from south
south: offset 1: hello 1 from south
south: offset 2: hello 2 from south
`
	if out.String() != want {
		t.Errorf("it says\n%s\nwant\n%s", out.String(), want)
	}
}
