package storage

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// errStop ends eachBatch without an error.
var errStop = errors.New("enough")

// eachBatch calls f with each batch of a source, which is valid during the call. It checks
// what a cleaning round must not carry into a new file: checksums, order, and the batch
// headers against the segment's sums.
func (c *Compaction) eachBatch(src *openSource, limit func(int) error, f func(record.Batch) error) error {
	small := max(c.args.BufferBytes, 4096)
	if len(c.in) != small { // the first time, or after a large batch
		c.in = make([]byte, small)
	}
	corrupt := func(pos int64, err error) error { return &CorruptError{Path: src.path, Offset: pos, Err: err} }
	chain, next := uint32(0), src.base
	for pos := int64(0); pos < src.size; {
		want := min(int64(len(c.in)), src.size-pos)
		if err := limit(int(want)); err != nil {
			return err
		}
		n, err := src.h.f.ReadAt(c.in[:want], pos)
		if err != nil && err != io.EOF {
			return storageError("read segment", err)
		}
		if int64(n) < want {
			return corrupt(pos+int64(n), ErrTorn)
		}
		c.stats.ReadBytes += want
		need, start := 0, pos
		for rest := record.Batch(c.in[:n]); len(rest) >= record.HeaderLen; {
			size := rest.Size()
			switch {
			case rest.Length() < record.HeaderLen-record.LogOverhead || size > maxBatchRead:
				return corrupt(pos, ErrLength)
			case rest.Magic() != record.Magic:
				return corrupt(pos, ErrMagic)
			case pos+int64(size) > src.size:
				return corrupt(pos, ErrTorn)
			}
			if size > len(rest) {
				need = size
				break
			}
			b := rest[:size:size]
			switch {
			case !b.CheckCRC():
				return corrupt(pos, ErrChecksum)
			case b.BaseOffset() < next || b.LastOffsetDelta() < 0 || b.NextOffset() > src.end:
				return corrupt(pos, ErrOrder)
			}
			chain = crc32.Update(chain, castagnoli(), b[:record.CRCStart])
			if err := f(b); err != nil {
				if err == errStop {
					return nil
				}
				return err
			}
			next = b.NextOffset()
			pos += int64(size)
			rest = rest[size:]
		}
		switch {
		case pos == start && need == 0:
			return corrupt(pos, ErrTorn)
		case need > len(c.in):
			c.in = make([]byte, need)
		}
	}
	if !src.growing && chain != src.chain {
		return corrupt(0, ErrSums)
	}
	return nil
}

// segmentWriter writes the segment that replaces a group. While nothing differs from a
// single source it only counts, so that a segment without anything to clean is read and
// left alone.
type segmentWriter struct {
	c     *Compaction
	limit func(int) error
	s     *segment
	// f is the new file, nil while nothing differs; out holds what lies behind written.
	f       vfs.File
	out     []byte
	written int64
}

// cleanGroup cleans the sources of the piece into one new segment, ready to be swapped in.
func (c *Compaction) cleanGroup(limit func(int) error) error {
	if len(c.piece.srcs) == 0 {
		return nil
	}
	first := &c.piece.srcs[0]
	w := &segmentWriter{c: c, limit: limit, s: newEmptySegment(first.base), out: c.out[:0]}
	defer w.close()
	if len(c.piece.srcs) > 1 {
		if err := w.create(nil); err != nil {
			return err
		}
	}
	for i := range c.piece.srcs {
		src := &c.piece.srcs[i]
		if err := c.eachBatch(src, limit, func(b record.Batch) error { return w.clean(src, b) }); err != nil {
			return err
		}
	}
	c.stats.Records, c.stats.Kept = c.cleaner.records, c.cleaner.kept
	if w.f == nil {
		return nil
	}
	if err := w.finish(); err != nil {
		return err
	}
	c.out = w.out
	c.piece.made = w.s
	return nil
}

// clean writes what stays of b.
func (w *segmentWriter) clean(src *openSource, b record.Batch) error {
	from := len(w.out)
	out, same, err := w.c.cleaner.clean(w.out, b)
	if err != nil {
		return w.c.damage(src, err)
	}
	if !same && w.f == nil {
		if err := w.create(src); err != nil {
			return err
		}
	}
	w.out = out
	if w.f == nil {
		w.out = w.out[:from]
		w.account(b)
		return nil
	}
	if len(w.out) == from {
		return nil
	}
	if w.s.size+int64(len(w.out)-from) > math.MaxInt32 {
		return w.c.damage(src, fmt.Errorf("its records do not fit a segment of %d bytes any more", math.MaxInt32))
	}
	w.account(record.Batch(w.out[from:]))
	if len(w.out) >= max(w.c.args.BufferBytes, 4096) {
		return w.flush()
	}
	return nil
}

// account takes a batch that lies at the end of the new segment into all that is derived.
func (w *segmentWriter) account(b record.Batch) {
	s, pos := w.s, w.s.size
	s.noteTimestamp(b.MaxTimestamp(), b.LastOffset())
	if pos == 0 {
		s.firstTs, s.firstKnown = b.MaxTimestamp(), true
	}
	// A full index stays as it is: what lies behind its last entry is walked.
	if len(s.index.pend)+offsetEntryLen <= w.c.opts.SegmentIndexBytes && len(s.times.pend)+2*timeEntryLen <= w.c.opts.SegmentIndexBytes {
		s.indexBatch(b, pos, w.c.opts.IndexIntervalBytes)
	}
	s.sums.add(b, pos)
	s.size += int64(b.Size())
}

// create makes the new file and begins it with the part of src that stays as it is.
func (w *segmentWriter) create(src *openSource) error {
	var err error
	if w.f, err = w.c.log.fs.Create(w.c.tempPath(w.s, logSuffix)); err != nil {
		return storageError("create segment", err)
	}
	if src == nil {
		return nil
	}
	buf := make([]byte, min(w.s.size, int64(max(w.c.args.BufferBytes, 4096))))
	for w.written < w.s.size {
		n := int(min(int64(len(buf)), w.s.size-w.written))
		if err := w.limit(2 * n); err != nil {
			return err
		}
		if _, err := src.h.f.ReadAt(buf[:n], w.written); err != nil {
			return storageError("read segment", err)
		}
		w.c.stats.ReadBytes += int64(n)
		if err := w.write(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

func (w *segmentWriter) flush() error {
	if err := w.limit(len(w.out)); err != nil {
		return err
	}
	err := w.write(w.out)
	w.out = w.out[:0]
	return err
}

func (w *segmentWriter) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := w.f.WriteAt(b, w.written); err != nil {
		return storageError("write segment", err)
	}
	w.written += int64(len(b))
	w.c.stats.WrittenBytes += int64(len(b))
	return nil
}

// finish makes the new segment durable under its temporary names, with the record of what
// it replaces beside it.
func (w *segmentWriter) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := vfs.Synced(w.f.Sync()); err != nil {
		return storageError("sync segment", err)
	}
	s, fs := w.s, w.c.log.fs
	s.timeEntryNow()
	s.sums.seal(s.size)
	s.sums.indexSize, s.sums.indexCRC = int64(len(s.index.pend)), checksum(s.index.pend)
	s.sums.timeSize, s.sums.timeCRC = int64(len(s.times.pend)), checksum(s.times.pend)
	last := w.c.piece.srcs[len(w.c.piece.srcs)-1]
	for _, file := range []struct {
		name string
		data []byte
	}{
		{w.c.tempPath(s, indexSuffix), s.index.pend},
		{w.c.tempPath(s, timeIndexSuffix), s.times.pend},
		{w.c.tempPath(s, sumsSuffix), s.sums.encode(s.base)},
		{w.c.log.segPath(s, swapSuffix) + tempSuffix, swapRecord{base: s.base, end: last.end, size: s.size, chain: s.sums.chain}.encode()},
	} {
		if err := writeSynced(fs, file.name, file.data); err != nil {
			return storageError("write beside segment", err)
		}
	}
	if err := vfs.Synced(fs.SyncDir(w.c.log.path)); err != nil {
		return storageError("sync log directory", err)
	}
	s.exists = true
	s.index.n, s.times.n = len(s.index.pend)/offsetEntryLen, len(s.times.pend)/timeEntryLen
	s.index.pend, s.times.pend = nil, nil
	return nil
}

func (w *segmentWriter) close() {
	if w.f != nil {
		_ = w.f.Close() // synced, or of no use
	}
}

// writeSynced writes a new file and syncs it, but not its name.
func writeSynced(fsys vfs.FS, name string, b []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if len(b) > 0 {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = vfs.Synced(f.Sync())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
