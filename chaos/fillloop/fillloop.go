// Package fillloop fills the disk of a node under load, frees it again, round after round, and has
// package check judge what came of it.
//
//	round:  load runs ... somebody else's file takes the room: to between the node's two marks, to below
//	        both, or all of it ... records are refused, reads go on ... the room comes back ... the load
//	        goes on by itself, soon
//	end:    the producers finish, every partition is read to its end twice, the history is judged
//
// The node is never started again: a full disk is no failure. The producers are idempotent and try what is
// refused again, so nothing is lost nor there twice, however often an append found no room halfway.
package fillloop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/kalda-io/kalda/chaos/check"
	"github.com/kalda-io/kalda/chaos/history"
	"github.com/kalda-io/kalda/chaos/internal/load"
	"github.com/kalda-io/kalda/chaos/internal/volume"
	"github.com/kalda-io/kalda/interop/target"
)

// Options say what is run. All but Out are required.
type Options struct {
	Bin    target.Binary
	Dir    string // history.jsonl is made in it
	Disk   *volume.Volume
	Seed   uint64 // decides how full the disk gets, and for how long
	Rounds int
	Policy string    // kalda.flush.policy of the topic, os or commit
	Out    io.Writer // progress, one line a round
}

const (
	// DiskBytes is a disk that is large enough for some hundred rounds.
	DiskBytes = 1 << 30

	topic      = "filled"
	partitions = 3
	group      = "committer"
	// soft and hard are the node's marks, bytes of free space.
	soft, hard = 96 << 20, 32 << 20
	// stillFor without an acknowledgement counts as refused, and that must be so within refusedBound.
	stillFor, refusedBound = time.Second, 20 * time.Second
	// resumeBound is how long after the room came back the first record must be acknowledged.
	resumeBound = 10 * time.Second
	// progressBound is for the acknowledgements of a round before the disk is filled.
	progressBound = 90 * time.Second
)

// Report is what a run found.
type Report struct {
	check.Report
	// Refused counts the rounds in which nothing was acknowledged while there was no room; Full those of
	// them with no room at all.
	Refused, Full int
	// Resumed is the longest time from when the room came back to an acknowledgement.
	Resumed time.Duration
}

// run is one run.
type run struct {
	Options
	log     *history.Log
	clients *load.Clients
	report  Report
}

// Run runs the loop to its end and judges it. An error means that the node ended, that it took records
// without room, did not serve reads, or did not go on in time; or that the run could not be judged.
func Run(ctx context.Context, o Options) (report Report, err error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return report, err
	}
	file, err := os.Create(o.Dir + "/history.jsonl")
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if o.Out == nil {
		o.Out = io.Discard
	}
	r := &run{Options: o, log: history.NewLog(file)}
	loadErr := r.load(ctx)
	events, logErr := r.log.Close()
	r.report.Report = check.Check(events, check.Options{Idempotent: map[string]bool{topic: true}, FinalReaders: load.FinalReaders()})
	return r.report, errors.Join(loadErr, logErr)
}

// load is everything up to the judgement.
func (r *run) load(ctx context.Context) (err error) {
	node, err := target.Start(ctx, r.Bin, target.Options{DataDir: r.Disk.Path() + "/data", ReadyTimeout: progressBound,
		ExtraArgs: []string{"--set", fmt.Sprintf("kalda.disk.soft=%d", soft), "--set", fmt.Sprintf("kalda.disk.hard=%d", hard)}})
	if err != nil {
		return err
	}
	defer node.Kill()
	r.clients = load.New(node.Kafka(), r.log)
	segment := "1048576"
	if err := r.clients.CreateTopic(ctx, topic, partitions, map[string]*string{"kalda.flush.policy": &r.Policy, "segment.bytes": &segment}); err != nil {
		return err
	}
	producing, stopProducing := context.WithCancel(ctx)
	defer stopProducing()
	hard, giveUp := context.WithCancel(ctx)
	defer giveUp()
	polling, stopPolling := context.WithCancel(ctx)
	defer stopPolling()
	var producers, poller load.Workers
	for i := range 2 {
		producers.Run(func() error {
			return r.clients.ProduceIdempotent(producing, hard, fmt.Sprintf("idempotent-%d", i), topic, load.BurstEvery)
		})
	}
	producers.Run(func() error { return r.clients.CommitOffsets(producing, hard, group, topic) })
	poller.Run(func() error { return r.clients.Poll(polling, topic) })
	// From here on every way out must give the room back, end the load and wait for it.
	loopErr := r.loop(ctx, rand.New(rand.NewPCG(r.Seed, 0)), &producers, node)
	if err := r.Disk.Drain(); err != nil {
		loopErr = errors.Join(loopErr, err)
	}
	if loopErr != nil {
		giveUp()
	}
	stopProducing()
	loadErr := producers.Wait()
	stopPolling()
	if err := errors.Join(loopErr, loadErr, poller.Wait()); err != nil {
		return fmt.Errorf("%w\n%s", err, node.Log())
	}
	for _, f := range load.FinalReaders() {
		if err := r.clients.ReadAll(ctx, f, nil); err != nil {
			return fmt.Errorf("final read: %w\n%s", err, node.Log())
		}
	}
	return node.Stop(30 * time.Second)
}

func (r *run) loop(ctx context.Context, random *rand.Rand, producers *load.Workers, node *target.Node) error {
	w := &watch{r: r, producers: producers, node: node}
	fills := []int64{(soft + hard) / 2, hard / 2, 0} // bytes that are left free
	for round := range r.Rounds {
		if _, err := w.acknowledged(ctx, int64(100+random.IntN(1000)), progressBound); err != nil {
			return fmt.Errorf("round %d: before the disk is filled: %w", round, err)
		}
		if round%len(fills) == 0 {
			random.Shuffle(len(fills), func(i, j int) { fills[i], fills[j] = fills[j], fills[i] })
		}
		leave := fills[round%len(fills)]
		if err := r.Disk.Fill(leave); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if err := w.refused(ctx); err != nil {
			return fmt.Errorf("round %d, %d bytes left: %w", round, leave, err)
		}
		if err := r.clients.ReadFirst(ctx, topic); err != nil {
			return fmt.Errorf("round %d, %d bytes left: reads must go on: %w", round, leave, err)
		}
		if err := load.Pause(ctx, time.Duration(random.IntN(3000))*time.Millisecond); err != nil {
			return err
		}
		if err := r.Disk.Drain(); err != nil {
			return err
		}
		took, err := w.acknowledged(ctx, 1, resumeBound)
		if err != nil {
			return fmt.Errorf("round %d, %d bytes were left: after the room came back: %w", round, leave, err)
		}
		r.report.Refused++
		if leave == 0 {
			r.report.Full++
		}
		r.report.Resumed = max(r.report.Resumed, took)
		fmt.Fprintf(r.Out, "round %d: %d MiB left, went on %v after the room came back; acknowledged so far: %d records, %d commits\n",
			round, leave>>20, took.Round(time.Millisecond), r.clients.Idempotent.Load(), r.clients.Commits.Load())
	}
	return nil
}

// watch waits for what the load does.
type watch struct {
	r         *run
	producers *load.Workers
	node      *target.Node
}

// acknowledged waits for n more acknowledged records.
func (w *watch) acknowledged(ctx context.Context, n int64, bound time.Duration) (took time.Duration, err error) {
	began, want := time.Now(), w.r.clients.Idempotent.Load()+n
	err = w.until(ctx, bound, func(time.Time) bool { return w.r.clients.Idempotent.Load() >= want })
	return time.Since(began), err
}

// refused waits until nothing was acknowledged for stillFor.
func (w *watch) refused(ctx context.Context) error {
	last, since := w.r.clients.Idempotent.Load(), time.Now()
	err := w.until(ctx, refusedBound, func(now time.Time) bool {
		if n := w.r.clients.Idempotent.Load(); n != last {
			last, since = n, now
		}
		return now.Sub(since) >= stillFor
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("records are still taken: %w", err)
	}
	return err
}

// until looks every few milliseconds whether something is so.
func (w *watch) until(ctx context.Context, bound time.Duration, so func(now time.Time) bool) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if so(now) {
				return nil
			}
		case err := <-w.producers.Failed():
			return fmt.Errorf("a producer gave up: %w", err)
		case <-w.node.Done():
			return errors.New("the node ended by itself")
		case <-ctx.Done():
			return fmt.Errorf("not within %v (%d records acknowledged): %w", bound, w.r.clients.Idempotent.Load(), ctx.Err())
		}
	}
}
