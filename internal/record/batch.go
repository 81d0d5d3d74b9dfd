package record

import (
	"encoding/binary"

	"github.com/kalda-io/kalda/internal/model"
)

// Layout of a record batch, format v2 (frozen: on disk and on the wire).
//
//	 0  base offset            int64   outside the CRC
//	 8  batch length           int32   outside: bytes that follow this field
//	12  partition leader epoch int32   outside
//	16  magic                  int8    outside, 2
//	17  CRC32C                 uint32  over all bytes from 21
//	21  attributes             int16   bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//	23  last offset delta      int32
//	27  base timestamp         int64   ms
//	35  max timestamp          int64   ms
//	43  producer id            int64
//	51  producer epoch         int16
//	53  base sequence          int32
//	57  record count           int32
//	61  records
const (
	// HeaderLen is the length of a batch's header; a batch is never shorter.
	HeaderLen = 61
	// LogOverhead is the base offset and batch length that precede what the length counts.
	LogOverhead = 12
	// CRCStart is the first byte under the CRC.
	CRCStart = 21
	// Magic is the only batch format that is stored.
	Magic = 2
)

// Attribute bits of a batch.
const (
	// AttrCodecMask holds the Codec.
	AttrCodecMask = 0x07
	// AttrLogAppendTime: the broker set the timestamps (message.timestamp.type).
	AttrLogAppendTime = 0x08
	// AttrTransactional: the batch belongs to a transaction.
	AttrTransactional = 0x10
	// AttrControl: the batch holds a marker, not users' records.
	AttrControl = 0x20
	// AttrDeleteHorizon: base timestamp is the delete horizon (KIP-534).
	AttrDeleteHorizon = 0x40
)

// Batch is a view of the bytes of one record batch. The accessors read in place and
// require len(b) >= HeaderLen; nothing else is checked by them (see Validate).
type Batch []byte

// BaseOffset is the offset of the first record.
func (b Batch) BaseOffset() model.Offset { return model.Offset(binary.BigEndian.Uint64(b)) }

// SetBaseOffset stamps the base offset, which lies outside the CRC.
func (b Batch) SetBaseOffset(o model.Offset) { binary.BigEndian.PutUint64(b, uint64(o)) }

// Length is the value of the length field: the batch's size without its first 12 bytes.
func (b Batch) Length() int32 { return int32(binary.BigEndian.Uint32(b[8:])) }

// Size is the whole size in bytes that the header claims.
func (b Batch) Size() int { return int(b.Length()) + LogOverhead }

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() model.LeaderEpoch {
	return model.LeaderEpoch(binary.BigEndian.Uint32(b[12:]))
}

// SetLeaderEpoch stamps the epoch, which lies outside the CRC.
func (b Batch) SetLeaderEpoch(e model.LeaderEpoch) { binary.BigEndian.PutUint32(b[12:], uint32(e)) }

// Magic is the format version.
func (b Batch) Magic() int8 { return int8(b[16]) }

// CRC is the stored checksum.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[17:]) }

// Attributes are the flag bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[21:])) }

// Codec is the compression of the records.
func (b Batch) Codec() Codec { return Codec(b[22] & AttrCodecMask) }

// IsTransactional says whether the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b[22]&AttrTransactional != 0 }

// IsControl says whether the batch holds a marker.
func (b Batch) IsControl() bool { return b[22]&AttrControl != 0 }

// LastOffsetDelta is the last record's offset relative to the base.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[23:])) }

// LastOffset is the offset of the last record (inclusive).
func (b Batch) LastOffset() model.Offset { return b.BaseOffset() + model.Offset(b.LastOffsetDelta()) }

// NextOffset is the offset after the batch.
func (b Batch) NextOffset() model.Offset { return b.LastOffset() + 1 }

// BaseTimestamp is the first record's timestamp, ms since 1970.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[27:])) }

// MaxTimestamp is the largest timestamp of the records, ms since 1970.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[35:])) }

// ProducerID is the idempotent producer's id, -1 for none.
func (b Batch) ProducerID() model.ProducerID {
	return model.ProducerID(binary.BigEndian.Uint64(b[43:]))
}

// ProducerEpoch is the idempotent producer's epoch, -1 for none.
func (b Batch) ProducerEpoch() model.ProducerEpoch {
	return model.ProducerEpoch(binary.BigEndian.Uint16(b[51:]))
}

// BaseSequence is the first record's sequence number, -1 for none.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[53:])) }

// LastSequence is the last record's sequence number; sequences wrap from 2^31-1 to 0.
func (b Batch) LastSequence() int32 {
	return int32((int64(b.BaseSequence()) + int64(b.LastOffsetDelta())) & 0x7fffffff)
}

// NumRecords is the record count that the header claims.
func (b Batch) NumRecords() int32 { return int32(binary.BigEndian.Uint32(b[57:])) }

// Payload is the records' bytes, compressed as Codec says.
func (b Batch) Payload() []byte { return b[HeaderLen:] }
