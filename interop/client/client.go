// Package client gives foreign Kafka clients one face, so that a scenario is written once and run
// through each of them.
//
//	scenario --> Client --> franz-go, sarama, kafka-go   (libraries, in this process)
//	                    --> kcat, kalda                  (programs, as child processes)
//
// Two rules keep the face honest:
//
//  1. A client is used in the way its own users use it. The face translates options and results; it
//     never repairs, reorders or retries on a client's behalf.
//  2. What a client cannot do is an Unsupported error with the reason, which the matrix shows as
//     n/a. It is never imitated with another client.
//
// A Client holds an address and is safe for concurrent use; each call opens what it needs and closes
// it. A Member is one consumer of a group and lives until Leave or Crash.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// Offsets that name a place rather than a number, as in the ListOffsets API.
const (
	Earliest int64 = -2
	Latest   int64 = -1
)

// AnyPartition lets the client's partitioner choose.
const AnyPartition int32 = -1

// Header is one record header. A nil Value is a null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record, written or read. A nil Key or Value is Kafka's null, which differs from an
// empty one. Timestamp is in milliseconds since the epoch and only set on records that were read.
type Record struct {
	Partition int32
	Offset    int64
	Timestamp int64
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Same reports in words how the payload of r (key, value, headers, nulls included) differs from
// other's; "" means that it does not.
func (r Record) Same(other Record) string {
	switch {
	case (r.Key == nil) != (other.Key == nil) || !bytes.Equal(r.Key, other.Key):
		return fmt.Sprintf("key %s, want %s", brief(other.Key), brief(r.Key))
	case (r.Value == nil) != (other.Value == nil) || !bytes.Equal(r.Value, other.Value):
		return fmt.Sprintf("value %s, want %s", brief(other.Value), brief(r.Value))
	case len(r.Headers) != len(other.Headers):
		return fmt.Sprintf("%d headers, want %d", len(other.Headers), len(r.Headers))
	}
	for i, h := range r.Headers {
		o := other.Headers[i]
		if h.Key != o.Key || !bytes.Equal(h.Value, o.Value) {
			return fmt.Sprintf("header %d is %s=%s, want %s=%s", i, o.Key, brief(o.Value), h.Key, brief(h.Value))
		}
	}
	return ""
}

// brief prints bytes for a message: null, or quoted and cut.
func brief(b []byte) string {
	if b == nil {
		return "null"
	}
	if len(b) > 40 {
		return fmt.Sprintf("%q... (%d bytes)", b[:40], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// Ack is what a broker answered for one record. Offset is -1 where nothing was promised (acks=0).
type Ack struct {
	Partition int32
	Offset    int64
}

// Codec is the name of a compression codec as Kafka's configuration spells it.
type Codec string

// The codecs of record batch v2.
const (
	None   Codec = "none"
	Gzip   Codec = "gzip"
	Snappy Codec = "snappy"
	LZ4    Codec = "lz4"
	Zstd   Codec = "zstd"
)

// Codecs lists every codec.
func Codecs() []Codec { return []Codec{None, Gzip, Snappy, LZ4, Zstd} }

// Acks is how many acknowledgements a producer asks for.
type Acks int16

// The values of acks on the wire.
const (
	AcksNone   Acks = 0
	AcksLeader Acks = 1
	AcksAll    Acks = -1
)

// ProduceOptions say how records are written. The zero value of Codec means None; Acks has no
// default, its zero value is acks=0. Records with AnyPartition go where the client's murmur2
// partitioner puts them.
type ProduceOptions struct {
	Codec      Codec
	Acks       Acks
	Idempotent bool
	// Old, if not empty, makes the client speak as to a broker of that version, to which it sends
	// message sets instead of record batches.
	Old BrokerVersion
}

// BrokerVersion is a version of Kafka before record batches.
type BrokerVersion string

// The versions that have a message format of their own: 0 and 1.
const (
	Kafka09  BrokerVersion = "0.9"
	Kafka010 BrokerVersion = "0.10"
)

// GroupOptions say how a member joins. Cooperative asks for the cooperative-sticky assignor instead
// of range. InstanceID makes the member static.
type GroupOptions struct {
	Group, Topic   string
	InstanceID     string
	Cooperative    bool
	SessionTimeout time.Duration // default 6 s, the least that Kafka's default configuration allows
}

func (o GroupOptions) session() time.Duration {
	if o.SessionTimeout == 0 {
		return 6 * time.Second
	}
	return o.SessionTimeout
}

// heartbeatEvery is how often members call in: often, so that a rebalance is noticed soon.
const heartbeatEvery = 300 * time.Millisecond

// GroupInfo is what describing a group told.
type GroupInfo struct {
	State   string
	Members int
}

// Client is one foreign client, bound to one broker address.
type Client interface {
	// Name is the column of the matrix; Version what was tested.
	Name() string
	Version() string

	// Produce writes the records in order and returns when each has been answered as acks asks. It
	// returns an answer per record, in the records' order, or nil answers if the client tells none.
	Produce(ctx context.Context, topic string, o ProduceOptions, recs []Record) ([]Ack, error)
	// Read reads n records of one partition without a group, from an offset or from Earliest.
	Read(ctx context.Context, topic string, partition int32, from int64, n int) ([]Record, error)
	// Offset looks up Earliest, Latest or the first offset whose timestamp (ms) is at least at;
	// -1 if there is none.
	Offset(ctx context.Context, topic string, partition int32, at int64) (int64, error)
	// Join starts a group member and returns at once; its assignment comes later.
	Join(ctx context.Context, o GroupOptions) (Member, error)

	Admin
}

// Lossy is a Client whose readers do not tell everything that lies in a record.
type Lossy interface {
	// AsRead returns what this client's readers make of a record.
	AsRead(Record) Record
}

// Timeless is a Client whose readers do not tell the time that a broker set.
type Timeless interface {
	// NoAppendTime returns the reason.
	NoAppendTime() string
}

// Admin is the administrator's part of a Client.
type Admin interface {
	CreateTopic(ctx context.Context, topic string, partitions int, configs map[string]string) error
	// Partitions returns a topic's number of partitions, 0 if there is no such topic.
	Partitions(ctx context.Context, topic string) (int, error)
	DeleteTopic(ctx context.Context, topic string) error
	// AddPartitions grows a topic to total partitions.
	AddPartitions(ctx context.Context, topic string, total int) error
	TopicConfig(ctx context.Context, topic, key string) (string, error)
	SetTopicConfig(ctx context.Context, topic, key, value string) error
	// DeleteRecords moves the log start to before.
	DeleteRecords(ctx context.Context, topic string, partition int32, before int64) error
	Groups(ctx context.Context) ([]string, error)
	Group(ctx context.Context, group string) (GroupInfo, error)
	DeleteGroup(ctx context.Context, group string) error
	// Committed returns a group's committed offset, -1 if there is none.
	Committed(ctx context.Context, group, topic string, partition int32) (int64, error)
}

// Assignment is what a member was told so far.
type Assignment struct {
	Owned      []int32 // the partitions owned now, ascending
	Rebalances int     // how many assignments the member was given, empty ones included
	Revoked    int     // how many partitions it was told to give up, one by one
}

// Member is one consumer of a group, reading one topic from its committed offsets, or from the
// earliest where nothing is committed.
type Member interface {
	// Assigned returns what the member owns now and how it came to that.
	Assigned() Assignment
	// Next returns the next record that was delivered.
	Next(ctx context.Context) (Record, error)
	// Commit commits the position after the records that Next returned. Programs that commit by
	// themselves do it in Leave.
	Commit(ctx context.Context) error
	// Leave ends the member properly. A static member stays in the group until its session ends.
	Leave(ctx context.Context) error
	// Crash ends the member as if its machine had died: its connections are cut without a word.
	Crash()
}

// Unsupported says what a client cannot do, and why. It is the n/a of the matrix.
type Unsupported struct{ Reason string }

func (e *Unsupported) Error() string { return "not supported by this client: " + e.Reason }

// unsupported returns an Unsupported error.
func unsupported(reason string) error { return &Unsupported{Reason: reason} }

// Missing says that a program is not installed, and how to install it. It is a skip of the matrix.
type Missing struct{ Program, Install string }

func (e *Missing) Error() string {
	return fmt.Sprintf("%s is not installed; install it with `%s`", e.Program, e.Install)
}

// IsUnsupported returns the reason if err says that the client cannot do it.
func IsUnsupported(err error) (string, bool) {
	var u *Unsupported
	if errors.As(err, &u) {
		return u.Reason, true
	}
	return "", false
}

// noAdmin is embedded by clients without an administrator.
type noAdmin struct{ reason string }

func (n noAdmin) CreateTopic(context.Context, string, int, map[string]string) error {
	return unsupported(n.reason)
}
func (n noAdmin) Partitions(context.Context, string) (int, error)  { return 0, unsupported(n.reason) }
func (n noAdmin) DeleteTopic(context.Context, string) error        { return unsupported(n.reason) }
func (n noAdmin) AddPartitions(context.Context, string, int) error { return unsupported(n.reason) }
func (n noAdmin) Groups(context.Context) ([]string, error)         { return nil, unsupported(n.reason) }
func (n noAdmin) DeleteGroup(context.Context, string) error        { return unsupported(n.reason) }
func (n noAdmin) Group(context.Context, string) (GroupInfo, error) {
	return GroupInfo{}, unsupported(n.reason)
}
func (n noAdmin) TopicConfig(context.Context, string, string) (string, error) {
	return "", unsupported(n.reason)
}
func (n noAdmin) SetTopicConfig(context.Context, string, string, string) error {
	return unsupported(n.reason)
}
func (n noAdmin) DeleteRecords(context.Context, string, int32, int64) error {
	return unsupported(n.reason)
}
func (n noAdmin) Committed(context.Context, string, string, int32) (int64, error) {
	return 0, unsupported(n.reason)
}
