package storage

import (
	"testing"

	"github.com/kalda-io/kalda/internal/vfs"
)

// Batches that wait for their write count as if they were in the indexes: however many are
// written at once, neither index of a segment grows past segment.index.bytes.
func TestStagedBatchesFillTheIndex(t *testing.T) {
	const batches, bound = 100, 10 * timeEntryLen
	for _, c := range []struct {
		what, fills string // fills is the suffix of the index that closes the segments
		step        int64  // ms from one batch to the next
		together    int    // so many batches are written at once
	}{
		{"growing times", timeIndexSuffix, 1, batches},
		// Few together: staged batches count for the time index, too, which stays nearly empty
		// here and must not be what closes the segments.
		{"the same time", indexSuffix, 0, 3},
	} {
		t.Run(c.what, func(t *testing.T) {
			disk := vfs.NewMem()
			size := len(batchSpec{}.build(t))
			// One entry for each batch but the first of a segment.
			l, _ := testLog(t, testDir(t, disk, "/data"), Options{IndexIntervalBytes: size - 1, SegmentIndexBytes: bound})
			for i := range batches {
				_, err := l.Append(batchSpec{ts: 1000 + int64(i)*c.step}.build(t), AppendArgs{})
				ok(t, err)
				if (i+1)%c.together == 0 {
					ok(t, l.Write())
				}
			}
			full := len(l.segs) - 1 // the active one may have room
			ok(t, l.Roll())
			for i, s := range l.segs[:len(l.segs)-1] {
				for _, suffix := range []string{indexSuffix, timeIndexSuffix} {
					in, err := disk.Stat(l.segPath(s, suffix))
					ok(t, err)
					if in.Size > bound {
						t.Errorf("segment %d: %d bytes of %s, %d are allowed", s.base, in.Size, suffix, bound)
					}
					if suffix == c.fills && i < full && in.Size < bound*3/4 {
						t.Errorf("segment %d: closed with %d of %d bytes of %s", s.base, in.Size, bound, suffix)
					}
				}
			}
			if n := len(readAll(t, l, 0, l.end, 1000)); n != batches {
				t.Errorf("%d batches", n)
			}
		})
	}
}
