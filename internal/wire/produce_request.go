package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// Versions of Produce that this package encodes and decodes.
const (
	// MinProduce and MaxProduce are the lowest and highest.
	MinProduce, MaxProduce int16 = 0, 13

	produceFlexible int16 = 9
	// topicIDVersion is where Produce and Fetch name topics by id (KIP-516); it happens to
	// be the same in both.
	topicIDVersion int16 = 13
)

// ProduceRequest is a Produce request. What Decode fills in aliases the body; the struct
// is made for being decoded into again and again.
type ProduceRequest struct {
	Version int16
	// TransactionalID is nil for null (v3+).
	TransactionalID []byte
	// Acks is -1 (all in-sync replicas), 0 (none, no answer) or 1 (the leader) in a
	// valid request; other values are not refused here.
	Acks int16
	// TimeoutMillis bounds the wait for other replicas.
	TimeoutMillis int32
	Topics        []ProduceTopic

	partitions []ProducePartition // of all topics, in one piece
}

// ProduceTopic is one topic of a Produce request.
type ProduceTopic struct {
	// Name is the topic's name up to v12, nil afterwards.
	Name []byte
	// ID is the topic's id from v13 on, zero before.
	ID         model.TopicID
	Partitions []ProducePartition
}

// ProducePartition is what is to be appended to one partition.
type ProducePartition struct {
	Index int32
	// Records are the batches or, up to v2, message sets. nil is null. They may be changed
	// in place.
	Records []byte
}

func checkVersion(what string, version, low, high int16) error {
	if version < low || version > high {
		return kerr.With(kerr.UnsupportedVersion, "%s version %d: only %d to %d are known", what, version, low, high)
	}
	return nil
}

// Decode reads the body of a request. After an error r holds no topics.
func (r *ProduceRequest) Decode(version int16, body []byte) error {
	if r.DecodeSmall(version, body) {
		return nil
	}
	return r.decode(version, body)
}

// DecodeSmall reads the request that is sent most often when requests are small, in a third of
// the time that decode takes: flexible, no transactional id, one topic with one partition, no
// tagged fields. It returns false, with r as it was, for all others and for what does not parse.
func (r *ProduceRequest) DecodeSmall(version int16, body []byte) bool {
	if version < produceFlexible || version > MaxProduce {
		return false
	}
	// Null, acks, timeout, one topic, and at least the name's length.
	if len(body) < 9 || body[0] != 0 || body[7] != 2 {
		return false
	}
	var t ProduceTopic
	rest := body[8:]
	if version >= topicIDVersion {
		if copy(t.ID[:], rest) != len(t.ID) {
			return false
		}
		rest = rest[len(t.ID):]
	} else {
		n := int(rest[0])
		if n == 0 || n >= 0x80 || n > len(rest) || !utf8.Valid(rest[1:n]) {
			return false
		}
		t.Name, rest = rest[1:n:n], rest[n:]
	}
	// One partition, its index, and at least the length of its records.
	if len(rest) < 6 || rest[0] != 2 {
		return false
	}
	p := ProducePartition{Index: int32(binary.BigEndian.Uint32(rest[1:]))}
	v, w := binary.Uvarint(rest[5:])
	if w <= 0 || w > 5 {
		return false
	}
	rest = rest[5+w:]
	n := len(rest) - 3 // no tagged fields of partition, topic and request
	if n < 0 || v != uint64(n)+1 || rest[n]|rest[n+1]|rest[n+2] != 0 {
		return false
	}
	p.Records = rest[:n:n]
	r.Version, r.TransactionalID = version, nil
	r.Acks, r.TimeoutMillis = int16(binary.BigEndian.Uint16(body[1:])), int32(binary.BigEndian.Uint32(body[3:]))
	r.partitions = append(reuse(r.partitions), p)
	t.Partitions = r.partitions[:1:1]
	r.Topics = append(reuse(r.Topics), t)
	return true
}

func (r *ProduceRequest) decode(version int16, body []byte) error {
	parts := reuse(r.partitions)
	*r = ProduceRequest{Version: version, Topics: reuse(r.Topics)}
	if err := checkVersion("Produce", version, MinProduce, MaxProduce); err != nil {
		return err
	}
	flex := version >= produceFlexible
	d := decoder{b: body, left: maxHotElements + 1}
	if version >= 3 {
		r.TransactionalID = d.nullableString(flex)
	}
	r.Acks = d.int16()
	r.TimeoutMillis = d.int32()
	for range d.count(flex, 3) {
		var t ProduceTopic
		if version >= topicIDVersion {
			t.ID = d.uuid()
		} else {
			t.Name = d.string(flex)
		}
		first := len(parts)
		for range d.count(flex, 6) {
			p := ProducePartition{Index: d.int32(), Records: d.nullableBytes(flex)}
			d.skipTags(flex)
			if d.fail != "" {
				break
			}
			parts = append(parts, p)
		}
		d.skipTags(flex)
		if d.fail != "" {
			break
		}
		// parts may still move; only the length counts until all are read.
		t.Partitions = parts[first:]
		r.Topics = append(r.Topics, t)
	}
	d.skipTags(flex)
	if err := d.err("Produce", version); err != nil {
		*r = ProduceRequest{Version: version, Topics: reuse(r.Topics), partitions: reuse(parts)}
		return err
	}
	r.partitions = parts
	for i := range r.Topics {
		n := len(r.Topics[i].Partitions)
		r.Topics[i].Partitions, parts = parts[:n:n], parts[n:]
	}
	return nil
}

// Trim lets go of the body, and gives back the room that an outsized request needed. The
// topics must not be used any more.
func (r *ProduceRequest) Trim() {
	clear(r.Topics)
	clear(r.partitions)
	if cap(r.Topics) > keepElements || cap(r.partitions) > keepElements {
		r.Topics, r.partitions = nil, nil
	}
}

// AppendTo appends the body of the request; r.Version must be one of Produce's.
func (r *ProduceRequest) AppendTo(dst []byte) []byte {
	flex := r.Version >= produceFlexible
	if r.Version >= 3 {
		dst = appendNullableString(dst, flex, r.TransactionalID)
	}
	dst = appendInt16(dst, r.Acks)
	dst = appendInt32(dst, r.TimeoutMillis)
	dst = appendCount(dst, flex, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		dst = appendTopic(dst, r.Version, flex, t.Name, &t.ID)
		dst = appendCount(dst, flex, len(t.Partitions))
		for _, p := range t.Partitions {
			dst = appendInt32(dst, p.Index)
			dst = appendNullableBytes(dst, flex, p.Records)
			dst = appendNoTags(dst, flex)
		}
		dst = appendNoTags(dst, flex)
	}
	return appendNoTags(dst, flex)
}
