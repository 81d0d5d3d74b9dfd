package storage

import (
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// TestIdleLogsAreSmall: ten thousand logs that hold a few records and are idle fit in
// 8 KiB of memory each, and new ones touch no file until they are written.
func TestIdleLogsAreSmall(t *testing.T) {
	const n = 10_000
	path := filepath.Join(t.TempDir(), "data")
	d := testDir(t, vfs.OS{}, path)
	batch := batchSpec{n: 3, pid: 5}.build(t)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	logs := make([]*Log, n)
	for i := range logs {
		var err error
		logs[i], _, err = d.OpenLog(model.Partition{Topic: model.TopicID{1}, Index: int32(i)}, Options{})
		ok(t, err)
		logs[i].StartEpoch(1)
	}
	if names, err := (vfs.OS{}).List(filepath.Join(path, "parts")); err != nil || len(names) != 0 {
		t.Fatalf("%d directories for empty logs, %v", len(names), err)
	}
	for _, l := range logs[:n/50] {
		if _, err := l.Append(batch, AppendArgs{Epoch: 1, Client: true}); err != nil {
			t.Fatal(err)
		}
		ok(t, l.Write())
	}
	// The operating system counts open files; what is dirty stays open until a sync.
	for _, l := range logs[:50] {
		doSync(t, l)
	}
	for _, l := range logs {
		l.Idle()
	}
	if each := (heap() - before) / n; each > 8<<10 {
		t.Fatalf("%d bytes for each idle log", each)
	} else {
		t.Logf("%d bytes for each idle log", each)
	}
	for _, l := range logs {
		ok(t, l.Close())
	}
}

// TestViewsBesideTheOwner reads views on other goroutines while the owner appends, rolls,
// truncates and deletes (for the race detector): what is read is whole and good, or the
// view says that it was truncated.
func TestViewsBesideTheOwner(t *testing.T) {
	d := testDir(t, vfs.OS{}, filepath.Join(t.TempDir(), "data"))
	l, _ := testLog(t, d, Options{SegmentBytes: 5000, Delete: true, RetentionBytes: 20_000, MapAfter: 1})
	views := make(chan View)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			buf := make([]byte, 8<<10)
			for v := range views {
				b := buf[:v.Len]
				_, err := v.ReadAt(b, 0)
				v.Release()
				if err == ErrTruncated {
					continue
				}
				if err != nil && err != io.EOF {
					t.Errorf("view: %v", err)
					continue
				}
				for len(b) > 0 {
					batch, rest, err := record.Split(b)
					if err != nil || !batch.CheckCRC() {
						t.Errorf("view holds no whole good batch: %v", err)
						break
					}
					b = rest
				}
			}
		})
	}
	var syncs sync.WaitGroup
	for i := range 2000 {
		put(t, l, batchSpec{n: 1 + i%5, size: 20 + i%300, ts: int64(i)})
		from := l.StartOffset() + model.Offset(i*31)%(l.EndOffset()-l.StartOffset())
		v, err := l.Read(from, l.EndOffset(), 3000, true)
		ok(t, err)
		if v.Len > 0 {
			views <- v
		}
		switch {
		case i%97 == 0:
			ok(t, l.TruncateTo(l.EndOffset()-1))
		case i%50 == 0:
			if _, err := l.DeleteOld(0, l.EndOffset()); err != nil {
				t.Fatal(err)
			}
		case i%20 == 0:
			if s, dirty := l.BeginSync(); dirty {
				errs := make(chan error, 1)
				syncs.Go(func() { errs <- s.Run() })
				put(t, l, batchSpec{ts: int64(i)})
				ok(t, l.EndSync(s, <-errs))
			}
		}
	}
	close(views)
	wg.Wait()
	syncs.Wait()
}
