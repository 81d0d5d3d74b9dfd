package storage

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// Log compaction (docs/design/0015). A cleaning round keeps of each key the newest record,
// by the rules of cleanRule. It takes closed segments only, wholly below the high
// watermark and below what was synced, so that neither followers nor recovery nor the
// group commit meet what it changes.
//
//	owner's lock                        no lock
//	BeginCompaction        ---->        Run: record the recovery point
//	ContinueCompaction     ---->        Run: map the keys of one dirty segment
//	ContinueCompaction     ---->        Run: write one group of segments anew
//	ContinueCompaction: swap it in  ->  Run: the next group ...
//	ContinueCompaction: false           the round is over
//
// Between two calls the log may be appended to, rolled, truncated, cut at its start or
// closed: each ContinueCompaction looks at what became of the segments.

// CompactArgs are the settings and facts of one cleaning round.
type CompactArgs struct {
	// NowMs is the time in ms since 1970.
	NowMs int64
	// Stable is the last stable offset, at most the high watermark: records from it on
	// are not touched.
	Stable model.Offset
	// HighWatermark goes into the checkpoint that the round begins with.
	HighWatermark model.Offset
	// MinLag is min.compaction.lag.ms: a segment with a record younger than that is not
	// touched, nor any behind it. 0 is none.
	MinLag time.Duration
	// MaxLag is max.compaction.lag.ms; 0 and below are none.
	MaxLag time.Duration
	// DeleteRetention is delete.retention.ms.
	DeleteRetention time.Duration
	// MapBytes bounds the memory for keys, MapLoad says how full it gets (0 to 1).
	MapBytes int64
	MapLoad  float64
	// BufferBytes is read and written at once.
	BufferBytes int
}

// CleanState says how much of a log a cleaning round would find.
type CleanState struct {
	// FirstDirty is where the part begins that no round has mapped; below it every key
	// has one record. Uncleanable is where a round would end now.
	FirstDirty, Uncleanable model.Offset
	// CleanBytes and DirtyBytes are the sizes of the segments below Uncleanable, without
	// and with dirty records.
	CleanBytes, DirtyBytes int64
	// Overdue: a dirty record is older than MaxLag.
	Overdue bool
}

// Ratio is the dirty share of what a round would read, 0 to 1.
func (s CleanState) Ratio() float64 {
	if s.CleanBytes+s.DirtyBytes == 0 {
		return 0
	}
	return float64(s.DirtyBytes) / float64(s.CleanBytes+s.DirtyBytes)
}

// CleanStats are the results of a round, so far.
type CleanStats struct {
	// ReadBytes and WrittenBytes count what went over the disk.
	ReadBytes, WrittenBytes int64
	// Records were looked at when segments were written anew, Kept of them stayed.
	Records, Kept int64
	// Keys are those in the map; MapBytes is its memory.
	Keys     int
	MapBytes int64
	// Segments were replaced by Into.
	Segments, Into int
	// End is up to where the log is clean now, if the round went to its end.
	End model.Offset
	// Full: the map was full before the dirty part ended; another round is due.
	Full bool
	// Abandoned: the log was truncated or closed meanwhile, or its start passed the round.
	Abandoned bool
}

// Compaction is a cleaning round. It belongs to whoever began it.
type Compaction struct {
	log   *Log // for what never changes
	args  CompactArgs
	opts  Options
	entry CheckpointEntry
	cuts  uint32

	srcs       []cleanSource
	firstDirty model.Offset
	rule       cleanRule
	cleaner    *batchCleaner
	reader     *record.Reader
	in, out    []byte

	phase     cleanPhase
	next      int // of srcs, to be mapped or looked through
	groups    [][]cleanSource
	piece     cleanPiece
	aborts    abortFinder
	txnsKnown bool // aborts is complete
	needTxns  bool // the mapping met transactions
	mark      cleanMark
	stats     CleanStats
}

type cleanPhase uint8

const (
	phaseCheckpoint cleanPhase = iota
	phaseMap
	phaseTxns
	phaseClean
	phaseMark
	phaseOver
)

// cleanSource is a segment that the round takes, as it was at the beginning.
type cleanSource struct {
	seg       *segment
	base, end model.Offset
	size      int64
}

// openSource is a source with its file and what its batch headers chain to.
type openSource struct {
	cleanSource
	h     *handle
	path  string
	chain uint32
	// growing: the active segment, which has no chain to compare with.
	growing bool
}

// cleanPiece is the work of one Run.
type cleanPiece struct {
	srcs []openSource
	// made is the segment that replaces srcs; nil if they stay as they are.
	made *segment
}

// errAbandoned: what the round works on is not there any more.
var errAbandoned = errors.New("the log changed under its cleaning round")

// Stats are the results so far.
func (c *Compaction) Stats() CleanStats { return c.stats }

// cleanBound is the number of segments that a round may take: closed, wholly synced,
// wholly below stable, and not too young.
func (l *Log) cleanBound(a CompactArgs, firstDirty model.Offset) (int, error) {
	l.normalizeFlushed()
	limit := min(a.Stable, l.flushedAt.segmentBase, l.active().base)
	n := 0
	for n+1 < len(l.segs) && l.segs[n+1].base <= limit {
		s := l.segs[n]
		if a.MinLag > 0 && l.segs[n+1].base > firstDirty && s.size > 0 {
			if !s.tsKnown {
				if err := l.loadIndex(s); err != nil {
					return 0, err
				}
			}
			newest, err := l.newestMs(s)
			if err != nil {
				return 0, err
			}
			if newest > a.NowMs-a.MinLag.Milliseconds() {
				break
			}
		}
		n++
	}
	return n, nil
}

// normalizeFlushed names the recovery point as the beginning of a segment if it lies at
// the end of a closed one.
func (l *Log) normalizeFlushed() {
	f := &l.flushedAt
	i := l.segmentFor(f.segmentBase)
	if i+1 < len(l.segs) && l.segs[i].base == f.segmentBase && l.segs[i+1].base == f.RecoveryPoint {
		f.segmentBase, f.position, f.chain, f.batches = f.RecoveryPoint, 0, 0, 0
		f.maxTs, f.maxTsOffset = -1, f.RecoveryPoint-1
	}
}

// CleanState says what a round would find now. It may have to look into the indexes and
// first batches of dirty segments.
func (l *Log) CleanState(a CompactArgs) (CleanState, error) {
	if l.failed != nil {
		return CleanState{}, l.failed
	}
	st := CleanState{FirstDirty: l.firstDirty()}
	n, err := l.cleanBound(a, st.FirstDirty)
	if err != nil {
		return st, err
	}
	st.Uncleanable = max(st.FirstDirty, l.segs[n].base)
	oldest := int64(math.MaxInt64)
	for i, s := range l.segs[:n] {
		if l.segs[i+1].base <= st.FirstDirty {
			st.CleanBytes += s.size
			continue
		}
		st.DirtyBytes += s.size
		if a.MaxLag > 0 && s.size > 0 {
			if !s.firstKnown {
				l.loadFirstTimestamp(s)
			}
			if s.firstKnown && s.firstTs > 0 {
				oldest = min(oldest, s.firstTs)
			}
		}
	}
	st.Overdue = a.MaxLag > 0 && oldest < a.NowMs-a.MaxLag.Milliseconds()
	return st, nil
}

// DirtyBytes are the sizes of all segments with records that no round has mapped yet, the
// active one included, and of all segments.
func (l *Log) DirtyBytes() (dirty, total int64) {
	first := l.firstDirty()
	for i, s := range l.segs {
		total += s.size
		if l.endOf(i) > first {
			dirty += s.size
		}
	}
	return dirty, total
}

// RollOverdue closes the active segment if its first batch is older than maxLag at nowMs
// (ms since 1970), so that a round can take it. Nothing may be staged, else it waits.
func (l *Log) RollOverdue(nowMs int64, maxLag time.Duration) (bool, error) {
	s := l.active()
	if l.failed != nil || maxLag <= 0 || s.size == 0 || l.stagedEnd != l.end {
		return false, l.failed
	}
	if !s.firstKnown {
		l.loadFirstTimestamp(s)
	}
	if !s.firstKnown || s.firstTs <= 0 || s.firstTs >= nowMs-maxLag.Milliseconds() {
		return false, nil
	}
	return true, l.Roll()
}

// BeginCompaction begins a round; false if there is nothing to take, if one is under way
// or batches are staged. Each round goes through ContinueCompaction to its end.
func (l *Log) BeginCompaction(a CompactArgs) (*Compaction, bool, error) {
	if l.failed != nil || l.compacting || l.stagedEnd != l.end {
		return nil, false, l.failed
	}
	c := &Compaction{log: l, args: a, opts: l.opts, firstDirty: l.firstDirty(), reader: record.NewReader(0)}
	n, err := l.cleanBound(a, c.firstDirty)
	if err != nil || n == 0 || l.segs[n].base <= c.firstDirty {
		return nil, false, err
	}
	for i, s := range l.segs[:n] {
		c.srcs = append(c.srcs, cleanSource{s, s.base, l.segs[i+1].base, s.size})
	}
	l.swaps++
	l.compacting = true
	c.entry, c.cuts = l.CheckpointEntry(a.HighWatermark), l.cuts
	c.rule = cleanRule{end: l.segs[n].base, nowMs: a.NowMs, retentionMs: a.DeleteRetention.Milliseconds()}
	c.rule.remember(&l.producers)
	c.restartMap()
	return c, true, nil
}

func (c *Compaction) restartMap() {
	c.rule.keys = newKeyMap(c.args.MapBytes, c.args.MapLoad)
	c.rule.mapped = c.firstDirty
	c.stats.Full = false
	c.next = 0
	for c.next < len(c.srcs) && c.srcs[c.next].end <= c.firstDirty {
		c.next++
	}
}

// ContinueCompaction takes the result of the last Run, swaps in what it made, and prepares
// the next; false when the round is over, after which c is of no use. An error of Run goes
// through here as well: what the round had not swapped in is removed, and the error comes
// back unless the log itself changed meanwhile, which is no error (Stats.Abandoned).
// Only a failure in the middle of a swap fails the log; opening it again completes it.
func (l *Log) ContinueCompaction(c *Compaction, ran error) (more bool, err error) {
	done := c.piece
	c.closePiece()
	switch {
	case l.closed || l.failed != nil || l.cuts != c.cuts:
		err = errAbandoned
	case ran != nil:
		err = ran
		if l.gone(done) > 0 {
			err = errAbandoned
		}
	default:
		err = l.takePiece(c, done)
	}
	if err == nil {
		err = l.preparePiece(c)
	}
	if err == nil && c.phase != phaseOver {
		return true, nil
	}
	c.closePiece()
	if err != nil && len(done.srcs) > 0 && l.failed == nil && !l.closed {
		c.removeTemp(done.srcs[0].base)
	}
	c.phase = phaseOver
	l.compacting = false
	if errors.Is(err, errAbandoned) {
		c.stats.Abandoned = true
		return false, nil
	}
	return false, err
}

// closePiece lets go of the files of the piece.
func (c *Compaction) closePiece() {
	for _, s := range c.piece.srcs {
		s.h.release()
	}
	c.piece = cleanPiece{}
}

// gone is how many of the piece's sources are not part of the log any more.
func (l *Log) gone(p cleanPiece) (n int) {
	for _, s := range p.srcs {
		if !slices.Contains(l.segs, s.seg) {
			n++
		}
	}
	return n
}

// takePiece takes what Run did.
func (l *Log) takePiece(c *Compaction, done cleanPiece) error {
	switch c.phase {
	case phaseCheckpoint:
		c.phase = phaseMap
	case phaseMap:
		c.next++
		switch {
		case c.needTxns && !c.txnsKnown:
			c.phase = phaseTxns
			c.next = 0
		case c.stats.Full || c.next >= len(c.srcs):
			l.group(c)
		}
	case phaseTxns:
		c.next++
	case phaseClean:
		c.next++
		if done.made == nil {
			return nil
		}
		if l.gone(done) > 0 {
			return errAbandoned
		}
		if err := l.swapIn(c, done); err != nil {
			return err
		}
	case phaseMark:
		l.clean = &c.mark
		c.stats.End = c.mark.first
		c.phase = phaseOver
	}
	return nil
}

// group ends the mapping and sorts the segments below its end into groups, each of which
// becomes one segment.
func (l *Log) group(c *Compaction) {
	c.phase, c.next = phaseClean, 0
	c.stats.Keys, c.stats.MapBytes = c.rule.keys.used, c.rule.keys.bytes()
	if !c.stats.Full {
		c.rule.mapped = c.rule.end
	}
	c.rule.txns = txnTrace{aborted: c.aborts.aborted}
	c.cleaner = newBatchCleaner(&c.rule)
	var group []cleanSource
	var size int64
	for _, s := range c.srcs {
		if s.base >= c.rule.mapped {
			break
		}
		if len(group) > 0 && !c.fits(group, size, s) {
			c.groups = append(c.groups, group)
			group, size = nil, 0
		}
		group = append(group, s)
		size += s.size
	}
	if len(group) > 0 {
		c.groups = append(c.groups, group)
	}
}

// fits says whether s may be merged with the group before it: the segment must not get
// larger than segment.bytes, nor its indexes than segment.index.bytes, and its offsets
// must fit the indexes.
func (c *Compaction) fits(group []cleanSource, size int64, s cleanSource) bool {
	size += s.size
	entries := size/int64(c.opts.IndexIntervalBytes+1) + 2
	return size <= c.opts.SegmentBytes && s.end-1-group[0].base <= math.MaxInt32 &&
		entries*timeEntryLen <= int64(c.opts.SegmentIndexBytes)
}

// preparePiece opens what the next Run needs.
func (l *Log) preparePiece(c *Compaction) error {
	switch c.phase {
	case phaseMap:
		return l.openSources(c, c.srcs[c.next:c.next+1])
	case phaseTxns:
		if c.next < len(l.segs) {
			s := l.segs[c.next]
			return l.openSources(c, []cleanSource{{s, s.base, l.endOf(c.next), s.size}})
		}
		c.txnsKnown = true
		c.phase = phaseMap
		c.restartMap()
		return l.openSources(c, c.srcs[c.next:c.next+1])
	case phaseClean:
		if c.next < len(c.groups) {
			return l.openSources(c, c.groups[c.next])
		}
		c.phase = phaseMark
		c.mark = cleanMark{first: c.rule.mapped, epoch: l.epochs.at(c.rule.mapped - 1), atMs: c.args.NowMs}
	}
	return nil
}

// openSources makes srcs the next piece. Segments that the log start has passed are left
// out.
func (l *Log) openSources(c *Compaction, srcs []cleanSource) error {
	for _, src := range srcs {
		if !slices.Contains(l.segs, src.seg) {
			continue
		}
		o := openSource{cleanSource: src, path: l.segPath(src.seg, logSuffix), growing: src.seg == l.active()}
		if !o.growing {
			if err := l.loadSums(src.seg); err != nil {
				return err
			}
			o.chain = src.seg.sums.chain
		}
		if src.size == 0 && o.growing {
			continue // it may have no file
		}
		var err error
		if o.h, err = l.borrow(src.seg); err != nil {
			return err
		}
		c.piece.srcs = append(c.piece.srcs, o)
	}
	return nil
}

// borrow returns the segment's file with a reference, without keeping it open: a round
// goes through all segments of a log.
func (l *Log) borrow(s *segment) (*handle, error) {
	if s.log != nil {
		return s.log.acquire(), nil
	}
	h, err := l.open(s)
	if err != nil {
		return nil, err
	}
	if s != l.active() {
		s.log = nil // the reference goes over
		return h, nil
	}
	return h.acquire(), nil
}

// Run does the next piece of work; it needs no lock of the owner. limit is called before
// that many bytes are read or written; it may wait, and its error ends the round.
func (c *Compaction) Run(limit func(bytes int) error) error {
	switch c.phase {
	case phaseCheckpoint:
		// What recovery remembers of a segment must not be about one that is replaced.
		return c.log.dir.advance(c.entry)
	case phaseMap:
		for i := range c.piece.srcs {
			if err := c.mapKeys(&c.piece.srcs[i], limit); err != nil {
				return err
			}
		}
	case phaseTxns:
		for i := range c.piece.srcs {
			if err := c.findAborts(&c.piece.srcs[i], limit); err != nil {
				return err
			}
		}
	case phaseClean:
		return c.cleanGroup(limit)
	case phaseMark:
		return c.log.writeCleanMark(c.mark)
	}
	return nil
}

// mapKeys adds the keys of a dirty segment.
func (c *Compaction) mapKeys(src *openSource, limit func(int) error) error {
	var rec record.Record
	reader := c.reader
	return c.eachBatch(src, limit, func(b record.Batch) error {
		if c.stats.Full || b.NextOffset() <= c.firstDirty {
			return nil
		}
		if b.IsTransactional() || b.IsControl() {
			if !c.txnsKnown {
				c.needTxns = true
				return errStop
			}
			if b.IsControl() || (&txnTrace{aborted: c.aborts.aborted}).isAborted(b) {
				c.rule.mapped = b.NextOffset()
				return nil
			}
		}
		if err := reader.Reset(b); err != nil {
			return c.damage(src, err)
		}
		for {
			more, err := reader.Next(&rec)
			if err != nil {
				return c.damage(src, err)
			}
			if !more {
				break
			}
			if rec.Key == nil || rec.Offset < c.firstDirty {
				continue
			}
			if !c.rule.keys.put(rec.Key, rec.Offset) {
				c.rule.mapped, c.stats.Full = rec.Offset, true
				return nil
			}
		}
		c.rule.mapped = b.NextOffset()
		return nil
	})
}

// damage is a batch with a good checksum that cannot be taken apart.
func (c *Compaction) damage(src *openSource, err error) error {
	return fmt.Errorf("%s: %w: %w", src.path, kerr.KafkaStorageError, err)
}

// findAborts gathers the aborted transactions.
func (c *Compaction) findAborts(src *openSource, limit func(int) error) error {
	var rec record.Record
	reader := c.reader
	return c.eachBatch(src, limit, func(b record.Batch) error {
		if !b.IsControl() || b.NumRecords() == 0 {
			return nil
		}
		if err := reader.Reset(b); err != nil {
			return c.damage(src, err)
		}
		if _, err := reader.Next(&rec); err != nil {
			return c.damage(src, err)
		}
		c.aborts.marker(b, markerKind(rec.Key))
		return nil
	})
}
