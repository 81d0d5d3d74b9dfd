package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/chaos/history"
)

const (
	// A member is away from its group for at most awayAtMost between two stays.
	stayAtLeast, stayAtMost = 2 * time.Second, 12 * time.Second
	awayAtMost              = 2 * time.Second
	// commitBound is how long a member waits for the answer to a commit.
	commitBound = 5 * time.Second
	// watchEvery is the time between two looks at what a group has committed.
	watchEvery = time.Second
	// visitorReads is how many records a group of visitors reads of each partition before it goes for ever.
	visitorReads = 50
)

// KeepGroup is members of a group that handle all records of topics until ctx ends. The first one stays, the others come and
// go. A member handles a record, then commits: what is committed was handled, by whomever.
func (c *Clients) KeepGroup(ctx context.Context, group string, members int, seed uint64, topics ...string) error {
	var workers Workers
	for m := range members {
		random := rand.New(rand.NewPCG(seed, uint64(m)))
		workers.Run(func() error {
			for ctx.Err() == nil {
				stay, cancel := ctx, context.CancelFunc(func() {})
				if m > 0 {
					d := stayAtLeast + time.Duration(random.Int64N(int64(stayAtMost-stayAtLeast)))
					stay, cancel = context.WithTimeout(ctx, d)
				}
				err := c.member(stay, group, kgo.NewOffset().AtStart(), -1, topics)
				cancel()
				if err != nil {
					return err
				}
				_ = Pause(ctx, time.Duration(random.Int64N(int64(awayAtMost)))) // the loop's condition tells why
			}
			return nil
		})
	}
	workers.Run(func() error { return c.watch(ctx, group, topics) })
	return workers.Wait()
}

// Visit brings groups of one member that read a little at the end of topic, commit and never come back, one
// after another until ctx ends.
func (c *Clients) Visit(ctx context.Context, process, topic string, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		stay, cancel := context.WithTimeout(ctx, stayAtMost)
		err := c.member(stay, process+"-"+strconv.Itoa(n), kgo.NewOffset().AtEnd().Relative(-visitorReads), visitorReads, []string{topic})
		cancel()
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// member is one stay of one member in a group: until ctx ends, or until it has handled atMost records.
func (c *Clients) member(ctx context.Context, group string, from kgo.Offset, atMost int, topics []string) error {
	cl, err := c.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(from), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(10*time.Second), kgo.RebalanceTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.FetchMaxWait(200*time.Millisecond),
		// Between a poll and the end of its commit partitions stay where they are: another member then begins
		// where this one has committed.
		kgo.BlockRebalanceOnPoll())
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance() // leaves the group
	c.move(&c.Joins, group, history.Join)
	defer func() { c.move(&c.Leaves, group, history.Leave) }()
	for handled := 0; ctx.Err() == nil && (atMost < 0 || handled < atMost); {
		fetches := cl.PollRecords(ctx, 1000)
		// While the node is down anything may fail and is tried again; a group that misses a record is found out.
		offsets := make(map[string]map[int32]kgo.EpochOffset)
		fetches.EachRecord(func(rec *kgo.Record) {
			c.log.Add(c.event(group, history.Consume, rec.Topic, rec))
			c.Consumed.Add(1)
			handled++
			if offsets[rec.Topic] == nil {
				offsets[rec.Topic] = make(map[int32]kgo.EpochOffset)
			}
			offsets[rec.Topic][rec.Partition] = kgo.EpochOffset{Epoch: rec.LeaderEpoch, Offset: rec.Offset + 1}
		})
		if len(offsets) > 0 {
			c.commitHandled(cl, group, offsets)
		}
		cl.AllowRebalance()
	}
	return nil
}

// move counts and notes a member that comes or goes.
func (c *Clients) move(counter interface{ Add(int64) int64 }, group, f string) {
	counter.Add(1)
	c.log.Add(history.Event{Process: group, F: f, Offset: -1, Invoke: c.log.Now(), Type: history.OK})
}

// commitHandled commits what a member has handled. A commit that fails is no error: the next one covers it, or another
// member handles the records again. Not the stay's context bounds it: what was handled is committed before a member leaves.
func (c *Clients) commitHandled(cl *kgo.Client, group string, offsets map[string]map[int32]kgo.EpochOffset) {
	ctx, cancel := context.WithTimeout(context.Background(), commitBound)
	defer cancel()
	invoke := c.log.Now()
	cl.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		failed := make(map[string]int16)
		answered := make(map[string]bool)
		if err == nil {
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					name := t.Topic + " " + strconv.Itoa(int(p.Partition))
					answered[name], failed[name] = true, p.ErrorCode
				}
			}
		}
		for topic, partitions := range offsets {
			for p, o := range partitions {
				e := history.Event{Process: group, F: history.Commit, Topic: topic, Partition: p, Offset: o.Offset, Invoke: invoke, Type: history.OK}
				name := topic + " " + strconv.Itoa(int(p))
				switch {
				case err != nil:
					e.Type, e.Error = history.Info, err.Error()
				case !answered[name]:
					e.Type, e.Error = history.Info, "no answer"
				case failed[name] != 0:
					e.Type, e.Error = history.Info, "error code "+strconv.Itoa(int(failed[name]))
				default:
					c.Commits.Add(1)
				}
				c.log.Add(e)
			}
		}
	})
}

// watch looks at what the group has committed now and then until ctx ends.
func (c *Clients) watch(ctx context.Context, group string, topics []string) error {
	for Pause(ctx, watchEvery) == nil {
		for _, topic := range topics {
			look, cancel := context.WithTimeout(ctx, commitBound)
			_ = c.Committed(look, group, topic) // while the node is down there is no answer; the last one counts
			cancel()
		}
	}
	return nil
}

// Behind returns how many records of topics the group has not committed.
func (c *Clients) Behind(ctx context.Context, group string, topics ...string) (int64, error) {
	cl, err := c.client()
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	partitions := make(map[string]int32)
	for _, topic := range topics {
		partitions[topic] = c.partitions(topic)
	}
	all, err := spans(ctx, cl, partitions, nil)
	if err != nil {
		return 0, err
	}
	got, err := kadm.NewClient(cl).FetchOffsets(ctx, group)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", group, err)
	}
	behind := int64(0)
	for _, s := range all {
		at := int64(0)
		if one, found := got.Lookup(s.topic, s.partition); found && one.At > 0 {
			at = one.At
		}
		behind += s.end - at
	}
	return behind, nil
}

// Caught waits until the group has committed all of the topics, to which nobody writes any more.
func (c *Clients) Caught(ctx context.Context, group string, topics ...string) error {
	ctx, cancel := context.WithTimeout(ctx, drainBound)
	defer cancel()
	for {
		behind, err := c.Behind(ctx, group, topics...)
		if err == nil && behind == 0 {
			return nil
		}
		if Pause(ctx, 200*time.Millisecond) != nil {
			return errors.Join(fmt.Errorf("%s is still %d records behind after %v", group, behind, drainBound), err)
		}
	}
}
