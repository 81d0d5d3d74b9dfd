package storage

import (
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/vfs"
)

// Records of old producers may have no timestamps. Segments of such records are closed by
// the clock, are old when they were written long ago, and young when it was lately.
func TestSegmentsWithoutTimestamps(t *testing.T) {
	disks(t, func(t *testing.T, fsys vfs.FS, path string) {
		const age, keep = time.Hour, 3 * time.Hour
		d := testDir(t, fsys, path)
		o := Options{SegmentAge: age, Retention: keep, Delete: true}
		l, _ := testLog(t, d, o)
		now := time.Now().UnixMilli()
		put := func(afterMs int64) {
			t.Helper()
			_, err := l.Append(kvBatch(t, 0, -1, "a=1"), AppendArgs{NowMs: now + afterMs})
			ok(t, err)
			ok(t, l.Write())
		}
		for _, c := range []struct {
			afterMs  int64
			segments int
		}{{0, 1}, {1, 1}, {1 + age.Milliseconds(), 1}, {2 + age.Milliseconds(), 2}, {3 + age.Milliseconds(), 2}} {
			if put(c.afterMs); l.Segments() != c.segments {
				t.Fatalf("after %d ms: %d segments, want %d", c.afterMs, l.Segments(), c.segments)
			}
		}
		doSync(t, l)
		args := compactArgs(l, now+30*60e3)
		args.MinLag = age
		if st, err := l.CleanState(args); err != nil || st.DirtyBytes != 0 {
			t.Errorf("compaction takes what was written lately: %+v, %v", st, err)
		}
		args.NowMs += 2 * age.Milliseconds()
		if st, err := l.CleanState(args); err != nil || st.DirtyBytes == 0 {
			t.Errorf("compaction takes nothing: %+v, %v", st, err)
		}
		ok(t, l.Close())
		l, _ = testLog(t, d, o)
		for _, c := range []struct {
			after time.Duration
			start int64
		}{{keep - time.Minute, 0}, {keep + time.Minute, 5}} {
			if _, err := l.DeleteOld(now+c.after.Milliseconds(), l.EndOffset()); err != nil || int64(l.StartOffset()) != c.start {
				t.Errorf("after %v: the log starts at %d, want %d; %v", c.after, l.StartOffset(), c.start, err)
			}
		}
	})
}
