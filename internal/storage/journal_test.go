package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// other is a second partition beside part.
var other = model.Partition{Topic: part.Topic, Index: 4}

func openTwo(t *testing.T, d *Dir) (a, b *Log) {
	t.Helper()
	a, _ = testLog(t, d, Options{})
	b, _, err := d.OpenLog(other, Options{})
	ok(t, err)
	return a, b
}

// journal makes what the logs have written durable through the journal.
func journal(t testing.TB, d *Dir, logs ...*Log) bool {
	t.Helper()
	var buf []byte
	var tails []Tail
	for _, l := range logs {
		tail, b, did := l.AppendTail(buf)
		if !did {
			t.Fatal("the log has no tail for the journal")
		}
		buf, tails = b, append(tails, tail)
	}
	did, err := d.Journal().Append(buf)
	ok(t, err)
	for i, l := range logs {
		if did {
			l.TailDurable(tails[i])
		}
	}
	return did
}

// One sync makes the ends of two logs durable, names of new files and directories
// included, though neither log's own file was synced.
func TestJournalReplay(t *testing.T) {
	mem := vfs.NewMem()
	faults := vfs.NewFaults(mem)
	d := testDir(t, faults, "/data")
	a, b := openTwo(t, d)
	put(t, a, batchSpec{n: 2})
	put(t, b, batchSpec{n: 3})
	journal(t, d, a, b) // creates the journal
	put(t, a, batchSpec{n: 4, pid: 7})
	put(t, b, batchSpec{n: 5})
	syncs := 0
	for _, op := range []vfs.Op{vfs.OpDatasync, vfs.OpSync, vfs.OpSyncDir, vfs.OpSyncFS} {
		faults.Add(vfs.Rule{Op: op, Hook: func(vfs.Op, string) { syncs++ }})
	}
	journal(t, d, a, b)
	if syncs != 1 {
		t.Errorf("%d syncs for two logs, want 1", syncs)
	}
	if a.FlushedOffset() != 6 || b.FlushedOffset() != 8 || a.RecoveryPoint() != 0 {
		t.Errorf("flushed %d and %d, recovery point %d", a.FlushedOffset(), b.FlushedOffset(), a.RecoveryPoint())
	}
	put(t, a, batchSpec{n: 1}) // promised to nobody

	// Nothing but synced bytes is left, and once more after half a start.
	after := mem.CrashClone(0)
	for _, lost := range []int{2, 0} {
		d2 := testDirBoot(t, after, "/data", "boot-2")
		la, ra := testLog(t, d2, Options{})
		if la.EndOffset() != 6 || ra.FromJournal != lost || ra.Damaged || la.FlushedOffset() != 6 || la.RecoveryPoint() != 6 {
			t.Fatalf("end %d, flushed %d, %+v", la.EndOffset(), la.FlushedOffset(), ra)
		}
		if la.Producers() != 1 {
			t.Errorf("%d producers, want the one whose batch only the journal had", la.Producers())
		}
		if got := readAll(t, la, 0, 6, 1<<20); len(got) != 2 {
			t.Errorf("%d batches", len(got))
		}
		after = after.CrashClone(0)
	}
	d3 := testDirBoot(t, after, "/data", "boot-3")
	_, lb := openTwo(t, d3)
	if lb.EndOffset() != 8 {
		t.Errorf("the other log ends at %d, want 8: its entries were given up before it was opened", lb.EndOffset())
	}
}

// A file is not used again before the logs have synced what it holds, and then it is.
func TestJournalReuse(t *testing.T) {
	mem := vfs.NewMem()
	d := testDir(t, mem, "/data")
	d.journal.limit = 2 << 10
	a, b := openTwo(t, d)
	n := 0
	for ; ; n++ {
		put(t, a, batchSpec{n: 1, size: 100})
		if !journal(t, d, a) {
			break
		}
		if n > 100 {
			t.Fatal("the journal has no end")
		}
	}
	if !d.Journal().Crowded() {
		t.Error("a full journal is not called crowded")
	}
	before := len(names(t, mem, "/data/journal"))
	if before != journalFiles {
		t.Errorf("%d files, want %d", before, journalFiles)
	}
	// Only what was appended before the mark is released.
	m := d.Journal().Mark()
	doSync(t, a)
	d.Journal().Release(m)
	for range n / 2 { // what fits one file, so that the next use of it is due
		put(t, a, batchSpec{n: 1, size: 100})
		if !journal(t, d, a) {
			t.Fatal("no room though all was released")
		}
	}
	put(t, b, batchSpec{n: 1})
	journal(t, d, b)
	l, r := testLog(t, testDirBoot(t, mem.CrashClone(0), "/data", "boot-2"), Options{})
	if l.EndOffset() != a.FlushedOffset() || r.Damaged {
		t.Errorf("end %d, flushed was %d, %+v", l.EndOffset(), a.FlushedOffset(), r)
	}
	if after := len(names(t, mem, "/data/journal")); after != before {
		t.Errorf("%d files became %d", before, after)
	}
}

// What is left of an earlier life for a log that is not opened stays, however much is
// appended and released meanwhile.
func TestJournalKeepsForUnopened(t *testing.T) {
	mem := vfs.NewMem()
	d := testDir(t, mem, "/data")
	a, b := openTwo(t, d)
	put(t, a, batchSpec{n: 1})
	put(t, b, batchSpec{n: 9})
	journal(t, d, a, b)
	mem = mem.CrashClone(0)
	d = testDirBoot(t, mem, "/data", "boot-2")
	d.journal.limit = 2 << 10
	l, _ := testLog(t, d, Options{})
	for range 60 {
		put(t, l, batchSpec{n: 1, size: 100})
		if !journal(t, d, l) {
			m := d.Journal().Mark()
			doSync(t, l)
			d.Journal().Release(m)
		}
	}
	ok(t, l.Close())
	ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(0)}))
	d = testDirBoot(t, mem, "/data", "boot-2")
	lb, r, err := d.OpenLog(other, Options{})
	ok(t, err)
	if lb.EndOffset() != 9 || r.FromJournal != 1 {
		t.Errorf("end %d, %+v", lb.EndOffset(), r)
	}
	// Once it is taken over, files that are more than needed go.
	for range 60 {
		put(t, lb, batchSpec{n: 1, size: 100})
		if !journal(t, d, lb) {
			m := d.Journal().Mark()
			doSync(t, lb)
			d.Journal().Release(m)
		}
	}
	if n := len(names(t, mem, "/data/journal")); n > journalFiles {
		t.Errorf("%d files, want at most %d", n, journalFiles)
	}
}

// A partition that is removed and comes back empty gets nothing out of the journal.
func TestJournalForgetsRemoved(t *testing.T) {
	mem := vfs.NewMem()
	d := testDir(t, mem, "/data")
	l, _ := testLog(t, d, Options{})
	put(t, l, batchSpec{n: 5})
	journal(t, d, l)
	ok(t, l.Close())
	ok(t, d.RemoveLog(part))
	l, _ = testLog(t, testDirBoot(t, mem.CrashClone(0), "/data", "boot-2"), Options{})
	if l.EndOffset() != 0 {
		t.Errorf("a removed log came back with %d records", l.EndOffset())
	}
}

// A log whose start lies within a batch that only the journal has keeps that batch.
func TestJournalAcrossStart(t *testing.T) {
	for _, start := range []model.Offset{0, 1, 2, 3, 5, 6} {
		for seed := range uint64(8) {
			mem := vfs.NewMem()
			d := testDir(t, mem, "/data")
			l, _ := testLog(t, d, Options{})
			put(t, l, batchSpec{n: 2})
			put(t, l, batchSpec{n: 3})
			put(t, l, batchSpec{n: 1})
			journal(t, d, l)
			ok(t, l.AdvanceStart(start))
			after := mem.CrashClone(seed)
			for life := range 2 {
				d := testDirBoot(t, after, "/data", fmt.Sprint("boot-", life+2))
				l, r := testLog(t, d, Options{})
				if l.EndOffset() != 6 || l.StartOffset() != start || r.Damaged {
					t.Fatalf("start %d, seed %d, life %d: the log is %d to %d, %+v", start, seed, life, l.StartOffset(), l.EndOffset(), r)
				}
				if start < 6 {
					if got := readAll(t, l, start, 6, 1<<20); len(got) == 0 || got[0].BaseOffset() > start {
						t.Fatalf("start %d, seed %d: %d batches", start, seed, len(got))
					}
				}
				after = after.CrashClone(seed)
			}
		}
	}
}

// A clean stop leaves nothing to read in the journal.
func TestJournalCleanStop(t *testing.T) {
	mem := vfs.NewMem()
	d := testDir(t, mem, "/data")
	l, _ := testLog(t, d, Options{})
	put(t, l, batchSpec{n: 5})
	journal(t, d, l)
	ok(t, l.Close())
	ok(t, d.SetBrokerEpoch(1))
	ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(0)}))
	d = testDir(t, mem.CrashClone(0), "/data")
	if n := len(d.journal.left); n != 0 || d.Class() != Clean {
		t.Errorf("%d partitions in the journal, class %v", n, d.Class())
	}
	if l, r := testLog(t, d, Options{}); l.EndOffset() != 5 || !r.Clean {
		t.Errorf("end %d, %+v", l.EndOffset(), r)
	}
}

// A damaged entry costs its own log what it held and what came after, and that is reported;
// whole entries before and behind it count, for all other logs.
func TestJournalDamage(t *testing.T) {
	mem := vfs.NewMem()
	d := testDir(t, mem, "/data")
	a, b := openTwo(t, d)
	var starts, ends []int64 // of a's entries
	at := int64(journalHeadLen)
	for i := range 3 {
		put(t, a, batchSpec{n: 1 + i})
		put(t, b, batchSpec{n: 1})
		_, alone, _ := a.AppendTail(nil)
		journal(t, d, a, b)
		starts, ends = append(starts, at), append(ends, at+int64(len(alone)))
		at = d.journal.files[0].end
	}
	name := d.journal.files[0].name
	flip := func(at int64) (*Log, Recovery) {
		t.Helper()
		disk := mem.CrashClone(0)
		f, err := disk.OpenReadWrite(name)
		ok(t, err)
		var c [1]byte
		_, err = f.ReadAt(c[:], at)
		ok(t, err)
		c[0] ^= 0x10
		_, err = f.WriteAt(c[:], at)
		ok(t, err)
		ok(t, f.Close())
		return testLog(t, testDirBoot(t, disk, "/data", "boot-2"), Options{})
	}
	for at := starts[0]; at < d.journal.files[0].end; at += 3 {
		l, r := flip(at)
		want, damaged := model.Offset(6), false
		for i, end := range []model.Offset{0, 1, 3} {
			if starts[i] <= at && at < ends[i] {
				want, damaged = end, i < 2 // behind the last one nothing tells that it ever was
			}
		}
		if l.EndOffset() != want || r.Damaged != damaged {
			t.Fatalf("byte %d flipped: end %d, damaged %v, want %d, %v; %+v", at, l.EndOffset(), r.Damaged, want, damaged, r)
		}
	}
	for at := range int64(journalHeadLen) {
		if l, _ := flip(at); l.EndOffset() != 0 {
			t.Fatalf("a file with a damaged header (byte %d) was read", at)
		}
	}
	// The log lost more than the journal can give back.
	doSync(t, a)
	ok(t, d.Checkpoint([]CheckpointEntry{a.CheckpointEntry(0)}))
	put(t, a, batchSpec{n: 2})
	journal(t, d, a)
	disk := mem.CrashClone(0)
	ok(t, disk.Remove(a.segPath(a.active(), logSuffix)))
	f, err := disk.OpenReadWrite(name)
	ok(t, err)
	_, err = f.WriteAt(make([]byte, int(at)-journalHeadLen), int64(journalHeadLen))
	ok(t, err)
	// Move the last entry to where the first one was.
	e, err := vfs.ReadFile(mem, name, 1<<30)
	ok(t, err)
	_, err = f.WriteAt(e[at:d.journal.files[0].end], int64(journalHeadLen))
	ok(t, err)
	ok(t, f.Close())
	if l, r := testLog(t, testDirBoot(t, disk, "/data", "boot-2"), Options{}); !r.Damaged || l.EndOffset() != 0 {
		t.Errorf("a hole is not reported: end %d, %+v", l.EndOffset(), r)
	}
}

// A full disk is no failure: the journal has no room, and has some again later. A sync
// that fails is final.
func TestJournalFaults(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpWriteAt} {
		t.Run("full at "+string(op), func(t *testing.T) {
			faults := vfs.NewFaults(vfs.NewMem())
			d := testDir(t, faults, "/data")
			l, _ := testLog(t, d, Options{})
			put(t, l, batchSpec{n: 1})
			faults.Add(vfs.Rule{Op: op, Path: "*.journal", Times: 1, Err: syscall.ENOSPC})
			if journal(t, d, l) {
				t.Error("no room, and yet it is durable")
			}
			if !journal(t, d, l) {
				t.Error("there is room again, and it is not used")
			}
		})
	}
	faults := vfs.NewFaults(vfs.NewMem())
	d := testDir(t, faults, "/data")
	l, _ := testLog(t, d, Options{})
	put(t, l, batchSpec{n: 1})
	boom := errors.New("boom")
	faults.Add(vfs.Rule{Op: vfs.OpDatasync, Path: "*.journal", Times: 1, Err: boom})
	_, b, _ := l.AppendTail(nil)
	for range 2 {
		if did, err := d.Journal().Append(b); did || !errors.Is(err, boom) {
			t.Errorf("after a failed sync: %v, %v", did, err)
		}
	}
}

// A tail that is too long or reaches over segments is not for the journal.
func TestTailsThatNeedASync(t *testing.T) {
	d := testDir(t, vfs.NewMem(), "/data")
	l, _ := testLog(t, d, Options{SegmentBytes: 100 << 10})
	if _, _, did := l.AppendTail(nil); did {
		t.Error("a tail without anything to make durable")
	}
	put(t, l, batchSpec{n: 1, size: maxTailBytes})
	if _, _, did := l.AppendTail(nil); did {
		t.Error("a large tail went to the journal")
	}
	doSync(t, l)
	put(t, l, batchSpec{n: 1})
	ok(t, l.Roll())
	put(t, l, batchSpec{n: 1})
	if _, _, did := l.AppendTail(nil); did {
		t.Error("a tail that begins in a closed segment went to the journal")
	}
}

func names(t *testing.T, fsys vfs.FS, dir string) []string {
	t.Helper()
	all, err := fsys.List(dir)
	ok(t, err)
	return all
}

// FuzzJournal opens a directory with any bytes as its journal: it never fails, and what it
// takes from it is whole batches.
func FuzzJournal(f *testing.F) {
	mem := vfs.NewMem()
	d := testDir(f, mem, "/data")
	l, _ := testLog(f, d, Options{})
	for i := range 3 {
		put(f, l, batchSpec{n: 1 + i, pid: 5, seq: int32(i * (i + 1) / 2)})
		journal(f, d, l)
	}
	whole, err := vfs.ReadFile(mem, d.journal.files[0].name, 1<<30)
	ok(f, err)
	whole = whole[:d.journal.files[0].end]
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(whole[:len(whole):len(whole)], make([]byte, 5000)...))
	f.Add([]byte(strings.Repeat("KJRN", 20)))
	f.Add(binary.BigEndian.AppendUint64([]byte(journalMagic), 1<<63))
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := vfs.NewMem()
		d := testDir(t, mem, "/data")
		ok(t, d.Close())
		ok(t, mem.MkdirAll("/data/journal"))
		ok(t, vfs.WriteFile(mem, fmt.Sprintf("/data/journal/%020d%s", 1, journalSuffix), b, true))
		d = testDir(t, mem, "/data")
		l, _, err := d.OpenLog(part, Options{})
		if err != nil {
			return // a good checksum over what is no batch: refused with a name
		}
		readAll(t, l, l.StartOffset(), l.EndOffset(), 1<<20)
		put(t, l, batchSpec{n: 1})
		journal(t, d, l)
	})
}
