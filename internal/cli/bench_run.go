package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

// benchRun is one benchmark under way.
type benchRun struct {
	*app
	spec   *benchSpec
	admin  *client
	topic  string
	broker *brokerCPU // nil: not seen
	result benchResult
	// measured says that result holds figures.
	measured bool

	latency histogram
	sent    atomic.Int64
	// counted are the records acknowledged; in consume and e2e those received.
	counted atomic.Int64
	filling atomic.Bool
	began   atomic.Int64 // nanoseconds since 1970, for the progress line; 0: not yet
	start   time.Time
	own     time.Duration
	brokers time.Duration
}

func (r *benchRun) measure(ctx context.Context) error {
	switch r.spec.mode {
	case benchConsume:
		return r.measureConsume(ctx)
	case benchE2E:
		return r.measureE2E(ctx)
	}
	return r.measureProduce(ctx)
}

// progressLine says how it goes so far.
func (r *benchRun) progressLine() string {
	began := r.began.Load()
	switch {
	case r.filling.Load():
		return fmt.Sprintf("filling the topic: %s", plural(r.sent.Load(), "record"))
	case began == 0:
		return "preparing"
	}
	n, took := r.counted.Load(), time.Since(time.Unix(0, began))
	line := fmt.Sprintf("%.0fs  %s  %s/s", took.Seconds(), plural(n, "record"), humanFigure(float64(n)/took.Seconds()))
	if r.latency.n.Load() > 0 {
		line += "  p99 " + humanLatency(r.latency.quantile(0.99))
	}
	return line
}

// begin starts the clock and the processor clocks.
func (r *benchRun) begin(ctx context.Context) error {
	if r.broker != nil {
		var err error
		if r.brokers, err = r.broker.read(ctx); err != nil {
			return err
		}
	}
	r.own, r.start = ownCPU(), time.Now()
	r.began.Store(r.start.UnixNano())
	return nil
}

// end turns the counts into figures; end is when the last record was counted.
func (r *benchRun) end(end time.Time, records, bytes int64) {
	res := &r.result
	res.ClientCPU = (ownCPU() - r.own).Seconds()
	if r.broker != nil {
		// Under hard: the figures are wanted after the first signal, too.
		now, err := r.broker.read(r.hard)
		if err != nil {
			res.NotSeen, res.BrokerCPUOf = err.Error(), ""
		} else {
			s := (now - r.brokers).Seconds()
			res.BrokerCPU = &s
		}
	}
	res.Records, res.Bytes = records, bytes
	res.Seconds = end.Sub(r.start).Seconds()
	if res.Seconds > 0 {
		res.Rate = float64(records) / res.Seconds
		res.Megabytes = float64(bytes) / res.Seconds / 1e6
	}
	if r.spec.mode != benchConsume {
		res.Latency = latencyOf(&r.latency)
	}
	r.measured = true
}

// valuesSize is the size of the random bytes that values are cut from.
const valuesSize = 1 << 20

// values cuts values from random bytes, a different piece for each record.
type values struct {
	random []byte
	size   int
}

func newValues(size int) *values {
	v := &values{random: make([]byte, valuesSize+size), size: size}
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(v.random) // never fails
	return v
}

// at returns the value of record i, to be read only.
func (v *values) at(i int64) []byte {
	// The step has no divisor in common with the size, so that pieces repeat late.
	at := int(uint64(i) * 4093 % valuesSize)
	return v.random[at : at+v.size : at+v.size]
}

// openProducers connects the clients of the benchmark.
func (r *benchRun) openProducers(ctx context.Context, acks string, n int) (ps []*producer, err error) {
	bound, cancel := r.within(ctx)
	defer cancel()
	defer func() {
		if err != nil {
			closeAll(ps)
		}
	}()
	for range n {
		p, err := r.openProducer(bound, produceSpec{
			topic: r.topic, partition: -1, partitioner: "sticky", acks: acks, codec: r.spec.codec, linger: r.spec.linger,
			batchBytes: r.spec.batch, buffered: 10_000,
		})
		if err != nil {
			return ps, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func closeAll(ps []*producer) {
	for _, p := range ps {
		p.close()
	}
}

// warm sends one record from each producer, so that connections, metadata and the
// producer's id are there before the clock starts.
func (r *benchRun) warm(ctx context.Context, ps []*producer, value []byte) error {
	bound, cancel := r.within(ctx)
	defer cancel()
	errs := make(chan error, len(ps))
	for _, p := range ps {
		p.send(bound, nil, value, func(_ int32, _ int64, err error) { errs <- err })
	}
	var first error
	for range ps {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return failed(first, "produce to %s", r.topic)
}

// flushGrace is how long what is under way may take after the first signal.
const flushGrace = 5 * time.Second

// load is one run of producers over a schedule.
type load struct {
	schedule
	ps []*producer
	// value makes the value of a record.
	value func(i int64, from time.Time) []byte
	// acked is called for each record that the broker took; from many goroutines.
	acked func(i int64, from time.Time)
}

// run sends what the schedule says and waits for the outcomes. The first record that is
// refused ends it: the next ones would fare no better.
func (r *benchRun) run(ctx context.Context, l *load) error {
	sending, stopSending := context.WithCancelCause(r.hard)
	driving, stopDriving := context.WithCancelCause(ctx)
	var mu sync.Mutex
	var refused error // the first one; under mu
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if refused == nil {
			refused = err
			stopDriving(err)
			stopSending(err)
		}
	}
	var grace, drivers sync.WaitGroup
	grace.Go(func() {
		select {
		case <-ctx.Done():
			if pause(sending, flushGrace) == nil {
				stopSending(errInterrupted)
			}
		case <-sending.Done():
		}
	})
	for c, p := range l.ps {
		drivers.Go(func() {
			l.drive(driving, int64(c), func(i int64, from time.Time) {
				r.sent.Add(1)
				p.send(sending, nil, l.value(i, from), func(_ int32, _ int64, err error) {
					if err != nil {
						fail(err)
						return
					}
					l.acked(i, from)
				})
			})
			// Its error is that of sending, and then every record has one as well.
			_ = p.flush(sending)
		})
	}
	drivers.Wait()
	stopSending(nil)
	stopDriving(nil)
	grace.Wait()
	// Records that were cut off get their outcome only now; one that is still without it
	// counts as failed.
	bound, cancel := context.WithTimeout(r.hard, flushGrace)
	defer cancel()
	for _, p := range l.ps {
		_ = p.flush(bound)
	}
	mu.Lock()
	defer mu.Unlock()
	if refused == nil || errors.Is(refused, context.Canceled) {
		return nil // ctx says why
	}
	return failed(refused, "produce to %s", r.topic)
}

func (r *benchRun) measureProduce(ctx context.Context) error {
	s := r.spec
	ps, err := r.openProducers(ctx, s.acks, s.clients)
	if err != nil {
		return err
	}
	defer closeAll(ps)
	v := newValues(s.size)
	if err := r.warm(ctx, ps, v.at(0)); err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	l := &load{schedule: s.schedule(), ps: ps}
	l.start = r.start
	l.value = func(i int64, _ time.Time) []byte { return v.at(i) }
	l.acked = func(_ int64, from time.Time) {
		r.latency.record(time.Since(from))
		r.counted.Add(1)
	}
	err = r.run(ctx, l)
	n := r.counted.Load()
	r.result.Failed = r.sent.Load() - n
	r.end(time.Now(), n, n*int64(s.size))
	r.unsent(ctx, l, err)
	return err
}

// unsent counts what an open loop never came to send.
func (r *benchRun) unsent(ctx context.Context, l *load, err error) {
	if planned := l.planned(); l.rate > 0 && planned > 0 && ctx.Err() == nil && err == nil {
		r.result.NotSent = planned - r.sent.Load()
	}
}

// fill writes the records that consume is to read.
func (r *benchRun) fill(ctx context.Context) error {
	ps, err := r.openProducers(ctx, "all", 1)
	if err != nil {
		return err
	}
	defer closeAll(ps)
	v := newValues(r.spec.size)
	r.filling.Store(true)
	defer r.filling.Store(false)
	l := &load{schedule: schedule{start: time.Now(), records: r.spec.records, clients: 1}, ps: ps}
	l.value = func(i int64, _ time.Time) []byte { return v.at(i) }
	l.acked = func(int64, time.Time) {}
	if err := r.run(ctx, l); err != nil {
		return err
	}
	return ctx.Err()
}

func (r *benchRun) measureConsume(ctx context.Context) error {
	s := r.spec
	if r.result.Temporary {
		if err := r.fill(ctx); err != nil {
			return err
		}
	}
	bound, cancel := r.within(ctx)
	defer cancel()
	at, ends, err := r.places(bound)
	if err != nil {
		return err
	}
	if err := r.begin(bound); err != nil {
		return err
	}
	// The clock runs while the consumer connects: the first fetch goes out right then.
	c, meter, err := r.openMeteredConsumer(bound, r.topic, at)
	if err != nil {
		return err
	}
	cancel()
	defer c.close()
	reading := ctx
	if s.duration > 0 {
		var stop context.CancelFunc
		reading, stop = context.WithTimeout(ctx, s.duration)
		defer stop()
	}
	var bytes int64
	last := r.start
	err = r.read(reading, c, at, func() bool { return reached(at, ends) || (s.records > 0 && r.counted.Load() >= s.records) },
		func(_ time.Duration, rec *consumedRecord) {
			if s.records > 0 && r.counted.Load() >= s.records {
				return
			}
			bytes += int64(len(rec.key) + len(rec.value))
			r.counted.Add(1)
		}, func() { last = time.Now() })
	if err != nil && reading.Err() != nil {
		err = nil // the time is over, or ctx says why
	}
	r.end(last, r.counted.Load(), bytes)
	if n := meter.fetches.Load(); n > 0 {
		r.result.Fetch = &benchFetch{Fetches: n, Mean: float64(meter.bytes.Load()) / float64(n), Largest: meter.largest.Load()}
	}
	return err
}

// places returns where the partitions of the topic begin and where they end now.
func (r *benchRun) places(ctx context.Context) (at, ends map[model.TopicPartition]int64, err error) {
	spans, err := r.admin.spans(ctx, consumeSpec{topics: []string{r.topic}})
	if err != nil {
		return nil, nil, err
	}
	at, ends = make(map[model.TopicPartition]int64), make(map[model.TopicPartition]int64)
	for tp, s := range spans {
		at[tp], ends[tp] = s.start, s.end
	}
	return at, ends, nil
}

// reached says whether a reader that is at these places has seen all up to ends.
func reached(at, ends map[model.TopicPartition]int64) bool {
	for tp, end := range ends {
		if at[tp] < end {
			return false
		}
	}
	return true
}

// read polls until done says so, calls got for each record with the time since the start,
// and some after each poll that brought any.
func (r *benchRun) read(ctx context.Context, c *consumer, at map[model.TopicPartition]int64, done func() bool,
	got func(since time.Duration, rec *consumedRecord), some func()) error {
	for !done() {
		f, err := c.poll(ctx, pollWait)
		if err != nil {
			f.release()
			return err
		}
		since := time.Since(r.start)
		f.each(func(rec *consumedRecord) bool {
			got(since, rec)
			return true
		}, func(tp model.TopicPartition, offset int64) { at[tp] = max(at[tp], offset) })
		quiet := f.empty()
		f.release()
		if !quiet {
			some()
			continue
		}
		if err := r.skipTails(ctx, c, at); err != nil {
			return err
		}
	}
	return nil
}

// skipTails moves the places over what no consumer ever gets: the remains of compaction
// and of aborted transactions.
func (r *benchRun) skipTails(ctx context.Context, c *consumer, at map[model.TopicPartition]int64) error {
	bound, cancel := r.within(ctx)
	defer cancel()
	_, ends, err := r.places(bound)
	if err != nil {
		return err
	}
	for tp, end := range ends {
		if at[tp] < end {
			if at[tp], err = c.tail(bound, tp, at[tp], end); err != nil {
				return err
			}
		}
	}
	return nil
}
