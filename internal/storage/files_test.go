package storage

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// manySegments is a log of n closed segments and the directory's count of open files.
func manySegments(t *testing.T, fsys vfs.FS, n int) (*Log, *Files) {
	t.Helper()
	files := &Files{}
	d, err := OpenDir(fsys, "/data", DirOptions{ClusterID: "c1", NodeID: 7, BootID: "boot-1", Files: files})
	ok(t, err)
	t.Cleanup(func() { _ = d.Close() })
	l, _ := testLog(t, d, Options{})
	for range n {
		put(t, l, batchSpec{n: 2})
		ok(t, l.Roll())
	}
	put(t, l, batchSpec{n: 2})
	doSync(t, l)
	return l, files
}

// Whoever reads a log from its beginning leaves few of its files open, however many there
// are, and none after Close.
func TestClosedSegmentsOpenAreFew(t *testing.T) {
	const segments = 30
	l, files := manySegments(t, vfs.NewMem(), segments)
	const most = 3 * (maxClosedOpen + 1)
	for range 2 {
		for off := model.Offset(1); off < l.EndOffset(); off += 2 {
			v, err := l.Read(off, l.EndOffset(), 1000, true)
			ok(t, err)
			v.Release()
			if n := files.Open(); n > most {
				t.Fatalf("%d files are open after a read at %d, want at most %d", n, off, most)
			}
		}
	}
	if files.Open() == 0 {
		t.Fatal("nothing is open: files are not counted")
	}
	ok(t, l.Close())
	if n := files.Open(); n != 0 {
		t.Fatalf("%d files are open after Close", n)
	}
}

// The file of a view stays open until the view is released, also when the log has no use
// for it, and a truncation reaches the view.
func TestViewsKeepTheirFiles(t *testing.T) {
	const segments = 12
	l, files := manySegments(t, vfs.NewMem(), segments)
	l.Idle()
	var views []View
	for off := model.Offset(0); off < 2*segments; off += 2 {
		v, err := l.Read(off, l.EndOffset(), 1000, true)
		ok(t, err)
		views = append(views, v)
	}
	l.Idle()
	if n := files.Open(); n < segments {
		t.Fatalf("%d files are open for %d views", n, segments)
	}
	ok(t, l.TruncateTo(6))
	for i, v := range views {
		_, err := v.ReadAt(make([]byte, v.Len), 0)
		if i < 3 && err != nil {
			t.Fatalf("view %d: %v", i, err)
		}
		// The file of a segment that was removed is still there for its views.
		if i == 3 && !errors.Is(err, ErrTruncated) {
			t.Fatalf("view %d of a truncated segment: %v", i, err)
		}
		v.Release()
	}
	ok(t, l.Close())
	if n := files.Open(); n != 0 {
		t.Fatalf("%d files are open after Close", n)
	}
}

// At the bound the owner is asked to close files before one more is opened.
func TestFilesAskForRoom(t *testing.T) {
	l, files := manySegments(t, vfs.NewMem(), 1)
	l.Idle()
	if n := files.Open(); n != 0 {
		t.Fatalf("%d files are open in an idle log", n)
	}
	var asked []int
	limit := 32
	files.SetLimit(func() int { return limit })
	files.OnFull(func(want int) int { asked = append(asked, want); return 0 })
	put(t, l, batchSpec{})
	if len(asked) > 0 {
		t.Fatalf("asked for room for %v files with room for %d", asked, limit)
	}
	l.Idle()
	doSync(t, l)
	l.Idle()
	limit = 0
	put(t, l, batchSpec{})
	if len(asked) == 0 || asked[0] < 1 {
		t.Fatalf("asked for %v", asked)
	}
}

// When the system has no descriptor left, files of others are closed, and the write that
// needed one succeeds. If nothing can be closed it fails, and the log goes on later.
func TestOutOfDescriptors(t *testing.T) {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE} {
		disk := vfs.NewFaults(vfs.NewMem())
		l, files := manySegments(t, disk, 1)
		l.Idle()
		end := l.EndOffset()
		asked := 0
		files.OnFull(func(int) int {
			asked++
			disk.Clear()
			return 1
		})
		disk.Add(vfs.Rule{Op: vfs.OpOpen, Err: fmt.Errorf("open: %w", errno)})
		put(t, l, batchSpec{})
		if asked != 1 || l.EndOffset() != end+1 {
			t.Fatalf("asked %d times, log end %d", asked, l.EndOffset())
		}
		doSync(t, l)
		l.Idle()
		files.OnFull(func(int) int { return 0 })
		disk.Add(vfs.Rule{Op: vfs.OpOpen, Err: fmt.Errorf("open: %w", errno)})
		_, err := l.Append(batchSpec{}.build(t), AppendArgs{Epoch: 0})
		if err == nil {
			err = l.Write()
		}
		if !errors.Is(err, kerr.KafkaStorageError) || l.Failed() != nil {
			t.Fatalf("a write without a descriptor: %v; failed %v", err, l.Failed())
		}
		disk.Clear()
		put(t, l, batchSpec{})
		if l.EndOffset() != end+2 {
			t.Fatalf("log end %d", l.EndOffset())
		}
	}
}
