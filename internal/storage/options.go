package storage

import (
	"math"
	"time"
)

// Options are the settings of one log. The zero value of a field means its default
// unless the comment says otherwise. They may change while the log is open: SetOptions.
type Options struct {
	// SegmentBytes closes a segment before it would grow larger (segment.bytes;
	// default 1 GiB, largest 2 GiB - 1). A batch larger than that is refused.
	SegmentBytes int64
	// SegmentAge closes a segment when a batch is that much younger than the segment's
	// first, by the records' timestamps (segment.ms; default 7 days).
	SegmentAge time.Duration
	// IndexIntervalBytes is how much log lies at least between two index entries
	// (index.interval.bytes; default 4096).
	IndexIntervalBytes int
	// SegmentIndexBytes is the size at which an index is full, which closes the segment
	// (segment.index.bytes; default 10 MiB).
	SegmentIndexBytes int
	// RetentionBytes is the size that DeleteOld keeps (retention.bytes). Negative: no
	// limit; so is 0, the default. An operator's explicit 0 (keep nothing) is 1 here.
	RetentionBytes int64
	// Retention is how long DeleteOld keeps records (retention.ms; default 7 days).
	// Negative: for ever. An operator's explicit 0 is one nanosecond here.
	Retention time.Duration
	// Delete says that cleanup.policy has delete. Without it DeleteOld removes only what
	// lies below the log start.
	Delete bool
	// ProducerIDExpiration is how long the state of a silent idempotent producer is kept
	// (producer.id.expiration.ms; default 24 hours).
	ProducerIDExpiration time.Duration
	// MapAfter is after how many small writes in a row the log is written through memory
	// (default 32; negative: never). See tail.go.
	MapAfter int
	// ExtendAfter is after how many bytes of larger writes the active segment is extended
	// ahead of them (default 1 MiB; negative: never).
	ExtendAfter int64
	// AheadBytes is how far the active segment is prewritten with zeros for both (default
	// 256 KiB).
	AheadBytes int
}

// minSegmentBytes is Kafka's smallest segment.bytes of old; tests use small segments.
const minSegmentBytes = 14

func (o Options) withDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 1 << 30
	}
	o.SegmentBytes = max(minSegmentBytes, min(o.SegmentBytes, math.MaxInt32)) // positions are int32 in the index
	if o.SegmentAge <= 0 {
		o.SegmentAge = 7 * 24 * time.Hour
	}
	if o.IndexIntervalBytes <= 0 {
		o.IndexIntervalBytes = 4096
	}
	if o.SegmentIndexBytes <= 0 {
		o.SegmentIndexBytes = 10 << 20
	}
	o.SegmentIndexBytes = max(o.SegmentIndexBytes, 2*timeEntryLen)
	if o.RetentionBytes == 0 {
		o.RetentionBytes = -1
	}
	if o.Retention == 0 {
		o.Retention = 7 * 24 * time.Hour
	}
	if o.ProducerIDExpiration <= 0 {
		o.ProducerIDExpiration = 24 * time.Hour
	}
	if o.MapAfter == 0 {
		o.MapAfter = defaultMapAfter
	}
	if o.ExtendAfter == 0 {
		o.ExtendAfter = defaultExtendAfter
	}
	if o.AheadBytes <= 0 {
		o.AheadBytes = defaultAheadBytes
	}
	return o
}
