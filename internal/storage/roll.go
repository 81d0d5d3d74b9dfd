package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// mustRoll says whether b has to go to a new segment at nowMs (ms since 1970, or
// noTime).
func (l *Log) mustRoll(b record.Batch, nowMs int64) bool {
	s := l.active()
	staged := int64(0)
	if l.staged != nil {
		staged = int64(len(l.staged.buf))
	}
	if s.size+staged == 0 {
		return false
	}
	if s.size+staged+int64(len(b)) > l.opts.SegmentBytes || !s.holds(b) {
		return true
	}
	// Staged batches get their index entries when they are written; count one each
	// interval for them.
	more := 1
	if staged > 0 { // spares a division
		more += int(staged / int64(l.opts.IndexIntervalBytes))
	}
	if n := s.index.total(); s.index.n >= 0 && (n+more)*offsetEntryLen > l.opts.SegmentIndexBytes {
		return true
	}
	if n := s.times.total(); s.times.n >= 0 && (n+more+1)*timeEntryLen > l.opts.SegmentIndexBytes {
		return true
	}
	if !s.firstKnown && s.size > 0 {
		l.loadFirstTimestamp(s)
	}
	if s.firstKnown && s.firstTs < 0 { // without times it ages by the clock (LogSegment.timeWaitedForRoll)
		if nowMs == noTime {
			return false
		}
		if s.metMs == 0 {
			s.metMs = nowMs
		}
		return nowMs-s.metMs > l.opts.SegmentAge.Milliseconds()
	}
	return s.firstKnown && b.MaxTimestamp()-s.firstTs > l.opts.SegmentAge.Milliseconds()
}

// loadFirstTimestamp reads the first batch's largest timestamp. If that fails the segment
// does not age; the write that follows will meet the error.
func (l *Log) loadFirstTimestamp(s *segment) {
	h, err := l.open(s)
	if err != nil {
		return
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	w.big = true
	if b, err := w.header(0); err == nil {
		s.firstTs, s.firstKnown = b.MaxTimestamp(), true
	}
}

// Roll writes what is staged, closes the active segment and begins a new one at the log
// end. An empty active segment stays. Nothing is synced: the next Sync covers it.
func (l *Log) Roll() error {
	if err := l.Write(); err != nil {
		return err
	}
	s := l.active()
	if s.size == 0 {
		return nil
	}
	if l.torn { // a closed segment is as long as its batches
		h, err := l.open(s)
		if err == nil {
			err = l.cutBack(h)
		}
		if err != nil && !vfs.NoSpace(err) {
			return l.fail(err)
		}
		if err != nil {
			return storageError("cut segment", err)
		}
	}
	if err := l.settle(); err != nil {
		return err
	}
	if err := l.sealSegment(s); err != nil {
		return err
	}
	sides := []string{fileName(s.base, indexSuffix), fileName(s.base, timeIndexSuffix), fileName(s.base, sumsSuffix)}
	if len(l.producers.byID) > 0 {
		l.segs = append(l.segs, newEmptySegment(l.end)) // the snapshot at a segment's base is kept
		err := l.writeSnapshot(false)
		if err != nil {
			l.segs = l.segs[:len(l.segs)-1]
			return err
		}
		sides = append(sides, fileName(l.end, producersSuffix), fileName(l.end, snapshotSuffix))
	} else {
		l.segs = append(l.segs, newEmptySegment(l.end))
	}
	l.unsyncedSides = append(l.unsyncedSides, sides...)
	if s.wasCut { // with an idle time since, nothing may be open
		if _, err := l.open(s); err != nil {
			return err
		}
	}
	if s.log != nil && (l.end > l.flushedAt.RecoveryPoint || s.wasCut) {
		l.unsynced = append(l.unsynced, s.log.acquire())
	}
	s.index.close()
	s.times.close()
	l.usesClosed(s)
	l.recent = nil
	return nil
}

// sealSegment completes the files beside the active segment before it is closed.
func (l *Log) sealSegment(s *segment) error {
	if err := l.loadIndex(s); err != nil {
		return err
	}
	s.timeEntryNow()
	if err := l.writeEntries(s, &s.times, timeIndexSuffix); err != nil {
		return err
	}
	if err := l.writeEntries(s, &s.index, indexSuffix); err != nil {
		return err
	}
	l.dirDirty = true
	s.sums.seal(s.size)
	return l.writeSums(s)
}

// removeSegments deletes the files of segments, in order, and lets go of them.
func (l *Log) removeSegments(segs []*segment) error {
	if len(segs) == 0 {
		return nil
	}
	if err := l.mutate(); err != nil {
		return err
	}
	for _, s := range segs {
		s.closeFiles()
		for _, suffix := range []string{logSuffix, indexSuffix, timeIndexSuffix, txnIndexSuffix, sumsSuffix} {
			if err := l.fs.Remove(l.segPath(s, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return storageError("remove segment", err)
			}
		}
	}
	l.dropHints()
	return nil
}

// AdvanceStart raises the log start (delete-records) up to the log end; what lies below
// is not read any more, and segments wholly below it are deleted. The new start is
// durable before any file goes. A lower start than now changes nothing; one beyond the
// log end is OFFSET_OUT_OF_RANGE. It syncs a small file, so it takes a disk's time.
func (l *Log) AdvanceStart(to model.Offset) error {
	if l.failed != nil {
		return l.failed
	}
	if to > l.end {
		return fmt.Errorf("advance start of %v to %d beyond the log end %d: %w", l.partition, to, l.end, kerr.OffsetOutOfRange)
	}
	if to <= l.start {
		return nil
	}
	if err := l.recordStart(to); err != nil {
		return err
	}
	_, err := l.dropBelowStart()
	return err
}

func (l *Log) recordStart(to model.Offset) error {
	e := l.CheckpointEntry(0)
	e.LogStart = to
	if old, ok := l.dir.entry(l.partition); ok {
		e.HighWatermark = old.HighWatermark
	}
	if err := l.dir.record(e); err != nil {
		return err
	}
	l.start = to
	l.epochs.truncateStart(to)
	return nil
}

// dropBelowStart deletes segments that end at or below the log start.
func (l *Log) dropBelowStart() (n int, err error) {
	for n+1 < len(l.segs) && l.segs[n+1].base <= l.start {
		n++
	}
	if n == 0 {
		return 0, nil
	}
	if n == len(l.segs)-1 {
		// Only the active segment stays, and its name is what holds the offsets: it must be
		// on disk before the others go.
		if err := l.persistActive(); err != nil {
			return 0, err
		}
	}
	if err := l.removeSegments(l.segs[:n]); err != nil {
		return 0, err
	}
	l.segs = slices.Delete(l.segs, 0, n)
	for len(l.snapshots) > 0 && l.snapshots[0] < l.segs[0].base {
		l.removeSnapshot(l.snapshots[0])
		l.snapshots = l.snapshots[1:]
	}
	return n, nil
}

func (l *Log) persistActive() error {
	s := l.active()
	if s.exists {
		return nil
	}
	if _, err := l.open(s); err != nil {
		return err
	}
	return storageError("sync log directory", vfs.Synced(l.fs.SyncDir(l.path)))
}

// DeleteOld deletes whole segments below the high watermark hw that are older than
// Retention at nowMs (by their largest timestamp), or that exceed RetentionBytes, oldest
// first, and returns how many. Records without a timestamp never get too old. The log
// start moves with it, durably, before a file goes. If everything is too old the active
// segment is closed first, so it goes as well.
func (l *Log) DeleteOld(nowMs int64, hw model.Offset) (n int, err error) {
	if l.failed != nil {
		return 0, l.failed
	}
	to := l.start
	if l.opts.Delete {
		if to, err = l.retentionStart(nowMs, hw); err != nil {
			return 0, err
		}
	}
	if to > l.start {
		if err := l.recordStart(to); err != nil {
			return 0, err
		}
	}
	return l.dropBelowStart()
}

// retentionStart is where the log would begin after retention.
func (l *Log) retentionStart(nowMs int64, hw model.Offset) (model.Offset, error) {
	to := l.start
	excess := int64(-1)
	if l.opts.RetentionBytes >= 0 {
		excess = l.Size() - l.opts.RetentionBytes
	}
	for i := 0; i < len(l.segs); i++ {
		s := l.segs[i]
		if s.size == 0 && i < len(l.segs)-1 {
			continue // compaction left nothing: it goes with the next
		}
		if s.size == 0 || l.endOf(i) > hw {
			break
		}
		tooMuch := excess >= s.size
		if !tooMuch {
			old, err := l.tooOld(s, nowMs)
			if err != nil {
				return 0, err
			}
			if !old {
				break
			}
		}
		if i == len(l.segs)-1 {
			if l.stagedEnd != l.end {
				break
			}
			if err := l.Roll(); err != nil {
				return 0, err
			}
		}
		excess -= s.size
		to = max(to, l.endOf(i))
	}
	return to, nil
}

func (l *Log) tooOld(s *segment, nowMs int64) (bool, error) {
	if l.opts.Retention < 0 {
		return false, nil
	}
	if !s.tsKnown {
		if err := l.loadIndex(s); err != nil {
			return false, err
		}
	}
	newest, err := l.newestMs(s)
	return newest >= 0 && nowMs-newest > l.opts.Retention.Milliseconds(), err
}

// newestMs is the largest timestamp of a segment (ms since 1970) whose timestamps are known.
// Records of old producers may have none (message sets of format v0): then it is when the
// file was written last, else they would count as newest or oldest for ever. -1 if it holds
// nothing. Kafka: LogSegment.largestTimestamp.
func (l *Log) newestMs(s *segment) (int64, error) {
	if s.maxTs >= 0 || s.size == 0 {
		return s.maxTs, nil
	}
	info, err := l.fs.Stat(l.segPath(s, logSuffix))
	if err != nil {
		return -1, storageError("stat segment", err)
	}
	return info.ModifiedMs, nil
}

// TruncateTo removes every batch that reaches to or beyond offset, so the log end falls
// to offset or, if offset lies within a batch, to that batch's base. What is staged is
// dropped. An offset at or above the log end drops only that. One below the log start
// empties the log, which then begins at offset; so does one within the batch that holds
// the log start, which stays. If it removed anything, everything that
// stays is durable when it returns; a view of removed bytes reads ErrTruncated. An error is final for the log.
func (l *Log) TruncateTo(offset model.Offset) error {
	if l.failed != nil {
		return l.failed
	}
	if l.staged != nil {
		for i := len(l.staged.undo) - 1; i >= 0; i-- {
			l.producers.undo(&l.staged.undo[i])
		}
		l.dropStaged()
		l.stagedEnd = l.end
	}
	if offset >= l.end {
		return nil
	}
	if err := l.truncate(offset); err != nil {
		return l.fail(err)
	}
	return nil
}

func (l *Log) truncate(offset model.Offset) error {
	if err := l.mutate(); err != nil {
		return err
	}
	l.active().unmap()
	restart := offset < l.segs[0].base || offset < l.start
	i, pos := 0, int64(0)
	if !restart {
		i = l.segmentFor(offset)
		var err error
		if pos, err = l.locate(l.segs[i], offset); err != nil {
			return err
		}
	}
	keep := l.segs[i]
	end := offset
	var chain chainPoint
	if !restart {
		var err error
		if chain, err = l.sumsAt(keep, pos, &end); err != nil {
			return err
		}
		if end < l.start { // the log start lies within the first batch that goes
			restart, offset, end, pos, chain = true, l.start, l.start, 0, chainPoint{}
		}
	}

	// The recovery point comes down first: a crash from here on must scan what is written
	// in place of the removed batches.
	l.cuts++
	if err := l.voidJournal(end); err != nil {
		return err
	}
	if m := l.mark(); m.first > end {
		low := cleanMark{first: end, epoch: l.epochs.at(end - 1), atMs: m.atMs}
		if err := l.writeCleanMark(low); err != nil {
			return err
		}
		l.clean = &low
	}
	if end < l.flushedAt.RecoveryPoint || restart {
		e := CheckpointEntry{
			Partition: l.partition, RecoveryPoint: end, LogStart: l.start,
			segmentBase: keep.base, position: pos, chain: chain.chain, batches: chain.batches,
			maxTs: chain.maxTs, maxTsOffset: chain.maxTsOffset, cuts: l.cuts, swaps: l.swaps,
		}
		if restart {
			e.LogStart, e.segmentBase = offset, offset
		}
		if old, ok := l.dir.entry(l.partition); ok {
			e.HighWatermark = min(old.HighWatermark, end)
		}
		if err := l.dir.record(e); err != nil {
			return err
		}
		l.flushedAt = e
	}

	l.dropHints()
	l.recent = nil
	for _, s := range l.segs[i:] {
		if h, err := l.open(s); err == nil {
			h.cuts.Add(1)
		} else if s.exists {
			return err
		}
	}
	later := slices.Clone(l.segs[i+1:])
	if restart {
		later = slices.Clone(l.segs)
	}
	// Newest first, and gone for good before the segment that stays is cut: a crash in
	// between leaves a log without a hole.
	slices.Reverse(later)
	if err := l.removeSegments(later); err != nil {
		return err
	}
	if len(later) > 0 {
		if err := vfs.Synced(l.fs.SyncDir(l.path)); err != nil {
			return storageError("sync log directory", err)
		}
	}
	l.segs = l.segs[:i+1]
	if restart {
		keep = newEmptySegment(offset)
		l.segs = append(l.segs[:0], keep)
		l.start, l.epochs.entries, l.epochs.dirty = offset, nil, true
		if _, err := l.open(keep); err != nil {
			return err
		}
	} else if err := l.cutSegment(keep, pos, chain); err != nil {
		return err
	}
	l.end, l.stagedEnd = end, end
	l.epochs.truncateEnd(end)
	l.lastEpoch = l.epochs.at(end - 1)
	if err := l.syncAll(); err != nil {
		return err
	}
	l.sinceSnapshot = 0
	for n := len(l.snapshots); n > 0 && l.snapshots[n-1] > end; n-- {
		l.removeSnapshot(l.snapshots[n-1])
		l.snapshots = l.snapshots[:n-1]
	}
	l.producers.reset()
	if err := l.loadProducers(end, false); err != nil {
		return err
	}
	l.flushedAt = l.pointNow()
	return nil
}

// chainPoint is what is known of a segment up to a position.
type chainPoint struct {
	sums
	maxTs       int64
	maxTsOffset model.Offset
	firstTs     int64
}

// sumsAt walks the headers of s up to pos. *end becomes the end of the batches kept: the
// base of the one that starts at pos, if offset falls within it.
func (l *Log) sumsAt(s *segment, pos int64, end *model.Offset) (chainPoint, error) {
	c := chainPoint{maxTs: -1, maxTsOffset: s.base - 1}
	h, err := l.open(s)
	if err != nil {
		return c, err
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	for at := int64(0); ; {
		b, err := w.header(at)
		if err == io.EOF {
			return c, nil
		}
		if err != nil {
			return c, l.scanError(s, at, err)
		}
		if at >= pos {
			*end = min(*end, b.BaseOffset())
			return c, nil
		}
		if at == 0 {
			c.firstTs = b.MaxTimestamp()
		}
		if ts := b.MaxTimestamp(); ts > c.maxTs {
			c.maxTs, c.maxTsOffset = ts, b.LastOffset()
		}
		c.add(b, at)
		at += int64(b.Size())
	}
}

// cutSegment makes s active with its first size bytes.
func (l *Log) cutSegment(s *segment, size int64, c chainPoint) error {
	h, err := l.open(s)
	if err != nil {
		return err
	}
	if err := h.f.Truncate(size); err != nil {
		return storageError("truncate segment", err)
	}
	if err := l.fs.Remove(l.segPath(s, sumsSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storageError("truncate segment", err)
	}
	s.size, s.ahead, s.wasCut, l.torn = size, 0, true, false
	s.damage = slices.DeleteFunc(s.damage, func(d Damage) bool { return d.Position >= size })
	kept := c.sums
	s.sums = &kept
	s.firstTs, s.firstKnown = c.firstTs, size > 0
	if err := l.rebuildIndex(s); err != nil {
		return err
	}
	l.events.IndexesRebuilt-- // not for damage
	return nil
}

// syncAll makes the whole log durable from the flushed offset on, names included.
func (l *Log) syncAll() error {
	for i, s := range l.segs {
		if !s.exists || l.endOf(i) < l.flushedAt.RecoveryPoint {
			continue
		}
		h, err := l.open(s)
		if err != nil {
			return err
		}
		if err := vfs.Synced(h.f.Sync()); err != nil {
			return storageError("sync segment", err)
		}
	}
	if err := l.writeEpochs(true); err != nil {
		return err
	}
	for _, h := range l.unsynced {
		h.release()
	}
	l.unsynced = nil
	if err := vfs.Synced(l.fs.SyncDir(l.path)); err != nil {
		return storageError("sync log directory", err)
	}
	if err := vfs.Synced(l.fs.SyncDir(l.dir.file(partsDir))); err != nil {
		return storageError("sync log directory", err)
	}
	l.dirDirty, l.parentDirty = false, false
	return nil
}
