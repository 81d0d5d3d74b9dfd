package record

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/kalda-io/kalda/internal/model"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is one record header; a nil value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record apart from its batch. Nil Key or Value is null.
type Record struct {
	// Offset is set when reading; building numbers the records itself.
	Offset model.Offset
	// Timestamp is in ms since 1970.
	Timestamp  int64
	Key, Value []byte
	Headers    []Header
}

// Template holds the header fields of a batch to be built. The zero value is wrong
// for idempotence: use NewTemplate.
type Template struct {
	BaseOffset    model.Offset
	LeaderEpoch   model.LeaderEpoch
	Codec         Codec
	Attributes    int16 // beyond the codec's bits
	ProducerID    model.ProducerID
	ProducerEpoch model.ProducerEpoch
	BaseSequence  int32
}

// NewTemplate returns the template of a plain batch: no codec, no producer id.
func NewTemplate() Template {
	return Template{ProducerID: model.NoProducerID, ProducerEpoch: -1, BaseSequence: -1}
}

// appendRecord appends one record in the encoding of format v2.
func appendRecord(dst []byte, r *Record, offsetDelta int32, timestampDelta int64) []byte {
	body := 1 + varintLen(timestampDelta) + varintLen(int64(offsetDelta)) +
		bytesLen(r.Key) + bytesLen(r.Value) + varintLen(int64(len(r.Headers)))
	for i := range r.Headers {
		body += varintLen(int64(len(r.Headers[i].Key))) + len(r.Headers[i].Key) + bytesLen(r.Headers[i].Value)
	}
	dst = binary.AppendVarint(dst, int64(body))
	dst = append(dst, 0)
	dst = binary.AppendVarint(dst, timestampDelta)
	dst = binary.AppendVarint(dst, int64(offsetDelta))
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		dst = binary.AppendVarint(dst, int64(len(r.Headers[i].Key)))
		dst = append(dst, r.Headers[i].Key...)
		dst = appendBytes(dst, r.Headers[i].Value)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

func bytesLen(b []byte) int {
	if b == nil {
		return 1
	}
	return varintLen(int64(len(b))) + len(b)
}

func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

// Build appends to dst one sealed batch that holds recs, numbered from 0, and returns the
// batch (which aliases the grown dst). The base timestamp is the first record's, the max
// timestamp the largest. It is for tests, tools and records that the broker writes itself;
// clients that batch many records encode in place instead.
//
// Errors: INVALID_RECORD for no records, UNSUPPORTED_COMPRESSION_TYPE for an unknown codec.
func Build(dst []byte, t Template, recs []Record) (Batch, error) {
	return new(Compressor).Build(dst, t, recs)
}

// Build is the function Build with the compression state of c.
func (c *Compressor) Build(dst []byte, t Template, recs []Record) (Batch, error) {
	if len(recs) == 0 {
		return nil, invalid("a batch needs at least one record")
	}
	start := len(dst)
	dst = append(dst, make([]byte, HeaderLen)...)
	base, last := recs[0].Timestamp, recs[0].Timestamp
	payload := dst
	if t.Codec != None {
		payload = nil
	}
	for i := range recs {
		last = max(last, recs[i].Timestamp)
		payload = appendRecord(payload, &recs[i], int32(i), recs[i].Timestamp-base)
	}
	if t.Codec == None {
		dst = payload
	} else {
		var err error
		if dst, err = c.Append(dst, t.Codec, payload); err != nil {
			return nil, err
		}
	}
	b := Batch(dst[start:])
	b.setHeader(&t, int32(len(recs)), base, last)
	if err := b.setLength(); err != nil {
		return nil, err
	}
	b.Seal()
	return b, nil
}

// setHeader writes all of the header but for length and checksum. base and last are the first
// and the largest timestamp of the count records.
func (b Batch) setHeader(t *Template, count int32, base, last int64) {
	b.SetBaseOffset(t.BaseOffset)
	b.SetLeaderEpoch(t.LeaderEpoch)
	b[16] = Magic
	b.SetAttributes(t.Attributes&^AttrCodecMask | int16(t.Codec))
	binary.BigEndian.PutUint32(b[23:], uint32(count-1))
	binary.BigEndian.PutUint64(b[27:], uint64(base))
	b.SetMaxTimestamp(last)
	binary.BigEndian.PutUint64(b[43:], uint64(t.ProducerID))
	binary.BigEndian.PutUint16(b[51:], uint16(t.ProducerEpoch))
	binary.BigEndian.PutUint32(b[53:], uint32(t.BaseSequence))
	binary.BigEndian.PutUint32(b[57:], uint32(count))
}

// Seal recomputes the CRC of b after bytes under it changed.
func (b Batch) Seal() { binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[CRCStart:], castagnoli)) }
