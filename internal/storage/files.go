package storage

import (
	"slices"
	"sync/atomic"

	"github.com/kalda-io/kalda/internal/vfs"
)

// Files counts the files that logs keep open, and keeps them within a bound: a log opens
// files when it needs them and keeps them for the next time, and with ten thousand logs
// that can be more than a process may have. At the bound whoever needs one more asks the
// owner of the logs to close what was not used of late. It is a bound of good will: if
// nothing can be closed the file is opened all the same, as long as the system lets us.
//
// Safe for concurrent use; several Dirs may share one. The zero value has no bound.
type Files struct {
	// limit is what SetLimit was given.
	limit   atomic.Pointer[func() int]
	reclaim atomic.Pointer[func(want int) int]
	open    atomic.Int64
}

// SetLimit sets the bound: f returns how many files may be open now. It is asked before
// each opening, so it must be quick; nil is no bound.
func (f *Files) SetLimit(limit func() int) { f.limit.Store(&limit) }

// OnFull sets what closes files: it shall close at least want of them, as far as it can,
// and returns how many it did. It is called by a log that wants to open one, so that log's
// owner is locked, and others may be: it must wait for none.
func (f *Files) OnFull(reclaim func(want int) int) { f.reclaim.Store(&reclaim) }

// Open is how many files are open.
func (f *Files) Open() int { return int(f.open.Load()) }

const (
	// reclaimPart is which part of the bound is closed at once, so that the search for what
	// can be closed is not made for every file.
	reclaimPart = 16
	// openAttempts is how often an opening is tried for which the system has no descriptor.
	openAttempts = 4
)

// take opens a file that stays open.
func (f *Files) take(open func() (vfs.File, error)) (vfs.File, error) {
	n := f.open.Add(1)
	if limit := f.limit.Load(); limit != nil && *limit != nil {
		if most := (*limit)(); n > int64(most) {
			f.makeRoom(int(n) - most + most/reclaimPart)
		}
	}
	for attempt := 1; ; attempt++ {
		file, err := open()
		if err == nil {
			return file, nil
		}
		// Others may have taken them all: sockets, the files of a moment.
		if !vfs.NoDescriptors(err) || attempt == openAttempts || f.makeRoom(1+f.Open()/reclaimPart) == 0 {
			f.open.Add(-1)
			return nil, err
		}
	}
}

func (f *Files) makeRoom(want int) int {
	if reclaim := f.reclaim.Load(); reclaim != nil && *reclaim != nil {
		return (*reclaim)(want)
	}
	return 0
}

// keptFile is a file that is counted until it is closed.
type keptFile struct {
	vfs.File
	files *Files
}

func (f *keptFile) Close() error {
	f.files.open.Add(-1)
	return f.File.Close()
}

// keep opens an index file within the bound. (A segment's file is counted by its handle.)
func (f *Files) keep(open func() (vfs.File, error)) (vfs.File, error) {
	file, err := f.take(open)
	if err != nil {
		return nil, err
	}
	return &keptFile{file, f}, nil
}

// maxClosedOpen is how many closed segments one log keeps open: readers far behind the end
// go from segment to segment, and there may be thousands.
const maxClosedOpen = 4

// usesClosed notes that the files of a closed segment are used, and closes those of the
// one that was not for longest if there are too many. One that a view or a sync still
// holds stays.
func (l *Log) usesClosed(s *segment) {
	if n := len(l.lately); n > 0 && l.lately[n-1] == s {
		return
	}
	l.lately = slices.DeleteFunc(l.lately, func(o *segment) bool { return o == s || !o.isOpen() })
	for i := 0; len(l.lately) >= maxClosedOpen && i < len(l.lately); {
		if o := l.lately[i]; o == l.active() || o.log != nil && o.log.refs.Load() > 1 {
			i++
			continue
		}
		l.lately[i].closeFiles()
		l.lately = slices.Delete(l.lately, i, i+1)
	}
	l.lately = append(l.lately, s)
}

// isOpen says whether any file of the segment is open.
func (s *segment) isOpen() bool { return s.log != nil || s.index.f != nil || s.times.f != nil }
