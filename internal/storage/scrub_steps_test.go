package storage

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// What happens to the log in the middle of a check is no damage.
func TestScrubRaces(t *testing.T) {
	gone := func(t *testing.T, r ScrubResult) {
		if !r.Gone {
			t.Errorf("%+v", r)
		}
	}
	whole := func(t *testing.T, r ScrubResult) {
		if r.Gone {
			t.Errorf("%+v", r)
		}
	}
	for _, c := range []struct {
		name  string
		do    func(t *testing.T, d *Dir, l *Log)
		check func(t *testing.T, r ScrubResult)
	}{
		{"append and roll", func(t *testing.T, _ *Dir, l *Log) {
			put(t, l, batchSpec{n: 3})
			ok(t, l.Roll())
		}, whole},
		{"idle", func(_ *testing.T, _ *Dir, l *Log) { l.Idle() }, whole},
		{"retention", func(t *testing.T, _ *Dir, l *Log) {
			l.opts.Delete, l.opts.RetentionBytes = true, 1
			if n, err := l.DeleteOld(1, l.end); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		}, gone},
		{"delete records", func(t *testing.T, _ *Dir, l *Log) { ok(t, l.AdvanceStart(l.segs[1].base+1)) }, gone},
		{"truncation of it", func(t *testing.T, _ *Dir, l *Log) { ok(t, l.TruncateTo(150)) }, gone},
		{"truncation behind it", func(t *testing.T, _ *Dir, l *Log) { ok(t, l.TruncateTo(l.end-1)) }, gone},
		{"removal", func(t *testing.T, d *Dir, l *Log) {
			ok(t, l.Close())
			ok(t, d.RemoveLog(part))
		}, gone},
		{"failure", func(_ *testing.T, _ *Dir, l *Log) { _ = l.fail(errDisk) }, gone},
		{"compaction", func(t *testing.T, _ *Dir, l *Log) {
			st := compactNow(t, l)
			if st.Into == 0 {
				t.Fatalf("%+v", st)
			}
		}, gone},
		{"an index is rebuilt", func(t *testing.T, _ *Dir, l *Log) { ok(t, l.rebuildIndex(l.segs[0])) }, whole},
	} {
		t.Run(c.name, func(t *testing.T) {
			for step := range 8 {
				disk := vfs.NewMem()
				d, l := fewPieces(t, disk)
				s, _ := l.BeginScrub(0)
				done := false
				r, err := scrubOne(l, s, func(n int) {
					if n == step {
						done = true
						c.do(t, d, l)
					}
				})
				if err != nil || len(r.Damage) > 0 || len(r.Rebuilt) > 0 || !done {
					t.Errorf("step %d: %+v, %v", step, r, err)
				}
				c.check(t, r)
				if names, err := disk.List(l.path); err == nil && strings.Contains(strings.Join(names, " "), tempSuffix) {
					t.Errorf("step %d leaves %q", step, names)
				}
				if l.closed || l.failed != nil {
					continue
				}
				if rs := scrubAll(t, l); damageIn(rs) > 0 {
					t.Errorf("step %d, after it: %v", step, rs)
				}
			}
		})
	}
}

// compactNow runs one cleaning round.
func compactNow(t testing.TB, l *Log) CleanStats {
	t.Helper()
	c, _, err := l.BeginCompaction(CompactArgs{NowMs: 1 << 40, Stable: l.end, HighWatermark: l.end, MapBytes: 1 << 20, MapLoad: 0.9, BufferBytes: 1 << 16})
	ok(t, err)
	for more := true; more; {
		more, err = l.ContinueCompaction(c, c.Run(free))
		ok(t, err)
	}
	return c.Stats()
}

// A repair that meets a segment that went meanwhile, or an index that a reader made anew,
// leaves nothing behind.
func TestScrubRepairRaces(t *testing.T) {
	for _, do := range []func(t *testing.T, l *Log){
		func(t *testing.T, l *Log) { ok(t, l.AdvanceStart(l.segs[1].base)) },
		func(t *testing.T, l *Log) { ok(t, l.rebuildIndex(l.segs[0])) },
	} {
		disk := vfs.NewMem()
		_, l := fewPieces(t, disk)
		flipBit(t, disk, l.segPath(l.segs[0], indexSuffix), 9, 1)
		c, _ := l.BeginScrub(0)
		r, err := scrubOne(l, c, func(int) {
			if c.phase == scrubRepair && do != nil {
				do(t, l)
				do = nil
			}
		})
		if err != nil || len(r.Damage) > 0 || len(r.Rebuilt) > 0 && !r.Gone {
			t.Errorf("%+v, %v", r, err)
		}
		names, err := disk.List(l.path)
		ok(t, err)
		if strings.Contains(strings.Join(names, " "), tempSuffix) {
			t.Errorf("left behind: %q", names)
		}
		if rs := scrubAll(t, l); damageIn(rs) > 0 || len(rebuiltIn(rs)) > 0 {
			t.Errorf("afterwards: %v", rs)
		}
	}
}

// Beside a damaged log nothing is made anew, nor what a reader made anew meanwhile.
func TestScrubLeavesSides(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, disk vfs.FS, l *Log){
		"damaged log": func(t *testing.T, disk vfs.FS, l *Log) {
			flipBit(t, disk, l.segPath(l.segs[0], logSuffix), 500000, 2)
		},
		"rebuilt": func(t *testing.T, _ vfs.FS, l *Log) { ok(t, l.rebuildIndex(l.segs[0])) },
	} {
		disk := vfs.NewMem()
		_, l := fewPieces(t, disk)
		index := l.segPath(l.segs[0], indexSuffix)
		flipBit(t, disk, index, 9, 1)
		c, _ := l.BeginScrub(0)
		_, err := scrubOne(l, c, func(step int) {
			if step == 2 {
				do(t, disk, l)
			}
			if c.phase == scrubRepair {
				t.Errorf("%s: the index is made anew", name)
			}
		})
		ok(t, err)
	}
}

// Only what is closed and synced is looked at, no file is open while the limit waits, and
// the limit hears of every byte.
func TestScrubLimits(t *testing.T) {
	disk := vfs.NewMem()
	d := testDir(t, disk, "/data")
	l, _ := testLog(t, d, Options{SegmentBytes: 600 << 10})
	for range 12 {
		put(t, l, batchSpec{size: 100 << 10})
	}
	if _, more := l.BeginScrub(0); more {
		t.Fatal("a segment that was not synced is looked at")
	}
	doSync(t, l)
	l.Idle()
	var asked, read int64
	n := 0
	for from := model.Offset(0); ; n++ {
		c, more := l.BeginScrub(from)
		if !more {
			break
		}
		for more {
			err := c.Run(func(n int) error {
				if d.files.Open() != 0 {
					t.Errorf("%d files are open while it waits", d.files.Open())
				}
				asked += int64(n)
				return nil
			})
			more, err = l.ContinueScrub(c, err)
			ok(t, err)
		}
		read += c.Result().Bytes
		from = c.Result().End
	}
	if n != l.Segments()-1 || read < l.segs[0].size || asked < read || asked > read+int64(n)*1024 {
		t.Errorf("%d segments of %d, %d bytes, %d asked for", n, l.Segments(), read, asked)
	}
	stop := errors.New("stop")
	c, _ := l.BeginScrub(0)
	if more, err := l.ContinueScrub(c, c.Run(func(int) error { return stop })); more || !errors.Is(err, stop) {
		t.Error(more, err)
	}
}

// An error of the disk is one, and no damage.
func TestScrubReadError(t *testing.T) {
	for _, path := range []string{"*.log", "*.index", "*.sums"} {
		disk := vfs.NewFaults(vfs.NewMem())
		_, l := fewPieces(t, disk)
		l.Idle()
		disk.Add(vfs.Rule{Op: vfs.OpReadAt, Path: path, Err: syscall.EIO})
		c, _ := l.BeginScrub(0)
		r, err := scrubOne(l, c, nil)
		if !errors.Is(err, syscall.EIO) || !errors.Is(err, kerr.KafkaStorageError) || len(r.Damage) > 0 || r.Gone {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
}
