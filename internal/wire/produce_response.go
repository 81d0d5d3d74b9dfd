package wire

import (
	"encoding/binary"

	"github.com/kalda-io/kalda/internal/model"
)

// currentLeaderVersion is where Produce answers name the leader and its address (KIP-951).
const currentLeaderVersion int16 = 10

// Leader is the current leader of a partition, for clients that asked the wrong broker
// (KIP-951).
type Leader struct {
	// Set says that the field is present; the rest means nothing otherwise.
	Set bool
	// ID is the broker, -1 for none; Epoch its leader epoch, -1 for unknown.
	ID, Epoch int32
}

// NodeEndpoint is the address of a broker that a Leader named.
type NodeEndpoint struct {
	ID   int32
	Host string
	Port int32
	// Rack is nil for null.
	Rack *string
}

// RecordError says which record of a batch was refused, and why (KIP-467).
type RecordError struct {
	// Index counts the records of the batch from 0.
	Index int32
	// Message is nil for null.
	Message *string
}

// ProducedPartition is the answer for one partition. Use NewProducedPartition: 0 is a
// valid offset.
type ProducedPartition struct {
	Index     int32
	ErrorCode int16
	// BaseOffset is the first record's offset, -1 with an error.
	BaseOffset int64
	// LogAppendTime is in ms since 1970; -1 unless the broker set the timestamps (v2+).
	LogAppendTime int64
	// LogStartOffset is -1 when unknown (v5+).
	LogStartOffset int64
	// RecordErrors and ErrorMessage go out from v8 on.
	RecordErrors []RecordError
	ErrorMessage *string
	// CurrentLeader goes out from v10 on.
	CurrentLeader Leader
}

// NewProducedPartition returns the answer for a partition about which nothing but the
// error code (0 for none) is known.
func NewProducedPartition(index int32, code int16) ProducedPartition {
	return ProducedPartition{Index: index, ErrorCode: code, BaseOffset: -1, LogAppendTime: -1, LogStartOffset: -1}
}

// An answer is written in the order of these functions:
//
//	AppendProduceStart { AppendProduceTopic { AppendProduced } AppendProduceTopicEnd } AppendProduceEnd
//
// The counts must be those of what follows.

// AppendProduceStart begins the body of an answer with that many topics.
func AppendProduceStart(dst []byte, version int16, topics int) []byte {
	return appendCount(dst, version >= produceFlexible, topics)
}

// AppendProduceTopic begins a topic with that many partitions. Up to v12 it is called
// name, from v13 on id.
func AppendProduceTopic(dst []byte, version int16, name []byte, id model.TopicID, partitions int) []byte {
	flex := version >= produceFlexible
	return appendCount(appendTopic(dst, version, flex, name, &id), flex, partitions)
}

// AppendProduced appends the answer for one partition. at is the place in dst that
// PatchProduced takes to change it later; it counts from dst's start and so survives
// that dst grows and moves.
func AppendProduced(dst []byte, version int16, p *ProducedPartition) (_ []byte, at int) {
	flex := version >= produceFlexible
	dst = appendInt32(dst, p.Index)
	at = len(dst)
	dst = appendInt16(dst, p.ErrorCode)
	dst = appendInt64(dst, p.BaseOffset)
	if version >= 2 {
		dst = appendInt64(dst, p.LogAppendTime)
	}
	if version >= 5 {
		dst = appendInt64(dst, p.LogStartOffset)
	}
	if version >= 8 {
		dst = appendCount(dst, flex, len(p.RecordErrors))
		for i := range p.RecordErrors {
			dst = appendInt32(dst, p.RecordErrors[i].Index)
			dst = appendStringPtr(dst, flex, p.RecordErrors[i].Message)
			dst = appendNoTags(dst, flex)
		}
		dst = appendStringPtr(dst, flex, p.ErrorMessage)
	}
	if version >= currentLeaderVersion && p.CurrentLeader.Set {
		return appendLeader(append(dst, 1), 0, p.CurrentLeader), at
	}
	return appendNoTags(dst, flex), at
}

// appendLeader appends l as tagged field tag.
func appendLeader(dst []byte, tag byte, l Leader) []byte {
	dst = appendTag(dst, tag, 9)
	dst = appendInt32(dst, l.ID)
	dst = appendInt32(dst, l.Epoch)
	return append(dst, 0)
}

// PatchProduced changes what the answer for a partition says, in place: at is from
// AppendProduced. Messages, record errors and the leader stay as they were.
func PatchProduced(buf []byte, at int, version, code int16, baseOffset, logAppendTime, logStartOffset int64) {
	binary.BigEndian.PutUint16(buf[at:], uint16(code))
	binary.BigEndian.PutUint64(buf[at+2:], uint64(baseOffset))
	if version >= 2 {
		binary.BigEndian.PutUint64(buf[at+10:], uint64(logAppendTime))
	}
	if version >= 5 {
		binary.BigEndian.PutUint64(buf[at+18:], uint64(logStartOffset))
	}
}

// PatchProduceError turns the answer for a partition into a failure: base offset, append
// time and log start become -1.
func PatchProduceError(buf []byte, at int, version, code int16) {
	PatchProduced(buf, at, version, code, -1, -1, -1)
}

// AppendProduceTopicEnd ends a topic.
func AppendProduceTopicEnd(dst []byte, version int16) []byte {
	return appendNoTags(dst, version >= produceFlexible)
}

// AppendProduceEnd ends the answer. endpoints, sent from v10 on, are the addresses of the
// brokers that leaders named.
func AppendProduceEnd(dst []byte, version int16, throttleMillis int32, endpoints []NodeEndpoint) []byte {
	if version >= 1 {
		dst = appendInt32(dst, throttleMillis)
	}
	if version >= currentLeaderVersion && len(endpoints) > 0 {
		return appendEndpoints(append(dst, 1), endpoints)
	}
	return appendNoTags(dst, version >= produceFlexible)
}

// appendEndpoints appends tagged field 0 of both answers.
func appendEndpoints(dst []byte, endpoints []NodeEndpoint) []byte {
	size := uvarintLen(uint64(len(endpoints)) + 1)
	for i := range endpoints {
		e := &endpoints[i]
		size += 4 + stringLen(e.Host) + 4 + 1 + 1 // a null rack and the tags take a byte each
		if e.Rack != nil {
			size += stringLen(*e.Rack) - 1
		}
	}
	dst = append(dst, 0)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = appendCount(dst, true, len(endpoints))
	for i := range endpoints {
		e := &endpoints[i]
		dst = appendInt32(dst, e.ID)
		dst = appendString(dst, true, e.Host)
		dst = appendInt32(dst, e.Port)
		dst = appendStringPtr(dst, true, e.Rack)
		dst = append(dst, 0)
	}
	return dst
}

// endpoints reads what appendEndpoints wrote into a tagged field.
func (d *decoder) endpoints() []NodeEndpoint {
	var es []NodeEndpoint
	for range d.count(true, 11) {
		e := NodeEndpoint{ID: d.int32(), Host: string(d.string(true)), Port: d.int32(), Rack: d.stringPtr(true)}
		d.skipTags(true)
		if d.fail != "" {
			return nil
		}
		es = append(es, e)
	}
	return es
}

// leader reads a tagged field with a Leader.
func (d *decoder) leader() Leader {
	l := Leader{Set: true, ID: d.int32(), Epoch: d.int32()}
	d.skipTags(true)
	return l
}

// ProduceResponse is the answer to a Produce request, as a client decodes it.
type ProduceResponse struct {
	Version        int16
	Topics         []ProducedTopic
	ThrottleMillis int32
	NodeEndpoints  []NodeEndpoint

	partitions []ProducedPartition
}

// ProducedTopic is one topic of a ProduceResponse.
type ProducedTopic struct {
	// Name aliases the body; it is nil from v13 on, where ID is set.
	Name       []byte
	ID         model.TopicID
	Partitions []ProducedPartition
}

// Decode reads the body of an answer. After an error r holds no topics.
func (r *ProduceResponse) Decode(version int16, body []byte) error {
	parts := reuse(r.partitions)
	*r = ProduceResponse{Version: version, Topics: reuse(r.Topics)}
	if err := checkVersion("Produce answer", version, MinProduce, MaxProduce); err != nil {
		return err
	}
	flex := version >= produceFlexible
	d := decoder{b: body}
	for range d.count(flex, 3) {
		var t ProducedTopic
		if version >= topicIDVersion {
			t.ID = d.uuid()
		} else {
			t.Name = d.string(flex)
		}
		first := len(parts)
		for range d.count(flex, 14) {
			p := d.produced(version, flex)
			if d.fail != "" {
				break
			}
			parts = append(parts, p)
		}
		d.skipTags(flex)
		if d.fail != "" {
			break
		}
		t.Partitions = parts[first:]
		r.Topics = append(r.Topics, t)
	}
	if version >= 1 {
		r.ThrottleMillis = d.int32()
	}
	for t := d.tags(flex); t.left > 0; {
		if tag, v := d.tag(&t); tag == 0 && version >= currentLeaderVersion {
			r.NodeEndpoints = v.endpoints()
			d.known(&v)
		}
	}
	if err := d.err("Produce answer", version); err != nil {
		*r = ProduceResponse{Version: version, Topics: r.Topics[:0], partitions: parts[:0]}
		return err
	}
	r.partitions = parts
	for i := range r.Topics {
		n := len(r.Topics[i].Partitions)
		r.Topics[i].Partitions, parts = parts[:n:n], parts[n:]
	}
	return nil
}

// produced reads the answer for one partition.
func (d *decoder) produced(version int16, flex bool) ProducedPartition {
	index := d.int32()
	p := NewProducedPartition(index, d.int16())
	p.BaseOffset = d.int64()
	if version >= 2 {
		p.LogAppendTime = d.int64()
	}
	if version >= 5 {
		p.LogStartOffset = d.int64()
	}
	if version >= 8 {
		for range d.count(flex, 6) {
			e := RecordError{Index: d.int32(), Message: d.stringPtr(flex)}
			d.skipTags(flex)
			if d.fail != "" {
				return p
			}
			p.RecordErrors = append(p.RecordErrors, e)
		}
		p.ErrorMessage = d.stringPtr(flex)
	}
	for t := d.tags(flex); t.left > 0; {
		if tag, v := d.tag(&t); tag == 0 && version >= currentLeaderVersion {
			p.CurrentLeader = v.leader()
			d.known(&v)
		}
	}
	return p
}

// AppendTo appends the body of the answer; r.Version must be one of Produce's.
func (r *ProduceResponse) AppendTo(dst []byte) []byte {
	dst = AppendProduceStart(dst, r.Version, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		dst = AppendProduceTopic(dst, r.Version, t.Name, t.ID, len(t.Partitions))
		for j := range t.Partitions {
			dst, _ = AppendProduced(dst, r.Version, &t.Partitions[j])
		}
		dst = AppendProduceTopicEnd(dst, r.Version)
	}
	return AppendProduceEnd(dst, r.Version, r.ThrottleMillis, r.NodeEndpoints)
}
