package storage

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/vfs"
)

// Segments become one as long as the result fits segment.bytes, the offsets of an index and
// segment.index.bytes.
func TestCompactGroupsFit(t *testing.T) {
	c := &Compaction{opts: Options{SegmentBytes: 1000, IndexIntervalBytes: 99, SegmentIndexBytes: 12 * timeEntryLen}}
	group := []cleanSource{{base: 5, end: 10, size: 400}}
	for _, x := range []struct {
		what         string
		indexEntries int
		s            cleanSource
		want         bool
	}{
		{"all of segment.bytes", 12, cleanSource{end: 20, size: 600}, true},
		{"one byte more", 12, cleanSource{end: 20, size: 601}, false},
		{"the largest relative offset", 12, cleanSource{end: 5 + math.MaxInt32 + 1, size: 100}, true},
		{"one more", 12, cleanSource{end: 5 + math.MaxInt32 + 2, size: 100}, false},
		{"one index entry too many", 11, cleanSource{end: 20, size: 600}, false},
	} {
		c.opts.SegmentIndexBytes = x.indexEntries * timeEntryLen
		if got := c.fits(group, 400, x.s); got != x.want {
			t.Errorf("%s: %v", x.what, got)
		}
	}
}

// The indexes of a new segment stay within segment.index.bytes, also if index.interval.bytes
// became smaller since its records came; what lies behind their last entry is found.
func TestCompactIndexesStayWithinTheirSize(t *testing.T) {
	mem := vfs.NewMem()
	d := testDir(t, mem, "/data")
	l, _ := testLog(t, d, Options{})
	for i := range 40 {
		putKV(t, l, int64(1000+i), fmt.Sprintf("k%d=1", i), "same=1")
	}
	ok(t, l.Roll())
	putKV(t, l, 2000, "same=2")
	doSync(t, l)
	ok(t, l.Close())
	const bound = 60
	l, _ = testLog(t, d, Options{IndexIntervalBytes: 1, SegmentIndexBytes: bound})
	if st := compact(t, l, compactArgs(l, 5000)); st == nil || st.Into != 1 {
		t.Fatalf("%+v", st)
	}
	for _, suffix := range []string{indexSuffix, timeIndexSuffix} {
		if in, err := mem.Stat(l.segPath(l.segs[0], suffix)); err != nil || in.Size == 0 || in.Size > bound {
			t.Errorf("%s has %d bytes, %v", suffix, in.Size, err)
		}
	}
	for i := range 40 {
		if at, found, err := l.OffsetForTimestamp(int64(1000+i), l.EndOffset()); err != nil || !found || int(at.Offset) != 2*i {
			t.Fatalf("time %d: %+v, %v", 1000+i, at, err)
		}
	}
}

// An opening that is to complete a swap looks at the new segment first. If it is not what
// the record says, nothing that it replaces goes.
func TestSwapIsCheckedBeforeItIsCompleted(t *testing.T) {
	mem := vfs.NewMem()
	disk := vfs.NewFaults(mem)
	l, _ := testLog(t, testDir(t, disk, "/data"), Options{})
	for i := range 3 {
		putKV(t, l, 1000, "a=1", fmt.Sprintf("b%d=1", i))
		if i < 2 {
			ok(t, l.Roll())
		}
	}
	doSync(t, l)
	disk.Add(vfs.Rule{Op: vfs.OpRemove, Path: "*" + txnIndexSuffix, Times: 1, Err: errDisk})
	c, _, err := l.BeginCompaction(compactArgs(l, 5000))
	for more := err == nil; more; {
		more, err = l.ContinueCompaction(c, c.Run(noLimit))
	}
	if l.Failed() == nil {
		t.Fatal("the swap was not interrupted", err)
	}
	disk.Clear()
	names, err := mem.List(l.Path())
	ok(t, err)
	path := ""
	for _, n := range names {
		if strings.HasSuffix(n, logSuffix+cleanedSuffix) {
			path = l.Path() + "/" + n
		}
	}
	in, err := mem.Stat(path)
	ok(t, err)
	for what, bit := range map[string]int64{
		"the leader epoch, which has no checksum of its own": 15 * 8, "a record": (in.Size - 1) * 8,
	} {
		m := mem.Clone()
		flip(t, m, path, bit)
		_, _, err := testDir(t, m, "/data").OpenLog(part, Options{SegmentBytes: 260})
		var damage *CorruptError
		if !errors.As(err, &damage) || damage.Path != path {
			t.Errorf("%s: %v", what, err)
		}
		for _, n := range names {
			if _, err := m.Stat(l.Path() + "/" + n); err != nil {
				t.Errorf("%s: %s is gone: %v", what, n, err)
			}
		}
	}
}

// If the log start passes a segment while it is written anew, the round ends and leaves
// nothing behind.
func TestCompactLosesItsSegment(t *testing.T) {
	mem := vfs.NewMem()
	_, l := dirtyLog(t, mem)
	c, _, err := l.BeginCompaction(compactArgs(l, 5000))
	for more := true; more; {
		ok(t, err)
		ran := c.Run(noLimit)
		if c.piece.made != nil {
			ok(t, l.AdvanceStart(c.piece.srcs[len(c.piece.srcs)-1].end))
		}
		more, err = l.ContinueCompaction(c, ran)
	}
	ok(t, err)
	if st := c.Stats(); !st.Abandoned || st.Into != 0 || l.Failed() != nil {
		t.Errorf("%+v, %v", st, l.Failed())
	}
	names, err := mem.List(l.Path())
	ok(t, err)
	if s := strings.Join(names, " "); strings.Contains(s, cleanedSuffix) || strings.Contains(s, swapSuffix) {
		t.Errorf("files %s", s)
	}
}
