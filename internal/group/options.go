package group

import (
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

// Options are the settings of the group coordinator. The zero value of a field means
// the default, which is Kafka's, unless the field says otherwise.
type Options struct {
	// MinSessionTimeout is group.min.session.timeout.ms (6 s).
	MinSessionTimeout time.Duration
	// MaxSessionTimeout is group.max.session.timeout.ms (30 min).
	MaxSessionTimeout time.Duration
	// InitialRebalanceDelay is group.initial.rebalance.delay.ms: how long a group that
	// was empty waits for more members. Zero means not at all; Kafka's default of 3 s
	// comes from the config table, not from here.
	InitialRebalanceDelay time.Duration
	// NewMemberJoinTimeout is how long a member that has no id yet may wait in JoinGroup
	// before it is taken for dead (5 min, a constant in Kafka).
	NewMemberJoinTimeout time.Duration
	// MaxSize is group.max.size, the most members of one group (2^31-1).
	MaxSize int
	// MaxMetadataBytes is offset.metadata.max.bytes, the longest metadata of one
	// committed offset (4096).
	MaxMetadataBytes int
	// MaxMemberBytes bounds what one JoinGroup may make the coordinator keep: ids,
	// protocols and their metadata (1 MiB).
	MaxMemberBytes int
	// MaxGroupBytes bounds the same of all members of a group, and its assignments
	// (8 MiB). The group's record is never longer.
	MaxGroupBytes int
	// OffsetsRetention is offsets.retention.minutes (7 days).
	OffsetsRetention time.Duration
	// RetentionCheckInterval is offsets.retention.check.interval.ms (10 min).
	RetentionCheckInterval time.Duration
	// NewID makes the unique end of a member id. Required.
	NewID func() string
	// TopicPartitions says how many partitions a topic has, 0 when there is none; it
	// only serves the reasons in the rebalance history. nil leaves them out.
	TopicPartitions func(topic string) int32
	// Admit says why a partition of the offsets topic takes no records for now, for want of
	// room; nil takes it to have room always. Requests that lead to records are refused then,
	// before they change a group; heartbeats and questions go on.
	Admit func(partition int32) error
	// TopicID returns the id of a topic in an image that is at least as new as the shard's
	// election, zero when there is none; nil takes each to exist. It serves to remove, once a
	// shard is loaded, the offsets of topics whose deletion no coordinator has lived to see.
	TopicID func(topic string) model.TopicID
	// MaxTotalBytes bounds what all groups of the broker take in memory, offsets included
	// (512 MiB). What is in the log already is loaded in any case.
	MaxTotalBytes int64

	// budget counts against MaxTotalBytes. All shards of a Service share it.
	budget *budget
}

func (o Options) withDefaults() Options {
	if o.MinSessionTimeout == 0 {
		o.MinSessionTimeout = 6 * time.Second
	}
	if o.MaxSessionTimeout == 0 {
		o.MaxSessionTimeout = 30 * time.Minute
	}
	if o.NewMemberJoinTimeout == 0 {
		o.NewMemberJoinTimeout = 5 * time.Minute
	}
	if o.MaxSize == 0 {
		o.MaxSize = 1<<31 - 1
	}
	if o.MaxMetadataBytes == 0 {
		o.MaxMetadataBytes = 4096
	}
	if o.MaxMemberBytes == 0 {
		o.MaxMemberBytes = 1 << 20
	}
	if o.MaxGroupBytes == 0 {
		o.MaxGroupBytes = 8 << 20
	}
	if o.OffsetsRetention == 0 {
		o.OffsetsRetention = 7 * 24 * time.Hour
	}
	if o.RetentionCheckInterval == 0 {
		o.RetentionCheckInterval = 10 * time.Minute
	}
	if o.TopicPartitions == nil {
		o.TopicPartitions = func(string) int32 { return 0 }
	}
	if o.MaxTotalBytes == 0 {
		o.MaxTotalBytes = 512 << 20
	}
	if o.budget == nil {
		o.budget = &budget{max: o.MaxTotalBytes}
	}
	return o
}
