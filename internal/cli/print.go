package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// column is one column of a table.
type column struct {
	head string
	// right aligns to the right, for numbers.
	right bool
	// wide shows the column only with -o wide.
	wide bool
}

// table is a result in text form. Cells are complete: the table only aligns.
type table struct {
	cols []column
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write prints the table with two blanks between columns; the last column is not padded
// so that lines carry no blanks at their ends.
func (t *table) write(w io.Writer, wide bool) error {
	var show []int
	for i, c := range t.cols {
		if wide || !c.wide {
			show = append(show, i)
		}
	}
	width := make([]int, len(t.cols))
	for _, i := range show {
		width[i] = utf8.RuneCountInString(t.cols[i].head)
		for _, r := range t.rows {
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	var b strings.Builder
	line := func(cell func(i int) string) {
		var l strings.Builder
		for n, i := range show {
			s := cell(i)
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(s))
			if n > 0 {
				l.WriteString("  ")
			}
			if t.cols[i].right {
				l.WriteString(pad + s)
			} else {
				l.WriteString(s + pad)
			}
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	line(func(i int) string { return t.cols[i].head })
	for _, r := range t.rows {
		line(func(i int) string { return r[i] })
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// The values of -o.
const (
	outText = "text"
	outWide = "wide"
	outJSON = "json"
	outYAML = "yaml"
)

// printResult writes a command's result: v as JSON or YAML, or what text prints.
func printResult(w io.Writer, format string, v any, text func(w io.Writer, wide bool) error) error {
	switch format {
	case outJSON:
		return writeJSON(w, v)
	case outYAML:
		return writeYAML(w, v)
	default:
		return text(w, format == outWide)
	}
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// writeYAML prints the same tree as writeJSON: v goes through its JSON form, so that one
// set of field names serves both.
func writeYAML(w io.Writer, v any) error {
	var j bytes.Buffer
	if err := writeJSON(&j, v); err != nil {
		return err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(j.Bytes(), &n); err != nil { // JSON is YAML in flow style
		return err
	}
	blockStyle(&n)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return err
	}
	return e.Close()
}

// blockStyle undoes the flow style of JSON; empty lists and maps keep it, having no
// other form.
func blockStyle(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode || len(n.Content) > 0 {
		n.Style = 0
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// humanSize prints bytes with a binary unit and at most one decimal: 0 B, 1.5 KiB.
func humanSize(n int64) string {
	if n < 0 {
		return "?"
	}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), ""
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		v /= 1024
		unit = u
		if v < 1023.95 {
			break
		}
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + unit
}

// humanDuration prints a duration with at most two units: 340ms, 12s, 3m5s, 2h, 4d3h.
func humanDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Truncate(100*time.Millisecond).Seconds()), ".0") + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	}
	two := func(big, small time.Duration, b, s string) string {
		if r := d % big / small; r > 0 {
			return fmt.Sprintf("%d%s%d%s", d/big, b, r, s)
		}
		return fmt.Sprintf("%d%s", d/big, b)
	}
	switch {
	case d < time.Hour:
		return two(time.Minute, time.Second, "m", "s")
	case d < 24*time.Hour:
		return two(time.Hour, time.Minute, "h", "m")
	default:
		return two(24*time.Hour, time.Hour, "d", "h")
	}
}

// humanCount prints a number with thin groups: 1,234,567.
func humanCount(n int64) string {
	s := fmt.Sprintf("%d", n)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// plural says "1 record" or "2 records".
func plural(n int64, noun string) string {
	if n != 1 && strings.HasSuffix(noun, "ch") {
		return humanCount(n) + " " + noun + "es"
	}
	if n == 1 {
		return "1 " + noun
	}
	return humanCount(n) + " " + noun + "s"
}

// ints prints a list of ids as 1,2,3; "-" when it is empty.
func ints(ids []int32) string {
	if len(ids) == 0 {
		return "-"
	}
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d", id)
	}
	return b.String()
}
