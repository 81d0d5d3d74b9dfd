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
	c.log.Add(c.event(process, history.Poll, rec.Topic, rec))
}

// event describes a record that process met. label is its topic's name in the history.
func (c *Clients) event(process, f, label string, rec *kgo.Record) history.Event {
	now := c.log.Now()
	e := history.Event{Process: process, F: f, Topic: label, Partition: rec.Partition, Offset: rec.Offset,
		Value: valueOf(rec), Sum: history.Sum(rec.Key, rec.Value), Invoke: now, Complete: now, Type: history.OK}
	if string(rec.Key) != e.Value {
		e.Key, e.Tombstone = string(rec.Key), rec.Value == nil
	}
	return e
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
// any more. The topics of trimmed may begin anywhere.
func (c *Clients) ReadAll(ctx context.Context, process string, trimmed map[string]bool) error {
	level := kgo.ReadUncommitted()
	if process == "final-committed" {
		level = kgo.ReadCommitted()
	}
	ctx, cancel := context.WithTimeout(ctx, drainBound)
	defer cancel()
	return c.readTopics(ctx, c.topics(), trimmed, func(f string, topic string, partition int32, offset int64, rec *kgo.Record) {
		if rec != nil {
			c.seen(process, rec)
			return
		}
		c.log.Add(history.Event{Process: process, F: f, Topic: topic, Partition: partition, Offset: offset, Invoke: c.log.Now(), Type: history.OK})
	}, kgo.FetchIsolationLevel(level))
}

// readTopics reads the topics to their ends and tells of each beginning, record and end.
func (c *Clients) readTopics(ctx context.Context, topics map[string]int32, trimmed map[string]bool,
	tell func(f string, topic string, partition int32, offset int64, rec *kgo.Record), opts ...kgo.Opt) error {
	cl, err := c.reader(topics, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	all, err := spans(ctx, cl, topics, trimmed)
	if err != nil {
		return err
	}
	type partition struct {
		topic string
		p     int32
	}
	ends := make(map[partition]int64) // of what is not read to its end
	for _, s := range all {
		tell(history.Begin, s.topic, s.partition, s.start, nil)
		if s.end > s.start {
			ends[partition{s.topic, s.partition}] = s.end
		}
	}
	for len(ends) > 0 {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			return fmt.Errorf("%s-%d: %w (%d partitions left)", e.Topic, e.Partition, e.Err, len(ends))
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			tell(history.Poll, rec.Topic, rec.Partition, rec.Offset, rec)
			// Offsets may have gaps where a topic is compacted, so records cannot be counted.
			if at := (partition{rec.Topic, rec.Partition}); rec.Offset+1 >= ends[at] {
				delete(ends, at)
			}
		})
	}
	for _, s := range all {
		tell(history.End, s.topic, s.partition, s.end, nil)
	}
	return nil
}

// readBound is how long ReadFirst may take.
const readBound = 5 * time.Second

// ReadFirst reads the first record of each partition of topic anew.
func (c *Clients) ReadFirst(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, readBound)
	defer cancel()
	left := c.partitions(topic)
	cl, err := c.reader(map[string]int32{topic: left}, kgo.FetchMaxPartitionBytes(1))
	if err != nil {
		return err
	}
	defer cl.Close()
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			return fmt.Errorf("%s-%d: %w (%d partitions left)", e.Topic, e.Partition, e.Err, left)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Offset == 0 {
				left--
			}
		})
	}
	return nil
}
