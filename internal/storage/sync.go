package storage

import (
	"errors"
	"io/fs"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// snapshotBytes is how much log is written at least between two snapshots of the
// producers outside of segment rolls: it bounds what a start after a crash replays.
const snapshotBytes = 4 << 20

// Sync is the work of making durable what a log had written when BeginSync was called.
// Run does it; it needs no lock. Every Sync goes back through EndSync.
type Sync struct {
	fs     vfs.FS
	path   string
	parent string

	active *handle   // nil if the active segment holds nothing unsynced
	closed []*handle // segments rolled since the last sync
	sides  []string  // files beside those
	writes []sideWrite
	dir    bool // names in the log's directory changed
	newDir bool // the log's directory is new

	point    CheckpointEntry // the log end at BeginSync
	cuts     uint32
	epochs   bool
	snapshot model.Offset // -1: none
}

type sideWrite struct {
	name string
	data []byte
}

// Syncing says that a sync is under way.
func (l *Log) Syncing() bool { return l.syncing }

// BeginSync collects what is to be synced; false if there is nothing, if a sync is under
// way or the log failed. Staged batches are not part of it: Write first.
func (l *Log) BeginSync() (Sync, bool) {
	if l.failed != nil || l.syncing || l.end == l.flushedAt.RecoveryPoint && len(l.unsynced) == 0 {
		return Sync{}, false
	}
	s := Sync{
		fs: l.fs, path: l.path, parent: l.dir.file(partsDir),
		closed: l.unsynced, sides: l.unsyncedSides, dir: l.dirDirty, newDir: l.parentDirty,
		point: l.pointNow(), cuts: l.cuts, snapshot: -1,
	}
	if a := l.active(); a.log != nil && a.size > 0 {
		s.active = a.log.acquire()
	}
	if l.epochs.dirty {
		s.epochs = true
		s.writes = append(s.writes, sideWrite{epochFile, l.epochs.encode()})
		l.epochs.dirty = false
	}
	perProducer := int64(producerLen + keptBatches*producerBatchLen)
	if l.producers.changed && l.sinceSnapshot >= max(snapshotBytes, 16*perProducer*int64(len(l.producers.byID))) &&
		l.stagedEnd == l.end {
		names, data := l.snapshotAt()
		s.writes = append(s.writes, sideWrite{names[0], data[0]}, sideWrite{names[1], data[1]})
		s.snapshot = l.end
		l.producers.changed, l.sinceSnapshot = false, 0
	}
	l.unsynced, l.unsyncedSides, l.dirDirty, l.parentDirty = nil, nil, false, false
	l.syncing = true
	return s, true
}

// Run does the work: data first, then the files beside it, then the names. It needs no
// lock of the owner, and must not run again after an error: the kernel may have dropped
// the pages it could not write.
func (s Sync) Run() error {
	for _, h := range s.closed {
		if err := vfs.Synced(h.f.Datasync()); err != nil {
			return storageError("sync segment", err)
		}
	}
	if s.active != nil {
		if err := vfs.Synced(s.active.f.Datasync()); err != nil {
			return storageError("sync segment", err)
		}
	}
	for _, name := range s.sides {
		if err := syncFile(s.fs, s.path+string(pathSeparator)+name); err != nil {
			return storageError("sync "+name, err)
		}
	}
	for _, w := range s.writes {
		if err := s.write(w); err != nil {
			return storageError("write "+w.name, err)
		}
	}
	if s.dir || len(s.writes) > 0 || len(s.sides) > 0 {
		if err := vfs.Synced(s.fs.SyncDir(s.path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storageError("sync log directory", err)
		}
	}
	if s.newDir {
		if err := vfs.Synced(s.fs.SyncDir(s.parent)); err != nil {
			return storageError("sync log directory", err)
		}
	}
	return nil
}

// write replaces one small file; the directory is synced once for all of them. A
// directory that is gone was removed with its partition: no error.
func (s Sync) write(w sideWrite) error {
	name := s.path + string(pathSeparator) + w.name
	f, err := s.fs.Create(name + ".tmp")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(w.data, 0); err == nil {
		err = vfs.Synced(f.Sync())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if vfs.NoSpace(err) {
		_ = s.fs.Remove(name + ".tmp") // half a file takes room that others need
	}
	if err == nil {
		err = s.fs.Rename(name+".tmp", name)
	}
	return err
}

// syncFile makes one file durable; one that was deleted meanwhile is no error.
func syncFile(fsys vfs.FS, name string) error {
	f, err := fsys.OpenReadWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = vfs.Synced(f.Sync())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// EndSync takes the result of Run. Success advances FlushedOffset to the log end of
// BeginSync, unless the log was truncated meanwhile. An error is final: the log fails.
// Only where there was no room for a file beside the log, when all that was synced is
// synced, the log goes on, and the next BeginSync has all of it again.
func (l *Log) EndSync(s Sync, err error) error {
	l.syncing = false
	if vfs.NoSpace(err) && !l.closed {
		l.takeBack(s)
		return err
	}
	for _, h := range s.closed {
		h.release()
	}
	if s.active != nil {
		s.active.release()
	}
	if err != nil {
		return l.fail(err)
	}
	if l.closed {
		return nil
	}
	if s.cuts != l.cuts {
		// The truncation wrote these files itself; Run may have put older ones over them.
		l.epochs.dirty = l.epochs.dirty || s.epochs
		if s.snapshot >= 0 {
			l.removeSnapshot(s.snapshot)
		}
		return nil
	}
	if s.point.RecoveryPoint > l.flushedAt.RecoveryPoint {
		l.flushedAt = s.point
	}
	if s.snapshot >= 0 {
		l.addSnapshot(s.snapshot)
	}
	return nil
}

// takeBack makes the work of s part of the next sync.
func (l *Log) takeBack(s Sync) {
	l.unsynced = append(s.closed, l.unsynced...)
	l.unsyncedSides = append(s.sides, l.unsyncedSides...)
	l.dirDirty, l.parentDirty = l.dirDirty || s.dir, l.parentDirty || s.newDir
	l.epochs.dirty = l.epochs.dirty || s.epochs
	if s.snapshot >= 0 {
		l.producers.changed = true // the next one is due when enough was written again
	}
	if s.active != nil {
		s.active.release()
	}
}
