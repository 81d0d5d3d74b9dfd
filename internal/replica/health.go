package replica

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// How a log directory's volume is looked after. Free space is looked at every lookEvery,
// and in between every write is counted, so that no burst runs past a mark:
//
//	free >= soft          all is taken
//	soft > free >= hard   no client's records; coordinators, retention and reads go on
//	hard > free           no records at all; reads, retention and checkpoints go on
//
// ENOSPC counts as less than the hard mark for holdFull, whatever the volume says is free
// (a quota, a file system that keeps its last blocks for itself). The ballast is given up
// when less than its size is free or a write was refused, and taken again above the hard
// mark. None of this outlives its cause: the next look that finds room ends it.
//
// An I/O error, a volume that turned read-only or a failed sync is another matter: the
// directory is offline until the process starts again, and the next start does not trust
// what it left.
const (
	lookEvery = time.Second
	// holdFull is how long no record is tried after ENOSPC; what waits for room hears
	// within that time that there is some.
	holdFull = 5 * time.Second
	// noRoom is what is left while ENOSPC counts: less than any mark, and far from where
	// counting writes would wrap.
	noRoom = math.MinInt64 / 2
)

// Room says how much of a directory's volume is left to use.
type Room uint8

// The states of a volume, the better first.
const (
	RoomEnough Room = iota
	// RoomLow: below the soft mark. Clients' records are refused.
	RoomLow
	// RoomNone: below the hard mark, or a write found the volume full. All records are
	// refused.
	RoomNone
)

// String returns enough, low or none.
func (r Room) String() string { return [...]string{"enough", "low", "none"}[r] }

// Marks are the limits of free space.
type Marks struct {
	// Soft is kalda.disk.soft, Hard kalda.disk.hard, which counts no more than Soft.
	Soft, Hard storage.Mark
}

// DirFailure is a log directory that went offline.
type DirFailure struct {
	// ID and Path name it.
	ID, Path string
	// Err is the first error that its disk gave.
	Err error
	// Last: no directory is left.
	Last bool
}

// dirHealth is what a logDir knows of its disk.
type dirHealth struct {
	// failed is why the directory is offline, the KAFKA_STORAGE_ERROR that requests are
	// answered with; nil while it is online.
	failed atomic.Pointer[error]
	// left is what is free by the latest look, less what was written since; soft and hard
	// are the marks in bytes. All of it may be read and written without a lock.
	left, soft, hard atomic.Int64
	// full is the time on Clock.Boot until which ENOSPC counts; 0 for none.
	full atomic.Int64
	// state is the Room of the latest look.
	state atomic.Uint32
	// wake asks for a look now. A set flag: capacity 1.
	wake chan struct{}

	// The rest belongs to watch.
	told     bool // OnDirFailure heard of failed
	room     Room
	ballast  bool // held
	complain bool // that it cannot be held was logged
	slow     slowDisk
}

// saw takes notice of an error of the directory's files; nil and errors that say nothing
// of the disk change nothing. The caller may hold a partition's lock.
func (d *logDir) saw(err error) {
	switch {
	case vfs.DiskFailed(err):
		var e error = kerr.With(kerr.KafkaStorageError, "log directory %s is offline until this broker starts again: %v", d.d.Path(), err)
		if d.failed.CompareAndSwap(nil, &e) {
			d.lookSoon()
		}
	case vfs.NoSpace(err):
		d.full.Store(int64(d.m.o.Clock.Boot() + holdFull))
		d.left.Store(noRoom)
		d.lookSoon()
	}
}

// offline is why nothing of the directory can be used, nil while it can.
func (d *logDir) offline() error {
	if e := d.failed.Load(); e != nil {
		return *e
	}
	return nil
}

func (d *logDir) lookSoon() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// wrote counts bytes that went to the volume.
func (d *logDir) wrote(n int64) {
	left := d.left.Add(-n)
	if soft := d.soft.Load(); left < soft && left+n >= soft {
		d.lookSoon()
	}
}

// admit says whether a client's records may be written.
func (d *logDir) admit() error {
	if left, soft := d.left.Load(), d.soft.Load(); left < soft || left < 0 {
		return d.refusal("kalda.disk.soft", soft)
	}
	return nil
}

// admitInternal says whether a coordinator's records may be written.
func (d *logDir) admitInternal() error {
	if left, hard := d.left.Load(), d.hard.Load(); left < hard || left < 0 {
		return d.refusal("kalda.disk.hard", hard)
	}
	return nil
}

// AdmitInternal says why a coordinator's records cannot be written to the partition for
// want of room, nil if they can.
func (p *Partition) AdmitInternal() error { return p.dir.admitInternal() }

func (d *logDir) refusal(key string, mark int64) error {
	if d.full.Load() != 0 {
		return kerr.With(kerr.KafkaStorageError, "the volume of log directory %s is full: records are taken again when there is room", d.d.Path())
	}
	return kerr.With(kerr.KafkaStorageError, "less than %d bytes (%s) are free on the volume of log directory %s: records are taken again when there is room",
		mark, key, d.d.Path())
}

// look compares what is free with the marks.
func (d *logDir) look() (vfs.Space, Room) {
	s, err := d.d.Space()
	if err != nil {
		d.saw(err)
		return vfs.Space{}, RoomEnough // nobody knows; the writes will tell
	}
	marks := d.m.o.Marks()
	soft := marks.Soft.Of(s.Total)
	hard := min(marks.Hard.Of(s.Total), soft)
	d.soft.Store(soft)
	d.hard.Store(hard)
	if until := d.full.Load(); until != 0 {
		if int64(d.m.o.Clock.Boot()) < until {
			d.left.Store(noRoom)
			return s, RoomNone
		}
		d.full.CompareAndSwap(until, 0)
	}
	d.left.Store(s.Free)
	if d.full.Load() != 0 { // since we asked
		d.left.Store(noRoom)
		return s, RoomNone
	}
	switch {
	case s.Free < hard:
		return s, RoomNone
	case s.Free < soft:
		return s, RoomLow
	}
	return s, RoomEnough
}

// watch looks after the directory's disk until ctx ends.
func (d *logDir) watch(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-t.C:
		}
		t.Reset(lookEvery)
		if d.failed.Load() != nil {
			d.takeOffline()
			continue
		}
		s, room := d.look()
		d.tellRoom(s, room)
		d.keepBallast(s, room)
		d.tellSlow()
	}
}

// tellRoom logs a change, and asks for retention when room begins to lack.
func (d *logDir) tellRoom(s vfs.Space, room Room) {
	was := d.room
	if room == was {
		return
	}
	d.room = room
	d.state.Store(uint32(room))
	log := d.m.o.Logger.With("dir", d.d.Path(), "free_bytes", s.Free, "total_bytes", s.Total, "soft_bytes", d.soft.Load(), "hard_bytes", d.hard.Load())
	switch {
	case room == RoomNone && d.full.Load() != 0:
		log.Error("a write found the volume full: no records are taken until there is room")
	case room == RoomNone:
		log.Error("the volume is nearly full (kalda.disk.hard): no records are taken until there is room")
	case room == RoomLow:
		log.Warn("the volume fills up (kalda.disk.soft): producers are refused until there is room; reads, groups and retention go on")
	default:
		log.Info("there is room again: records are taken")
	}
	if room > was {
		select {
		case d.m.retainNow <- struct{}{}:
		default:
		}
	}
}

// keepBallast gives the ballast up when somebody else needs the room, and takes it back
// when there is enough.
func (d *logDir) keepBallast(s vfs.Space, room Room) {
	size := storage.BallastSize(s.Total)
	switch {
	case size == 0:
	case d.ballast && (s.Free < size || d.full.Load() != 0):
		if err := d.d.ReleaseBallast(); err != nil {
			d.m.o.Logger.Error("the room held back cannot be given up", "dir", d.d.Path(), "err", err)
			d.saw(err)
			return
		}
		d.ballast = false
		d.m.o.Logger.Warn("the room held back was given up, for checkpoints and metadata", "dir", d.d.Path(), "bytes", size)
	case !d.ballast && room != RoomNone && s.Free-size >= d.hard.Load():
		err := d.d.HoldBallast()
		d.ballast = err == nil
		if err != nil && !d.complain {
			d.m.o.Logger.Warn("room cannot be held back", "dir", d.d.Path(), "bytes", size, "err", err)
		}
		d.complain = err != nil
		if vfs.DiskFailed(err) {
			d.saw(err)
		}
	}
}

// takeOffline ends the use of every log of a directory whose disk failed, and leaves word
// of it for the next start.
func (d *logDir) takeOffline() {
	if d.told {
		return
	}
	d.told = true
	why := d.offline()
	d.m.o.Logger.Error("a log directory is offline until the broker starts again", "dir", d.d.Path(), "id", d.d.ID(), "err", why)
	for _, p := range d.m.Partitions() {
		if p.dir == d {
			p.mu.Lock()
			if !p.mu.removed {
				p.goOfflineLocked(why)
			}
			p.mu.Unlock()
		}
	}
	last := true
	for _, o := range d.m.dirs {
		last = last && o.failed.Load() != nil
		// In its own directory too: the disk may still take it.
		if err := o.d.MarkIOError(storage.IOError{Dirs: []string{d.d.ID()}, What: why.Error()}); err != nil && o.failed.Load() == nil {
			d.m.o.Logger.Error("the failure of a directory cannot be noted in another", "dir", o.d.Path(), "err", err)
			o.saw(err)
		}
	}
	if d.m.o.OnDirFailure != nil {
		d.m.o.OnDirFailure(DirFailure{ID: d.d.ID(), Path: d.d.Path(), Err: why, Last: last})
	}
}
