package storage

import (
	"errors"
	"fmt"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// AppendArgs are what an append needs to know beside the batch.
type AppendArgs struct {
	// Epoch is the leader epoch to stamp; not below LatestEpoch.
	Epoch model.LeaderEpoch
	// NowMs is the time in ms since 1970, for the expiry of producer ids.
	NowMs int64
	// Client says that the batch comes from a producer: its sequence numbers are checked.
	// Coordinators' own records and markers are not.
	Client bool
	// Through lets a small batch go to the file at once where that is a copy: the log is
	// mapped and nothing is staged. Nothing of it is left to Write then.
	Through bool
}

// AppendResult says where a batch went.
type AppendResult struct {
	// BaseOffset and LastOffset are those of the batch, or of the original if Duplicate.
	BaseOffset, LastOffset model.Offset
	// MaxTimestamp is the largest timestamp of the batch, or of the original.
	MaxTimestamp int64
	// Duplicate: the batch was appended before; nothing was appended now.
	Duplicate bool
}

// Append takes one valid batch (record.Validate) to the log end and stamps base offset
// and leader epoch into it. Small batches are staged until Write, unless a.Through; large
// ones go to the file at once, with all that was staged before. b is not kept.
//
// Errors that leave everything as it was: OUT_OF_ORDER_SEQUENCE_NUMBER,
// INVALID_PRODUCER_EPOCH, RECORD_LIST_TOO_LARGE (larger than a segment),
// FENCED_LEADER_EPOCH. A KAFKA_STORAGE_ERROR can come from the write of earlier batches
// or from closing a segment: then nothing is staged any more, StagedEnd is back at
// EndOffset, and whatever was staged behind EndOffset is not in the log.
func (l *Log) Append(b record.Batch, a AppendArgs) (AppendResult, error) {
	if l.failed != nil {
		return AppendResult{}, l.failed
	}
	if a.Epoch < l.epochs.latest() {
		return AppendResult{}, fmt.Errorf("append to %v at epoch %d behind %d: %w", l.partition, a.Epoch, l.epochs.latest(), kerr.FencedLeaderEpoch)
	}
	if a.Client && b.ProducerID() >= 0 {
		dup, err := l.producers.check(b)
		if err != nil {
			return AppendResult{}, err
		}
		if dup != nil {
			return AppendResult{BaseOffset: dup.last - model.Offset(dup.delta), LastOffset: dup.last, MaxTimestamp: dup.ts, Duplicate: true}, nil
		}
	}
	if int64(len(b)) > l.opts.SegmentBytes {
		return AppendResult{}, kerr.With(kerr.RecordListTooLarge, "batch of %d bytes does not fit a segment of %d (segment.bytes)", len(b), l.opts.SegmentBytes)
	}
	b.SetBaseOffset(l.stagedEnd)
	b.SetLeaderEpoch(a.Epoch)
	return l.add(b, a.NowMs, a.Through)
}

// AppendReplica takes one batch as the leader sent it, with its base offset and epoch.
// Gaps in the offsets are legal (compaction); going back is not: such a batch is refused
// with CORRUPT_MESSAGE and nothing changes. Only into an empty log may the first batch
// begin below the log end, if it reaches it: the leader's log start lies within it. Other
// errors as Append.
func (l *Log) AppendReplica(b record.Batch) (AppendResult, error) {
	if l.failed != nil {
		return AppendResult{}, l.failed
	}
	if b.BaseOffset() < l.end && l.end <= b.LastOffset() && l.stagedEnd == l.start && l.Size() == 0 {
		return l.appendAcrossStart(b)
	}
	if b.BaseOffset() < l.stagedEnd || b.LeaderEpoch() < l.epochs.latest() {
		return AppendResult{}, kerr.With(kerr.CorruptMessage, "batch at offset %d, epoch %d does not follow log end %d, epoch %d",
			b.BaseOffset(), b.LeaderEpoch(), l.stagedEnd, l.epochs.latest())
	}
	return l.add(b, noTime, false)
}

// appendAcrossStart makes b the first batch of an empty log whose start lies within b.
func (l *Log) appendAcrossStart(b record.Batch) (AppendResult, error) {
	// Offsets below the recorded recovery point are written now: it comes down first.
	e := CheckpointEntry{Partition: l.partition, RecoveryPoint: b.BaseOffset(), LogStart: l.start,
		HighWatermark: l.start, segmentBase: b.BaseOffset(), maxTs: -1, maxTsOffset: b.BaseOffset() - 1, cuts: l.cuts, swaps: l.swaps}
	if err := l.dir.record(e); err != nil {
		return AppendResult{}, err
	}
	if err := l.voidJournal(b.BaseOffset()); err != nil {
		return AppendResult{}, err
	}
	l.flushedAt = e
	if err := l.removeSegments(l.segs); err != nil {
		return AppendResult{}, err
	}
	l.segs = []*segment{newEmptySegment(b.BaseOffset())}
	l.end, l.stagedEnd = b.BaseOffset(), b.BaseOffset()
	res, err := l.add(b, noTime, false)
	if err == nil {
		err = l.Write()
	}
	if err != nil && l.failed == nil {
		l.segs[0].closeFiles()
		l.segs = []*segment{newEmptySegment(l.start)}
		l.end, l.stagedEnd = l.start, l.start
		_ = l.fs.Remove(l.path + string(pathSeparator) + fileName(b.BaseOffset(), logSuffix))
	}
	return res, err
}

// add stages or writes a batch whose offsets and epoch are set.
func (l *Log) add(b record.Batch, now int64, through bool) (AppendResult, error) {
	if l.mustRoll(b, now) {
		if err := l.Roll(); err != nil {
			return AppendResult{}, err
		}
	}
	res := AppendResult{BaseOffset: b.BaseOffset(), LastOffset: b.LastOffset(), MaxTimestamp: b.MaxTimestamp()}
	if through && l.staged == nil && len(b) <= mappedWriteBytes && l.active().mapping != nil {
		if err := l.putThrough(b, now); err != nil {
			return AppendResult{}, err
		}
		return res, nil
	}
	if l.staged != nil && len(l.staged.buf)+len(b) > maxStagedBytes {
		if err := l.Write(); err != nil {
			return AppendResult{}, err
		}
	}
	direct := len(b) >= directBytes
	if direct {
		if err := l.Write(); err != nil {
			return AppendResult{}, err
		}
	}
	if l.staged == nil {
		l.staged = l.dir.pending()
	}
	if id := b.ProducerID(); id >= 0 {
		l.staged.undo = append(l.staged.undo, l.producers.undoFor(id))
		l.producers.apply(b, now)
	}
	l.stagedEnd = b.NextOffset()
	if !direct {
		l.staged.buf = append(l.staged.buf, b...)
		return res, nil
	}
	if err := l.write(b); err != nil {
		return AppendResult{}, err
	}
	return res, nil
}

// putThrough writes a batch while nothing is staged, and stages nothing.
func (l *Log) putThrough(b record.Batch, now int64) error {
	l.stagedEnd = b.NextOffset()
	id := b.ProducerID()
	if id < 0 {
		return l.write(b)
	}
	undo := l.producers.undoFor(id)
	l.producers.apply(b, now)
	err := l.write(b)
	if err != nil {
		l.producers.undo(&undo)
	}
	return err
}

// Write writes all that is staged with one positioned write and advances the log end. If
// it fails, the part that reached the file is cut off again, the producers' state goes
// back, nothing stays staged, and the log end is where it was; if even that fails the log
// is failed for good.
func (l *Log) Write() error {
	if l.failed != nil {
		return l.failed
	}
	if l.staged == nil {
		return nil
	}
	return l.write(l.staged.buf)
}

// write puts whole batches at the end of the active segment.
func (l *Log) write(b []byte) error {
	s := l.active()
	if err := l.dir.beforeMutation(); err != nil {
		return l.undoStaged(err, nil)
	}
	h, err := l.open(s)
	if err == nil {
		err = l.loadIndex(s)
	}
	if err != nil {
		return l.undoStaged(err, nil)
	}
	if l.torn {
		if err := l.cutBack(h); err != nil {
			if !vfs.NoSpace(err) {
				err = l.fail(err)
			}
			return l.undoStaged(err, nil)
		}
	}
	if err := l.put(s, h, b); err != nil {
		return l.undoStaged(err, h)
	}
	for len(b) > 0 {
		batch := record.Batch(b)
		l.account(s, batch)
		b = b[batch.Size():]
	}
	if l.end != l.stagedEnd {
		panic(fmt.Sprintf("storage: wrote up to %d but staged up to %d", l.end, l.stagedEnd))
	}
	l.dropStaged()
	if len(s.index.pend) >= indexFlushBytes {
		_ = l.flushIndex(s) // kept in memory and tried again; the index is rebuildable
	}
	return nil
}

// account takes a batch that lies at the end of segment s into all that is derived.
func (l *Log) account(s *segment, b record.Batch) {
	pos := s.size
	base, last := b.BaseOffset(), b.LastOffset()
	if e := b.LeaderEpoch(); e >= 0 && e > l.epochs.latest() {
		l.epochs.assign(e, base)
	}
	if l.epochs.behind { // it has records now
		l.epochs.dirty, l.epochs.behind = true, false
	}
	l.lastEpoch = b.LeaderEpoch()
	ts := b.MaxTimestamp()
	s.noteTimestamp(ts, last)
	if pos == 0 {
		s.firstTs, s.firstKnown = ts, true
	}
	s.indexBatch(b, pos, l.opts.IndexIntervalBytes)
	s.sums.add(b, pos)
	s.size += int64(b.Size())
	l.sinceSnapshot += int64(b.Size())
	l.end = last + 1
	l.remember(base, last, pos)
}

// undoStaged takes back everything behind the log end after err. What the producers were
// told of a batch that was not staged is for putThrough to take back.
func (l *Log) undoStaged(err error, h *handle) error {
	l.events.FailedWrites++
	if l.staged != nil {
		for i := len(l.staged.undo) - 1; i >= 0; i-- {
			l.producers.undo(&l.staged.undo[i])
		}
	}
	l.dropStaged()
	l.stagedEnd = l.end
	if h != nil {
		l.torn = true
		l.small, l.large = -mapRetry, -extendRetry
		if cerr := l.cutBack(h); cerr != nil && !vfs.NoSpace(cerr) {
			return l.fail(errors.Join(err, cerr))
		}
	}
	return storageError("write to "+l.partition.String(), err)
}

// cutBack removes what a failed write may have left behind the last good batch. The cut is
// synced: bytes of the failed batch that came back after a power cut, among later ones,
// could pass for the log. Where there is not even room for that (a file system that
// copies on write) the bytes stay, unseen, until the next write or roll tries again.
func (l *Log) cutBack(h *handle) error {
	if !l.torn {
		return nil
	}
	s := l.active()
	s.unmap()
	if err := h.f.Truncate(s.size); err != nil {
		return err
	}
	s.ahead, s.wasCut = 0, true
	if err := vfs.Synced(h.f.Datasync()); err != nil {
		return err
	}
	l.torn = false
	return nil
}

func (l *Log) dropStaged() {
	if l.staged != nil {
		l.dir.givePending(l.staged)
		l.staged = nil
	}
}
