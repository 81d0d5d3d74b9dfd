package wire

import (
	"math"

	"github.com/kalda-io/kalda/internal/model"
)

// Versions of Fetch that this package encodes and decodes.
const (
	// MinFetch is the first version that carries record batches of format v2.
	MinFetch int16 = 4
	// MaxFetch is the highest.
	MaxFetch int16 = 18

	fetchFlexible int16 = 12
	// replicaStateVersion moves the replica's id into a tagged field, with its epoch (KIP-903).
	replicaStateVersion int16 = 15
	// fetchEndpointsVersion is where answers name leaders' addresses (KIP-951).
	fetchEndpointsVersion int16 = 16
	// directoryVersion is where a replica names its log directory (KIP-853).
	directoryVersion int16 = 17
	// replicaHWVersion is where a replica tells its high watermark (KIP-1166).
	replicaHWVersion int16 = 18
)

// NoReplicaHW is FetchPartition.HighWatermark where the replica does not tell it.
const NoReplicaHW int64 = math.MaxInt64

// FetchRequest is a Fetch request. What Decode fills in aliases the body; the struct is
// made for being decoded into again and again. Build one with NewFetchRequest: 0 is a
// valid replica id and session epoch.
type FetchRequest struct {
	Version int16
	// ClusterID is nil for null (v12+).
	ClusterID []byte
	// ReplicaID is -1 for a consumer.
	ReplicaID int32
	// ReplicaEpoch is the broker epoch of the replica, -1 if unknown (v15+).
	ReplicaEpoch int64
	// MaxWaitMillis bounds the wait for MinBytes; MaxBytes the answer, its first batch
	// excepted (KIP-74).
	MaxWaitMillis, MinBytes, MaxBytes int32
	// IsolationLevel is 0 for read_uncommitted, 1 for read_committed.
	IsolationLevel int8
	// SessionID and SessionEpoch are 0 and -1 without a session (v7+, KIP-227).
	SessionID, SessionEpoch int32
	Topics                  []FetchTopic
	// Forgotten leave the session (v7+).
	Forgotten []ForgottenTopic
	// Rack is the consumer's, "" if unknown (v11+, KIP-392).
	Rack []byte

	partitions []FetchPartition // of all topics, in one piece
	forgotten  []int32          // of all forgotten topics
}

// FetchTopic is one topic of a Fetch request.
type FetchTopic struct {
	// Name is the topic's name up to v12, nil afterwards.
	Name []byte
	// ID is the topic's id from v13 on, zero before.
	ID         model.TopicID
	Partitions []FetchPartition
}

// FetchPartition is what is wanted of one partition. Build one with NewFetchPartition.
type FetchPartition struct {
	Index int32
	// CurrentLeaderEpoch is the epoch known to the reader, -1 for no check (v9+, KIP-320).
	CurrentLeaderEpoch int32
	// FetchOffset is the first offset wanted.
	FetchOffset int64
	// LastFetchedEpoch is the epoch of the last record held, -1 for no check (v12+, KIP-595).
	LastFetchedEpoch int32
	// LogStartOffset is a replica's, -1 from consumers (v5+).
	LogStartOffset int64
	MaxBytes       int32
	// ReplicaDirectoryID is a replica's log directory, zero if unknown (v17+).
	ReplicaDirectoryID [16]byte
	// HighWatermark is a replica's, NoReplicaHW if it does not tell (v18+).
	HighWatermark int64
}

// ForgottenTopic names partitions that leave a fetch session.
type ForgottenTopic struct {
	Name       []byte // up to v12
	ID         model.TopicID
	Partitions []int32
}

// NewFetchRequest returns the request of a consumer without a session and without limits.
func NewFetchRequest(version int16) FetchRequest {
	return FetchRequest{Version: version, ReplicaID: -1, ReplicaEpoch: -1, MaxBytes: math.MaxInt32, SessionEpoch: -1}
}

// NewFetchPartition returns a partition wanted from offset on, without any check.
func NewFetchPartition(index int32, offset int64, maxBytes int32) FetchPartition {
	return FetchPartition{Index: index, CurrentLeaderEpoch: -1, FetchOffset: offset, LastFetchedEpoch: -1,
		LogStartOffset: -1, MaxBytes: maxBytes, HighWatermark: NoReplicaHW}
}

// Decode reads the body of a request. Fields that the version does not have get the
// values of NewFetchRequest and NewFetchPartition. After an error r holds no topics.
func (r *FetchRequest) Decode(version int16, body []byte) error {
	parts, forgotten := reuse(r.partitions), reuse(r.forgotten)
	topics, forgottenTopics := reuse(r.Topics), reuse(r.Forgotten)
	*r = NewFetchRequest(version)
	r.Topics, r.Forgotten = topics, forgottenTopics
	if err := checkVersion("Fetch", version, MinFetch, MaxFetch); err != nil {
		return err
	}
	flex := version >= fetchFlexible
	d := decoder{b: body, left: maxHotElements + 1}
	if version < replicaStateVersion {
		r.ReplicaID = d.int32()
	}
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes = d.int32(), d.int32(), d.int32()
	r.IsolationLevel = d.int8()
	if version >= 7 {
		r.SessionID, r.SessionEpoch = d.int32(), d.int32()
	}
	for range d.count(flex, 3) {
		var t FetchTopic
		if version >= topicIDVersion {
			t.ID = d.uuid()
		} else {
			t.Name = d.string(flex)
		}
		first := len(parts)
		for range d.count(flex, 16) {
			p := d.fetchPartition(version, flex)
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
	if version >= 7 {
		forgotten = r.decodeForgotten(&d, flex, forgotten)
	}
	if version >= 11 {
		r.Rack = d.string(flex)
	}
	for t := d.tags(flex); t.left > 0; {
		switch tag, v := d.tag(&t); {
		case tag == 0:
			r.ClusterID = v.nullableString(true)
			d.known(&v)
		case tag == 1 && version >= replicaStateVersion:
			r.ReplicaID, r.ReplicaEpoch = v.int32(), v.int64()
			v.skipTags(true)
			d.known(&v)
		}
	}
	if err := d.err("Fetch", version); err != nil {
		*r = NewFetchRequest(version)
		r.Topics, r.Forgotten, r.partitions, r.forgotten = topics, forgottenTopics, reuse(parts), reuse(forgotten)
		return err
	}
	r.partitions, r.forgotten = parts, forgotten
	for i := range r.Topics {
		n := len(r.Topics[i].Partitions)
		r.Topics[i].Partitions, parts = parts[:n:n], parts[n:]
	}
	for i := range r.Forgotten {
		n := len(r.Forgotten[i].Partitions)
		r.Forgotten[i].Partitions, forgotten = forgotten[:n:n], forgotten[n:]
	}
	return nil
}

// Trim gives back the room that an outsized request needed. The topics must not be used
// any more.
func (r *FetchRequest) Trim() {
	if max(cap(r.Topics), cap(r.partitions), cap(r.Forgotten), cap(r.forgotten)) > keepElements {
		r.Topics, r.partitions, r.Forgotten, r.forgotten = nil, nil, nil, nil
	}
}

func (d *decoder) fetchPartition(version int16, flex bool) FetchPartition {
	p := NewFetchPartition(d.int32(), 0, 0)
	if version >= 9 {
		p.CurrentLeaderEpoch = d.int32()
	}
	p.FetchOffset = d.int64()
	if version >= 12 {
		p.LastFetchedEpoch = d.int32()
	}
	if version >= 5 {
		p.LogStartOffset = d.int64()
	}
	p.MaxBytes = d.int32()
	if version < directoryVersion {
		d.skipTags(flex)
		return p
	}
	for t := d.tags(flex); t.left > 0; {
		switch tag, v := d.tag(&t); {
		case tag == 0:
			p.ReplicaDirectoryID = v.uuid()
			d.known(&v)
		case tag == 1 && version >= replicaHWVersion:
			p.HighWatermark = v.int64()
			d.known(&v)
		}
	}
	return p
}

// decodeForgotten fills r.Forgotten; their partitions are appended to parts, which is
// returned and may still move.
func (r *FetchRequest) decodeForgotten(d *decoder, flex bool, parts []int32) []int32 {
	for range d.count(flex, 3) {
		var t ForgottenTopic
		if r.Version >= topicIDVersion {
			t.ID = d.uuid()
		} else {
			t.Name = d.string(flex)
		}
		first := len(parts)
		for range d.count(flex, 4) {
			parts = append(parts, d.int32())
		}
		d.skipTags(flex)
		if d.fail != "" {
			break
		}
		t.Partitions = parts[first:]
		r.Forgotten = append(r.Forgotten, t)
	}
	return parts
}

// AppendTo appends the body of the request; r.Version must be one of Fetch's.
func (r *FetchRequest) AppendTo(dst []byte) []byte {
	version, flex := r.Version, r.Version >= fetchFlexible
	if version < replicaStateVersion {
		dst = appendInt32(dst, r.ReplicaID)
	}
	dst = appendInt32(dst, r.MaxWaitMillis)
	dst = appendInt32(dst, r.MinBytes)
	dst = appendInt32(dst, r.MaxBytes)
	dst = append(dst, byte(r.IsolationLevel))
	if version >= 7 {
		dst = appendInt32(dst, r.SessionID)
		dst = appendInt32(dst, r.SessionEpoch)
	}
	dst = appendCount(dst, flex, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		dst = appendTopic(dst, version, flex, t.Name, &t.ID)
		dst = appendCount(dst, flex, len(t.Partitions))
		for j := range t.Partitions {
			dst = appendFetchPartition(dst, version, flex, &t.Partitions[j])
		}
		dst = appendNoTags(dst, flex)
	}
	if version >= 7 {
		dst = appendCount(dst, flex, len(r.Forgotten))
		for i := range r.Forgotten {
			t := &r.Forgotten[i]
			dst = appendTopic(dst, version, flex, t.Name, &t.ID)
			dst = appendCount(dst, flex, len(t.Partitions))
			for _, p := range t.Partitions {
				dst = appendInt32(dst, p)
			}
			dst = appendNoTags(dst, flex)
		}
	}
	if version >= 11 {
		dst = appendString(dst, flex, r.Rack)
	}
	return r.appendTags(dst, flex)
}

func (r *FetchRequest) appendTags(dst []byte, flex bool) []byte {
	if !flex {
		return dst
	}
	state := r.Version >= replicaStateVersion && (r.ReplicaID != -1 || r.ReplicaEpoch != -1)
	at := len(dst)
	dst = append(dst, 0)
	if r.ClusterID != nil {
		dst[at]++
		n := fittingLen(r.ClusterID)
		dst = append(dst, 0)
		dst = appendUvarint(dst, uvarintLen(uint64(n)+1)+n)
		dst = appendString(dst, true, r.ClusterID)
	}
	if state {
		dst[at]++
		dst = appendTag(dst, 1, 13)
		dst = appendInt32(dst, r.ReplicaID)
		dst = appendInt64(dst, r.ReplicaEpoch)
		dst = append(dst, 0)
	}
	return dst
}

func appendFetchPartition(dst []byte, version int16, flex bool, p *FetchPartition) []byte {
	dst = appendInt32(dst, p.Index)
	if version >= 9 {
		dst = appendInt32(dst, p.CurrentLeaderEpoch)
	}
	dst = appendInt64(dst, p.FetchOffset)
	if version >= 12 {
		dst = appendInt32(dst, p.LastFetchedEpoch)
	}
	if version >= 5 {
		dst = appendInt64(dst, p.LogStartOffset)
	}
	dst = appendInt32(dst, p.MaxBytes)
	if !flex {
		return dst
	}
	at := len(dst)
	dst = append(dst, 0)
	if version >= directoryVersion && p.ReplicaDirectoryID != [16]byte{} {
		dst[at]++
		dst = append(appendTag(dst, 0, 16), p.ReplicaDirectoryID[:]...)
	}
	if version >= replicaHWVersion && p.HighWatermark != NoReplicaHW {
		dst[at]++
		dst = appendInt64(appendTag(dst, 1, 8), p.HighWatermark)
	}
	return dst
}
