package storage

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// dirtyLog is a log of three closed segments in two groups and an active one.
func dirtyLog(t testing.TB, fsys vfs.FS) (*Dir, *Log) {
	d := testDir(t, fsys, "/data")
	l, _ := testLog(t, d, Options{SegmentBytes: 260, IndexIntervalBytes: 20})
	for i := range 6 {
		putKV(t, l, int64(1000+i), fmt.Sprintf("a=%d", i), fmt.Sprintf("b%d=1", i%2))
		if i%2 == 1 {
			ok(t, l.Roll())
		}
	}
	putKV(t, l, 2000, "a=9")
	doSync(t, l)
	return d, l
}

// TestCompactFaults lets each operation of the disk in a round fail once. The records are
// those before or after the cleaning of each group, the log goes on unless the swap itself
// was hit, and after that opening it again completes it.
func TestCompactFaults(t *testing.T) {
	before := "[0:a=0 1:b0=1 2:a=1 3:b1=1 4:a=2 5:b0=1 6:a=3 7:b1=1 8:a=4 9:b0=1 10:a=5 11:b1=1 12:a=9]"
	after := "[9:b0=1 10:a=5 11:b1=1 12:a=9]"
	failed, failures := 0, 0
	for nth := 0; ; nth++ {
		mem := vfs.NewMem()
		disk := vfs.NewFaults(mem)
		_, l := dirtyLog(t, disk)
		if got := list(t, l); got != before || l.Segments() != 4 {
			t.Fatalf("%s in %d segments", got, l.Segments())
		}
		l.Idle()
		hit := ""
		disk.Add(vfs.Rule{Skip: nth, Times: 1, Err: errDisk, Hook: func(op vfs.Op, name string) { hit = fmt.Sprintf("%s %s", op, name) }})
		c, begun, err := l.BeginCompaction(compactArgs(l, 5000))
		for more := begun && err == nil; more; {
			more, err = l.ContinueCompaction(c, c.Run(noLimit))
		}
		disk.Clear()
		if hit == "" {
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d operations, %d errors, %d of them failed the log", nth, failures, failed)
			break
		}
		if err != nil {
			failures++
			if !errors.Is(err, errDisk) || !errors.Is(err, kerr.KafkaStorageError) {
				t.Fatalf("%s: %v", hit, err)
			}
		}
		if l.Failed() != nil {
			failed++
			if !strings.Contains(hit, "rename") && !strings.Contains(hit, "remove") && !strings.Contains(hit, "syncdir") {
				t.Errorf("%s failed the log", hit)
			}
		} else {
			for _, want := range []string{"9:b0=1", "10:a=5", "11:b1=1", "12:a=9"} {
				if got := list(t, l); !strings.Contains(got, want) {
					t.Fatalf("%s: %s", hit, got)
				}
			}
			names, err := mem.List(l.Path())
			ok(t, err)
			if strings.Contains(strings.Join(names, " "), cleanedSuffix) {
				t.Errorf("%s: temporary files stay: %q", hit, names)
			}
			if compact(t, l, compactArgs(l, 5000)); list(t, l) != after {
				t.Fatalf("%s: the next round leaves %s", hit, list(t, l))
			}
			ok(t, l.Close())
		}
		d2 := testDir(t, mem.Clone(), "/data")
		l2, r := testLog(t, d2, Options{SegmentBytes: 260})
		if r.Damaged {
			t.Fatalf("%s: %+v", hit, r)
		}
		if compact(t, l2, compactArgs(l2, 5000)); list(t, l2) != after {
			t.Fatalf("%s: opened again: %s", hit, list(t, l2))
		}
	}
	if failures < 20 || failed == 0 {
		t.Fatalf("%d errors, %d failed the log", failures, failed)
	}
}

// TestCompactKeepsDamageOut: a flipped bit anywhere in a source ends the round with its
// place; nothing is swapped in that was read behind it.
func TestCompactKeepsDamageOut(t *testing.T) {
	mem := vfs.NewMem()
	d, l := dirtyLog(t, mem)
	ok(t, d.Checkpoint([]CheckpointEntry{l.CheckpointEntry(0)}))
	ok(t, l.Close())
	size := l.segs[1].size
	for bit := int64(0); bit < size*8; bit += 7 {
		m := mem.Clone()
		flip(t, m, l.segPath(l.segs[1], logSuffix), bit)
		d := testDir(t, m, "/data")
		l2, _ := testLog(t, d, Options{SegmentBytes: 260})
		c, begun, err := l2.BeginCompaction(compactArgs(l2, 5000))
		if !begun || err != nil {
			t.Fatal(begun, err)
		}
		for more := true; more; {
			more, err = l2.ContinueCompaction(c, c.Run(noLimit))
		}
		var damage *CorruptError
		if !errors.As(err, &damage) || !strings.HasSuffix(damage.Path, fileName(4, logSuffix)) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if l2.Failed() != nil || c.Stats().Into != 0 {
			t.Fatalf("bit %d: failed %v, %+v", bit, l2.Failed(), c.Stats())
		}
	}
}

// TestCompactViews: a view of a segment that was replaced reads what it stood for.
func TestCompactViews(t *testing.T) {
	disks(t, func(t *testing.T, fsys vfs.FS, path string) {
		l, _ := testLog(t, testDir(t, fsys, path), Options{})
		putKV(t, l, 1, "a=1")
		putKV(t, l, 2, "a=2")
		ok(t, l.Roll())
		putKV(t, l, 3, "a=3")
		doSync(t, l)
		v, err := l.Read(0, l.EndOffset(), 1<<20, true)
		ok(t, err)
		if st := compact(t, l, compactArgs(l, 9)); st == nil || st.Into != 1 {
			t.Fatalf("%+v", st)
		}
		b := readView(t, v)
		if first := record.Batch(b); first.BaseOffset() != 0 || len(b) != 2*first.Size() {
			t.Fatalf("%d bytes", len(b))
		}
		if got := list(t, l); got != "[1:a=2 2:a=3]" {
			t.Fatal(got)
		}
	})
}
