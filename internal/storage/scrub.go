package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// Scrubbing (docs/design/0017) reads closed segments again, from the disk and not from
// memory, and compares every byte with the checksums there are. It looks at what was
// synced only, so that memory and disk hold the same.
//
//	owner's lock                   no lock
//	BeginScrub: one segment  --->  Run: .sums and the indexes
//	ContinueScrub            --->  Run: up to 256 KiB of the .log
//	ContinueScrub            --->  ...
//	ContinueScrub            --->  Run: write what is to be replaced beside it
//	ContinueScrub: false, Result
//
// Between two calls the log may be appended to, compacted, truncated, cut at its start or
// closed. Run holds the file open only while it reads, so a removed one is gone when the
// next Run ends at the latest; ContinueScrub finds that the segment is not there any more,
// and forgets it: that is no damage.
//
// Damage in the .log is never mended here: there is nothing to mend it from. The log
// remembers it (segment.damage) and Read refuses the stretch, and nothing else. Indexes and
// sums are made anew where the log itself is whole.

// ScrubResult is what became of one segment.
type ScrubResult struct {
	// Path is the .log file, Base and End the offsets [Base, End) of the segment.
	Path      string
	Base, End model.Offset
	// Bytes were read.
	Bytes int64
	// Damage is what is wrong in the .log file, in order.
	Damage []Damage
	// Rebuilt are the names of files beside it that were missing or damaged and made anew.
	Rebuilt []string
	// Gone: the segment was removed, replaced or truncated meanwhile, so nothing is known.
	Gone bool
}

// Scrub is the check of one segment. It belongs to whoever began it.
type Scrub struct {
	log  *Log // for what never changes
	seg  *segment
	size int64
	cuts uint32
	// rebuilt is Log.rebuilt when it began.
	rebuilt int
	build   indexBuild

	phase scrubPhase
	// sums are what the segment is compared with: those that the log had in memory, else
	// those of the file. nil if there are none. badSums: the file is missing or of no use.
	sums              *sums
	badSums, badIndex bool
	missing           bool // the .log file was not there
	longer            bool // it has more bytes than it had when it was closed
	check             *segmentCheck
	at                int64 // read up to here
	repairs           []sideWrite
	fixed             *sums
	result            ScrubResult
}

type scrubPhase uint8

const (
	scrubSides scrubPhase = iota
	scrubLog
	scrubRepair
	scrubOver
)

// scrubSuffix ends the names of what a scrub is about to put in the place of a damaged
// file. An opening removes what ends in .tmp.
const scrubSuffix = ".scrub" + tempSuffix

// BeginScrub begins the check of the first closed and synced segment with offsets at or
// beyond from; false if there is none, or the log failed. Each check goes through
// ContinueScrub to its end.
func (l *Log) BeginScrub(from model.Offset) (*Scrub, bool) {
	if l.failed != nil {
		return nil, false
	}
	for i := 0; i+1 < len(l.segs) && l.segs[i+1].base <= l.flushedAt.RecoveryPoint; i++ {
		s := l.segs[i]
		if l.segs[i+1].base <= from || !s.exists {
			continue
		}
		c := &Scrub{log: l, seg: s, size: s.size, cuts: l.cuts, rebuilt: l.rebuilt()}
		c.build = indexBuild{interval: l.opts.IndexIntervalBytes, maxBytes: l.opts.SegmentIndexBytes}
		c.result = ScrubResult{Path: l.segPath(s, logSuffix), Base: s.base, End: l.segs[i+1].base}
		if s.sums != nil {
			held := *s.sums
			held.verified = nil
			c.sums = &held
		}
		return c, true
	}
	return nil, false
}

// Result is what is known when ContinueScrub returned false.
func (c *Scrub) Result() ScrubResult { return c.result }

// Run does the next piece of the work; it needs no lock of the owner. limit is called
// before that many bytes are read, while no file is open; it may wait, and its error ends
// the check.
func (c *Scrub) Run(limit func(bytes int) error) error {
	switch c.phase {
	case scrubSides:
		return c.readSides(limit)
	case scrubLog:
		return c.readLog(limit)
	case scrubRepair:
		for _, w := range c.repairs {
			if err := writeSynced(c.log.fs, c.log.path+string(pathSeparator)+w.name+scrubSuffix, w.data); err != nil {
				return storageError("rebuild "+w.name, err)
			}
		}
	}
	return nil
}

// readSides reads the sums, and the indexes with the checksums that the sums have of them.
func (c *Scrub) readSides(limit func(int) error) error {
	b, err := c.readSide(sumsSuffix, maxSums, limit)
	if err != nil {
		return err
	}
	read, err := decodeSums(b, c.seg.base)
	switch {
	case err != nil:
		c.badSums = true
	case c.sums == nil:
		c.sums = read
	case read.size != c.sums.size || read.chain != c.sums.chain || read.batches != c.sums.batches ||
		read.indexSize != c.sums.indexSize || read.indexCRC != c.sums.indexCRC ||
		read.timeSize != c.sums.timeSize || read.timeCRC != c.sums.timeCRC || !slices.Equal(read.marks, c.sums.marks):
		c.badSums = true // whole, and another segment's
	}
	c.badIndex = c.sums == nil
	if !c.badIndex {
		for _, f := range []struct {
			suffix string
			size   int64
			crc    uint32
		}{{indexSuffix, c.sums.indexSize, c.sums.indexCRC}, {timeIndexSuffix, c.sums.timeSize, c.sums.timeCRC}} {
			b, err := c.readSide(f.suffix, f.size, limit)
			if err != nil {
				return err
			}
			c.badIndex = c.badIndex || b == nil || int64(len(b)) != f.size || checksum(b) != f.crc
		}
	}
	c.check = newSegmentCheck(c.seg.base, c.result.End, c.size, c.sums)
	if c.badIndex {
		c.build.seg = newEmptySegment(c.seg.base)
		c.check.build = &c.build
	}
	return nil
}

// readSide reads a file beside the segment; nil if it is not there or has more than max
// bytes.
func (c *Scrub) readSide(suffix string, most int64, limit func(int) error) ([]byte, error) {
	name := c.log.segPath(c.seg, suffix)
	in, err := c.log.fs.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storageError("scrub "+name, err)
	}
	if in.Size > most {
		return nil, nil
	}
	b := make([]byte, in.Size)
	for at := int64(0); at < in.Size; {
		n, _, err := c.readFile(name, b[at:min(in.Size, at+scanBytes)], at, limit)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return b[:at], nil // it got shorter, or is gone
		}
		at += int64(n)
	}
	return b, nil
}

// readFile reads from the disk what there is of p at that position; size is that of the
// file, -1 if there is none.
func (c *Scrub) readFile(name string, p []byte, at int64, limit func(int) error) (n int, size int64, err error) {
	if err := limit(len(p)); err != nil {
		return 0, 0, err
	}
	files := c.log.dir.files
	f, err := files.take(func() (vfs.File, error) { return c.log.fs.Open(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return 0, -1, nil
	}
	if err != nil {
		return 0, 0, storageError("scrub "+name, err)
	}
	defer func() {
		files.open.Add(-1)
		_ = f.Close()
	}()
	if size, err = f.Size(); err == nil && len(p) > 0 {
		if n, err = vfs.ReadFresh(f, p, at); err == io.EOF {
			err = nil
		}
	}
	c.result.Bytes += int64(n)
	return n, size, storageError("scrub "+name, err)
}

// readLog reads the next piece of the .log file.
func (c *Scrub) readLog(limit func(int) error) error {
	buf := c.log.dir.scanBuffer()
	defer c.log.dir.giveScanBuffer(buf)
	p := buf[:min(int64(len(buf)), c.check.size-c.at)]
	n, size, err := c.readFile(c.result.Path, p, c.at, limit)
	if err != nil {
		return err
	}
	c.missing = size < 0
	c.longer = c.longer || size > c.check.size
	c.check.take(p[:n])
	c.at += int64(n)
	if n < len(p) {
		c.at = c.check.size // the file ends before it should
	}
	return nil
}

// ContinueScrub takes the result of the last Run and prepares the next; false when the
// check is over. An error of Run comes back, unless the segment was removed or changed
// meanwhile (Result.Gone).
func (l *Log) ContinueScrub(c *Scrub, ran error) (more bool, err error) {
	if l.closed || l.failed != nil || l.cuts != c.cuts || !slices.Contains(l.segs, c.seg) {
		c.result.Gone = true
		l.endScrub(c)
		return false, nil
	}
	if ran != nil {
		l.endScrub(c)
		return false, ran
	}
	switch c.phase {
	case scrubSides:
		c.phase = scrubLog
		return true, nil
	case scrubLog:
		if c.at < c.check.size && !c.missing {
			return true, nil
		}
		if l.judgeScrub(c); len(c.repairs) == 0 {
			break
		}
		if err := l.mutate(); err != nil {
			l.endScrub(c)
			return false, err
		}
		c.phase = scrubRepair
		return true, nil
	case scrubRepair:
		err = l.replaceSides(c)
	}
	l.endScrub(c)
	return false, err
}

// endScrub ends the check and removes what it did not put in place.
func (l *Log) endScrub(c *Scrub) {
	if c.phase == scrubRepair {
		for _, w := range c.repairs {
			_ = l.fs.Remove(l.path + string(pathSeparator) + w.name + scrubSuffix)
		}
	}
	c.phase = scrubOver
}

// judgeScrub takes note of what the check found, and says what is to be replaced.
func (l *Log) judgeScrub(c *Scrub) {
	s := c.seg
	if c.missing {
		c.result.Damage = []Damage{{Length: c.check.size, First: s.base, Next: c.result.End, Err: fs.ErrNotExist}}
	} else {
		c.result.Damage = c.check.finish()
		if len(c.result.Damage) == 0 && (c.longer || c.size > c.check.size) {
			c.result.Damage = []Damage{{
				Position: c.check.size, Length: max(c.size-c.check.size, 1), First: c.result.End, Next: c.result.End,
				Err: fmt.Errorf("%w: the file is longer than when it was closed", ErrSums),
			}}
		}
	}
	l.setDamage(s, c.result.Damage)
	// What a reader made anew meanwhile is not what was looked at.
	if len(c.result.Damage) > 0 || l.rebuilt() != c.rebuilt {
		return
	}
	if s.sums != nil {
		for i := range s.sums.verified {
			s.sums.verified[i] = true
		}
	}
	if !c.badSums && !c.badIndex {
		return
	}
	u := c.sums
	if u == nil {
		u = &c.check.fresh
		u.seal(c.check.size)
	}
	side := func(suffix string, data []byte) {
		name := fileName(s.base, suffix)
		c.repairs = append(c.repairs, sideWrite{name, data})
		c.result.Rebuilt = append(c.result.Rebuilt, name)
	}
	if c.badIndex {
		b := c.build.seg
		b.timeEntryNow()
		side(indexSuffix, b.index.pend)
		side(timeIndexSuffix, b.times.pend)
		u.indexSize, u.indexCRC = int64(len(b.index.pend)), checksum(b.index.pend)
		u.timeSize, u.timeCRC = int64(len(b.times.pend)), checksum(b.times.pend)
	}
	c.fixed = u
	side(sumsSuffix, u.encode(s.base))
}

// replaceSides puts what Run wrote in the place of what was damaged. The sums come last:
// after a crash in between they do not fit the indexes, which are then made anew.
func (l *Log) replaceSides(c *Scrub) error {
	if l.rebuilt() != c.rebuilt {
		c.result.Rebuilt = nil
		return nil
	}
	s := c.seg
	for len(c.repairs) > 0 {
		name := l.path + string(pathSeparator) + c.repairs[0].name
		if err := l.fs.Rename(name+scrubSuffix, name); err != nil {
			return storageError("rebuild "+c.repairs[0].name, err)
		}
		c.repairs = c.repairs[1:]
	}
	if c.badIndex {
		s.index.reset()
		s.times.reset()
		l.events.IndexesRebuilt++
	}
	if c.badSums {
		l.events.SumsRebuilt++
	}
	if s.sums != nil {
		f := c.fixed
		s.sums.indexSize, s.sums.indexCRC, s.sums.timeSize, s.sums.timeCRC = f.indexSize, f.indexCRC, f.timeSize, f.timeCRC
	}
	return nil
}

// rebuilt counts what was made anew beside the log.
func (l *Log) rebuilt() int { return l.events.IndexesRebuilt + l.events.SumsRebuilt }

// setDamage remembers what is damaged in a closed segment.
func (l *Log) setDamage(s *segment, ds []Damage) {
	if len(ds) == 0 && len(s.damage) == 0 {
		return
	}
	s.damage = ds
	l.dropHints() // one may say what is not so any more
}

// HasClosed says whether a closed segment begins at base.
func (l *Log) HasClosed(base model.Offset) bool {
	i := l.segmentFor(base)
	return l.segs[i].base == base && l.segs[i] != l.active()
}

// beforeDamage is where a read of [pos, stop) must end. A read that begins in damage is
// CORRUPT_MESSAGE: the bytes there are, as far as anybody can tell, not what was written.
func (l *Log) beforeDamage(s *segment, pos, stop int64) (int64, error) {
	for _, d := range s.damage {
		switch {
		case d.end() <= pos:
		case d.Position <= pos:
			return 0, kerr.With(kerr.CorruptMessage, "offsets %d to %d of %v are damaged on the disk (%s at byte %d: %v); what follows can be read from offset %d on",
				d.First, d.Next-1, l.partition, l.segPath(s, logSuffix), d.Position, d.Err, d.Next)
		default:
			return min(stop, d.Position), nil
		}
	}
	return stop, nil
}

// locateDamaged is locate in a segment that is damaged: around the damage, and without the
// index, which may lead into it.
func (l *Log) locateDamaged(s *segment, off model.Offset) (int64, error) {
	from, until := int64(0), s.size
	for _, d := range s.damage {
		if off < d.First {
			until = min(until, d.Position)
			break
		}
		if off < d.Next {
			return min(d.Position, s.size), nil
		}
		from = d.end()
	}
	if from >= until {
		return until, nil
	}
	h, err := l.open(s)
	if err != nil {
		return 0, err
	}
	w := l.dir.walker(h.f, s.size)
	defer l.dir.giveWalker(w)
	if l.loadSums(s) == nil {
		// A batch begins at each mark.
		lo, hi := 0, len(s.sums.marks)
		for lo < hi {
			mid := (lo + hi) / 2
			pos := s.sums.marks[mid].pos
			if pos > from && pos < until {
				b, err := w.header(pos)
				if err != nil {
					return 0, l.scanError(s, pos, err)
				}
				if b.BaseOffset() <= off {
					from = pos
				}
			}
			if pos <= from {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
	}
	for pos := from; pos < until; {
		b, err := w.header(pos)
		if err != nil {
			return 0, l.scanError(s, pos, err)
		}
		if b.LastOffset() >= off {
			return pos, nil
		}
		pos += int64(b.Size())
	}
	return until, nil
}
