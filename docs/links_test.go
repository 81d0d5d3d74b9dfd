package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// link finds the target of a Markdown link.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// deadLinks returns the links of a page in dir that lead to nothing in this repository.
// Links to other hosts and within the page are left alone.
func deadLinks(dir, page string) []string {
	var dead []string
	fence := false
	for i, l := range strings.Split(page, "\n") {
		if strings.HasPrefix(l, "```") {
			fence = !fence
		}
		if fence {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(l, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(target))); err != nil {
				dead = append(dead, fmt.Sprintf("line %d: %s", i+1, m[1]))
			}
		}
	}
	return dead
}

// Every link of every page of the repository leads somewhere.
func TestLinks(t *testing.T) {
	pages := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "kalda-data" || d.Name() == "testdata" || (strings.HasPrefix(d.Name(), ".") && d.Name() != "..")) {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pages++
		for _, l := range deadLinks(filepath.Dir(path), string(text)) {
			t.Errorf("%s: %s", path, l)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages < 10 {
		t.Errorf("only %d pages found", pages)
	}
}

func TestDeadLinks(t *testing.T) {
	page := "[a](doc.go) [b](gone.md#x)\n```\n[c](gone.md)\n```\n[d](https://example.org/gone) [e](#here) [f](format)\n"
	if got := fmt.Sprint(deadLinks(".", page)); got != "[line 1: gone.md#x]" {
		t.Error(got)
	}
}

// The table of contents and the list of decisions name every page beside them.
func TestContentsAreWhole(t *testing.T) {
	for _, c := range []struct{ contents, pattern string }{
		{"README.md", "*.md"}, {"README.md", "format/*.md"}, {"README.md", "operate/*.md"},
		{"design/README.md", "design/[0-9]*.md"},
	} {
		text, err := os.ReadFile(c.contents)
		if err != nil {
			t.Fatal(err)
		}
		pages, err := filepath.Glob(c.pattern)
		if err != nil || len(pages) == 0 {
			t.Fatalf("%s: %d pages, %v", c.pattern, len(pages), err)
		}
		for _, p := range pages {
			name, err := filepath.Rel(filepath.Dir(c.contents), p)
			if err != nil {
				t.Fatal(err)
			}
			if p != c.contents && !strings.Contains(string(text), "]("+filepath.ToSlash(name)+")") {
				t.Errorf("%s does not name %s", c.contents, p)
			}
		}
	}
}
