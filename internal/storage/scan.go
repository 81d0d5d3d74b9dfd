package storage

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"

	"github.com/kalda-io/kalda/internal/record"
)

// walkBytes is what a walker reads at once: with the default index interval one read
// covers the way from an index entry to any small batch.
const walkBytes = 8 << 10

// castagnoli returns the table of CRC32C; MakeTable keeps one of its own.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// walker steps over batch headers in a file. It checks what a header alone can show.
// The zero value with a buffer is ready after reset.
type walker struct {
	r    io.ReaderAt
	size int64 // where the file's good bytes, or all of them, end
	buf  []byte
	at   int64 // file position of buf[0]
	n    int   // valid bytes in buf
	big  bool  // the last batch was larger than buf: read headers only
}

func (w *walker) reset(r io.ReaderAt, size int64) {
	w.r, w.size, w.at, w.n, w.big = r, size, 0, 0, false
}

// header returns the batch header at pos, at least record.HeaderLen bytes, valid until
// the next call. io.EOF at the end; ErrTorn, ErrLength, ErrMagic, ErrZeros for what is
// no whole batch; other errors are the disk's.
func (w *walker) header(pos int64) (record.Batch, error) {
	if pos == w.size {
		return nil, io.EOF
	}
	if pos < w.at || pos+record.HeaderLen > w.at+int64(w.n) {
		if err := w.fill(pos); err != nil {
			return nil, err
		}
	}
	b := record.Batch(w.buf[pos-w.at : w.n])
	if len(b) < record.HeaderLen {
		if allZero(b) {
			return nil, ErrZeros
		}
		return nil, ErrTorn
	}
	length := b.Length()
	switch {
	case length == 0 && allZero(b[:record.HeaderLen]):
		return nil, ErrZeros
	case length < record.HeaderLen-record.LogOverhead:
		return nil, ErrLength
	case b.Magic() != record.Magic:
		return nil, ErrMagic
	case b.LastOffsetDelta() < 0 || b.BaseOffset() < 0:
		return nil, ErrLength
	case pos+int64(b.Size()) > w.size:
		return nil, ErrTorn
	}
	w.big = b.Size() > len(w.buf)
	return b, nil
}

// holds says whether the offsets of b can lie in the segment: its indexes count from the
// base in 32 bits, and Append rolls before that is not enough. The sum of offset and delta
// may have run over.
func (s *segment) holds(b record.Batch) bool {
	return uint64(b.LastOffset()-s.base) <= math.MaxInt32
}

func (w *walker) fill(pos int64) error {
	want := int64(len(w.buf))
	if w.big {
		want = record.HeaderLen
	}
	want = min(want, w.size-pos)
	n, err := w.r.ReadAt(w.buf[:want], pos)
	w.at, w.n = pos, n
	if err == io.EOF {
		err = nil // shorter than we were told: header will call it torn
	}
	return err
}

// checkCRC says whether the batch at pos, whose header is h, fits its checksum.
func (w *walker) checkCRC(h record.Batch, pos int64) (bool, error) {
	size, want := int64(h.Size()), h.CRC()
	if int64(len(h)) >= size {
		return crc32.Checksum(h[record.CRCStart:size], castagnoli()) == want, nil
	}
	sum := crc32.Checksum(h[record.CRCStart:], castagnoli())
	at, end := pos+int64(len(h)), pos+size
	for at < end {
		n, err := w.r.ReadAt(w.buf[:min(int64(len(w.buf)), end-at)], at)
		if n == 0 {
			w.n = 0
			if err == io.EOF {
				return false, nil
			}
			return false, err
		}
		sum = crc32.Update(sum, castagnoli(), w.buf[:n])
		at += int64(n)
	}
	w.n = 0 // the buffer holds the middle of a batch now
	return sum == want, nil
}

// checksum is the CRC32C of b.
func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

// isDamage tells content that is no batch from errors of the disk.
func isDamage(err error) bool {
	for _, e := range []error{ErrTorn, ErrLength, ErrMagic, ErrZeros, ErrChecksum, ErrOrder, ErrRange} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
