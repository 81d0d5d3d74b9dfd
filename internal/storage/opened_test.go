package storage

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// killedLogs leaves n logs with one synced and one unsynced batch each, and returns the
// disk as kill -9 leaves it: what was not synced is there, but would not survive a power
// cut. (A Clone's content would.)
func killedLogs(t *testing.T, n int) *vfs.Mem {
	t.Helper()
	mem := vfs.NewMem()
	d := testDir(t, mem, "/data")
	var entries []CheckpointEntry
	for i := range n {
		l, _, err := d.OpenLog(model.Partition{Topic: part.Topic, Index: int32(i)}, Options{})
		ok(t, err)
		l.StartEpoch(1)
		put(t, l, batchSpec{n: 2})
		doSync(t, l)
		entries = append(entries, l.CheckpointEntry(0))
		l.StartEpoch(2)
		put(t, l, batchSpec{n: 3})
	}
	ok(t, d.Checkpoint(entries))
	ok(t, d.lock.Close())
	return mem
}

// openUnsynced opens n logs side by side.
func openUnsynced(t *testing.T, d *Dir, n int) []*Log {
	t.Helper()
	logs := make([]*Log, n)
	for i := range logs {
		var err error
		logs[i], _, err = d.OpenLogUnsynced(model.Partition{Topic: part.Topic, Index: int32(i)}, Options{})
		ok(t, err)
	}
	return logs
}

// What the recovery of many logs finds is made durable for all of them at once: before it
// none vouches for its tail, after it every tail survives a power cut.
func TestRecoveredLogsAreSyncedTogether(t *testing.T) {
	for _, n := range []int{2, fewSyncs + 4} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			mem := killedLogs(t, n)
			disk := vfs.NewFaults(mem)
			d := testDir(t, disk, "/data")
			syncs := map[vfs.Op]int{}
			for _, op := range []vfs.Op{vfs.OpSync, vfs.OpDatasync, vfs.OpSyncFS} {
				disk.Add(vfs.Rule{Op: op, Hook: func(op vfs.Op, name string) {
					if op == vfs.OpSyncFS || strings.HasSuffix(name, logSuffix) {
						syncs[op]++
					}
				}})
			}
			logs := openUnsynced(t, d, n)
			for _, l := range logs {
				if l.FlushedOffset() != 2 || l.EndOffset() != 5 {
					t.Fatalf("before the sync: flushed %d, end %d", l.FlushedOffset(), l.EndOffset())
				}
			}
			if len(syncs) > 0 {
				t.Fatalf("synced while opening: %v", syncs)
			}
			ok(t, d.SyncOpened(logs))
			for _, l := range logs {
				if l.FlushedOffset() != 5 {
					t.Fatalf("after the sync: flushed %d", l.FlushedOffset())
				}
				if _, dirty := l.BeginSync(); dirty {
					t.Fatal("there is still something to sync")
				}
			}
			if many := n > fewSyncs; many != (syncs[vfs.OpSyncFS] == 1) || many == (syncs[vfs.OpSync] > 0) {
				t.Fatalf("%d logs were synced with %v", n, syncs)
			}
			for seed := range uint64(8) {
				cut := testDirBoot(t, mem.CrashClone(seed), "/data", "boot-2")
				for i := range n {
					l, r, err := cut.OpenLog(model.Partition{Topic: part.Topic, Index: int32(i)}, Options{})
					ok(t, err)
					if l.EndOffset() != 5 || r.Damaged || l.LatestEpoch() != 2 {
						t.Fatalf("seed %d: log %d ends at %d (epoch %d) after a power cut: %+v", seed, i, l.EndOffset(), l.LatestEpoch(), r)
					}
				}
			}
		})
	}
}

// A log whose tail could not be made durable refuses everything.
func TestRecoveredLogsThatCannotBeSynced(t *testing.T) {
	for _, n := range []int{2, fewSyncs + 4} {
		disk := vfs.NewFaults(killedLogs(t, n))
		d := testDir(t, disk, "/data")
		logs := openUnsynced(t, d, n)
		broken := errors.New("input/output error")
		disk.Add(vfs.Rule{Op: vfs.OpSyncFS, Err: broken})
		disk.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.log", Err: broken})
		if err := d.SyncOpened(logs); !errors.Is(err, broken) {
			t.Fatalf("%d logs: %v", n, err)
		}
		for _, l := range logs {
			if !errors.Is(l.Failed(), kerr.KafkaStorageError) || l.FlushedOffset() != 2 {
				t.Fatalf("%d logs: failed %v, flushed %d", n, l.Failed(), l.FlushedOffset())
			}
			if _, err := l.Append(batchSpec{}.build(t), AppendArgs{Epoch: 9}); !errors.Is(err, kerr.KafkaStorageError) {
				t.Fatalf("append: %v", err)
			}
			_ = l.Close()
		}
	}
}

// A start gives every log a new epoch. One that nobody wrote to has nothing to write down
// when the node stops, and no file of it is opened; its next leader begins where it was.
func TestStopOfUnusedLogsWritesNothing(t *testing.T) {
	mem := vfs.NewMem()
	d := testDir(t, mem, "/data")
	l, _ := testLog(t, d, Options{})
	l.StartEpoch(1)
	put(t, l, batchSpec{n: 2, ts: 1000})
	ok(t, l.Close())
	ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(2)}))

	disk := vfs.NewFaults(mem)
	d = testDir(t, disk, "/data")
	l, r := testLog(t, d, Options{})
	if !r.Clean {
		t.Fatalf("%+v", r)
	}
	l.StartEpoch(3)
	var did []string
	for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpOpen, vfs.OpWriteAt, vfs.OpRename} {
		disk.Add(vfs.Rule{Op: op, Hook: func(op vfs.Op, name string) { did = append(did, fmt.Sprint(op, " ", name)) }})
	}
	ok(t, l.Close())
	if len(did) > 0 {
		t.Fatalf("closing did %q", did)
	}
	ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(2)}))

	d = testDir(t, mem, "/data")
	l, _ = testLog(t, d, Options{})
	if got := fmt.Sprint(l.Epochs()); got != "[{1 0}]" {
		t.Fatalf("epochs %s", got)
	}
	l.StartEpoch(5)
	put(t, l, batchSpec{n: 1, ts: 2000})
	ok(t, l.Close())
	ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(3)}))
	d = testDir(t, mem, "/data")
	l, _ = testLog(t, d, Options{})
	if got := fmt.Sprint(l.Epochs()); got != "[{1 0} {5 2}]" {
		t.Fatalf("epochs after a record: %s", got)
	}
}

// Until a recovered tail is durable in its own file, the journal's copy of it is kept.
func TestJournalIsKeptUntilTheTailIsSynced(t *testing.T) {
	mem := vfs.NewMem()
	d := testDir(t, mem, "/data")
	l, _ := testLog(t, d, Options{})
	put(t, l, batchSpec{n: 2})
	journal(t, d, l)
	disk := mem.Clone()
	d = testDir(t, disk, "/data")
	l, _, err := d.OpenLogUnsynced(part, Options{})
	ok(t, err)
	if l.EndOffset() != 2 || len(d.journal.leftOf(part)) == 0 {
		t.Fatalf("end %d, %d entries in the journal", l.EndOffset(), len(d.journal.leftOf(part)))
	}
	ok(t, d.SyncOpened([]*Log{l}))
	if l.RecoveryPoint() != 2 || len(d.journal.leftOf(part)) != 0 {
		t.Fatalf("recovery point %d, %d entries in the journal", l.RecoveryPoint(), len(d.journal.leftOf(part)))
	}
}
