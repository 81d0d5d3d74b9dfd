package replica

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
)

// openBounded opens the manager with a bound on the files of its logs.
func (b *bench) openBounded(limit int) *storage.Files {
	b.t.Helper()
	_ = b.m.Close()
	files := &storage.Files{}
	files.SetLimit(func() int { return limit })
	d, err := storage.OpenDir(b.fs, "/data", storage.DirOptions{ClusterID: "c", NodeID: 1, BootID: "boot", Files: files})
	if err != nil {
		b.t.Fatal(err)
	}
	o := b.m.o
	o.Dirs, o.Files = []*storage.Dir{d}, files
	o.Settings = func(*meta.Image, *meta.Topic) (Settings, error) {
		return Settings{Storage: storage.Options{SegmentBytes: 400}}, nil
	}
	b.m = New(o)
	return files
}

func readArgs(from model.Offset) ReadArgs {
	return ReadArgs{From: from, CurrentEpoch: model.NoLeaderEpoch, LastEpoch: model.NoLeaderEpoch, MaxBytes: 1 << 20, MinOne: true}
}

// Forty partitions of several segments each are written and read with room for twelve
// files: no request fails for it, and the bound holds.
func TestFilesStayWithinTheBound(t *testing.T) {
	b := newBench(t)
	const limit, partitions = 12, 40
	disk := vfs.NewFaults(b.disk)
	b.fs = disk
	files := b.openBounded(limit)
	var syncs atomic.Int32
	disk.Add(vfs.Rule{Op: vfs.OpDatasync, Path: "*.log", Hook: func(vfs.Op, string) { syncs.Add(1) }})
	b.applyMany(1, partitions)
	for round := range 12 {
		for i := range int32(partitions) {
			p, err := b.m.Lookup([]byte("t0"), i)
			if err != nil {
				t.Fatal(err)
			}
			var w acks
			if _, err := b.append(p, 1, &w, 0); err != nil {
				t.Fatalf("round %d, partition %d: %v", round, i, err)
			}
			p.Write()
			if got := w.take(); got != "[0/7:0]" {
				t.Fatalf("round %d, partition %d: acked %s", round, i, got)
			}
			if n := files.Open(); n > limit+3 { // the files of the log at hand
				t.Fatalf("round %d, partition %d: %d files are open, the bound is %d", round, i, n, limit)
			}
			v, err := p.Read(readArgs(model.Offset(round / 2)))
			if err != nil || v.View.Len == 0 {
				t.Fatalf("read: %+v, %v", v, err)
			}
			v.View.Release()
		}
	}
	if syncs.Load() == 0 {
		t.Fatal("nothing was synced, so nothing was dirty: the test tests little")
	}
	if err := b.m.Close(); err != nil {
		t.Fatal(err)
	}
	if n := files.Open(); n != 0 {
		t.Fatalf("%d files are open after Close", n)
	}
}

// What was not used of late goes first; a partition whose lock is held is passed over.
func TestReclaimTakesTheUnusedFirst(t *testing.T) {
	b := newBench(t)
	files := b.openBounded(1000)
	b.applyMany(1, 6)
	var parts []*Partition
	for i := range int32(6) {
		p, err := b.m.Lookup([]byte("t0"), i)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.append(p, 1, &acks{}, 0); err != nil {
			t.Fatal(err)
		}
		p.Write()
		p.mu.Lock()
		p.syncLocked() // clean, and closed
		p.mu.Unlock()
		v, err := p.Read(readArgs(0)) // and open again
		if err != nil {
			t.Fatal(err)
		}
		v.View.Release()
		p.mu.used = i%2 == 0
		parts = append(parts, p)
	}
	isOpen := func(p *Partition) bool {
		before := files.Open()
		p.mu.log.Idle()
		return files.Open() < before
	}
	if n := b.m.reclaim(files, 3); n < 3 {
		t.Fatalf("%d files were closed", n)
	}
	for i, p := range parts {
		if i%2 == 0 != isOpen(p) {
			t.Fatalf("partition %d: the wrong files were closed", i)
		}
	}
	v, err := parts[0].Read(readArgs(0))
	if err != nil {
		t.Fatal(err)
	}
	v.View.Release()
	parts[0].mu.Lock()
	defer parts[0].mu.Unlock()
	if n := b.m.reclaim(files, 1); n != 0 {
		t.Fatal("a partition at work lost its files")
	}
}

// A sync that fails while files are closed for others takes its partition offline, and no
// other.
func TestReclaimMeetsAFailedSync(t *testing.T) {
	b := newBench(t)
	disk := vfs.NewFaults(b.disk)
	b.fs = disk
	files := b.openBounded(1000)
	b.applyMany(1, 2)
	var parts []*Partition
	for i := range int32(2) {
		p, err := b.m.Lookup([]byte("t0"), i)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.append(p, 1, &acks{}, 0); err != nil {
			t.Fatal(err)
		}
		p.Write()
		parts = append(parts, p)
	}
	disk.Add(vfs.Rule{Op: vfs.OpDatasync, Path: "*.log", Times: 1, Err: syscall.EIO})
	b.m.reclaim(files, 100)
	bad := 0
	for _, p := range parts {
		if s := p.Stats(); s.Offline != nil {
			bad++
			if !errors.Is(s.Offline, syscall.EIO) {
				t.Fatal(s.Offline)
			}
		}
	}
	if bad != 1 {
		t.Fatalf("%d partitions are offline", bad)
	}
}
