// Command compare runs kalda and kfake side by side on the same load and prints the
// medians and ratios as a table, and as JSON if asked to.
//
//	go run ./cmd/compare                                 all rows, 3 rounds of 3 s
//	go run ./cmd/compare -rows pipelined,fetch -rounds 5 -json results/today.json
//	go run ./cmd/compare -rows pipelined -theirs /tmp/kalda-before     this tree beside an older kalda
//
// Each run starts a fresh broker on an empty directory and stops it. CPU time of the
// broker is the figure to trust; the generator and the broker share the machine's cores.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kalda-io/kalda/bench/affinity"
	"github.com/kalda-io/kalda/bench/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	rounds := flag.Int("rounds", 3, "rounds per row")
	seconds := flag.Float64("seconds", 3, "seconds per run")
	names := flag.String("rows", "", "comma-separated rows; empty: all")
	mine := flag.String("ours", "", "a kalda that is built already; empty: this tree, built")
	other := flag.String("theirs", "", "another kalda that is built already, instead of kfake")
	commit := flag.Bool("commit", true, "measure ours with kalda.flush.policy=commit as well")
	out := flag.String("json", "", "file to write the results to, as JSON")
	list := flag.Bool("list", false, "print the rows and end")
	flag.Parse()
	rows := measure.Rows()
	if *list {
		for _, r := range rows {
			fmt.Printf("%-14s %s\n", r.Name, r.Text)
		}
		return nil
	}
	if *rounds < 1 || *seconds <= 0 {
		return fmt.Errorf("rounds %d, seconds %g: want at least one of something", *rounds, *seconds)
	}
	if *names == "" {
		// One row that this machine cannot measure must not cost the others.
		if _, _, err := affinity.Split(); err != nil {
			rows = slices.DeleteFunc(rows, func(r measure.Row) bool {
				if r.Apart {
					fmt.Fprintf(os.Stderr, "%-14s left out: %v\n", r.Name, err)
				}
				return r.Apart
			})
		}
	} else {
		var chosen []measure.Row
		for name := range strings.SplitSeq(*names, ",") {
			i := slices.IndexFunc(rows, func(r measure.Row) bool { return r.Name == name })
			if i < 0 {
				return fmt.Errorf("no row %q; -list prints them", name)
			}
			chosen = append(chosen, rows[i])
		}
		rows = chosen
	}
	// A bound for the whole: a run that hangs must not hang the caller.
	each := time.Duration(*seconds * float64(time.Second))
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(len(rows)**rounds*3)*(each+30*time.Second))
	defer cancel()

	repo, err := measure.Repo()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := measure.Builder{Dir: dir, Repo: repo}
	ours, theirs := measure.KaldaAt("ours", *mine), measure.KaldaAt("theirs", *other)
	if *mine == "" {
		if ours, err = b.Kalda(ctx); err != nil {
			return err
		}
	}
	if *other == "" {
		if theirs, err = b.Kfake(ctx); err != nil {
			return err
		}
	}
	var all []measure.Comparison
	for _, row := range rows {
		c, err := measure.Compare(ctx, row, ours, theirs, *commit, *rounds, each, os.Stderr)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	if err := measure.Table(os.Stdout, all); err != nil {
		return err
	}
	if *out == "" {
		return nil
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*out, append(text, '\n'), 0o644)
}
