package storage

import (
	"fmt"
	"io"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// Log is the log of one partition. Its owner serialises all calls; only View and
// Sync.Run may be used without the owner's lock.
type Log struct {
	fs        vfs.FS
	dir       *Dir
	partition model.Partition
	path      string
	opts      Options

	// segs are the segments by base offset; never empty; the last is active.
	segs []*segment
	// start is the log start: the first offset that may be read.
	start model.Offset
	// end is the written log end: every batch below it is in its file.
	end model.Offset
	// stagedEnd is where the next batch goes; stagedEnd > end while batches are staged.
	stagedEnd model.Offset
	// staged holds the batches in [end, stagedEnd); nil when there are none.
	staged *pending

	epochs    epochCache
	producers producers
	// lastEpoch is the leader epoch of the last written batch, NoLeaderEpoch in an empty log.
	lastEpoch model.LeaderEpoch
	// snapshots are the offsets for which a .producers file exists, ascending.
	snapshots []model.Offset
	// sinceSnapshot counts the bytes written since the newest snapshot.
	sinceSnapshot int64

	// small counts small writes in a row since the last sync began, for mapAhead; negative
	// while mapping is not to be tried. large counts the bytes of other writes since then, for
	// extend; negative while that is not to be tried.
	small int
	large int64
	// busy says that the log took enough before its last sync to be extended at once after it.
	busy bool

	recent *recentBatches
	hints  [4]hint
	hintAt int

	// flushedAt is the point up to which everything was synced.
	flushedAt CheckpointEntry
	// inJournal is how far the journal makes the log durable beyond flushedAt, if it does;
	// journaled says that the journal may hold entries of the log.
	inJournal durable
	journaled bool
	// unsynced are closed segments with bytes that were not synced, each with a reference.
	unsynced []*handle
	// unsyncedSides are names of files beside closed segments that were not synced.
	unsyncedSides []string
	// dirDirty: names in the log's directory were added; parentDirty: the directory is new.
	dirDirty, parentDirty bool
	// lately are the closed segments with open files, the one used last behind the others.
	lately []*segment
	// made says that the log's directory exists.
	made    bool
	syncing bool
	// lateSync: recovery leaves the sync to SyncOpened; owesSync: it did.
	lateSync, owesSync bool
	// torn: bytes of a failed write may lie behind the active segment's last batch.
	torn bool
	// cuts counts truncations, so that a sync begun before one proves nothing after it.
	cuts uint32
	// swaps counts cleaning rounds, so that no checkpoint gathered before one brings back a
	// segment that it replaced. compacting: one is under way. clean is what the last one
	// left; nil before it was asked for.
	swaps      uint32
	compacting bool
	clean      *cleanMark

	events Events
	failed error
	closed bool
}

// Events counts what the owner may want to report. It only grows.
type Events struct {
	// IndexesRebuilt and SumsRebuilt count files that were missing or damaged and made
	// anew from the log.
	IndexesRebuilt, SumsRebuilt int
	// FailedWrites counts writes that were cut back.
	FailedWrites int
}

// pending gathers small batches, to be written at once. It comes from the directory's
// pool and goes back with each write, so an idle log holds none.
type pending struct {
	buf  []byte
	undo []producerUndo
}

const (
	// directBytes is the size from which a batch is written from the caller's memory:
	// one more write costs less than the copy.
	directBytes = 32 << 10
	// maxStagedBytes bounds the batches that wait in memory.
	maxStagedBytes = 256 << 10
	// maxKeptBytes bounds what goes back to the pool.
	maxKeptBytes = 512 << 10
)

func (d *Dir) pending() *pending {
	if p, ok := d.buffers.Get().(*pending); ok {
		return p
	}
	return &pending{}
}

func (d *Dir) givePending(p *pending) {
	if cap(p.buf) > maxKeptBytes {
		return
	}
	p.buf, p.undo = p.buf[:0], p.undo[:0]
	d.buffers.Put(p)
}

func (d *Dir) walker(r io.ReaderAt, size int64) *walker {
	w, ok := d.walkers.Get().(*walker)
	if !ok {
		w = &walker{buf: make([]byte, walkBytes)}
	}
	w.reset(r, size)
	return w
}

func (d *Dir) giveWalker(w *walker) {
	w.r = nil
	d.walkers.Put(w)
}

// scanBuffer returns the large buffer of a scan: thousands of logs are recovered one
// after another.
func (d *Dir) scanBuffer() []byte {
	if b, ok := d.scans.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, scanBytes)
}

func (d *Dir) giveScanBuffer(b []byte) { d.scans.Put(&b) }

func (l *Log) active() *segment { return l.segs[len(l.segs)-1] }

// mutate prepares for a change on disk: no clean marker, and the directory is there.
func (l *Log) mutate() error {
	if err := l.dir.beforeMutation(); err != nil {
		return err
	}
	if l.made {
		return nil
	}
	if err := l.fs.MkdirAll(l.path); err != nil {
		return storageError("create partition directory", err)
	}
	l.made, l.parentDirty, l.dirDirty = true, true, true
	return nil
}

// fail makes the log refuse everything from now on. Only opening it again helps.
func (l *Log) fail(err error) error {
	if l.failed == nil {
		l.failed = storageError("log "+l.partition.String()+" failed", err)
	}
	return l.failed
}

// Failed is the error after which the log refuses all changes, nil while it works.
func (l *Log) Failed() error { return l.failed }

// Partition names the log.
func (l *Log) Partition() model.Partition { return l.partition }

// StartOffset is the log start: the first offset that may be read.
func (l *Log) StartOffset() model.Offset { return l.start }

// EndOffset is the written log end offset. Records below it survive the process.
func (l *Log) EndOffset() model.Offset { return l.end }

// StagedEnd is the offset that the next appended record gets.
func (l *Log) StagedEnd() model.Offset { return l.stagedEnd }

// FlushedOffset is the end of what is durable, in the log's own files or in the journal.
// Records below it survive a power cut.
func (l *Log) FlushedOffset() model.Offset { return max(l.flushedAt.RecoveryPoint, l.inJournal.end) }

// RecoveryPoint is where recovery would begin, were the log's CheckpointEntry recorded
// now: what was synced in the log's own files, for which every sync covers the files
// beside the log as well. It is at most FlushedOffset.
func (l *Log) RecoveryPoint() model.Offset { return l.flushedAt.RecoveryPoint }

// Size is the number of bytes in all segments.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range l.segs {
		n += s.size
	}
	return n
}

// UnflushedBytes is about how much of the log was written but not synced.
func (l *Log) UnflushedBytes() int64 {
	var n int64
	for i := len(l.segs) - 1; i >= 0; i-- {
		s := l.segs[i]
		if s.base <= l.flushedAt.segmentBase {
			if s.base == l.flushedAt.segmentBase {
				n += s.size - l.flushedAt.position
			}
			break
		}
		n += s.size
	}
	return n
}

// Segments is the number of segments.
func (l *Log) Segments() int { return len(l.segs) }

// Producers is the number of producer ids that the log remembers.
func (l *Log) Producers() int { return len(l.producers.byID) }

// Path is the log's directory.
func (l *Log) Path() string { return l.path }

// Events returns the counters.
func (l *Log) Events() Events { return l.events }

// SetOptions changes the settings; they apply from the next append or cleaning on.
func (l *Log) SetOptions(o Options) { l.opts = o.withDefaults() }

// ExpireProducers forgets idempotent producers that have been silent for longer than
// ProducerIDExpiration at nowMs (ms since 1970) and returns how many. With batches staged
// it does nothing.
func (l *Log) ExpireProducers(nowMs int64) int {
	if l.stagedEnd != l.end {
		return 0
	}
	return l.producers.expire(nowMs, l.opts.ProducerIDExpiration.Milliseconds())
}

// Idle gives up what only a busy log needs: open files that nothing dirty depends on and
// the memory of recent batches. Reads and appends bring them back.
func (l *Log) Idle() {
	l.recent, l.lately = nil, nil
	if l.failed == nil {
		l.small, l.large, l.busy = 0, 0, false
		_ = l.settle() // zeros that stay cost a little room; a close or a roll cuts them
	}
	for _, s := range l.segs {
		if s == l.active() && l.end > l.flushedAt.RecoveryPoint {
			continue // a sync must meet the errors of this handle's writes
		}
		if s.log != nil && s.log.refs.Load() > 1 {
			continue // a truncation must tell the views of this handle
		}
		if l.flushIndex(s) == nil {
			s.closeFiles()
		}
	}
}

// Close writes what is staged and the files beside the log, and closes it. It does not
// sync: Dir.CloseClean does, for all logs at once. A log that failed is only closed.
func (l *Log) Close() error {
	if l.closed {
		return nil
	}
	err := l.failed
	if err == nil {
		err = l.Write()
	}
	if err == nil && l.made {
		err = l.writeSides()
	}
	if err == nil {
		err = l.settle()
	}
	l.closed = true
	l.producers.release()
	for _, s := range l.segs {
		s.closeFiles()
	}
	for _, h := range l.unsynced {
		h.release()
	}
	l.unsynced, l.recent = nil, nil
	l.dir.run.Lock()
	delete(l.dir.run.open, l.partition)
	l.dir.run.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("log %v is closed: %w", l.partition, kerr.KafkaStorageError)
	}
	return err
}

// writeSides brings the files beside the active segment up to the log end.
func (l *Log) writeSides() error {
	s := l.active()
	// The indexes of a log that was not used since it was opened are as they were left.
	if used := s.index.n >= 0 || s.times.n >= 0; used && s.size > 0 {
		if err := l.loadIndex(s); err != nil {
			return err
		}
		s.timeEntryNow()
		if err := l.flushIndex(s); err != nil {
			return err
		}
	}
	if l.epochs.dirty {
		if err := l.mutate(); err != nil {
			return err
		}
		if err := l.writeEpochs(false); err != nil {
			return err
		}
	}
	if len(l.producers.byID) > 0 && !slices.Contains(l.snapshots, l.end) {
		return l.writeSnapshot(false)
	}
	return nil
}

// pointNow describes the written log end as a recovery point.
func (l *Log) pointNow() CheckpointEntry {
	s := l.active()
	e := CheckpointEntry{
		Partition: l.partition, RecoveryPoint: l.end,
		segmentBase: s.base, position: s.size, maxTs: s.maxTs, maxTsOffset: s.maxTsOffset,
		noProducers: len(l.producers.byID) == 0,
	}
	if s.sums != nil {
		e.chain, e.batches = s.sums.chain, s.sums.batches
	}
	return e
}

// snapshotOf returns the files of a producer snapshot at the log end.
func (l *Log) snapshotAt() (names [2]string, data [2][]byte) {
	names = [2]string{fileName(l.end, producersSuffix), fileName(l.end, snapshotSuffix)}
	data = [2][]byte{l.producers.encode(l.end, l.lastEpoch), l.producers.encodeSnapshot()}
	return names, data
}

// writeSnapshot writes a snapshot of the producers at the log end.
func (l *Log) writeSnapshot(durable bool) error {
	if err := l.mutate(); err != nil {
		return err
	}
	names, data := l.snapshotAt()
	for i, name := range names {
		if err := vfs.WriteFile(l.fs, l.path+string(pathSeparator)+name, data[i], durable); err != nil {
			return storageError("write producer snapshot", err)
		}
	}
	l.addSnapshot(l.end)
	l.producers.changed, l.sinceSnapshot = false, 0
	return nil
}

// addSnapshot notes that a snapshot exists. Kept are those at segment bases, for
// truncation, and the two newest.
func (l *Log) addSnapshot(at model.Offset) {
	if i, found := slices.BinarySearch(l.snapshots, at); !found {
		l.snapshots = slices.Insert(l.snapshots, i, at)
	}
	kept := l.snapshots[:0]
	for i, o := range l.snapshots {
		_, isBase := slices.BinarySearchFunc(l.segs, o, func(s *segment, t model.Offset) int { return int(s.base - t) })
		if isBase || i >= len(l.snapshots)-2 {
			kept = append(kept, o)
		} else {
			l.removeSnapshot(o)
		}
	}
	l.snapshots = kept
}

// removeSnapshot deletes the files of a snapshot; one that stays behind is harmless, it
// is checked against the log before use.
func (l *Log) removeSnapshot(at model.Offset) {
	for _, suffix := range []string{producersSuffix, snapshotSuffix} {
		_ = l.fs.Remove(l.path + string(pathSeparator) + fileName(at, suffix))
	}
}
