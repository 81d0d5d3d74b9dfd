package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kalda-io/kalda/interop/client"
)

const (
	// longSession is longer than any wait below it: what happens within longWait happened because a
	// member said something, not because its session ran out.
	longSession = 45 * time.Second
	longWait    = 30 * time.Second
)

// checkPartitions compares what a member was given, by partition, with the numbered seed.
func checkPartitions(got map[int32][]client.Record, partitions []int32, from, to int) error {
	for _, p := range partitions {
		if err := same(fmt.Sprintf("partition %d's owner", p), numbered(p, from, to), got[p], int64(from)); err != nil {
			return err
		}
	}
	if len(got) != len(partitions) {
		return fmt.Errorf("records of %d partitions were delivered, want those of %v", len(got), partitions)
	}
	return nil
}

// joinAndLeave grows a group to two members and shrinks it again.
func joinAndLeave(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 4, nil)
	if err != nil {
		return err
	}
	if err := e.seed(ctx, topic, 4, 25); err != nil {
		return err
	}
	o := client.GroupOptions{Group: e.name, Topic: topic, SessionTimeout: longSession}
	one, err := e.join(ctx, o)
	if err != nil {
		return err
	}
	if err := awaitOwned(ctx, "the only member owns all", longWait, 4, []int{4}, one); err != nil {
		return err
	}
	got, err := drain(ctx, one, 100)
	if err != nil {
		return err
	}
	if err := checkPartitions(got, []int32{0, 1, 2, 3}, 0, 25); err != nil {
		return err
	}
	two, err := e.join(ctx, o)
	if err != nil {
		return err
	}
	if err := awaitOwned(ctx, "two members share", longWait, 4, []int{2, 2}, one, two); err != nil {
		return err
	}
	if err := two.Leave(ctx); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return awaitOwned(ctx, "the member that stays owns all", longWait, 4, []int{4}, one)
}

// crash cuts a member off: its partitions go to the other one once its session has run out.
func crash(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 4, nil)
	if err != nil {
		return err
	}
	o := client.GroupOptions{Group: e.name, Topic: topic}
	one, err := e.join(ctx, o)
	if err != nil {
		return err
	}
	two, err := e.join(ctx, o)
	if err != nil {
		return err
	}
	if err := awaitOwned(ctx, "two members share", longWait, 4, []int{2, 2}, one, two); err != nil {
		return err
	}
	two.Crash()
	if err := awaitOwned(ctx, "the survivor owns all", longWait, 4, []int{4}, one); err != nil {
		return err
	}
	info, err := e.Observer.Group(ctx, e.name)
	if err != nil {
		return err
	}
	if info.Members != 1 {
		return fmt.Errorf("the group still has %d members", info.Members)
	}
	// The survivor really reads all partitions now, from their start, as nothing was committed.
	if err := e.seed(ctx, topic, 4, 10); err != nil {
		return err
	}
	got, err := drain(ctx, one, 40)
	if err != nil {
		return err
	}
	return checkPartitions(got, []int32{0, 1, 2, 3}, 0, 10)
}

// staticRestart restarts a static member: nobody is told anything, the generation stays.
func staticRestart(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 4, nil)
	if err != nil {
		return err
	}
	options := func(id string) client.GroupOptions {
		return client.GroupOptions{Group: e.name, Topic: topic, SessionTimeout: longSession, InstanceID: id}
	}
	one, err := e.join(ctx, options("one"))
	if err != nil {
		return err
	}
	two, err := e.join(ctx, options("two"))
	if err != nil {
		return err
	}
	if err := awaitOwned(ctx, "two members share", longWait, 4, []int{2, 2}, one, two); err != nil {
		return err
	}
	owned, rebalances := two.Assigned().Owned, one.Assigned().Rebalances
	before, err := e.Observer.Generation(ctx, e.name)
	if err != nil {
		return err
	}
	if err := two.Leave(ctx); err != nil {
		return fmt.Errorf("stop the static member: %w", err)
	}
	again, err := e.join(ctx, options("two"))
	if err != nil {
		return err
	}
	if err := awaitOwned(ctx, "the restarted member is back", longWait, 4, []int{2, 2}, one, again); err != nil {
		return err
	}
	if now := again.Assigned().Owned; !slices.Equal(now, owned) {
		return fmt.Errorf("the restarted member owns %v, it had %v", now, owned)
	}
	// Both must be at work, so that a late rebalance would show.
	if err := e.seed(ctx, topic, 4, 5); err != nil {
		return err
	}
	for _, m := range []client.Member{one, again} {
		got, err := drain(ctx, m, 10)
		if err != nil {
			return err
		}
		if err := checkPartitions(got, m.Assigned().Owned, 0, 5); err != nil {
			return err
		}
	}
	after, err := e.Observer.Generation(ctx, e.name)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("the restart of a static member moved the generation from %d to %d", before, after)
	}
	if now := one.Assigned().Rebalances; now != rebalances {
		return fmt.Errorf("the other member was rebalanced %d times by the restart", now-rebalances)
	}
	return nil
}

// cooperative grows a group with the cooperative-sticky assignor: the first member keeps two
// partitions throughout and gives up exactly the other two.
func cooperative(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 4, nil)
	if err != nil {
		return err
	}
	if err := e.seed(ctx, topic, 4, 10); err != nil {
		return err
	}
	o := client.GroupOptions{Group: e.name, Topic: topic, SessionTimeout: longSession, Cooperative: true}
	one, err := e.join(ctx, o)
	if err != nil {
		return err
	}
	if err := awaitOwned(ctx, "the only member owns all", longWait, 4, []int{4}, one); err != nil {
		return err
	}
	got, err := drain(ctx, one, 40)
	if err != nil {
		return err
	}
	if err := checkPartitions(got, []int32{0, 1, 2, 3}, 0, 10); err != nil {
		return err
	}
	two, err := e.join(ctx, o)
	if err != nil {
		return err
	}
	if err := awaitOwned(ctx, "two members share", longWait, 4, []int{2, 2}, one, two); err != nil {
		return err
	}
	if revoked := one.Assigned().Revoked; revoked != 2 {
		return fmt.Errorf("the first member gave up %d partitions, want 2: the others stay with their owner", revoked)
	}
	if revoked := two.Assigned().Revoked; revoked != 0 {
		return fmt.Errorf("the second member gave up %d partitions, want none", revoked)
	}
	if err := two.Leave(ctx); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if err := awaitOwned(ctx, "the member that stays owns all", longWait, 4, []int{4}, one); err != nil {
		return err
	}
	if revoked := one.Assigned().Revoked; revoked != 2 {
		return fmt.Errorf("the first member gave up %d partitions in all, want 2: it only gained by the leave", revoked)
	}
	return nil
}

// idleMember has one member more than partitions; when an owner dies the idle one takes over.
func idleMember(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 2, nil)
	if err != nil {
		return err
	}
	if err := e.seed(ctx, topic, 2, 10); err != nil {
		return err
	}
	var members []client.Member
	for range 3 {
		m, err := e.join(ctx, client.GroupOptions{Group: e.name, Topic: topic})
		if err != nil {
			return err
		}
		members = append(members, m)
	}
	if err := awaitOwned(ctx, "two own one partition each, one is idle", longWait, 2, []int{0, 1, 1}, members...); err != nil {
		return err
	}
	owner := slices.IndexFunc(members, func(m client.Member) bool { return len(m.Assigned().Owned) == 1 })
	members[owner].Crash()
	rest := slices.Delete(members, owner, owner+1)
	if err := awaitOwned(ctx, "the idle member takes over", longWait, 2, []int{1, 1}, rest...); err != nil {
		return err
	}
	// Fresh records reach both partitions' owners. What each had read before is not fixed (an
	// owner may have changed twice while the three joined), so look for the fresh ones.
	for p := range int32(2) {
		if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, numbered(p, 10, 11)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, longWait)
	defer cancel()
	for _, m := range rest {
		owned := m.Assigned().Owned[0]
		for {
			r, err := m.Next(ctx)
			if err != nil {
				return fmt.Errorf("the owner of partition %d waits for its fresh record: %w", owned, err)
			}
			if r.Partition == owned && r.Offset == 10 {
				break
			}
		}
	}
	return nil
}

// commitAndResume stops a member and goes on with another where the first had committed.
func commitAndResume(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, nil)
	if err != nil {
		return err
	}
	if err := e.seed(ctx, topic, 1, 20); err != nil {
		return err
	}
	o := client.GroupOptions{Group: e.name, Topic: topic, SessionTimeout: longSession}
	one, err := e.join(ctx, o)
	if err != nil {
		return err
	}
	got, err := drain(ctx, one, 20)
	if err != nil {
		return err
	}
	if err := checkPartitions(got, []int32{0}, 0, 20); err != nil {
		return err
	}
	if err := one.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := one.Leave(ctx); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	committed, err := e.Observer.Committed(ctx, e.name, topic, 0)
	if err != nil {
		return err
	}
	if committed != 20 {
		return fmt.Errorf("committed offset %d, want 20", committed)
	}
	if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, numbered(0, 20, 30)); err != nil {
		return err
	}
	two, err := e.join(ctx, o)
	if err != nil {
		return err
	}
	got, err = drain(ctx, two, 10)
	if err != nil {
		return err
	}
	return checkPartitions(got, []int32{0}, 20, 30)
}

// twoGroups has two groups own the same partition at once; each is given every record.
func twoGroups(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, nil)
	if err != nil {
		return err
	}
	if err := e.seed(ctx, topic, 1, 30); err != nil {
		return err
	}
	var members []client.Member
	for _, suffix := range []string{"-a", "-b"} {
		m, err := e.join(ctx, client.GroupOptions{Group: e.name + suffix, Topic: topic, SessionTimeout: longSession})
		if err != nil {
			return err
		}
		members = append(members, m)
	}
	for _, m := range members {
		if err := awaitOwned(ctx, "each group's member owns the partition", longWait, 1, []int{1}, m); err != nil {
			return err
		}
	}
	for _, m := range members {
		got, err := drain(ctx, m, 30)
		if err != nil {
			return err
		}
		if err := checkPartitions(got, []int32{0}, 0, 30); err != nil {
			return err
		}
	}
	for _, m := range members {
		if owned := m.Assigned().Owned; !slices.Equal(owned, []int32{0}) {
			return fmt.Errorf("after the reads a member owns %v, want both to own 0", owned)
		}
	}
	return nil
}
