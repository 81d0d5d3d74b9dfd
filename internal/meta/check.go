package meta

import (
	"fmt"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
)

// MaxPartitions is the most partitions that a topic can have: a key or record beyond it is
// refused before memory is taken for the partitions below.
const MaxPartitions = 1_000_000

// checked is a value with rules that its fields must keep. What breaks them was not written
// by kalda; it is refused with its key, like a value that does not parse, instead of being
// acted upon.
type checked interface{ check() error }

func (r *TopicRecord) check() error {
	switch {
	case r.Partitions < 0 || r.Partitions > MaxPartitions:
		return fmt.Errorf("meta: the topic has %d partitions; 0 to %d are possible", r.Partitions, MaxPartitions)
	case r.ReplicationFactor < 0:
		return fmt.Errorf("meta: the topic has the replication factor %d", r.ReplicationFactor)
	}
	if err := CheckTopicName(r.Name); err != nil {
		return fmt.Errorf("meta: the topic's name: %w", err)
	}
	return nil
}

func (r *OpRecord) check() error {
	if r.Kind != OpCreateTopic {
		return nil // a later version's
	}
	return r.Topic.check()
}

func (s *PartitionState) check() error {
	// Members of a reassignment are among Replicas already.
	known := func(id model.BrokerID) bool { return id >= 0 && slices.Contains(s.Replicas, id) }
	for i, id := range s.Replicas {
		if id < 0 || slices.Contains(s.Replicas[:i], id) {
			return fmt.Errorf("meta: the replicas %v have a negative or repeated id", s.Replicas)
		}
	}
	for _, p := range slices.Concat(s.ISR, s.ELR) {
		if !known(p.ID) {
			return fmt.Errorf("meta: broker %d of the ISR or ELR is none of the replicas %v", p.ID, s.Replicas)
		}
	}
	for _, id := range s.LastKnown {
		if !known(id) {
			return fmt.Errorf("meta: broker %d of the last known is none of the replicas %v", id, s.Replicas)
		}
	}
	switch {
	case len(s.Replicas) == 0 || len(s.Replicas) > maxReplicas:
		return fmt.Errorf("meta: the partition has %d replicas; 1 to %d are possible", len(s.Replicas), maxReplicas)
	case s.Leader.ID != model.NoBroker && !known(s.Leader.ID):
		return fmt.Errorf("meta: the leader %d is none of the replicas %v", s.Leader.ID, s.Replicas)
	case s.LeaderEpoch < 0 || s.PartitionEpoch < 0:
		return fmt.Errorf("meta: leader epoch %d and partition epoch %d must not be negative", s.LeaderEpoch, s.PartitionEpoch)
	}
	return nil
}

// maxReplicas bounds the copies of a partition, far above what anybody has.
const maxReplicas = 1000
