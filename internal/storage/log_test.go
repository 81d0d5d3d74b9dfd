package storage

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

var small = Options{SegmentBytes: 2000, IndexIntervalBytes: 200}

func TestAppendReadReopen(t *testing.T) {
	disks(t, func(t *testing.T, fsys vfs.FS, path string) {
		d := testDir(t, fsys, path)
		l, r := testLog(t, d, small)
		if !r.Created || d.Class() != Clean {
			t.Fatalf("new log: %+v, class %v", r, d.Class())
		}
		var want []byte
		for i := range 100 {
			s := batchSpec{n: 1 + i%4, ts: int64(1000 + i), size: 10 + i}
			b := s.build(t)
			end := l.StagedEnd()
			res, err := l.Append(b, AppendArgs{Epoch: model.LeaderEpoch(i / 30), Client: true})
			ok(t, err)
			if res.BaseOffset != end || res.LastOffset != l.StagedEnd()-1 || b.LeaderEpoch() != model.LeaderEpoch(i/30) {
				t.Fatalf("append %d: %+v", i, res)
			}
			want = append(want, b...)
			if i%3 == 1 {
				ok(t, l.Write())
			}
		}
		if l.StagedEnd() == l.EndOffset() {
			t.Fatal("nothing staged: the test does not test staging")
		}
		ok(t, l.Write())
		check := func(what string, l *Log) {
			t.Helper()
			for _, maxBytes := range []int{0, 100, 500, 1 << 20} {
				if got := concat(readAll(t, l, 0, l.EndOffset(), maxBytes)); !bytes.Equal(got, want) {
					t.Fatalf("%s: %d bytes read, %d written (reads of %d)", what, len(got), len(want), maxBytes)
				}
			}
		}
		check("before", l)
		if l.Segments() < 5 {
			t.Fatalf("only %d segments", l.Segments())
		}
		end := l.EndOffset()
		epochs := l.Epochs()

		ok(t, l.Close())
		ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(40)}))
		d = testDir(t, fsys, path)
		l, r = testLog(t, d, small)
		if d.Class() != Clean || !r.Clean || r.ScannedBatches != 0 || r.HighWatermark != 40 || l.EndOffset() != end || l.FlushedOffset() != end {
			t.Fatalf("clean: class %v, %+v, end %d want %d", d.Class(), r, l.EndOffset(), end)
		}
		check("after a clean restart", l)
		if got := l.Epochs(); len(got) != len(epochs) || got[len(got)-1] != epochs[len(epochs)-1] {
			t.Fatalf("epochs %v, want %v", got, epochs)
		}

		b := batchSpec{ts: 5000}.build(t)
		_, err := l.Append(b, AppendArgs{Epoch: 9})
		ok(t, err)
		ok(t, l.Write())
		want = append(want, b...)
		ok(t, d.Close()) // as if the process died: no marker, no checkpoint
		d = testDir(t, fsys, path)
		l, r = testLog(t, d, small)
		if r.Clean || r.ScannedBatches != 1 || r.CutBytes != 0 || r.Damaged || l.EndOffset() != end+1 {
			t.Fatalf("crash: %+v, end %d want %d", r, l.EndOffset(), end+1)
		}
		check("after a crash", l)
		if e, o := l.EpochEnd(9); e != 9 || o != end+1 {
			t.Fatalf("epoch 9 ends at (%d, %d)", e, o)
		}
	})
}

func TestReadBounds(t *testing.T) {
	d := testDir(t, vfs.NewMem(), "/data")
	l, _ := testLog(t, d, small)
	for range 50 {
		put(t, l, batchSpec{n: 10, size: 20})
	}
	for _, bad := range []model.Offset{-1, l.EndOffset() + 1} {
		if _, err := l.Read(bad, l.EndOffset(), 100, true); !errors.Is(err, kerr.OffsetOutOfRange) {
			t.Errorf("read at %d: %v", bad, err)
		}
	}
	for from := model.Offset(0); from <= l.EndOffset(); from++ {
		for _, end := range []model.Offset{0, from, from + 1, from + 7, from + 10, from + 33, l.EndOffset()} {
			v, err := l.Read(from, end, 1000, false)
			ok(t, err)
			if v.Len == 0 {
				// Legal only if no whole batch with a record at or behind from ends by end.
				if last := (from/10 + 1) * 10; last <= min(end, l.EndOffset()) {
					t.Fatalf("read [%d, %d): nothing, but batch ends at %d", from, end, last)
				}
				continue
			}
			b := record.Batch(readView(t, v))
			if b.BaseOffset() != from/10*10 {
				t.Fatalf("read [%d, %d): begins with %d", from, end, b.BaseOffset())
			}
		}
	}
	if v, _ := l.Read(0, l.EndOffset(), 10, false); v.Len != 0 {
		t.Fatal("a batch larger than maxBytes came without minOne")
	}
	if v, _ := l.Read(0, l.EndOffset(), 10, true); len(readView(t, v)) < 10 {
		t.Fatal("minOne gave nothing")
	}
	var empty View
	empty.Release()
	if _, err := empty.ReadAt(make([]byte, 1), 0); err == nil {
		t.Fatal("an empty view gave a byte")
	}
}

// TestLargeBatch: a batch that is not staged goes behind those that are.
func TestLargeBatch(t *testing.T) {
	d := testDir(t, vfs.NewMem(), "/data")
	l, _ := testLog(t, d, Options{SegmentBytes: 100 << 10})
	a, b, c := batchSpec{tag: "a"}.build(t), batchSpec{tag: "b", size: 40 << 10}.build(t), batchSpec{tag: "c"}.build(t)
	for _, x := range []record.Batch{a, b, c} {
		_, err := l.Append(x, AppendArgs{})
		ok(t, err)
	}
	if l.EndOffset() != 2 || l.StagedEnd() != 3 {
		t.Fatalf("end %d, staged %d", l.EndOffset(), l.StagedEnd())
	}
	ok(t, l.Write())
	if got := concat(readAll(t, l, 0, 3, 1<<20)); !bytes.Equal(got, concat([]record.Batch{a, b, c})) {
		t.Fatal("order lost")
	}
	if _, err := l.Append(batchSpec{size: 200 << 10}.build(t), AppendArgs{}); !errors.Is(err, kerr.RecordListTooLarge) {
		t.Fatalf("a batch larger than a segment: %v", err)
	}
}
