package cli

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
)

// This file reads the files of a log as they lie on disk, without the locks and the
// recovery of package storage: it must be able to look at a node that runs and at a log
// that storage would refuse. It changes nothing.

// maxScannedBatch bounds the memory for one batch; a length field above it is damage.
const maxScannedBatch = 128 << 20

// segmentBase returns the base offset that a segment's file name carries.
func segmentBase(path string) (model.Offset, error) {
	name := filepath.Base(path)
	digits, _, _ := strings.Cut(name, ".")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || len(digits) != 20 {
		return 0, fmt.Errorf("%s: not the name of a segment (20 digits)", name)
	}
	return model.Offset(n), nil
}

// segmentsOf returns the .log files of a partition's directory in the order of offsets.
func segmentsOf(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range entries { // by name, which is by offset
		if strings.HasSuffix(e.Name(), ".log") {
			if _, err := segmentBase(e.Name()); err == nil {
				list = append(list, filepath.Join(dir, e.Name()))
			}
		}
	}
	return list, nil
}

// lostSegments returns the .log files that are gone from between others: the files beside
// them are there. Before the first one, and behind the last, a crash may leave such files.
func lostSegments(segments []string) ([]damage, error) {
	if len(segments) < 2 {
		return nil, nil
	}
	dir, last := filepath.Split(segments[len(segments)-1])
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var lost []damage
	for _, e := range entries {
		stem, ok := strings.CutSuffix(e.Name(), ".sums")
		name := stem + ".log"
		if _, err := segmentBase(name); !ok || err != nil || name <= filepath.Base(segments[0]) || name >= last || slices.Contains(segments, filepath.Join(dir, name)) {
			continue
		}
		lost = append(lost, damage{filepath.Join(dir, name), 0, "the file is gone, with its records"})
	}
	return lost, nil
}

// damage is something in a file that should not be so.
type damage struct {
	Path     string `json:"path"`
	Position int64  `json:"position"`
	Problem  string `json:"problem"`
}

// tail is what follows the last whole batch of a segment.
type tail struct {
	// at is where it begins and size how long it is.
	at, size int64
	// err says why the bytes at the beginning are no batch; nil without a tail.
	err error
	// zeros says that all of it is zero, as a crash leaves it in the last segment.
	zeros bool
}

// scanLog calls fn for each whole batch of a segment, in order. The batch is valid until
// fn returns. It ends at the first bytes that are no sound batch.
func scanLog(path string, fn func(b record.Batch, pos int64) error) (tail, error) {
	f, err := os.Open(path)
	if err != nil {
		return tail{}, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<20)
	var pos int64
	var buf []byte
	for {
		head, err := in.Peek(record.HeaderLen)
		if len(head) == 0 && err == io.EOF {
			return tail{at: pos}, nil
		}
		if err != nil && err != io.EOF {
			return tail{}, err
		}
		bad := error(record.ErrPartial)
		size := 0
		if len(head) == record.HeaderLen {
			size = record.Batch(head).Size()
			if size < record.HeaderLen || size > maxScannedBatch {
				bad = fmt.Errorf("the length field says %d bytes", size)
				size = 0
			}
		}
		if size > 0 {
			buf = slices.Grow(buf[:0], size)[:size]
			n, err := io.ReadFull(in, buf)
			if err == nil {
				if bad = record.Check(buf); bad == nil {
					if err := fn(buf, pos); err != nil {
						return tail{}, err
					}
					pos += int64(size)
					continue
				}
			} else if !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
				return tail{}, err
			}
			return restOf(in, tail{at: pos, size: int64(n), err: bad}, buf[:n])
		}
		return restOf(in, tail{at: pos, err: bad}, nil)
	}
}

// restOf completes a tail of which begin was read already.
func restOf(in io.Reader, t tail, begin []byte) (tail, error) {
	t.zeros = allZero(begin)
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		t.size += int64(n)
		t.zeros = t.zeros && allZero(buf[:n])
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return t, err
		}
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// indexEntry is an entry of .index: the last offset of a batch and where it starts.
type indexEntry struct {
	Offset   model.Offset `json:"offset"`
	Position int64        `json:"position"`
}

// timeEntry is an entry of .timeindex: the largest timestamp so far and the last offset of
// the batch that has it.
type timeEntry struct {
	Timestamp int64        `json:"timestamp"`
	Offset    model.Offset `json:"offset"`
}

// readIndex reads an .index; a missing file has no entries.
func readIndex(path string) ([]indexEntry, error) {
	var list []indexEntry
	err := readEntries(path, 8, func(base model.Offset, b []byte) {
		list = append(list, indexEntry{base + model.Offset(int32(binary.BigEndian.Uint32(b))), int64(int32(binary.BigEndian.Uint32(b[4:])))})
	})
	return list, err
}

// readTimeIndex reads a .timeindex; a missing file has no entries.
func readTimeIndex(path string) ([]timeEntry, error) {
	var list []timeEntry
	err := readEntries(path, 12, func(base model.Offset, b []byte) {
		list = append(list, timeEntry{int64(binary.BigEndian.Uint64(b)), base + model.Offset(int32(binary.BigEndian.Uint32(b[8:])))})
	})
	return list, err
}

func readEntries(path string, width int, fn func(base model.Offset, b []byte)) error {
	base, err := segmentBase(path)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for ; len(b) >= width; b = b[width:] {
		fn(base, b[:width])
	}
	return nil
}

// segmentReport is what verifySegment found.
type segmentReport struct {
	batches, records int64
	next             model.Offset // after the last batch
	bytes            int64
	tail             tail
}

// verifySegment checks one segment: every batch, the order of offsets, and that each entry
// of the indexes points at a batch. from is where the offsets have to go on.
func verifySegment(path string, from model.Offset, bad func(damage)) (segmentReport, error) {
	base, err := segmentBase(path)
	if err != nil {
		return segmentReport{}, err
	}
	r := segmentReport{next: max(base, from)}
	if base < from {
		bad(damage{path, 0, fmt.Sprintf("the segment begins at %d, below the end %d of the one before", base, from)})
		r.next = base
	}
	stem := strings.TrimSuffix(path, ".log")
	index, err := readIndex(stem + ".index")
	if err != nil {
		return r, err
	}
	times, err := readTimeIndex(stem + ".timeindex")
	if err != nil {
		return r, err
	}
	headers, err := openHeaders(path, bad)
	if err != nil {
		return r, err
	}
	i, j := 0, 0
	maxTs := record.NoTimestamp
	reader := record.NewReader(0)
	r.tail, err = scanLog(path, func(b record.Batch, pos int64) error {
		if b.BaseOffset() < r.next {
			bad(damage{path, pos, fmt.Sprintf("a batch begins at offset %d, below %d", b.BaseOffset(), r.next)})
		}
		if err := readable(reader, b); err != nil {
			bad(damage{path, pos, "records of the batch at offset " + strconv.FormatInt(int64(b.BaseOffset()), 10) + ": " + err.Error()})
		}
		for i < len(index) && index[i].Position <= pos {
			if e := index[i]; e.Position != pos || e.Offset != b.LastOffset() {
				bad(damage{stem + ".index", int64(i) * 8, fmt.Sprintf("the entry (offset %d, position %d) points at no batch", e.Offset, e.Position)})
			}
			i++
		}
		maxTs = max(maxTs, b.MaxTimestamp())
		for j < len(times) && times[j].Offset <= b.LastOffset() {
			if e := times[j]; e.Offset != b.LastOffset() || e.Timestamp != maxTs {
				bad(damage{stem + ".timeindex", int64(j) * 12, fmt.Sprintf("the entry (timestamp %d, offset %d) fits no batch", e.Timestamp, e.Offset)})
			}
			j++
		}
		r.batches++
		r.records += int64(b.NumRecords())
		r.bytes += int64(b.Size())
		r.next = b.NextOffset()
		return headers.add(b, pos)
	})
	if err != nil || r.tail.err != nil { // what points into a tail goes with it
		return r, err
	}
	if err := headers.end(r.bytes); err != nil {
		return r, err
	}
	for ; i < len(index); i++ {
		bad(damage{stem + ".index", int64(i) * 8, fmt.Sprintf("the entry (offset %d, position %d) lies behind the end of the log", index[i].Offset, index[i].Position)})
	}
	for ; j < len(times); j++ {
		bad(damage{stem + ".timeindex", int64(j) * 12, fmt.Sprintf("the entry (timestamp %d, offset %d) lies behind the end of the log", times[j].Timestamp, times[j].Offset)})
	}
	return r, nil
}

// headers compares batch headers, which lie outside the batches' checksums, with what a
// segment was closed with. Nil compares nothing.
type headers struct {
	path  string
	sums  *storage.SegmentSums
	found []damage
	bad   func(damage)
}

// openHeaders returns nil for a segment that was not closed.
func openHeaders(path string, bad func(damage)) (*headers, error) {
	sums, err := storage.OpenSegmentSums(vfs.OS{}, path)
	var broken *storage.CorruptError
	switch {
	case errors.As(err, &broken):
		bad(damage{broken.Path, broken.Offset, fmt.Sprintf("%v; the node makes it anew", broken.Err)})
		return nil, nil
	case err != nil || sums == nil:
		return nil, err
	}
	return &headers{path: path, sums: sums, bad: bad}, nil
}

func (h *headers) add(b record.Batch, pos int64) error {
	if h == nil {
		return nil
	}
	return h.note(h.sums.Add(b, pos))
}

func (h *headers) note(err error) error {
	var c *storage.CorruptError
	if errors.As(err, &c) {
		h.found = append(h.found, damage{c.Path, c.Offset, c.Err.Error()})
		return nil
	}
	return err
}

// end reports what was found. A running node may have put another file in the place of one
// of the two in between, so they are compared once more before anything is said.
func (h *headers) end(size int64) error {
	if h == nil {
		return nil
	}
	if err := h.note(h.sums.End(size)); err != nil || len(h.found) == 0 {
		return err
	}
	again, err := openHeaders(h.path, h.bad)
	if err != nil || again == nil {
		return err
	}
	size = 0
	if _, err := scanLog(h.path, func(b record.Batch, pos int64) error {
		size += int64(b.Size())
		return again.add(b, pos)
	}); err != nil {
		return err
	}
	err = again.note(again.sums.End(size))
	for _, d := range again.found {
		h.bad(d)
	}
	return err
}

// readable decodes every record of a batch.
func readable(r *record.Reader, b record.Batch) error {
	if err := r.Reset(b); err != nil {
		return err
	}
	var rec record.Record
	for {
		ok, err := r.Next(&rec)
		if err != nil || !ok {
			return err
		}
	}
}

// rebuildIndexes writes .index and .timeindex of a segment anew from its batches, with at
// most one entry for each interval bytes of log, as storage does. Files of the old name
// are replaced in one step each.
func rebuildIndexes(path string, interval int64) (entries int, err error) {
	base, err := segmentBase(path)
	if err != nil {
		return 0, err
	}
	var index, times []byte
	var sinceEntry int64
	maxTs, maxOffset, written := record.NoTimestamp, base, record.NoTimestamp
	_, err = scanLog(path, func(b record.Batch, pos int64) error {
		if b.MaxTimestamp() > maxTs {
			maxTs, maxOffset = b.MaxTimestamp(), b.LastOffset()
		}
		if sinceEntry > interval {
			index = binary.BigEndian.AppendUint32(index, uint32(int32(b.LastOffset()-base)))
			index = binary.BigEndian.AppendUint32(index, uint32(int32(pos)))
			entries++
			if maxTs > written {
				times = binary.BigEndian.AppendUint64(times, uint64(maxTs))
				times = binary.BigEndian.AppendUint32(times, uint32(int32(maxOffset-base)))
				written = maxTs
			}
			sinceEntry = 0
		}
		sinceEntry += int64(b.Size())
		return nil
	})
	if err != nil {
		return 0, err
	}
	if maxTs > written { // the segment's largest timestamp is always its last entry
		times = binary.BigEndian.AppendUint64(times, uint64(maxTs))
		times = binary.BigEndian.AppendUint32(times, uint32(int32(maxOffset-base)))
	}
	stem := strings.TrimSuffix(path, ".log")
	for name, b := range map[string][]byte{stem + ".index": index, stem + ".timeindex": times} {
		if err := replaceFile(name, b); err != nil {
			return 0, err
		}
	}
	return entries, nil
}

// replaceFile writes a file beside the old one, syncs it and takes its place.
func replaceFile(name string, b []byte) error {
	f, err := os.Create(name + ".tmp") // storage removes what is left of it after a crash
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}
