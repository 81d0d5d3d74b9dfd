// Command soak runs a node under everything at once for half an hour and judges data and resources: see
// README.md. It exits with 0 if the data are equal and every resource is flat, and with 1 otherwise.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kalda-io/kalda/chaos/soak"
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

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	duration := flags.Duration("duration", 30*time.Minute, "how long the load runs; reading and judging everything comes on top")
	killEvery := flags.Duration("kill-every", time.Minute, "time between two kills")
	quiet := flags.Duration("quiet", -1, "end of the load without kills (default a third of it)")
	rate := flags.Int("rate", 1000, "records per second, all permanent topics together")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "decides the moments of the kills")
	dir := flags.String("dir", "", "where data, history and samples go (default a new temporary directory, removed after success)")
	asJSON := flags.Bool("json", false, "print the result as JSON; progress goes to standard error")
	judge := flags.String("check", "", "only judge samples.jsonl and history.jsonl in this directory again")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *judge != "" {
		result, err := soak.JudgeDir(*judge)
		return errors.Join(err, show(result, *asJSON))
	}
	if *quiet < 0 {
		*quiet = *duration / 3
	}
	keep := *dir != ""
	if !keep {
		var err error
		if *dir, err = os.MkdirTemp("", "kalda-soak-"); err != nil {
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
	o := soak.Options{Bin: bin, Dir: *dir, Seed: *seed, Duration: *duration, KillEvery: *killEvery, Quiet: *quiet, Rate: *rate, Out: os.Stdout}
	if *asJSON {
		o.Out = os.Stderr
	}
	fmt.Fprintf(o.Out, "seed %d, everything in %s\n", *seed, *dir)
	result, err := soak.Run(ctx, o)
	err = errors.Join(err, show(result, *asJSON))
	if err != nil {
		return fmt.Errorf("%w\nreplay: %s", err, soak.Replay(o))
	}
	if !keep {
		return os.RemoveAll(*dir)
	}
	return nil
}

// show prints a result and returns an error if it is not good.
func show(r soak.Result, asJSON bool) error {
	if asJSON {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		fmt.Println(string(text))
	} else {
		r.Print(os.Stdout)
	}
	if !r.Passed {
		return errors.New("the soak has failed")
	}
	return nil
}
