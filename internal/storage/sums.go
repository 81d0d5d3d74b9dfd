package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// A batch's first 21 bytes (base offset, length, epoch, magic, CRC) lie outside its own
// checksum. sums chains a CRC32C over these bytes of every batch of a segment, with a
// mark about every MiB, so that a reader of a closed segment verifies the stretch it
// serves and not the whole file.
//
// Format of .sums, ours, frozen; big endian:
//
//	| "KSUM" | version uint8 = 1 | base int64 | log size int64 | batches int64 |
//	| index size int64 | index CRC32C | timeindex size int64 | timeindex CRC32C |
//	| marks int32 | { position int64, chain uint32 } ... | CRC32C of all before |
//
// The last mark is at the log size. A mark's chain covers all batches before its position.
type sums struct {
	chain   uint32
	batches int64
	marks   []mark
	// verified[i] says that the batches between mark i-1 and mark i were compared with
	// the chain since the log was opened. nil while the segment is active.
	verified []bool
	// from is the position behind which this process appended or scanned every batch.
	from int64

	size                int64
	indexSize, timeSize int64
	indexCRC, timeCRC   uint32
}

type mark struct {
	pos   int64
	chain uint32
}

const (
	sumsMagic   = "KSUM"
	sumsHeader  = 4 + 1 + 8 + 8 + 8 + 8 + 4 + 8 + 4 + 4
	markLen     = 12
	markSpacing = 1 << 20
	// maxSums bounds what is read: a segment of 2 GiB has at most 2048 marks and those
	// of restarts.
	maxSums = 8 << 20
)

// add chains the batch that starts at pos.
func (s *sums) add(b record.Batch, pos int64) {
	last := int64(0)
	if n := len(s.marks); n > 0 {
		last = s.marks[n-1].pos
	}
	if pos-last >= markSpacing {
		s.marks = append(s.marks, mark{pos, s.chain})
	}
	s.chain = crc32.Update(s.chain, castagnoli(), b[:record.CRCStart])
	s.batches++
}

func (s *sums) encode(base model.Offset) []byte {
	b := make([]byte, 0, sumsHeader+len(s.marks)*markLen+4)
	b = append(b, sumsMagic...)
	b = append(b, 1)
	b = binary.BigEndian.AppendUint64(b, uint64(base))
	b = binary.BigEndian.AppendUint64(b, uint64(s.size))
	b = binary.BigEndian.AppendUint64(b, uint64(s.batches))
	b = binary.BigEndian.AppendUint64(b, uint64(s.indexSize))
	b = binary.BigEndian.AppendUint32(b, s.indexCRC)
	b = binary.BigEndian.AppendUint64(b, uint64(s.timeSize))
	b = binary.BigEndian.AppendUint32(b, s.timeCRC)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.marks)))
	for _, m := range s.marks {
		b = binary.BigEndian.AppendUint64(b, uint64(m.pos))
		b = binary.BigEndian.AppendUint32(b, m.chain)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func decodeSums(b []byte, base model.Offset) (*sums, error) {
	if len(b) < sumsHeader+4 || string(b[:4]) != sumsMagic || b[4] != 1 {
		return nil, ErrFormat
	}
	body, tail := b[:len(b)-4], b[len(b)-4:]
	if crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(tail) {
		return nil, ErrChecksum
	}
	s := &sums{
		size: int64(binary.BigEndian.Uint64(b[13:])), batches: int64(binary.BigEndian.Uint64(b[21:])),
		indexSize: int64(binary.BigEndian.Uint64(b[29:])), indexCRC: binary.BigEndian.Uint32(b[37:]),
		timeSize: int64(binary.BigEndian.Uint64(b[41:])), timeCRC: binary.BigEndian.Uint32(b[49:]),
	}
	n := int(binary.BigEndian.Uint32(b[53:]))
	rest := body[sumsHeader:]
	if model.Offset(binary.BigEndian.Uint64(b[5:])) != base || len(rest) != n*markLen || n == 0 {
		return nil, ErrFormat
	}
	last := int64(-1)
	for ; len(rest) > 0; rest = rest[markLen:] {
		m := mark{int64(binary.BigEndian.Uint64(rest)), binary.BigEndian.Uint32(rest[8:])}
		if m.pos <= last && len(s.marks) > 0 || m.pos < 0 {
			return nil, ErrFormat
		}
		last = m.pos
		s.marks = append(s.marks, m)
	}
	if last != s.size {
		return nil, ErrFormat
	}
	s.chain = s.marks[n-1].chain
	s.verified = make([]bool, n)
	return s, nil
}

// seal ends the growing sums of a segment that is being closed.
func (s *sums) seal(size int64) {
	if n := len(s.marks); n > 0 && s.marks[n-1].pos == size {
		s.marks = s.marks[:n-1]
	}
	s.marks = append(s.marks, mark{size, s.chain})
	s.size = size
	s.verified = make([]bool, len(s.marks))
	start := int64(0)
	for i, m := range s.marks {
		s.verified[i] = start >= s.from
		start = m.pos
	}
}

// crcOfFile is the size and CRC32C of a whole file; a missing one counts as empty.
func crcOfFile(d *Dir, name string) (int64, uint32, error) {
	f, err := d.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var at int64
	var sum uint32
	buf := d.scanBuffer()
	defer d.giveScanBuffer(buf)
	for {
		n, err := f.ReadAt(buf, at)
		sum = crc32.Update(sum, castagnoli(), buf[:n])
		at += int64(n)
		if err == io.EOF {
			return at, sum, nil
		}
		if err != nil {
			return 0, 0, err
		}
	}
}

// writeSums writes the sealed sums of a segment, whose indexes are flushed.
func (l *Log) writeSums(s *segment) error {
	var err error
	if s.sums.indexSize, s.sums.indexCRC, err = crcOfFile(l.dir, l.segPath(s, indexSuffix)); err != nil {
		return storageError("read index", err)
	}
	if s.sums.timeSize, s.sums.timeCRC, err = crcOfFile(l.dir, l.segPath(s, timeIndexSuffix)); err != nil {
		return storageError("read index", err)
	}
	return storageError("write sums", vfs.WriteFile(l.fs, l.segPath(s, sumsSuffix), s.sums.encode(s.base), false))
}

// loadSums makes the sums of a closed segment ready. A missing or unreadable file is
// rebuilt from the log: what it guarded is then taken as it is, and reported.
func (l *Log) loadSums(s *segment) error {
	if s.sums != nil {
		return nil
	}
	name := l.segPath(s, sumsSuffix)
	b, err := vfs.ReadFile(l.fs, name, maxSums)
	var read *sums
	if err == nil {
		read, err = decodeSums(b, s.base)
	}
	var large *vfs.TooLargeError
	switch {
	case err == nil && read.size != s.size:
		return &CorruptError{Path: l.segPath(s, logSuffix), Offset: min(read.size, s.size),
			Err: fmt.Errorf("%w: %d bytes, %d when it was closed", ErrSums, s.size, read.size)}
	case err == nil:
		s.sums = read
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrFormat), errors.Is(err, ErrChecksum), errors.As(err, &large):
		return l.rebuildSums(s)
	}
	return storageError("read sums", err)
}

func (l *Log) rebuildSums(s *segment) error {
	h, err := l.open(s)
	if err != nil {
		return err
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	fresh := &sums{}
	for pos := int64(0); ; {
		b, err := w.header(pos)
		if err == io.EOF {
			break
		}
		if err != nil {
			return l.scanError(s, pos, err)
		}
		fresh.add(b, pos)
		pos += int64(b.Size())
	}
	l.events.SumsRebuilt++
	fresh.seal(s.size)
	s.sums = fresh
	if err := l.writeSums(s); err != nil {
		s.sums = nil
		return err
	}
	return nil
}

// scanError turns what a walker met in good territory into damage or a storage error.
func (l *Log) scanError(s *segment, pos int64, err error) error {
	if isDamage(err) {
		return &CorruptError{Path: l.segPath(s, logSuffix), Offset: pos, Err: err}
	}
	return storageError("read segment", err)
}

// checkIndexSums says whether the index files of a closed segment are those it was
// closed with.
func (l *Log) checkIndexSums(s *segment) (bool, error) {
	if err := l.loadSums(s); err != nil {
		return false, err
	}
	size, sum, err := crcOfFile(l.dir, l.segPath(s, indexSuffix))
	if err != nil {
		return false, storageError("read index", err)
	}
	tsize, tsum, err := crcOfFile(l.dir, l.segPath(s, timeIndexSuffix))
	if err != nil {
		return false, storageError("read index", err)
	}
	u := s.sums
	return size == u.indexSize && sum == u.indexCRC && tsize == u.timeSize && tsum == u.timeCRC, nil
}

// verify compares the batch headers in [from, to) of a closed segment with the chain,
// as far as this was not done since the log was opened.
func (l *Log) verify(s *segment, from, to int64) error {
	if err := l.loadSums(s); err != nil {
		return err
	}
	start, chain := int64(0), uint32(0)
	for i, m := range s.sums.marks {
		if start >= to {
			break
		}
		if m.pos > from && !s.sums.verified[i] {
			if err := l.verifyStretch(s, start, m.pos, chain, m.chain); err != nil {
				return err
			}
			s.sums.verified[i] = true
		}
		start, chain = m.pos, m.chain
	}
	return nil
}

func (l *Log) verifyStretch(s *segment, from, to int64, chain, want uint32) error {
	h, err := l.open(s)
	if err != nil {
		return err
	}
	w := l.dir.walker(h.f, to)
	defer l.dir.giveWalker(w)
	for pos := from; ; {
		b, err := w.header(pos)
		if err == io.EOF {
			break
		}
		if err != nil {
			return l.scanError(s, pos, err)
		}
		chain = crc32.Update(chain, castagnoli(), b[:record.CRCStart])
		pos += int64(b.Size())
	}
	if chain != want {
		return &CorruptError{Path: l.segPath(s, logSuffix), Offset: from, Err: ErrSums}
	}
	return nil
}

// VerifyHeaders compares the batch headers of all closed segments with their sums, as far
// as this was not done since the log was opened: before a new follower is served, and by
// whoever scrubs. It reads every header, so it takes the time of reading a cold log; the
// batches' own checksums are not looked at. A CorruptError says where damage is.
func (l *Log) VerifyHeaders() error {
	for _, s := range l.segs[:len(l.segs)-1] {
		if err := l.verify(s, 0, s.size); err != nil {
			return err
		}
	}
	return nil
}
