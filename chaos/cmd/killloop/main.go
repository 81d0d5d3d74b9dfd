// Command killloop runs the kill loop: see README.md. It exits with 0 if every rule held, with 1 if
// one was broken or the node did not come back.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/kalda-io/kalda/chaos/check"
	"github.com/kalda-io/kalda/chaos/history"
	"github.com/kalda-io/kalda/chaos/internal/volume"
	"github.com/kalda-io/kalda/chaos/killloop"
	"github.com/kalda-io/kalda/interop/target"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// diskBytes is the size of the sparse file that -power makes.
const diskBytes = 8 << 30

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("killloop", flag.ContinueOnError)
	rounds := flags.Int("rounds", 10, "kills under load for each policy")
	policy := flags.String("policy", "both", "kalda.flush.policy: os, commit or both")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "decides the moments of the kills")
	dir := flags.String("dir", "", "where data and histories go (default a new temporary directory, removed after success)")
	judge := flags.String("check", "", "only judge this history again")
	power := flags.Bool("power", false, "cut the power of a loop file system instead of killing (Linux, root); with -policy commit")
	withoutKcat := flags.Bool("without-kcat", false, "run without kcat's producers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *judge != "" {
		return judgeFile(*judge)
	}
	policies := []string{*policy}
	if *power && *policy != "commit" {
		return errors.New("-power goes with -policy commit: os promises nothing about what was not flushed")
	}
	if *policy == "both" {
		policies = []string{"os", "commit"}
	}
	kcat, err := exec.LookPath("kcat")
	if err != nil && !*withoutKcat {
		return fmt.Errorf("kcat is not installed; install it with `apt-get install kcat`, or run with -without-kcat")
	}
	if *withoutKcat {
		kcat = ""
	}
	keep := *dir != ""
	if !keep {
		if *dir, err = os.MkdirTemp("", "kalda-killloop-"); err != nil {
			return err
		}
	}
	kind, err := target.KindFromEnv()
	if err != nil {
		return err
	}
	bin, err := target.Build(ctx, kind, *dir)
	if err != nil {
		return err
	}
	for _, p := range policies {
		o := killloop.Options{Bin: bin, Dir: *dir + "/" + p, Seed: *seed, Rounds: *rounds, Policy: p, Kcat: kcat, Out: os.Stdout}
		if *power {
			if o.Disk, err = volume.Create(ctx, *dir+"/disk", diskBytes); err != nil {
				return err
			}
		}
		fmt.Printf("policy %s, %d rounds, seed %d, history in %s/%s\n", p, *rounds, *seed, *dir, p)
		report, err := killloop.Run(ctx, o)
		if o.Disk != nil {
			err = errors.Join(err, o.Disk.Remove(ctx))
		}
		printReport(report)
		if err == nil && len(report.Violations) > 0 {
			err = fmt.Errorf("%d rules broken", len(report.Violations)+report.Hidden)
		}
		if err != nil {
			return fmt.Errorf("policy %s: %w\nreplay: %s", p, err, killloop.Replay(o))
		}
	}
	if !keep {
		return os.RemoveAll(*dir)
	}
	return nil
}

// printReport prints what the rules found.
func printReport(r check.Report) {
	fmt.Printf("%d acknowledged, %d failed, %d of unknown fate, %d records read at the end, %d commits acknowledged, %d crashes, duplicates %v\n",
		r.OK, r.Failed, r.Unknown, r.Read, r.Commits, r.Kills, r.Duplicates)
	for _, v := range r.Violations {
		fmt.Println("  " + v)
	}
	if r.Hidden > 0 {
		fmt.Printf("  and %d more\n", r.Hidden)
	}
}

func judgeFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	events, err := history.Read(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	report := killloop.Judge(events)
	printReport(report)
	if len(report.Violations) > 0 {
		return fmt.Errorf("%d rules broken", len(report.Violations)+report.Hidden)
	}
	return nil
}
