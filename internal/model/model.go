// Package model holds the nouns that every room shares: offsets, epochs, ids and
// the clock. Types only, no behaviour beyond printing and parsing, so that any
// package may import it and none can grow logic here.
//
// Offsets, epochs and ids are types of their own so that the compiler refuses to
// swap them; bare integers stay in package wire.
package model

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// Offset is a record's position in its partition. Ends of ranges (log end offset,
// high watermark) are exclusive: the offset of the next record.
type Offset int64

// NoOffset is what the protocol sends where an offset is not known (-1).
const NoOffset Offset = -1

// LeaderEpoch counts the leaders of one partition; it grows with each change of
// leadership and is stamped into every batch (KIP-101).
type LeaderEpoch int32

// NoLeaderEpoch is the protocol's "not known" (-1).
const NoLeaderEpoch LeaderEpoch = -1

// PartitionEpoch counts the writes of a partition's metadata state (KIP-497).
type PartitionEpoch int32

// BrokerID is node.id of a broker; at least 0.
type BrokerID int32

// NoBroker is the protocol's "no such broker" (-1), for example a leaderless partition.
const NoBroker BrokerID = -1

// BrokerEpoch identifies one registration of a broker: the revision at which its
// registration key was created. A restarted broker has a new one.
type BrokerEpoch int64

// Pair names one life of one broker. Leaders and in-sync replicas are stored as
// pairs, so that a restarted broker is never mistaken for its former self.
type Pair struct {
	ID    BrokerID    `json:"id"`
	Epoch BrokerEpoch `json:"epoch"`
}

// ProducerID is assigned by InitProducerID; -1 means "not idempotent".
type ProducerID int64

// NoProducerID marks batches without idempotence (-1).
const NoProducerID ProducerID = -1

// ProducerEpoch fences older instances of one producer id.
type ProducerEpoch int16

// TopicPartition names a partition the way clients do.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String prints topic-partition, as Kafka's logs do.
func (tp TopicPartition) String() string {
	return tp.Topic + "-" + strconv.Itoa(int(tp.Partition))
}

// TopicID is the 16-byte id of one incarnation of a topic (KIP-516). A topic that
// is deleted and created again has another one.
type TopicID [16]byte

// IsZero says whether id is the all-zero id, which the protocol uses for "none".
func (id TopicID) IsZero() bool { return id == TopicID{} }

// String prints the id as Kafka does: URL-safe base64 without padding, 22 characters.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// Hex prints the id as 32 lower-case hexadecimal digits, the form used in directory names.
func (id TopicID) Hex() string { return hex.EncodeToString(id[:]) }

// NewTopicID returns a random (version 4) id. Like Kafka it never begins with a
// dash, so that the printed form can be given to command line tools.
func NewTopicID() TopicID {
	for {
		var id TopicID
		_, _ = rand.Read(id[:]) // never fails since Go 1.24
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id.String()[0] != '-' {
			return id
		}
	}
}

// ParseTopicID reads either printed form: 22 characters of base64 or 32 of hexadecimal.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	var b []byte
	var err error
	if len(s) == 32 {
		b, err = hex.DecodeString(s)
	} else {
		b, err = base64.RawURLEncoding.DecodeString(s)
	}
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("topic id %q: want 22 characters of base64url or 32 hexadecimal digits", s)
	}
	copy(id[:], b)
	return id, nil
}

// MarshalText implements encoding.TextMarshaler with the base64 form.
func (id TopicID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *TopicID) UnmarshalText(b []byte) error {
	v, err := ParseTopicID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

// Partition names a partition by topic id, the form that metadata and disk use.
type Partition struct {
	Topic TopicID
	Index int32
}

// String prints the directory name of the partition: 32 hexadecimal digits, a dash, the index.
func (p Partition) String() string { return p.Topic.Hex() + "-" + strconv.Itoa(int(p.Index)) }

// FlushPolicy is kalda.flush.policy: when a leader vouches for a record.
type FlushPolicy uint8

const (
	// FlushOS vouches once write(2) returned: safe against process death.
	FlushOS FlushPolicy = iota
	// FlushCommit vouches once fdatasync covered the record: safe against power loss.
	FlushCommit
)

// String returns the config value: os or commit.
func (p FlushPolicy) String() string {
	if p == FlushCommit {
		return "commit"
	}
	return "os"
}

// Clock is time as shells see it, handed out by package node. Cores take times as
// arguments instead.
type Clock struct {
	// Boot is the time since some fixed point, never set back and counting while the
	// machine sleeps. Timeouts use it.
	Boot func() time.Duration
	// Wall is the calendar time; it may jump. Only record timestamps, retention and
	// display use it.
	Wall func() time.Time
}

// SystemClock is the clock of package time; inside a testing/synctest bubble it is
// the bubble's clock.
func SystemClock() Clock {
	start := time.Now()
	return Clock{
		Boot: func() time.Duration { return time.Since(start) },
		Wall: time.Now,
	}
}
