package replica

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// applyMany gives the manager topics t0, t1, ... with that many partitions each, all led here.
func (b *bench) applyMany(topics, partitions int) {
	b.rev++
	im := meta.EmptyImage()
	im.Revision = b.rev
	for i := range topics {
		t := &meta.Topic{ID: model.TopicID{1, byte(i)}, Name: fmt.Sprint("t", i)}
		for range partitions {
			st := alone("os")
			t.Partitions = append(t.Partitions, &st)
		}
		im.Topics[t.Name], im.TopicsByID[t.ID] = t, t
	}
	b.im = im
	b.m.Apply(im)
}

// Logs are opened side by side: while one waits for its disk, others do.
func TestLogsAreOpenedSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		_ = b.m.Close()
		disk := vfs.NewFaults(b.disk)
		b.fs = disk
		b.open()
		all := make(chan struct{})
		var at atomic.Int32
		disk.Add(vfs.Rule{Op: vfs.OpList, Hook: func(vfs.Op, string) {
			if at.Add(1) == openers {
				close(all)
			}
			<-all // one after the other would wait for ever
		}})
		b.applyMany(4, openers/2)
		if n := len(b.m.Partitions()); n != 2*openers {
			t.Fatalf("%d partitions are open", n)
		}
		if err := b.m.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// After kill -9 the logs of a start are made durable together, and their tails are served.
func TestTailsAreSyncedTogether(t *testing.T) {
	b := newBench(t)
	const topics, partitions = 4, 8
	b.applyMany(topics, partitions)
	for _, p := range b.m.Partitions() {
		if _, err := b.append(p, 1, &acks{}, 0); err != nil {
			t.Fatal(err)
		}
		p.Write()
	}
	mem := b.disk.Clone()
	disk := vfs.NewFaults(mem)
	var whole, single atomic.Int32
	disk.Add(vfs.Rule{Op: vfs.OpSyncFS, Hook: func(vfs.Op, string) { whole.Add(1) }})
	disk.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.log", Hook: func(vfs.Op, string) { single.Add(1) }})
	b.disk, b.fs = mem, disk
	b.open()
	b.applyMany(topics, partitions)
	if whole.Load() != 1 || single.Load() != 0 {
		t.Fatalf("%d syncs of the file system and %d of segments", whole.Load(), single.Load())
	}
	parts := b.m.Partitions()
	if len(parts) != topics*partitions {
		t.Fatalf("%d partitions", len(parts))
	}
	for _, p := range parts {
		if s := p.Stats(); s.LogEnd != 1 || s.Flushed != 1 || s.HighWatermark != 1 {
			t.Fatalf("%v: %+v", p.TP, s)
		}
	}
}

// A partition's log whose tail cannot be made durable is not served, and no other suffers
// when each is synced by itself.
func TestTailThatCannotBeSynced(t *testing.T) {
	b := newBench(t)
	b.applyMany(1, 2)
	for _, p := range b.m.Partitions() {
		if _, err := b.append(p, 1, &acks{}, 0); err != nil {
			t.Fatal(err)
		}
		p.Write()
	}
	mem := b.disk.Clone()
	disk := vfs.NewFaults(mem)
	disk.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.log", Times: 1, Err: fmt.Errorf("input/output error")})
	b.disk, b.fs = mem, disk
	b.open()
	b.applyMany(1, 2)
	var good, bad int
	for i := range int32(2) {
		if _, err := b.m.Lookup([]byte("t0"), i); err != nil {
			bad++
		} else {
			good++
		}
	}
	if good != 1 || bad != 1 {
		t.Fatalf("%d partitions serve, %d do not", good, bad)
	}
	if !b.m.Damaged(b.m.dirs[0].d.ID()) {
		t.Fatal("the directory's tails pass for good")
	}
	if err := b.m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := mem.Stat("/data/clean"); err == nil {
		t.Fatal("the directory is marked as clean")
	}
}
