package meta

import (
	"context"

	"github.com/kalda-io/kalda/internal/model"
)

// Admin is what brokers ask of the elected controller, wherever it runs. Errors of one
// item are kerr errors, possibly wrapped with a message that is sent to the client.
// Every call returns the ensemble revision that holds its effects, so that the caller
// can wait until its own Image has it; a call that changed nothing returns 0.
type Admin interface {
	// CreateTopics creates each topic or says why not. With validateOnly nothing is
	// written, but the results are filled as if it had been. If it creates none and
	// some exist already, the revision is one that has those.
	CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) ([]NewTopicResult, int64, error)
	// DeleteTopics deletes topics by id; an id that is not live is UNKNOWN_TOPIC_ID.
	DeleteTopics(ctx context.Context, ids []model.TopicID) ([]error, int64, error)
	// CreatePartitions extends topics to a total count.
	CreatePartitions(ctx context.Context, topics []MorePartitions, validateOnly bool) ([]error, int64, error)
	// AlterConfigs applies config changes, one resource at a time, each all or nothing.
	AlterConfigs(ctx context.Context, changes []ConfigChange, validateOnly bool) ([]error, int64, error)
	// UpdateFeatures finalizes feature levels.
	UpdateFeatures(ctx context.Context, updates []FeatureUpdate, validateOnly bool) ([]error, int64, error)
}

// NewTopic asks for one topic.
type NewTopic struct {
	Name string
	// Partitions is the count; -1 means the default (num.partitions). Ignored with Assignment.
	Partitions int32
	// ReplicationFactor; -1 means the default. Ignored with Assignment.
	ReplicationFactor int16
	// Assignment, if not nil, gives the replicas of each partition.
	Assignment [][]model.BrokerID
	// Config are the topic's own settings.
	Config map[string]string
	// Internal allows the names of internal topics.
	Internal bool
}

// NewTopicResult is what became of one NewTopic.
type NewTopicResult struct {
	Err               error
	ID                model.TopicID
	Partitions        int32
	ReplicationFactor int16
}

// MorePartitions asks to extend one topic.
type MorePartitions struct {
	Topic string
	// Count is the new total.
	Count int32
	// Assignment, if not nil, gives the replicas of each added partition.
	Assignment [][]model.BrokerID
}

// ResourceKind is the kind of a config resource, with the protocol's numbers.
type ResourceKind int8

// The config resources.
const (
	ResourceTopic  ResourceKind = 2
	ResourceBroker ResourceKind = 4
	ResourceGroup  ResourceKind = 32
)

// ConfigOp is what to do with one config key (KIP-339).
type ConfigOp int8

// The operations of IncrementalAlterConfigs.
const (
	ConfigSet      ConfigOp = 0
	ConfigDelete   ConfigOp = 1
	ConfigAppend   ConfigOp = 2
	ConfigSubtract ConfigOp = 3
)

// ConfigChange changes the dynamic configs of one resource.
type ConfigChange struct {
	Kind ResourceKind
	// Name is the topic, the broker id in decimal ("" for all brokers), or the group.
	Name string
	// Replace means that Ops (all ConfigSet) are the whole new config (AlterConfigs);
	// otherwise they are applied one after the other.
	Replace bool
	Ops     []ConfigOpEntry
}

// ConfigOpEntry is one operation on one key. Value is nil for ConfigDelete.
type ConfigOpEntry struct {
	Key   string
	Op    ConfigOp
	Value *string
}

// FeatureUpdate asks for one finalized feature level; 0 removes the feature.
type FeatureUpdate struct {
	Name           string
	Level          int16
	AllowDowngrade bool
}
