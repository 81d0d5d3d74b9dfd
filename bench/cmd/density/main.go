// Command density measures what many partitions and many connections cost one node.
//
//	go run ./cmd/density                      # everything; about 10 minutes and 12 GB of disk
//	go run ./cmd/density -rows partitions -partitions 10000
//	go run ./cmd/density -rows restart -bytes 10737418240
//	go run ./cmd/density -rows connections -idle 10000
//
// It builds kalda and runs it as a child process on a temporary directory, on free
// ports. It prints a table, or with -json the same as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kalda-io/kalda/bench/density"
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

// group is some rows under the name that -rows takes.
type group struct {
	name string
	f    func(context.Context, density.Options) ([]density.Figure, error)
}

var groups = []group{
	{"partitions", density.Partitions},
	{"restart", density.Restarts},
	{"connections", density.Connections},
}

func run(ctx context.Context) error {
	o := density.Options{Log: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
	}}
	which := flag.String("rows", "partitions,restart,connections", "what to measure")
	flag.StringVar(&o.Kalda, "kalda", "", "a built kalda, instead of one built here")
	flag.StringVar(&o.Dir, "dir", "", "where data directories are made; the system's temporary directory if empty")
	flag.IntVar(&o.Partitions, "partitions", 10000, "idle partitions")
	flag.IntVar(&o.PerTopic, "per-topic", 10, "partitions per topic")
	flag.IntVar(&o.LoadedPartitions, "loaded", 1000, "partitions with data, for the restarts")
	flag.Int64Var(&o.Bytes, "bytes", 10<<30, "bytes of data, for the restarts")
	flag.Int64Var(&o.TailBytes, "tail", 250<<20, "bytes that are not synced when the node is killed")
	flag.IntVar(&o.Idle, "idle", 10000, "idle connections")
	flag.IntVar(&o.Active, "active", 100, "active connections")
	flag.IntVar(&o.Rate, "rate", 50, "requests per second of each active connection")
	flag.IntVar(&o.Rounds, "rounds", 50, "pairs of rounds with and without the idle connections")
	flag.DurationVar(&o.RoundTime, "round", time.Second, "length of a round")
	hold := flag.Bool("hold", false, "only hold idle connections: address and number are the arguments (for this command's own use)")
	asJSON := flag.Bool("json", false, "print JSON")
	timeout := flag.Duration("timeout", 30*time.Minute, "end everything after this long")
	flag.Parse()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if *hold {
		n, err := strconv.Atoi(flag.Arg(1))
		if err != nil {
			return fmt.Errorf("-hold: number of connections: %w", err)
		}
		return density.Hold(ctx, flag.Arg(0), n, os.Stdin, os.Stdout)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.Holder = []string{self, "-hold"}
	if o.Kalda == "" {
		dir, err := os.MkdirTemp("", "bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		repo, err := measure.Repo()
		if err != nil {
			return err
		}
		kalda, err := (measure.Builder{Dir: dir, Repo: repo}).Kalda(ctx)
		if err != nil {
			return err
		}
		o.Kalda = kalda(false).Args[0]
	}
	var figs []density.Figure
	var failed error
	for name := range strings.SplitSeq(*which, ",") {
		i := slices.IndexFunc(groups, func(g group) bool { return g.name == name })
		if i < 0 {
			return fmt.Errorf("-rows %s: want partitions, restart or connections", name)
		}
		got, err := groups[i].f(ctx, o)
		figs = append(figs, got...)
		if err != nil {
			failed = fmt.Errorf("%s: %w", name, err)
			break
		}
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(figs); err != nil {
			return err
		}
		return failed
	}
	fmt.Println("| row | what | value | goal |\n| --- | --- | ---: | ---: |")
	for _, f := range figs {
		goal := ""
		if f.Goal > 0 {
			goal = fmt.Sprintf("%.4g %s", f.Goal, f.Unit)
		}
		if f.Missed() {
			goal += " (missed)"
		}
		fmt.Printf("| %s | %s | %s %s | %s |\n", f.Row, f.Name, number(f.Value), f.Unit, goal)
	}
	return failed
}

func number(v float64) string {
	if v >= 100 || v == float64(int(v)) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
