package record

import (
	"encoding/binary"
	"errors"
)

// NoTimestamp is the timestamp of a record whose producer gave none.
const NoTimestamp int64 = -1

// minRecordLen is the shortest record: its length, attributes, timestamp delta, offset
// delta, key length, value length and header count, one byte each.
const minRecordLen = 7

// maxHeaders bounds what reading one record allocates: a header takes two bytes on the
// wire and twenty times as much in memory.
const maxHeaders = 1_000_000

// Reasons why a record cannot be taken apart. They become the text of INVALID_RECORD.
var (
	errRecordCut     = errors.New("a field runs past its end")
	errRecordVarint  = errors.New("a length is not a varint")
	errRecordLength  = errors.New("a length is negative")
	errRecordTrailer = errors.New("bytes follow its headers")
	errRecordHeaders = errors.New("too many headers")
	errRecordOffset  = errors.New("its offset does not follow the one before or is beyond the batch's last")
)

// span is a field within a record: n bytes from off; n is -1 for null.
type span struct{ off, n int }

func (s span) of(rec []byte) []byte {
	if s.n < 0 {
		return nil
	}
	return rec[s.off : s.off+s.n : s.off+s.n]
}

// fields are the places of one record's parts, all within the record.
type fields struct {
	timestampDelta int64
	offsetDelta    int32
	key, value     span
	headers        int // where the header count begins
}

// split finds the parts of rec, the bytes after a record's length field. It does not look
// into the headers. This and what it calls run once per record on the produce path when
// records are checked, hence the varints of one byte, nearly all there are, read in line.
func (f *fields) split(rec []byte) error {
	if len(rec) < minRecordLen-1 {
		return errRecordCut
	}
	pos := 2 // attributes, unused in format v2, and the first byte of the timestamp delta
	if b := rec[1]; b < 0x80 {
		f.timestampDelta = int64(b>>1) ^ -int64(b&1)
	} else {
		ts, w := binary.Varint(rec[1:])
		if w <= 0 {
			return errRecordVarint
		}
		f.timestampDelta, pos = ts, 1+w
	}
	if pos < len(rec) && rec[pos] < 0x80 {
		b := rec[pos]
		f.offsetDelta = int32(b>>1) ^ -int32(b&1)
		pos++
	} else {
		od, w := varint32(rec[pos:])
		if w <= 0 {
			return errRecordVarint
		}
		f.offsetDelta, pos = od, pos+w
	}
	var err error
	if f.key, pos, err = nullableSpan(rec, pos); err != nil {
		return err
	}
	if f.value, pos, err = nullableSpan(rec, pos); err != nil {
		return err
	}
	f.headers = pos
	return nil
}

// nullableSpan reads the length at pos and returns what it spans and where that ends.
func nullableSpan(rec []byte, pos int) (span, int, error) {
	n, w := varint32(rec[pos:])
	pos += w
	switch {
	case w <= 0:
		return span{}, 0, errRecordVarint
	case uint(n) <= uint(len(rec)-pos):
		return span{off: pos, n: int(n)}, pos + int(n), nil
	case n == -1:
		return span{off: pos, n: -1}, pos, nil
	case n < 0:
		return span{}, 0, errRecordLength
	}
	return span{}, 0, errRecordCut
}

// nextHeader reads the header at pos.
func nextHeader(p []byte, pos int) (key, value span, end int, err error) {
	if key, pos, err = nullableSpan(p, pos); err != nil {
		return
	}
	if key.n < 0 {
		err = errRecordLength
		return
	}
	value, end, err = nullableSpan(p, pos)
	return
}

// headerCount reads the count in front of the headers in p. A header takes at least two
// bytes, so a count that p cannot hold is refused before anything is made for it.
func headerCount(p []byte) (n, pos int, err error) {
	c, w := varint32(p)
	switch {
	case w <= 0:
		return 0, 0, errRecordVarint
	case c < 0:
		return 0, 0, errRecordLength
	case int(c) > (len(p)-w)/2:
		return 0, 0, errRecordCut
	case c > maxHeaders:
		return 0, 0, errRecordHeaders
	}
	return int(c), w, nil
}

// checkHeaders walks the headers and requires that they end where the record does.
func checkHeaders(p []byte) error {
	if len(p) == 1 && p[0] == 0 { // none
		return nil
	}
	n, pos, err := headerCount(p)
	for ; err == nil && n > 0; n-- {
		_, _, pos, err = nextHeader(p, pos)
	}
	if err == nil && pos != len(p) {
		err = errRecordTrailer
	}
	return err
}

// varint32 reads a zigzag varint of at most five bytes. w is 0 when p is cut and
// negative when the value does not fit 32 bits. Lengths have one or two bytes as a rule.
func varint32(p []byte) (v int32, w int) {
	if len(p) > 1 {
		if p[0] < 0x80 {
			return int32(p[0]>>1) ^ -int32(p[0]&1), 1
		}
		if p[1] < 0x80 {
			u := uint32(p[0]&0x7f) | uint32(p[1])<<7
			return int32(u>>1) ^ -int32(u&1), 2
		}
	}
	return varint32Slow(p)
}

func varint32Slow(p []byte) (v int32, w int) {
	u, w := binary.Uvarint(p)
	if w > 5 || u > 1<<32-1 {
		return 0, -1
	}
	return int32(uint32(u)>>1) ^ -int32(u&1), w
}
