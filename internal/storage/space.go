package storage

import (
	"errors"
	"io/fs"

	"github.com/kalda-io/kalda/internal/vfs"
)

// Mark is how little may be free on a volume: a share of it or a number of bytes,
// whichever is less. The zero Mark is no limit.
type Mark struct {
	// Share is a part of the volume, at most 1; 0 leaves Bytes alone to count.
	Share float64
	// Bytes is the most that is asked for; 0 leaves Share alone to count.
	Bytes int64
}

// Of is the mark in bytes for a volume of total bytes.
func (m Mark) Of(total int64) int64 {
	share := int64(m.Share * float64(total))
	switch {
	case m.Share <= 0:
		return m.Bytes
	case m.Bytes <= 0:
		return share
	}
	return min(share, m.Bytes)
}

// ballastFile holds room on the volume that nobody else can take. When the volume is full
// all the same, giving it up lets checkpoints, and an ensemble beside them, be written.
const ballastFile = "ballast"

const (
	ballastBytes = 64 << 20 // etcd's preallocated log files are 64 MB
	ballastShare = 100      // at most that part of the volume
)

// BallastSize is how much room a directory on a volume of total bytes holds back.
func BallastSize(total int64) int64 { return min(ballastBytes, total/ballastShare) }

// HoldBallast takes the room of the directory's ballast, or makes sure that it is taken.
// Where there is no room the error is one of vfs.NoSpace and nothing is taken.
func (d *Dir) HoldBallast() error {
	s, err := d.Space()
	if err != nil {
		return storageError("look at the room of "+d.path, err)
	}
	name := d.file(ballastFile)
	f, err := d.fs.OpenReadWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = d.fs.Create(name)
	}
	if err != nil {
		return storageError("open "+ballastFile, err)
	}
	err = vfs.Allocate(f, BallastSize(s.Total))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return storageError("reserve room in "+ballastFile, err)
}

// ReleaseBallast gives the room up, until HoldBallast.
func (d *Dir) ReleaseBallast() error { return FreeBallast(d.fs, d.path) }

// FreeBallast gives up the room of the ballast in a log directory that need not be open;
// without one it does nothing.
func FreeBallast(fsys vfs.FS, path string) error {
	f, err := fsys.OpenReadWrite(path + string(pathSeparator) + ballastFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return storageError("open "+ballastFile, err)
	}
	if err = f.Truncate(0); err == nil {
		// Some file systems give blocks to others only when the change is on disk.
		err = vfs.Synced(f.Sync())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return storageError("give up "+ballastFile, err)
}
