//kalda:core

package storage

import (
	"hash/crc32"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
)

// Damage is a stretch of a closed segment's .log file that is not as it was written.
type Damage struct {
	// Position and Length are its bytes in the file. Where the file is too short they reach
	// beyond its end.
	Position, Length int64
	// First and Next are the offsets [First, Next) that may be lost with it.
	First, Next model.Offset
	// Err says what is wrong: ErrChecksum for a batch whose header is whole, ErrSums,
	// ErrLength and the like for a stretch whose headers are not, ErrTorn for a file that is
	// too short.
	Err error
}

// end is the position behind the damage.
func (d Damage) end() int64 { return d.Position + d.Length }

// maxDamages bounds what is kept of one segment; the last takes in all that follow.
const maxDamages = 64

// segmentCheck takes the bytes of a closed segment, in order and in any pieces, and finds
// what is not as it was written. It holds one header, however large the batches are.
//
// The segment's sums divide it into stretches of about a MiB. Within a stretch whose
// headers chain to what the sums say, each batch stands for itself: one that does not fit
// its checksum is damaged and those around it are not. If the headers do not, nobody
// knows which of them is wrong, nor where the batches begin: the whole stretch is damaged,
// and the check goes on behind it, where the sums say that a batch begins. Without
// sums there is one stretch, and what lies before the first bad header is believed.
type segmentCheck struct {
	base, end model.Offset
	// size is how long the file shall be.
	size int64
	// marks divide the segment; nil without sums.
	marks []mark

	// at is how far the bytes were taken, pos where the batch under way begins. skip: the
	// rest of the stretch is not looked at, because of why.
	at, pos int64
	skip    bool
	why     error

	hdr  [record.HeaderLen]byte
	have int    // bytes of hdr that were taken
	left int64  // bytes of the batch that come behind its header
	crc  uint32 // of what was taken of the batch

	// No batch may begin below next, nor have an epoch below epoch.
	next  model.Offset
	epoch model.LeaderEpoch
	// The stretch under way: which it is, where it began and with which next and epoch, the
	// chain so far, the base offset of its first batch (-1 before that), and what is wrong
	// with single batches in it.
	stretch    int
	start      int64
	least      model.Offset
	leastEpoch model.LeaderEpoch
	chain      uint32
	first      model.Offset
	bad        []Damage

	// found is what is damaged. The last ones may have Next -1: it is not known yet where the
	// offsets begin again.
	found []Damage

	// batches counts the good ones. fresh is what the sums would be, good or bad; build the
	// indexes, nil if nobody asked for them. They are of use if nothing was found.
	batches int64
	fresh   sums
	build   *indexBuild
}

// indexBuild makes the indexes of a segment anew.
type indexBuild struct {
	seg *segment
	// interval is index.interval.bytes; maxBytes bounds each file: a full index stays as it
	// is, and what lies behind its last entry is walked.
	interval, maxBytes int
}

func (b *indexBuild) add(h record.Batch, pos int64) {
	s := b.seg
	s.noteTimestamp(h.MaxTimestamp(), h.LastOffset())
	if len(s.index.pend)+offsetEntryLen <= b.maxBytes && len(s.times.pend)+2*timeEntryLen <= b.maxBytes {
		s.indexBatch(h, pos, b.interval)
	}
}

// newSegmentCheck begins a check of the offsets [base, end). u are the segment's sums, nil
// if there are none; size is the length of the file where they do not tell.
func newSegmentCheck(base, end model.Offset, size int64, u *sums) *segmentCheck {
	c := &segmentCheck{base: base, end: end, size: size, next: base, epoch: model.NoLeaderEpoch}
	c.begin()
	if u != nil {
		c.size, c.marks = u.size, u.marks
	}
	c.turn()
	return c
}

// bound is where the stretch ends.
func (c *segmentCheck) bound() int64 {
	if c.stretch < len(c.marks) {
		return c.marks[c.stretch].pos
	}
	return c.size
}

// take takes the bytes that follow; none beyond size.
func (c *segmentCheck) take(b []byte) {
	for len(b) > 0 && c.at < c.size {
		var n int
		switch {
		case c.skip:
			n = int(min(int64(len(b)), c.bound()-c.at))
		case c.have < len(c.hdr):
			n = copy(c.hdr[c.have:], b[:min(int64(len(b)), c.bound()-c.at)])
			c.have += n
		default:
			n = int(min(int64(len(b)), c.left))
			c.crc = crc32.Update(c.crc, castagnoli(), b[:n])
			c.left -= int64(n)
		}
		c.at += int64(n)
		b = b[n:]
		if !c.skip && c.left == 0 && c.have == len(c.hdr) && c.at-c.pos == int64(len(c.hdr)) {
			c.header()
		}
		if !c.skip && c.left == 0 && c.have == len(c.hdr) {
			c.batch()
		}
		c.turn()
	}
}

// header judges a batch's header by what its own checksum does not cover.
func (c *segmentCheck) header() {
	b := record.Batch(c.hdr[:])
	rest := c.bound() - c.pos
	switch {
	case allZero(c.hdr[:]):
		c.spoil(ErrZeros)
	case b.Length() < record.HeaderLen-record.LogOverhead, int64(b.Size()) > rest:
		c.spoil(ErrLength)
	case b.Magic() != record.Magic:
		c.spoil(ErrMagic)
	case b.BaseOffset() < c.next, b.BaseOffset() >= c.end, b.LeaderEpoch() < c.epoch:
		c.spoil(ErrOrder)
	default:
		c.left = int64(b.Size()) - record.HeaderLen
		c.crc = crc32.Checksum(c.hdr[record.CRCStart:], castagnoli())
		c.chain = crc32.Update(c.chain, castagnoli(), c.hdr[:record.CRCStart])
		c.fresh.add(b, c.pos)
		c.epoch = b.LeaderEpoch()
		if c.first < 0 {
			c.first = b.BaseOffset()
		}
		c.resolve(c.bad, b.BaseOffset())
	}
}

// batch judges a whole batch.
func (c *segmentCheck) batch() {
	b := record.Batch(c.hdr[:])
	d := Damage{Position: c.pos, Length: int64(b.Size()), First: b.BaseOffset(), Next: -1}
	switch {
	case c.crc != b.CRC():
		d.Err = ErrChecksum
	case b.LastOffsetDelta() < 0, b.NextOffset() > c.end:
		d.Err = ErrOrder
	}
	if d.Err != nil {
		c.bad = append(c.bad, d)
		if n := len(c.bad); n > 1 && c.bad[n-2].end() == d.Position && c.bad[n-2].Err == d.Err {
			c.bad = c.bad[:n-1]
			c.bad[n-2].Length += d.Length
			c.bad[n-2].Next = -1
		}
		c.next = b.BaseOffset() + 1 // its last offset may be what is wrong
	} else {
		c.batches++
		c.next = b.NextOffset()
		if c.build != nil {
			c.build.add(b, c.pos)
		}
	}
	c.pos, c.have = c.at, 0
}

// resolve tells damage that waits for it where the offsets go on.
func (c *segmentCheck) resolve(ds []Damage, next model.Offset) {
	for i := len(ds) - 1; i >= 0 && ds[i].Next < 0; i-- {
		ds[i].Next = next
	}
}

// spoil gives up the stretch.
func (c *segmentCheck) spoil(err error) { c.skip, c.why = true, err }

// turn ends the stretch if it is over, and begins the next.
func (c *segmentCheck) turn() {
	for c.at == c.bound() && (c.stretch < len(c.marks) || c.stretch == 0 && len(c.marks) == 0) {
		if !c.skip && c.have > 0 {
			c.spoil(ErrTorn) // a batch does not reach over a mark
		}
		if !c.skip && c.marks != nil && c.chain != c.marks[c.stretch].chain {
			c.spoil(ErrSums)
		}
		c.endStretch(c.at)
		if c.stretch < len(c.marks) {
			c.chain = c.marks[c.stretch].chain
		}
		c.stretch++
		c.begin()
	}
}

// begin begins a stretch.
func (c *segmentCheck) begin() {
	c.start, c.pos, c.have, c.left, c.first, c.least, c.leastEpoch = c.at, c.at, 0, 0, -1, c.next, c.epoch
	c.skip, c.why, c.bad = false, nil, nil
}

// endStretch takes what was found in the stretch, which reaches to the position to.
func (c *segmentCheck) endStretch(to int64) {
	whole := Damage{Position: c.start, Length: to - c.start, First: c.least, Next: -1, Err: c.why}
	switch {
	case !c.skip:
		c.resolveFound()
		c.note(c.bad...)
	case c.marks == nil: // what came before is as good as its checksums
		c.resolveFound()
		c.note(c.bad...)
		whole.Position, whole.Length, whole.First = c.pos, to-c.pos, c.next
		c.note(whole)
	default:
		c.note(whole)
		c.next, c.epoch = c.least, c.leastEpoch // what its headers said is not to be believed
	}
}

// resolveFound uses the stretch's first offset, now that it can be believed.
func (c *segmentCheck) resolveFound() {
	if c.first >= 0 {
		c.resolve(c.found, c.first)
	}
}

func (c *segmentCheck) note(ds ...Damage) {
	for _, d := range ds {
		n := len(c.found)
		if n > 0 && n >= maxDamages {
			last := &c.found[n-1]
			last.Length, last.Next = d.end()-last.Position, d.Next
			continue
		}
		c.found = append(c.found, d)
	}
}

// finish ends the check when there are no more bytes, and returns what is damaged, in order.
func (c *segmentCheck) finish() []Damage {
	if c.at < c.size {
		c.spoil(ErrTorn)
		c.endStretch(c.size)
	}
	c.resolve(c.found, c.end)
	return c.found
}
