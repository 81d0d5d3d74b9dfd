// Package history is the record of a chaos run: one JSON line per operation.
//
//	{"process":"idempotent-0","f":"send","topic":"t","partition":1,"value":"idempotent-0/17",
//	 "sum":"9f...","offset":1042,"invoke":1200,"complete":5400,"type":"ok"}
//
// Times are nanoseconds since the run began, by the monotonic clock. The type follows Jepsen:
//
//	ok    it happened, and the offset is what the broker answered
//	fail  it did not happen
//	info  nobody knows whether it happened
//
// A value names its record for ever: no two sends of a run carry the same one. The sum is of all
// bytes that were sent or read, so that a record is compared as a whole without keeping it.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/crc64"
	"io"
	"strconv"
	"sync"
	"time"
)

// Type is the outcome of an operation.
type Type string

// The outcomes.
const (
	OK   Type = "ok"
	Fail Type = "fail"
	Info Type = "info"
)

// The kinds of operations, the f of an Event.
const (
	Send  = "send"  // one record by a producer
	Poll  = "poll"  // one record seen by a reader
	Begin = "begin" // a final reader is told that a partition begins at Offset
	End   = "end"   // a final reader has read a partition to its end, which is Offset
	Kill  = "kill"  // the node was killed
	Start = "start" // the node is ready again

	Commit    = "commit"    // a group, the process, commits Offset
	Committed = "committed" // a group, the process, is told that Offset is committed; -1 for none
	Consume   = "consume"   // a member of a group, the process, has handled one record
	Join      = "join"      // a member came into a group, the process
	Leave     = "leave"     // a member left a group
	Delete    = "delete"    // a topic was deleted, after a reader had read all of it
)

// Event is one operation. Offset is -1 where none is known. Key is there where it is not the value's name,
// that is where several records have one; Tombstone says that the record deletes its key.
type Event struct {
	Process   string `json:"process"`
	F         string `json:"f"`
	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition"`
	Key       string `json:"key,omitempty"`
	Tombstone bool   `json:"tombstone,omitempty"`
	Value     string `json:"value,omitempty"`
	Sum       string `json:"sum,omitempty"`
	Offset    int64  `json:"offset"`
	Invoke    int64  `json:"invoke"`
	Complete  int64  `json:"complete"`
	Type      Type   `json:"type"`
	Error     string `json:"error,omitempty"`
}

var table = crc64.MakeTable(crc64.ECMA)

// Sum returns the sum of a record's bytes; where the key ends is part of it.
func Sum(key, value []byte) string {
	c := crc64.Update(0, table, strconv.AppendInt(nil, int64(len(key)), 10))
	c = crc64.Update(crc64.Update(c, table, key), table, value)
	return fmt.Sprintf("%016x", c)
}

// Log keeps the events of a run in memory and writes each as it comes. It is safe for concurrent
// use.
type Log struct {
	began time.Time

	mu     sync.Mutex
	out    *bufio.Writer
	enc    *json.Encoder
	err    error // the first of the writer
	events []Event
}

// NewLog returns a log that writes to w; its clock starts now.
func NewLog(w io.Writer) *Log {
	out := bufio.NewWriterSize(w, 1<<20)
	return &Log{began: time.Now(), out: out, enc: json.NewEncoder(out)}
}

// Now returns the run's time.
func (l *Log) Now() int64 { return time.Since(l.began).Nanoseconds() }

// Add appends an event; a Complete of 0 is filled with now.
func (l *Log) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Complete == 0 {
		e.Complete = l.Now()
	}
	l.events = append(l.events, e)
	if err := l.enc.Encode(e); err != nil && l.err == nil {
		l.err = err
	}
}

// Close writes out what is buffered and returns all events and the first error of the writer.
func (l *Log) Close() ([]Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.out.Flush(); err != nil && l.err == nil {
		l.err = err
	}
	return l.events, l.err
}

// Read reads a history back.
func Read(r io.Reader) ([]Event, error) {
	var events []Event
	dec := json.NewDecoder(bufio.NewReaderSize(r, 1<<20))
	for {
		var e Event
		if err := dec.Decode(&e); err == io.EOF {
			return events, nil
		} else if err != nil {
			return events, fmt.Errorf("event %d: %w", len(events), err)
		}
		events = append(events, e)
	}
}
