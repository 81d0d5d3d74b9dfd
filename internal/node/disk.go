package node

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/metrics"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
)

// marks are the limits of free space as they are configured now.
func (b *Broker) marks() replica.Marks {
	o := b.opts.Load()
	mark := func(f config.FreeSpace) storage.Mark { return storage.Mark{Share: f.Share, Bytes: f.Bytes} }
	return replica.Marks{Soft: mark(o.DiskSoft), Hard: mark(o.DiskHard)}
}

// dirFailed is told of a log directory whose disk failed. The other log directories hold
// the marker already; the ensemble's gets it too, for a broker that has one directory only.
func (b *Broker) dirFailed(f replica.DirFailure) {
	if dir := b.o.Meta.dir; dir != "" {
		if err := storage.MarkIOError(b.o.FS, dir, storage.IOError{Dirs: []string{f.ID}, What: f.Err.Error()}); err != nil {
			b.log.Error("the failure of a log directory cannot be noted beside the ensemble", "dir", dir, "err", err)
		}
	}
	if f.Last {
		b.fail(fmt.Errorf("no log directory is left: %w", f.Err))
	}
}

// distrustFailed makes every directory that a marker names Suspect: its disk failed while a
// former life used it.
func (b *Broker) distrustFailed() error {
	failed := map[string]string{}
	all := false
	note := func(fsys vfs.FS, path string) error {
		e, err := storage.ReadIOError(fsys, path)
		var damaged *storage.CorruptError
		if errors.As(err, &damaged) {
			b.log.Error("nobody knows which log directories failed: none is trusted", "err", err)
			all = true
			return nil
		}
		for _, id := range e.Dirs {
			failed[id] = e.What
		}
		return err
	}
	for _, d := range b.dirs {
		if err := note(d.FS(), d.Path()); err != nil {
			return err
		}
	}
	if dir := b.o.Meta.dir; dir != "" {
		if err := note(b.o.FS, dir); err != nil {
			return err
		}
	}
	for _, d := range b.dirs {
		if what, ok := failed[d.ID()]; ok || all {
			b.log.Warn("a log directory failed when it was used last: its tail is read again from the disk and not trusted", "dir", d.Path(), "what", what)
			d.Distrust()
		}
	}
	return nil
}

// forgetFailures removes the markers, once the registration has reported what the
// directories are worth. They stay while a directory that they may name is not here.
func (b *Broker) forgetFailures() error {
	if len(b.dead) > 0 {
		return nil
	}
	for _, d := range b.dirs {
		if err := d.ClearIOError(); err != nil {
			return err
		}
	}
	if dir := b.o.Meta.dir; dir != "" {
		return storage.ClearIOError(b.o.FS, dir)
	}
	return nil
}

// admitOffsets says why a partition of the offsets topic takes no records for want of room.
func (b *Broker) admitOffsets(partition int32) error {
	p, err := b.replicas.Lookup([]byte(meta.OffsetsTopic), partition)
	if err != nil {
		return nil // the coordinator has its own word for that
	}
	return p.AdmitInternal()
}

// degraded are the things that an operator should see to while the broker serves; each is
// one line.
func (b *Broker) degraded() []string {
	var out []string
	for _, d := range b.replicas.Dirs() {
		switch {
		case d.Offline != nil:
			out = append(out, fmt.Sprintf("log directory %s is offline", d.Path))
		case d.Room == replica.RoomNone:
			out = append(out, fmt.Sprintf("log directory %s is full: no records are taken", d.Path))
		case d.Room == replica.RoomLow:
			out = append(out, fmt.Sprintf("log directory %s is nearly full: producers are refused", d.Path))
		}
		if d.Slow {
			out = append(out, fmt.Sprintf("log directory %s has a slow disk", d.Path))
		}
		if n := d.Scrub.Damaged; n > 0 {
			out = append(out, fmt.Sprintf("log directory %s has damaged segments: %d", d.Path, n))
		}
	}
	return out
}

// readyText is what /readyz says while the broker serves. A full or failed directory does
// not take the broker out of service: the others, and all reads, go on.
func (b *Broker) readyText() string {
	return strings.Join(append([]string{"ready"}, b.degraded()...), "\n") + "\n"
}

func (b *Broker) dirMetrics(emit metrics.Emit) {
	for _, d := range b.replicas.Dirs() {
		if d.Space != nil {
			if s, err := d.Space(); err == nil {
				emit(metrics.LogDirTotalBytes, float64(s.Total), d.Path)
				emit(metrics.LogDirFreeBytes, float64(s.Free), d.Path)
			}
		}
		emit(metrics.LogDirOffline, bit(d.Offline != nil), d.Path)
		emit(metrics.LogDirLow, bit(d.Room != replica.RoomEnough), d.Path)
		emit(metrics.LogDirFull, bit(d.Room == replica.RoomNone), d.Path)
		emit(metrics.LogDirSlow, bit(d.Slow), d.Path)
		emit(metrics.LogDirSyncsTotal, float64(d.Syncs), d.Path)
		emit(metrics.LogDirSyncSecondsTotal, d.SyncTime.Seconds(), d.Path)
		emit(metrics.LogDirScrubbing, bit(d.Scrub.Running), d.Path)
		emit(metrics.LogDirScrubbedBytesTotal, float64(d.Scrub.ReadBytes), d.Path)
		emit(metrics.LogDirScrubbedSeconds, float64(d.Scrub.CompletedMs)/1000, d.Path)
		emit(metrics.LogDirDamagedSegments, float64(d.Scrub.Damaged), d.Path)
	}
}
