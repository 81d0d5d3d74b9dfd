package record

import (
	"unsafe"

	"github.com/kalda-io/kalda/internal/model"
)

// Reader yields the records of one batch after another. Records of an uncompressed batch
// alias the batch; those of a compressed one alias the Reader's buffer. Either way a
// Record, its headers' slice and keys included, is valid only until the next call of Next
// or Reset. Not safe for concurrent use.
//
//	r := record.NewReader(maxBytes)
//	if err := r.Reset(batch); err != nil { ... }
//	for {
//		ok, err := r.Next(&rec)
//		if !ok { return err }
//		...
//	}
type Reader struct {
	limit   int
	dec     decompressor
	out     []byte // decompressed records, used again
	rest    []byte // records not read yet
	batch   Batch
	index   int32 // of the next record
	delta   int32 // offset delta of the last record read, -1 before the first
	failed  error
	headers []Header
}

// NewReader returns a Reader that refuses batches whose records decompress to more than
// maxBytes; 0 and anything above MaxDecompressed mean MaxDecompressed.
func NewReader(maxBytes int) *Reader {
	if maxBytes <= 0 || maxBytes > MaxDecompressed {
		maxBytes = MaxDecompressed
	}
	return &Reader{limit: maxBytes}
}

// Reset makes Next read b, exactly one batch, from its first record. The checksum is not
// looked at. b must not change while it is read.
//
// Errors: those of Check except for the checksum, MESSAGE_TOO_LARGE for a batch that
// decompresses to more than the limit, CORRUPT_MESSAGE for data that does not decompress,
// INVALID_RECORD for an unknown codec or an impossible record count.
func (r *Reader) Reset(b Batch) error {
	r.batch, r.rest, r.index, r.delta = nil, nil, 0, -1
	r.failed = r.reset(b)
	return r.failed
}

func (r *Reader) reset(b Batch) error {
	if err := checkFrame(b); err != nil {
		return err
	}
	if c := b.Codec(); c == None {
		r.rest = b.Payload()
	} else {
		var err error
		if r.out, err = r.dec.append(r.out, c, b.Payload(), r.limit); err != nil {
			return err
		}
		r.rest = r.out
	}
	if n := int64(b.NumRecords()); n < 0 || n*minRecordLen > int64(len(r.rest)) {
		return invalid("%d records cannot fit in %d bytes", n, len(r.rest))
	}
	r.batch = b
	return nil
}

// Next reads the next record into rec. It returns false after the last one and with any
// error, which then stays.
//
// Errors: INVALID_RECORD for a record that cannot be taken apart, offsets that do not grow
// or leave the batch, or bytes after the last record.
func (r *Reader) Next(rec *Record) (bool, error) {
	switch {
	case r.failed != nil:
		return false, r.failed
	case r.batch == nil || r.index == r.batch.NumRecords():
		if len(r.rest) != 0 {
			r.failed = invalid("%d bytes follow the last record", len(r.rest))
		}
		return false, r.failed
	}
	if err := r.next(rec); err != nil {
		r.failed = invalid("record %d of %d: %s", r.index, r.batch.NumRecords(), err)
		return false, r.failed
	}
	r.index++
	return true, nil
}

func (r *Reader) next(rec *Record) error {
	n, w := varint32(r.rest)
	if w <= 0 {
		return errRecordVarint
	}
	if n < minRecordLen-1 || int(n) > len(r.rest)-w {
		return errRecordCut
	}
	p := r.rest[w : w+int(n)]
	var f fields
	if err := f.split(p); err != nil {
		return err
	}
	// Compaction leaves holes, so deltas need not be consecutive here.
	if f.offsetDelta <= r.delta || f.offsetDelta > r.batch.LastOffsetDelta() {
		return errRecordOffset
	}
	if err := r.readHeaders(p[f.headers:]); err != nil {
		return err
	}
	rec.Offset = r.batch.BaseOffset() + model.Offset(f.offsetDelta)
	rec.Timestamp = r.batch.BaseTimestamp() + f.timestampDelta
	if r.batch.Attributes()&AttrLogAppendTime != 0 {
		rec.Timestamp = r.batch.MaxTimestamp()
	}
	rec.Key, rec.Value, rec.Headers = f.key.of(p), f.value.of(p), r.headers
	r.delta, r.rest = f.offsetDelta, r.rest[w+int(n):]
	return nil
}

// readHeaders fills r.headers from p, which begins with their count.
func (r *Reader) readHeaders(p []byte) error {
	r.headers = r.headers[:0]
	n, pos, err := headerCount(p)
	if err != nil {
		return err
	}
	for range n {
		key, value, end, err := nextHeader(p, pos)
		if err != nil {
			return err
		}
		h := Header{Value: value.of(p)}
		if k := key.of(p); len(k) > 0 {
			h.Key = unsafe.String(&k[0], len(k)) // valid as long as the record is
		}
		r.headers = append(r.headers, h)
		pos = end
	}
	if pos != len(p) {
		return errRecordTrailer
	}
	return nil
}
