package storage

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
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

	recent *recentBatches
	hints  [4]hint
	hintAt int

	// flushedAt is the point up to which everything was synced.
	flushedAt CheckpointEntry
	// unsynced are closed segments with bytes that were not synced, each with a reference.
	unsynced []*handle
	// unsyncedSides are names of files beside closed segments that were not synced.
	unsyncedSides []string
	// dirDirty: names in the log's directory were added; parentDirty: the directory is new.
	dirDirty, parentDirty bool
	// made says that the log's directory exists.
	made    bool
	syncing bool
	// cuts counts truncations, so that a sync begun before one proves nothing after it.
	cuts uint32

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

// FlushedOffset is the end of what was synced. Records below it survive a power cut.
func (l *Log) FlushedOffset() model.Offset { return l.flushedAt.RecoveryPoint }

// RecoveryPoint is where recovery would begin, were the log's CheckpointEntry recorded
// now: the flushed offset, since every sync covers the files beside the log as well.
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
	l.recent = nil
	for _, s := range l.segs {
		if s == l.active() && l.end > l.flushedAt.RecoveryPoint {
			continue // a sync must meet the errors of this handle's writes
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
	l.closed = true
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
	if s.size > 0 && (len(s.index.pend) > 0 || len(s.times.pend) > 0 || s.tsKnown) {
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
		if err := vfs.WriteFile(l.fs, l.path+string(pathSeparator)+epochFile, l.epochs.encode(), false); err != nil {
			return storageError("write epochs", err)
		}
		l.epochs.dirty = false
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

// AppendArgs are what an append needs to know beside the batch.
type AppendArgs struct {
	// Epoch is the leader epoch to stamp; not below LatestEpoch.
	Epoch model.LeaderEpoch
	// NowMs is the time in ms since 1970, for the expiry of producer ids.
	NowMs int64
	// Client says that the batch comes from a producer: its sequence numbers are checked.
	// Coordinators' own records and markers are not.
	Client bool
}

// AppendResult says where a batch went.
type AppendResult struct {
	// BaseOffset and LastOffset are those of the batch, or of the original if Duplicate.
	BaseOffset, LastOffset model.Offset
	// Duplicate: the batch was appended before; nothing was appended now.
	Duplicate bool
}

// Append takes one valid batch (record.Validate) to the log end and stamps base offset
// and leader epoch into it. Small batches are staged until Write; large ones go to the
// file at once, with all that was staged before. b is not kept.
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
			return AppendResult{BaseOffset: dup.last - model.Offset(dup.delta), LastOffset: dup.last, Duplicate: true}, nil
		}
	}
	if int64(len(b)) > l.opts.SegmentBytes {
		return AppendResult{}, kerr.With(kerr.RecordListTooLarge, "batch of %d bytes does not fit a segment of %d (segment.bytes)", len(b), l.opts.SegmentBytes)
	}
	b.SetBaseOffset(l.stagedEnd)
	b.SetLeaderEpoch(a.Epoch)
	return l.add(b, a.NowMs)
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
	return l.add(b, noTime)
}

// appendAcrossStart makes b the first batch of an empty log whose start lies within b.
func (l *Log) appendAcrossStart(b record.Batch) (AppendResult, error) {
	// Offsets below the recorded recovery point are written now: it comes down first.
	e := CheckpointEntry{Partition: l.partition, RecoveryPoint: b.BaseOffset(), LogStart: l.start,
		HighWatermark: l.start, segmentBase: b.BaseOffset(), maxTs: -1, maxTsOffset: b.BaseOffset() - 1, cuts: l.cuts}
	if err := l.dir.record(e); err != nil {
		return AppendResult{}, err
	}
	l.flushedAt = e
	if err := l.removeSegments(l.segs); err != nil {
		return AppendResult{}, err
	}
	l.segs = []*segment{newEmptySegment(b.BaseOffset())}
	l.end, l.stagedEnd = b.BaseOffset(), b.BaseOffset()
	res, err := l.add(b, noTime)
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
func (l *Log) add(b record.Batch, now int64) (AppendResult, error) {
	if l.mustRoll(b) {
		if err := l.Roll(); err != nil {
			return AppendResult{}, err
		}
	}
	if l.staged != nil && len(l.staged.buf)+len(b) > maxStagedBytes {
		if err := l.Write(); err != nil {
			return AppendResult{}, err
		}
	}
	res := AppendResult{BaseOffset: b.BaseOffset(), LastOffset: b.LastOffset()}
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
	if _, err := h.f.WriteAt(b, s.size); err != nil {
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

// undoStaged takes back everything behind the log end after err.
func (l *Log) undoStaged(err error, h *handle) error {
	l.events.FailedWrites++
	for i := len(l.staged.undo) - 1; i >= 0; i-- {
		l.producers.undo(&l.staged.undo[i])
	}
	l.dropStaged()
	l.stagedEnd = l.end
	if h != nil {
		// The cut is synced: bytes of the failed batch that came back after a power cut,
		// among later ones, could pass for the log.
		if terr := h.f.Truncate(l.active().size); terr != nil {
			return l.fail(errors.Join(err, terr))
		}
		if serr := h.f.Datasync(); serr != nil {
			return l.fail(errors.Join(err, serr))
		}
	}
	return storageError("write to "+l.partition.String(), err)
}

func (l *Log) dropStaged() {
	if l.staged != nil {
		l.dir.givePending(l.staged)
		l.staged = nil
	}
}
