package storage

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"

	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// SegmentSums compares the batch headers of a closed segment with its .sums, for who reads
// the segment from its start. The first 21 bytes of a batch lie outside the checksum of the
// batch, so nothing else tells when one of them changed.
type SegmentSums struct {
	path  string // of the .log
	s     *sums
	next  int   // the mark that comes next
	from  int64 // where its stretch begins
	chain uint32
}

// OpenSegmentSums reads the .sums beside a .log; nil if there is none, as for the active
// segment. A CorruptError says that it is damaged; a node makes it anew.
func OpenSegmentSums(fsys vfs.FS, logPath string) (*SegmentSums, error) {
	base, suffix, ok := parseFileName(filepath.Base(logPath))
	if !ok || suffix != logSuffix {
		return nil, fmt.Errorf("%s: not the name of a segment (20 digits and .log)", logPath)
	}
	path := logPath[:len(logPath)-len(logSuffix)] + sumsSuffix
	b, err := vfs.ReadFile(fsys, path, maxSums)
	var large *vfs.TooLargeError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.As(err, &large):
		return nil, &CorruptError{Path: path, Err: ErrFormat}
	case err != nil:
		return nil, err
	}
	s, err := decodeSums(b, base)
	if err != nil {
		return nil, &CorruptError{Path: path, Err: err}
	}
	return &SegmentSums{path: logPath, s: s}, nil
}

// Add takes the batch at pos. A CorruptError names the start of the stretch before it, about
// a MiB, if the headers there are not those that the segment was closed with.
func (c *SegmentSums) Add(b record.Batch, pos int64) error {
	err := c.upTo(pos)
	c.chain = crc32.Update(c.chain, castagnoli(), b[:record.CRCStart])
	return err
}

// End says whether the last stretch, and the size, are those that the segment was closed with.
func (c *SegmentSums) End(size int64) error {
	if size != c.s.size {
		return &CorruptError{Path: c.path, Offset: min(size, c.s.size),
			Err: fmt.Errorf("%w: %d bytes, %d when it was closed", ErrSums, size, c.s.size)}
	}
	return c.upTo(size)
}

func (c *SegmentSums) upTo(pos int64) (err error) {
	for c.next < len(c.s.marks) && c.s.marks[c.next].pos <= pos {
		m := c.s.marks[c.next]
		if (c.chain != m.chain || m.pos != pos) && err == nil {
			err = &CorruptError{Path: c.path, Offset: c.from, Err: ErrSums}
		}
		// What follows is judged by itself.
		c.next, c.from, c.chain = c.next+1, m.pos, m.chain
	}
	return err
}
