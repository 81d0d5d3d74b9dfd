package controller

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
)

// Now is what Reconcile may know beside the state.
type Now struct {
	// Boot is the time since some fixed point; MissingSince is on the same scale.
	Boot time.Duration
	// WallMs is calendar time, milliseconds since 1970.
	WallMs int64
	// MissingSince is when each broker's registration was first seen absent while the
	// broker counted as present.
	MissingSince map[model.BrokerID]time.Duration
	// Tails are the answers of replicas that recovery elections asked. A partition
	// with a single replica needs none: there is nothing to choose.
	Tails map[model.Partition]map[model.BrokerID]Tail
}

// Step is the next thing to do. When Changes is empty, nothing is left to do before
// At (on the Boot scale, 0 for never) or the next event.
type Step struct {
	Changes []Change
	At      time.Duration
}

// Reconcile compares the state with what it should be and returns the most urgent
// changes; it is called again after they are made, until there are none. Changes of one
// step are independent of each other.
//
// The order is that of fencing and admission (a broker's state first: no later
// transaction can give a fenced pair a role; then the partitions; then the new life of the
// broker), elections, and housekeeping.
func (p *Planner) Reconcile(now Now) Step {
	fence, at := p.fenceBrokers(now)
	if len(fence) > 0 {
		return Step{Changes: fence}
	}
	for _, stage := range []func(Now) []Change{
		p.releasePairs, p.admitBrokers, p.electLeaders, p.applyConfigs, p.finishOps, p.removeDeleted, p.dropTombstones,
	} {
		if changes := stage(now); len(changes) > 0 {
			return Step{Changes: changes}
		}
	}
	return Step{At: cmp.Or(at, p.nextTombstone(now))}
}

// fenceBrokers ends the lives of brokers that are gone: registered anew, or without a
// registration for longer than the grace. The second result is when the next grace ends.
func (p *Planner) fenceBrokers(now Now) ([]Change, time.Duration) {
	var changes []Change
	var at time.Duration
	for _, id := range slices.Sorted(maps.Keys(p.st.BrokerStates)) {
		s, reg := p.st.BrokerStates[id], p.st.Registrations[id]
		if s.Status == meta.BrokerFenced || reg != nil && reg.Epoch == s.Epoch {
			continue
		}
		if reg == nil && s.Status != meta.BrokerDraining {
			since, ok := now.MissingSince[id]
			if !ok {
				since = now.Boot
			}
			if until := since + p.rules.RegistrationGrace; until > now.Boot {
				if at == 0 || until < at {
					at = until
				}
				continue
			}
		}
		next := *s
		next.Status = meta.BrokerFenced
		var c Change
		if reg == nil && s.Status != meta.BrokerDraining { // a restart or a clean stop is no news
			c.Note = fmt.Sprintf("broker %d epoch %d is fenced: its registration is gone", id, s.Epoch)
		}
		c.put(p.keys.BrokerState(id), next)
		changes = append(changes, c)
	}
	return changes, at
}

// partitionChanges applies f to every partition and collects what it returns, most
// urgent first: internal topics, then partitions without a leader, then the rest.
func (p *Planner) partitionChanges(f func(part model.Partition, ps *meta.PartitionState) *meta.PartitionState) []Change {
	type found struct {
		urgency int
		key     string
		ps      *meta.PartitionState
	}
	var all []found
	for id, parts := range p.st.Partitions {
		for n, ps := range parts {
			if ps == nil {
				continue
			}
			part := model.Partition{Topic: id, Index: int32(n)}
			next := f(part, ps)
			if next == nil {
				continue
			}
			urgency := 2
			if r := p.st.Topics[id]; r != nil && meta.IsInternal(r.Name) {
				urgency = 0
			} else if next.LeaderEpoch != ps.LeaderEpoch {
				urgency = 1
			}
			all = append(all, found{urgency, p.keys.Partition(part), next})
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.urgency, b.urgency), cmp.Compare(a.key, b.key))
	})
	writes := make([]Write, len(all))
	for i, f := range all {
		writes[i] = Write{Key: f.key, Value: f.ps}
	}
	return split(writes)
}

// releasePairs takes dead pairs out of leadership and ISR and carries the ELR over to a
// broker's new life if that can vouch for its tail. A partition whose only replica is
// registered again is left to electLeaders, which does both with one write: nobody else
// can lead it meanwhile, and a node with ten thousand of them is up sooner.
func (p *Planner) releasePairs(Now) []Change {
	return p.partitionChanges(func(_ model.Partition, ps *meta.PartitionState) *meta.PartitionState {
		if !p.holdsDead(ps) || p.returns(ps) {
			return nil
		}
		m := p.release(ps)
		m.elect(ps.Replicas, p.live, p.active)
		return m.next(ps, p.st.ControllerEpoch)
	})
}

// stale says whether the pair's broker is registered with another life.
func (p *Planner) stale(pair model.Pair) bool {
	reg := p.st.Registrations[pair.ID]
	return reg != nil && reg.Epoch != pair.Epoch
}

// holdsDead says whether a dead pair has a role in the partition.
func (p *Planner) holdsDead(ps *meta.PartitionState) bool {
	return slices.ContainsFunc(ps.ISR, func(pair model.Pair) bool { return !p.live(pair) }) ||
		slices.ContainsFunc(ps.ELR, p.stale) || ps.Leader != noLeader && !p.live(ps.Leader)
}

// returns says whether the partition's only replica is led by a former life of a broker
// that is registered again.
func (p *Planner) returns(ps *meta.PartitionState) bool {
	return len(ps.Replicas) == 1 && len(ps.ISR) == 1 && ps.Leader == ps.ISR[0] &&
		ps.Leader.ID == ps.Replicas[0] && p.stale(ps.Leader)
}

// admitted says whether the registered life of a broker is active.
func (p *Planner) admitted(id model.BrokerID) bool {
	reg := p.st.Registrations[id]
	return reg != nil && p.active(model.Pair{ID: id, Epoch: reg.Epoch})
}

// release is the membership without dead pairs.
func (p *Planner) release(ps *meta.PartitionState) membership {
	m := membershipOf(ps)
	// A new life of the broker takes the old one's place where its log is whole.
	for i, pair := range m.elr {
		if p.vouches(ps, pair) {
			m.elr[i].Epoch = p.st.Registrations[pair.ID].Epoch
		}
	}
	var isr []model.Pair
	for i, pair := range m.isr {
		if p.live(pair) {
			isr = append(isr, pair)
		} else if p.vouches(ps, pair) {
			m.isr[i].Epoch = p.st.Registrations[pair.ID].Epoch
		}
	}
	m.shrink(isr, ps.MinISR, p.stale)
	return m
}

// vouches says whether the registered life of pair's broker is another one that
// continues pair's log with nothing lost.
func (p *Planner) vouches(ps *meta.PartitionState, pair model.Pair) bool {
	reg := p.st.Registrations[pair.ID]
	if reg == nil || reg.Epoch == pair.Epoch || reg.PreviousEpoch != pair.Epoch {
		return false
	}
	dir := ""
	if i := slices.Index(ps.Replicas, pair.ID); i >= 0 && i < len(ps.Dirs) {
		dir = ps.Dirs[i]
	}
	return reg.TailTrusted(dir)
}

// admitBrokers writes the states of brokers whose registration says something new. The
// old life of each is fenced by now, and out of all partitions but those that only it had.
func (p *Planner) admitBrokers(Now) []Change {
	var changes []Change
	for _, id := range slices.Sorted(maps.Keys(p.st.Registrations)) {
		reg, s := p.st.Registrations[id], p.st.BrokerStates[id]
		next := meta.BrokerState{
			Epoch: reg.Epoch, Incarnation: reg.Incarnation, Status: meta.BrokerFenced,
			Endpoints: reg.Endpoints, Rack: reg.Rack,
		}
		if s != nil && s.Epoch == reg.Epoch {
			next.Status, next.OfflineDirs = s.Status, s.OfflineDirs
		}
		switch {
		case reg.Want == meta.WantRunning:
			next.Status = meta.BrokerActive
		case reg.Want == meta.WantDraining && next.Status == meta.BrokerActive:
			next.Status = meta.BrokerDraining
		}
		if s != nil && reflect.DeepEqual(*s, next) {
			continue
		}
		changes = append(changes, Change{Writes: []Write{{Key: p.keys.BrokerState(id), Value: next}}})
	}
	return changes
}

// electLeaders gives leaders to partitions that have none, and moves leadership off
// brokers that are draining.
func (p *Planner) electLeaders(now Now) []Change {
	var lost []model.Partition
	changes := p.partitionChanges(func(part model.Partition, ps *meta.PartitionState) *meta.PartitionState {
		if ps.Leader != noLeader && p.active(ps.Leader) {
			return nil
		}
		m := membershipOf(ps)
		back := p.returns(ps)
		if back {
			if m = p.release(ps); !p.admitted(ps.Replicas[0]) {
				return nil // soon
			}
		}
		m.elect(ps.Replicas, p.active, p.active)
		if m.leader == noLeader && ps.Leader != noLeader && !back {
			return nil // draining, and nobody else: it leads until it goes
		}
		recovering := false
		if m.leader == noLeader && len(m.isr) == 0 && len(m.elr) == 0 {
			if recovering = p.recoveryElection(part, ps, &m, now); recovering {
				lost = append(lost, part)
			}
		}
		next := m.next(ps, p.st.ControllerEpoch)
		if next != nil && recovering {
			next.Recovering = len(ps.Replicas) > 1 // a sole copy has nobody to agree with
		}
		return next
	})
	if len(lost) > 0 {
		changes[0].Note = fmt.Sprintf("recovery election: the ends of %d partitions may be lost, the first is %s", len(lost), lost[0])
	}
	return changes
}

// recoveryElection chooses among replicas whose tail is in doubt, once all of the last
// known have answered: the log that goes furthest holds all that any of them holds.
func (p *Planner) recoveryElection(part model.Partition, ps *meta.PartitionState, m *membership, now Now) bool {
	if len(m.lk) == 0 {
		return false
	}
	answers := now.Tails[part]
	answered := func(id model.BrokerID) (Tail, bool) {
		s := p.st.BrokerStates[id]
		if s == nil || s.Status != meta.BrokerActive {
			return Tail{}, false
		}
		t, ok := answers[id]
		return t, ok || len(ps.Replicas) == 1
	}
	for _, id := range m.lk {
		if _, ok := answered(id); !ok {
			return false // a dead member is waited for
		}
	}
	best, bestTail := model.NoBroker, Tail{}
	for _, id := range ps.Replicas {
		if t, ok := answered(id); ok && (best == model.NoBroker || t.ahead(bestTail)) {
			best, bestTail = id, t
		}
	}
	m.leader = p.st.BrokerStates[best].Pair(best)
	m.isr, m.lk = []model.Pair{m.leader}, slices.DeleteFunc(m.lk, func(id model.BrokerID) bool { return id == best })
	return true
}

// applyConfigs brings the effective settings that partitions carry up to date. minISR is
// only raised here: a decrease could drop the last complete copy, so it takes the
// agreement of the live leader.
func (p *Planner) applyConfigs(Now) []Change {
	type effective struct {
		minISR int32
		flush  string
	}
	seen := map[model.TopicID]map[int]effective{}
	return p.partitionChanges(func(part model.Partition, ps *meta.PartitionState) *meta.PartitionState {
		r := p.st.Topics[part.Topic]
		if r == nil || r.Status != meta.TopicLive {
			return nil
		}
		rf := len(ps.Replicas)
		want, ok := seen[part.Topic][rf]
		if !ok {
			config := p.st.Config(meta.ResourceTopic, r.Name)
			want = effective{p.minISR(config, rf), p.flushPolicy(config, rf)}
			if seen[part.Topic] == nil {
				seen[part.Topic] = map[int]effective{}
			}
			seen[part.Topic][rf] = want
		}
		if want.minISR <= ps.MinISR && want.flush == ps.FlushPolicy {
			return nil
		}
		next := *ps
		next.MinISR = max(ps.MinISR, want.minISR)
		next.FlushPolicy = want.flush
		next.PartitionEpoch++
		next.ControllerEpoch = p.st.ControllerEpoch
		return &next
	})
}

// finishOps ends what an earlier controller left half done: a topic whose partitions are all
// written goes live, any other is taken back. Its client had no answer and asks again.
func (p *Planner) finishOps(Now) []Change {
	for _, name := range slices.Sorted(maps.Keys(p.st.Ops)) {
		op := p.st.Ops[name]
		if op.Kind != meta.OpCreateTopic {
			continue // a later version's; it will know
		}
		if r := p.st.Topics[op.ID]; r != nil {
			// The topic has left creation behind: what it has is not the intent's to remove.
			var c Change
			c.remove(p.keys.Op(name))
			return []Change{c}
		}
		parts := p.st.Partitions[op.ID]
		if n := p.st.TopicNames[op.Topic.Name]; n == nil || n.ID != op.ID {
			// The name is another topic's, or nobody's: only what the intent wrote goes.
			if changes := p.removePartitions(op.ID); len(changes) > 0 {
				return changes
			}
			var c Change
			c.remove(p.keys.Op(name))
			return []Change{c}
		}
		if len(parts) == int(op.Topic.Partitions) && !slices.Contains(parts, nil) {
			c := p.goLive(op.ID, op.Topic, op.Config)
			c.remove(p.keys.Op(name))
			return []Change{c}
		}
		if changes := p.removePartitions(op.ID); len(changes) > 0 {
			return changes
		}
		var c Change
		c.remove(p.keys.TopicName(op.Topic.Name))
		c.remove(p.keys.Op(name))
		return []Change{c}
	}
	return nil
}

// removePartitions deletes the keys of a topic's partitions.
func (p *Planner) removePartitions(id model.TopicID) []Change {
	var writes []Write
	for n, ps := range p.st.Partitions[id] {
		if ps != nil {
			writes = append(writes, Write{Key: p.keys.Partition(model.Partition{Topic: id, Index: int32(n)})})
		}
	}
	return split(writes)
}

// removeDeleted clears away the keys of deleted topics; the tombstone stays.
func (p *Planner) removeDeleted(Now) []Change {
	var changes []Change
	for id, r := range p.st.Topics {
		if r.Status != meta.TopicDeleting {
			continue
		}
		parts := p.removePartitions(id)
		if len(parts) == 0 {
			parts = []Change{{Writes: []Write{{Key: p.keys.Topic(id)}}}}
		}
		changes = append(changes, parts...)
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Writes[0].Key, b.Writes[0].Key) })
	return changes
}

// tombstoneCheck is how often tombstones are looked through when nothing else happens.
const tombstoneCheck = time.Hour

// dropTombstones forgets topics that were deleted long ago.
func (p *Planner) dropTombstones(now Now) []Change {
	var writes []Write
	for id, t := range p.st.Tombstones {
		if now.WallMs-t.DeletedMs > p.rules.TombstoneKeep.Milliseconds() {
			writes = append(writes, Write{Key: p.keys.Tombstone(id)})
		}
	}
	slices.SortFunc(writes, func(a, b Write) int { return cmp.Compare(a.Key, b.Key) })
	return split(writes)
}

// nextTombstone is when tombstones need another look, 0 if there are none.
func (p *Planner) nextTombstone(now Now) time.Duration {
	if len(p.st.Tombstones) == 0 {
		return 0
	}
	return now.Boot + tombstoneCheck
}
