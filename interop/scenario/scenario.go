// Package scenario holds what every client must be able to do with the broker, one function each.
//
// A scenario asks facts and states exact results: counts, offsets, order, bytes. What takes time is
// awaited by asking again until a deadline, never by waiting for a while and hoping. Everything that
// a scenario makes carries a name of its own, so that all of them run at the same time on one broker.
//
// Besides the client under test a scenario has an observer, franz-go, which sets the stage and
// checks from outside what the client did: a client whose mistake in writing cancels its mistake in
// reading would otherwise pass.
//
// To add a scenario, write the function and list it in All. To add a client, implement
// client.Client and list it in the runner; what it cannot do it says with client.Unsupported.
package scenario

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kalda-io/kalda/interop/client"
)

// Env is what a scenario works with.
type Env struct {
	Client   client.Client
	Observer *client.Franz
	name     string
	members  []client.Member // all that joined, ended when the scenario ends
}

// Scenario is one row of the matrix.
type Scenario struct {
	Name string
	Run  func(context.Context, *Env) error
}

// Bound is the longest that a scenario may take. The slowest waits twice for a session of 6 s to
// expire; the rest is for machines under load.
const Bound = 2 * time.Minute

// Do runs the scenario with a client and ends every member that it left behind.
func (s Scenario) Do(ctx context.Context, c client.Client, observer *client.Franz) error {
	ctx, cancel := context.WithTimeout(ctx, Bound)
	defer cancel()
	slug := strings.NewReplacer(" ", "-", ":", "", ",", "", "(", "", ")", "", "/", "-").Replace(s.Name + "-" + c.Name())
	e := &Env{Client: c, Observer: observer, name: slug + "-" + strings.ToLower(rand.Text()[:8])}
	defer func() {
		for _, m := range e.members {
			m.Crash() // does nothing to a member that is gone
		}
	}()
	return s.Run(ctx, e)
}

// All lists every scenario in the order of the matrix.
func All() []Scenario {
	list := []Scenario{
		{"round trip", roundTrip},
		{"acks 0", withAcks(client.AcksNone)},
		{"acks 1", withAcks(client.AcksLeader)},
		{"acks all", withAcks(client.AcksAll)},
		{"idempotent producer", idempotent},
	}
	for _, c := range client.Codecs() {
		list = append(list, Scenario{"codec " + string(c), withCodec(c)})
	}
	for _, v := range []client.BrokerVersion{client.Kafka09, client.Kafka010} {
		for _, c := range []client.Codec{client.None, client.Gzip, client.Snappy, client.LZ4} {
			list = append(list, Scenario{fmt.Sprintf("old producer %s, %s", v, c), oldProducer(v, c)})
		}
	}
	return append(list,
		Scenario{"topic: compression.type", topicCodec},
		Scenario{"topic: LogAppendTime", brokersTime},
		Scenario{"offsets: earliest, latest, by time", offsets},
		Scenario{"group: join and leave", joinAndLeave},
		Scenario{"group: crash", crash},
		Scenario{"group: static restart", staticRestart},
		Scenario{"group: cooperative-sticky", cooperative},
		Scenario{"group: 3 members on 2 partitions", idleMember},
		Scenario{"group: commit and resume", commitAndResume},
		Scenario{"group: two groups on one partition", twoGroups},
		Scenario{"admin: create topic", createTopic},
		Scenario{"admin: describe topic", describeTopic},
		Scenario{"admin: add partitions", addPartitions},
		Scenario{"admin: delete topic", deleteTopic},
		Scenario{"admin: describe configs", describeConfigs},
		Scenario{"admin: alter configs", alterConfigs},
		Scenario{"admin: delete records", deleteRecords},
		Scenario{"admin: list and describe groups", describeGroups},
		Scenario{"admin: delete group", deleteGroup},
		Scenario{"admin: committed offsets", committedOffsets},
	)
}

// topic creates a topic of this scenario through the observer.
func (e *Env) topic(ctx context.Context, partitions int, configs map[string]string) (string, error) {
	if err := e.Observer.CreateTopic(ctx, e.name, partitions, configs); err != nil {
		return "", fmt.Errorf("create %s: %w", e.name, err)
	}
	return e.name, nil
}

// seed has the observer write n small records to each of a topic's partitions.
func (e *Env) seed(ctx context.Context, topic string, partitions, n int) error {
	for p := range int32(partitions) {
		if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, numbered(p, 0, n)); err != nil {
			return fmt.Errorf("seed %s-%d: %w", topic, p, err)
		}
	}
	return nil
}

// numbered returns records from..to-1 of a partition; the value tells partition and number.
func numbered(partition int32, from, to int) []client.Record {
	var recs []client.Record
	for i := from; i < to; i++ {
		recs = append(recs, client.Record{Partition: partition, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "p%d-%d", partition, i)})
	}
	return recs
}

// join starts a member of the scenario's client that is ended with the scenario.
func (e *Env) join(ctx context.Context, o client.GroupOptions) (client.Member, error) {
	m, err := e.Client.Join(ctx, o)
	if err != nil {
		return nil, err
	}
	e.members = append(e.members, m)
	return m, nil
}

// await asks for a fact until it holds. A failed answer says in words how far it is.
func await(ctx context.Context, what string, bound time.Duration, fact func() (ok bool, now string)) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, now := fact()
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v; last seen: %s", what, bound, now)
		}
	}
}

// awaitOwned waits until the members own exactly partitions 0..partitions-1 together, each
// partition once, and as many of them each as counts says.
func awaitOwned(ctx context.Context, what string, bound time.Duration, partitions int, counts []int, members ...client.Member) error {
	slices.Sort(counts)
	return await(ctx, what, bound, func() (bool, string) {
		var all []int32
		var got []int
		var seen []string
		for _, m := range members {
			a := m.Assigned()
			all = append(all, a.Owned...)
			got = append(got, len(a.Owned))
			seen = append(seen, fmt.Sprint(a.Owned))
			if a.Rebalances == 0 {
				return false, "a member has no assignment yet"
			}
		}
		slices.Sort(all)
		slices.Sort(got)
		ok := len(all) == partitions && slices.Equal(got, counts)
		for i, p := range all {
			ok = ok && int(p) == i
		}
		return ok, strings.Join(seen, " ")
	})
}

// same compares what was read with what was written, which must have gone to offsets from on.
func same(who string, want, got []client.Record, from int64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%s read %d records, want %d", who, len(got), len(want))
	}
	for i := range want {
		if got[i].Offset != from+int64(i) {
			return fmt.Errorf("%s read offset %d at place %d, want %d", who, got[i].Offset, i, from+int64(i))
		}
		if diff := want[i].Same(got[i]); diff != "" {
			return fmt.Errorf("%s read at offset %d: %s", who, got[i].Offset, diff)
		}
	}
	return nil
}

// drain takes the next n records of a member, by partition in the order of their arrival.
func drain(ctx context.Context, m client.Member, n int) (map[int32][]client.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	got := make(map[int32][]client.Record)
	for i := range n {
		r, err := m.Next(ctx)
		if err != nil {
			return got, fmt.Errorf("after %d of %d records: %w", i, n, err)
		}
		got[r.Partition] = append(got[r.Partition], r)
	}
	return got, nil
}
