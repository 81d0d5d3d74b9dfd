package record

import (
	"encoding/binary"
	"hash/crc32"
)

// Layout of a message, formats v0 and v1 (frozen: on the wire only). A message set is
// messages one after another. A compressed set is one message, the wrapper, whose value is
// the compressed set.
//
//	 0  offset      int64   of the wrapper: its last message's, or 0
//	 8  size        int32   bytes that follow this field
//	12  CRC32       uint32  IEEE, over all bytes from 16
//	16  magic       int8    0 or 1
//	17  attributes  int8    bits 0-2 codec, 3 timestamp type (v1)
//	18  timestamp   int64   ms, v1 only
//	 -  key         int32 length, -1 for null, and bytes
//	 -  value       the same
const (
	// minMessageV0 and minMessageV1 are the smallest sizes: null key and value.
	minMessageV0 = 14
	minMessageV1 = 22
)

// message is one message of a set; key and value alias it.
type message struct {
	offset     int64
	magic      int8
	attributes byte
	// timestamp is NoTimestamp in v0.
	timestamp  int64
	key, value []byte
}

func (m *message) codec() Codec { return Codec(m.attributes & AttrCodecMask) }

// next reads the first message of p into m and returns what follows it. maxBytes bounds
// the whole message, 0 for no bound.
//
// Errors: CORRUPT_MESSAGE for a message that is cut, a size that cannot be, a checksum that
// does not fit or an unknown magic; MESSAGE_TOO_LARGE; INVALID_RECORD for fields that do not
// fill the message, or a record batch among messages.
func (m *message) next(p []byte, maxBytes int) (rest []byte, err error) {
	if len(p) < LogOverhead+minMessageV0 {
		return nil, corrupt("a message set ends within a message: %d bytes are left", len(p))
	}
	size := int64(int32(binary.BigEndian.Uint32(p[8:])))
	switch {
	case size < minMessageV0:
		return nil, corrupt("a message's size field says %d", size)
	case size+LogOverhead > int64(len(p)):
		return nil, corrupt("a message set ends within a message: %d of %d bytes are left", len(p)-LogOverhead, size)
	case maxBytes > 0 && size+LogOverhead > int64(maxBytes):
		return nil, tooLarge("a message has %d bytes, more than max.message.bytes=%d", size+LogOverhead, maxBytes)
	}
	body, rest := p[LogOverhead:LogOverhead+size], p[LogOverhead+size:]
	switch m.magic = int8(body[4]); {
	case m.magic == Magic:
		return nil, invalid("a record batch among the messages of a set")
	case m.magic != 0 && m.magic != 1:
		return nil, corrupt("unknown magic %d", m.magic)
	}
	if want, got := binary.BigEndian.Uint32(body), crc32.ChecksumIEEE(body[4:]); want != got {
		return nil, corrupt("a message's checksum is %08x, its bytes have %08x", want, got)
	}
	m.offset = int64(binary.BigEndian.Uint64(p))
	m.attributes, m.timestamp = body[5], NoTimestamp
	body = body[6:]
	if m.magic == 1 {
		if size < minMessageV1 {
			return nil, invalid("a message of %d bytes is too short for magic 1", size)
		}
		m.timestamp = int64(binary.BigEndian.Uint64(body))
		body = body[8:]
	}
	var ok bool
	if m.key, body, ok = nullableBytes(body); ok {
		m.value, body, ok = nullableBytes(body)
	}
	if !ok || len(body) != 0 {
		return nil, invalid("a message's key and value do not fill it")
	}
	return rest, nil
}

// nullableBytes reads a length and so many bytes; nil is null.
func nullableBytes(p []byte) (b, rest []byte, ok bool) {
	if len(p) < 4 {
		return nil, nil, false
	}
	n := int32(binary.BigEndian.Uint32(p))
	p = p[4:]
	switch {
	case n == -1:
		return nil, p, true
	case n < 0 || int64(n) > int64(len(p)):
		return nil, nil, false
	}
	return p[:n:n], p[n:], true
}

// lz4 frame descriptor: magic, flags, block size, then what the flags say, then a checksum.
const (
	lz4Flags          = 4
	lz4HasDictID      = 0x01
	lz4HasContentSize = 0x08
)

// fixLZ4Header makes the checksum of the first frame's descriptor right, in place. Producers
// of v0 messages computed it over the magic as well (KAFKA-3160), so that it says nothing
// and Kafka does not look at it.
func fixLZ4Header(frame []byte) {
	if len(frame) < lz4Flags+1 {
		return
	}
	end := lz4Flags + 2
	if frame[lz4Flags]&lz4HasContentSize != 0 {
		end += 8
	}
	if frame[lz4Flags]&lz4HasDictID != 0 {
		end += 4
	}
	if end < len(frame) {
		frame[end] = byte(xxh32Short(frame[lz4Flags:end]) >> 8)
	}
}

// xxh32Short is XXH32 with seed 0 of fewer than 16 bytes, as much as a descriptor can have.
func xxh32Short(p []byte) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	h := uint32(p5) + uint32(len(p))
	for ; len(p) >= 4; p = p[4:] {
		h += binary.LittleEndian.Uint32(p) * p3
		h = (h<<17 | h>>15) * p4
	}
	for _, b := range p {
		h += uint32(b) * p5
		h = (h<<11 | h>>21) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
