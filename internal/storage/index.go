package storage

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// Formats of the index files: Kafka's own, frozen. Big endian, no header, no checksum.
//
//	.index     | relative offset int32 | position int32 |
//	.timeindex | timestamp int64 | relative offset int32 |
//
// An offset entry holds the last offset of a batch and where that batch starts. A time
// entry says: the largest timestamp so far, and the last offset of the batch that has it.
const (
	offsetEntryLen = 8
	timeEntryLen   = 12
	// indexFlushBytes is how much index gathers in memory before it is written: an index
	// entry for each 4 KiB of log must not cost a write each.
	indexFlushBytes = 4096
)

// entryFile is an index file with entries of fixed width. Entries gather in pend and are
// written behind; what a crash takes from it is rebuilt from the log.
type entryFile struct {
	width int
	// n counts the entries in the file; -1: not looked at yet.
	n    int
	pend []byte
	f    vfs.File
	// last is the newest timestamp in a time index; -1 without entries. Known once the
	// index of an active segment is loaded.
	last int64
	// scratch is where entries are read to, so that reading them allocates nothing.
	scratch [timeEntryLen]byte
}

func (e *entryFile) total() int { return e.n + len(e.pend)/e.width }

// at returns entry i; valid until the next call.
func (e *entryFile) at(i int) ([]byte, error) {
	if i >= e.n {
		at := (i - e.n) * e.width
		return e.pend[at : at+e.width], nil
	}
	b := e.scratch[:e.width]
	if _, err := e.f.ReadAt(b, int64(i)*int64(e.width)); err != nil {
		return nil, err
	}
	return b, nil
}

func (e *entryFile) close() {
	if e.f != nil {
		_ = e.f.Close() // flushed by whoever cares; rebuildable in any case
		e.f = nil
	}
}

func offsetEntry(b []byte, base model.Offset) (model.Offset, int64) {
	return base + model.Offset(int32(binary.BigEndian.Uint32(b))), int64(int32(binary.BigEndian.Uint32(b[4:])))
}

func timeEntry(b []byte, base model.Offset) (int64, model.Offset) {
	return int64(binary.BigEndian.Uint64(b)), base + model.Offset(int32(binary.BigEndian.Uint32(b[8:])))
}

func appendOffsetEntry(dst []byte, base, last model.Offset, pos int64) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(int32(last-base)))
	return binary.BigEndian.AppendUint32(dst, uint32(int32(pos)))
}

func appendTimeEntry(dst []byte, base model.Offset, ts int64, last model.Offset) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(ts))
	return binary.BigEndian.AppendUint32(dst, uint32(int32(last-base)))
}

// rebuildIndex makes both index files of s anew from its batches.
func (l *Log) rebuildIndex(s *segment) error {
	h, err := l.open(s)
	if err != nil {
		return err
	}
	if err := l.mutate(); err != nil {
		return err
	}
	s.index.reset()
	s.times.reset()
	s.maxTs, s.maxTsOffset, s.tsKnown, s.sinceIndex = -1, s.base-1, true, 0
	for _, suffix := range []string{indexSuffix, timeIndexSuffix} {
		f, err := l.fs.Create(l.segPath(s, suffix))
		if err != nil {
			return storageError("rebuild index", err)
		}
		_ = f.Close()
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	for pos := int64(0); ; {
		b, err := w.header(pos)
		if err == io.EOF {
			break
		}
		if err != nil {
			return l.scanError(s, pos, err)
		}
		s.noteTimestamp(b.MaxTimestamp(), b.LastOffset())
		s.indexBatch(b, pos, l.opts.IndexIntervalBytes)
		pos += int64(b.Size())
	}
	l.events.IndexesRebuilt++
	if s == l.active() {
		return l.flushIndex(s)
	}
	s.timeEntryNow()
	if err := l.flushIndex(s); err != nil {
		return err
	}
	if err := l.loadSums(s); err != nil {
		return err
	}
	return l.writeSums(s)
}

// reset forgets all entries; the file, if there is one, is to be written anew.
func (e *entryFile) reset() {
	e.close()
	e.n, e.pend, e.last = 0, nil, -1
}

// loadIndex makes both index files of s ready for reading. A file that is missing, has
// an impossible size or (in a closed segment) another checksum than its .sums records is
// rebuilt from the log.
func (l *Log) loadIndex(s *segment) error {
	if s.index.ready() && s.times.ready() {
		return nil
	}
	if s != l.active() {
		l.usesClosed(s)
	}
	for _, e := range []struct {
		file   *entryFile
		suffix string
	}{{&s.index, indexSuffix}, {&s.times, timeIndexSuffix}} {
		if e.file.ready() {
			continue
		}
		first := e.file.n < 0
		name := l.segPath(s, e.suffix)
		f, err := l.dir.files.keep(func() (vfs.File, error) { return l.fs.OpenReadWrite(name) })
		if errors.Is(err, fs.ErrNotExist) {
			if !first && e.file.n == 0 || s == l.active() && s.size <= 4*int64(l.opts.IndexIntervalBytes) {
				e.file.n = 0 // nothing was to be indexed yet
				continue
			}
			return l.rebuildIndex(s)
		}
		if err != nil {
			return storageError("open index", err)
		}
		e.file.f = f
		size, err := f.Size()
		if err != nil {
			return storageError("open index", err)
		}
		if size%int64(e.file.width) != 0 || !first && size < int64(e.file.n*e.file.width) {
			return l.rebuildIndex(s)
		}
		if first {
			e.file.n = int(size / int64(e.file.width))
		}
	}
	if n := s.times.n; n > 0 {
		b, err := s.times.at(n - 1)
		if err != nil {
			return storageError("read index", err)
		}
		ts, off := timeEntry(b, s.base)
		s.times.last = ts
		if !s.tsKnown {
			s.maxTs, s.maxTsOffset = ts, off
		}
	}
	s.tsKnown = true
	if s != l.active() {
		ok, err := l.checkIndexSums(s)
		if err != nil {
			return err
		}
		if !ok {
			return l.rebuildIndex(s)
		}
	}
	return nil
}

// ready says that entries can be read: the file is open, or there is nothing in it.
func (e *entryFile) ready() bool { return e.n == 0 || e.n > 0 && e.f != nil }

// flushIndex writes the gathered entries.
func (l *Log) flushIndex(s *segment) error {
	if err := l.flushEntries(s, &s.times, timeIndexSuffix); err != nil {
		return err
	}
	return l.flushEntries(s, &s.index, indexSuffix)
}

func (l *Log) flushEntries(s *segment, e *entryFile, suffix string) error {
	if len(e.pend) == 0 {
		return nil
	}
	return l.writeEntries(s, e, suffix)
}

// writeEntries writes the gathered entries and creates the file even if there are none.
func (l *Log) writeEntries(s *segment, e *entryFile, suffix string) error {
	if err := l.mutate(); err != nil {
		return err
	}
	if e.f == nil {
		name := l.segPath(s, suffix)
		f, err := l.dir.files.keep(func() (vfs.File, error) { return l.fs.OpenReadWrite(name) })
		if errors.Is(err, fs.ErrNotExist) {
			f, err = l.dir.files.keep(func() (vfs.File, error) { return l.fs.Create(name) })
			l.dirDirty = true
		}
		if err != nil {
			return storageError("open index", err)
		}
		e.f = f
	}
	if _, err := e.f.WriteAt(e.pend, int64(e.n*e.width)); err != nil {
		return storageError("write index", err)
	}
	e.n += len(e.pend) / e.width
	e.pend = nil
	return nil
}

// indexBatch adds the entries for a batch that starts at pos, if it is time for some.
func (s *segment) indexBatch(b record.Batch, pos int64, interval int) {
	if s.sinceIndex > int64(interval) {
		if s.index.pend == nil {
			s.index.pend = make([]byte, 0, 64)
		}
		s.index.pend = appendOffsetEntry(s.index.pend, s.base, b.LastOffset(), pos)
		s.timeEntryNow()
		s.sinceIndex = 0
	}
	s.sinceIndex += int64(b.Size())
}

// timeEntryNow records the largest timestamp so far, unless the last entry says so
// already: timestamps in the index grow strictly.
func (s *segment) timeEntryNow() {
	if s.maxTs < 0 || s.maxTs <= s.times.last {
		return
	}
	s.times.pend = appendTimeEntry(s.times.pend, s.base, s.maxTs, s.maxTsOffset)
	s.times.last = s.maxTs
}
