package load

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/chaos/history"
)

// ProduceIdempotent sends to the partitions of topic in turn, acks=all, a burst of records at each tick of
// every, until ctx ends, and then waits for all that is under way unless hard ends. It is one client for the
// whole run: retries are its own business.
func (c *Clients) ProduceIdempotent(ctx, hard context.Context, process, topic string, every time.Duration) error {
	s, err := c.sender(process, topic)
	if err != nil {
		return err
	}
	defer s.cl.Close()
	partitions := int(c.partitions(topic))
	return s.run(ctx, hard, every, func(n int, value string) *kgo.Record {
		return &kgo.Record{Partition: int32(n % partitions), Key: []byte(value), Value: payload(value, n)}
	})
}

const (
	// tombstones is how many records of a keyed producer lie between two that delete their key.
	tombstones = 11
	// fence is the key of the last record of a partition.
	fence = "fence"
)

// ProduceKeyed is ProduceIdempotent for a compacted topic: there are keys of them in each partition, written
// again and again, and deleted now and then. The last record of each partition is a value with a key of its
// own: readers know by it that they have reached the end, which a tombstone could not promise.
func (c *Clients) ProduceKeyed(ctx, hard context.Context, process, topic string, keys int, every time.Duration) error {
	s, err := c.sender(process, topic)
	if err != nil {
		return err
	}
	defer s.cl.Close()
	partitions := int(c.partitions(topic))
	n := 0
	if err := s.run(ctx, hard, every, func(i int, value string) *kgo.Record {
		n = i + 1
		rec := &kgo.Record{Partition: int32(i % partitions), Value: payload(value, i)}
		// A step that has no divisor in common with most numbers of keys visits them out of order.
		rec.Key = []byte("key-" + strconv.Itoa(i/partitions*7919%keys))
		if i%tombstones == tombstones-1 {
			rec.Value, rec.Headers = nil, []kgo.RecordHeader{{Key: nameHeader, Value: []byte(value)}}
		}
		return rec
	}); err != nil {
		return err
	}
	life, cancel := lifetime(ctx, hard)
	defer cancel()
	for p := range int32(partitions) {
		value := process + "/" + strconv.Itoa(n+int(p))
		s.send(life, value, &kgo.Record{Partition: p, Key: []byte(fence), Value: payload(value, n)})
	}
	return s.end(life)
}

// sender sends records with one idempotent client and writes each to the history.
type sender struct {
	c              *Clients
	cl             *kgo.Client
	process, topic string
	failed         Workers
}

func (c *Clients) sender(process, topic string) (*sender, error) {
	cl, err := c.client(kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(time.Millisecond), kgo.ProducerBatchMaxBytes(batchBytes), kgo.MaxBufferedRecords(outstanding),
		// A gap in the sequences must end the run rather than be healed with a new producer id.
		kgo.StopProducerOnDataLossDetected())
	return &sender{c: c, cl: cl, process: process, topic: topic}, err
}

// run sends what next makes, Burst records at each tick, until ctx ends, and waits for the answers.
func (s *sender) run(ctx, hard context.Context, every time.Duration, next func(n int, value string) *kgo.Record) error {
	// Not ctx: a record that is under way is not given up when the load ends, or its fate would be
	// unknown. The bound is for a node that never came back.
	life, cancel := lifetime(ctx, hard)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		if n%Burst == 0 {
			<-tick.C
		}
		value := s.process + "/" + strconv.Itoa(n)
		s.send(life, value, next(n, value))
		select {
		case <-s.failed.Failed():
			return s.failed.Wait()
		default:
		}
	}
	return s.end(life)
}

// send sends one record, which value names.
func (s *sender) send(ctx context.Context, value string, rec *kgo.Record) {
	e := history.Event{Process: s.process, F: history.Send, Topic: s.topic, Partition: rec.Partition, Value: value, Invoke: s.c.log.Now()}
	e.Sum = history.Sum(rec.Key, rec.Value)
	if string(rec.Key) != value {
		e.Key, e.Tombstone = string(rec.Key), rec.Value == nil
	}
	s.cl.Produce(ctx, rec, func(got *kgo.Record, err error) {
		e.Offset, e.Type = got.Offset, history.OK
		switch {
		case err == nil:
			s.c.Idempotent.Add(1)
		default:
			e.Offset, e.Type, e.Error = -1, history.Info, err.Error()
			s.failed.Run(func() error { return fmt.Errorf("%s: %s: %w", s.process, value, err) })
		}
		s.c.log.Add(e)
	})
}

// end waits for the answers.
func (s *sender) end(ctx context.Context) error {
	if err := s.cl.Flush(ctx); err != nil {
		return fmt.Errorf("%s: given up with %d records that have no answer: %w", s.process, s.cl.BufferedProduceRecords(), err)
	}
	return s.failed.Wait()
}
