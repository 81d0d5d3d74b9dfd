package storage

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// fileSize is the size of the active segment's file.
func fileSize(t *testing.T, l *Log) int64 {
	t.Helper()
	in, err := l.fs.Stat(l.segPath(l.active(), logSuffix))
	ok(t, err)
	return in.Size
}

// TestMappedTail follows a log through the life of a mapping: made after some small
// writes between two syncs, kept beside large writes, given up by syncs, idling, rolling
// and closing, with files that end where the batches end.
func TestMappedTail(t *testing.T) {
	disks(t, func(t *testing.T, fsys vfs.FS, dir string) {
		d := testDir(t, fsys, dir)
		opts := Options{MapAfter: 3, AheadBytes: 1000}
		l, _ := testLog(t, d, opts)
		var all []byte
		add := func(s batchSpec) {
			t.Helper()
			b := s.build(t)
			_, err := l.Append(b, AppendArgs{Epoch: max(0, l.LatestEpoch())})
			ok(t, err)
			ok(t, l.Write())
			all = append(all, b...)
		}
		check := func(mapped bool, zeros int64) {
			t.Helper()
			if got := fileSize(t, l) - l.active().size; (l.active().mapping != nil) != mapped || zeros >= 0 && got != zeros {
				t.Fatalf("mapped %v with %d zeros, want %v with %d", l.active().mapping != nil, got, mapped, zeros)
			}
			if got := d.maps.Load(); (got == 1) != mapped {
				t.Fatalf("%d mappings counted", got)
			}
			if got := concat(readAll(t, l, 0, l.EndOffset(), 1<<20)); !bytes.Equal(got, all) {
				t.Fatal("the log does not read as it was written")
			}
		}
		add(batchSpec{})
		add(batchSpec{})
		check(false, 0)
		add(batchSpec{tag: "third"})
		size := int64(len(all) / 3) // all batches are alike
		check(true, 1000-3*size)
		for range 40 { // over several windows
			add(batchSpec{tag: "on"})
		}
		check(true, -1)
		doSync(t, l)
		check(true, -1) // there were enough since the sync before
		add(batchSpec{})
		add(batchSpec{})
		doSync(t, l)
		check(false, -1)
		for range 3 {
			add(batchSpec{tag: "again"})
		}
		check(true, -1)
		add(batchSpec{size: 20 << 10}) // staged, but more than goes through memory
		check(false, 0)
		for range 3 {
			add(batchSpec{})
		}
		check(true, -1)
		doSync(t, l)
		l.Calm()
		check(false, 0) // no write since the sync
		for range 3 {
			add(batchSpec{})
		}
		check(true, -1)
		l.Calm()
		check(true, -1) // written since the sync
		l.Idle()
		check(false, 0)
		for range 5 { // small and large in turn: never three in a row
			add(batchSpec{})
			add(batchSpec{})
			add(batchSpec{size: 5 << 10})
		}
		check(false, 0)
		for range 3 {
			add(batchSpec{})
		}
		check(true, -1)
		name, n := l.segPath(l.active(), logSuffix), l.active().size
		ok(t, l.Roll())
		if in, err := fsys.Stat(name); err != nil || in.Size != n {
			t.Fatalf("a closed segment of %d bytes has a file of %+v, %v", n, in, err)
		}
		add(batchSpec{})
		check(true, -1) // a busy log goes on
		ok(t, l.TruncateTo(l.EndOffset()-1))
		all = all[:len(all)-int(size)]
		check(false, 0)
		add(batchSpec{})
		for range 3 {
			add(batchSpec{})
		}
		check(true, -1)
		ok(t, l.Close())
		if got := fileSize(t, l); got != l.active().size || d.maps.Load() != 0 {
			t.Fatalf("closed with %d bytes in the file, %d in the log, %d mappings", got, l.active().size, d.maps.Load())
		}
		ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(0)}))
		var r Recovery
		l, r = testLog(t, testDir(t, fsys, dir), opts)
		if !r.Clean {
			t.Fatalf("%+v", r)
		}
	})
}

// TestPrewrittenZerosAreNoDamage: after kill -9 and after a power cut the zeros go, without
// a word; they also go from a segment that others follow.
func TestPrewrittenZerosAreNoDamage(t *testing.T) {
	m := vfs.NewMem()
	d := testDir(t, m, "/data")
	l, _ := testLog(t, d, Options{MapAfter: 1, AheadBytes: 3000})
	for range 5 {
		put(t, l, batchSpec{})
	}
	all := concat(readAll(t, l, 0, 5, 1<<20))
	reopen := func(m *vfs.Mem, n int) *Log {
		t.Helper()
		l, r := testLog(t, testDir(t, m, "/data"), Options{MapAfter: -1})
		if r.CutBytes != 0 || r.CutReason != nil || r.Damaged || r.ScannedBatches != n || l.EndOffset() != model.Offset(n) {
			t.Fatalf("recovery %+v", r)
		}
		if got := concat(readAll(t, l, 0, l.EndOffset(), 1<<20)); !bytes.Equal(got, all) {
			t.Fatal("the log does not read as it was written")
		}
		for _, s := range l.segs {
			if in, err := m.Stat(l.segPath(s, logSuffix)); err != nil || in.Size != s.size {
				t.Fatalf("segment %d of %d bytes has a file of %+v, %v", s.base, s.size, in, err)
			}
		}
		return l
	}
	reopen(m.Clone(), 5)
	doSync(t, l)
	reopen(m.CrashClone(0), 5)
	// A roll whose cut is undone: what the disk has of the file is older than its size.
	ok(t, l.Roll())
	put(t, l, batchSpec{})
	all = concat(readAll(t, l, 0, 6, 1<<20))
	c := m.Clone()
	f, err := c.OpenReadWrite(l.segPath(l.segs[0], logSuffix))
	ok(t, err)
	ok(t, f.Truncate(l.segs[0].size+2000))
	l = reopen(c, 6)
	// The cut is durable: the segment before is not looked at by the next start.
	after := c.CrashClone(0)
	if in, err := after.Stat(l.segPath(l.segs[0], logSuffix)); err != nil || in.Size != l.segs[0].size {
		t.Fatalf("the cut of a closed segment is lost in the next crash: %+v, %v", in, err)
	}
}

// TestZerosOfTheLastFlushedSegment: nothing is scanned, but the cut must last all the same,
// since the next start trusts the sizes of what lies before its recovery point.
func TestZerosOfTheLastFlushedSegment(t *testing.T) {
	m := vfs.NewMem()
	d := testDir(t, m, "/data")
	l, _ := testLog(t, d, Options{MapAfter: -1})
	put(t, l, batchSpec{})
	doSync(t, l)
	ok(t, d.Checkpoint([]CheckpointEntry{l.CheckpointEntry(0)}))
	ok(t, l.Roll())
	_, err := l.open(l.active())
	ok(t, err)
	c := m.Clone()
	name, size := l.segPath(l.segs[0], logSuffix), l.segs[0].size
	f, err := c.OpenReadWrite(name)
	ok(t, err)
	ok(t, f.Truncate(size+2000))
	c = c.Clone() // all of it durable
	_, r := testLog(t, testDir(t, c, "/data"), Options{})
	if in, err := c.CrashClone(0).Stat(name); err != nil || in.Size != size || r.ScannedBytes != 0 {
		t.Fatalf("a closed segment of %d bytes has a file of %+v, %v, after %+v", size, in, err, r)
	}
}

// TestRollMakesTheCutDurable: zeros that an idle time cut off a flushed segment do not
// come back below the recovery point.
func TestRollMakesTheCutDurable(t *testing.T) {
	m := vfs.NewMem()
	l, _ := testLog(t, testDir(t, m, "/data"), Options{MapAfter: 1, AheadBytes: 3000})
	put(t, l, batchSpec{})
	doSync(t, l)
	l.Idle()
	ok(t, l.Roll())
	put(t, l, batchSpec{})
	doSync(t, l)
	for seed := range uint64(20) {
		c := m.CrashClone(seed)
		if in, err := c.Stat(l.segPath(l.segs[0], logSuffix)); err != nil || in.Size != l.segs[0].size {
			t.Fatalf("seed %d: a closed, flushed segment of %d bytes has a file of %+v, %v", seed, l.segs[0].size, in, err)
		}
	}
}

// TestMappedWriteErrors: a prewrite that fails leaves no zeros and the batch is written
// without it; a store that fails is a failed write like any other.
func TestMappedWriteErrors(t *testing.T) {
	boom := errors.New("boom")
	full := func(t *testing.T) (*vfs.Mem, *vfs.Faults, *Log) {
		m := vfs.NewMem()
		f := vfs.NewFaults(m)
		l, _ := testLog(t, testDir(t, f, "/data"), Options{MapAfter: 2, AheadBytes: 3000})
		put(t, l, batchSpec{})
		return m, f, l
	}
	t.Run("prewrite", func(t *testing.T) {
		_, f, l := full(t)
		f.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Times: 1, Short: 700, Err: boom})
		put(t, l, batchSpec{})
		if l.active().mapping != nil || fileSize(t, l) != l.Size() || l.Events().FailedWrites != 0 {
			t.Fatalf("mapped %v, %d bytes in the file, %d in the log, %+v", l.active().mapping, fileSize(t, l), l.Size(), l.Events())
		}
	})
	t.Run("map", func(t *testing.T) {
		_, f, l := full(t)
		f.Add(vfs.Rule{Op: vfs.OpMap, Err: boom})
		put(t, l, batchSpec{})
		if l.active().mapping != nil || fileSize(t, l) != l.Size() || l.dir.maps.Load() != 0 {
			t.Fatalf("mapped %v, %d bytes in the file, %d in the log", l.active().mapping, fileSize(t, l), l.Size())
		}
	})
	t.Run("store", func(t *testing.T) {
		m, f, l := full(t)
		put(t, l, batchSpec{})
		f.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Times: 1, Short: 70, Err: boom})
		_, err := l.Append(batchSpec{tag: "lost"}.build(t), AppendArgs{})
		ok(t, err)
		if err := l.Write(); !errors.Is(err, boom) || l.EndOffset() != 2 || l.StagedEnd() != 2 || l.Events().FailedWrites != 1 {
			t.Fatalf("%v, end %d, staged %d, %+v", err, l.EndOffset(), l.StagedEnd(), l.Events())
		}
		if fileSize(t, l) != l.Size() || l.dir.maps.Load() != 0 {
			t.Fatalf("%d bytes in the file, %d in the log, %d mappings", fileSize(t, l), l.Size(), l.dir.maps.Load())
		}
		for range 5 {
			put(t, l, batchSpec{})
		}
		c, r := testLog(t, testDir(t, m.Clone(), "/data"), Options{})
		if c.EndOffset() != 7 || r.CutBytes != 0 {
			t.Fatalf("end %d after a kill, %+v", c.EndOffset(), r)
		}
	})
	t.Run("store through", func(t *testing.T) {
		m, f, l := full(t)
		put(t, l, batchSpec{pid: 1, seq: 0})
		through := func(seq int32) (AppendResult, error) {
			return l.Append(batchSpec{pid: 1, seq: seq}.build(t), AppendArgs{Client: true, Through: true})
		}
		if r, err := through(1); err != nil || l.EndOffset() != 3 || l.staged != nil {
			t.Fatalf("%+v %v, end %d", r, err, l.EndOffset())
		}
		f.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Times: 1, Short: 70, Err: boom})
		if _, err := through(2); !errors.Is(err, boom) || l.EndOffset() != 3 || l.StagedEnd() != 3 || l.Events().FailedWrites != 1 {
			t.Fatalf("%v, end %d, staged %d, %+v", err, l.EndOffset(), l.StagedEnd(), l.Events())
		}
		// The producer's state went back, and behind staged batches nothing goes through.
		if r, err := through(2); err != nil || r.Duplicate || r.BaseOffset != 3 {
			t.Fatalf("%+v %v", r, err)
		}
		if r, err := through(3); err != nil || r.BaseOffset != 4 || l.EndOffset() != 3 {
			t.Fatalf("%+v %v, end %d; not mapped any more, so staged", r, err, l.EndOffset())
		}
		ok(t, l.Write())
		c, r := testLog(t, testDir(t, m.Clone(), "/data"), Options{})
		if c.EndOffset() != 5 || r.CutBytes != 0 {
			t.Fatalf("end %d after a kill, %+v", c.EndOffset(), r)
		}
	})
	t.Run("no room for mappings", func(t *testing.T) {
		_, _, l := full(t)
		l.dir.maps.Store(maxMappings)
		put(t, l, batchSpec{})
		if l.active().mapping != nil || l.dir.maps.Load() != maxMappings {
			t.Fatalf("mapped beyond the bound: %d", l.dir.maps.Load())
		}
	})
}

// TestVerifyPrewritten: the zeros of a log that was not stopped are no problem offline, in
// a closed segment or with something behind them they are.
func TestVerifyPrewritten(t *testing.T) {
	m := vfs.NewMem()
	l, _ := testLog(t, testDir(t, m, "/data"), Options{MapAfter: 1, AheadBytes: 3000})
	put(t, l, batchSpec{})
	active := l.segPath(l.active(), logSuffix)
	if r, err := VerifySegment(m, active); err != nil || len(r.Problems) != 0 || r.Prewritten != 3000-r.Bytes || r.Batches != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	c := m.Clone()
	f, err := c.OpenReadWrite(active)
	ok(t, err)
	_, err = f.WriteAt([]byte{1}, 2000)
	ok(t, err)
	if r, err := VerifySegment(c, active); err != nil || len(r.Problems) != 1 || !errors.Is(r.Problems[0].Err, ErrZeros) {
		t.Fatalf("%+v, %v", r, err)
	}
	ok(t, l.Roll())
	f, err = m.OpenReadWrite(active)
	ok(t, err)
	ok(t, f.Truncate(500))
	if r, err := VerifySegment(m, active); err != nil || len(r.Problems) != 1 || !errors.Is(r.Problems[0].Err, ErrSums) {
		t.Fatalf("%+v, %v", r, err)
	}
}

// TestMappedAppendsDoNotAllocate: windows of 256 KiB move on now and then, the rest is a copy.
func TestMappedAppendsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	l, _ := testLog(t, testDir(t, vfs.OS{}, filepath.Join(t.TempDir(), "data")), Options{MapAfter: 1})
	b := batchSpec{size: 100}.build(t)
	run := func() {
		_, _ = l.Append(b, AppendArgs{})
		_ = l.Write()
	}
	for range 1000 {
		run()
	}
	if _, supported := l.active().log.f.(vfs.Mapper); supported && l.active().mapping == nil {
		t.Fatal("not mapped")
	}
	if n := testing.AllocsPerRun(3000, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkSmallAppend compares writes through memory with positioned writes, by size: it
// is where mappedWriteBytes comes from.
func BenchmarkSmallAppend(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 4 << 10, 8 << 10, 16 << 10} {
		for _, v := range []struct {
			name string
			o    Options
		}{{"mapped", Options{MapAfter: 1}}, {"written", Options{MapAfter: -1}}} {
			v.o.SegmentBytes, v.o.Delete, v.o.RetentionBytes = 64<<20, true, 256<<20
			b.Run(fmt.Sprintf("%s/%d", v.name, size), func(b *testing.B) {
				l, _ := testLog(b, testDir(b, vfs.OS{}, filepath.Join(b.TempDir(), "data")), v.o)
				batch := batchSpec{size: size}.build(b)
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				for i := range b.N {
					if _, err := l.Append(batch, AppendArgs{}); err != nil {
						b.Fatal(err)
					}
					if err := l.Write(); err != nil {
						b.Fatal(err)
					}
					if i&(1<<14-1) == 0 {
						_, _ = l.DeleteOld(0, l.EndOffset())
					}
				}
				b.StopTimer()
				_ = l.Close()
			})
		}
	}
}
