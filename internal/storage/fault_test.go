package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

var errDisk = errors.New("EIO")

// TestFailedSyncIsFinal: after a failed fdatasync nothing is appended or synced again,
// while what was written can still be read.
func TestFailedSyncIsFinal(t *testing.T) {
	disk := vfs.NewFaults(vfs.NewMem())
	d := testDir(t, disk, "/data")
	l, _ := testLog(t, d, Options{})
	put(t, l, batchSpec{n: 3})
	disk.Add(vfs.Rule{Op: vfs.OpDatasync, Times: 1, Err: errDisk})
	s, _ := l.BeginSync()
	if err := l.EndSync(s, s.Run()); !errors.Is(err, errDisk) || !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("EndSync: %v", err)
	}
	if l.FlushedOffset() != 0 || l.Failed() == nil {
		t.Fatalf("flushed %d, failed %v", l.FlushedOffset(), l.Failed())
	}
	_, err := l.Append(batchSpec{}.build(t), AppendArgs{})
	_, again := l.BeginSync()
	_, errDel := l.DeleteOld(0, 3)
	for i, err := range []error{err, l.Write(), l.Roll(), l.TruncateTo(0), l.AdvanceStart(1), errDel, l.Close()} {
		if !errors.Is(err, errDisk) {
			t.Errorf("call %d after a failed sync: %v", i, err)
		}
	}
	if again {
		t.Error("a second sync was begun")
	}
}

// TestFailedWrite: the cut is synced, the producers' state goes back, and a log that
// cannot be cut fails for good.
func TestFailedWrite(t *testing.T) {
	disk := vfs.NewFaults(vfs.NewMem())
	d := testDir(t, disk, "/data")
	l, _ := testLog(t, d, Options{})
	put(t, l, batchSpec{pid: 1, seq: 0})
	var ops []string
	disk.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Times: 1, Short: 100, Err: errDisk})
	disk.Add(vfs.Rule{Path: "*.log", Hook: func(op vfs.Op, _ string) { ops = append(ops, string(op)) }})
	for seq := range int32(3) {
		_, err := l.Append(batchSpec{pid: 1, seq: 1 + seq}.build(t), AppendArgs{Client: true})
		ok(t, err)
	}
	if err := l.Write(); !errors.Is(err, errDisk) || l.Failed() != nil {
		t.Fatalf("write: %v, failed %v", err, l.Failed())
	}
	if got := strings.Join(ops, " "); got != "truncate datasync" {
		t.Fatalf("after the failed write: %q, want the cut and its sync", got)
	}
	if res := put(t, l, batchSpec{pid: 1, seq: 1}); res.BaseOffset != 1 || res.Duplicate {
		t.Fatalf("the same sequence again: %+v", res)
	}
	if res := put(t, l, batchSpec{pid: 2, seq: 50}); res.BaseOffset != 2 {
		t.Fatalf("another producer: %+v", res)
	}

	disk.Clear()
	disk.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Err: errDisk})
	disk.Add(vfs.Rule{Op: vfs.OpTruncate, Path: "*.log", Err: errDisk})
	if _, err := l.Append(batchSpec{size: 50 << 10, pid: 1, seq: 2}.build(t), AppendArgs{Client: true}); !errors.Is(err, errDisk) {
		t.Fatalf("large append: %v", err)
	}
	if l.Failed() == nil {
		t.Fatal("a log with half a batch at its end goes on")
	}
}

// TestViewsOutliveTheLog: roll, retention, delete-records and Close do not take the file
// from a view; truncation makes it say so.
func TestViewsOutliveTheLog(t *testing.T) {
	disks(t, func(t *testing.T, fsys vfs.FS, path string) {
		d := testDir(t, fsys, path)
		l, _ := testLog(t, d, Options{SegmentBytes: 300, Delete: true, RetentionBytes: 1})
		for range 9 {
			put(t, l, batchSpec{n: 5})
		}
		old, err := l.Read(0, l.EndOffset(), 1<<20, true)
		ok(t, err)
		last, err := l.Read(40, l.EndOffset(), 1<<20, true)
		ok(t, err)
		cut, err := l.Read(40, l.EndOffset(), 1<<20, true)
		ok(t, err)
		ok(t, l.Roll())
		if n, err := l.DeleteOld(0, 40); err != nil || n < 3 {
			t.Fatalf("deleted %d, %v", n, err)
		}
		if b := record.Batch(readView(t, old)); b.BaseOffset() != 0 || !b[:b.Size()].CheckCRC() {
			t.Fatal("view of a deleted segment")
		}
		ok(t, l.TruncateTo(42))
		if _, err := cut.ReadAt(make([]byte, cut.Len), 0); !errors.Is(err, ErrTruncated) {
			t.Fatalf("view of a truncated segment: %v", err)
		}
		cut.Release()
		last.Release()
		put(t, l, batchSpec{n: 5})
		v, err := l.Read(40, l.EndOffset(), 1<<20, true)
		ok(t, err)
		ok(t, l.Close())
		if b := record.Batch(readView(t, v)); b.BaseOffset() != 40 {
			t.Fatalf("view of a closed log begins at %d", b.BaseOffset())
		}
		if _, err := l.Read(40, 45, 1, true); err == nil {
			t.Fatal("a closed log was read")
		}
	})
}

// cleanLog makes a log of several closed segments with producers, closed cleanly.
func cleanLog(t testing.TB) (*vfs.Mem, []record.Batch, string) {
	m := vfs.NewMem()
	d := testDir(t, m, "/data")
	l, _ := testLog(t, d, Options{SegmentBytes: 3000, IndexIntervalBytes: 200})
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 60 {
		s := batchSpec{n: 1 + rng.IntN(3), ts: int64(1000 + 10*i), size: 1 + rng.IntN(200)}
		if i%2 == 0 {
			s.pid, s.n, s.seq = 4, 1, int32(i/2)
		}
		if i%20 == 0 {
			l.StartEpoch(model.LeaderEpoch(i))
		}
		put(t, l, s)
	}
	doSync(t, l)
	all := readAll(t, l, 0, l.EndOffset(), 1<<20)
	path := l.Path()
	ok(t, l.Close())
	ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(l.EndOffset())}))
	return m, all, path
}

// TestFlips flips single bits in every file of a clean log (F26). Whatever is served is
// what was written, or an error says where the damage is; nothing is missed but what
// lies under a batch's own checksum, which the reader of the batch checks.
func TestFlips(t *testing.T) {
	m, all, path := cleanLog(t)
	want := concat(all)
	names, err := m.List(path)
	ok(t, err)
	lastBase := ""
	for _, name := range names {
		if strings.HasSuffix(name, logSuffix) {
			lastBase = strings.TrimSuffix(name, logSuffix)
		}
	}
	rng := rand.New(rand.NewPCG(2, 2))
	rebuilt, reported, served := 0, 0, 0
	for round := range 400 {
		name := names[rng.IntN(len(names))]
		in, err := m.Stat(path + "/" + name)
		ok(t, err)
		if in.Size == 0 {
			continue
		}
		c := m.Clone()
		bit := rng.Int64N(in.Size * 8)
		flip(t, c, path+"/"+name, bit)
		what := fmt.Sprintf("round %d: %s bit %d", round, name, bit)
		d, err := OpenDir(c, "/data", DirOptions{ClusterID: "c1", NodeID: 7, BootID: "boot-1"})
		ok(t, err)
		l, _, err := d.OpenLog(part, Options{SegmentBytes: 3000, IndexIntervalBytes: 200})
		if err != nil {
			if !isCorrupt(err) {
				t.Fatalf("%s: %v", what, err)
			}
			reported++
			continue
		}
		var got []byte
		damaged := false
		for from := l.StartOffset(); from < l.EndOffset() && !damaged; {
			v, err := l.Read(from, l.EndOffset(), 500, true)
			if err != nil {
				if !isCorrupt(err) {
					t.Fatalf("%s: %v", what, err)
				}
				damaged = true
				break
			}
			b := readView(t, v)
			got = append(got, b...)
			for len(b) > 0 {
				batch, rest, err := record.Split(b)
				if err != nil {
					t.Fatalf("%s: served bytes that are no batch: %v", what, err)
				}
				if !batch.CheckCRC() {
					damaged = true // the reader of the batch sees it
					break
				}
				from, b = batch.NextOffset(), rest
			}
		}
		if damaged {
			reported++
			continue
		}
		if bytes.Equal(got, want) {
			served++
			if l.Events().IndexesRebuilt+l.Events().SumsRebuilt > 0 {
				rebuilt++
			}
			at, found, err := l.OffsetForTimestamp(1305, l.EndOffset())
			if err != nil || !found || at.Timestamp < 1305 || at.Timestamp > 1310 {
				t.Fatalf("%s: time 1305 found %+v, %v", what, at, err)
			}
			continue
		}
		// In the active segment nothing guards the headers' first bytes but the order of
		// offsets and epochs; the checksums of its batches hold.
		if !strings.HasPrefix(name, lastBase) {
			t.Fatalf("%s: other bytes than written were served, and nobody can tell", what)
		}
	}
	if rebuilt == 0 || reported == 0 || served == 0 {
		t.Fatalf("rebuilt %d, reported %d, served %d: the test does not test", rebuilt, reported, served)
	}
}

// TestMissingSides: any of the files beside the log may be lost; nothing changes but the
// counters.
func TestMissingSides(t *testing.T) {
	m, all, path := cleanLog(t)
	names, err := m.List(path)
	ok(t, err)
	for _, pattern := range []string{".index", ".timeindex", ".sums", ".producers", ".snapshot", epochFile, "all"} {
		c := m.Clone()
		for _, name := range names {
			if strings.HasSuffix(name, pattern) || pattern == "all" && !strings.HasSuffix(name, ".log") {
				ok(t, c.Remove(path+"/"+name))
			}
		}
		d := testDir(t, c, "/data")
		l, r := testLog(t, d, Options{SegmentBytes: 3000, IndexIntervalBytes: 200})
		if got := concat(readAll(t, l, 0, l.EndOffset(), 500)); !bytes.Equal(got, concat(all)) {
			t.Fatalf("without %s: other bytes", pattern)
		}
		if got, err := l.Append(batchSpec{pid: 4, seq: 29}.build(t), AppendArgs{Epoch: 40, Client: true}); err != nil || !got.Duplicate {
			t.Fatalf("without %s: a repeat was appended: %+v, %v", pattern, got, err)
		}
		if e, o := l.EpochEnd(20); e != 20 || o != all[40].BaseOffset() {
			t.Fatalf("without %s: epoch 20 ends at (%d, %d), want %d", pattern, e, o, all[40].BaseOffset())
		}
		if at, found, err := l.OffsetForTimestamp(1305, l.EndOffset()); err != nil || !found || at.Timestamp < 1305 || at.Timestamp > 1310 {
			t.Fatalf("without %s: time 1305 found %+v, %v", pattern, at, err)
		}
		ev := l.Events()
		if (pattern == ".index" || pattern == ".timeindex") && ev.IndexesRebuilt == 0 || pattern == ".sums" && ev.SumsRebuilt == 0 ||
			pattern == epochFile && len(r.Rebuilt) == 0 {
			t.Fatalf("without %s: %+v %+v: rebuilt in silence", pattern, ev, r)
		}
		ok(t, d.Close())
	}
}

// TestTornTails: what a crash leaves behind the last batch is cut; what it cannot leave
// is reported as damage (F25).
func TestTornTails(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(f vfs.File, size, lastLen int64)
		lost    int // batches
		reason  error
		damaged bool
	}{
		{"half a header", func(f vfs.File, size, last int64) { _ = f.Truncate(size - last + 30) }, 1, ErrTorn, false},
		{"half a batch", func(f vfs.File, size, last int64) { _ = f.Truncate(size - 5) }, 1, ErrTorn, false},
		{"zeros behind", func(f vfs.File, size, last int64) { _ = f.Truncate(size + 5000) }, 0, nil, false},
		{"last batch zeroed", func(f vfs.File, size, last int64) { _, _ = f.WriteAt(make([]byte, last), size-last) }, 1, nil, false},
		{"a few zeros", func(f vfs.File, size, last int64) { _ = f.Truncate(size + 7) }, 0, nil, false},
		{"zeros and a leftover", func(f vfs.File, size, last int64) { _, _ = f.WriteAt([]byte{7}, size+9000) }, 0, ErrZeros, false},
		{"flip in the last batch", func(f vfs.File, size, last int64) { _, _ = f.WriteAt([]byte{0xff}, size-3) }, 1, ErrChecksum, false},
		{"flip in the middle", func(f vfs.File, size, last int64) { _, _ = f.WriteAt([]byte{0xff}, size-2*last-3) }, 3, ErrChecksum, true},
		{"impossible length", func(f vfs.File, size, last int64) { _, _ = f.WriteAt([]byte{0, 0, 0, 3}, size-last+8) }, 1, ErrLength, false},
		{"old magic", func(f vfs.File, size, last int64) { _, _ = f.WriteAt([]byte{1}, size-last+16) }, 1, ErrMagic, false},
		{"offset far ahead", func(f vfs.File, size, last int64) { _, _ = f.WriteAt([]byte{0, 1}, size-last) }, 1, ErrRange, true},
		{"offset runs back", func(f vfs.File, size, last int64) { _, _ = f.WriteAt(make([]byte, 8), size-last) }, 1, ErrOrder, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := vfs.NewMem()
			d := testDir(t, m, "/data")
			l, _ := testLog(t, d, Options{})
			for range 10 {
				put(t, l, batchSpec{n: 5})
			}
			all := readAll(t, l, 0, 50, 1<<20)
			ok(t, d.SetBrokerEpoch(1))
			f, err := m.OpenReadWrite(l.segPath(l.active(), logSuffix))
			ok(t, err)
			size, last := l.Size(), int64(len(all[9]))
			c.change(f, size, last)
			now, err := f.Size()
			ok(t, err)
			ok(t, d.Close())
			l, r := testLog(t, testDir(t, m, "/data"), Options{})
			keep := all[:10-c.lost]
			if got := concat(readAll(t, l, 0, l.EndOffset(), 1<<20)); !bytes.Equal(got, concat(keep)) {
				t.Fatalf("end %d after recovery", l.EndOffset())
			}
			cut := now - int64(len(concat(keep)))
			if c.reason == nil { // what is prewritten is no loss
				cut = 0
			}
			if !errors.Is(r.CutReason, c.reason) || r.Damaged != c.damaged || r.CutBytes != cut {
				t.Fatalf("recovery %+v", r)
			}
			if in, err := m.Stat(l.segPath(l.active(), logSuffix)); err != nil || in.Size != l.Size() {
				t.Fatalf("the file has %d bytes, the log %d, %v", in.Size, l.Size(), err)
			}
			put(t, l, batchSpec{})
		})
	}
}

// TestAppendReplica: a follower keeps the leader's offsets and epochs, gaps included.
func TestAppendReplica(t *testing.T) {
	m := vfs.NewMem()
	l, _ := testLog(t, testDir(t, m, "/data"), Options{})
	replica := func(base model.Offset, epoch model.LeaderEpoch, n int) error {
		b := batchSpec{n: n}.build(t)
		b.SetBaseOffset(base)
		b.SetLeaderEpoch(epoch)
		_, err := l.AppendReplica(b)
		if err == nil {
			err = l.Write()
		}
		return err
	}
	ok(t, replica(0, 1, 3))
	ok(t, replica(10, 1, 3)) // compaction took the records between
	ok(t, replica(13, 4, 2))
	if err := replica(14, 4, 1); !errors.Is(err, kerr.CorruptMessage) {
		t.Fatalf("an offset below the log end: %v", err)
	}
	if err := replica(15, 3, 1); !errors.Is(err, kerr.CorruptMessage) {
		t.Fatalf("an older epoch: %v", err)
	}
	if e, o := l.EpochEnd(1); e != 1 || o != 13 {
		t.Fatalf("epoch 1 ends at (%d, %d)", e, o)
	}
	v, err := l.Read(5, 15, 1000, true)
	ok(t, err)
	if v.Base != 10 {
		t.Fatalf("read in a gap begins at %d", v.Base)
	}
	v.Release()

	// Delete-records in mid-batch on the leader: the first batch begins below the start.
	ok(t, l.TruncateTo(0))
	ok(t, l.AdvanceStart(0))
	ok(t, replica(0, 5, 10))
	ok(t, l.AdvanceStart(10))
	ok(t, l.TruncateTo(10))
	ok(t, l.AdvanceStart(l.EndOffset()))
	ok(t, l.TruncateTo(2)) // starts anew, as a follower does at the leader's log start
	if l.StartOffset() != 2 || l.EndOffset() != 2 {
		t.Fatalf("[%d, %d)", l.StartOffset(), l.EndOffset())
	}
	ok(t, replica(0, 5, 5))
	if l.StartOffset() != 2 || l.EndOffset() != 5 {
		t.Fatalf("[%d, %d)", l.StartOffset(), l.EndOffset())
	}
	if got := readAll(t, l, 2, 5, 1000); len(got) != 1 || got[0].BaseOffset() != 0 {
		t.Fatalf("%d batches", len(got))
	}
	doSync(t, l)
	l2, r := testLog(t, testDirBoot(t, m.CrashClone(0), "/data", "x"), Options{})
	if l2.StartOffset() != 2 || l2.EndOffset() != 5 {
		t.Fatalf("after a crash [%d, %d), %+v", l2.StartOffset(), l2.EndOffset(), r)
	}
}

// TestOffline: verify finds what is wrong and says whether a rebuild helps; it does.
func TestOffline(t *testing.T) {
	m, all, path := cleanLog(t)
	seg := path + "/" + fileName(0, logSuffix)
	r, err := VerifySegment(m, seg)
	ok(t, err)
	if len(r.Problems) != 0 || !r.Sealed || r.First != 0 || r.Batches == 0 {
		t.Fatalf("good segment: %+v", r)
	}
	var out bytes.Buffer
	names, err := m.List(path)
	ok(t, err)
	for _, name := range names {
		ok(t, Dump(m, path+"/"+name, &out))
	}
	ok(t, Dump(m, "/data/checkpoints", &out))
	if n := strings.Count(out.String(), "baseOffset:"); n != len(all) {
		t.Fatalf("dump shows %d batches of %d", n, len(all))
	}
	if strings.Contains(out.String(), "isvalid: false") || !strings.Contains(out.String(), "sequence: 29-29") {
		t.Fatal(out.String())
	}

	c := m.Clone()
	flip(t, c, path+"/"+fileName(0, indexSuffix), 70)
	flip(t, c, path+"/"+fileName(0, timeIndexSuffix), 3)
	if r, err = VerifySegment(c, seg); err != nil || len(r.Problems) != 2 || !r.Problems[0].Rebuildable || !r.Problems[1].Rebuildable {
		t.Fatalf("flipped indexes: %+v, %v", r, err)
	}
	ok(t, RebuildIndex(c, seg, 200))
	if r, err = VerifySegment(c, seg); err != nil || len(r.Problems) != 0 {
		t.Fatalf("rebuilt: %+v, %v", r, err)
	}
	l, _ := testLog(t, testDir(t, c, "/data"), Options{})
	readAll(t, l, 0, l.EndOffset(), 300)
	if l.Events().IndexesRebuilt != 0 {
		t.Fatal("the log does not believe the rebuilt index")
	}

	if err := l.VerifyHeaders(); err != nil {
		t.Fatal(err)
	}
	c = m.Clone()
	flip(t, c, seg, 12*8+3)
	l, _ = testLog(t, testDir(t, c, "/data"), Options{})
	var damage *CorruptError
	if err := l.VerifyHeaders(); !errors.As(err, &damage) || damage.Path != seg || !errors.Is(err, ErrSums) {
		t.Fatalf("a flipped epoch: %v", err)
	}

	for bit, want := range map[int64]error{3*8 + 1: ErrSums, 70 * 8: ErrChecksum, 8 * 8: ErrTorn} {
		c = m.Clone()
		flip(t, c, seg, bit)
		r, err = VerifySegment(c, seg)
		found := false
		for _, p := range r.Problems {
			found = found || errors.Is(p.Err, want) && !p.Rebuildable
		}
		if err != nil || !found {
			t.Errorf("bit %d: %+v, %v; want %v", bit, r.Problems, err, want)
		}
		if err := RebuildIndex(c, seg, 200); err == nil {
			t.Errorf("bit %d: an index was rebuilt from a damaged log", bit)
		}
		if err := ReadBatches(c, seg, func(b BatchInfo) error {
			if !b.CRCOK {
				return io.ErrUnexpectedEOF
			}
			return nil
		}); want != ErrSums && err == nil {
			t.Errorf("bit %d: ReadBatches saw nothing", bit)
		}
	}
}

// TestProducersOfALongLog: without snapshots a long log is read back ten minutes by its
// records' time: those who wrote then are known, those before are not.
func TestProducersOfALongLog(t *testing.T) {
	m := vfs.NewMem()
	d := testDir(t, m, "/data")
	l, _ := testLog(t, d, Options{SegmentBytes: 4 << 20})
	const minute = 60_000
	for i := range 60 { // one batch a minute, each of its own producer
		put(t, l, batchSpec{pid: model.ProducerID(100 + i), seq: 5, ts: int64(i) * minute, size: 200 << 10})
	}
	ok(t, l.Close())
	ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(0)}))
	names, err := m.List(l.Path())
	ok(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, producersSuffix) {
			ok(t, m.Remove(l.Path()+"/"+name))
		}
	}
	l, _ = testLog(t, testDir(t, m, "/data"), Options{})
	if l.Producers() != 11 { // minutes 49 to 59
		t.Fatalf("%d producers known", l.Producers())
	}
	for i, dup := range map[int]bool{59: true, 49: true, 48: false, 0: false} {
		res, err := l.Append(batchSpec{pid: model.ProducerID(100 + i), seq: 5, size: 200 << 10}.build(t), AppendArgs{Client: true})
		if err != nil || res.Duplicate != dup {
			t.Fatalf("minute %d: %+v, %v", i, res, err)
		}
	}
}

// TestMidSegmentSnapshot: a sync writes a snapshot once enough was written, so that a
// start after a kill replays little.
func TestMidSegmentSnapshot(t *testing.T) {
	m := vfs.NewMem()
	d := testDir(t, m, "/data")
	l, _ := testLog(t, d, Options{})
	for i := range int32(60) {
		put(t, l, batchSpec{pid: 1, seq: i, size: 200 << 10})
		doSync(t, l)
	}
	if n := len(l.snapshots); n == 0 || n > 2 {
		t.Fatalf("%d snapshots", n)
	}
	for _, at := range l.snapshots {
		for _, suffix := range []string{producersSuffix, snapshotSuffix} {
			if _, err := m.Stat(l.Path() + "/" + fileName(at, suffix)); err != nil {
				t.Fatal(err)
			}
		}
	}
	names, err := m.List(l.Path())
	ok(t, err)
	if len(names) > 3+2*2 {
		t.Fatalf("old snapshots stay: %q", names)
	}
	// The snapshot carries the state: headers before it are not needed.
	ok(t, d.Checkpoint([]CheckpointEntry{l.CheckpointEntry(0)}))
	l.Idle()                                           // writes the index, which leads to the snapshot's offset
	flip(t, m, l.segPath(l.active(), logSuffix), 16*8) // the first batch's magic
	l, r := testLog(t, testDir(t, m.Clone(), "/data"), Options{})
	if r.ScannedBatches != 0 || l.Producers() != 1 {
		t.Fatalf("%+v, %d producers", r, l.Producers())
	}
	if res, err := l.Append(batchSpec{pid: 1, seq: 59, size: 200 << 10}.build(t), AppendArgs{Client: true}); err != nil || !res.Duplicate {
		t.Fatalf("%+v, %v", res, err)
	}
}
