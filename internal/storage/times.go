package storage

import (
	"errors"
	"io"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
)

// TimestampOffset is a record found by its timestamp.
type TimestampOffset struct {
	// Offset is the record's offset.
	Offset model.Offset
	// Timestamp is the record's own, ms since 1970.
	Timestamp int64
	// Epoch is the leader epoch of its batch.
	Epoch model.LeaderEpoch
}

// maxBatchRead bounds the memory for one batch that is decoded here.
const maxBatchRead = 128 << 20

type foundBatch struct {
	seg    *segment
	pos    int64
	offset model.Offset // base
	size   int
}

// batchForTimestamp returns the first batch, among those that begin below bound, whose
// largest timestamp is not below ts.
func (l *Log) batchForTimestamp(ts int64, bound model.Offset) (foundBatch, bool, error) {
	for i := l.segmentFor(l.start); i < len(l.segs) && l.segs[i].base < bound; i++ {
		s := l.segs[i]
		if s.size == 0 {
			continue
		}
		if !s.tsKnown {
			if err := l.loadIndex(s); err != nil {
				return foundBatch{}, false, err
			}
		}
		if s.maxTs < ts {
			continue
		}
		pos, err := l.timeFloor(s, ts)
		if err != nil {
			return foundBatch{}, false, err
		}
		b, found, err := l.scanFor(s, pos, bound, func(b record.Batch) bool {
			return b.MaxTimestamp() >= ts && b.LastOffset() >= l.start
		})
		if err != nil || found {
			return b, found, err
		}
	}
	return foundBatch{}, false, nil
}

// timeFloor returns a position before which no batch of s has a timestamp of ts or more.
func (l *Log) timeFloor(s *segment, ts int64) (int64, error) {
	for attempt := 0; ; attempt++ {
		pos, err := l.searchTimes(s, ts)
		if !errors.Is(err, ErrFormat) && err != io.EOF {
			return pos, err
		}
		if attempt > 0 {
			return 0, &CorruptError{Path: l.segPath(s, timeIndexSuffix), Err: err}
		}
		if err := l.rebuildIndex(s); err != nil {
			return 0, err
		}
	}
}

// searchTimes looks ts up in the time index; ErrFormat or io.EOF if the entry found does
// not fit the batch it names.
func (l *Log) searchTimes(s *segment, ts int64) (int64, error) {
	if err := l.loadIndex(s); err != nil {
		return 0, err
	}
	lo, hi := 0, s.times.total()
	floorTs, off := int64(-1), s.base
	for lo < hi {
		mid := (lo + hi) / 2
		b, err := s.times.at(mid)
		if err != nil {
			if err == io.EOF {
				return 0, err
			}
			return 0, storageError("read time index", err)
		}
		if t, o := timeEntry(b, s.base); t < ts {
			lo, floorTs, off = mid+1, t, o
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return 0, nil
	}
	pos, err := l.locate(s, off)
	if err != nil {
		return 0, err
	}
	h, err := l.open(s)
	if err != nil {
		return 0, err
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	w.big = true
	b, err := w.header(pos)
	if err != nil && err != io.EOF {
		return 0, l.scanError(s, pos, err)
	}
	if err == io.EOF || b.LastOffset() != off || b.MaxTimestamp() != floorTs {
		return 0, ErrFormat
	}
	return pos, nil
}

// scanFor walks s from pos to the first batch below bound that f accepts.
func (l *Log) scanFor(s *segment, pos int64, bound model.Offset, f func(record.Batch) bool) (foundBatch, bool, error) {
	h, err := l.open(s)
	if err != nil {
		return foundBatch{}, false, err
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	for {
		b, err := w.header(pos)
		if err == io.EOF || err == nil && b.BaseOffset() >= bound {
			return foundBatch{}, false, nil
		}
		if err != nil {
			return foundBatch{}, false, l.scanError(s, pos, err)
		}
		if f(b) {
			return foundBatch{s, pos, b.BaseOffset(), b.Size()}, true, nil
		}
		pos += int64(b.Size())
	}
}

// OffsetForTimestamp returns the first record, among those below bound (a high watermark
// or last stable offset), whose timestamp is at or after ts (ms since 1970).
func (l *Log) OffsetForTimestamp(ts int64, bound model.Offset) (TimestampOffset, bool, error) {
	bound = min(bound, l.end)
	at, found, err := l.batchForTimestamp(ts, bound)
	if err != nil || !found {
		return TimestampOffset{}, false, err
	}
	res, found, err := l.recordIn(at, bound, func(t int64) bool { return t >= ts })
	if err != nil || found {
		return res, found, err
	}
	// The batch's largest timestamp is that of a record below the log start, of one at or
	// beyond bound, or of none (compaction). Go on behind it.
	return l.offsetAfter(at, ts, bound)
}

// offsetAfter goes on with the batches behind at, one by one: this is rare.
func (l *Log) offsetAfter(at foundBatch, ts int64, bound model.Offset) (TimestampOffset, bool, error) {
	for i := l.segmentFor(at.offset); i < len(l.segs) && l.segs[i].base < bound; i++ {
		s, pos := l.segs[i], int64(0)
		if s == at.seg {
			pos = at.pos + int64(at.size)
		}
		for {
			b, found, err := l.scanFor(s, pos, bound, func(b record.Batch) bool { return b.MaxTimestamp() >= ts })
			if err != nil {
				return TimestampOffset{}, false, err
			}
			if !found {
				break
			}
			res, found, err := l.recordIn(b, bound, func(t int64) bool { return t >= ts })
			if err != nil || found {
				return res, found, err
			}
			pos = b.pos + int64(b.size)
		}
	}
	return TimestampOffset{}, false, nil
}

// MaxTimestamp returns the first of the records below bound with the largest timestamp
// (KIP-734); false in an empty log.
func (l *Log) MaxTimestamp(bound model.Offset) (TimestampOffset, bool, error) {
	bound = min(bound, l.end)
	var best foundBatch
	bestTs, found := int64(-1), false
	for i := l.segmentFor(l.start); i < len(l.segs) && l.segs[i].base < bound; i++ {
		s := l.segs[i]
		if s.size == 0 {
			continue
		}
		if !s.tsKnown {
			if err := l.loadIndex(s); err != nil {
				return TimestampOffset{}, false, err
			}
		}
		if s.maxTs <= bestTs {
			continue
		}
		pos := int64(0)
		if l.endOf(i) <= bound && s.base >= l.start {
			// The whole segment counts: only batches with its largest timestamp are of interest.
			var err error
			if pos, err = l.timeFloor(s, s.maxTs); err != nil {
				return TimestampOffset{}, false, err
			}
		}
		for {
			// What compaction left of a batch may have its timestamp, but no record.
			_, _, err := l.scanFor(s, pos, bound, func(b record.Batch) bool {
				if b.LastOffset() >= l.start && b.MaxTimestamp() > bestTs && b.NumRecords() > 0 {
					bestTs = b.MaxTimestamp()
					best, found = foundBatch{seg: s, offset: b.BaseOffset(), size: b.Size()}, true
				}
				return false
			})
			if err != nil {
				return TimestampOffset{}, false, err
			}
			if pos == 0 || bestTs == s.maxTs {
				break
			}
			pos = 0 // only an empty batch had the segment's largest: look at all
		}
	}
	if !found {
		return TimestampOffset{}, false, nil
	}
	var err error
	if best.pos, err = l.locate(best.seg, best.offset); err != nil {
		return TimestampOffset{}, false, err
	}
	// The batch's largest timestamp may belong to a record outside of [start, bound).
	largest := int64(-1)
	if _, _, err := l.recordIn(best, bound, func(t int64) bool { largest = max(largest, t); return false }); err != nil {
		return TimestampOffset{}, false, err
	}
	return l.recordIn(best, bound, func(t int64) bool { return t == largest })
}

// recordIn returns the first record of a batch, within [start, bound), whose timestamp f
// accepts.
func (l *Log) recordIn(at foundBatch, bound model.Offset, f func(ts int64) bool) (TimestampOffset, bool, error) {
	h, err := l.open(at.seg)
	if err != nil {
		return TimestampOffset{}, false, err
	}
	b := make(record.Batch, at.size)
	if _, err := h.f.ReadAt(b, at.pos); err != nil {
		return TimestampOffset{}, false, storageError("read batch", err)
	}
	if !b.CheckCRC() {
		return TimestampOffset{}, false, l.scanError(at.seg, at.pos, ErrChecksum)
	}
	r := record.NewReader(maxBatchRead)
	if err := r.Reset(b); err != nil {
		return TimestampOffset{}, false, err
	}
	var rec record.Record
	for {
		more, err := r.Next(&rec)
		if err != nil || !more {
			return TimestampOffset{}, false, err
		}
		if rec.Offset >= l.start && rec.Offset < bound && f(rec.Timestamp) {
			return TimestampOffset{rec.Offset, rec.Timestamp, b.LeaderEpoch()}, true, nil
		}
	}
}
