package load

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/kalda-io/kalda/chaos/history"
)

// fetchEvery is how many commits the committer makes between two looks at what is committed.
const fetchEvery = 20

// CommitOffsets commits rising offsets of group for every partition of topic until ctx ends, and looks at
// them now and then, and once more at the end. The offsets are numbers only: nobody reads from them.
func (c *Clients) CommitOffsets(ctx, hard context.Context, group, topic string) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	adm, partitions := kadm.NewClient(cl), c.partitions(topic)
	life, cancel := lifetime(ctx, hard)
	defer cancel()
	for n := int64(1); ctx.Err() == nil; n++ {
		var offsets kadm.Offsets
		for p := range partitions {
			offsets.Add(kadm.Offset{Topic: topic, Partition: p, At: n, LeaderEpoch: -1})
		}
		invoke := c.log.Now()
		got, err := adm.CommitOffsets(life, group, offsets)
		for p := range partitions {
			e := history.Event{Process: group, F: history.Commit, Topic: topic, Partition: p, Offset: n, Invoke: invoke, Type: history.OK}
			one, found := got.Lookup(topic, p)
			switch {
			case err != nil:
				e.Type, e.Error = history.Info, err.Error()
			case !found:
				e.Type, e.Error = history.Info, "no answer"
			case one.Err != nil:
				e.Type, e.Error = history.Info, one.Err.Error()
			default:
				c.Commits.Add(1)
			}
			c.log.Add(e)
		}
		if life.Err() != nil {
			return fmt.Errorf("%s: commit %d was given up: %w", group, n, err)
		}
		if n%fetchEvery == 0 {
			_ = c.Committed(life, group, topic) // while the node is down there is no answer; the last one counts
		}
		_ = Pause(ctx, 5*time.Millisecond) // the loop's condition tells why
	}
	return c.Committed(life, group, topic)
}

// Committed looks at what group has committed for topic.
func (c *Clients) Committed(ctx context.Context, group, topic string) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	invoke := c.log.Now()
	got, err := kadm.NewClient(cl).FetchOffsets(ctx, group)
	if err != nil {
		return fmt.Errorf("%s: %w", group, err)
	}
	for p := range c.partitions(topic) {
		e := history.Event{Process: group, F: history.Committed, Topic: topic, Partition: p, Offset: -1, Invoke: invoke, Type: history.OK}
		if one, found := got.Lookup(topic, p); found {
			if one.Err != nil {
				return fmt.Errorf("%s: %s-%d: %w", group, topic, p, one.Err)
			}
			e.Offset = one.At
		}
		c.log.Add(e)
	}
	return nil
}
