package storage

import (
	"errors"
	"io"

	"github.com/kalda-io/kalda/internal/vfs"
)

// A busy log of small batches is written through memory. The active segment's file is
// extended with zeros ahead of the batches, and the zeros are mapped:
//
//	0                    size                 ahead
//	[ batch batch batch ][ 0 0 0 0 0 0 0 0 0 0 ]
//	              [ mapping, to mapEnd         ]
//
// A small write is then a copy of 0.1 us instead of a system call of 1 to 3 us. The room of
// the zeros is taken, not left to a truncation, so that a full disk is an error of that call
// and never a fault of a store. They are nothing to a reader: a batch length of 0 ends the log
// for recovery and for Kafka's tools, and closing, rolling and idling cut them off.
//
// Large writes go to the file by a system call, over the zeros if there are any. A mapping is
// made after some small writes in a row, with no sync among them, and given up when a sync
// finds fewer: a sync makes the next store into each page a fault, which may even wait for the
// disk, so that a log that is synced with every write is faster without. Mappings are bounded
// in number, and ten thousand logs that are written now and then cost nothing.
//
// A log that takes much in larger writes is extended as well, each time to the next
// multiple of a MiB. The blocks are taken at once, which spares the file system to count
// them page by page, and the write that needs them puts zeros behind its batches: pages that
// are written whole come in large pieces, whereas each write that ends within a page leaves a
// trail of small ones. Both halve what a write costs (BenchmarkLargeAppend).

const (
	// mappedWriteBytes is the largest write that is copied into the mapping. Beyond it the
	// faults and the zeros of its pages cost more than the system call that they spare
	// (BenchmarkSmallAppend: equal between 4 and 8 KiB).
	mappedWriteBytes = 4 << 10
	// defaultMapAfter is how many small writes in a row, without a sync, are worth a mapping.
	defaultMapAfter = 32
	// defaultAheadBytes is how far ahead a log is prewritten: what a crash leaves as zeros,
	// what a mapped log takes of the process's resident pages at most.
	defaultAheadBytes = 256 << 10
	// extendSteps is how many AheadBytes a log is extended by for large writes, which takes
	// room and writes nothing. With steps of 256 KiB these calls were a tenth of what records
	// from a client cost; more than a MiB gains nothing.
	extendSteps = 4
	// mapRetry is after how many more small writes a mapping that failed is tried again.
	mapRetry = 4096
	// defaultExtendAfter is how much a log takes in larger writes between two syncs, or since
	// the last one, before it is extended: a sync then writes one zero for sixteen bytes of the
	// log at most.
	defaultExtendAfter = 1 << 20
	// zeroedBytes is the piece of a file of which a write leaves no part untouched.
	zeroedBytes = 64 << 10
	// extendRetry is after how many more bytes an extension that failed is tried again, if no
	// sync comes before.
	extendRetry = 64 << 20
	// maxMappings bounds the mappings of one directory: 512 x 256 KiB.
	maxMappings = 512
)

// zeros is never written to.
var zeros [64 << 10]byte

// put writes b at the end of the good bytes of s, through memory if that is cheaper.
func (l *Log) put(s *segment, h *handle, b []byte) error {
	n := int64(len(b))
	if n > mappedWriteBytes {
		l.small = min(l.small, 0)
		if s.size+n > s.mapEnd {
			s.unmap()
		}
	} else {
		l.small++
		if s.size+n > s.mapEnd {
			l.mapAhead(s, h, n)
		}
		if s.mapping != nil {
			_, err := s.mapping.WriteAt(b, s.size)
			return err
		}
	}
	l.large += n
	extends := l.opts.ExtendAfter >= 0 && (l.large >= l.opts.ExtendAfter || l.busy && l.large >= 0)
	if end := s.size + n; extends && end > min(s.ahead, roundUp(s.size, zeroedBytes)) {
		if x, ok := h.f.(vfs.Extender); ok && l.extend(s, h, x, end) {
			_, err := x.WriteZeroed(b, s.size, min(roundUp(end, zeroedBytes), s.ahead))
			return err
		}
	}
	_, err := h.f.WriteAt(b, s.size)
	return err
}

func roundUp(n, step int64) int64 { return (n + step - 1) / step * step }

// extend makes the file reach to, and beyond it to the next multiple of extendSteps
// AheadBytes. Without that put writes as ever, so false is no error.
func (l *Log) extend(s *segment, h *handle, x vfs.Extender, to int64) bool {
	if to <= s.ahead {
		return true
	}
	from := max(s.size, s.ahead)
	s.ahead = max(to, min(roundUp(to, extendSteps*int64(l.opts.AheadBytes)), l.opts.SegmentBytes))
	if err := x.Extend(from, s.ahead); err != nil {
		l.large = -extendRetry
		s.unmap()
		_ = s.cutAhead(h) // as in mapAhead
		return false
	}
	return true
}

// mapAhead moves the mapping to where the next n bytes go, or makes one if it is time.
// Without one put writes as ever, so nothing here is an error.
func (l *Log) mapAhead(s *segment, h *handle, n int64) {
	if s.mapping != nil {
		s.unmap()
	} else if l.small < l.opts.MapAfter {
		return
	}
	m, ok := h.f.(vfs.Mapper)
	if !ok || l.opts.MapAfter < 0 || !l.dir.takeMapping() {
		l.small = -mapRetry
		return
	}
	// Windows end where whole pieces of the page cache do: one that is written at once costs a
	// third of many pages.
	end := max(s.size+n, min(roundUp(s.size+n, int64(l.opts.AheadBytes)), l.opts.SegmentBytes))
	err := s.prewrite(h, end)
	if err == nil {
		s.mapping, err = m.Map(s.size, int(end-s.size))
	}
	if err != nil {
		// Perhaps the disk is nearly full: the room is given back, so that the write itself
		// meets what there is to meet.
		s.mapping = nil
		l.dir.maps.Add(-1)
		l.small = -mapRetry
		_ = s.cutAhead(h)
		return
	}
	s.mapEnd, s.maps = end, &l.dir.maps
}

// prewrite extends the file with zeros up to end.
func (s *segment) prewrite(h *handle, end int64) error {
	from := max(s.size, s.ahead)
	if x, ok := h.f.(vfs.Extender); ok && from < end {
		err := x.Extend(from, end)
		if !errors.Is(err, errors.ErrUnsupported) {
			s.ahead = end
			if err == nil {
				_, err = x.WriteZeroed(nil, from, end)
			}
			return err
		}
	}
	for at := from; at < end; {
		n := min(int64(len(zeros)), end-at)
		s.ahead = at + n
		if _, err := h.f.WriteAt(zeros[:n], at); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// cutAhead cuts the file to its good bytes. The segment must not be mapped.
func (s *segment) cutAhead(h *handle) error {
	if s.ahead > s.size {
		if err := h.f.Truncate(s.size); err != nil {
			return err
		}
		s.wasCut = true
	}
	s.ahead = 0
	return nil
}

// unmap gives up the mapping; the zeros stay.
func (s *segment) unmap() {
	if s.mapping != nil {
		// Nothing depends on it: the bytes are the page cache's, and an error could only mean
		// that the address was never mapped.
		_ = s.mapping.Close()
		s.mapping, s.mapEnd = nil, 0
		s.maps.Add(-1)
	}
}

// settle gives up the mapping and the zeros of the active segment.
func (l *Log) settle() error {
	s := l.active()
	s.unmap()
	if s.ahead <= s.size {
		s.ahead = 0
		return nil
	}
	h, err := l.open(s)
	if err != nil {
		return err
	}
	return storageError("cut segment", s.cutAhead(h))
}

// countSync begins the counts of writes anew; a log with few of them between two
// syncs gives up its mapping.
func (l *Log) countSync() {
	if l.small >= 0 && l.small < l.opts.MapAfter {
		l.active().unmap()
	}
	l.busy = l.opts.ExtendAfter >= 0 && l.large >= l.opts.ExtendAfter
	l.small, l.large = min(l.small, 0), 0
}

// Calm tells that the log was used of late, but perhaps not written; the owner calls it
// now and then. Zeros without a write since the last sync are given up, and the mapping with them.
func (l *Log) Calm() {
	if l.failed != nil || l.small > 0 || l.large != 0 {
		return
	}
	l.busy = false
	if s := l.active(); s.ahead > s.size {
		_ = l.settle() // zeros that stay cost a little room; a close or a roll cuts them
	}
}

// takeMapping counts one more mapping of the directory, if there may be one more.
func (d *Dir) takeMapping() bool {
	if d.maps.Add(1) <= maxMappings {
		return true
	}
	d.maps.Add(-1)
	return false
}

// zeroFrom says whether r holds nothing but zeros from pos to size.
func zeroFrom(r io.ReaderAt, pos, size int64, buf []byte) (bool, error) {
	for pos < size {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-pos)], pos)
		if n == 0 && err != nil {
			if err == io.EOF {
				err = nil // it is shorter than we were told
			}
			return err == nil, err
		}
		if !allZero(buf[:n]) {
			return false, nil
		}
		pos += int64(n)
	}
	return true, nil
}
