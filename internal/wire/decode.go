package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

const (
	// maxElements is the longest array that is read, maxTags the most tagged fields of
	// one struct. Both are Kafka 4.4's.
	maxElements = 1_000_000
	maxTags     = 10_000
	// maxHotElements bounds the elements of all arrays of one Produce or Fetch request
	// together: partitions, mostly. Decoded and answered each takes a few hundred bytes, so a
	// body of 100 MiB with nothing but empty ones would take gigabytes.
	maxHotElements = 1 << 18
	// maxString is the longest string; the old encoding has no room for more, so Kafka
	// does not take more in the compact one either.
	maxString = 1<<15 - 1
	// keepElements is how much room a message struct keeps for its next use; what one
	// outsized request needed is given back.
	keepElements = 1 << 12
)

// Reasons for which a message does not parse.
const (
	badShort    = "it is cut short"
	badVarint   = "a varint is too long"
	badLength   = "a length is negative or runs past the end"
	badString   = "a string is too long"
	badUTF8     = "a string is not UTF-8"
	badNull     = "a field that must not be null is null"
	badCount    = "an array or its count is too long"
	badTags     = "tagged fields are too many, unsorted or repeated"
	badTagSize  = "a tagged field has the wrong size"
	badTrailing = "bytes follow its end"
	badMemory   = "it takes more than 128 MiB when it is decoded"
)

// decoder reads one message. The first failure sticks: fail holds the reason, all later
// reads yield zero values, and loops over elements must end when it is set.
type decoder struct {
	b    []byte
	fail string
	cost int // memory that kmsg will take, for CheckRequest
	left int // elements that may still come, plus one; 0 is no bound
}

func (d *decoder) bad(reason string) {
	if d.fail == "" {
		d.fail = reason
	}
	d.b = nil
}

// err returns the failure, if any, as an error of the message named what.
func (d *decoder) err(what string, version int16) error {
	if d.fail == "" && len(d.b) != 0 {
		d.bad(badTrailing)
	}
	if d.fail == "" {
		return nil
	}
	return kerr.With(kerr.InvalidRequest, "%s version %d cannot be parsed: %s", what, version, d.fail)
}

func (d *decoder) int8() int8 {
	if len(d.b) < 1 {
		d.bad(badShort)
		return 0
	}
	v := int8(d.b[0])
	d.b = d.b[1:]
	return v
}

func (d *decoder) int16() int16 {
	if len(d.b) < 2 {
		d.bad(badShort)
		return 0
	}
	v := int16(binary.BigEndian.Uint16(d.b))
	d.b = d.b[2:]
	return v
}

func (d *decoder) int32() int32 {
	if len(d.b) < 4 {
		d.bad(badShort)
		return 0
	}
	v := int32(binary.BigEndian.Uint32(d.b))
	d.b = d.b[4:]
	return v
}

func (d *decoder) int64() int64 {
	if len(d.b) < 8 {
		d.bad(badShort)
		return 0
	}
	v := int64(binary.BigEndian.Uint64(d.b))
	d.b = d.b[8:]
	return v
}

func (d *decoder) uuid() model.TopicID {
	var id model.TopicID
	if len(d.b) < len(id) {
		d.bad(badShort)
		return id
	}
	copy(id[:], d.b)
	d.b = d.b[len(id):]
	return id
}

// uvarint reads at most five bytes and 32 bits. Forms longer than needed are taken, as
// Kafka takes them.
func (d *decoder) uvarint() uint32 {
	if len(d.b) > 0 && d.b[0] < 0x80 {
		v := d.b[0]
		d.b = d.b[1:]
		return uint32(v)
	}
	v, n := binary.Uvarint(d.b)
	switch {
	case n == 0:
		d.bad(badShort)
		return 0
	case n < 0 || n > 5 || v > 1<<32-1:
		d.bad(badVarint)
		return 0
	}
	d.b = d.b[n:]
	return uint32(v)
}

// span reads n bytes of the message; n of -1 is null.
func (d *decoder) span(n int64) []byte {
	switch {
	case d.fail != "":
		return nil
	case n == -1:
		return nil
	case n < 0 || n > int64(len(d.b)):
		d.bad(badLength)
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

// nullableBytes reads a byte array; nil is null.
func (d *decoder) nullableBytes(flexible bool) []byte {
	if flexible {
		return d.span(int64(d.uvarint()) - 1)
	}
	return d.span(int64(d.int32()))
}

// nullableString reads a string; nil is null.
func (d *decoder) nullableString(flexible bool) []byte {
	var n int64
	if flexible {
		n = int64(d.uvarint()) - 1
	} else {
		n = int64(d.int16())
	}
	if n > maxString {
		d.bad(badString)
		return nil
	}
	s := d.span(n)
	if !utf8.Valid(s) {
		d.bad(badUTF8)
		return nil
	}
	return s
}

// string reads a string that must not be null.
func (d *decoder) string(flexible bool) []byte {
	s := d.nullableString(flexible)
	if s == nil {
		d.bad(badNull)
	}
	return s
}

// stringPtr reads a nullable string of the rare kind that is worth a copy.
func (d *decoder) stringPtr(flexible bool) *string {
	b := d.nullableString(flexible)
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// nullableCount reads the length of an array whose elements take at least size bytes
// each; -1 is null. A count that the remaining bytes cannot hold fails here, so that
// callers may loop over it.
func (d *decoder) nullableCount(flexible bool, size int) int {
	var n int64
	if flexible {
		n = int64(d.uvarint()) - 1
	} else {
		n = int64(d.int32())
	}
	if n < -1 || n > maxElements || n > int64(len(d.b)/size) {
		d.bad(badCount)
	}
	if d.left != 0 && n > 0 {
		if d.left -= int(n); d.left <= 0 {
			d.bad(badCount)
		}
	}
	if d.fail != "" {
		return 0
	}
	return int(n)
}

// count is nullableCount of an array that must not be null.
func (d *decoder) count(flexible bool, size int) int {
	n := d.nullableCount(flexible, size)
	if n < 0 {
		d.bad(badNull)
		return 0
	}
	return n
}

// tags starts reading the tagged fields of a struct:
//
//	for t := d.tags(flexible); t.left > 0; {
//		switch tag, v := d.tag(&t); tag {
//		case 0:
//			x = v.int32()
//			d.known(&v)
//		}
//	}
//
// Fields that no case reads are skipped.
func (d *decoder) tags(flexible bool) tagState {
	if !flexible {
		return tagState{}
	}
	n := d.uvarint()
	if n > maxTags || int64(n) > int64(len(d.b)/2) {
		d.bad(badTags)
	}
	if d.fail != "" {
		return tagState{}
	}
	return tagState{left: int(n), last: -1}
}

// tagState is how far the reading of one struct's tagged fields is. It holds no pointer
// to the decoder because that would put decoders on the heap.
type tagState struct {
	left int
	last int64 // the tag before, -1 at first
}

// tag reads the next field and returns its number and a decoder of its value alone; -1
// when that fails.
func (d *decoder) tag(t *tagState) (tag int64, value decoder) {
	t.left--
	tag = int64(d.uvarint())
	size := d.uvarint()
	if tag <= t.last {
		d.bad(badTags)
	}
	t.last = tag
	value.b = d.span(int64(size))
	if d.fail != "" {
		t.left = 0
		return -1, decoder{}
	}
	return tag, value
}

// known ends the reading of a field that was decoded: its value must be used up.
func (d *decoder) known(value *decoder) {
	switch {
	case value.fail != "":
		d.bad(value.fail)
	case len(value.b) != 0:
		d.bad(badTagSize)
	}
}

// skipTags reads over tagged fields none of which is known.
func (d *decoder) skipTags(flexible bool) {
	if !flexible {
		return
	}
	if len(d.b) > 0 && d.b[0] == 0 {
		d.b = d.b[1:]
		return
	}
	for t := d.tags(true); t.left > 0; {
		d.tag(&t)
	}
}

// reuse returns s emptied for the next message, or nothing when it grew outsized.
func reuse[T any](s []T) []T {
	if cap(s) > keepElements {
		return nil
	}
	return s[:0]
}
