package storage

import (
	"errors"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// fewSyncs is up to how many recovered logs are synced one by one. Each costs a few waits
// for the disk; one flush of the whole file system costs a few as well, however many logs
// it covers, but it also writes what other programs left behind.
const fewSyncs = 16

// OpenLogUnsynced is OpenLog for one of many logs that are opened side by side: what
// recovery found is not made durable. The log must not be used before SyncOpened has
// done that, for all of them at once.
func (d *Dir) OpenLogUnsynced(p model.Partition, o Options) (*Log, Recovery, error) {
	return d.openLog(p, o, true)
}

// SyncOpened makes durable what OpenLogUnsynced found in these logs. A record that is
// served after it does not vanish in the next crash. Its error is final for the logs whose
// Failed it shows up in; they are to be closed.
func (d *Dir) SyncOpened(logs []*Log) error {
	var owing []*Log
	for _, l := range logs {
		if l.owesSync {
			owing = append(owing, l)
		}
	}
	var errs []error
	if len(owing) <= fewSyncs {
		for _, l := range owing {
			if err := l.syncAll(); err != nil {
				errs = append(errs, l.fail(err))
				continue
			}
			l.settle()
		}
		return errors.Join(errs...)
	}
	written := owing[:0]
	for _, l := range owing {
		if err := l.writeEpochs(false); err != nil {
			errs = append(errs, l.fail(err))
			continue
		}
		written = append(written, l)
	}
	err := storageError("sync log directory", vfs.Synced(d.fs.SyncFS(d.path)))
	for _, l := range written {
		if err != nil {
			_ = l.fail(err)
			continue
		}
		l.settle()
	}
	return errors.Join(append(errs, err)...)
}

// settle notes that everything that recovery left is durable, what came from the journal
// included.
func (l *Log) settle() {
	l.owesSync, l.dirDirty, l.parentDirty = false, false, false
	l.flushedAt = l.pointNow()
	l.dir.journal.taken(l.partition)
}

// writeEpochs writes the epoch file if it is older than the epochs.
func (l *Log) writeEpochs(durable bool) error {
	if !l.epochs.dirty {
		return nil
	}
	if err := vfs.WriteFile(l.fs, l.path+string(pathSeparator)+epochFile, l.epochs.encode(), durable); err != nil {
		return storageError("write epochs", err)
	}
	l.epochs.dirty = false
	return nil
}
