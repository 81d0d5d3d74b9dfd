package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kalda-io/kalda/kerr"
)

// benchSpec is what a benchmark was asked to do.
type benchSpec struct {
	mode       string // produce, consume, e2e
	topic      string // "": a temporary one
	keep       bool
	partitions int32
	configs    map[string]*string
	records    int64
	duration   time.Duration
	rate       float64 // 0: as fast as it goes
	size       int
	batch      int32
	linger     time.Duration
	acks       string
	codec      string
	clients    int
	metricsURL string
	format     string
}

// The modes of bench.
const (
	benchProduce = "produce"
	benchConsume = "consume"
	benchE2E     = "e2e"
)

// benchDuration is how long a load runs when neither records nor a time are given, and
// benchFill how many records consume writes to a temporary topic.
const (
	benchDuration = 10 * time.Second
	benchFill     = 1_000_000
)

func (a *app) benchCommand() *cobra.Command {
	c := groupCommand("bench", "Measure a cluster: rate, latency, processor time",
		a.benchModeCommand(benchProduce, "Measure how fast records are written",
			`Write records and print rate, latency and processor time. Without --topic a temporary
topic is made and deleted afterwards. Any Kafka broker will do.

With --rate each record has a time at which it is meant to be sent, and its latency counts
from that time whether or not the client was able to send it then: what a stalled broker
delays is not left out. Without --rate records are handed over as fast as they are taken;
latency then counts from there and tells mostly how full the client's buffer is.

  kalda bench produce --rate 10000
  kalda bench produce --duration 5s -c kalda.flush.policy=os`),
		a.benchModeCommand(benchConsume, "Measure how fast records are read",
			`Read a topic from its start to its end as it is now and print rate, size of the fetches
and processor time. Without --topic a temporary topic is made, filled, read and deleted.

  kalda bench consume --records 500000 --record-size 1KiB`),
		a.benchModeCommand(benchE2E, "Measure the way from a producer to a consumer",
			`Write records at a rate and read them at the same time. Latency counts from the time at
which a record is meant to be sent to its receipt. Each record has a number: those that were
acknowledged and not received are counted as lost, and the exit code is then 1.

  kalda bench e2e --rate 5000 --duration 30s`))
	return c
}

func (a *app) benchModeCommand(mode, short, long string) *cobra.Command {
	s := &benchSpec{mode: mode, batch: 256 << 10, size: 100, clients: 1}
	cmd := &cobra.Command{Use: mode, Short: short, Long: long, Args: noArgs}
	f := cmd.Flags()
	var configs []string
	f.StringVar(&s.topic, "topic", "", "use this `TOPIC`, which stays; default is a temporary one")
	f.BoolVar(&s.keep, "keep", false, "do not delete the temporary topic")
	f.Int32VarP(&s.partitions, "partitions", "p", 12, "number of partitions of the temporary topic")
	f.StringArrayVarP(&configs, "config", "c", nil, "configuration `KEY=VALUE` of the temporary topic (also --set)")
	alias(f, "set", "config")
	f.Int64VarP(&s.records, "records", "n", 0, "end after `N` records")
	f.Var(durationValue{&s.duration}, "duration", "end after this time (default 10s when no --records are given)")
	f.Lookup("duration").DefValue = ""
	if mode == benchConsume {
		f.Lookup("duration").Usage = "end the reading after this time"
		f.Lookup("records").Usage = "read `N` records; a temporary topic is filled with them (default 1000000 there)"
	}
	f.Var(sizeValue{&s.size}, "record-size", "size of a record's value")
	codec := &choice{value: "none", of: []string{"none", "gzip", "snappy", "lz4", "zstd"}}
	f.VarP(codec, "compression", "z", "compression of the batches; the values are random bytes")
	f.StringVar(&s.metricsURL, "metrics-url", "", "take the broker's processor time from this `URL` (kalda: http://HOST:8080/metrics)")
	acks := &choice{value: "all", of: []string{"0", "1", "all"}}
	if mode != benchConsume {
		f.Float64Var(&s.rate, "rate", 0, "records per second; 0 is as fast as they are taken")
		batch := int(s.batch)
		f.Var(sizeValue{&batch}, "batch-bytes", "largest batch")
		f.Var(durationValue{&s.linger}, "linger", "how long a batch waits for more records")
		f.Var(acksChoice{acks}, "acks", "who has a record before it counts as sent: nobody, the leader, all in-sync replicas")
		f.IntVar(&s.clients, "clients", 1, "number of producers, each with connections of its own")
		completeChoice(cmd, "acks", acks)
		f.Lookup("linger").DefValue = ""
		cmd.PreRun = func(*cobra.Command, []string) { s.batch = int32(batch) }
	}
	if mode == benchE2E {
		s.rate = 1000
		f.Lookup("rate").DefValue = "1000"
		f.Lookup("rate").Usage = "records per second"
	}
	completeChoice(cmd, "compression", codec)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s.acks, s.codec, s.format = acks.value, codec.value, *out
		var err error
		if s.configs, err = parseConfigs("config", configs); err != nil {
			return err
		}
		if err := s.check(f); err != nil {
			return err
		}
		return a.benchmark(cmd.Context(), s)
	}
	return cmd
}

// check refuses what makes no sense and sets the defaults that depend on other flags.
func (s *benchSpec) check(f *pflag.FlagSet) error {
	if s.topic != "" {
		for _, name := range []string{"keep", "partitions", "config"} {
			if f.Changed(name) {
				return usage("--%s is about the temporary topic, and --topic names another one", name)
			}
		}
	}
	// 10^9 records number themselves in 250 MiB; more is a typing error.
	const most = 1_000_000_000
	for _, c := range []struct {
		flag        string
		value       float64
		least, most float64
	}{
		{"partitions", float64(s.partitions), 1, 100_000},
		{"records", float64(s.records), 1, most},
		{"duration", s.duration.Seconds(), 0.001, 7 * 24 * 3600},
		{"rate", s.rate, 0, 1e8},
		{"record-size", float64(s.size), 0, 1 << 30},
		{"batch-bytes", float64(s.batch), 512, 1 << 30},
		{"clients", float64(s.clients), 1, 1000},
	} {
		if f.Changed(c.flag) && (!(c.value >= c.least) || c.value > c.most) { // not a number is refused as well
			return usage("--%s %s: want %v to %.0f", c.flag, f.Lookup(c.flag).Value, c.least, c.most)
		}
	}
	switch s.mode {
	case benchE2E:
		if s.rate <= 0 {
			return usage("--rate: e2e needs one above 0")
		}
		if s.size < stampSize {
			return usage("--record-size %d: e2e needs %d bytes for the number and the time of a record", s.size, stampSize)
		}
	case benchConsume:
		if s.topic == "" && s.records == 0 {
			s.records = benchFill
		}
		return nil
	}
	if s.records == 0 && s.duration == 0 {
		s.duration = benchDuration
	}
	if s.mode == benchE2E {
		sc := s.schedule()
		if n := sc.planned(); n > most {
			return usage("%s records are too many to number; make --rate or --duration smaller", humanCount(n))
		}
	}
	return nil
}

func (s *benchSpec) schedule() schedule {
	return schedule{rate: s.rate, records: s.records, duration: s.duration, clients: int64(s.clients)}
}

// durationValue and sizeValue are flags with units.
type durationValue struct{ d *time.Duration }

func (v durationValue) String() string {
	if v.d == nil {
		return ""
	}
	return v.d.String()
}
func (v durationValue) Type() string { return "DURATION" }
func (v durationValue) Set(s string) (err error) {
	*v.d, err = parseDuration(s)
	return err
}

type sizeValue struct{ n *int }

func (v sizeValue) String() string {
	if v.n == nil {
		return ""
	}
	return fmt.Sprint(*v.n)
}
func (v sizeValue) Type() string { return "BYTES" }
func (v sizeValue) Set(s string) error {
	n, err := parseSize(s)
	*v.n = int(n)
	return err
}

// benchTopicPrefix begins the name of each temporary topic, so that one that was left
// behind is known for what it is.
const benchTopicPrefix = "kalda-bench-"

// removeWait is how long the deletion of the temporary topic may take.
const removeWait = 10 * time.Second

// benchmark prepares the topic, measures, cleans up and prints.
func (a *app) benchmark(ctx context.Context, s *benchSpec) error {
	bound, cancel := a.within(ctx)
	defer cancel()
	admin, err := a.open(bound)
	if err != nil {
		return err
	}
	defer admin.close()
	r := &benchRun{app: a, spec: s, admin: admin, topic: s.topic}
	if s.topic == "" {
		// Cut off here the topic may exist or not: it is deleted in any case.
		err = r.createTopic(bound)
		if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			defer r.removeTopic()
		}
		if err != nil {
			return err
		}
	}
	if err := r.describe(bound); err != nil {
		return err
	}
	cancel() // what follows has times of its own
	progress := &progress{done: make(chan struct{})}
	if s.format == outText || s.format == outWide {
		progress = a.progress(r.progressLine)
	}
	err = r.measure(ctx)
	progress.stop()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted)) {
		err, r.result.Interrupted = errInterrupted, true
	}
	if r.measured {
		if e := printResult(a.Stdout, s.format, &r.result, r.result.text); e != nil {
			return e
		}
	}
	if err != nil {
		return err
	}
	return r.result.Check.verdict()
}

func (r *benchRun) createTopic(ctx context.Context) error {
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	r.topic = benchTopicPrefix + hex.EncodeToString(id[:])
	r.result.Temporary = true
	errs, err := r.admin.createTopics(ctx, newTopic{partitions: r.spec.partitions, replication: -1, configs: r.spec.configs}, []string{r.topic})
	return failed(errors.Join(append(errs, err)...), "create the temporary topic %s", r.topic)
}

// removeTopic deletes the temporary topic, also after the first signal; after a failure it
// says that the topic is still there.
func (r *benchRun) removeTopic() {
	if r.spec.keep {
		r.note("%s is kept; 'kalda topic delete %s' deletes it", r.topic, r.topic)
		return
	}
	ctx, cancel := context.WithTimeout(r.hard, removeWait)
	defer cancel()
	errs, err := r.admin.deleteTopics(ctx, []string{r.topic})
	if err = errors.Join(append(errs, err)...); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		r.note("warning: the temporary topic %s is left behind%s; 'kalda topic delete %s' deletes it", r.topic, reason(err), r.topic)
	}
}

// describe looks at the topic and finds the brokers' processes.
func (r *benchRun) describe(ctx context.Context) error {
	s, res := r.spec, &r.result
	topics, err := r.admin.topics(ctx, r.topic)
	if err != nil {
		return err
	}
	res.Mode, res.Topic, res.Partitions = s.mode, r.topic, len(topics[0].partitions)
	info, err := r.admin.cluster(ctx)
	if err != nil {
		return err
	}
	res.ClusterID = info.id
	if s.mode != benchConsume {
		res.Acks, res.Compression, res.Clients, res.RecordSize, res.TargetRate = s.acks, s.codec, s.clients, s.size, s.rate
		res.LatencyFrom = fromHandOver
		if s.rate > 0 {
			res.LatencyFrom = fromIntended
		}
	}
	res.FlushPolicy = "unknown"
	entries, err := r.admin.describeConfig(ctx, topicResource, r.topic)
	if err != nil && ctx.Err() != nil {
		return err
	}
	for _, e := range entries { // a broker that does not tell leaves it unknown
		if e.Key == "kalda.flush.policy" && e.Value != nil {
			res.FlushPolicy = *e.Value
		}
	}
	if s.metricsURL != "" {
		r.broker = metricsCPU(s.metricsURL)
	} else if r.broker, err = findBrokerCPU(ctx, info.brokers); err != nil {
		res.NotSeen = err.Error()
		return nil
	}
	res.BrokerCPUOf = r.broker.of
	return nil
}
