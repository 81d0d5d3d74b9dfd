// Command fillloop runs the fill loop: see README.md. It exits with 0 if every rule held, with 1 if one
// was broken or the node did not go on by itself. It needs Linux, root and mkfs.ext4.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kalda-io/kalda/chaos/fillloop"
	"github.com/kalda-io/kalda/chaos/internal/volume"
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

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("fillloop", flag.ContinueOnError)
	rounds := flags.Int("rounds", 10, "how often the disk is filled")
	policy := flags.String("policy", "commit", "kalda.flush.policy: os or commit")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "decides how full the disk gets, and for how long")
	dir := flags.String("dir", "", "where the disk and the history go (default a new temporary directory, removed after success)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	keep := *dir != ""
	if !keep {
		if *dir, err = os.MkdirTemp("", "kalda-fillloop-"); err != nil {
			return err
		}
	}
	bin, err := target.Build(ctx, target.Kalda, *dir)
	if err != nil {
		return err
	}
	disk, err := volume.Create(ctx, *dir+"/disk", fillloop.DiskBytes)
	if err != nil {
		return err
	}
	fmt.Printf("policy %s, %d rounds, seed %d, history in %s\n", *policy, *rounds, *seed, *dir)
	r, err := fillloop.Run(ctx, fillloop.Options{Bin: bin, Dir: *dir, Disk: disk, Seed: *seed, Rounds: *rounds, Policy: *policy, Out: os.Stdout})
	err = errors.Join(err, disk.Remove(ctx))
	fmt.Printf("%d acknowledged, %d of unknown fate, %d records read at the end, %d commits acknowledged, refused in %d rounds, %d of them without any room, went on after %v at most, duplicates %v\n",
		r.OK, r.Unknown, r.Read, r.Commits, r.Refused, r.Full, r.Resumed.Round(time.Millisecond), r.Duplicates)
	for _, v := range r.Violations {
		fmt.Println("  " + v)
	}
	if n := len(r.Violations) + r.Hidden; err == nil && n > 0 {
		err = fmt.Errorf("%d rules broken", n)
	}
	if err != nil {
		return fmt.Errorf("%w\nreplay: go run ./cmd/fillloop -policy %s -rounds %d -seed %d", err, *policy, *rounds, *seed)
	}
	if !keep {
		return os.RemoveAll(*dir)
	}
	return nil
}
