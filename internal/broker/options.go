package broker

import (
	"context"
	"log/slog"
	"strconv"

	"github.com/kalda-io/kalda/internal/group"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/wheel"
)

// Options are what a broker works with; package node fills them.
type Options struct {
	// NodeID is this broker's id.
	NodeID model.BrokerID
	// Image returns the cluster image that this broker serves from.
	Image func() *meta.Image
	// WaitApplied waits until Image and the partitions have that revision.
	WaitApplied func(ctx context.Context, revision int64) error
	// Admin reaches the elected controller.
	Admin meta.Admin
	// AllocateProducerIDs reserves a block of producer ids in the ensemble.
	AllocateProducerIDs func(ctx context.Context) (first model.ProducerID, count int64, err error)
	// Replicas are the partitions held here.
	Replicas *replica.Manager
	// Advertised says that advertised.listeners is set, so that clients are always told
	// registered addresses.
	Advertised bool
	// AutoCreateTopics is auto.create.topics.enable, DeleteTopics delete.topic.enable.
	AutoCreateTopics, DeleteTopics func() bool
	// Groups is the group coordinator.
	Groups *group.Service
	// OffsetsPartitions is offsets.topic.num.partitions (50), OffsetsSegmentBytes
	// offsets.topic.segment.bytes (100 MiB).
	// OffsetsReplicationFactor is offsets.topic.replication.factor, 0 if unset.
	OffsetsPartitions        int32
	OffsetsSegmentBytes      int
	OffsetsReplicationFactor int16
	// MaxTopicPartitions is max.request.partition.size.limit (2000): the bound of one
	// DescribeTopicPartitions answer.
	MaxTopicPartitions int
	// FetchMaxBytes is fetch.max.bytes, the bound of one Fetch answer (55 MiB).
	FetchMaxBytes int
	// FetchSessions is max.incremental.fetch.session.cache.slots (1000).
	FetchSessions int
	// FetchSessionBytes is kalda.fetch.session.max.bytes (256 MiB): the bound of what all
	// fetch sessions remember.
	FetchSessionBytes int
	// Configs answers describe calls; nil describes nothing.
	Configs Configs
	Wheel   *wheel.Wheel
	Clock   model.Clock
	Logger  *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.AutoCreateTopics == nil {
		o.AutoCreateTopics = func() bool { return true }
	}
	if o.DeleteTopics == nil {
		o.DeleteTopics = func() bool { return true }
	}
	if o.OffsetsPartitions == 0 {
		o.OffsetsPartitions = 50
	}
	if o.OffsetsSegmentBytes == 0 {
		o.OffsetsSegmentBytes = 100 << 20
	}
	if o.MaxTopicPartitions == 0 {
		o.MaxTopicPartitions = 2000
	}
	if o.FetchMaxBytes == 0 {
		o.FetchMaxBytes = 55 << 20
	}
	if o.FetchSessions == 0 {
		o.FetchSessions = 1000
	}
	if o.FetchSessionBytes == 0 {
		o.FetchSessionBytes = 256 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// offsetsTopic is how __consumer_offsets is created on first use.
func (b *Broker) offsetsTopic() meta.NewTopic {
	rf := b.o.OffsetsReplicationFactor
	if rf == 0 {
		rf = -1 // as the cluster can
	}
	return meta.NewTopic{
		Name: meta.OffsetsTopic, Partitions: b.o.OffsetsPartitions, ReplicationFactor: rf, Internal: true,
		Config: map[string]string{
			// Compact, and not delete: what would be cut off are groups.
			"cleanup.policy": "compact",
			"segment.bytes":  strconv.Itoa(b.o.OffsetsSegmentBytes), "compression.type": "producer",
		},
	}
}

// nowMs is the calendar time for record timestamps.
func (b *Broker) nowMs() int64 { return b.o.Clock.Wall().UnixMilli() }
