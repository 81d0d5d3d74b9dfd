package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// This file reads the files of a log without a Dir or Log: what the tests hold a log
// against. `kalda log` has readers of its own, which must do with files of any kind.

// BatchInfo is a batch as ReadBatches meets it.
type BatchInfo struct {
	// Position is the byte where the batch starts.
	Position int64
	// Batch is the whole batch, valid until the callback returns.
	Batch record.Batch
	// CRCOK says that the checksum fits.
	CRCOK bool
}

// maxOfflineBatch bounds the memory for one batch of a file that may be damaged.
const maxOfflineBatch = 256 << 20

// ReadBatches calls f with each batch of a .log file, from the first, until f or the file
// gives an error. It stops with a CorruptError at what is no batch; the zeros or the torn
// batch that a crash leaves at the end are such a one (ErrZeros, ErrTorn).
func ReadBatches(fsys vfs.FS, path string, f func(BatchInfo) error) error {
	file, err := fsys.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return err
	}
	w := &walker{buf: make([]byte, scanBytes)}
	w.reset(file, size)
	var buf []byte
	for pos := int64(0); ; {
		h, err := w.header(pos)
		if err == io.EOF {
			return nil
		}
		if err == nil && h.Size() > maxOfflineBatch {
			err = ErrLength
		}
		if err != nil {
			if isDamage(err) {
				return &CorruptError{Path: path, Offset: pos, Err: err}
			}
			return err
		}
		b := h[:min(len(h), h.Size())]
		if len(b) < h.Size() {
			buf = slices.Grow(buf[:0], h.Size())[:h.Size()]
			if _, err := file.ReadAt(buf, pos); err != nil {
				return err
			}
			b = buf
		}
		size := int64(b.Size())
		if err := f(BatchInfo{Position: pos, Batch: b, CRCOK: b.CheckCRC()}); err != nil {
			return err
		}
		pos += size
	}
}

// Problem is something that VerifySegment found.
type Problem struct {
	// Path is the file, Position the byte in it.
	Path     string
	Position int64
	// Err says what is wrong.
	Err error
	// Rebuildable: RebuildIndex mends it; no record is concerned.
	Rebuildable bool
}

// SegmentReport is the result of VerifySegment.
type SegmentReport struct {
	// Batches, Records and Bytes count what is good, from the start of the segment.
	Batches, Records, Bytes int64
	// First and Next are the base offset of the first batch and the offset behind the last.
	First, Next model.Offset
	// Sealed: there is a .sums file, so header damage can be told.
	Sealed bool
	// Prewritten is how many zeros follow the last batch, up to the end of the file: a log
	// that was not stopped leaves them in its active segment. In a sealed one they are a
	// problem.
	Prewritten int64
	// Problems are in the order found; none means the segment is good.
	Problems []Problem
}

// VerifySegment reads a whole .log file with the files beside it and reports all damage:
// checksums, order, batch headers against .sums, index entries against the log. The error
// is for what could not be read at all.
func VerifySegment(fsys vfs.FS, logPath string) (SegmentReport, error) {
	var r SegmentReport
	base, suffix, ok := parseFileName(filepath.Base(logPath))
	if !ok || suffix != logSuffix {
		return r, fmt.Errorf("%s: not the name of a segment (20 digits and .log)", logPath)
	}
	r.First, r.Next = base, base
	var fresh sums
	byPos := map[int64]batchFacts{}
	epoch := model.NoLeaderEpoch
	err := ReadBatches(fsys, logPath, func(b BatchInfo) error {
		switch {
		case !b.CRCOK:
			r.Problems = append(r.Problems, Problem{Path: logPath, Position: b.Position, Err: ErrChecksum})
		case b.Batch.BaseOffset() < r.Next, b.Batch.LeaderEpoch() < epoch:
			r.Problems = append(r.Problems, Problem{Path: logPath, Position: b.Position, Err: ErrOrder})
		case !(&segment{base: base}).holds(b.Batch):
			r.Problems = append(r.Problems, Problem{Path: logPath, Position: b.Position, Err: ErrRange})
		}
		if r.Batches == 0 {
			r.First = b.Batch.BaseOffset()
		}
		r.Batches++
		r.Records += int64(b.Batch.NumRecords())
		r.Bytes += int64(b.Batch.Size())
		r.Next, epoch = b.Batch.NextOffset(), b.Batch.LeaderEpoch()
		fresh.add(b.Batch, b.Position)
		byPos[b.Position] = batchFacts{b.Batch.LastOffset(), b.Batch.MaxTimestamp()}
		return nil
	})
	var c *CorruptError
	if errors.As(err, &c) && errors.Is(c.Err, ErrZeros) {
		if r.Prewritten, err = zerosBehind(fsys, logPath, c.Offset); err != nil {
			return r, err
		}
	}
	if c != nil && r.Prewritten == 0 {
		r.Problems = append(r.Problems, Problem{Path: c.Path, Position: c.Offset, Err: c.Err})
	} else if err != nil {
		return r, err
	}
	stem := logPath[:len(logPath)-len(logSuffix)]
	if err := r.verifySums(fsys, stem+sumsSuffix, base, &fresh); err != nil {
		return r, err
	}
	return r, r.verifyIndexes(fsys, stem, base, byPos)
}

// zerosBehind is the number of bytes from pos to the end of the file if all are zeros, else 0.
func zerosBehind(fsys vfs.FS, path string, pos int64) (int64, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	if rest, err := zeroFrom(f, pos, size, make([]byte, walkBytes)); err != nil || !rest {
		return 0, err
	}
	return size - pos, nil
}

type batchFacts struct {
	last  model.Offset
	maxTs int64
}

func (r *SegmentReport) verifySums(fsys vfs.FS, path string, base model.Offset, fresh *sums) error {
	b, err := vfs.ReadFile(fsys, path, maxSums)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an active segment has none
	}
	if err != nil {
		return err
	}
	r.Sealed = true
	s, err := decodeSums(b, base)
	switch {
	case err != nil:
		r.Problems = append(r.Problems, Problem{Path: path, Err: err, Rebuildable: true})
	case s.size != r.Bytes || s.chain != fresh.chain || r.Prewritten > 0:
		r.Problems = append(r.Problems, Problem{Path: path[:len(path)-len(sumsSuffix)] + logSuffix, Err: ErrSums})
	}
	return nil
}

func (r *SegmentReport) verifyIndexes(fsys vfs.FS, stem string, base model.Offset, byPos map[int64]batchFacts) error {
	byLast := make(map[model.Offset]int64, len(byPos))
	for _, f := range byPos {
		byLast[f.last] = f.maxTs
	}
	for _, suffix := range []string{indexSuffix, timeIndexSuffix} {
		path := stem + suffix
		b, err := vfs.ReadFile(fsys, path, 2<<30)
		if errors.Is(err, fs.ErrNotExist) {
			if r.Sealed { // closing a segment writes both, even if they are empty
				r.Problems = append(r.Problems, Problem{Path: path, Err: err, Rebuildable: true})
			}
			continue
		}
		if err != nil {
			return err
		}
		width := offsetEntryLen
		if suffix == timeIndexSuffix {
			width = timeEntryLen
		}
		prev, bad := int64(-1), -1
		for at := 0; at < len(b) && bad < 0; at += width {
			if at+width > len(b) {
				bad = at
				break
			}
			var key int64
			var fits bool
			if width == offsetEntryLen {
				o, p := offsetEntry(b[at:], base)
				f, found := byPos[p]
				key, fits = p, found && f.last == o
			} else {
				ts, o := timeEntry(b[at:], base)
				have, found := byLast[o]
				key, fits = ts, found && have == ts
			}
			if !fits || key <= prev {
				bad = at
			}
			prev = key
		}
		if bad >= 0 {
			r.Problems = append(r.Problems, Problem{Path: path, Position: int64(bad), Err: ErrFormat, Rebuildable: true})
		}
	}
	return nil
}

// RebuildIndex writes .index and .timeindex of a .log file anew, and .sums if it is there
// and still fits the batches. intervalBytes is index.interval.bytes. Damage in the log
// stops it before anything is written.
func RebuildIndex(fsys vfs.FS, logPath string, intervalBytes int) error {
	base, suffix, ok := parseFileName(filepath.Base(logPath))
	if !ok || suffix != logSuffix {
		return fmt.Errorf("%s: not the name of a segment (20 digits and .log)", logPath)
	}
	s := newEmptySegment(base)
	err := ReadBatches(fsys, logPath, func(b BatchInfo) error {
		if !b.CRCOK {
			return &CorruptError{Path: logPath, Offset: b.Position, Err: ErrChecksum}
		}
		s.noteTimestamp(b.Batch.MaxTimestamp(), b.Batch.LastOffset())
		s.indexBatch(b.Batch, b.Position, intervalBytes)
		s.sums.add(b.Batch, b.Position)
		s.size += int64(b.Batch.Size())
		return nil
	})
	if err != nil {
		return err
	}
	s.timeEntryNow()
	stem := logPath[:len(logPath)-len(logSuffix)]
	old, err := vfs.ReadFile(fsys, stem+sumsSuffix, maxSums)
	sealed := err == nil
	if sealed {
		u, err := decodeSums(old, base)
		if err == nil && (u.size != s.size || u.chain != s.sums.chain) {
			return &CorruptError{Path: logPath, Err: ErrSums}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := vfs.WriteFile(fsys, stem+indexSuffix, s.index.pend, true); err != nil {
		return err
	}
	if err := vfs.WriteFile(fsys, stem+timeIndexSuffix, s.times.pend, true); err != nil {
		return err
	}
	if !sealed {
		return nil
	}
	s.sums.seal(s.size)
	s.sums.indexSize, s.sums.indexCRC = int64(len(s.index.pend)), checksum(s.index.pend)
	s.sums.timeSize, s.sums.timeCRC = int64(len(s.times.pend)), checksum(s.times.pend)
	return vfs.WriteFile(fsys, stem+sumsSuffix, s.sums.encode(base), true)
}

// Dump prints what a file of a log holds, one line an entry, chosen by its name: .log,
// .index, .timeindex, .snapshot, .producers, .sums, leader-epoch-checkpoint, checkpoints.
// It prints what it can and then returns the damage that stopped it.
func Dump(fsys vfs.FS, path string, out io.Writer) error {
	name := filepath.Base(path)
	if _, suffix, _ := parseFileName(name); suffix == logSuffix {
		return ReadBatches(fsys, path, func(b BatchInfo) error { return dumpBatch(out, b) })
	}
	b, err := vfs.ReadFile(fsys, path, 2<<30)
	if err != nil {
		return err
	}
	if err := dumpFile(out, name, b); err != nil {
		return &CorruptError{Path: path, Err: err}
	}
	return nil
}

func dumpBatch(out io.Writer, i BatchInfo) error {
	b := i.Batch
	_, err := fmt.Fprintf(out, "baseOffset: %d lastOffset: %d count: %d baseSequence: %d lastSequence: %d producerId: %d producerEpoch: %d "+
		"partitionLeaderEpoch: %d isTransactional: %v isControl: %v position: %d baseTimestamp: %d maxTimestamp: %d size: %d compresscodec: %v crc: %d isvalid: %v\n",
		b.BaseOffset(), b.LastOffset(), b.NumRecords(), b.BaseSequence(), dumpLastSeq(b), b.ProducerID(), b.ProducerEpoch(),
		b.LeaderEpoch(), b.IsTransactional(), b.IsControl(), i.Position, b.BaseTimestamp(), b.MaxTimestamp(), b.Size(), b.Codec(), b.CRC(), i.CRCOK)
	return err
}

func dumpLastSeq(b record.Batch) int32 {
	if b.BaseSequence() < 0 {
		return -1
	}
	return b.LastSequence()
}

func dumpFile(out io.Writer, name string, b []byte) error {
	base, suffix, ok := parseFileName(name)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	switch {
	case name == epochFile:
		entries, err := decodeEpochs(b)
		for _, e := range entries {
			p("epoch: %d startOffset: %d", e.Epoch, e.Start)
		}
		return err
	case name == checkpointFile:
		entries, records, damaged, err := decodeCheckpoints(b)
		for _, e := range entries {
			p("%v", e)
		}
		p("records: %d damaged: %d", records, damaged)
		return err
	case !ok:
		return fmt.Errorf("%w: unknown kind of file", ErrFormat)
	case suffix == indexSuffix:
		for ; len(b) >= offsetEntryLen; b = b[offsetEntryLen:] {
			o, pos := offsetEntry(b, base)
			p("offset: %d position: %d", o, pos)
		}
		return rest(b)
	case suffix == timeIndexSuffix:
		for ; len(b) >= timeEntryLen; b = b[timeEntryLen:] {
			ts, o := timeEntry(b, base)
			p("timestamp: %d offset: %d", ts, o)
		}
		return rest(b)
	case suffix == producersSuffix:
		byID, epoch, err := decodeProducers(b, base)
		p("offset: %d leaderEpochBefore: %d", base, epoch)
		dumpProducers(p, byID)
		return err
	case suffix == snapshotSuffix:
		byID, err := decodeSnapshot(b)
		dumpProducers(p, byID)
		return err
	case suffix == sumsSuffix:
		s, err := decodeSums(b, base)
		if err != nil {
			return err
		}
		p("size: %d batches: %d chain: %08x marks: %d", s.size, s.batches, s.chain, len(s.marks))
		return nil
	}
	return fmt.Errorf("%w: unknown kind of file", ErrFormat)
}

func rest(b []byte) error {
	if len(b) > 0 {
		return fmt.Errorf("%w: %d bytes behind the last entry", ErrFormat, len(b))
	}
	return nil
}

func dumpProducers(p func(string, ...any), byID map[model.ProducerID]*producer) {
	ids := make([]model.ProducerID, 0, len(byID))
	for id := range byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		st := byID[id]
		p("producerId: %d producerEpoch: %d openTransaction: %d", id, st.epoch, st.txnFirst)
		for _, k := range st.batches[:st.n] {
			p("  sequence: %d-%d lastOffset: %d timestamp: %d", k.firstSeq(), k.lastSeq, k.last, k.ts)
		}
	}
}
