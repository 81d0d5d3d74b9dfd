package config

import (
	"time"

	"github.com/kalda-io/kalda/kerr"
)

// TopicOptions are the effective settings of one topic, typed.
type TopicOptions struct {
	// CleanupPolicy says what happens to old segments.
	CleanupPolicy CleanupPolicy
	// CompressionType is the stored codec; "producer" keeps the producer's.
	CompressionType string
	// GzipLevel, LZ4Level and ZstdLevel are the efforts of the stored codec.
	GzipLevel, LZ4Level, ZstdLevel int
	// MaxMessageBytes bounds one batch as it is sent and as it is stored;
	// MaxDecompressedBytes what one that the broker unpacks may unpack to.
	MaxMessageBytes, MaxDecompressedBytes int
	// MinInsyncReplicas that acks=all needs, at least 1; 0 is unset: it follows the
	// replication factor.
	MinInsyncReplicas int32
	// FlushPolicy is "os" or "commit"; "" is unset: it follows the replication factor.
	FlushPolicy string
	// FlushMessages and FlushInterval force a flush; the largest values mean never.
	FlushMessages int64
	FlushInterval time.Duration
	// Retention is the age at which closed segments go; below 0 never.
	Retention time.Duration
	// RetentionBytes bounds the partition; below 0 is no bound. Never 0: retention.bytes=0
	// is 1, which keeps the open segment as well and is not taken for "unset" further down.
	RetentionBytes int64
	// MinCleanableDirtyRatio is the share of dirty bytes above which the log is compacted.
	MinCleanableDirtyRatio float64
	// MinCompactionLag is how long a record stays as it was written, MaxCompactionLag how
	// long it may wait for compaction; the largest Duration means any.
	MinCompactionLag, MaxCompactionLag time.Duration
	// DeleteRetention is how long a tombstone stays after its first compaction.
	DeleteRetention time.Duration
	// SegmentBytes and SegmentAge close a segment; SegmentJitter is the largest random time
	// taken off SegmentAge.
	SegmentBytes              int64
	SegmentAge, SegmentJitter time.Duration
	// SegmentIndexBytes is the size of an index at which its segment is closed.
	SegmentIndexBytes int
	// IndexIntervalBytes is the log between two index entries.
	IndexIntervalBytes int
	// TimestampType is "CreateTime" or "LogAppendTime".
	TimestampType string
	// TimestampBeforeMax and TimestampAfterMax bound the distance of a record's time from
	// now, at least 0; the largest Duration means any.
	TimestampBeforeMax, TimestampAfterMax time.Duration
}

// CleanupPolicy is cleanup.policy as flags; at least one is set.
type CleanupPolicy struct {
	Delete, Compact bool
}

func topicBindings() []binding[TopicOptions] {
	type o = TopicOptions
	return []binding[o]{
		{"cleanup.policy", "CleanupPolicy", func(o *o, v Value) {
			o.CleanupPolicy = CleanupPolicy{}
			for _, p := range v.list {
				o.CleanupPolicy.Delete = o.CleanupPolicy.Delete || p == "delete"
				o.CleanupPolicy.Compact = o.CleanupPolicy.Compact || p == "compact"
			}
		}},
		{"compression.type", "CompressionType", func(o *o, v Value) { o.CompressionType = v.Text }},
		{"compression.gzip.level", "GzipLevel", func(o *o, v Value) { o.GzipLevel = v.Int() }},
		{"compression.lz4.level", "LZ4Level", func(o *o, v Value) { o.LZ4Level = v.Int() }},
		{"compression.zstd.level", "ZstdLevel", func(o *o, v Value) { o.ZstdLevel = v.Int() }},
		{"max.decompressed.message.bytes", "MaxDecompressedBytes", func(o *o, v Value) { o.MaxDecompressedBytes = v.Int() }},
		{"max.message.bytes", "MaxMessageBytes", func(o *o, v Value) { o.MaxMessageBytes = v.Int() }},
		{"min.insync.replicas", "MinInsyncReplicas", func(o *o, v Value) { o.MinInsyncReplicas = v.Int32() }},
		{"kalda.flush.policy", "FlushPolicy", func(o *o, v Value) { o.FlushPolicy = v.Text }},
		{"flush.messages", "FlushMessages", func(o *o, v Value) { o.FlushMessages = v.Int64() }},
		{"flush.ms", "FlushInterval", func(o *o, v Value) { o.FlushInterval = v.Duration() }},
		{"retention.ms", "Retention", func(o *o, v Value) { o.Retention = v.Duration() }},
		{"retention.bytes", "RetentionBytes", func(o *o, v Value) { o.RetentionBytes = atLeastOneByte(v.Int64()) }},
		{"min.cleanable.dirty.ratio", "MinCleanableDirtyRatio", func(o *o, v Value) { o.MinCleanableDirtyRatio = v.Float() }},
		{"min.compaction.lag.ms", "MinCompactionLag", func(o *o, v Value) { o.MinCompactionLag = v.Duration() }},
		{"max.compaction.lag.ms", "MaxCompactionLag", func(o *o, v Value) { o.MaxCompactionLag = v.Duration() }},
		{"delete.retention.ms", "DeleteRetention", func(o *o, v Value) { o.DeleteRetention = v.Duration() }},
		{"segment.bytes", "SegmentBytes", func(o *o, v Value) { o.SegmentBytes = v.Int64() }},
		{"segment.ms", "SegmentAge", func(o *o, v Value) { o.SegmentAge = v.Duration() }},
		{"segment.jitter.ms", "SegmentJitter", func(o *o, v Value) { o.SegmentJitter = v.Duration() }},
		{"segment.index.bytes", "SegmentIndexBytes", func(o *o, v Value) { o.SegmentIndexBytes = v.Int() }},
		{"index.interval.bytes", "IndexIntervalBytes", func(o *o, v Value) { o.IndexIntervalBytes = v.Int() }},
		{"message.timestamp.type", "TimestampType", func(o *o, v Value) { o.TimestampType = v.Text }},
		{"message.timestamp.before.max.ms", "TimestampBeforeMax", func(o *o, v Value) { o.TimestampBeforeMax = v.Duration() }},
		{"message.timestamp.after.max.ms", "TimestampAfterMax", func(o *o, v Value) { o.TimestampAfterMax = v.Duration() }},
	}
}

func atLeastOneByte(n int64) int64 {
	if n == 0 {
		return 1
	}
	return n
}

// Topic returns the effective settings of a topic. overrides are its own; dynamicBroker
// are the dynamic broker values that hold here, those of all brokers with those of this
// one on top. A value that does not parse is INVALID_CONFIG, and the options are then
// those without the bad key's dynamic values.
func (c *Config) Topic(overrides, dynamicBroker map[string]string) (TopicOptions, error) {
	var o TopicOptions
	err := bind(c, topicTable, topicBindings(), &o, []layer{{FromResource, overrides}, {FromDynamicBroker, dynamicBroker}})
	if err != nil {
		return o, kerr.With(kerr.InvalidConfig, "%s", err)
	}
	return o, nil
}

// Check says whether the settings go together: nil or INVALID_CONFIG. Kafka:
// LogConfig.validateTopicLogConfigValues.
func (o *TopicOptions) Check() error {
	if o.MinCompactionLag > o.MaxCompactionLag {
		return kerr.With(kerr.InvalidConfig, "min.compaction.lag.ms is %d, more than max.compaction.lag.ms with %d",
			o.MinCompactionLag.Milliseconds(), o.MaxCompactionLag.Milliseconds())
	}
	return nil
}

// ValidateTopic says whether a client may set a topic's key to value: nil or INVALID_CONFIG
// with a message for the client. Internal topics are ours and not checked by this; see
// NormalizeTopic.
func ValidateTopic(key, value string) error {
	_, err := NormalizeTopic(key, value, false)
	return err
}

// NormalizeTopic checks a topic's setting and returns the canonical value, the one to
// store. internal lifts the limits of this version on values (compaction), which internal
// topics may use. Errors are INVALID_CONFIG with a message for the client.
func NormalizeTopic(key, value string, internal bool) (string, error) {
	return topicTable.normalize("topic", key, value, internal)
}

// NormalizeGroup is NormalizeTopic for keys of groups; this version has none.
func NormalizeGroup(key, value string) (string, error) {
	return groupTable.normalize("group", key, value, false)
}

// normalize is the check of resource keys. Ignored keys pass, so that tools that always
// send them work and the values are there once the feature is.
func (t *table) normalize(kind, key, value string, internal bool) (string, error) {
	k := t.byName[key]
	if k == nil {
		if near := t.nearest(key); near != "" {
			return "", kerr.With(kerr.InvalidConfig, "unknown %s config %s; did you mean %s?", kind, key, near)
		}
		return "", kerr.With(kerr.InvalidConfig, "unknown %s config %s", kind, key)
	}
	if k.Status == NotBuilt || k.Status == Refused {
		return "", kerr.With(kerr.InvalidConfig, "%s is not available in this version: %s", key, k.Instead)
	}
	v, err := k.Parse(value)
	if err != nil {
		return "", kerr.With(kerr.InvalidConfig, "%s: %s", key, err)
	}
	if !internal {
		if err := k.checkLater(v); err != nil {
			return "", kerr.With(kerr.InvalidConfig, "%s", err)
		}
	}
	return v.Text, nil
}

// ValidateBrokerDynamic says whether a broker key may be set to value while brokers run,
// on one broker (perBroker) or on all: nil or INVALID_CONFIG with a message for the client.
func ValidateBrokerDynamic(key, value string, perBroker bool) error {
	_, err := NormalizeBrokerDynamic(key, value, perBroker)
	return err
}

// NormalizeBrokerDynamic is ValidateBrokerDynamic and returns the canonical value. Keys
// that have no effect are refused rather than stored: a change that a tool reports as
// done must be one.
func NormalizeBrokerDynamic(key, value string, perBroker bool) (string, error) {
	k, _, ok := lookupBroker(key)
	if !ok {
		return brokerTable.normalize("broker", key, value, false)
	}
	switch {
	case k.Status == Ignored:
		return "", kerr.With(kerr.InvalidConfig, "%s has no effect here: %s", key, k.Instead)
	case k.Status != Honoured:
		return "", kerr.With(kerr.InvalidConfig, "%s is not available in this version: %s", key, k.Instead)
	case k.Update == ReadOnly:
		return "", kerr.With(kerr.InvalidConfig, "%s cannot change while the broker runs; set it in the configuration and restart", key)
	case perBroker && k.ofCluster():
		return "", kerr.With(kerr.InvalidConfig, "%s cannot be set for a single broker: the controller plans by it; leave the broker out", key)
	case k.Update == PerBroker && !perBroker:
		return "", kerr.With(kerr.InvalidConfig, "%s can be set for single brokers only", key)
	}
	return brokerTable.normalize("broker", key, value, false)
}

// ofCluster says that the controller alone reads the key, so that a value of one broker's
// own would have no effect.
func (k *Key) ofCluster() bool {
	return k.Name == "kalda.flush.policy" || k.Name == "min.insync.replicas"
}
