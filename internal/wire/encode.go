package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/kalda-io/kalda/internal/model"
)

func appendInt16(dst []byte, v int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }
func appendInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }
func appendInt64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

// appendCount appends the length of an array.
func appendCount(dst []byte, flexible bool, n int) []byte {
	if flexible {
		return binary.AppendUvarint(dst, uint64(n)+1)
	}
	return appendInt32(dst, int32(n))
}

// appendNullCount appends the length of a null array.
func appendNullCount(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return appendInt32(dst, -1)
}

// appendString appends a string. One that the encoding cannot hold (a long error text)
// is cut at the end of a character.
func appendString[S string | []byte](dst []byte, flexible bool, s S) []byte {
	s = s[:fittingLen(s)]
	if flexible {
		dst = binary.AppendUvarint(dst, uint64(len(s))+1)
	} else {
		dst = appendInt16(dst, int16(len(s)))
	}
	return append(dst, s...)
}

// fittingLen is how much of s the encoding takes.
func fittingLen[S string | []byte](s S) int {
	if len(s) <= maxString {
		return len(s)
	}
	n := maxString
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}

func appendNullString(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return appendInt16(dst, -1)
}

func appendNullableString(dst []byte, flexible bool, s []byte) []byte {
	if s == nil {
		return appendNullString(dst, flexible)
	}
	return appendString(dst, flexible, s)
}

func appendStringPtr(dst []byte, flexible bool, s *string) []byte {
	if s == nil {
		return appendNullString(dst, flexible)
	}
	return appendString(dst, flexible, *s)
}

// appendBytesLen appends the length in front of n bytes; -1 is null.
func appendBytesLen(dst []byte, flexible bool, n int) []byte {
	if flexible {
		return binary.AppendUvarint(dst, uint64(n+1))
	}
	return appendInt32(dst, int32(n))
}

func appendNullableBytes(dst []byte, flexible bool, b []byte) []byte {
	if b == nil {
		return appendBytesLen(dst, flexible, -1)
	}
	return append(appendBytesLen(dst, flexible, len(b)), b...)
}

// appendNoTags ends a struct without tagged fields.
func appendNoTags(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return dst
}

// appendTag appends the number and size of a tagged field; size is below 128.
func appendTag(dst []byte, tag, size byte) []byte { return append(dst, tag, size) }

// appendTopic appends what a topic is called: its name, from version 13 of Produce and
// Fetch its id.
func appendTopic(dst []byte, version int16, flexible bool, name []byte, id *model.TopicID) []byte {
	if version >= topicIDVersion {
		return append(dst, id[:]...)
	}
	return appendString(dst, flexible, name)
}

// uvarintLen is the encoded length of v.
func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// stringLen is the encoded length of s as a compact string.
func stringLen(s string) int {
	n := fittingLen(s)
	return uvarintLen(uint64(n)+1) + n
}

func appendUvarint(dst []byte, n int) []byte { return binary.AppendUvarint(dst, uint64(n)) }
