package wire

import (
	"github.com/kalda-io/kalda/internal/model"
)

// EpochEnd is an epoch and the offset at which it ends, in tagged fields of Fetch answers.
type EpochEnd struct {
	// Set says that the field is present; the rest means nothing otherwise.
	Set       bool
	Epoch     int32
	EndOffset int64
}

// AbortedTransaction says that the transactional records of a producer from an offset on
// are to be skipped.
type AbortedTransaction struct {
	ProducerID, FirstOffset int64
}

// FetchedPartition is the answer for one partition. Use NewFetchedPartition: 0 is a valid
// offset and broker id.
type FetchedPartition struct {
	Index     int32
	ErrorCode int16
	// HighWatermark, LastStableOffset and LogStartOffset (v5+) are -1 when unknown.
	HighWatermark, LastStableOffset, LogStartOffset int64
	// Aborted must be sorted by FirstOffset. nil, for read_uncommitted, is null.
	Aborted []AbortedTransaction
	// PreferredReadReplica is a broker to read from instead, -1 for none (v11+).
	PreferredReadReplica int32
	// DivergingEpoch tells a follower where its log departs (v12+, KIP-595).
	DivergingEpoch EpochEnd
	// CurrentLeader goes out from v12 on.
	CurrentLeader Leader
	// SnapshotID belongs to Kafka's own quorum; it is only carried (v12+).
	SnapshotID EpochEnd
	// Records is what Decode found, aliasing the body; nil is null. The Append functions
	// take the length instead, and the caller appends the bytes.
	Records []byte
}

// NewFetchedPartition returns the answer for a partition about which nothing but the
// error code (0 for none) is known.
func NewFetchedPartition(index int32, code int16) FetchedPartition {
	return FetchedPartition{Index: index, ErrorCode: code, HighWatermark: -1, LastStableOffset: -1,
		LogStartOffset: -1, PreferredReadReplica: -1}
}

// An answer is written in the order of these functions. The counts must be those of what
// follows, and as many bytes of records must be appended as AppendFetched was told:
//
//	AppendFetchStart { AppendFetchTopic { AppendFetched records AppendFetchedEnd } AppendFetchTopicEnd } AppendFetchEnd

// AppendFetchStart begins the body of an answer with that many topics. code is the error
// of the session (v7+), sessionID 0 without one.
func AppendFetchStart(dst []byte, version int16, throttleMillis int32, code int16, sessionID int32, topics int) []byte {
	dst = appendInt32(dst, throttleMillis)
	if version >= 7 {
		dst = appendInt16(dst, code)
		dst = appendInt32(dst, sessionID)
	}
	return appendCount(dst, version >= fetchFlexible, topics)
}

// AppendFetchTopic begins a topic with that many partitions. Up to v12 it is called
// name, from v13 on id.
func AppendFetchTopic(dst []byte, version int16, name []byte, id model.TopicID, partitions int) []byte {
	flex := version >= fetchFlexible
	return appendCount(appendTopic(dst, version, flex, name, &id), flex, partitions)
}

// AppendFetched appends the answer for a partition up to its records, of which the caller
// then appends recordsLen bytes. 0 is what Kafka sends for no records, with an error too;
// -1 is null.
func AppendFetched(dst []byte, version int16, p *FetchedPartition, recordsLen int) []byte {
	flex := version >= fetchFlexible
	dst = appendInt32(dst, p.Index)
	dst = appendInt16(dst, p.ErrorCode)
	dst = appendInt64(dst, p.HighWatermark)
	dst = appendInt64(dst, p.LastStableOffset)
	if version >= 5 {
		dst = appendInt64(dst, p.LogStartOffset)
	}
	if p.Aborted == nil {
		dst = appendNullCount(dst, flex)
	} else {
		dst = appendCount(dst, flex, len(p.Aborted))
		for _, a := range p.Aborted {
			dst = appendInt64(dst, a.ProducerID)
			dst = appendInt64(dst, a.FirstOffset)
			dst = appendNoTags(dst, flex)
		}
	}
	if version >= 11 {
		dst = appendInt32(dst, p.PreferredReadReplica)
	}
	return appendBytesLen(dst, flex, recordsLen)
}

// AppendFetchedEnd ends a partition after its records.
func AppendFetchedEnd(dst []byte, version int16, p *FetchedPartition) []byte {
	if version < fetchFlexible {
		return dst
	}
	at := len(dst)
	dst = append(dst, 0)
	if e := p.DivergingEpoch; e.Set {
		dst[at]++
		dst = appendInt32(appendTag(dst, 0, 13), e.Epoch)
		dst = append(appendInt64(dst, e.EndOffset), 0)
	}
	if p.CurrentLeader.Set {
		dst[at]++
		dst = appendLeader(dst, 1, p.CurrentLeader)
	}
	if e := p.SnapshotID; e.Set {
		dst[at]++
		dst = appendInt64(appendTag(dst, 2, 13), e.EndOffset)
		dst = append(appendInt32(dst, e.Epoch), 0)
	}
	return dst
}

// AppendFetchTopicEnd ends a topic.
func AppendFetchTopicEnd(dst []byte, version int16) []byte {
	return appendNoTags(dst, version >= fetchFlexible)
}

// AppendFetchEnd ends the answer. endpoints, sent from v16 on, are the addresses of the
// brokers that leaders and preferred replicas named.
func AppendFetchEnd(dst []byte, version int16, endpoints []NodeEndpoint) []byte {
	if version >= fetchEndpointsVersion && len(endpoints) > 0 {
		return appendEndpoints(append(dst, 1), endpoints)
	}
	return appendNoTags(dst, version >= fetchFlexible)
}

// FetchResponse is the answer to a Fetch request, as a reader decodes it.
type FetchResponse struct {
	Version        int16
	ThrottleMillis int32
	// ErrorCode is the session's (v7+).
	ErrorCode int16
	// SessionID is 0 without a session (v7+).
	SessionID     int32
	Topics        []FetchedTopic
	NodeEndpoints []NodeEndpoint

	partitions []FetchedPartition
	aborted    []AbortedTransaction
}

// FetchedTopic is one topic of a FetchResponse.
type FetchedTopic struct {
	// Name aliases the body; it is nil from v13 on, where ID is set.
	Name       []byte
	ID         model.TopicID
	Partitions []FetchedPartition
}

// Decode reads the body of an answer. After an error r holds no topics.
func (r *FetchResponse) Decode(version int16, body []byte) error {
	parts, aborted := reuse(r.partitions), reuse(r.aborted)
	topics := reuse(r.Topics)
	*r = FetchResponse{Version: version, Topics: topics}
	if err := checkVersion("Fetch answer", version, MinFetch, MaxFetch); err != nil {
		return err
	}
	flex := version >= fetchFlexible
	d := decoder{b: body}
	r.ThrottleMillis = d.int32()
	if version >= 7 {
		r.ErrorCode, r.SessionID = d.int16(), d.int32()
	}
	for range d.count(flex, 3) {
		var t FetchedTopic
		if version >= topicIDVersion {
			t.ID = d.uuid()
		} else {
			t.Name = d.string(flex)
		}
		first := len(parts)
		for range d.count(flex, 30) {
			var p FetchedPartition
			p, aborted = d.fetched(version, flex, aborted)
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
	for t := d.tags(flex); t.left > 0; {
		if tag, v := d.tag(&t); tag == 0 && version >= fetchEndpointsVersion {
			r.NodeEndpoints = v.endpoints()
			d.known(&v)
		}
	}
	if err := d.err("Fetch answer", version); err != nil {
		*r = FetchResponse{Version: version, Topics: topics[:0], partitions: parts[:0], aborted: aborted[:0]}
		return err
	}
	r.partitions, r.aborted = parts, aborted
	for i := range r.Topics {
		n := len(r.Topics[i].Partitions)
		r.Topics[i].Partitions, parts = parts[:n:n], parts[n:]
		for j := range r.Topics[i].Partitions {
			p := &r.Topics[i].Partitions[j]
			if p.Aborted != nil {
				n := len(p.Aborted)
				p.Aborted, aborted = aborted[:n:n], aborted[n:]
			}
		}
	}
	return nil
}

// fetched reads the answer for one partition. Its aborted transactions are appended to
// aborted, which is returned and may still move.
func (d *decoder) fetched(version int16, flex bool, aborted []AbortedTransaction) (FetchedPartition, []AbortedTransaction) {
	index := d.int32()
	p := NewFetchedPartition(index, d.int16())
	p.HighWatermark, p.LastStableOffset = d.int64(), d.int64()
	if version >= 5 {
		p.LogStartOffset = d.int64()
	}
	n, first := d.nullableCount(flex, 16), len(aborted)
	for range max(n, 0) {
		aborted = append(aborted, AbortedTransaction{ProducerID: d.int64(), FirstOffset: d.int64()})
		d.skipTags(flex)
		if d.fail != "" {
			return p, aborted
		}
	}
	if n >= 0 {
		if aborted == nil {
			aborted = []AbortedTransaction{} // present but empty, not null
		}
		p.Aborted = aborted[first:]
	}
	if version >= 11 {
		p.PreferredReadReplica = d.int32()
	}
	p.Records = d.nullableBytes(flex)
	for t := d.tags(flex); t.left > 0; {
		switch tag, v := d.tag(&t); tag {
		case 0:
			p.DivergingEpoch = EpochEnd{Set: true, Epoch: v.int32(), EndOffset: v.int64()}
			v.skipTags(true)
			d.known(&v)
		case 1:
			p.CurrentLeader = v.leader()
			d.known(&v)
		case 2:
			p.SnapshotID = EpochEnd{Set: true, EndOffset: v.int64(), Epoch: v.int32()}
			v.skipTags(true)
			d.known(&v)
		}
	}
	return p, aborted
}

// AppendTo appends the body of the answer, records included; r.Version must be one of
// Fetch's.
func (r *FetchResponse) AppendTo(dst []byte) []byte {
	dst = AppendFetchStart(dst, r.Version, r.ThrottleMillis, r.ErrorCode, r.SessionID, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		dst = AppendFetchTopic(dst, r.Version, t.Name, t.ID, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			n := len(p.Records)
			if p.Records == nil {
				n = -1
			}
			dst = append(AppendFetched(dst, r.Version, p, n), p.Records...)
			dst = AppendFetchedEnd(dst, r.Version, p)
		}
		dst = AppendFetchTopicEnd(dst, r.Version)
	}
	return AppendFetchEnd(dst, r.Version, r.NodeEndpoints)
}
