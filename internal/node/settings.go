package node

import (
	"math"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/storage"
)

// dynamic are the dynamic broker configs of an image for one broker.
func dynamic(im *meta.Image, id model.BrokerID) config.Dynamic {
	return config.Dynamic{Default: im.BrokerConfigs[""], Broker: im.BrokerConfigs[brokerName(id)]}
}

// merged lays the values of one broker over those of all.
func merged(d config.Dynamic) map[string]string {
	if len(d.Default) == 0 {
		return d.Broker
	}
	m := make(map[string]string, len(d.Default)+len(d.Broker))
	for k, v := range d.Default {
		m[k] = v
	}
	for k, v := range d.Broker {
		m[k] = v
	}
	return m
}

// topicSettings yields what a topic's configuration means for its partitions here.
func topicSettings(current func() *config.Config, id model.BrokerID) func(*meta.Image, *meta.Topic) (replica.Settings, error) {
	return func(im *meta.Image, t *meta.Topic) (replica.Settings, error) {
		d, cfg := dynamic(im, id), current()
		o, err := cfg.Topic(t.Config, merged(d))
		if err != nil {
			return replica.Settings{}, err
		}
		b, err := cfg.BrokerDynamic(d)
		if err != nil {
			return replica.Settings{}, err
		}
		return settingsOf(o, b), nil
	}
}

func settingsOf(o config.TopicOptions, b config.BrokerOptions) replica.Settings {
	target, _ := record.TargetFor(o.CompressionType) // the table lets no other value pass
	target.Levels = record.Levels{Gzip: o.GzipLevel, LZ4: o.LZ4Level, Zstd: o.ZstdLevel}
	target.MaxDecompressed = o.MaxDecompressedBytes
	s := replica.Settings{
		Storage: storage.Options{
			SegmentBytes:         o.SegmentBytes,
			SegmentAge:           o.SegmentAge,
			IndexIntervalBytes:   o.IndexIntervalBytes,
			SegmentIndexBytes:    o.SegmentIndexBytes,
			RetentionBytes:       o.RetentionBytes,
			Retention:            o.Retention,
			Delete:               o.CleanupPolicy.Delete,
			ProducerIDExpiration: b.ProducerIDExpiration,
		},
		Validate: record.ValidateOptions{
			MaxBatchBytes:   o.MaxMessageBytes,
			LogAppendTime:   o.TimestampType == "LogAppendTime",
			CheckTimestamps: true,
			BeforeMs:        o.TimestampBeforeMax.Milliseconds(),
			AfterMs:         o.TimestampAfterMax.Milliseconds(),
			CheckRecords:    true,
			RequireKeys:     o.CleanupPolicy.Compact,
		},
		Target:        target,
		SegmentJitter: o.SegmentJitter,
		FlushMessages: o.FlushMessages,
		FlushInterval: o.FlushInterval,
		Compaction: replica.Compaction{
			Enabled:         o.CleanupPolicy.Compact,
			MinDirtyRatio:   o.MinCleanableDirtyRatio,
			MinLag:          o.MinCompactionLag,
			MaxLag:          o.MaxCompactionLag,
			DeleteRetention: o.DeleteRetention,
		},
	}
	if o.MaxCompactionLag == math.MaxInt64 {
		s.Compaction.MaxLag = 0 // none
	}
	if o.Retention == 0 {
		s.Storage.Retention = 1 // at once; 0 would mean the default
	}
	return s
}

// cleanerSettings are the broker's own settings of compaction.
func cleanerSettings(o config.CleanerOptions) replica.CleanerSettings {
	return replica.CleanerSettings{
		Enabled: o.Enabled, Threads: o.Threads, Backoff: o.Backoff, DedupeBytes: o.DedupeBytes, LoadFactor: o.LoadFactor,
		BufferBytes: o.BufferBytes, BytesPerSecond: o.BytesPerSecond,
	}
}
