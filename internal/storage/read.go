package storage

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// View is a stretch of whole batches in one segment file, to be read without the owner's
// lock. The file stays readable until Release, whatever becomes of the log. The zero View
// is empty. Copies of a View share its one reference: release it once.
type View struct {
	// Len is the number of bytes.
	Len int
	// Base is the base offset of the first batch; it may lie below the offset asked for,
	// in the middle of a batch. Meaningless if Len is 0.
	Base model.Offset

	h    *handle
	pos  int64
	cuts uint32
}

// ErrTruncated is returned by View.ReadAt when the log was truncated meanwhile: the bytes
// may not be those that the View stood for.
var ErrTruncated = errors.New("log was truncated under a read")

// ReadAt reads len(p) bytes of the view from off. Safe for concurrent use until Release.
func (v View) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(v.Len) {
		return 0, errors.New("read outside of the view")
	}
	var end error
	if rest := int64(v.Len) - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	if len(p) == 0 {
		return 0, end
	}
	n, err := v.h.f.ReadAt(p, v.pos+off)
	if v.h.cuts.Load() != v.cuts {
		return 0, ErrTruncated
	}
	if err != nil {
		return n, storageError("read segment", err)
	}
	return n, end
}

// Release gives the file back. The view must not be used after it; releasing an empty
// view does nothing.
func (v View) Release() {
	if v.h != nil {
		v.h.release()
	}
}

// recentBatches remembers where the last batches of the active segment lie, for the
// consumers that keep up: they read without looking at an index.
type recentBatches struct {
	n    int // number of valid entries, the newest last
	ring [32]struct {
		base, last model.Offset
		pos        int64
	}
	next int
}

func (l *Log) remember(base, last model.Offset, pos int64) {
	r := l.recent
	if r == nil {
		r = &recentBatches{}
		l.recent = r
	}
	e := &r.ring[r.next]
	e.base, e.last, e.pos = base, last, pos
	r.next = (r.next + 1) % len(r.ring)
	r.n = min(r.n+1, len(r.ring))
}

// find returns the position of the first batch whose last offset is not below off.
func (r *recentBatches) find(off model.Offset) (int64, bool) {
	if r == nil {
		return 0, false
	}
	pos, found := int64(0), false
	for i := 1; i <= r.n; i++ { // from the newest back
		e := &r.ring[(r.next-i+len(r.ring))%len(r.ring)]
		if e.last < off {
			return pos, found
		}
		pos, found = e.pos, true
		if e.base <= off {
			return pos, true
		}
	}
	return 0, false // older than all, or the one before might hold it as well
}

// hint remembers where an earlier read ended, which is where the same reader goes on:
// the first batch with a last offset not below any offset in [lo, hi] is at pos.
type hint struct {
	seg    *segment
	lo, hi model.Offset
	pos    int64
}

func (l *Log) addHint(s *segment, lo, hi model.Offset, pos int64) {
	for i := range l.hints {
		if h := &l.hints[i]; h.seg == s && h.pos == pos {
			h.lo, h.hi = min(h.lo, lo), max(h.hi, hi)
			return
		}
	}
	l.hints[l.hintAt] = hint{s, lo, hi, pos}
	l.hintAt = (l.hintAt + 1) % len(l.hints)
}

func (l *Log) dropHints() { l.hints = [4]hint{} }

// segmentFor returns the index of the segment that would hold off.
func (l *Log) segmentFor(off model.Offset) int {
	lo, hi := 0, len(l.segs)
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		if l.segs[mid].base <= off {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// endOf is the offset where segment i ends.
func (l *Log) endOf(i int) model.Offset {
	if i+1 < len(l.segs) {
		return l.segs[i+1].base
	}
	return l.end
}

// Read returns the whole batches from the one that holds from (or the next one behind
// it) up to, not beyond, end and at most maxBytes of them; all lie in one segment. With
// minOne the first batch comes even if it is larger than maxBytes. The view is empty if
// there is nothing to read yet. The caller releases it.
//
// OFFSET_OUT_OF_RANGE if from is not within [StartOffset, EndOffset], CORRUPT_MESSAGE if a
// scrub found what is there damaged. Read allocates nothing once the segment's files are open.
func (l *Log) Read(from, end model.Offset, maxBytes int, minOne bool) (View, error) {
	if from < l.start || from > l.end {
		return View{}, fmt.Errorf("read %v at %d, log is [%d, %d): %w", l.partition, from, l.start, l.end, kerr.OffsetOutOfRange)
	}
	if l.closed {
		return View{}, l.failed
	}
	end = min(end, l.end)
	if from >= end {
		return View{}, nil
	}
	for i := l.segmentFor(from); i < len(l.segs) && l.segs[i].base < end; i++ {
		s := l.segs[i]
		if s.size == 0 && len(s.damage) == 0 {
			if err := l.shortened(s); err != nil {
				return View{}, err
			}
			continue
		}
		pos, err := l.locate(s, from)
		if err != nil {
			return View{}, err
		}
		if pos == s.size {
			if _, err := l.beforeDamage(s, pos, pos); err != nil {
				return View{}, err // it is not here because the file is too short
			}
			if err := l.shortened(s); err != nil {
				return View{}, err
			}
			continue // compaction left nothing here
		}
		stop := s.size
		if end < l.endOf(i) {
			if stop, err = l.locate(s, end); err != nil {
				return View{}, err
			}
		}
		if stop <= pos {
			return View{}, nil // end falls within the batch that holds from
		}
		if len(s.damage) > 0 {
			if stop, err = l.beforeDamage(s, pos, stop); err != nil {
				return View{}, err
			}
		}
		return l.view(s, pos, stop, end, maxBytes, minOne, s != l.active())
	}
	return View{}, nil
}

// shortened says that a segment has no batch at an offset because its file lost its end, or
// the header that would tell is damaged, and not because compaction left none.
func (l *Log) shortened(s *segment) error {
	if s == l.active() || !s.exists {
		return nil
	}
	if err := l.loadSums(s); err != nil {
		return err
	}
	return l.verify(s, s.size-1, s.size)
}

// view cuts [pos, stop) to maxBytes at a batch boundary.
func (l *Log) view(s *segment, pos, stop int64, end model.Offset, maxBytes int, minOne, sealed bool) (View, error) {
	first, next, err := l.cut(s, pos, stop, int64(max(maxBytes, 0)), minOne)
	if err != nil || next == pos {
		return View{}, err
	}
	if next == stop && stop < s.size && len(s.damage) == 0 {
		l.addHint(s, end, end, stop)
	}
	if sealed {
		// From the batch before: the offset asked for may be in that one, if its header was
		// damaged.
		before := max(pos-1, 0)
		if slices.ContainsFunc(s.damage, func(d Damage) bool { return d.end() == pos }) {
			before = pos // that one is known to be, and which offsets are lost with it
		}
		if err := l.verify(s, before, next); err != nil {
			return View{}, err
		}
	}
	h, err := l.open(s)
	if err != nil {
		return View{}, err
	}
	return View{Len: int(next - pos), Base: first, h: h.acquire(), pos: pos, cuts: h.cuts.Load()}, nil
}

// cut returns the base offset of the batch at pos and the last batch boundary that is
// not beyond stop and at most maxBytes behind pos.
func (l *Log) cut(s *segment, pos, stop, maxBytes int64, minOne bool) (first model.Offset, next int64, err error) {
	h, err := l.open(s)
	if err != nil {
		return 0, 0, err
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	b, err := w.header(pos)
	if err != nil {
		return 0, 0, l.scanError(s, pos, err)
	}
	first = b.BaseOffset()
	if stop-pos <= maxBytes {
		return first, stop, nil
	}
	at := pos
	if size := int64(b.Size()); size > maxBytes {
		if !minOne {
			return first, pos, nil
		}
		return first, pos + size, nil
	}
	// The last indexed batch that begins within reach is a boundary near the end.
	if len(s.damage) == 0 {
		if _, p, ok, err := l.floor(s, pos+maxBytes, true); err != nil {
			return 0, 0, err
		} else if ok && p > at {
			at = p
		}
	}
	last := model.Offset(-1)
	for {
		b, err := w.header(at)
		if err != nil {
			return 0, 0, l.scanError(s, at, err)
		}
		if at+int64(b.Size()) > pos+maxBytes {
			lo := b.BaseOffset()
			if last >= 0 {
				lo = last + 1
			}
			l.addHint(s, lo, b.LastOffset(), at)
			return first, at, nil
		}
		last = b.LastOffset()
		at += int64(b.Size())
	}
}

// locate returns the position of the first batch in s whose last offset is not below
// off; the segment's size if there is none.
func (l *Log) locate(s *segment, off model.Offset) (int64, error) {
	if s == l.active() {
		if off >= l.end {
			return s.size, nil
		}
		if pos, ok := l.recent.find(off); ok {
			return pos, nil
		}
	}
	if off <= s.base {
		return 0, nil
	}
	if len(s.damage) > 0 {
		return l.locateDamaged(s, off)
	}
	for i := range l.hints {
		if h := &l.hints[i]; h.seg == s && h.lo <= off && off <= h.hi {
			return h.pos, nil
		}
	}
	_, pos, _, err := l.floor(s, int64(off), false)
	if err != nil {
		return 0, err
	}
	h, err := l.open(s)
	if err != nil {
		return 0, err
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	for {
		b, err := w.header(pos)
		if err == io.EOF {
			return s.size, nil
		}
		if err != nil {
			return 0, l.scanError(s, pos, err)
		}
		if b.LastOffset() >= off {
			return pos, nil
		}
		pos += int64(b.Size())
	}
}

// floor returns the last index entry whose offset (or, with byPos, position) is not
// above key; ok is false, with position 0, if there is none. The entry is compared with
// the batch it names: an index that does not fit its log is rebuilt.
func (l *Log) floor(s *segment, key int64, byPos bool) (off model.Offset, pos int64, ok bool, err error) {
	for attempt := 0; ; attempt++ {
		if err := l.loadIndex(s); err != nil {
			return 0, 0, false, err
		}
		off, pos, ok, err = s.searchIndex(key, byPos)
		if err == nil && ok {
			err = l.checkEntry(s, off, pos)
		}
		if err == nil {
			return off, pos, ok, nil
		}
		if !errors.Is(err, ErrFormat) && err != io.EOF {
			return 0, 0, false, storageError("read index", err)
		}
		if attempt > 0 {
			return 0, 0, false, &CorruptError{Path: l.segPath(s, indexSuffix), Err: err}
		}
		if err := l.rebuildIndex(s); err != nil {
			return 0, 0, false, err
		}
	}
}

func (s *segment) searchIndex(key int64, byPos bool) (off model.Offset, pos int64, ok bool, err error) {
	lo, hi := 0, s.index.total() // entries before lo are not above key, those from hi on are
	for lo < hi {
		mid := (lo + hi) / 2
		b, err := s.index.at(mid)
		if err != nil {
			return 0, 0, false, err
		}
		o, p := offsetEntry(b, s.base)
		v := int64(o)
		if byPos {
			v = p
		}
		if v <= key {
			lo, off, pos, ok = mid+1, o, p, true
		} else {
			hi = mid
		}
	}
	return off, pos, ok, nil
}

// checkEntry compares an index entry with the log.
func (l *Log) checkEntry(s *segment, off model.Offset, pos int64) error {
	if pos < 0 || pos >= s.size {
		return ErrFormat
	}
	h, err := l.open(s)
	if err != nil {
		return err
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	w.big = true // one header is all we need
	b, err := w.header(pos)
	if err != nil {
		if isDamage(err) {
			return ErrFormat
		}
		return err
	}
	if b.LastOffset() != off {
		return ErrFormat
	}
	return nil
}
