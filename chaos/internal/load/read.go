package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/chaos/history"
)

// FinalReaders returns the processes that read everything in the end; they differ in isolation level.
func FinalReaders() []string { return []string{"final-uncommitted", "final-committed"} }

// reader opens every partition of the topics from the start.
func (c *Clients) reader(topics map[string]int32, opts ...kgo.Opt) (*kgo.Client, error) {
	from := make(map[string]map[int32]kgo.Offset)
	for topic, partitions := range topics {
		from[topic] = make(map[int32]kgo.Offset)
		for p := range partitions {
			from[topic][p] = kgo.NewOffset().AtStart()
		}
	}
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.addr), kgo.ConsumePartitions(from), kgo.FetchMaxWait(100 * time.Millisecond), kgo.MetadataMinAge(metadataMinAge),
		// An offset out of range is a lost tail: it must show, not be skipped.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond })}, opts...)...)
}

// seen records one record that a reader was given.
func (c *Clients) seen(process string, rec *kgo.Record) {
	now := c.log.Now()
	c.log.Add(history.Event{Process: process, F: history.Poll, Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset,
		Value: valueOf(rec.Value), Sum: history.Sum(rec.Key, rec.Value), Invoke: now, Complete: now, Type: history.OK})
}

// Poll reads topics along during the kills until ctx ends.
func (c *Clients) Poll(ctx context.Context, topics ...string) error {
	along := make(map[string]int32)
	for _, topic := range topics {
		along[topic] = c.partitions(topic)
	}
	cl, err := c.reader(along)
	if err != nil {
		return err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			// While the node is down anything may fail and is tried again; these two say that what
			// was readable is gone.
			var lost *kgo.ErrDataLoss
			if errors.Is(e.Err, kerr.OffsetOutOfRange) || errors.As(e.Err, &lost) {
				return fmt.Errorf("poller: %s-%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		fetches.EachRecord(func(rec *kgo.Record) { c.seen("poller", rec) })
	}
	return nil
}

// ReadAll reads every partition of all topics from its start to its end, which it asks for first: nobody writes
// any more.
func (c *Clients) ReadAll(ctx context.Context, process string) error {
	level := kgo.ReadUncommitted()
	if process == "final-committed" {
		level = kgo.ReadCommitted()
	}
	ctx, cancel := context.WithTimeout(ctx, drainBound)
	defer cancel()
	topics := c.topics()
	cl, err := c.reader(topics, kgo.FetchIsolationLevel(level))
	if err != nil {
		return err
	}
	defer cl.Close()
	ends, err := endOffsets(ctx, cl, topics)
	if err != nil {
		return err
	}
	left := int64(0)
	for _, end := range ends {
		left += end.Offset
	}
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			return fmt.Errorf("%s: %s-%d: %w (%d records left)", process, e.Topic, e.Partition, e.Err, left)
		}
		fetches.EachRecord(func(rec *kgo.Record) { c.seen(process, rec); left-- })
	}
	for _, end := range ends {
		c.log.Add(history.Event{Process: process, F: history.End, Topic: end.Topic, Partition: end.Partition, Offset: end.Offset,
			Invoke: c.log.Now(), Type: history.OK})
	}
	return nil
}
