package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// A compacted segment takes the place of one or more in steps that a crash may end
// anywhere:
//
//  1. The new files are written as <base>.log.cleaned, .index.cleaned, .timeindex.cleaned
//     and .sums.cleaned, the swap record as <base>.swap.tmp; all are synced, names too. A
//     crash up to here leaves files that the next opening removes.
//  2. The record is renamed to <base>.swap and the name synced. From here on the swap has
//     happened: an opening that finds the record completes it.
//  3. The other segments that are replaced are removed, the new files renamed over those
//     of the first, the names synced, the record removed.
//
// Steps 2 and 3 happen under the owner's lock, so that nothing that the record speaks of
// changes in between.
const (
	cleanedSuffix = ".cleaned"
	swapSuffix    = ".swap"
	tempSuffix    = ".tmp"
)

// segmentSuffixes are the files of a closed segment, the log last: its new name says that
// the others have theirs.
func segmentSuffixes() []string {
	return []string{sumsSuffix, indexSuffix, timeIndexSuffix, logSuffix}
}

// swapRecord says what a compacted segment replaces: all segments with a base in
// [base, end).
type swapRecord struct {
	base, end model.Offset
	// size and chain are those of the new .log file.
	size  int64
	chain uint32
}

// Format of <base>.swap: that of the small files (propfile.go).
func (r swapRecord) encode() []byte {
	return props{
		{"base", strconv.FormatInt(int64(r.base), 10)}, {"end", strconv.FormatInt(int64(r.end), 10)},
		{"size", strconv.FormatInt(r.size, 10)}, {"chain", strconv.FormatUint(uint64(r.chain), 16)},
	}.encode()
}

func decodeSwap(b []byte) (r swapRecord, err error) {
	p, err := decodeProps(b)
	if err != nil {
		return r, err
	}
	base, e1 := strconv.ParseInt(p.get("base"), 10, 64)
	end, e2 := strconv.ParseInt(p.get("end"), 10, 64)
	size, e3 := strconv.ParseInt(p.get("size"), 10, 64)
	chain, e4 := strconv.ParseUint(p.get("chain"), 16, 32)
	if errors.Join(e1, e2, e3, e4) != nil || base < 0 || end <= base || size < 0 {
		return r, ErrFormat
	}
	return swapRecord{model.Offset(base), model.Offset(end), size, uint32(chain)}, nil
}

func (c *Compaction) tempPath(s *segment, suffix string) string {
	return c.log.segPath(s, suffix) + cleanedSuffix
}

// removeTemp removes what a round has not swapped in; what stays is removed at the next
// opening.
func (c *Compaction) removeTemp(base model.Offset) {
	stem := c.log.path + string(pathSeparator) + fileName(base, "")
	_ = c.log.fs.Remove(stem + swapSuffix + tempSuffix)
	for _, suffix := range segmentSuffixes() {
		_ = c.log.fs.Remove(stem + suffix + cleanedSuffix)
	}
}

// swapIn puts the segment that Run made in the place of its sources.
func (l *Log) swapIn(c *Compaction, done cleanPiece) error {
	if err := l.mutate(); err != nil {
		return err
	}
	made, last := done.made, done.srcs[len(done.srcs)-1]
	at := slices.Index(l.segs, done.srcs[0].seg)
	name := l.segPath(made, swapSuffix)
	if err := l.fs.Rename(name+tempSuffix, name); err != nil {
		// Nobody knows which name it has now. Without either nothing has happened.
		if rerr := l.fs.Remove(name); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			return l.fail(errors.Join(err, rerr))
		}
		return storageError("swap segments", err)
	}
	if err := vfs.Synced(l.fs.SyncDir(l.path)); err != nil {
		return l.fail(storageError("swap segments", err))
	}
	var olds []model.Offset
	for _, s := range done.srcs[1:] {
		olds = append(olds, s.base)
	}
	if err := l.completeSwap(swapRecord{base: made.base, end: last.end}, olds, true); err != nil {
		return l.fail(err)
	}
	for _, s := range done.srcs {
		s.seg.closeFiles()
	}
	l.segs = slices.Replace(l.segs, at, at+len(done.srcs), made)
	l.dropHints()
	c.stats.Segments += len(done.srcs)
	c.stats.Into++
	return nil
}

// completeSwap is the third step. olds are the bases of the segments that go, beside the
// first, whose files are replaced if fresh says that the new ones are there.
func (l *Log) completeSwap(r swapRecord, olds []model.Offset, fresh bool) error {
	remove := func(base model.Offset, suffix string) error {
		err := l.fs.Remove(l.path + string(pathSeparator) + fileName(base, suffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storageError("swap segments", err)
		}
		return nil
	}
	for _, base := range olds {
		for _, suffix := range append(segmentSuffixes(), txnIndexSuffix) {
			if err := remove(base, suffix); err != nil {
				return err
			}
		}
	}
	if fresh {
		if err := remove(r.base, txnIndexSuffix); err != nil {
			return err
		}
	}
	for _, suffix := range segmentSuffixes() {
		name := l.path + string(pathSeparator) + fileName(r.base, suffix)
		if err := l.fs.Rename(name+cleanedSuffix, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storageError("swap segments", err)
		}
	}
	if err := vfs.Synced(l.fs.SyncDir(l.path)); err != nil {
		return storageError("swap segments", err)
	}
	return remove(r.base, swapSuffix)
}

// finishSwaps completes the swaps that a crash interrupted, removes what was not to be
// swapped in, and returns the names that there are then.
func (l *Log) finishSwaps(names []string) ([]string, error) {
	var records []swapRecord
	temp := false
	for _, name := range names {
		base, suffix, ok := parseFileName(name)
		temp = temp || ok && strings.HasSuffix(suffix, cleanedSuffix)
		if !ok || suffix != swapSuffix {
			continue
		}
		path := l.path + string(pathSeparator) + name
		b, err := vfs.ReadFile(l.fs, path, maxPropFile)
		if err != nil {
			return nil, storageError("read swap record", err)
		}
		r, err := decodeSwap(b)
		if err == nil && r.base != base {
			err = ErrFormat
		}
		if err != nil {
			// It was synced under another name first, so a crash does not leave half of one.
			return nil, &CorruptError{Path: path, Err: err}
		}
		records = append(records, r)
	}
	if len(records) == 0 && !temp {
		return names, nil
	}
	if err := l.mutate(); err != nil {
		return nil, err
	}
	for _, r := range records {
		fresh := slices.Contains(names, fileName(r.base, logSuffix+cleanedSuffix))
		if fresh {
			if err := l.checkCleaned(r); err != nil {
				return nil, err
			}
		}
		var olds []model.Offset
		for _, name := range names {
			// A power cut may bring back a file beside a log that is gone.
			base, suffix, ok := parseFileName(name)
			if ok && slices.Contains(segmentSuffixes(), suffix) && base > r.base && base < r.end && !slices.Contains(olds, base) {
				olds = append(olds, base)
			}
		}
		if err := l.completeSwap(r, olds, fresh); err != nil {
			return nil, err
		}
	}
	names, err := l.fs.List(l.path)
	if err != nil {
		return nil, storageError("list partition", err)
	}
	var kept []string
	for _, name := range names {
		if _, suffix, ok := parseFileName(name); !ok || !strings.HasSuffix(suffix, cleanedSuffix) {
			kept = append(kept, name)
		} else if err := l.fs.Remove(l.path + string(pathSeparator) + name); err != nil {
			return nil, storageError("remove stray file", err)
		}
	}
	return kept, nil
}

// checkCleaned compares a compacted segment with its swap record before anything that it
// replaces goes.
func (l *Log) checkCleaned(r swapRecord) error {
	path := l.path + string(pathSeparator) + fileName(r.base, logSuffix) + cleanedSuffix
	f, err := l.fs.Open(path)
	if err != nil {
		return storageError("open segment", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return storageError("open segment", err)
	}
	if size != r.size {
		return &CorruptError{Path: path, Offset: min(size, r.size), Err: fmt.Errorf("%w: %d bytes, %d when it was made", ErrSums, size, r.size)}
	}
	w := l.dir.walker(f, size)
	defer l.dir.giveWalker(w)
	var u sums
	for pos := int64(0); ; {
		b, err := w.header(pos)
		if err == io.EOF {
			break
		}
		good, n := false, int64(0)
		if err == nil {
			n = int64(b.Size())
			u.add(b, pos)
			if good, err = w.checkCRC(b, pos); err == nil && !good {
				err = ErrChecksum
			}
		}
		if err != nil {
			if isDamage(err) {
				return &CorruptError{Path: path, Offset: pos, Err: err}
			}
			return storageError("read segment", err)
		}
		pos += n
	}
	if u.chain != r.chain {
		return &CorruptError{Path: path, Err: ErrSums}
	}
	return nil
}
