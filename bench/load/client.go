package load

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// runClient produces through franz-go's client, as an application would: one goroutine
// hands records over, at Rate per second or as fast as they are taken. Requests of the
// result are records, and latencies from Produce to its promise.
func runClient(ctx context.Context, o Options) (Result, error) {
	acks := map[int16]kgo.Acks{0: kgo.NoAck(), 1: kgo.LeaderAck(), -1: kgo.AllISRAcks()}[o.Acks]
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Addr), kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite(),
		kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return Result{}, err
	}
	defer cl.Close()
	topics := make([]string, o.Topics)
	for i := range topics {
		topics[i] = topicName(o.Prefix, i)
	}
	value := make([]byte, o.RecordBytes)
	var mu sync.Mutex // promises run one at a time per partition, not per client
	var t tally
	var failed error
	var stopped atomic.Bool
	cpu, start := selfCPU(), time.Now()
	for i := int64(0); !stopped.Load() && (o.Requests <= 0 || i < o.Requests); i++ {
		now := time.Now()
		if o.Rate > 0 {
			due := start.Add(time.Duration(i) * time.Second / time.Duration(o.Rate))
			if wait := due.Sub(now); wait > 0 {
				time.Sleep(wait)
				now = time.Now()
			}
		}
		if ctx.Err() != nil || o.Time > 0 && now.Sub(start) >= o.Time || o.Bytes > 0 && i*int64(o.RecordBytes) >= o.Bytes {
			break
		}
		cl.Produce(ctx, &kgo.Record{Topic: topics[i%int64(len(topics))], Value: value}, func(_ *kgo.Record, err error) {
			took := int64(time.Since(now))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				stopped.Store(true)
				return
			}
			t.latency.record(took, 1)
			t.requests++
		})
	}
	err = cl.Flush(ctx)
	r := Result{Seconds: time.Since(start).Seconds(), ClientCPU: selfCPU() - cpu}
	mu.Lock()
	defer mu.Unlock()
	r.Requests, r.Records, r.Bytes = t.requests, t.requests, t.requests*int64(o.RecordBytes)
	r.quantiles(&t.latency)
	return r, errors.Join(err, failed, ctx.Err())
}
