package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kalda-io/kalda/interop/client"
)

// awaitPartitions waits until the observer sees the topic with n partitions; 0 means gone.
func (e *Env) awaitPartitions(ctx context.Context, topic string, n int) error {
	return await(ctx, fmt.Sprintf("%s has %d partitions", topic, n), 10*time.Second, func() (bool, string) {
		got, err := e.Observer.Partitions(ctx, topic)
		return err == nil && got == n, fmt.Sprintf("%d partitions, %v", got, err)
	})
}

func createTopic(ctx context.Context, e *Env) error {
	if err := e.Client.CreateTopic(ctx, e.name, 3, map[string]string{"retention.ms": "86400000"}); err != nil {
		return err
	}
	if err := e.awaitPartitions(ctx, e.name, 3); err != nil {
		return err
	}
	value, err := e.Observer.TopicConfig(ctx, e.name, "retention.ms")
	if err != nil {
		return err
	}
	if value != "86400000" {
		return fmt.Errorf("the topic was created with retention.ms=86400000 but has %s", value)
	}
	if err := e.Client.CreateTopic(ctx, e.name, 3, nil); err == nil {
		return fmt.Errorf("creating a topic that exists was not refused")
	}
	return nil
}

func describeTopic(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 5, nil)
	if err != nil {
		return err
	}
	got, err := e.Client.Partitions(ctx, topic)
	if err != nil {
		return err
	}
	if got != 5 {
		return fmt.Errorf("the client sees %d partitions, want 5", got)
	}
	return nil
}

func addPartitions(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 2, nil)
	if err != nil {
		return err
	}
	if err := e.seed(ctx, topic, 2, 3); err != nil {
		return err
	}
	if err := e.Client.AddPartitions(ctx, topic, 5); err != nil {
		return err
	}
	if err := e.awaitPartitions(ctx, topic, 5); err != nil {
		return err
	}
	if err := e.Client.AddPartitions(ctx, topic, 4); err == nil {
		return fmt.Errorf("shrinking from 5 to 4 partitions was not refused")
	}
	// The old partitions keep their records, the new ones take some.
	for _, p := range []int32{2, 3, 4} {
		if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, numbered(p, 0, 3)); err != nil {
			return fmt.Errorf("write to new partition %d: %w", p, err)
		}
	}
	for p := range int32(5) {
		got, err := e.Observer.Read(ctx, topic, p, client.Earliest, 3)
		if err != nil {
			return err
		}
		if err := same("the observer", numbered(p, 0, 3), got, 0); err != nil {
			return err
		}
	}
	return nil
}

func deleteTopic(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, nil)
	if err != nil {
		return err
	}
	if err := e.seed(ctx, topic, 1, 5); err != nil {
		return err
	}
	if err := e.Client.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	if err := e.awaitPartitions(ctx, topic, 0); err != nil {
		return err
	}
	// A new topic of that name is empty: nothing of the old one comes back.
	if _, err := e.topic(ctx, 1, nil); err != nil {
		return err
	}
	end, err := e.Observer.Offset(ctx, topic, 0, client.Latest)
	if err == nil && end != 0 {
		err = fmt.Errorf("the topic made anew starts with %d records", end)
	}
	return err
}

func describeConfigs(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, map[string]string{"max.message.bytes": "123456"})
	if err != nil {
		return err
	}
	for key, want := range map[string]string{"max.message.bytes": "123456", "cleanup.policy": "delete"} {
		got, err := e.Client.TopicConfig(ctx, topic, key)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	return nil
}

func alterConfigs(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, nil)
	if err != nil {
		return err
	}
	if err := e.Client.SetTopicConfig(ctx, topic, "max.message.bytes", "1000"); err != nil {
		return err
	}
	got, err := e.Observer.TopicConfig(ctx, topic, "max.message.bytes")
	if err != nil {
		return err
	}
	if got != "1000" {
		return fmt.Errorf("max.message.bytes is %q after it was set to 1000", got)
	}
	// The change must bite, not only be remembered.
	large := []client.Record{{Key: []byte("k"), Value: make([]byte, 2000)}}
	if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, large); err == nil {
		return fmt.Errorf("a record of 2000 bytes was taken by a topic with max.message.bytes=1000")
	}
	if err := e.Client.SetTopicConfig(ctx, topic, "max.message.bytes", "4000"); err != nil {
		return err
	}
	if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, large); err != nil {
		return fmt.Errorf("after max.message.bytes=4000: %w", err)
	}
	return nil
}

func deleteRecords(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, nil)
	if err != nil {
		return err
	}
	if err := e.seed(ctx, topic, 1, 20); err != nil {
		return err
	}
	if err := e.Client.DeleteRecords(ctx, topic, 0, 7); err != nil {
		return err
	}
	start, err := e.Observer.Offset(ctx, topic, 0, client.Earliest)
	if err != nil {
		return err
	}
	if start != 7 {
		return fmt.Errorf("the log starts at %d, want 7", start)
	}
	got, err := e.Client.Read(ctx, topic, 0, client.Earliest, 13)
	if err != nil {
		return err
	}
	return same("the client", numbered(0, 7, 20), got, 7)
}

// stableGroup makes a group with one member that has its partition.
func (e *Env) stableGroup(ctx context.Context) (client.Member, error) {
	topic, err := e.topic(ctx, 1, nil)
	if err != nil {
		return nil, err
	}
	m, err := e.join(ctx, client.GroupOptions{Group: e.name, Topic: topic, SessionTimeout: longSession})
	if err != nil {
		return nil, err
	}
	return m, awaitOwned(ctx, "the member owns the partition", longWait, 1, []int{1}, m)
}

func describeGroups(ctx context.Context, e *Env) error {
	if _, err := e.Client.Groups(ctx); err != nil {
		return err // before a group is made: a client that cannot do it need not wait
	}
	m, err := e.stableGroup(ctx)
	if err != nil {
		return err
	}
	check := func(want client.GroupInfo) error {
		names, err := e.Client.Groups(ctx)
		if err != nil {
			return err
		}
		if !slices.Contains(names, e.name) {
			return fmt.Errorf("the list of groups lacks %s", e.name)
		}
		got, err := e.Client.Group(ctx, e.name)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("the group is %+v, want %+v", got, want)
		}
		return nil
	}
	if err := check(client.GroupInfo{State: "Stable", Members: 1}); err != nil {
		return err
	}
	if err := e.seed(ctx, e.name, 1, 1); err != nil {
		return err
	}
	if _, err := drain(ctx, m, 1); err != nil {
		return err
	}
	if err := m.Commit(ctx); err != nil { // a group without offsets may vanish with its last member
		return err
	}
	if err := m.Leave(ctx); err != nil {
		return err
	}
	return check(client.GroupInfo{State: "Empty"})
}

func deleteGroup(ctx context.Context, e *Env) error {
	if _, err := e.Client.Groups(ctx); err != nil {
		return err
	}
	m, err := e.stableGroup(ctx)
	if err != nil {
		return err
	}
	if err := e.seed(ctx, e.name, 1, 3); err != nil {
		return err
	}
	if _, err := drain(ctx, m, 3); err != nil {
		return err
	}
	if err := m.Commit(ctx); err != nil {
		return err
	}
	if err := e.Client.DeleteGroup(ctx, e.name); err == nil {
		return fmt.Errorf("a group with a member was deleted")
	}
	if err := m.Leave(ctx); err != nil {
		return err
	}
	if err := e.Client.DeleteGroup(ctx, e.name); err != nil {
		return err
	}
	names, err := e.Observer.Groups(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(names, e.name) {
		return fmt.Errorf("the group is still listed")
	}
	committed, err := e.Observer.Committed(ctx, e.name, e.name, 0)
	if err == nil && committed != -1 {
		err = fmt.Errorf("the deleted group still has committed offset %d", committed)
	}
	return err
}

func committedOffsets(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 2, nil)
	if err != nil {
		return err
	}
	// A group that does not exist has offset -1 and is no error.
	if got, err := e.Client.Committed(ctx, e.name, topic, 0); err != nil || got != -1 {
		if err != nil {
			return err
		}
		return fmt.Errorf("an unknown group has committed offset %d, want -1", got)
	}
	m, err := e.join(ctx, client.GroupOptions{Group: e.name, Topic: topic, SessionTimeout: longSession})
	if err != nil {
		return err
	}
	if err := awaitOwned(ctx, "the member owns the partitions", longWait, 2, []int{2}, m); err != nil {
		return err
	}
	if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, numbered(0, 0, 8)); err != nil {
		return err
	}
	if _, err := drain(ctx, m, 8); err != nil {
		return err
	}
	if err := m.Commit(ctx); err != nil {
		return err
	}
	for p, want := range []int64{8, -1} {
		got, err := e.Client.Committed(ctx, e.name, topic, int32(p))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("partition %d has committed offset %d, want %d", p, got, want)
		}
	}
	return nil
}
