package soak

import (
	"fmt"
	"io"
)

// Print writes the result as a table.
func (r Result) Print(w io.Writer) {
	fmt.Fprintf(w, "%.0f s of load, %d kills and %d during recovery, slowest start %.1f s, seed %d\n", r.Seconds, r.Kills, r.Again, r.Slowest, r.Seed)
	c := r.Report
	fmt.Fprintf(w, "%d records acknowledged, %d of unknown fate, %d read at the end, %d handled by groups, %d commits, %d joins, %d leaves\n",
		c.OK, c.Unknown, c.Read, c.Consumed, c.Commits, c.Joins, c.Leaves)
	fmt.Fprintf(w, "%d topics deleted, %d records compacted away in %.0f rounds (%.0f removed with those of __consumer_offsets), %d deleted by retention\n",
		c.Deleted, c.Compacted, r.Rounds, r.Removed, c.Trimmed)
	fmt.Fprintf(w, "the node used %.0f %% of a core in its last life\n\n", 100*r.CPUShare)
	fmt.Fprintln(w, "| resource | over | samples | least | most | level | growth | allowed | |\n|---|---|---|---|---|---|---|---|---|")
	for _, t := range r.Trends {
		verdict := "flat"
		if t.Leaks() {
			verdict = "**grows**"
		}
		fmt.Fprintf(w, "| %s | %s | %d | %s | %s | %s | %s | %s | %s |\n", t.Resource, t.Over, t.Samples,
			amount(t.Resource, t.Min), amount(t.Resource, t.Max), amount(t.Resource, t.First), amount(t.Resource, t.Growth), amount(t.Resource, t.Allowed), verdict)
	}
	if len(r.Trends) == 0 {
		fmt.Fprintf(w, "| %d samples are too few to judge | | | | | | | | |\n", r.Samples)
	}
	fmt.Fprintln(w)
	for _, p := range r.Problems {
		fmt.Fprintln(w, "problem: "+p)
	}
	for _, v := range c.Violations {
		fmt.Fprintln(w, "broken rule: "+v)
	}
	if c.Hidden > 0 {
		fmt.Fprintf(w, "and %d more broken rules\n", c.Hidden)
	}
}

// amount prints a value of a resource with its unit.
func amount(r Resource, v float64) string {
	switch r {
	case RSS, Heap, Disk, Ensemble:
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	case Start, StartCPU:
		return fmt.Sprintf("%.2f s", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
