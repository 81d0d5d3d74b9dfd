package load

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/chaos/history"
)

const (
	newTopicRecords = 30
	newTopicEvery   = 400 * time.Millisecond
)

// NewTopic returns the name of the n-th topic of MakeTopics.
func NewTopic(n int) string { return "new-" + strconv.Itoa(n) }

// MakeTopics creates a topic of one partition every now and then until ctx ends, at most limit of them, and
// sends the first records of each: files and names that are seconds old when the node dies.
func (c *Clients) MakeTopics(ctx, hard context.Context, configs map[string]*string, limit int) error {
	life, cancel := lifetime(ctx, hard)
	defer cancel()
	for n := 0; ctx.Err() == nil && n < limit; n++ {
		topic := NewTopic(n)
		if err := c.CreateTopic(life, topic, 1, configs); err != nil {
			return err
		}
		c.Topics.Add(1)
		if err := c.firstRecords(life, topic); err != nil {
			return err
		}
		_ = Pause(ctx, newTopicEvery) // the loop's condition tells why
	}
	return nil
}

// firstRecords sends a few records to a topic and waits for them.
func (c *Clients) firstRecords(ctx context.Context, topic string) error {
	cl, err := c.client(kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed Workers
	for n := range newTopicRecords {
		value := topic + "/" + strconv.Itoa(n)
		e := history.Event{Process: topic, F: history.Send, Topic: topic, Value: value, Invoke: c.log.Now()}
		rec := &kgo.Record{Key: []byte(value), Value: payload(value, n)}
		e.Sum = history.Sum(rec.Key, rec.Value)
		cl.Produce(ctx, rec, func(got *kgo.Record, err error) {
			e.Offset, e.Type = got.Offset, history.OK
			if err != nil {
				e.Offset, e.Type, e.Error = -1, history.Info, err.Error()
				failed.Run(func() error { return fmt.Errorf("%s: %w", value, err) })
			}
			c.log.Add(e)
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("%s: given up: %w", topic, err)
	}
	return failed.Wait()
}
