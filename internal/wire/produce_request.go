package wire

import (
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

// Trim gives back the room that an outsized request needed. The topics must not be used
// any more.
func (r *ProduceRequest) Trim() {
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
