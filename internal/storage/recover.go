package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// Recovery tells what OpenLog found and did.
type Recovery struct {
	// Created: the partition had no directory; the log is new.
	Created bool
	// Clean: sizes were trusted, nothing was scanned.
	Clean bool
	// HighWatermark is the checkpointed one, at most the log end; a lower bound.
	HighWatermark model.Offset
	// ScannedBytes and ScannedBatches were read with checksums, from the recovery point on.
	ScannedBytes   int64
	ScannedBatches int
	// CutBytes were removed behind the last good batch, zeros included; CutReason says
	// why the first of them was no batch. A tail of nothing but zeros is what a busy log is
	// prewritten with: it goes as well, and is not counted.
	CutBytes  int64
	CutReason error
	// Damaged: what was cut is not the torn or zero-filled tail that a crash leaves, or
	// bytes below the recovery point are missing. The tail must not be trusted.
	Damaged bool
	// FromJournal counts the batches that the log's own files had lost and the journal had.
	FromJournal int
	// Lost lists segments below the recovery point whose files are gone, with the records in
	// them. Damaged is set with it. It is told once: what was left beside them is removed.
	Lost []string
	// Rebuilt lists files beside the log that were missing or damaged and made anew.
	Rebuilt []string
	// resized: zeros were cut off a segment that others follow, which must be durable.
	resized bool
}

// OpenLog opens the log of a partition, creating it if there is none. After an unclean
// end it scans from the recovery point, cuts at the first bad batch, rebuilds what is
// derived, and syncs before it returns: a record that is served after recovery does not
// vanish in the next crash. A new log touches no file until its first write.
//
// One Log per partition may be open; a second is a bug and panics. Safe for concurrent
// use for different partitions.
func (d *Dir) OpenLog(p model.Partition, o Options) (*Log, Recovery, error) {
	return d.openLog(p, o, false)
}

func (d *Dir) openLog(p model.Partition, o Options, unsynced bool) (*Log, Recovery, error) {
	d.run.Lock()
	if d.run.open[p] {
		d.run.Unlock()
		panic(fmt.Sprintf("storage: log %v opened twice", p))
	}
	d.run.open[p] = true
	d.run.Unlock()
	l := &Log{
		fs: d.fs, dir: d, partition: p, path: d.partPath(p), opts: o.withDefaults(),
		lastEpoch: model.NoLeaderEpoch, lateSync: unsynced, producers: producers{budget: &d.producers},
	}
	r, err := l.load()
	if err != nil {
		l.producers.reset()
		for _, s := range l.segs {
			s.closeFiles()
		}
		d.run.Lock()
		delete(d.run.open, p)
		d.run.Unlock()
		return nil, r, fmt.Errorf("open log %v: %w", p, err)
	}
	return l, r, nil
}

func (l *Log) load() (Recovery, error) {
	var r Recovery
	ckpt, known := l.dir.entry(l.partition)
	names, err := l.fs.List(l.path)
	l.made = err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, storageError("list partition", err)
	}
	r.Created = !l.made
	if names, err = l.finishSwaps(names); err != nil {
		return r, err
	}
	if known {
		r.Lost = lostSegments(names, ckpt)
		r.Damaged = len(r.Lost) > 0
	}
	if err := l.takeNames(names, ckpt, known); err != nil {
		return r, err
	}
	if len(l.segs) == 0 {
		l.segs = []*segment{newEmptySegment(ckpt.LogStart)}
		// Where a record was durable there must be a file with it.
		r.Damaged = r.Damaged || known && ckpt.RecoveryPoint > ckpt.LogStart
		if r.Damaged {
			known = false
		}
	}
	l.start = max(ckpt.LogStart, l.segs[0].base)
	a := l.active()
	if known && ckpt.segmentBase == a.base && ckpt.position == a.size || !known && len(l.segs) == 1 && a.size == 0 {
		// Nothing lies beyond the recovery point, so there is nothing to scan even after a
		// crash. A clean shutdown leaves every log like that.
		r.Clean = l.dir.class == Clean
		err = l.openFlushed(ckpt, known, &r)
	} else {
		err = l.recover(ckpt, known, &r)
	}
	if err != nil {
		return r, err
	}
	l.stagedEnd = l.end
	if err := l.replayJournal(&r); err != nil {
		return r, err
	}
	if l.start > l.end {
		// Delete-records reached the end of a tail that is gone. Offsets do not run back.
		return r, l.restartAt(l.start, &r)
	}
	r.HighWatermark = max(l.start, min(ckpt.HighWatermark, l.end))
	return r, nil
}

// lostSegments returns the names of segments that should be there. The first one must hold
// the log start, which is recorded before any is removed. Of one behind it that has lost
// its file the sums tell: what is cut off lies behind the recovery point by then, and what
// is swapped out is gone, sums and all, before the swap ends.
func lostSegments(names []string, ckpt CheckpointEntry) (lost []string) {
	first := model.Offset(-1)
	logs, sides := map[model.Offset]bool{}, []model.Offset{}
	for _, name := range names {
		switch base, suffix, ok := parseFileName(name); {
		case ok && suffix == logSuffix:
			logs[base] = true
			if first < 0 || base < first {
				first = base
			}
		case ok && suffix == sumsSuffix:
			sides = append(sides, base)
		}
	}
	if first > ckpt.LogStart {
		lost = append(lost, fileName(ckpt.LogStart, logSuffix))
	}
	for _, base := range sides {
		if !logs[base] && base > first && base >= ckpt.LogStart && base < ckpt.segmentBase {
			lost = append(lost, fileName(base, logSuffix))
		}
	}
	return lost
}

// takeNames sorts the files of the directory into segments and snapshots. What an
// interrupted deletion or replacement left behind is removed.
func (l *Log) takeNames(names []string, ckpt CheckpointEntry, known bool) error {
	var stray []string
	bases := map[model.Offset]bool{}
	for _, name := range names {
		if base, suffix, ok := parseFileName(name); ok && suffix == logSuffix {
			in, err := l.fs.Stat(l.path + string(pathSeparator) + name)
			if err != nil {
				return storageError("stat segment", err)
			}
			s := newSegment(base)
			s.exists, s.size = true, in.Size
			l.segs = append(l.segs, s)
			bases[base] = true
		}
	}
	for _, name := range names {
		base, suffix, ok := parseFileName(name)
		switch {
		case strings.HasSuffix(name, ".tmp"):
			stray = append(stray, name)
		case !ok:
		case suffix == producersSuffix:
			l.snapshots = append(l.snapshots, base)
		case suffix == indexSuffix, suffix == timeIndexSuffix, suffix == sumsSuffix, suffix == txnIndexSuffix:
			if !bases[base] {
				stray = append(stray, name)
			}
		}
	}
	gone := 0
	if known && len(l.segs) > 0 && ckpt.position == 0 && ckpt.segmentBase == ckpt.RecoveryPoint && !bases[ckpt.segmentBase] {
		// The active segment was empty, and an empty one need not have a file.
		at := newEmptySegment(ckpt.segmentBase)
		switch {
		case ckpt.LogStart == ckpt.segmentBase:
			// A log that is to begin here: what else there is was about to be removed.
			slices.Reverse(l.segs)
			l.segs = append(l.segs, at)
			gone = len(l.segs) - 1
		case ckpt.segmentBase > l.active().base:
			l.segs = append(l.segs, at)
		}
	}
	for gone+1 < len(l.segs) && l.segs[gone+1].base <= ckpt.LogStart {
		gone++
	}
	if len(stray) > 0 || gone > 0 {
		if err := l.mutate(); err != nil {
			return err
		}
	}
	for _, name := range stray {
		if err := l.fs.Remove(l.path + string(pathSeparator) + name); err != nil {
			return storageError("remove stray file", err)
		}
	}
	if err := l.removeSegments(l.segs[:gone]); err != nil {
		return err
	}
	l.segs = slices.Delete(l.segs, 0, gone)
	return nil
}

// openFlushed takes over a log of which every byte was synced and checkpointed.
func (l *Log) openFlushed(ckpt CheckpointEntry, known bool, r *Recovery) error {
	a := l.active()
	l.end = a.base
	if known {
		l.end = ckpt.RecoveryPoint
		a.sums = &sums{chain: ckpt.chain, batches: ckpt.batches, from: ckpt.position}
		a.maxTs, a.maxTsOffset, a.tsKnown = ckpt.maxTs, ckpt.maxTsOffset, true
	} else {
		a.sums, a.tsKnown = &sums{}, true
	}
	a.sinceIndex = math.MaxInt32 // the next batch gets an entry
	if a.size == 0 {
		a.sinceIndex = 0
	}
	l.flushedAt = l.pointNow()
	if err := l.loadEpochs(l.end, false, r); err != nil {
		return err
	}
	l.lastEpoch = l.epochs.at(l.end - 1)
	if err := l.loadProducers(l.end, !known || ckpt.noProducers); err != nil {
		return err
	}
	l.flushedAt.noProducers = len(l.producers.byID) == 0
	return nil
}

// loadEpochs reads the epoch file as far as it is trusted, which is below the recovery
// point; without a good one the epochs are read from the batches.
func (l *Log) loadEpochs(point model.Offset, cut bool, r *Recovery) error {
	entries, ok, err := l.readEpochs()
	if err != nil {
		return err
	}
	empty := point == l.segs[0].base
	if ok {
		l.epochs.entries = entries
		if cut {
			l.epochs.truncateEnd(point)
		} else {
			// An epoch may begin at the log end, without a record yet; one beyond it is from
			// before a truncation.
			l.epochs.truncateEnd(point + 1)
		}
		l.epochs.truncateStart(l.start)
		return nil
	}
	if empty {
		return nil
	}
	r.Rebuilt = append(r.Rebuilt, epochFile)
	l.epochs.entries = nil
	return l.replay(l.segs[0].base, point, func(b batchAt) error {
		l.epochs.assign(b.LeaderEpoch(), b.BaseOffset())
		return nil
	})
}

// replay walks the headers of all batches from the one that holds from, up to the offset
// to, in segments whose sizes are known good.
func (l *Log) replay(from, to model.Offset, f func(b batchAt) error) error {
	for i := l.segmentFor(from); i < len(l.segs) && l.segs[i].base < to; i++ {
		s := l.segs[i]
		if s.size == 0 {
			continue
		}
		pos := int64(0)
		if from > s.base {
			var err error
			if _, pos, _, err = l.floor(s, int64(from), false); err != nil {
				return err
			}
		}
		h, err := l.open(s)
		if err != nil {
			return err
		}
		w := l.dir.walker(h.f, s.size)
		for {
			b, err := w.header(pos)
			if err == io.EOF || err == nil && b.BaseOffset() >= to {
				break
			}
			if err == nil && b.LastOffset() >= from {
				err = f(batchAt{b, pos})
			}
			if err != nil {
				l.dir.giveWalker(w)
				return l.scanError(s, pos, err)
			}
			pos += int64(b.Size())
		}
		l.dir.giveWalker(w)
	}
	return nil
}

// loadProducers derives the producers' state at offset: from the newest snapshot that
// fits the log, and the batches behind it.
func (l *Log) loadProducers(offset model.Offset, none bool) error {
	l.producers.reset()
	if none {
		return nil
	}
	for i := len(l.snapshots) - 1; i >= 0; i-- {
		at := l.snapshots[i]
		if at > offset || at < l.segs[0].base {
			continue
		}
		b, err := vfs.ReadFile(l.fs, l.path+string(pathSeparator)+fileName(at, producersSuffix), maxProducersFile)
		if err != nil {
			continue
		}
		byID, epoch, err := decodeProducers(b, at)
		// The batch before the snapshot proves that it belongs to this history and not to
		// one that was cut off: the same offset and epoch mean the same bytes. Below the log
		// start epochs are forgotten, and nothing is ever cut.
		if err == nil && (at <= l.start || epoch == l.epochs.at(at-1)) {
			l.producers.byID = byID
			l.producers.recount()
			return l.replayProducers(at, offset)
		}
	}
	from, err := l.producersFrom(offset)
	if err != nil {
		return err
	}
	return l.replayProducers(from, offset)
}

func (l *Log) replayProducers(from, to model.Offset) error {
	if from >= to {
		return nil
	}
	return l.replay(from, to, func(b batchAt) error {
		if b.BaseOffset() >= from {
			l.producers.apply(b.Batch, noTime)
		}
		return nil
	})
}

// replayWhole is up to how much log is read for producers where no snapshot helps; in a
// longer log it is the last ten minutes of records, which any retry falls into.
const (
	replayWhole    = 2 * snapshotBytes
	replayInterval = 10 * 60 * 1000
)

func (l *Log) producersFrom(offset model.Offset) (model.Offset, error) {
	if l.Size() <= replayWhole {
		return l.segs[0].base, nil
	}
	newest := int64(-1)
	for _, s := range l.segs {
		if s.base < offset {
			if !s.tsKnown {
				if err := l.loadIndex(s); err != nil {
					return 0, err
				}
			}
			newest = max(newest, s.maxTs)
		}
	}
	at, found, err := l.batchForTimestamp(newest-replayInterval, offset)
	if err != nil || !found {
		return l.segs[0].base, err
	}
	return at.offset, nil
}

// restartAt empties the log so that it begins at offset.
func (l *Log) restartAt(offset model.Offset, r *Recovery) error {
	r.CutBytes += l.Size()
	r.Damaged = true
	r.HighWatermark = offset
	l.start = offset
	if err := l.truncateRestart(offset); err != nil {
		return err
	}
	return nil
}

func (l *Log) truncateRestart(offset model.Offset) error {
	l.start = offset + 1 // below the start: everything goes
	err := l.truncate(offset)
	l.start = offset
	return err
}
