package measure

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kalda-io/kalda/bench/load"
)

// Comparison is the outcome of one row.
type Comparison struct {
	Row     string       `json:"row"`
	Text    string       `json:"text"`
	Policy  string       `json:"policy"`
	Rounds  int          `json:"rounds"`
	Seconds float64      `json:"seconds"`
	Load    load.Options `json:"load"`
	// Ours and Theirs are the medians of the rounds, each figure by itself.
	Ours   Figures `json:"kalda"`
	Theirs Figures `json:"kfake"`
	// Commit is our side with kalda.flush.policy=commit in the same rounds; nil if the row
	// is of that policy, or it was not asked for.
	Commit *Figures `json:"kalda_commit,omitempty"`
	// Faster is our rate over theirs, Cheaper their CPU time (per request, or per GB for
	// Fetch) over ours: above 1 is better for us.
	Faster  float64 `json:"faster"`
	Cheaper float64 `json:"cheaper"`
}

// Figures are what is printed of a side.
type Figures struct {
	RequestsPerSecond float64 `json:"requests_per_second"`
	MBPerSecond       float64 `json:"mb_per_second"`
	CPUPerRequest     float64 `json:"cpu_us_per_request"`
	CPUPerGB          float64 `json:"cpu_s_per_gb"`
	P50               float64 `json:"p50_us"`
	P99               float64 `json:"p99_us"`
	PeakMemory        float64 `json:"peak_memory"`
	ReadyMillis       float64 `json:"ready_ms"`
}

// Compare runs a row: round after round, one side after the other, the order changing
// from round to round, so that a noisy minute of the machine meets all. commit adds a third
// side to rows that are not durable: ours, with what is acknowledged on the disk.
func Compare(ctx context.Context, row Row, ours, theirs func(durable bool) Side, commit bool, rounds int, each time.Duration, progress io.Writer) (Comparison, error) {
	c := Comparison{Row: row.Name, Text: row.Text, Policy: "os", Rounds: rounds, Seconds: each.Seconds(), Load: row.Load}
	if row.Durable {
		c.Policy = "commit"
	}
	row.Load.Time = each
	sides := []Side{ours(row.Durable), theirs(row.Durable)}
	if commit && !row.Durable {
		third := ours(true)
		third.Name += "*"
		sides = append(sides, third)
	}
	for i := range sides {
		sides[i].Apart = row.Apart
	}
	runs := make([][]Measured, len(sides))
	for round := range rounds {
		for turn := range sides {
			i := (round + turn) % len(sides)
			side := sides[i]
			m, err := Run(ctx, side, row.Load)
			if err != nil {
				return c, fmt.Errorf("%s: %w", row.Name, err)
			}
			runs[i] = append(runs[i], m)
			fmt.Fprintf(progress, "%-14s round %d %-6s %9.0f requests/s %8.1f MB/s %8.2f CPU-us/request %6.2f CPU-s/GB\n",
				row.Name, round+1, side.Name, m.RequestsPerSecond(), m.MBPerSecond(), m.CPUPerRequest(), m.CPUPerGB())
		}
	}
	c.Ours, c.Theirs = figures(runs[0]), figures(runs[1])
	c.Faster, c.Cheaper = c.ratios(&c.Ours)
	if len(sides) > 2 {
		f := figures(runs[2])
		c.Commit = &f
	}
	return c, nil
}

// ratios are Faster and Cheaper for figures of ours.
func (c *Comparison) ratios(ours *Figures) (faster, cheaper float64) {
	if c.Load.Fetch { // the sizes of answers differ, so requests do not compare
		return ours.MBPerSecond / c.Theirs.MBPerSecond, c.Theirs.CPUPerGB / ours.CPUPerGB
	}
	return ours.RequestsPerSecond / c.Theirs.RequestsPerSecond, c.Theirs.CPUPerRequest / ours.CPUPerRequest
}

func figures(runs []Measured) Figures {
	middle := func(f func(*Measured) float64) float64 {
		all := make([]float64, len(runs))
		for i := range runs {
			all[i] = f(&runs[i])
		}
		return median(all)
	}
	return Figures{
		RequestsPerSecond: middle(func(m *Measured) float64 { return m.RequestsPerSecond() }),
		MBPerSecond:       middle(func(m *Measured) float64 { return m.MBPerSecond() }),
		CPUPerRequest:     middle(func(m *Measured) float64 { return m.CPUPerRequest() }),
		CPUPerGB:          middle(func(m *Measured) float64 { return m.CPUPerGB() }),
		P50:               middle(func(m *Measured) float64 { return m.P50 }),
		P99:               middle(func(m *Measured) float64 { return m.P99 }),
		PeakMemory:        middle(func(m *Measured) float64 { return float64(m.PeakMemory) }),
		ReadyMillis:       middle(func(m *Measured) float64 { return m.ReadyMillis }),
	}
}

// median of an even number is the mean of the middle two; 0 for none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// Table prints comparisons, ratios first.
func Table(w io.Writer, all []Comparison) error {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	head := []string{"row", "policy", "faster", "cheaper", "requests/s", "kfake", "MB/s", "kfake", "CPU us/request", "kfake", "CPU s/GB", "kfake", "p50 us", "kfake", "p99 us", "kfake"}
	line := func(cells []string) { fmt.Fprintln(t, "| "+strings.Join(cells, "\t| ")+"\t|") }
	line(head)
	rule := make([]string, len(head))
	for i := range rule {
		rule[i] = "---"
		if i >= 2 {
			rule[i] = "---:"
		}
	}
	line(rule)
	for _, c := range all {
		row := func(policy string, ours *Figures) {
			pair := func(format string, a, b float64) []string {
				return []string{fmt.Sprintf(format, a), fmt.Sprintf(format, b)}
			}
			faster, cheaper := c.ratios(ours)
			cells := []string{c.Row, policy, fmt.Sprintf("%.2fx", faster), fmt.Sprintf("%.2fx", cheaper)}
			cells = append(cells, pair("%.0f", ours.RequestsPerSecond, c.Theirs.RequestsPerSecond)...)
			cells = append(cells, pair("%.1f", ours.MBPerSecond, c.Theirs.MBPerSecond)...)
			cells = append(cells, pair("%.2f", ours.CPUPerRequest, c.Theirs.CPUPerRequest)...)
			cells = append(cells, pair("%.2f", ours.CPUPerGB, c.Theirs.CPUPerGB)...)
			cells = append(cells, pair("%.0f", ours.P50, c.Theirs.P50)...)
			cells = append(cells, pair("%.0f", ours.P99, c.Theirs.P99)...)
			line(cells)
		}
		row(c.Policy, &c.Ours)
		if c.Commit != nil {
			row("commit", c.Commit)
		}
	}
	return t.Flush()
}
