package storage

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/kalda-io/kalda/internal/vfs"
)

// TestExtendedTail follows a log through the life of an extension: made after some bytes
// between two syncs, moved on in steps, never beyond the segment, given up by calm, idling,
// rolling, truncation and closing, with files that end where the batches end.
func TestExtendedTail(t *testing.T) {
	disks(t, func(t *testing.T, fsys vfs.FS, dir string) {
		d := testDir(t, fsys, dir)
		opts := Options{MapAfter: -1, ExtendAfter: 20_000, AheadBytes: 8 << 10, SegmentBytes: 300_000}
		l, _ := testLog(t, d, opts)
		var all []byte
		add := func(size int) {
			t.Helper()
			b := batchSpec{size: size}.build(t)
			_, err := l.Append(b, AppendArgs{Epoch: max(0, l.LatestEpoch())})
			ok(t, err)
			ok(t, l.Write())
			all = append(all, b...)
		}
		check := func(fileEnd int64) {
			t.Helper()
			if fileEnd == 0 {
				fileEnd = l.active().size
			}
			if got := fileSize(t, l); got != fileEnd {
				t.Fatalf("the file ends at %d, want %d; the segment at %d", got, fileEnd, l.active().size)
			}
			if got := concat(readAll(t, l, l.StartOffset(), l.EndOffset(), 1<<20)); !bytes.Equal(got, all) {
				t.Fatal("the log does not read as it was written")
			}
		}
		if f, ok := mustOpen(t, l).(vfs.Extender); !ok || errors.Is(f.Extend(0, 1), errors.ErrUnsupported) {
			t.Skip("files are not extended here")
		}
		add(10_000)
		check(0)
		add(10_000)
		check(32 << 10)
		add(10_000)
		check(32 << 10)
		add(40_000) // written from the caller's memory
		check(96 << 10)
		doSync(t, l)
		add(10_000) // over zeros that are there
		check(96 << 10)
		l.Calm()
		check(96 << 10) // written since the sync
		add(100)        // small ones as well
		check(96 << 10)
		doSync(t, l)
		l.Calm()
		check(0) // not written since the sync
		add(10_000)
		doSync(t, l)
		add(15_000)
		check(0) // not enough between two syncs
		add(10_000)
		check(128 << 10)
		l.Idle()
		check(0)
		for range 4 {
			add(40_000)
		}
		check(288 << 10)
		add(20_000)
		check(300_000) // the segment's end
		name, n := l.segPath(l.active(), logSuffix), l.active().size
		ok(t, l.Roll())
		if in, err := fsys.Stat(name); err != nil || in.Size != n {
			t.Fatalf("a closed segment of %d bytes has a file of %+v, %v", n, in, err)
		}
		add(10_000)
		check(32 << 10) // a busy log goes on
		ok(t, l.TruncateTo(l.EndOffset()-1))
		all = all[:n]
		check(0)
		add(30_000)
		check(32 << 10)
		ok(t, l.Close())
		if got := fileSize(t, l); got != l.active().size {
			t.Fatalf("closed with %d bytes in the file, %d in the log", got, l.active().size)
		}
	})
}

// mustOpen is the file of the active segment.
func mustOpen(t *testing.T, l *Log) vfs.File {
	t.Helper()
	h, err := l.open(l.active())
	ok(t, err)
	return h.f
}

// TestExtendErrors: an extension that fails leaves no zeros and the batch is written without
// it; a full disk takes what fits to the last byte; a write that fails is cut back.
func TestExtendErrors(t *testing.T) {
	boom := errors.New("boom")
	start := func(t *testing.T) (*vfs.Mem, *vfs.Faults, *Log) {
		m := vfs.NewMem()
		f := vfs.NewFaults(m)
		l, _ := testLog(t, testDir(t, f, "/data"), Options{MapAfter: -1, ExtendAfter: 1, AheadBytes: 1024})
		put(t, l, batchSpec{})
		if fileSize(t, l) != 4096 {
			t.Fatalf("%d bytes in the file", fileSize(t, l))
		}
		return m, f, l
	}
	bare := func(t *testing.T, l *Log) {
		t.Helper()
		if fileSize(t, l) != l.Size() {
			t.Fatalf("%d bytes in the file, %d in the log", fileSize(t, l), l.Size())
		}
	}
	t.Run("extend", func(t *testing.T) {
		_, f, l := start(t)
		tried := 0
		f.Add(vfs.Rule{Op: vfs.OpAllocate, Path: "*.log", Err: boom, Hook: func(vfs.Op, string) { tried++ }})
		put(t, l, batchSpec{size: 5000})
		bare(t, l)
		put(t, l, batchSpec{size: 5000})
		if n := l.Events().FailedWrites; n != 0 || l.EndOffset() != 3 || tried != 1 {
			t.Fatalf("%d failed writes, end %d, tried %d times", n, l.EndOffset(), tried)
		}
		f.Clear()
		doSync(t, l) // after which it is tried again
		put(t, l, batchSpec{size: 5000})
		if fileSize(t, l) != 16<<10 {
			t.Fatalf("%d bytes in the file", fileSize(t, l))
		}
	})
	t.Run("full disk", func(t *testing.T) {
		m, _, l := start(t)
		m.SetCapacity(1 << 20)
		s, err := m.Space("/")
		ok(t, err)
		size := int64(len(batchSpec{size: 5000}.build(t)))
		m.SetCapacity(s.Total - s.Free + size - (4096 - l.Size()) + 64) // and the index
		put(t, l, batchSpec{size: 5000})
		bare(t, l)
		if n := l.Events().FailedWrites; n != 0 {
			t.Fatalf("%d failed writes", n)
		}
		_, err = l.Append(batchSpec{size: 5000}.build(t), AppendArgs{})
		ok(t, err)
		if err := l.Write(); !vfs.NoSpace(err) || l.EndOffset() != 2 {
			t.Fatalf("end %d, %v", l.EndOffset(), err)
		}
		bare(t, l)
	})
	t.Run("write", func(t *testing.T) {
		m, f, l := start(t)
		f.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Times: 1, Short: 70, Err: boom})
		_, err := l.Append(batchSpec{size: 5000}.build(t), AppendArgs{})
		ok(t, err)
		if err := l.Write(); !errors.Is(err, boom) || l.EndOffset() != 1 || l.Events().FailedWrites != 1 {
			t.Fatalf("%v, end %d, %+v", err, l.EndOffset(), l.Events())
		}
		bare(t, l)
		put(t, l, batchSpec{size: 5000})
		c, r := testLog(t, testDir(t, m.Clone(), "/data"), Options{})
		if c.EndOffset() != 2 || r.CutBytes != 0 || r.Damaged {
			t.Fatalf("end %d after a kill, %+v", c.EndOffset(), r)
		}
	})
}

// TestExtendedZerosAreNoDamage: after kill -9 and after a power cut the zeros go, without a
// word, and what was synced is there.
func TestExtendedZerosAreNoDamage(t *testing.T) {
	m := vfs.NewMem()
	l, _ := testLog(t, testDir(t, m, "/data"), Options{MapAfter: -1, ExtendAfter: 1, AheadBytes: 1024})
	for range 3 {
		put(t, l, batchSpec{size: 3000})
	}
	doSync(t, l)
	all := concat(readAll(t, l, 0, 3, 1<<20))
	put(t, l, batchSpec{size: 3000})
	for seed := range uint64(50) {
		c := m.CrashClone(seed)
		re, r := testLog(t, testDir(t, c, "/data"), Options{ExtendAfter: -1})
		if r.Damaged || re.EndOffset() < 3 {
			t.Fatalf("seed %d: end %d, recovery %+v", seed, re.EndOffset(), r)
		}
		if got := concat(readAll(t, re, 0, 3, 1<<20)); !bytes.Equal(got, all) {
			t.Fatalf("seed %d: the log does not read as it was written", seed)
		}
		if in, err := c.Stat(re.segPath(re.active(), logSuffix)); err != nil || in.Size != re.active().size {
			t.Fatalf("seed %d: a segment of %d bytes has a file of %+v, %v", seed, re.active().size, in, err)
		}
	}
	if re, r := testLog(t, testDir(t, m.Clone(), "/data"), Options{}); r.CutBytes != 0 || r.CutReason != nil || re.EndOffset() != 4 {
		t.Fatalf("end %d after a kill, recovery %+v", re.EndOffset(), r)
	}
}

// TestExtendedAppendsDoNotAllocate: large batches, with an extension for every few of them.
func TestExtendedAppendsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	l, _ := testLog(t, testDir(t, vfs.OS{}, filepath.Join(t.TempDir(), "data")), Options{ExtendAfter: 1, IndexIntervalBytes: 1 << 30})
	b := batchSpec{size: 100 << 10}.build(t)
	run := func() {
		_, _ = l.Append(b, AppendArgs{})
		_ = l.Write()
	}
	for range 20 {
		run()
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkLargeAppend compares writes with and without an extension, by size.
func BenchmarkLargeAppend(b *testing.B) {
	for _, size := range []int{6 << 10, 16 << 10, 100 << 10, 250 << 10, 1 << 20} {
		for _, v := range []struct {
			name string
			o    Options
		}{{"extended", Options{}}, {"written", Options{ExtendAfter: -1}}} {
			v.o.SegmentBytes, v.o.Delete, v.o.RetentionBytes = 256<<20, true, 512<<20
			b.Run(fmt.Sprintf("%s/%d", v.name, size), func(b *testing.B) {
				l, _ := testLog(b, testDir(b, vfs.OS{}, filepath.Join(b.TempDir(), "data")), v.o)
				batch := batchSpec{size: size + 123}.build(b)
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				for i := range b.N {
					if _, err := l.Append(batch, AppendArgs{}); err != nil {
						b.Fatal(err)
					}
					if err := l.Write(); err != nil {
						b.Fatal(err)
					}
					if i&255 == 0 {
						_, _ = l.DeleteOld(0, l.EndOffset())
					}
				}
				b.StopTimer()
				_ = l.Close()
			})
		}
	}
}

// A log that took much between two syncs goes on being extended after the second; one that
// did not begins anew, and Calm gives the room of a quiet one back.
func TestExtendGoesOnAfterASync(t *testing.T) {
	l, _ := testLog(t, testDir(t, vfs.NewMem(), "/data"), Options{MapAfter: -1, ExtendAfter: 20_000, AheadBytes: 8 << 10})
	ahead := func() int64 { return fileSize(t, l) - l.Size() }
	for range 3 {
		put(t, l, batchSpec{size: 10_000})
	}
	doSync(t, l)
	before := fileSize(t, l)
	for fileSize(t, l) == before { // up to the end of the room
		put(t, l, batchSpec{size: 10_000})
	}
	if ahead() == 0 {
		t.Fatal("not extended after a busy time")
	}
	for _, quiet := range []func(){
		func() { put(t, l, batchSpec{size: 1000}); doSync(t, l) }, // little between two syncs
		func() {},           // nothing since the last
		func() { l.Idle() }, // and given up
	} {
		for range 3 {
			put(t, l, batchSpec{size: 10_000})
		}
		doSync(t, l)
		quiet()
		l.Calm()
		if ahead() != 0 {
			t.Fatalf("%d bytes ahead of a quiet log", ahead())
		}
		put(t, l, batchSpec{size: 10_000})
		if ahead() != 0 {
			t.Fatal("extended after a quiet time")
		}
	}
}
