// Package killloop ends a node without notice at random moments under load, starts it again on the same
// data and address, and has package check judge what came of it.
//
//	round:  load runs ... crash ... [start, crash again while it recovers] ... start ... load goes on
//	end:    the producers finish, every partition is read to its end twice, the history is judged
//
// A crash is kill -9, or with Options.Disk a power cut: the node is stopped, its file system drops what
// was not synced, the node is killed, and the next start finds what a disk would hold. What a process
// leaves in the page cache survives the first and not the second.
//
// The load is what package load has: an idempotent producer, which lives through all crashes with its
// producer id, so that what the broker knows of its sequences must come back from disk; kcat, which is
// not idempotent; a committer of group offsets; topics that are created while all of this goes on; and a
// poller that reads along, so that a record which a reader once saw and which is not what lies there in
// the end is found out.
//
// Nobody helps: a node that does not come back, or after which the producers make no progress, ends
// the run as a failure.
package killloop

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
	"github.com/kalda-io/kalda/chaos/internal/proc"
	"github.com/kalda-io/kalda/chaos/internal/volume"
	"github.com/kalda-io/kalda/interop/target"
)

// Options say what is run. Bin and Dir are required.
type Options struct {
	Bin    target.Binary
	Dir    string    // history.jsonl is made in it, and data/ without a Disk
	Seed   uint64    // decides the moments of the kills
	Rounds int       // kills under load; crashes during recovery come on top
	Policy string    // kalda.flush.policy of the topics, os or commit
	Kcat   string    // path of kcat, "" leaves its producers out
	Out    io.Writer // progress, one line a round

	// Disk holds the data, in data/, and makes every crash a power cut. Nil kills the process only.
	Disk *volume.Volume
	// ReadyTimeout bounds a start; 0 is progressBound.
	ReadyTimeout time.Duration

	// sabotage, in tests of the loop itself, damages the data of a dead node.
	sabotage func(dataDir string) error
}

const (
	idempotentTopic = "idempotent"
	plainTopic      = "plain"
	partitions      = 3 // of each topic; kcat has a process for each
	// newTopics bounds the topics that are created on the way.
	newTopics = 400
	group     = "committer"
	// progressBound is how long a round may take to see its acknowledgements: a node that needs
	// longer to come back has not come back.
	progressBound = 90 * time.Second
	// judgeBound is how long the final read of a run that has failed already may take.
	judgeBound = 30 * time.Second
)

// run is one run. The goroutines of its workers are waited for by load.
type run struct {
	Options
	log     *history.Log
	clients *load.Clients
	start   target.Options
}

// Run runs the loop to its end and returns the checkers' report. An error means that the run could
// not be judged, or that the node did not come back; both are failures.
func Run(ctx context.Context, o Options) (report check.Report, err error) {
	if o.Policy != "os" && o.Policy != "commit" {
		return report, fmt.Errorf("flush policy %q: want os or commit", o.Policy)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return report, err
	}
	file, err := os.Create(o.Dir + "/history.jsonl")
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r := &run{Options: o, log: history.NewLog(file)}
	loadErr := r.load(ctx)
	events, logErr := r.log.Close()
	return Judge(events), errors.Join(loadErr, logErr)
}

// Judge applies the rules to the history of a run.
func Judge(events []history.Event) check.Report {
	o := check.Options{Idempotent: map[string]bool{idempotentTopic: true}, FinalReaders: load.FinalReaders()}
	for n := range newTopics {
		o.Idempotent[load.NewTopic(n)] = true
	}
	return check.Check(events, o)
}

// Replay returns the command, for the chaos directory, that runs the same crashes again. The seed fixes
// their moments in terms of the load; the machine's scheduling stays free.
func Replay(o Options) string {
	power := ""
	if o.Disk != nil {
		power = " -power"
	}
	return fmt.Sprintf("go run ./cmd/killloop -policy %s -rounds %d -seed %d%s", o.Policy, o.Rounds, o.Seed, power)
}

// load is everything up to the judgement.
func (r *run) load(ctx context.Context) error {
	random := rand.New(rand.NewPCG(r.Seed, 0))
	if r.ReadyTimeout == 0 {
		r.ReadyTimeout = progressBound
	}
	r.start = target.Options{DataDir: r.Dir + "/data", ReadyTimeout: r.ReadyTimeout}
	if r.Disk != nil {
		r.start.DataDir = r.Disk.Path() + "/data"
	}
	node, err := target.Start(ctx, r.Bin, r.start)
	if err != nil {
		return err
	}
	defer func() { node.Kill() }()
	r.start.Kafka = node.Kafka()
	r.clients = load.New(node.Kafka(), r.log)
	configs := map[string]*string{}
	if r.Bin.Kind == target.Kalda { // the fake has no such keys
		small := "65536" // a round fills several segments
		configs["kalda.flush.policy"], configs["segment.bytes"] = &r.Policy, &small
	}
	if err := r.createTopics(ctx, configs); err != nil {
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
			return r.clients.ProduceIdempotent(producing, hard, fmt.Sprintf("idempotent-%d", i), idempotentTopic, load.BurstEvery)
		})
	}
	if r.Kcat != "" {
		for p := range int32(partitions) {
			producers.Run(func() error {
				return r.clients.ProduceKcat(producing, hard, r.Kcat, fmt.Sprintf("kcat-%d", p), plainTopic, p)
			})
		}
	}
	producers.Run(func() error { return r.clients.CommitOffsets(producing, hard, group, idempotentTopic) })
	producers.Run(func() error { return r.clients.MakeTopics(producing, hard, configs, newTopics) })
	poller.Run(func() error { return r.clients.Poll(polling, idempotentTopic, plainTopic) })
	// From here on every way out must end the load and wait for it.
	loopErr := r.loop(ctx, random, &producers, &node)
	if loopErr != nil {
		giveUp() // the node may be gone for good: nothing is owed an answer any more
	}
	stopProducing()
	loadErr := producers.Wait()
	stopPolling()
	loadErr = errors.Join(loopErr, loadErr, poller.Wait())
	if loadErr != nil {
		// What can still be read tells how much is lost.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, judgeBound)
		defer cancel()
	}
	for _, f := range load.FinalReaders() {
		if err := r.clients.ReadAll(ctx, f, nil); err != nil {
			return errors.Join(loadErr, fmt.Errorf("final read: %w\n%s", err, node.Log()))
		}
	}
	return errors.Join(loadErr, node.Stop(30*time.Second))
}

// loop is the rounds. It leaves in node the one that runs, or the one that ended last.
func (r *run) loop(ctx context.Context, random *rand.Rand, producers *load.Workers, node **target.Node) error {
	for round := range r.Rounds {
		if err := r.underLoad(ctx, random, producers, *node); err != nil {
			return fmt.Errorf("round %d: %w\n%s", round, err, (*node).Log())
		}
		if err := r.crash(ctx, *node); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		r.log.Add(history.Event{Process: "chaos", F: history.Kill, Offset: -1, Invoke: r.log.Now(), Type: history.OK})
		if r.sabotage != nil {
			if err := r.sabotage(r.start.DataDir); err != nil {
				return err
			}
		}
		again := 0
		for random.IntN(4) == 0 { // and sometimes in the middle of the recovery
			again++
			if err := target.StartAndKill(ctx, r.Bin, r.start, time.Duration(random.IntN(150))*time.Millisecond); err != nil {
				return fmt.Errorf("round %d: start %d after the crash: %w", round, again, err)
			}
			if err := r.powerCut(ctx); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
		}
		began := time.Now()
		started, err := target.Start(ctx, r.Bin, r.start)
		if err != nil {
			return fmt.Errorf("round %d: start after the crash: %w", round, err)
		}
		*node = started
		r.log.Add(history.Event{Process: "chaos", F: history.Start, Offset: -1, Invoke: r.log.Now(), Type: history.OK})
		fmt.Fprintf(r.Out, "round %d: crashed, %d times again during recovery, ready after %v; acknowledged so far: %d idempotent, %d plain, %d commits, %d topics\n",
			round, again, time.Since(began).Round(time.Millisecond), r.clients.Idempotent.Load(), r.clients.Plain.Load(), r.clients.Commits.Load(), r.clients.Topics.Load())
	}
	// The last start must serve too.
	if err := r.underLoad(ctx, random, producers, *node); err != nil {
		return fmt.Errorf("after the last round: %w\n%s", err, (*node).Log())
	}
	return nil
}

// crash ends the node without notice, and on a Disk the power of both.
func (r *run) crash(ctx context.Context, node *target.Node) error {
	if r.Disk != nil {
		// Stopped first: it must not see the file system fail, which no power cut shows to anybody.
		if err := proc.Pause(node); err != nil {
			return err
		}
		if err := r.Disk.Cut(); err != nil {
			return err
		}
		node.Kill()
		return r.Disk.Remount(ctx)
	}
	node.Kill()
	return nil
}

// powerCut is the cut for a node that is dead already.
func (r *run) powerCut(ctx context.Context) error {
	if r.Disk == nil {
		return nil
	}
	if err := r.Disk.Cut(); err != nil {
		return err
	}
	return r.Disk.Remount(ctx)
}

func (r *run) createTopics(ctx context.Context, configs map[string]*string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, topic := range []string{idempotentTopic, plainTopic} {
		if err := r.clients.CreateTopic(ctx, topic, partitions, configs); err != nil {
			return err
		}
	}
	return nil
}

// underLoad waits for a random number of acknowledgements of each kind, and a random moment more: a
// crash then hits batches in flight, wherever they are.
func (r *run) underLoad(ctx context.Context, random *rand.Rand, producers *load.Workers, node *target.Node) error {
	more := int64(100 + random.IntN(1500))
	counters := []func() int64{r.clients.Idempotent.Load, r.clients.Commits.Load}
	want := []int64{counters[0]() + more, counters[1]() + 1}
	if r.Kcat != "" {
		counters, want = append(counters, r.clients.Plain.Load), append(want, r.clients.Plain.Load()+more)
	}
	reached := func() bool {
		for i := range want {
			if counters[i]() < want[i] {
				return false
			}
		}
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, progressBound)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		select {
		case <-tick.C:
		case err := <-producers.Failed():
			return fmt.Errorf("a producer gave up: %w", err)
		case <-node.Done():
			return errors.New("the node ended by itself")
		case <-ctx.Done():
			return fmt.Errorf("no progress within %v: acknowledged %d idempotent records, %d commits and %d plain records, want %d of each kind of record more",
				progressBound, r.clients.Idempotent.Load(), r.clients.Commits.Load(), r.clients.Plain.Load(), more)
		}
	}
	moment := time.NewTimer(time.Duration(random.IntN(50_000)) * time.Microsecond)
	defer moment.Stop()
	<-moment.C
	return nil
}
