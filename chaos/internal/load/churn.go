package load

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/chaos/history"
)

// ChurnReader is the process that reads a topic of ChurnTopics before it is deleted.
const ChurnReader = "churn-reader"

const (
	churnNames      = 8 // names that the topics take in turn: a name that comes back is another topic
	churnPartitions = 2
	churnRecords    = 40
	// goneBound is how long a deleted topic may still be listed: the deletion was acknowledged.
	goneBound = 10 * time.Second
)

// ChurnTopics creates a topic, writes to it, reads it to its end and deletes it, again and again until ctx ends, one at
// each tick of every. In the history the topics have a number besides their name, for the names come back.
func (c *Clients) ChurnTopics(ctx, hard context.Context, process string, configs map[string]*string, every time.Duration) error {
	life, cancel := lifetime(ctx, hard)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		topic := process + "-" + strconv.Itoa(n%churnNames)
		label := topic + "#" + strconv.Itoa(n)
		if err := c.CreateTopic(life, topic, churnPartitions, configs); err != nil {
			return err
		}
		if err := c.fill(life, topic, label); err != nil {
			return err
		}
		if err := c.readBeforeDelete(life, topic, label); err != nil {
			return err
		}
		if err := c.deleteTopic(life, topic); err != nil {
			return err
		}
		c.log.Add(history.Event{Process: process, F: history.Delete, Topic: label, Offset: -1, Invoke: c.log.Now(), Type: history.OK})
		c.Deleted.Add(1)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// readBeforeDelete reads a topic of ChurnTopics to its end. A reader whose node died begins anew, as another process:
// the offsets of one process have no gap and no step back.
func (c *Clients) readBeforeDelete(ctx context.Context, topic, label string) error {
	ctx, cancel := context.WithTimeout(ctx, drainBound)
	defer cancel()
	for tries := 0; ; tries++ {
		var met []history.Event
		err := c.readTopics(ctx, map[string]int32{topic: churnPartitions}, nil, func(f, _ string, partition int32, offset int64, rec *kgo.Record) {
			e := history.Event{Process: ChurnReader, F: f, Topic: label, Partition: partition, Offset: offset, Invoke: c.log.Now(), Type: history.OK}
			if rec != nil {
				e = c.event(ChurnReader, f, label, rec)
			}
			met = append(met, e)
		})
		for _, e := range met {
			if err != nil {
				e.Process += "-try-" + strconv.Itoa(tries)
			}
			c.log.Add(e)
		}
		if err == nil {
			return nil
		}
		if Pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("read %s: %w", label, err)
		}
	}
}

// fill writes the records of one topic of ChurnTopics and waits for them.
func (c *Clients) fill(ctx context.Context, topic, label string) error {
	cl, err := c.client(kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return err
	}
	defer cl.Close()
	s := &sender{c: c, cl: cl, process: label, topic: label}
	for n := range churnRecords {
		value := label + "/" + strconv.Itoa(n)
		s.send(ctx, value, &kgo.Record{Partition: int32(n % churnPartitions), Key: []byte(value), Value: payload(value, n)})
	}
	return s.end(ctx)
}

// deleteTopic deletes a topic, again and again until it is gone.
func (c *Clients) deleteTopic(ctx context.Context, topic string) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for {
		_, err := adm.DeleteTopic(ctx, topic)
		var refused *kerr.Error
		if err == nil || errors.Is(err, kerr.UnknownTopicOrPartition) {
			break
		}
		if ctx.Err() != nil || errors.As(err, &refused) && !refused.Retriable {
			return fmt.Errorf("delete %s: %w", topic, err)
		}
		if err := Pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("delete %s: %w", topic, err)
		}
	}
	c.forget(topic)
	ctx, cancel := context.WithTimeout(ctx, goneBound)
	defer cancel()
	for {
		got, err := adm.ListTopics(ctx, topic)
		if err == nil && errors.Is(got[topic].Err, kerr.UnknownTopicOrPartition) {
			return nil
		}
		if Pause(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("%s was deleted and is still there after %v: %w", topic, goneBound, errors.Join(err, got[topic].Err))
		}
	}
}
