package coordinator

import (
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
)

// Now is the time of one step, as the shell read it.
type Now struct {
	// Boot is model.Clock.Boot; deadlines are points on it.
	Boot time.Duration
	// Wall is the calendar time, for record timestamps and retention.
	Wall time.Time
}

// Call is one request on its way through a shard.
type Call interface {
	// Release sends the answer that the core has put into the call.
	Release()
	// Fail sends err instead of an answer. err is or wraps a kerr error.
	Fail(err error)
}

// Effects are what a step wants done. Records are appended in order before any of the
// replies is released.
type Effects[C Call] struct {
	Records []record.Record
	Replies []C
}

// Core is the state machine of a shard. It is pure: no clock, lock, goroutine, file or
// socket of its own.
type Core[C Call] interface {
	// Replay applies one record of the log. r and its bytes are valid during the call
	// only. An error means that the record was not understood and not applied.
	Replay(r *record.Record) error
	// Loaded is called once after the last Replay and before the first Step.
	Loaded(now Now, out *Effects[C])
	// Step handles one call: now, or later by keeping it.
	Step(now Now, call C, out *Effects[C])
	// Wake handles what is due at now.
	Wake(now Now, out *Effects[C])
	// Deadline is when Wake wants to be called next, on the scale of Now.Boot; false
	// for never.
	Deadline() (time.Duration, bool)
	// Parked returns the calls that the core has kept; it is called once, at its end.
	Parked() []C
}

// Log is one partition, led by this broker at one leader epoch.
type Log interface {
	// Append writes b, whose offsets and leader epoch it stamps in place, if this broker
	// still leads at that epoch, and returns the offset of its last record. Errors are
	// kerr errors; NotLeaderOrFollower means that leadership is lost for good.
	Append(b record.Batch) (last model.Offset, err error)
	// NotifyCommitted calls done once: with nil when the high watermark has passed
	// offset upTo in this leader epoch, with an error when leadership is lost. It may
	// call done before it returns; done does not block.
	NotifyCommitted(upTo model.Offset, done func(error))
	// Read copies whole batches from the one that holds offset from, committed or not,
	// and returns the offset after them. At the log end n is 0. When the first batch is
	// longer than buf it returns io.ErrShortBuffer.
	Read(from model.Offset, buf []byte) (n int, next model.Offset, err error)
	// StartOffset is the first offset that can be read.
	StartOffset() model.Offset
	// EndOffset is the log end offset.
	EndOffset() model.Offset
}

// PartitionOf returns the partition of an internal topic that owns a group id or a
// transactional id: Java's String.hashCode over UTF-16 units, without its sign, modulo
// the number of partitions. Frozen: changing it would lose every group.
func PartitionOf(key string, partitions int32) int32 {
	var h int32
	for _, r := range key {
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + (0xd800 + r>>10)
			h = 31*h + (0xdc00 + r&0x3ff)
			continue
		}
		h = 31*h + r
	}
	return (h & 0x7fffffff) % partitions
}
