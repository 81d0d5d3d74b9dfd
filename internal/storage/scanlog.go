package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// batchAt is a batch header with its place in the segment.
type batchAt struct {
	record.Batch
	pos int64
}

// scanBytes is the buffer of a recovery scan: large reads, few calls.
const scanBytes = 256 << 10

// recover scans the log from its recovery point (replication.md 5.4): length, magic,
// checksum, offsets that grow, epochs that do not fall. At the first bad batch it cuts.
// Gaps between offsets are legal: compaction leaves them.
func (l *Log) recover(ckpt CheckpointEntry, known bool, r *Recovery) error {
	if err := l.mutate(); err != nil {
		return err
	}
	all := l.segs
	k, pos, point := l.scanStart(ckpt, known, r)
	found := all[k].size

	// Up to here the log is as it was synced; what comes is added batch by batch, as if
	// appended.
	l.segs = slices.Clone(all[:k+1])
	s := l.active()
	s.size, l.end = pos, point
	l.flushedAt.RecoveryPoint = point // finishRecovery syncs from here
	if pos > 0 {
		s.sums = &sums{chain: ckpt.chain, batches: ckpt.batches, from: pos}
		s.maxTs, s.maxTsOffset = ckpt.maxTs, ckpt.maxTsOffset
	} else {
		s.sums = &sums{}
	}
	s.tsKnown = true
	if err := l.restoreIndex(s, r); err != nil {
		return err
	}
	if err := l.loadEpochs(point, true, r); err != nil {
		return err
	}
	l.lastEpoch = l.epochs.at(point - 1)
	if err := l.loadProducers(point, pos > 0 && ckpt.noProducers); err != nil {
		return err
	}

	buf := l.dir.scanBuffer()
	defer l.dir.giveScanBuffer(buf)
	for i := k; ; i++ {
		whole, err := l.scanSegment(l.active(), found, buf, r)
		if err != nil {
			return err
		}
		if i+1 == len(all) || !whole {
			return l.finishRecovery(all[i+1:], found, r)
		}
		next := all[i+1]
		if next.base < l.end {
			r.CutReason, r.Damaged = fmt.Errorf("%w: segment %d begins below %d", ErrOrder, next.base, l.end), true
			return l.finishRecovery(all[i+1:], found, r)
		}
		// A segment begins where the one before it ended. If that one ends earlier now,
		// either compaction took its last records, and then its sums say that it is whole,
		// or a power cut took them.
		if next.base > l.end && !l.isWhole(l.active()) {
			r.CutReason = fmt.Errorf("%w: segment %d ends at %d, the next begins at %d", ErrTorn, l.active().base, l.end, next.base)
			return l.finishRecovery(all[i+1:], found, r)
		}
		if s := l.active(); s.ahead > s.size {
			// It was rolled, and a power cut undid the cut of its zeros.
			h, err := l.open(s)
			if err == nil {
				err = storageError("cut segment", s.cutAhead(h))
			}
			if err != nil {
				return err
			}
			r.resized = true
		}
		if err := l.closeScanned(l.active(), r); err != nil {
			return err
		}
		l.end = next.base
		found = next.size
		next.size, next.sums, next.tsKnown = 0, &sums{}, true
		l.segs = append(l.segs, next)
		l.usesClosed(all[i])
		if err := l.restoreIndex(next, r); err != nil {
			return err
		}
	}
}

// scanStart says where the scan begins: the segment, the position and the offset there.
func (l *Log) scanStart(ckpt CheckpointEntry, known bool, r *Recovery) (k int, pos int64, point model.Offset) {
	if !known {
		return 0, 0, l.segs[0].base
	}
	for i, s := range l.segs {
		if s.base == ckpt.segmentBase {
			if ckpt.position <= s.size {
				return i, ckpt.position, ckpt.RecoveryPoint
			}
			r.Damaged = true // synced bytes are missing
			return i, 0, s.base
		}
	}
	if ckpt.RecoveryPoint >= l.segs[0].base && ckpt.segmentBase > l.active().base {
		r.Damaged = ckpt.RecoveryPoint > ckpt.segmentBase || ckpt.position > 0
	}
	k = l.segmentFor(max(ckpt.RecoveryPoint, l.start))
	return k, 0, l.segs[k].base
}

// restoreIndex keeps the index entries below the segment's known good size and adds the
// ones that were lost on the way there.
func (l *Log) restoreIndex(s *segment, r *Recovery) error {
	valid, err := l.trimIndex(s, &s.index, indexSuffix)
	if err != nil {
		return err
	}
	validTimes, err := l.trimIndex(s, &s.times, timeIndexSuffix)
	if err != nil {
		return err
	}
	from := int64(0)
	s.sinceIndex = 0
	if n := s.index.n; n > 0 {
		b, err := s.index.at(n - 1)
		if err != nil {
			return storageError("read index", err)
		}
		var off model.Offset
		off, from = offsetEntry(b, s.base)
		// After a power cut the file may hold sectors of an older time that look well. The
		// entries before are compared with the log when they are used.
		if err := l.checkEntry(s, off, from); errors.Is(err, ErrFormat) {
			valid, from = false, 0
			if err := s.index.cut(); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	if !valid || !validTimes {
		r.Rebuilt = append(r.Rebuilt, fileName(s.base, indexSuffix))
	}
	if s.size == 0 {
		return nil
	}
	h, err := l.open(s)
	if err != nil {
		return err
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	for pos := from; ; {
		b, err := w.header(pos)
		if err == io.EOF {
			break
		}
		if err != nil {
			return l.scanError(s, pos, err)
		}
		if pos == 0 {
			s.firstTs, s.firstKnown = b.MaxTimestamp(), true
		}
		if pos == from && from > 0 {
			s.sinceIndex = int64(b.Size())
		} else {
			s.indexBatch(b, pos, l.opts.IndexIntervalBytes)
		}
		pos += int64(b.Size())
	}
	return nil
}

// cut empties an open index file.
func (e *entryFile) cut() error {
	e.n, e.pend, e.last = 0, nil, -1
	return storageError("truncate index", e.f.Truncate(0))
}

// trimIndex drops the entries of an index file that reach beyond the segment's good size
// or do not grow. valid is false if there were any of the second kind.
func (l *Log) trimIndex(s *segment, e *entryFile, suffix string) (valid bool, err error) {
	e.reset()
	name := l.segPath(s, suffix)
	b, err := vfs.ReadFile(l.fs, name, 2<<30)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, storageError("read index", err)
	}
	valid = len(b)%e.width == 0
	keep := 0
	prevKey, prevOff := int64(-1), int64(-1)
	for ; keep+e.width <= len(b); keep += e.width {
		var key, off, limit int64
		if e.width == offsetEntryLen {
			o, p := offsetEntry(b[keep:], s.base)
			key, off, limit = p, int64(o), s.size
			if p >= limit {
				break
			}
		} else {
			ts, o := timeEntry(b[keep:], s.base)
			key, off = ts, int64(o)
			if off >= int64(l.end) {
				break
			}
		}
		if key <= prevKey || off < prevOff || off < int64(s.base) || e.width == offsetEntryLen && off == prevOff {
			valid = false
			break
		}
		prevKey, prevOff = key, off
		if e.width == timeEntryLen {
			e.last = key
		}
	}
	f, err := l.dir.files.keep(func() (vfs.File, error) { return l.fs.OpenReadWrite(name) })
	if err != nil {
		return false, storageError("open index", err)
	}
	e.f, e.n = f, keep/e.width
	if keep < len(b) {
		if err := f.Truncate(int64(keep)); err != nil {
			return false, storageError("truncate index", err)
		}
	}
	return valid, nil
}

// scanSegment takes the good batches of s between its size and found into the log.
// whole says that nothing bad was met.
func (l *Log) scanSegment(s *segment, found int64, buf []byte, r *Recovery) (whole bool, err error) {
	h, err := l.open(s)
	if err != nil {
		return false, err
	}
	if l.dir.reread {
		if err := vfs.DropCache(h.f); err != nil {
			return false, storageError("recover segment", err)
		}
	}
	w := &walker{buf: buf}
	w.reset(h.f, found)
	for {
		b, err := w.header(s.size)
		if err == io.EOF {
			return true, nil
		}
		var good bool
		if err == nil {
			if good, err = w.checkCRC(b, s.size); err == nil && !good {
				err = ErrChecksum
			}
		}
		if err == nil {
			if b, err = w.header(s.size); err == nil && (b.BaseOffset() < l.end || b.LeaderEpoch() < l.epochs.latest()) {
				err = ErrOrder
			}
			if err == nil && !s.holds(b) {
				err = ErrRange
			}
		}
		if errors.Is(err, ErrZeros) {
			rest, zerr := zeroFrom(h.f, s.size, found, buf)
			if zerr != nil {
				return false, storageError("recover segment", zerr)
			}
			if rest { // prewritten and never used: the end of a log like any other
				s.ahead = found
				return true, nil
			}
			w.n = 0 // zeroFrom took the buffer
		}
		if err != nil {
			if !isDamage(err) {
				return false, storageError("recover segment", err)
			}
			r.CutReason = err
			damaged, derr := l.judgeTail(w, s.size, found, err)
			r.Damaged = r.Damaged || damaged
			return false, derr
		}
		r.ScannedBatches++
		r.ScannedBytes += int64(b.Size())
		l.producers.apply(b, noTime)
		l.account(s, b)
		if len(s.index.pend) >= indexFlushBytes {
			if err := l.flushIndex(s); err != nil {
				return false, err
			}
		}
	}
}

// judgeTail says whether what starts at pos is worse than a crash leaves: a crash leaves
// a torn batch, or sectors that were never written, at the end. A whole good batch behind
// the bad one means that the bad one was good once.
func (l *Log) judgeTail(w *walker, pos, found int64, reason error) (damaged bool, err error) {
	switch {
	case errors.Is(reason, ErrOrder), errors.Is(reason, ErrRange):
		return true, nil
	case !errors.Is(reason, ErrChecksum):
		return false, nil
	}
	b, err := w.header(pos)
	if err != nil {
		return false, nil
	}
	next := pos + int64(b.Size())
	if next >= found {
		return false, nil
	}
	if b, err = w.header(next); err != nil {
		return false, nil
	}
	good, err := w.checkCRC(b, next)
	if err != nil {
		return false, storageError("recover segment", err)
	}
	return good, nil
}

// closeScanned completes the files beside a segment that is not the last. Sums that were
// written when it was closed and do not fit now mean that headers changed since.
func (l *Log) closeScanned(s *segment, r *Recovery) error {
	s.timeEntryNow()
	if err := l.writeEntries(s, &s.times, timeIndexSuffix); err != nil {
		return err
	}
	if err := l.writeEntries(s, &s.index, indexSuffix); err != nil {
		return err
	}
	s.sums.seal(s.size)
	b, err := vfs.ReadFile(l.fs, l.segPath(s, sumsSuffix), maxSums)
	if err == nil {
		if old, derr := decodeSums(b, s.base); derr == nil && old.size == s.size && old.chain != s.sums.chain {
			r.Damaged = true
			s.sums = nil // reads compare with the file and report
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.Rebuilt = append(r.Rebuilt, fileName(s.base, sumsSuffix))
	}
	return l.writeSums(s)
}

// isWhole says whether the sums file of a scanned segment agrees with it.
func (l *Log) isWhole(s *segment) bool {
	b, err := vfs.ReadFile(l.fs, l.segPath(s, sumsSuffix), maxSums)
	if err != nil {
		return false
	}
	u, err := decodeSums(b, s.base)
	return err == nil && u.size == s.size && u.chain == s.sums.chain
}

// finishRecovery cuts what lies behind the log end and makes what is left durable.
func (l *Log) finishRecovery(later []*segment, found int64, r *Recovery) error {
	s := l.active()
	if found > s.size {
		h, err := l.open(s)
		if err != nil {
			return err
		}
		if s.ahead == 0 {
			r.CutBytes += found - s.size
		}
		// Zeros that come back after a power cut are no harm, so cutting them needs no sync.
		s.ahead = found
		if err := s.cutAhead(h); err != nil {
			return storageError("cut segment", err)
		}
	}
	for _, x := range later {
		if x.size > 0 {
			r.CutBytes += x.size
			r.Damaged = r.Damaged || !errors.Is(r.CutReason, ErrTorn) && !errors.Is(r.CutReason, ErrZeros)
		}
	}
	later = slices.Clone(later)
	slices.Reverse(later)
	if err := l.removeSegments(later); err != nil {
		return err
	}
	if err := l.fs.Remove(l.segPath(s, sumsSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storageError("cut segment", err)
	}
	if err := l.flushIndex(s); err != nil {
		return err
	}
	for n := len(l.snapshots); n > 0 && l.snapshots[n-1] > l.end; n-- {
		l.removeSnapshot(l.snapshots[n-1])
		l.snapshots = l.snapshots[:n-1]
	}
	if r.ScannedBytes > 0 || r.CutBytes > 0 || r.resized || l.epochs.dirty {
		if l.lateSync {
			l.owesSync = true
			return nil
		}
		if err := l.syncAll(); err != nil {
			return err
		}
	}
	l.flushedAt = l.pointNow()
	return nil
}
