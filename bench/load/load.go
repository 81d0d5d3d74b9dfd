// Package load is a load generator for anything that speaks Kafka's protocol. It
// speaks it raw: requests are encoded once and sent again and again, answers are hopped
// over with the few bytes read that say whether all is well. So it costs little next to
// the broker under test, on the same few cores, and the same for every broker.
//
//	Produce: M connections, each with K requests outstanding; each request holds one
//	         batch for one partition, partitions in turn.
//	Fetch:   M connections, one request outstanding, each reads its partition from the
//	         start to the end, then again: reads that are hot after the first pass.
//
// A run ends after a time, a number of requests, or a number of bytes, whichever comes
// first, and then waits for the answers that are still out.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kalda-io/kalda/bench/affinity"
)

// Options say what to send. All sizes are in bytes.
type Options struct {
	// Addr is the broker, host:port. It must lead all partitions.
	Addr string `json:"-"`
	// Fetch reads instead of producing; the topics must hold records.
	Fetch bool `json:"fetch,omitempty"`
	// Client produces through franz-go's client instead: batches, connections and requests
	// outstanding are its own affair, and Requests count records. Rate is how many records
	// per second it is given; 0: as many as it takes.
	Client bool `json:"client,omitempty"`
	Rate   int  `json:"rate,omitempty"`
	// Connections and Outstanding are M and K.
	Connections int `json:"connections"`
	Outstanding int `json:"outstanding"`
	// Topics are named PREFIX-0, PREFIX-1, ...; each has Partitions.
	Prefix     string `json:"-"`
	Topics     int    `json:"topics"`
	Partitions int    `json:"partitions"`
	// RecordBytes is the value of one record, BatchRecords how many make one request.
	RecordBytes  int `json:"record_bytes"`
	BatchRecords int `json:"batch_records"`
	// Acks is 0, 1 or -1.
	Acks int16 `json:"acks"`
	// FetchBytes is the most that one Fetch asks for.
	FetchBytes int32 `json:"fetch_bytes,omitempty"`
	// Time, Requests, Bytes: the first to be reached ends the run; 0 is no limit.
	// Bytes counts frames (Produce) or records (Fetch).
	Time     time.Duration `json:"-"`
	Requests int64         `json:"-"`
	Bytes    int64         `json:"-"`
	// Processors are where the generator's thread stays; nil: anywhere. Only for small
	// requests, which one thread sends.
	Processors []int `json:"-"`
}

// Validate says what is out of range.
func (o *Options) Validate() error {
	switch {
	case o.Addr == "":
		return errors.New("no address")
	case o.Client && o.Fetch || o.Rate != 0 && !o.Client || o.Rate < 0:
		return errors.New("a client produces, and only a client has a rate, above 0")
	case o.Connections < 1 || o.Connections > 10000:
		return fmt.Errorf("connections %d: want 1 to 10000", o.Connections)
	case o.Outstanding < 1 || o.Outstanding > 10000:
		return fmt.Errorf("outstanding %d: want 1 to 10000", o.Outstanding)
	case o.Topics < 1 || o.Partitions < 1:
		return fmt.Errorf("%d topics with %d partitions: want 1 at least", o.Topics, o.Partitions)
	case o.RecordBytes < 0 || o.BatchRecords < 1 || int64(o.RecordBytes)*int64(o.BatchRecords) > 64<<20:
		return fmt.Errorf("%d records of %d bytes: want a batch of at most 64 MiB", o.BatchRecords, o.RecordBytes)
	case o.Acks < -1 || o.Acks > 1:
		return fmt.Errorf("acks %d: want 0, 1 or -1", o.Acks)
	case o.Time <= 0 && o.Requests <= 0 && o.Bytes <= 0:
		return errors.New("no end: give a time, a number of requests or a number of bytes")
	case o.Fetch && o.FetchBytes < 1:
		return fmt.Errorf("fetch bytes %d: want 1 at least", o.FetchBytes)
	}
	return nil
}

// Result is what one run measured.
type Result struct {
	// Requests that were answered (acks=0: sent), and their Records.
	Requests int64 `json:"requests"`
	Records  int64 `json:"records"`
	// Bytes of record batches, without the frames around them.
	Bytes int64 `json:"bytes"`
	// Seconds from the first request to the last answer.
	Seconds float64 `json:"seconds"`
	// Latency of a request in microseconds, zero with acks=0.
	P50, P90, P99, P999, Max float64
	// ClientCPU is user and system time of this process in seconds.
	ClientCPU float64 `json:"client_cpu"`
	// ServerCPU is the same of the broker, where the caller measured it.
	ServerCPU float64 `json:"server_cpu"`
}

// RequestsPerSecond is the rate of the run.
func (r *Result) RequestsPerSecond() float64 { return float64(r.Requests) / r.Seconds }

// MBPerSecond is the rate in 10^6 bytes.
func (r *Result) MBPerSecond() float64 { return float64(r.Bytes) / 1e6 / r.Seconds }

// CPUPerRequest is the broker's CPU time per request in microseconds.
func (r *Result) CPUPerRequest() float64 { return r.ServerCPU * 1e6 / float64(r.Requests) }

// CPUPerGB is the broker's CPU time in seconds per 10^9 bytes.
func (r *Result) CPUPerGB() float64 { return r.ServerCPU * 1e9 / float64(r.Bytes) }

// budget is shared by the connections of a run; it says when to stop.
type budget struct {
	deadline time.Time
	requests atomic.Int64 // left; negative: none
	bytes    atomic.Int64
	noCount  bool
	noBytes  bool
	stopped  atomic.Bool
}

// take asks for n requests of size bytes each and returns how many may be sent.
func (b *budget) take(n int, size int64, now time.Time) int {
	if b.stopped.Load() || !b.deadline.IsZero() && !now.Before(b.deadline) {
		return 0
	}
	if !b.noBytes && b.bytes.Add(-size*int64(n)) < 0 {
		return 0
	}
	if !b.noCount {
		if left := b.requests.Add(int64(-n)); left < 0 {
			return int(max(0, int64(n)+left))
		}
	}
	return n
}

// tally is what one connection counted.
type tally struct {
	requests, records, bytes int64
	latency                  histogram
}

// Run sends the load and returns what it measured. The topics must exist (see
// Prepare). It fails if the broker answers any request with an error.
func Run(ctx context.Context, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if o.Client {
		return runClient(ctx, o)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &budget{noCount: o.Requests <= 0, noBytes: o.Bytes <= 0}
	b.requests.Store(o.Requests)
	b.bytes.Store(o.Bytes)
	stop := context.AfterFunc(ctx, func() { b.stopped.Store(true) })
	defer stop()

	conns := make([]*connection, o.Connections)
	for i := range conns {
		c, err := connect(ctx, &o, i)
		if err != nil {
			for _, c := range conns[:i] {
				c.nc.Close()
			}
			return Result{}, err
		}
		conns[i] = c
	}
	tallies := make([]tally, o.Connections)
	errs := make([]error, o.Connections)
	cpu := selfCPU()
	start := time.Now()
	if o.Time > 0 {
		b.deadline = start.Add(o.Time)
	}
	if loops(&o, len(conns[0].frames[0])) {
		errs[0] = affinity.Do(o.Processors, func() error { return runLoop(conns, b, tallies) })
	} else {
		runEach(conns, b, tallies, errs)
	}
	r := Result{Seconds: time.Since(start).Seconds(), ClientCPU: selfCPU() - cpu}
	var all histogram
	for i := range tallies {
		r.Requests += tallies[i].requests
		r.Records += tallies[i].records
		r.Bytes += tallies[i].bytes
		all.add(&tallies[i].latency)
	}
	r.quantiles(&all)
	if err := errors.Join(errs...); err != nil {
		return r, err
	}
	return r, ctx.Err()
}

// runEach runs a goroutine for each connection.
func runEach(conns []*connection, b *budget, tallies []tally, errs []error) {
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			defer c.nc.Close()
			if c.o.Fetch {
				errs[i] = c.fetch(b, &tallies[i])
			} else {
				errs[i] = c.produce(b, &tallies[i])
			}
			if errs[i] != nil {
				b.stopped.Store(true)
			}
		})
	}
	wg.Wait()
}

func (r *Result) quantiles(h *histogram) {
	const us = 1e3
	r.P50, r.P90, r.P99, r.P999 = h.quantile(0.5)/us, h.quantile(0.9)/us, h.quantile(0.99)/us, h.quantile(0.999)/us
	r.Max = float64(h.max) / us
}

// selfCPU is the user and system time of this process in seconds.
func selfCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
