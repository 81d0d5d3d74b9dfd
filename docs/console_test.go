package docs

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// block is one ```console block of a page.
type block struct {
	// line is the number of the line that opens the block, from 1.
	line int
	// eventually says that the commands only look and may be asked again.
	eventually bool
	commands   []command
}

// command is one line that begins with "$ ", and what it prints.
type command struct {
	line int // of the command itself, from 1
	text string
	// want is the output as the page has it, whole lines; "" for none.
	want string
}

// parse finds the console blocks of a page.
func parse(page string) ([]block, error) {
	var out []block
	var open *block
	fence := false // inside a block of any kind
	for i, l := range strings.Split(page, "\n") {
		n := i + 1
		switch {
		case strings.HasPrefix(l, "```"):
			if fence {
				if open != nil && len(open.commands) == 0 {
					return nil, fmt.Errorf("line %d: a console block without a command", open.line)
				}
				fence, open = false, nil
				continue
			}
			fence = true
			info, isConsole := strings.CutPrefix(l, "```console")
			if !isConsole {
				continue
			}
			if info != "" && info != " eventually" {
				return nil, fmt.Errorf("line %d: console block with an unknown word %q", n, info)
			}
			out = append(out, block{line: n, eventually: info != ""})
			open = &out[len(out)-1]
		case open == nil:
		case strings.HasPrefix(l, "$ "):
			open.commands = append(open.commands, command{line: n, text: l[2:]})
		case len(open.commands) == 0:
			return nil, fmt.Errorf("line %d: output before the first command of a block", n)
		default:
			open.commands[len(open.commands)-1].want += l + "\n"
		}
	}
	if fence {
		return nil, fmt.Errorf("a block is not closed")
	}
	return out, nil
}

// render writes what the commands print back into the page, line by line.
func render(page string, blocks []block) string {
	lines := strings.Split(page, "\n")
	var b strings.Builder
	next := 0 // first line not yet written
	for _, bl := range blocks {
		for next < bl.line {
			b.WriteString(lines[next] + "\n")
			next++
		}
		for _, c := range bl.commands {
			b.WriteString("$ " + c.text + "\n" + c.want)
		}
		for !strings.HasPrefix(lines[next], "```") {
			next++
		}
	}
	b.WriteString(strings.Join(lines[next:], "\n"))
	return b.String()
}

// varies lists what differs from run to run, each pattern with what stands for it.
var varies = []struct {
	find *regexp.Regexp
	mark string
}{
	{regexp.MustCompile(`(?m)(^cluster +|, id )[\w-]{22}$`), "$1<id>"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:<port>"},
	{regexp.MustCompile(`\b(kalda-cli|first|second)-[0-9a-f]{8,32}\b`), "$1-<member>"},
	// A duration that stands alone, as in a column; session.timeout.ms=6s stays as it is.
	{regexp.MustCompile(`(^|[ \n])(?:[0-9.]+(?:µs|ms|s|m|h))+\b`), "$1<time>"},
	// Columns are as wide as what is in them.
	{regexp.MustCompile(` +`), " "},
	{regexp.MustCompile(`(?m) $|^ `), ""},
}

// same says whether two outputs differ only in what varies.
func same(a, b string) bool { return fixed(a) == fixed(b) }

// fixed is an output without what varies.
func fixed(s string) string {
	for _, v := range varies {
		s = v.find.ReplaceAllString(s, v.mark)
	}
	return s
}

func TestParse(t *testing.T) {
	page := "# A\n```\n$ not run\n```\n```console\n$ one\na\n\nb\n$ two\n```\n```console eventually\n$ three\n```\nend\n"
	blocks, err := parse(page)
	if err != nil {
		t.Fatal(err)
	}
	want := []block{
		{line: 5, commands: []command{{6, "one", "a\n\nb\n"}, {10, "two", ""}}},
		{line: 12, eventually: true, commands: []command{{13, "three", ""}}},
	}
	if fmt.Sprint(blocks) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", blocks, want)
	}
	if got := render(page, blocks); got != page {
		t.Errorf("render changed the page:\n%s", got)
	}
	blocks[0].commands[0].want = "c\n"
	blocks[1].commands[0].want = "d\n"
	changed := strings.Replace(strings.Replace(page, "a\n\nb\n", "c\n", 1), "three\n", "three\nd\n", 1)
	if got := render(page, blocks); got != changed {
		t.Errorf("render: got\n%s\nwant\n%s", got, changed)
	}
	for _, bad := range []string{"```console soon\n$ a\n```\n", "```console\nout\n```\n", "```console\n```\n", "```console\n$ a\n"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("parse(%q): no error", bad)
		}
	}
}

// What varies is left out of the comparison, and nothing else.
func TestSame(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"cluster     BaRVQ3lzR-u0AF0KtAgm1g\n", "cluster     AAAAAAAAAAAAAAAAAAAAAA\n", true},
		{"cluster     BaRVQ3lzR-u0AF0KtAgm1g\n", "cluster     short\n", false},
		{"1  127.0.0.1:9092        0", "1  127.0.0.1:40123        0", true},
		{"1  127.0.0.1:9092        0", "1  127.0.0.1:40123        1", false},
		{"orders  0  3    3    0  0s  first-9647ca9f", "orders  0  3  3  0   1.5s  first-00000000", true},
		{"orders  0  3    3    0  0s  first-9647ca9f", "orders  0  3  3  0  0s  second-9647ca9f", false},
		{"orders  0  3    3    0  0s  first-9647ca9f", "orders  0  2  3  0  0s  first-9647ca9f", false},
		{"4.3s ago    0s           2        0  member x: left", "12s ago  3ms  2  0  member x: left", true},
		{"4.3s ago    0s           2        0  member x: left", "1m20s ago 1m 2  0  member x: left", true},
		{"4.3s ago    0s           2        0  member x: left", "12s ago  3ms  2  0  member x: joined", false},
		{"no heartbeat within session.timeout.ms=6s", "no heartbeat within session.timeout.ms=7s", false},
		{"orders-0@0\norders-1@0\n", "orders-0@0\n", false},
		{"a\nb\n", "b\na\n", false},
	} {
		if got := same(c.a, c.b); got != c.same {
			t.Errorf("same(%q, %q) = %v", c.a, c.b, got)
		}
	}
}

// editions are the pages that must hold the same commands and outputs.
func editions() []string { return []string{"concepts.md", "concepts.ko.md"} }

// read returns a page of this directory and its blocks.
func read(t *testing.T, name string) (string, []block) {
	t.Helper()
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := parse(string(page))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(page), blocks
}

// All editions have the same blocks, to the letter.
func TestEditionsAgree(t *testing.T) {
	_, first := read(t, editions()[0])
	for _, name := range editions()[1:] {
		_, other := read(t, name)
		for i := range max(len(first), len(other)) {
			if i >= len(first) || i >= len(other) {
				t.Fatalf("%s has %d console blocks, %s has %d", editions()[0], len(first), name, len(other))
			}
			if a, b := text(first[i]), text(other[i]); a != b {
				t.Errorf("block %d differs.\n%s:%d\n%s\n%s:%d\n%s", i+1, editions()[0], first[i].line, a, name, other[i].line, b)
			}
		}
	}
}

// text is a block without its place in the page.
func text(b block) string {
	s := fmt.Sprintf("eventually=%v\n", b.eventually)
	for _, c := range b.commands {
		s += "$ " + c.text + "\n" + c.want
	}
	return s
}
