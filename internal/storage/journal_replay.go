package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
)

// journalReadBytes is how much of a file is read at a time.
const journalReadBytes = 2 * (journalEntryLen + maxPayload)

// read takes the entries of one file into j.left. A file without a good header holds
// nothing: its first append never finished.
func (j *Journal) read(name string) error {
	f, err := j.d.fs.OpenReadWrite(name)
	if err != nil {
		return storageError("open journal", err)
	}
	jf := &journalFile{name: name, f: f}
	if jf.size, err = f.Size(); err != nil {
		_ = f.Close()
		return storageError("read journal", err)
	}
	if err := j.scan(jf); err != nil {
		_ = f.Close()
		return storageError("read journal", err)
	}
	i, _ := slices.BinarySearchFunc(j.files, jf.generation, func(f *journalFile, g uint64) int {
		return int(int64(f.generation) - int64(g))
	})
	j.files = slices.Insert(j.files, i, jf)
	j.generation = max(j.generation, jf.generation)
	return nil
}

func (j *Journal) scan(jf *journalFile) error {
	r := &journalReader{f: jf.f, size: jf.size}
	head, err := r.at(0, journalHeadLen)
	if err != nil || head == nil || string(head[:len(journalMagic)]) != journalMagic {
		return err
	}
	g := binary.BigEndian.Uint64(head[len(journalMagic):])
	if crc32.Checksum(head[:journalHeadLen-4], castagnoli()) != binary.BigEndian.Uint32(head[journalHeadLen-4:]) {
		return nil
	}
	jf.generation = g
	jf.end = int64(journalHeadLen)
	seen := map[model.Partition]bool{}
	for {
		e, err := r.entry(jf.end, g)
		if err == nil && e == nil {
			// The end, or an entry that is torn or damaged. Behind a torn one there may be others
			// of the same append; behind a damaged one there are others that count.
			jf.end, e, err = r.next(jf.end, g)
		}
		if err != nil || e == nil {
			jf.left = len(seen)
			return err
		}
		p := entryPartition(e)
		j.left[p] = append(j.left[p], leftEntry{
			file: jf, pos: jf.end + int64(journalEntryLen), bytes: len(e) - journalEntryLen,
			cut: e[16] == kindCut, from: model.Offset(binary.BigEndian.Uint64(e[37:])),
		})
		seen[p] = true
		jf.end += int64(len(e))
	}
}

// journalReader reads a file in large pieces.
type journalReader struct {
	f    io.ReaderAt
	size int64
	buf  []byte
	from int64
	// ahead grows while the reader goes on: most files are empty.
	ahead int
}

// at returns n bytes at pos, nil beyond the end.
func (r *journalReader) at(pos int64, n int) ([]byte, error) {
	if pos+int64(n) > r.size {
		return nil, nil
	}
	if pos < r.from || pos+int64(n) > r.from+int64(len(r.buf)) {
		want := int(min(r.size-pos, max(int64(n), int64(r.ahead))))
		if cap(r.buf) < want {
			r.buf = make([]byte, want)
		}
		r.buf = r.buf[:want]
		r.ahead = min(max(2*r.ahead, 64<<10), journalReadBytes)
		r.from = pos
		if _, err := r.f.ReadAt(r.buf, pos); err != nil && err != io.EOF {
			r.buf = r.buf[:0]
			return nil, err
		}
	}
	return r.buf[pos-r.from:][:n], nil
}

// entry returns the good entry at pos, nil if there is none.
func (r *journalReader) entry(pos int64, generation uint64) ([]byte, error) {
	h, err := r.at(pos, journalEntryLen)
	if err != nil || h == nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(h)
	if n > maxPayload || binary.BigEndian.Uint64(h[8:]) != generation || h[16] != kindBatches && h[16] != kindCut {
		return nil, nil
	}
	e, err := r.at(pos, journalEntryLen+int(n))
	if err != nil || e == nil || crc32.Checksum(e[8:], castagnoli()) != binary.BigEndian.Uint32(e[4:]) {
		return nil, err
	}
	return e, nil
}

// searchBytes bounds what is summed up in search of an entry: records may hold anything,
// also what looks like the head of an entry at every byte.
const searchBytes = 64 << 20

// next returns the next good entry behind pos, where there is none, and its place; without
// one, nil and pos.
func (r *journalReader) next(pos int64, generation uint64) (int64, []byte, error) {
	mark := binary.BigEndian.AppendUint64(nil, generation)
	budget := searchBytes
	for at := pos + 1; at+int64(journalEntryLen) <= r.size; {
		b, err := r.at(at, int(min(r.size-at, 64<<10)))
		if err != nil {
			return pos, nil, err
		}
		i := bytes.Index(b, mark)
		if i < 0 {
			at += int64(len(b) - len(mark) + 1)
			continue
		}
		at += int64(i) + 1 // where to go on
		head := at - 1 - 8
		if head <= pos {
			continue
		}
		if h, err := r.at(head, journalEntryLen); err != nil || h == nil {
			return pos, nil, err
		} else if n := binary.BigEndian.Uint32(h); n <= maxPayload {
			if budget -= int(n); budget < 0 {
				return pos, nil, nil
			}
		}
		if e, err := r.entry(head, generation); err != nil || e != nil {
			return head, e, err
		}
	}
	return pos, nil, nil
}

// leftOf returns what an earlier life left for a partition, in the order of the appends.
func (j *Journal) leftOf(p model.Partition) []leftEntry {
	j.mu.Lock()
	defer j.mu.Unlock()
	left := j.left[p]
	slices.SortStableFunc(left, func(a, b leftEntry) int {
		return int(int64(a.file.generation) - int64(b.file.generation))
	})
	return left
}

// taken says that the partition's log holds, durably, all that was left for it.
func (j *Journal) taken(p model.Partition) {
	j.mu.Lock()
	defer j.mu.Unlock()
	files := map[*journalFile]bool{}
	for _, e := range j.left[p] {
		files[e.file] = true
	}
	for f := range files {
		f.left--
	}
	delete(j.left, p)
}

// Left lists, in no order, the partitions for which an earlier life left something here and
// whose logs were not opened since. Their files stay.
func (j *Journal) Left() []model.Partition {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Keys(j.left))
}

// Forget gives up what an earlier life left for a partition whose topic was deleted. A log
// that is not there is never opened, so without this word its entries would hold their file
// for ever, one more with every life that ends in a crash. Nothing is written: the next
// life finds them again, and is told again. Ids of topics do not come back.
func (j *Journal) Forget(p model.Partition) { j.taken(p) }

// replayJournal appends what the journal has beyond the recovered end of the log.
// What it has must follow without a hole: a hole means that durable records are gone.
func (l *Log) replayJournal(r *Recovery) error {
	j := l.dir.journal
	entries := j.leftOf(l.partition)
	if len(entries) == 0 {
		return nil
	}
	l.journaled = true
	// What was cut later is void: walk backwards, keeping the lowest cut.
	void := make([]model.Offset, len(entries))
	low := model.Offset(1<<63 - 1)
	for i := len(entries) - 1; i >= 0; i-- {
		void[i] = low
		if entries[i].cut {
			low = min(low, entries[i].from)
		}
	}
	before := l.end
	for i, e := range entries {
		if e.cut || e.from >= void[i] {
			continue
		}
		b := make([]byte, e.bytes)
		if _, err := e.file.f.ReadAt(b, e.pos); err != nil {
			return storageError("read journal", err)
		}
		if err := l.replayEntry(b, e.from, void[i], r); err != nil {
			return err
		}
	}
	if l.end > before {
		if err := l.Write(); err != nil {
			return err
		}
		l.owesSync = l.lateSync
		if !l.lateSync {
			if err := l.syncAll(); err != nil {
				return err
			}
			l.syncedAll()
		}
	}
	if !l.owesSync {
		j.taken(l.partition)
	}
	return nil
}

// replayEntry appends the batches of one entry that continue the log.
func (l *Log) replayEntry(b []byte, from, void model.Offset, r *Recovery) error {
	for len(b) > 0 {
		batch := record.Batch(b)
		if len(b) < record.HeaderLen || batch.Size() < record.HeaderLen || batch.Size() > len(b) {
			return &CorruptError{Path: l.dir.journal.path(""), Err: ErrLength} // its checksum fitted
		}
		batch, b = batch[:batch.Size()], b[batch.Size():]
		if batch.NextOffset() > void {
			return nil
		}
		switch {
		case from > l.end:
			r.Damaged = true
			r.CutReason = fmt.Errorf("%w: the log ends at %d, the journal goes on at %d", ErrTorn, l.end, from)
			return nil
		case from == l.end, from < l.end && l.end < batch.NextOffset() && l.Size() == 0:
			// The second: records were deleted into the batch, and nothing of the log is left
			// but its start.
			if _, err := l.AppendReplica(batch); err != nil {
				return err
			}
			if err := l.Write(); err != nil {
				return err
			}
			r.FromJournal++
		}
		from = batch.NextOffset()
	}
	return nil
}
