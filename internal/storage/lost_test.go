package storage

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// TestCutClosedSegments cuts every closed segment at every batch boundary, to nothing as
// well. Whoever asks for what is gone, and whoever comes to it from before, is told; nobody
// is led to the next segment as if there had been nothing (F26).
func TestCutClosedSegments(t *testing.T) {
	m, all, path := cleanLog(t)
	bases := segmentBases(t, m, path)
	for i, base := range bases[:len(bases)-1] {
		size := int64(0)
		for _, b := range all {
			if b.BaseOffset() < base || b.BaseOffset() >= bases[i+1] {
				continue
			}
			c := m.Clone()
			name := path + "/" + fileName(base, logSuffix)
			f, err := c.OpenReadWrite(name)
			ok(t, err)
			ok(t, f.Truncate(size))
			ok(t, f.Close())
			size += int64(b.Size())
			for _, from := range []model.Offset{base, b.BaseOffset(), b.LastOffset(), bases[i+1] - 1} {
				l, _ := testLog(t, testDir(t, c.Clone(), "/data"), Options{SegmentBytes: 3000, IndexIntervalBytes: 200})
				if v, err := l.Read(from, l.EndOffset(), 100, true); !isCorrupt(err) || !strings.Contains(err.Error(), name) {
					t.Fatalf("segment %d cut at %d: a read at %d finds %d bytes from %d on, %v", base, b.BaseOffset(), from, v.Len, v.Base, err)
				}
			}
		}
	}
}

func segmentBases(t *testing.T, fsys vfs.FS, path string) (bases []model.Offset) {
	for _, name := range names(t, fsys, path) {
		if base, suffix, ok := parseFileName(name); ok && suffix == logSuffix {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases
}

// TestFlippedBaseOffsets flips each bit of a base offset that makes it smaller, in a segment
// whose sums have several marks: a reader at that offset is not led past the batch.
func TestFlippedBaseOffsets(t *testing.T) {
	m := vfs.NewMem()
	d := testDir(t, m, "/data")
	l, _ := testLog(t, d, Options{SegmentBytes: 4 << 20})
	for range 40 {
		put(t, l, batchSpec{size: 200 << 10})
	}
	all := readAll(t, l, 0, l.EndOffset(), 1<<20)
	bases, path := segmentBases(t, m, l.Path()), l.Path()
	ok(t, l.Close())
	ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(l.EndOffset())}))
	tried := 0
	pos := int64(0)
	for i, b := range all[:bases[1]] {
		if i > 0 {
			pos += int64(all[i-1].Size())
		}
		for bit := range int64(8) {
			if b.BaseOffset()>>bit&1 == 0 {
				continue
			}
			tried++
			name := path + "/" + fileName(0, logSuffix)
			flip(t, m, name, (pos+7)*8+bit)
			l, _ := testLog(t, testDir(t, m.Clone(), "/data"), Options{})
			v, err := l.Read(b.BaseOffset(), l.EndOffset(), 1, true)
			flip(t, m, name, (pos+7)*8+bit)
			if err == nil && !bytes.Equal(readView(t, v), b) {
				t.Fatalf("bit %d of base offset %d: the read begins at %d", bit, b.BaseOffset(), v.Base)
			}
			if err != nil && !isCorrupt(err) {
				t.Fatal(err)
			}
		}
	}
	if tried < 40 {
		t.Fatalf("%d flips", tried)
	}
}

// TestLostSegments: a closed segment whose file is gone is reported when the log is opened,
// the first of them too, and only once; the others are served.
func TestLostSegments(t *testing.T) {
	m, all, path := cleanLog(t)
	bases := segmentBases(t, m, path)
	for i, base := range bases[:len(bases)-1] {
		for _, class := range []string{"clean", "crash"} {
			c := m.Clone()
			if class == "crash" {
				ok(t, c.Remove("/data/clean"))
			}
			ok(t, c.Remove(path+"/"+fileName(base, logSuffix)))
			d := testDir(t, c, "/data")
			l, r := testLog(t, d, Options{SegmentBytes: 3000, IndexIntervalBytes: 200})
			if want := fmt.Sprint([]string{fileName(base, logSuffix)}); !r.Damaged || fmt.Sprint(r.Lost) != want {
				t.Fatalf("%s, without segment %d: %+v, want lost %s", class, base, r, want)
			}
			var want []record.Batch
			for _, b := range all {
				if b.BaseOffset() < base || b.BaseOffset() >= bases[i+1] {
					want = append(want, b)
				}
			}
			if got := readAll(t, l, l.StartOffset(), l.EndOffset(), 500); !bytes.Equal(concat(got), concat(want)) {
				t.Fatalf("%s, without segment %d: %d batches, want %d", class, base, len(got), len(want))
			}
			ok(t, l.Close())
			ok(t, d.SetBrokerEpoch(1))
			ok(t, d.CloseClean([]CheckpointEntry{l.CleanEntry(0)}))
			if _, r = testLog(t, testDir(t, c, "/data"), Options{}); r.Damaged {
				t.Fatalf("%s, without segment %d: at the second opening %+v", class, base, r)
			}
		}
	}
}
