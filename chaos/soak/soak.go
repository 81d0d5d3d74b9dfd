// Package soak runs a node for a long time under everything at once, kills it every minute, and asks two questions in
// the end: are the data equal to what was acknowledged, and does the node use what it used in the beginning?
//
//	|-- life 0 --x-- life 1 --x-- ... --x---------- the last life ----------| end
//	         kill -9 every KillEvery              Quiet without kills         everything is read twice
//	  s s s s m    s s s s m                s s s s m s s s s s s s s s s s   samples, marks
//
// The load is what package load has: idempotent producers for a topic of each flush policy, for a compacted topic with
// few keys and tombstones, and for a topic with a retention limit; topics that are created, written, read and
// deleted; groups whose members come and go; groups that come once; a reader that reads along. Package check judges
// the history, Judge the samples. What must have happened for the run to be worth anything (rounds of the
// cleaner, deleted segments, kills and so on) is demanded as well.
//
// A node starts with an empty process after each kill, so samples are compared at the same age of a life, and
// the last life is long, so that what a process gathers shows.
package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/kalda-io/kalda/chaos/check"
	"github.com/kalda-io/kalda/chaos/history"
	"github.com/kalda-io/kalda/chaos/internal/load"
	"github.com/kalda-io/kalda/chaos/internal/proc"
	"github.com/kalda-io/kalda/interop/target"
)

// Options say what is run. Bin, Dir, Duration, KillEvery and Rate are required.
type Options struct {
	Bin       target.Binary
	Dir       string        // history.jsonl, samples.jsonl, result.json and data/ are made in it
	Seed      uint64        // decides the moments of the kills
	Duration  time.Duration // of the load; reading everything comes on top
	KillEvery time.Duration
	Quiet     time.Duration // at the end of Duration, without a kill; at most Duration
	// SampleEvery is the time between two samples, 10 s if 0. Marks are MarkBefore a kill is due, 3 s if 0.
	SampleEvery, MarkBefore time.Duration
	Rate                    int       // records per second, all permanent topics together
	Out                     io.Writer // progress, a line a minute
	LineEvery               time.Duration

	// settle is how long cleaner and retention may take when nobody writes any more, settleBound if 0.
	settle time.Duration
	// sabotage, in tests of the soak itself, damages the data of a dead node; extra are arguments of the node.
	sabotage func(dataDir string) error
	extra    []string
}

// Result is what became of a run.
type Result struct {
	Seed     uint64       `json:"seed"`
	Seconds  float64      `json:"seconds"` // of load
	Kills    int          `json:"kills"`   // under load
	Again    int          `json:"again"`   // during recovery
	Rounds   float64      `json:"cleaner_rounds"`
	Removed  float64      `json:"cleaner_removed_records"`
	Slowest  float64      `json:"slowest_start_seconds"`
	CPUShare float64      `json:"node_cpu_share"` // of one core, in the last life
	Report   check.Report `json:"report"`
	Trends   []Trend      `json:"trends"`
	Samples  int          `json:"samples"`
	Told     []string     `json:"told"`     // what the run itself found
	Problems []string     `json:"problems"` // that, and what should have happened and did not
	Passed   bool         `json:"passed"`
}

const (
	commitTopic, osTopic         = "commit", "os"
	compactTopic, retentionTopic = "compact", "retention"

	partitions = 3 // of each topic
	// keys of each partition of the compacted topic: a segment holds each of them once or twice.
	keys           = 150
	segmentBytes   = 64 << 10
	retentionBytes = 256 << 10
	compactionLag  = 5 * time.Second

	judgedAfter   = 10 * time.Minute // how long a run must be that has to show what each resource did
	progressBound = 90 * time.Second // how long a start may take, and a producer without an answer
	settleBound   = 2 * time.Minute  // how long cleaner and retention may take when nobody writes any more
	churnEvery    = 700 * time.Millisecond
	visitEvery    = 2 * time.Second
	// minutes for which the offsets of a group without members are kept: those of visitors must go.
	offsetsMinutes = 2
)

// growing names the topics of which nothing is ever deleted.
func growing() []string { return []string{commitTopic, osTopic} }

// groups are the groups that stay, and what they read.
func groups() map[string][]string {
	return map[string][]string{"readers": {commitTopic}, "both": {commitTopic, osTopic}}
}

// run is one run. The goroutines of its workers are waited for by load.
type run struct {
	Options
	log     *history.Log
	clients *load.Clients
	start   target.Options
	random  *rand.Rand
	began   time.Time
	// cost is what the start of this life has cost.
	cost    map[Resource]float64
	samples []Sample
	out     *json.Encoder // of samples
	result  Result
	// what the lives before this one have counted, and what this one has at its last sample
	before, now struct{ rounds, removed float64 }
}

// Run runs the soak to its end. An error means that the run could not be finished; everything else that was found
// is in the result, which is written to result.json as well.
func Run(ctx context.Context, o Options) (res Result, err error) {
	o = o.withDefaults()
	if o.Bin.Kind != target.Kalda {
		return res, fmt.Errorf("%s has no metrics and no cleaner: only kalda can be soaked", o.Bin.Kind)
	}
	if o.Rate <= 0 || o.Duration <= 0 || o.KillEvery <= 0 {
		return res, errors.New("rate, duration and the time between kills must be positive")
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return res, err
	}
	hist, err := os.Create(filepath.Join(o.Dir, "history.jsonl"))
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, hist.Close()) }()
	sampled, err := os.Create(filepath.Join(o.Dir, "samples.jsonl"))
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, sampled.Close()) }()
	r := &run{Options: o, log: history.NewLog(hist), out: json.NewEncoder(sampled), random: rand.New(rand.NewPCG(o.Seed, 0)), began: time.Now()}
	r.result.Seed = o.Seed
	loadErr := r.load(ctx)
	events, logErr := r.log.Close()
	r.result.Rounds, r.result.Removed = r.before.rounds+r.now.rounds, r.before.removed+r.now.removed
	r.result.judge(events, r.samples)
	r.result.Passed = r.result.Passed && loadErr == nil && logErr == nil
	text, jsonErr := json.MarshalIndent(r.result, "", "  ")
	if jsonErr == nil {
		jsonErr = os.WriteFile(filepath.Join(o.Dir, "result.json"), append(text, '\n'), 0o644)
	}
	return r.result, errors.Join(loadErr, logErr, jsonErr)
}

func (o Options) withDefaults() Options {
	if o.SampleEvery == 0 {
		o.SampleEvery = 10 * time.Second
	}
	if o.MarkBefore == 0 {
		o.MarkBefore = 3 * time.Second
	}
	if o.settle == 0 {
		o.settle = settleBound
	}
	if o.LineEvery == 0 {
		o.LineEvery = time.Minute
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	return o
}

// Rules returns what the checkers are told of the topics and groups of a soak.
func Rules() check.Options {
	return check.Options{FinalReaders: load.FinalReaders(), DeletedReader: load.ChurnReader, EachIdempotent: true,
		Compacted: map[string]bool{compactTopic: true}, Trimmed: map[string]bool{retentionTopic: true}, Groups: groups()}
}

// Replay returns the command, for the chaos directory, that runs the same kills again.
func Replay(o Options) string {
	return fmt.Sprintf("go run ./cmd/soak -duration %v -kill-every %v -quiet %v -rate %d -seed %d", o.Duration, o.KillEvery, o.Quiet, o.Rate, o.Seed)
}

// JudgeDir judges the history and the samples in the directory of an earlier run again. Of what the node itself said
// it takes result.json's word, if there is one.
func JudgeDir(dir string) (res Result, err error) {
	if text, err := os.ReadFile(filepath.Join(dir, "result.json")); err == nil {
		if err := json.Unmarshal(text, &res); err != nil {
			return res, err
		}
	}
	hist, err := os.Open(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return res, err
	}
	defer hist.Close()
	events, err := history.Read(hist)
	if err != nil {
		return res, err
	}
	samples, err := readSamples(dir)
	if err != nil {
		return res, err
	}
	res.judge(events, samples)
	return res, nil
}

// readSamples reads the samples of a run back.
func readSamples(dir string) (samples []Sample, err error) {
	file, err := os.Open(filepath.Join(dir, "samples.jsonl"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for dec := json.NewDecoder(file); ; {
		var s Sample
		if err := dec.Decode(&s); err == io.EOF {
			return samples, nil
		} else if err != nil {
			return samples, fmt.Errorf("%s: sample %d: %w", file.Name(), len(samples), err)
		}
		samples = append(samples, s)
	}
}

// judge fills in what history and samples tell.
func (res *Result) judge(events []history.Event, samples []Sample) {
	res.Report = check.Check(events, Rules())
	res.Trends, res.Samples = Judge(samples, Tolerances()), len(samples)
	demand := func(ok bool, format string, args ...any) {
		if !ok {
			res.Problems = append(res.Problems, fmt.Sprintf(format, args...))
		}
	}
	res.Problems = slices.Clone(res.Told)
	demand(res.Report.OK > 0, "nothing was acknowledged")
	demand(res.Report.Commits > 0, "no group committed anything")
	demand(res.Report.Leaves > 0, "no member left a group")
	demand(res.Report.Deleted > 0, "no topic was deleted")
	demand(res.Rounds > 0 && res.Removed > 0, "the cleaner did %.0f rounds and removed %.0f records", res.Rounds, res.Removed)
	demand(res.Report.Compacted > 0, "no record of %s was compacted away", compactTopic)
	demand(res.Report.Trimmed > 0, "retention deleted nothing of %s", retentionTopic)
	if res.Seconds >= judgedAfter.Seconds() {
		for r := range Tolerances() {
			demand(slices.ContainsFunc(res.Trends, func(t Trend) bool { return t.Resource == r }), "%s was not judged: %d samples are too few, or lack it", r, len(samples))
		}
		slices.Sort(res.Problems)
	}
	res.Passed = len(res.Problems) == 0 && len(res.Report.Violations) == 0
	for _, t := range res.Trends {
		res.Passed = res.Passed && !t.Leaks()
	}
}

// load is everything up to the judgement.
func (r *run) load(ctx context.Context) (err error) {
	// Whatever hangs, the run ends.
	ctx, cancel := context.WithTimeout(ctx, r.Duration+r.Duration/4+4*settleBound+progressBound)
	defer cancel()
	r.start = target.Options{DataDir: filepath.Join(r.Dir, "data"), ReadyTimeout: progressBound, ExtraArgs: append(settings(), r.extra...)}
	began := time.Now()
	node, err := target.Start(ctx, r.Bin, r.start)
	if err != nil {
		return err
	}
	defer func() { node.Kill() }()
	if r.cost, err = started(ctx, node, time.Since(began)); err != nil {
		return err
	}
	r.start.Kafka = node.Kafka()
	r.clients = load.New(node.Kafka(), r.log)
	if err := r.createTopics(ctx); err != nil {
		return err
	}

	producing, stopProducing := context.WithCancel(ctx)
	defer stopProducing()
	hard, giveUp := context.WithCancel(ctx)
	defer giveUp()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	var producers, readers load.Workers
	r.produce(producing, hard, &producers)
	n := uint64(0)
	for group, topics := range groups() {
		n++
		readers.Run(func() error { return r.clients.KeepGroup(reading, group, 3, r.Seed+n, topics...) })
	}
	readers.Run(func() error { return r.clients.Poll(reading, growing()...) })
	// From here on every way out must end the load and wait for it.
	loopErr := r.lives(ctx, &producers, &readers, &node)
	r.result.Seconds = time.Since(r.began).Seconds()
	if loopErr != nil {
		giveUp() // the node may be gone for good: nothing is owed an answer any more
	}
	stopProducing()
	loadErr := errors.Join(loopErr, producers.Wait())
	if loadErr == nil {
		for group, topics := range groups() {
			loadErr = errors.Join(loadErr, r.clients.Caught(ctx, group, topics...))
		}
	}
	stopReading()
	loadErr = errors.Join(loadErr, readers.Wait())
	if loadErr == nil {
		loadErr = r.quiesce(ctx, node)
	} else {
		// What can still be read tells how much is lost.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
	}
	for _, f := range load.FinalReaders() {
		if err := r.clients.ReadAll(ctx, f, Rules().Trimmed); err != nil {
			return errors.Join(loadErr, fmt.Errorf("%s: %w\n%s", f, err, node.Log()))
		}
	}
	if loadErr = errors.Join(loadErr, node.Stop(30*time.Second)); loadErr != nil {
		return loadErr
	}
	return r.verify(ctx)
}

// settings are the node's: what takes minutes otherwise happens in seconds.
func settings() []string {
	var args []string
	for _, s := range []string{
		"log.cleaner.backoff.ms=1000", "log.retention.check.interval.ms=2000",
		"offsets.topic.num.partitions=8", "offsets.topic.segment.bytes=262144", "offsets.retention.minutes=" + strconv.Itoa(offsetsMinutes), "offsets.retention.check.interval.ms=10000",
		"group.initial.rebalance.delay.ms=200",
	} {
		args = append(args, "--set", s)
	}
	return args
}

func (r *run) createTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	for topic, configs := range map[string]map[string]string{
		commitTopic: {"kalda.flush.policy": "commit", "segment.bytes": "1048576"},
		osTopic:     {"kalda.flush.policy": "os", "segment.bytes": "1048576"},
		compactTopic: {"cleanup.policy": "compact", "segment.bytes": strconv.Itoa(segmentBytes), "min.cleanable.dirty.ratio": "0.3",
			"max.compaction.lag.ms": ms(compactionLag), "delete.retention.ms": ms(compactionLag)},
		retentionTopic: {"retention.bytes": strconv.Itoa(retentionBytes), "segment.bytes": strconv.Itoa(segmentBytes)},
	} {
		if err := r.clients.CreateTopic(ctx, topic, partitions, pointers(configs)); err != nil {
			return err
		}
	}
	return nil
}

func pointers(m map[string]string) map[string]*string {
	out := make(map[string]*string)
	for k, v := range m {
		out[k] = &v
	}
	return out
}

// produce starts all that writes.
func (r *run) produce(ctx, hard context.Context, workers *load.Workers) {
	// A fifth each for the two topics that grow, three tenths for those that do not.
	every := func(tenths int) time.Duration { return load.Burst * time.Second * 10 / time.Duration(r.Rate*tenths) }
	for topic, tenths := range map[string]int{commitTopic: 2, osTopic: 2, retentionTopic: 3} {
		workers.Run(func() error {
			return r.clients.ProduceIdempotent(ctx, hard, "producer-"+topic, topic, every(tenths))
		})
	}
	workers.Run(func() error {
		return r.clients.ProduceKeyed(ctx, hard, "producer-"+compactTopic, compactTopic, keys, every(3))
	})
	for i, policy := range []string{"commit", "os"} {
		configs := pointers(map[string]string{"kalda.flush.policy": policy, "segment.bytes": "65536"})
		workers.Run(func() error {
			return r.clients.ChurnTopics(ctx, hard, "churn-"+strconv.Itoa(i), configs, churnEvery)
		})
	}
	workers.Run(func() error { return r.clients.Visit(ctx, "visitor", retentionTopic, visitEvery) })
}

// quiesce waits until nothing is left to compact or to delete, and for the rest of what must be true of a node to which
// nobody writes any more.
func (r *run) quiesce(ctx context.Context, node *target.Node) error {
	ctx, cancel := context.WithTimeout(ctx, r.settle)
	defer cancel()
	for {
		m, err := proc.Scrape(ctx, node)
		if err != nil {
			return fmt.Errorf("after the load: %w", err)
		}
		r.count(m)
		dirty, over, under := 0.0, 0, 0
		dirtyBytes, sizes := ofTopic(m, "kalda_partition_dirty_bytes", compactTopic), ofTopic(m, "kalda_partition_size_bytes", retentionTopic)
		if len(dirtyBytes) != partitions || len(sizes) != partitions {
			return fmt.Errorf("the node tells of %d compacted partitions and %d with retention, want %d each", len(dirtyBytes), len(sizes), partitions)
		}
		for i := range partitions {
			dirty += dirtyBytes[i]
			if sizes[i] < retentionBytes {
				under++
			}
			if sizes[i] > retentionBytes+2*segmentBytes {
				over++
			}
		}
		if dirty == 0 && over == 0 {
			if under > 0 {
				r.result.Told = append(r.result.Told, fmt.Sprintf("%d partitions of %s are smaller than retention.bytes allows", under, retentionTopic))
			}
			if topics := m["kalda_topics"]; topics != 5 { // ours and __consumer_offsets
				r.result.Told = append(r.result.Told, fmt.Sprintf("%.0f topics are left, want 5: were deleted ones forgotten?", topics))
			}
			return nil
		}
		if load.Pause(ctx, 200*time.Millisecond) != nil {
			r.result.Told = append(r.result.Told,
				fmt.Sprintf("after %v without writes %.0f bytes of %s are not compacted and %d partitions of %s are too large", r.settle, dirty, compactTopic, over, retentionTopic))
			return nil
		}
	}
}

// verify lets the product look at its own files.
func (r *run) verify(ctx context.Context) error {
	brokers, err := filepath.Glob(filepath.Join(r.start.DataDir, "broker-*"))
	if err != nil || len(brokers) == 0 {
		return errors.Join(err, fmt.Errorf("no broker's directory in %s", r.start.DataDir))
	}
	for _, dir := range brokers {
		if text, err := exec.CommandContext(ctx, r.Bin.Path, "log", "verify", "--data", dir).CombinedOutput(); err != nil {
			r.result.Told = append(r.result.Told, fmt.Sprintf("kalda log verify: %v: %s", err, text))
		}
	}
	return nil
}
