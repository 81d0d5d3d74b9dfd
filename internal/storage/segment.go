package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// Suffixes of the files of a segment. Frozen.
const (
	logSuffix       = ".log"
	indexSuffix     = ".index"
	timeIndexSuffix = ".timeindex"
	snapshotSuffix  = ".snapshot"
	producersSuffix = ".producers"
	sumsSuffix      = ".sums"
	txnIndexSuffix  = ".txnindex" // Kafka's; not written yet
)

// fileName is the name of a segment's file: the base offset in 20 digits and the suffix.
func fileName(base model.Offset, suffix string) string {
	return fmt.Sprintf("%020d%s", int64(base), suffix)
}

// parseFileName undoes fileName.
func parseFileName(name string) (base model.Offset, suffix string, ok bool) {
	digits, ext, found := strings.Cut(name, ".")
	if !found || len(digits) != 20 {
		return 0, "", false
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, "", false
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, "", false
	}
	return model.Offset(n), "." + ext, true
}

// handle is an open segment file that views may hold beyond the owner's lock. The
// segment holds one reference while it has the handle, each View and each Sync another.
type handle struct {
	f    vfs.File
	refs atomic.Int32
	// cuts counts truncations. It is raised before the file is cut, so a reader that
	// sees the same count before and after its read saw only bytes that were still valid.
	cuts atomic.Uint32
	// files counts it.
	files *Files
}

// newHandle takes over an open file that files.take counted.
func newHandle(f vfs.File, files *Files) *handle {
	h := &handle{f: f, files: files}
	h.refs.Store(1)
	return h
}

func (h *handle) acquire() *handle {
	h.refs.Add(1)
	return h
}

// release gives up one reference; the last closes the file. What was written but not
// synced is not lost by closing, so an error of close says nothing that a sync did not.
func (h *handle) release() {
	switch n := h.refs.Add(-1); {
	case n == 0:
		h.files.open.Add(-1)
		_ = h.f.Close()
	case n < 0:
		panic("storage: segment file released twice")
	}
}

// segment is one .log file and what belongs to it. The last of a log is the active one.
// Its offsets end where the next segment begins, or at the log end.
type segment struct {
	base model.Offset
	// size is the number of good bytes: whole batches only.
	size int64
	// exists says that the .log file is there. An empty log has none until its first
	// write, so that ten thousand idle partitions cost no files.
	exists bool
	// log is the open file; nil while nobody needs it.
	log *handle
	// ahead is where the file may end: behind size there are zeros up to it. The file ends
	// with size if ahead is not larger. Only the active segment's is.
	ahead int64
	// mapping is where small writes go, up to mapEnd; nil while there is none. maps is the
	// counter that it is in. See tail.go.
	mapping vfs.Mapping
	mapEnd  int64
	maps    *atomic.Int32
	// wasCut: the zeros were cut off since the file was last synced with its size.
	wasCut bool
	// index maps offsets to positions, times timestamps to offsets.
	index, times entryFile

	// maxTs is the largest timestamp (ms) and maxTsOffset the last offset of the first
	// batch that holds it; valid when tsKnown. -1 in an empty segment.
	maxTs       int64
	maxTsOffset model.Offset
	tsKnown     bool
	// firstTs is the largest timestamp of the first batch, for rolling by age; valid
	// when firstKnown.
	firstTs    int64
	firstKnown bool
	// metMs is when this process first appended behind a first batch without a timestamp,
	// ms since 1970; 0 if it has not.
	metMs int64

	// sinceIndex counts the bytes behind the last indexed batch's start (active only).
	sinceIndex int64
	// sums guards the batch headers: growing in the active segment, loaded from its file
	// in a closed one (nil until then).
	sums *sums
	// damage is what a scrub found wrong in the file, in order; Read refuses it. Closed
	// segments only.
	damage []Damage
}

func newSegment(base model.Offset) *segment {
	return &segment{
		base: base, maxTs: -1, maxTsOffset: base - 1,
		index: entryFile{width: offsetEntryLen, n: -1},
		times: entryFile{width: timeEntryLen, n: -1, last: -1},
	}
}

// newEmptySegment is a segment of which everything is known: it holds nothing.
func newEmptySegment(base model.Offset) *segment {
	s := newSegment(base)
	s.index.n, s.times.n = 0, 0
	s.tsKnown = true
	s.sums = &sums{}
	return s
}

func (l *Log) segPath(s *segment, suffix string) string {
	return l.path + string(pathSeparator) + fileName(s.base, suffix)
}

// open returns the segment's file, opening or creating it.
func (l *Log) open(s *segment) (*handle, error) {
	if s != l.active() {
		l.usesClosed(s)
	}
	if s.log != nil {
		return s.log, nil
	}
	name := l.segPath(s, logSuffix)
	if !s.exists {
		if err := l.create(s, name); err != nil {
			return nil, err
		}
		return s.log, nil
	}
	f, err := l.dir.files.take(func() (vfs.File, error) { return l.fs.OpenReadWrite(name) })
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &CorruptError{Path: name, Err: fmt.Errorf("segment file is gone: %w", err)}
		}
		return nil, storageError("open segment", err)
	}
	s.log = newHandle(f, l.dir.files)
	return s.log, nil
}

func (l *Log) create(s *segment, name string) error {
	if err := l.mutate(); err != nil {
		return err
	}
	f, err := l.dir.files.take(func() (vfs.File, error) { return l.fs.Create(name) })
	if err != nil {
		return storageError("create segment", err)
	}
	s.log, s.exists = newHandle(f, l.dir.files), true
	l.dirDirty = true
	return nil
}

// closeFiles gives up the segment's handles; open brings them back.
func (s *segment) closeFiles() {
	s.unmap()
	if s.log != nil {
		s.log.release()
		s.log = nil
	}
	s.index.close()
	s.times.close()
}

// noteTimestamp keeps the largest timestamp up to date.
func (s *segment) noteTimestamp(ts int64, lastOffset model.Offset) {
	if ts > s.maxTs {
		s.maxTs, s.maxTsOffset = ts, lastOffset
	}
}
