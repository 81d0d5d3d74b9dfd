package controller

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
)

// Rules are the settings that plans follow.
type Rules struct {
	// DefaultPartitions is num.partitions; 0 means 1.
	DefaultPartitions int32
	// DefaultReplicationFactor is default.replication.factor; 0 means that it is unset:
	// min(3, active brokers), as far as MaxReplicationFactor allows.
	DefaultReplicationFactor int16
	// MaxReplicationFactor is the most copies of a partition that this version can keep;
	// 0 means 1. Explicit wishes above it are refused.
	MaxReplicationFactor int16
	// MaxPartitionsPerTopic bounds one topic; 0 means 10,000.
	MaxPartitionsPerTopic int32
	// MaxPartitions bounds the partitions of all topics together (kalda.partitions.max); 0
	// means 100,000.
	MaxPartitions int32
	// MinISR is the static min.insync.replicas, 0 if unset.
	MinISR int32
	// FlushPolicy is the static kalda.flush.policy (os or commit), "" if unset.
	FlushPolicy string
	// TombstoneKeep is how long records of deleted topics stay; 0 means 30 days.
	TombstoneKeep time.Duration
	// RegistrationGrace is how long a broker whose registration vanished may take to come back
	// before it is fenced; 0 means 1 s.
	RegistrationGrace time.Duration
	// Config knows the keys of dynamic configs.
	Config ConfigRules
	// Features are the features that may be finalized, with the levels that this version
	// supports.
	Features map[string]FeatureRange
}

// ConfigRules is what the planner needs to know of config keys. A nil function accepts
// everything and knows no lists and no defaults.
type ConfigRules struct {
	// Normalize returns the form in which a value is kept, or why it may not be set. name
	// is the resource's: "" for all brokers.
	Normalize func(kind meta.ResourceKind, name, key, value string) (string, error)
	// Check says why a topic's values, normalized, do not go together.
	Check func(topic map[string]string) error
	// List says whether the key's value is a list, which alone can be appended to and
	// subtracted from.
	List func(kind meta.ResourceKind, key string) bool
	// Default is the value that an unset key has, for appending to.
	Default func(kind meta.ResourceKind, key string) string
}

// FeatureRange is the range of levels of a feature, both inclusive.
type FeatureRange struct{ Min, Max int16 }

func (r Rules) withDefaults() Rules {
	if r.DefaultPartitions == 0 {
		r.DefaultPartitions = 1
	}
	if r.MaxReplicationFactor == 0 {
		r.MaxReplicationFactor = 1
	}
	if r.MaxPartitionsPerTopic == 0 {
		r.MaxPartitionsPerTopic = 10000
	}
	if r.MaxPartitions == 0 {
		r.MaxPartitions = 100_000
	}
	if r.TombstoneKeep == 0 {
		r.TombstoneKeep = 30 * 24 * time.Hour
	}
	if r.RegistrationGrace == 0 {
		r.RegistrationGrace = time.Second
	}
	return r
}

// maxRequestPartitions is how many partitions one request may create, as in Kafka
// (ReplicationControlManager.MAX_PARTITIONS_PER_BATCH).
const maxRequestPartitions = 10_000

// maxConfigBytes bounds the configuration of one resource, names and values together, so
// that its record stays far below what the ensemble takes.
const maxConfigBytes = 128 << 10

// Planner turns requests and events into changes of the ensemble's keys. It reads the
// state, which its owner keeps up to date, and writes nothing.
type Planner struct {
	rules Rules
	st    *meta.State
	keys  meta.Keys
}

// NewPlanner returns a planner on a state.
func NewPlanner(st *meta.State, rules Rules) *Planner {
	return &Planner{rules: rules.withDefaults(), st: st, keys: st.Keys()}
}

// Write replaces the value of one key.
type Write struct {
	Key string
	// Value is one of meta's records or a *meta.PartitionState; nil deletes the key.
	Value any
}

// Change is a set of writes that take effect together.
type Change struct {
	Writes []Write
	// Note, if not empty, is worth a warning in the log once the change is made.
	Note string
}

// maxOps is how full a transaction is made: conditions or operations, whichever are
// more. The rest up to etcd's limit is reserve.
const maxOps = 120

func (c *Change) put(key string, v any) { c.Writes = append(c.Writes, Write{Key: key, Value: v}) }
func (c *Change) remove(key string)     { c.Writes = append(c.Writes, Write{Key: key}) }

// Guards are the brokers that have a role by the change, sorted: their brokers/state must still
// be what the plan was made on, so that a broker fenced in the meantime is not elected.
func (c *Change) Guards() []model.BrokerID {
	seen := map[model.BrokerID]bool{}
	for _, w := range c.Writes {
		guards(w, seen)
	}
	return slices.Sorted(maps.Keys(seen))
}

func guards(w Write, seen map[model.BrokerID]bool) {
	if ps, ok := w.Value.(*meta.PartitionState); ok {
		for _, pair := range ps.ISR {
			seen[pair.ID] = true
		}
	}
}

// size is how many conditions or operations a change needs, the controller's included.
func (c *Change) size() int { return 1 + len(c.Writes) + len(c.Guards()) }

// split cuts independent writes into changes that fit a transaction each.
func split(writes []Write) []Change {
	var out []Change
	var c Change
	seen := map[model.BrokerID]bool{}
	for _, w := range writes {
		guards(w, seen)
		if len(c.Writes) > 0 && 1+len(c.Writes)+1+len(seen) > maxOps {
			out, c = append(out, c), Change{}
			clear(seen)
			guards(w, seen)
		}
		c.Writes = append(c.Writes, w)
	}
	if len(c.Writes) > 0 {
		out = append(out, c)
	}
	return out
}

// activeBrokers returns the brokers that may be given partitions, sorted.
func (p *Planner) activeBrokers() []model.BrokerID {
	var ids []model.BrokerID
	for id, s := range p.st.BrokerStates {
		if s.Status == meta.BrokerActive {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// active says whether the pair may be elected or added to an ISR.
func (p *Planner) active(pair model.Pair) bool {
	s := p.st.BrokerStates[pair.ID]
	return s != nil && s.Status == meta.BrokerActive && s.Epoch == pair.Epoch
}

// live says whether the pair is present: active, or draining.
func (p *Planner) live(pair model.Pair) bool {
	have, ok := p.st.LivePair(pair.ID)
	return ok && have == pair
}

// minISR is the effective min.insync.replicas of a topic with that own config and
// replication factor: topic, dynamic cluster-wide, static, else derived.
func (p *Planner) minISR(config map[string]string, rf int) int32 {
	for _, c := range []map[string]string{config, p.st.Config(meta.ResourceBroker, "")} {
		if v, err := strconv.ParseInt(strings.TrimSpace(c[keyMinISR]), 10, 32); err == nil && v > 0 {
			return min(int32(v), int32(rf))
		}
	}
	v := p.rules.MinISR
	if v <= 0 {
		v = int32(min(2, max(1, rf-1)))
	}
	return min(v, int32(rf))
}

// flushPolicy is the effective kalda.flush.policy in the same order.
func (p *Planner) flushPolicy(config map[string]string, rf int) string {
	for _, c := range []map[string]string{config, p.st.Config(meta.ResourceBroker, "")} {
		if v := strings.TrimSpace(c[keyFlushPolicy]); v == "os" || v == "commit" {
			return v
		}
	}
	switch {
	case p.rules.FlushPolicy != "":
		return p.rules.FlushPolicy
	case rf == 1:
		return model.FlushCommit.String() // there is no other copy
	}
	return model.FlushOS.String()
}

const (
	keyMinISR      = "min.insync.replicas"
	keyFlushPolicy = "kalda.flush.policy"
	// keyCleanupPolicy is fixed for internal topics.
	keyCleanupPolicy = "cleanup.policy"
)
