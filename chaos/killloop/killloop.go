// Package killloop kills a node with -9 at random moments under load, starts it again on the same
// data and address, and has package check judge what came of it.
//
//	round:  load runs ... kill -9 ... [start, kill -9 again while it recovers] ... start ... load goes on
//	end:    the producers finish, every partition is read to its end twice, the history is judged
//
// The load is the two kinds of producers whose promises differ:
//
//   - franz-go, idempotent: nothing acknowledged is lost, and nothing is there twice, however often
//     its batches had to be sent again. The same client, and so the same producer id, lives through
//     all kills: what the broker knows of its sequences must come back from disk.
//   - kcat, not idempotent: nothing acknowledged is lost; a batch that was sent again may be there
//     twice, which is counted.
//
// A poller reads along, so that a record which a reader once saw and which is not what lies there in
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
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/chaos/check"
	"github.com/kalda-io/kalda/chaos/history"
	"github.com/kalda-io/kalda/interop/target"
)

// Options say what is run. Bin and Dir are required.
type Options struct {
	Bin    target.Binary
	Dir    string    // data/ and history.jsonl are made below it
	Seed   uint64    // decides the moments of the kills
	Rounds int       // kills under load; crashes during recovery come on top
	Policy string    // kalda.flush.policy of the topics, os or commit
	Kcat   string    // path of kcat, "" leaves its producers out
	Out    io.Writer // progress, one line a round

	// sabotage, in tests of the loop itself, damages the data of a dead node.
	sabotage func(dataDir string) error
}

const (
	idempotentTopic = "idempotent"
	plainTopic      = "plain"
	partitions      = 3 // of each topic; kcat has a process for each
	// outstanding bounds what a producer has sent without an answer.
	outstanding = 1500
	// progressBound is how long a round may take to see its acknowledgements: a node that needs
	// longer to come back has not come back.
	progressBound = 90 * time.Second
	// drainBound is how long the producers may take to finish after the last kill.
	drainBound = 2 * time.Minute
)

// run is one run. The goroutines of its producers and its poller are waited for by load.
type run struct {
	Options
	log   *history.Log
	addr  string
	acked [2]atomic.Int64 // idempotent, plain
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
	if loadErr != nil {
		// The end was not read; what the poller saw can still be judged.
		return check.Check(events, check.Options{Idempotent: map[string]bool{idempotentTopic: true}}), errors.Join(loadErr, logErr)
	}
	return Judge(events), logErr
}

// Judge applies the rules to the history of a run.
func Judge(events []history.Event) check.Report {
	return check.Check(events, check.Options{Idempotent: map[string]bool{idempotentTopic: true}, FinalReaders: finalReaders})
}

// Replay returns the command, for the chaos directory, that runs the same kills again. The seed fixes
// their moments in terms of the load; the machine's scheduling stays free.
func Replay(policy string, rounds int, seed uint64) string {
	return fmt.Sprintf("go run ./cmd/killloop -policy %s -rounds %d -seed %d", policy, rounds, seed)
}

// load is everything up to the judgement.
func (r *run) load(ctx context.Context) error {
	random := rand.New(rand.NewPCG(r.Seed, 0))
	start := target.Options{DataDir: r.Dir + "/data", ReadyTimeout: progressBound}
	node, err := target.Start(ctx, r.Bin, start)
	if err != nil {
		return err
	}
	defer func() { node.Kill() }()
	r.addr, start.Kafka = node.Kafka(), node.Kafka()
	if err := r.createTopics(ctx); err != nil {
		return err
	}

	producing, stopProducing := context.WithCancel(ctx)
	defer stopProducing()
	hard, giveUp := context.WithCancel(ctx)
	defer giveUp()
	polling, stopPolling := context.WithCancel(ctx)
	defer stopPolling()
	var producers, poller group
	for i := range 2 {
		producers.run(func() error { return r.idempotentProducer(producing, hard, fmt.Sprintf("idempotent-%d", i)) })
	}
	if r.Kcat != "" {
		for p := range int32(partitions) {
			producers.run(func() error { return r.kcatProducer(producing, hard, fmt.Sprintf("kcat-%d", p), p) })
		}
	}
	poller.run(func() error { return r.poll(polling) })
	// From here on every way out must end the load and wait for it.
	loop := func() error {
		for round := range r.Rounds {
			if err := r.underLoad(ctx, random, &producers, node); err != nil {
				return fmt.Errorf("round %d: %w\n%s", round, err, node.Log())
			}
			node.Kill()
			r.log.Add(history.Event{Process: "chaos", F: history.Kill, Offset: -1, Invoke: r.log.Now(), Type: history.OK})
			if r.sabotage != nil {
				if err := r.sabotage(start.DataDir); err != nil {
					return err
				}
			}
			again := 0
			for random.IntN(4) == 0 { // and sometimes in the middle of the recovery
				again++
				if err := target.StartAndKill(ctx, r.Bin, start, time.Duration(random.IntN(150))*time.Millisecond); err != nil {
					return fmt.Errorf("round %d: start %d after the kill: %w", round, again, err)
				}
			}
			began := time.Now()
			if node, err = target.Start(ctx, r.Bin, start); err != nil {
				return fmt.Errorf("round %d: start after the kill: %w", round, err)
			}
			r.log.Add(history.Event{Process: "chaos", F: history.Start, Offset: -1, Invoke: r.log.Now(), Type: history.OK})
			fmt.Fprintf(r.Out, "round %d: killed, %d kills during recovery, ready again in %v; acknowledged so far: %d idempotent, %d plain\n",
				round, again, time.Since(began).Round(time.Millisecond), r.acked[0].Load(), r.acked[1].Load())
		}
		// The last start must serve too.
		if err := r.underLoad(ctx, random, &producers, node); err != nil {
			return fmt.Errorf("after the last round: %w\n%s", err, node.Log())
		}
		return nil
	}
	loopErr := loop()
	if loopErr != nil {
		giveUp() // the node may be gone for good: nothing is owed an answer any more
	}
	stopProducing()
	loadErr := producers.wait()
	stopPolling()
	loadErr = errors.Join(loopErr, loadErr, poller.wait())
	if loadErr != nil {
		return loadErr
	}
	for _, f := range finalReaders {
		if err := r.readAll(ctx, f); err != nil {
			return fmt.Errorf("final read: %w\n%s", err, node.Log())
		}
	}
	return node.Stop(30 * time.Second)
}

// createTopics makes both topics with the flush policy. The fake target has no such policy.
func (r *run) createTopics(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	configs := map[string]*string{}
	if r.Bin.Kind == target.Kalda {
		configs["kalda.flush.policy"] = &r.Policy
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, topic := range []string{idempotentTopic, plainTopic} {
		if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, -1, configs, topic); err != nil {
			return fmt.Errorf("create %s: %w", topic, err)
		}
	}
	return nil
}

// underLoad waits for a random number of acknowledgements of each kind, and a random moment more: a
// kill then hits batches in flight, wherever they are.
func (r *run) underLoad(ctx context.Context, random *rand.Rand, producers *group, node *target.Node) error {
	more := int64(100 + random.IntN(1500))
	want := [2]int64{r.acked[0].Load() + more, r.acked[1].Load() + more}
	if r.Kcat == "" {
		want[1] = 0
	}
	ctx, cancel := context.WithTimeout(ctx, progressBound)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for r.acked[0].Load() < want[0] || r.acked[1].Load() < want[1] {
		select {
		case <-tick.C:
		case err := <-producers.failed():
			return fmt.Errorf("a producer gave up: %w", err)
		case <-node.Done():
			return errors.New("the node ended by itself")
		case <-ctx.Done():
			return fmt.Errorf("no progress within %v: acknowledged %d and %d, want %d and %d", progressBound,
				r.acked[0].Load(), r.acked[1].Load(), want[0], want[1])
		}
	}
	moment := time.NewTimer(time.Duration(random.IntN(50_000)) * time.Microsecond)
	defer moment.Stop()
	<-moment.C
	return nil
}
