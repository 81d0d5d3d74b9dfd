package replica

import (
	"errors"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/kerr"
)

// ReadResult is what a consumer may read from a partition now.
type ReadResult struct {
	// HighWatermark bounds what is committed; LastStable is the same until there are
	// transactions. LogStart is the first offset kept.
	HighWatermark, LastStable, LogStart model.Offset
	// View holds whole batches; release it after use.
	View storage.View
	// Diverging is set when the reader's last fetched epoch ended earlier here: its log
	// and ours differ from DivergingEnd on (KIP-595 field, used by KIP-320 clients).
	Diverging      bool
	DivergingEpoch model.LeaderEpoch
	DivergingEnd   model.Offset
}

// ReadArgs says what to read.
type ReadArgs struct {
	From model.Offset
	// CurrentEpoch is the reader's idea of the leader epoch, LastEpoch that of the last
	// record it has; NoLeaderEpoch for unknown.
	CurrentEpoch, LastEpoch model.LeaderEpoch
	MaxBytes                int
	// MinOne returns the first batch even if it is larger than MaxBytes (KIP-74).
	MinOne bool
}

// Read gives what is committed from a.From on. Errors: NOT_LEADER_OR_FOLLOWER,
// FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, OFFSET_OUT_OF_RANGE (with the watermarks
// filled), KAFKA_STORAGE_ERROR. An offset between the watermark and the log end reads
// nothing and is no error: the record may become visible any moment.
func (p *Partition) Read(a ReadArgs) (ReadResult, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkEpochLocked(a.CurrentEpoch); err != nil {
		return ReadResult{}, err
	}
	p.mu.used = true
	r := ReadResult{
		HighWatermark: p.mu.state.HighWatermark(),
		LastStable:    p.mu.state.HighWatermark(),
		LogStart:      p.mu.log.StartOffset(),
	}
	if a.LastEpoch >= 0 {
		if e, end := p.mu.log.EpochEnd(a.LastEpoch); e != model.NoLeaderEpoch && (e < a.LastEpoch || end < a.From) {
			r.Diverging, r.DivergingEpoch, r.DivergingEnd = true, e, end
			return r, nil
		}
	}
	if a.From < r.LogStart || a.From > p.mu.log.EndOffset() {
		return r, kerr.OffsetOutOfRange
	}
	if a.From >= r.HighWatermark || a.MaxBytes <= 0 && !a.MinOne {
		return r, nil
	}
	v, err := p.mu.log.Read(a.From, r.HighWatermark, a.MaxBytes, a.MinOne)
	if err != nil {
		return r, p.failedLocked("read", err)
	}
	r.View = v
	return r, nil
}

// ReadFailed tells the partition that a View of its log could not be read.
func (p *Partition) ReadFailed(err error) {
	if !errors.Is(err, storage.ErrTruncated) {
		p.m.o.Logger.Error("a log cannot be read", "partition", p.TP.String(), "err", err)
	}
	p.dir.saw(err)
}

// Watch registers w: owner hears of slot whenever more can be read from a.From. It
// returns the bytes that can be read already, -1 if the partition must be read at once
// to learn an error. Unwatch ends it.
func (p *Partition) Watch(w *FetchWatch, owner FetchOwner, slot int, a ReadArgs) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.checkEpochLocked(a.CurrentEpoch) != nil || a.From < p.mu.log.StartOffset() || a.From > p.mu.log.EndOffset() {
		return -1
	}
	w.owner, w.slot, w.from, w.maxBytes = owner, slot, a.From, a.MaxBytes
	p.mu.fetches.add(w)
	return p.availableLocked(a.From, a.MaxBytes)
}

// Unwatch undoes Watch; without one it does nothing.
func (p *Partition) Unwatch(w *FetchWatch) {
	p.mu.Lock()
	p.mu.fetches.remove(w)
	p.mu.Unlock()
}

// availableLocked is how many bytes a read from that offset gives, -1 if it fails.
func (p *Partition) availableLocked(from model.Offset, maxBytes int) int {
	hw := p.mu.state.HighWatermark()
	if from >= hw {
		return 0
	}
	v, err := p.mu.log.Read(from, hw, maxBytes, true)
	if err != nil {
		return -1
	}
	n := v.Len
	v.Release()
	return n
}

func (p *Partition) checkEpochLocked(current model.LeaderEpoch) error {
	if err := p.leadsLocked(); err != nil {
		return err
	}
	if current < 0 {
		return nil
	}
	switch mine := p.mu.state.LeaderEpoch(); {
	case current < mine:
		return kerr.FencedLeaderEpoch
	case current > mine:
		return kerr.UnknownLeaderEpoch
	}
	return nil
}

// The timestamps with a meaning of their own in ListOffsets.
const (
	LatestTimestamp        = -1
	EarliestTimestamp      = -2
	MaxTimestamp           = -3
	EarliestLocalTimestamp = -4
	LatestTieredTimestamp  = -5
)

// OffsetInfo answers a ListOffsets query. Offset and Timestamp are -1 when nothing
// matches.
type OffsetInfo struct {
	Offset    model.Offset
	Timestamp int64
	Epoch     model.LeaderEpoch
}

// ListOffset finds the offset for a timestamp (ms since 1970) or one of the constants
// above: the first record whose timestamp is at least ts.
func (p *Partition) ListOffset(ts int64, current model.LeaderEpoch) (OffsetInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	none := OffsetInfo{Offset: model.NoOffset, Timestamp: -1, Epoch: model.NoLeaderEpoch}
	if err := p.checkEpochLocked(current); err != nil {
		return none, err
	}
	hw := p.mu.state.HighWatermark()
	if hw < p.mu.state.EpochStart() && (ts == LatestTimestamp || ts == MaxTimestamp || ts >= 0) {
		// A new leader does not know yet how far its predecessor had committed.
		return none, kerr.OffsetNotAvailable
	}
	switch ts {
	case LatestTimestamp:
		return OffsetInfo{Offset: hw, Timestamp: -1, Epoch: p.mu.state.LeaderEpoch()}, nil
	case EarliestTimestamp, EarliestLocalTimestamp:
		start := p.mu.log.StartOffset()
		return OffsetInfo{Offset: start, Timestamp: -1, Epoch: p.mu.log.EpochAt(start)}, nil
	case LatestTieredTimestamp:
		return none, nil // nothing is tiered
	case MaxTimestamp:
		at, ok, err := p.mu.log.MaxTimestamp(hw)
		if err != nil {
			return none, p.failedLocked("find the largest timestamp", err)
		}
		if !ok {
			return none, nil
		}
		return OffsetInfo(at), nil
	}
	if ts < 0 {
		return none, kerr.With(kerr.UnsupportedVersion, "timestamp %d has no meaning here", ts)
	}
	at, ok, err := p.mu.log.OffsetForTimestamp(ts, hw)
	if err != nil {
		return none, p.failedLocked("find a timestamp", err)
	}
	if !ok {
		return none, nil
	}
	return OffsetInfo(at), nil
}

// EpochEnd answers OffsetForLeaderEpoch (KIP-101, KIP-279): the largest epoch not above
// epoch that the log knows, and where it ends.
func (p *Partition) EpochEnd(epoch, current model.LeaderEpoch) (model.LeaderEpoch, model.Offset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkEpochLocked(current); err != nil {
		return model.NoLeaderEpoch, model.NoOffset, err
	}
	if epoch == p.mu.state.LeaderEpoch() {
		return epoch, p.mu.log.EndOffset(), nil
	}
	e, end := p.mu.log.EpochEnd(epoch)
	return e, end, nil
}

// DeleteRecords moves the log's start to before (-1: the high watermark) and returns
// the new start. Moving it beyond the watermark is OFFSET_OUT_OF_RANGE; moving it back
// changes nothing. A topic that only compaction may take records from refuses with
// POLICY_VIOLATION, internal ones among them (Kafka: Partition.deleteRecordsOnLeader).
func (p *Partition) DeleteRecords(before model.Offset) (model.Offset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.leadsLocked(); err != nil {
		return model.NoOffset, err
	}
	if s := p.settings.Load(); s.Compaction.Enabled && !s.Storage.Delete {
		return model.NoOffset, kerr.With(kerr.PolicyViolation, "%s is compacted: cleanup.policy lets no records be deleted", p.TP)
	}
	hw := p.mu.state.HighWatermark()
	if before == -1 {
		before = hw
	}
	if before < 0 || before > hw {
		return model.NoOffset, kerr.With(kerr.OffsetOutOfRange, "offset %d is not between 0 and the high watermark %d", before, hw)
	}
	if before > p.mu.log.StartOffset() {
		if err := p.mu.log.AdvanceStart(before); err != nil {
			return model.NoOffset, p.failedLocked("delete records", err)
		}
		p.wakeFetchesLocked()
	}
	return p.mu.log.StartOffset(), nil
}

// Stats are the figures of one partition for describe calls and metrics.
type Stats struct {
	Leader                          bool
	LeaderEpoch                     model.LeaderEpoch
	LogStart, HighWatermark, LogEnd model.Offset
	Flushed                         model.Offset
	// Bytes is the size of the segments.
	Bytes int64
	// Producers is the number of idempotent producers that are remembered.
	Producers int
	Offline   error
}

// Stats returns the partition's present figures.
func (p *Partition) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Offline: p.mu.offline, HighWatermark: p.mu.state.HighWatermark()}
	if p.mu.removed {
		return s
	}
	s.Leader = p.leadsLocked() == nil
	s.LeaderEpoch = p.mu.state.LeaderEpoch()
	s.LogStart, s.LogEnd, s.Flushed = p.mu.log.StartOffset(), p.mu.log.EndOffset(), p.mu.log.FlushedOffset()
	s.Bytes, s.Producers = p.mu.log.Size(), p.mu.log.Producers()
	return s
}
