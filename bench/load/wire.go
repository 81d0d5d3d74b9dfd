package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	produceVersion = 9  // flexible, topics by name
	fetchVersion   = 11 // the last before flexible versions, topics by name
)

func topicName(prefix string, i int) string { return fmt.Sprintf("%s-%d", prefix, i) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch returns a record batch (v2, uncompressed, not idempotent) of n records whose
// values have the given size. The values differ from each other and do not compress to
// nothing.
func batch(n, size int, timestamp int64) []byte {
	var records []byte
	state := uint64(88172645463325252)
	value := make([]byte, size)
	for i := range n {
		for j := range value {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			value[j] = byte('a' + state%26)
		}
		r := []byte{0}                       // attributes
		r = binary.AppendVarint(r, 0)        // timestamp delta
		r = binary.AppendVarint(r, int64(i)) // offset delta
		r = binary.AppendVarint(r, -1)       // no key
		r = binary.AppendVarint(r, int64(size))
		r = append(r, value...)
		r = binary.AppendVarint(r, 0) // no headers
		records = binary.AppendVarint(records, int64(len(r)))
		records = append(records, r...)
	}
	b := kmsg.RecordBatch{
		Length:               int32(49 + len(records)),
		PartitionLeaderEpoch: -1,
		Magic:                2,
		LastOffsetDelta:      int32(n - 1),
		FirstTimestamp:       timestamp,
		MaxTimestamp:         timestamp,
		ProducerID:           -1,
		ProducerEpoch:        -1,
		FirstSequence:        -1,
		NumRecords:           int32(n),
		Records:              records,
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], castagnoli))
	return out
}

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("kalda-bench"))

// produceFrame returns a whole Produce request. Its correlation id can be set with
// setCorrelation.
func produceFrame(topic string, partition int32, acks int16, records []byte) []byte {
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.ProduceRequestTopicPartition{p}
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = produceVersion, acks, 10000
	req.Topics = []kmsg.ProduceRequestTopic{t}
	return formatter.AppendRequest(nil, req, 0)
}

func setCorrelation(frame []byte, id int32) { binary.BigEndian.PutUint32(frame[8:], uint32(id)) }

// fetchFrame returns a whole Fetch request and the place of its fetch offset.
func fetchFrame(topic string, partition int32, maxBytes int32) (frame []byte, offsetAt int) {
	const mark = 0x7ef0f1f2f3f4f5f6
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, mark, maxBytes
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.FetchRequestTopicPartition{p}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = fetchVersion, 0, 0, maxBytes
	req.SessionEpoch = -1
	req.Topics = []kmsg.FetchRequestTopic{t}
	frame = formatter.AppendRequest(nil, req, 0)
	for at := range len(frame) - 7 {
		if binary.BigEndian.Uint64(frame[at:]) == mark {
			return frame, at
		}
	}
	panic("the fetch offset is not in the request")
}

var errShort = errors.New("an answer is too short")

// cursor reads an answer. After an error every read gives zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.b) {
		c.bad = true
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) int16() int16 {
	if b := c.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) int32() int32 {
	if b := c.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// compact reads the length of a compact array or string.
func (c *cursor) compact() int {
	v, n := binary.Uvarint(c.b)
	if n <= 0 || v > 1<<31 {
		c.bad = true
		return 0
	}
	c.b = c.b[n:]
	return int(v) - 1
}

// producedCode returns the error code in the answer to a request of produceFrame;
// answer is the frame without its size.
func producedCode(answer []byte) (int16, error) {
	c := cursor{b: answer}
	c.int32()   // correlation id
	c.compact() // tags of the header: one zero byte
	topics := c.compact()
	c.take(c.compact()) // name
	partitions := c.compact()
	c.int32()
	code := c.int16()
	if c.bad || topics != 1 || partitions != 1 {
		return 0, errShort
	}
	return code, nil
}

// fetched returns the record bytes in the answer to a request of fetchFrame.
func fetched(answer []byte) (records []byte, code int16, err error) {
	c := cursor{b: answer}
	c.int32() // correlation id
	c.int32() // throttle time
	if code := c.int16(); code != 0 {
		return nil, code, nil
	}
	c.int32() // session
	if c.int32() == 0 && !c.bad {
		return nil, 0, nil
	}
	c.take(int(c.int16())) // name
	partitions := c.int32()
	c.int32()
	code = c.int16()
	c.take(24) // high watermark, last stable offset, log start offset
	if aborted := c.int32(); aborted > 0 {
		c.take(int(aborted) * 16)
	}
	c.int32() // preferred replica
	n := c.int32()
	if n > 0 {
		records = c.take(int(n))
	}
	if c.bad || partitions != 1 {
		return nil, 0, errShort
	}
	return records, code, nil
}

// hop walks over whole batches and returns the offset after the last one, how many
// records they hold and how many bytes they are. A batch that is cut is left out.
func hop(b []byte) (next, records, size int64) {
	for len(b) >= 61 {
		n := 12 + int(binary.BigEndian.Uint32(b[8:]))
		if n < 61 || n > len(b) {
			break
		}
		next = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[23:])) + 1
		records += int64(binary.BigEndian.Uint32(b[57:]))
		size += int64(n)
		b = b[n:]
	}
	return next, records, size
}
