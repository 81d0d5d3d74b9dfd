package replica

import (
	"errors"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// A log that cannot be opened is a storage error that names its cause, not another
// leader's partition; the next image tries again. Until it opened, the directory's tails
// are not to be trusted, and a stop must not say that they are.
func TestLogThatCannotBeOpened(t *testing.T) {
	b := newBench(t)
	p := b.apply(alone("os"))
	if _, err := b.append(p, 0, nil, 0); err != nil {
		t.Fatal(err)
	}
	p.Write()
	disk := b.disk.Clone() // kill -9
	faults := vfs.NewFaults(disk)
	b.disk, b.fs = disk, faults
	b.open()
	dirID := b.m.dirs[0].d.ID()
	if err := b.m.dirs[0].d.SetBrokerEpoch(1); err != nil {
		t.Fatal(err)
	}
	faults.Add(vfs.Rule{Op: vfs.OpReadAt, Path: "*.log", Err: errors.New("input/output error")})
	b.m.Apply(b.im)
	_, err := b.m.Lookup([]byte("t"), 0)
	if !errors.Is(err, kerr.KafkaStorageError) || kerr.Message(err) == nil || !strings.Contains(*kerr.Message(err), "input/output error") {
		t.Fatalf("a log that cannot be opened is answered with %v", err)
	}
	if _, err := b.m.LookupID(b.tid, 0); !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatal(err)
	}
	if !b.m.Damaged(dirID) {
		t.Fatal("the tails of the directory pass for good")
	}
	if err := b.m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Stat("/data/clean"); err == nil {
		t.Fatal("a directory with a log that was never opened is marked as clean")
	}
	b.open()
	b.m.Apply(b.im)
	if _, err := b.m.Lookup([]byte("t"), 0); !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatal(err)
	}
	faults.Clear()
	b.m.Apply(b.im)
	if p, err = b.m.Lookup([]byte("t"), 0); err != nil || p.Stats().LogEnd != 1 {
		t.Fatalf("the disk is well again: %v", err)
	}
}

// A directory that cannot be listed may hold the log of any partition: none is begun anew.
func TestUnlistedDirectoryBeginsNoLog(t *testing.T) {
	b := newBench(t)
	_ = b.m.Close()
	faults := vfs.NewFaults(b.disk)
	d, err := storage.OpenDir(faults, "/data", storage.DirOptions{ClusterID: "c", NodeID: 1, BootID: "boot"})
	if err != nil {
		t.Fatal(err)
	}
	faults.Add(vfs.Rule{Op: vfs.OpList, Path: "parts", Err: errors.New("input/output error")})
	o := b.m.o
	o.Dirs = []*storage.Dir{d}
	b.m = New(o)
	id := model.Partition{Topic: b.tid}
	failed := b.m.openAll([]*opening{{tp: model.TopicPartition{Topic: "t"}, id: id, settings: &Settings{}}})
	if failed[id] == nil || len(b.m.Partitions()) > 0 {
		t.Fatal("a log is begun in a directory whose content is unknown")
	}
}
