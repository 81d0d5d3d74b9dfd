package density

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// answerTimeout ends a run against a node that does not answer any more.
const answerTimeout = 30 * time.Second

var (
	formatter  = kmsg.NewRequestFormatter(kmsg.FormatterClientID("kalda-bench"))
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// conn is one connection with one request at a time.
type conn struct {
	net.Conn
	out, in []byte
	sent    int32
}

func dial(addr string) (*conn, error) {
	// Without keepalives: Kafka's own clients send none within hours.
	dialer := net.Dialer{Timeout: answerTimeout, KeepAlive: -1}
	nc, err := dialer.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: nc}, nil
}

// ask sends a request and returns its answer.
func (c *conn) ask(req kmsg.Request) (kmsg.Response, error) {
	c.sent++
	c.out = formatter.AppendRequest(c.out[:0], req, c.sent)
	if err := c.exchange(c.out); err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	body := c.in[4:]
	if resp.IsFlexible() && resp.Key() != 18 { // the header of ApiVersions is never flexible
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// exchange writes a whole request and reads the answer into c.in.
func (c *conn) exchange(frame []byte) error {
	_ = c.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := c.Write(frame); err != nil {
		return err
	}
	var head [4]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint32(head[:]))
	if size < 5 || size > 1<<30 {
		return fmt.Errorf("an answer of %d bytes", size)
	}
	if cap(c.in) < size {
		c.in = make([]byte, size)
	}
	c.in = c.in[:size]
	_, err := io.ReadFull(c.Conn, c.in)
	return err
}

// batch is a record batch of n records whose values have the given size.
func batch(n, size int) []byte {
	value := make([]byte, size)
	for i := range value {
		value[i] = byte('a' + i*7%26)
	}
	var records []byte
	for i := range n {
		r := append([]byte{0}, binary.AppendVarint(nil, 0)...)
		r = binary.AppendVarint(r, int64(i))
		r = binary.AppendVarint(r, -1)
		r = binary.AppendVarint(r, int64(size))
		r = append(r, value...)
		r = binary.AppendVarint(r, 0)
		records = binary.AppendVarint(records, int64(len(r)))
		records = append(records, r...)
	}
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{
		Length: int32(49 + len(records)), PartitionLeaderEpoch: -1, Magic: 2,
		LastOffsetDelta: int32(n - 1), FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(n), Records: records,
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], castagnoli))
	return out
}

// produceTo is a Produce of the same batch to partitions [from, to) of a topic.
func produceTo(topic string, from, to int, records []byte) *kmsg.ProduceRequest {
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	for p := from; p < to; p++ {
		r := kmsg.NewProduceRequestTopicPartition()
		r.Partition, r.Records = int32(p), records
		t.Partitions = append(t.Partitions, r)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, 1, 10000
	req.Topics = []kmsg.ProduceRequestTopic{t}
	return req
}

// produce sends it and checks every partition's answer.
func (c *conn) produce(req *kmsg.ProduceRequest) error {
	resp, err := c.ask(req)
	if err != nil {
		return err
	}
	n := 0
	for _, t := range resp.(*kmsg.ProduceResponse).Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("produce to %s-%d: %w", t.Topic, p.Partition, err)
			}
			n++
		}
	}
	if want := len(req.Topics[0].Partitions); n != want {
		return fmt.Errorf("produce: %d partitions answered of %d", n, want)
	}
	return nil
}

// fetch reads the first batch of each of the partitions [from, to) of a topic.
func (c *conn) fetch(topic string, from, to int, maxBytes int32) error {
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	for p := from; p < to; p++ {
		r := kmsg.NewFetchRequestTopicPartition()
		r.Partition, r.FetchOffset, r.PartitionMaxBytes = int32(p), 0, maxBytes
		t.Partitions = append(t.Partitions, r)
	}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MinBytes, req.MaxBytes, req.SessionEpoch = 11, 0, 1<<30, -1
	req.Topics = []kmsg.FetchRequestTopic{t}
	resp, err := c.ask(req)
	if err != nil {
		return err
	}
	n := 0
	for _, t := range resp.(*kmsg.FetchResponse).Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("fetch from %s-%d: %w", t.Topic, p.Partition, err)
			}
			if len(p.RecordBatches) == 0 {
				return fmt.Errorf("fetch from %s-%d: no records", t.Topic, p.Partition)
			}
			n++
		}
	}
	if n != to-from {
		return fmt.Errorf("fetch: %d partitions answered of %d", n, to-from)
	}
	return nil
}

// create makes topics of the same number of partitions with one request.
func (c *conn) create(names []string, partitions int) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 5, 30000
	for _, name := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, int32(partitions), 1
		req.Topics = append(req.Topics, t)
	}
	resp, err := c.ask(req)
	if err != nil {
		return err
	}
	for _, t := range resp.(*kmsg.CreateTopicsResponse).Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("create %s: %w", t.Topic, err)
		}
	}
	return nil
}
