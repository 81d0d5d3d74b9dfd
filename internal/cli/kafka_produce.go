package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// header is one header of a record.
type header struct {
	Key   string `json:"key"`
	Value []byte `json:"-"`
}

// produceSpec says how records are sent.
type produceSpec struct {
	topic string
	// partition is where all records go; -1 lets the partitioner choose.
	partition   int32
	partitioner string // murmur2, round-robin, sticky
	acks        string // 0, 1, all
	codec       string // none, gzip, snappy, lz4, zstd
	linger      time.Duration
	headers     []header
	// batchBytes and buffered bound a batch and the records that wait for their outcome;
	// 0 leaves both to the topic's limit and to memory.
	batchBytes int32
	buffered   int
}

// producer sends records to one topic.
type producer struct {
	*client
	topic     string
	partition int32
	headers   []kgo.RecordHeader
	// maxBytes is the largest batch that is sent; the topic's max.message.bytes.
	maxBytes atomic.Int32
	// slab holds the next records: one allocation for many.
	slab []kgo.Record
	// waiting counts the records whose outcome is open.
	waiting atomic.Int64
}

// defaultMaxBytes is used until the topic's own limit is known: the broker's default for
// message.max.bytes (1 MiB) and the batch header's 12 bytes.
const defaultMaxBytes = 1<<20 + 12

// openProducer connects, waits until the topic can be written to (creating it where the
// broker does so on first use) and learns its record limit.
func (a *app) openProducer(ctx context.Context, s produceSpec) (*producer, error) {
	p := &producer{topic: s.topic, partition: s.partition}
	p.maxBytes.Store(defaultMaxBytes)
	for _, h := range s.headers {
		p.headers = append(p.headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	opts := []kgo.Opt{
		kgo.DefaultProduceTopic(s.topic),
		kgo.AllowAutoTopicCreation(),
		kgo.ProducerLinger(s.linger),
		kgo.ProducerBatchMaxBytesFn(func(string) int32 { return p.maxBytes.Load() }),
		// Enough to keep batches full on every partition while answers are under way; the
		// bytes bound the memory whatever the size of the lines.
		kgo.MaxBufferedRecords(200_000),
		kgo.MaxBufferedBytes(256 << 20),
		// A command must end: a record in flight whose fate stays unknown has failed.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.RecordDeliveryTimeout(2 * time.Minute), // Kafka's default of delivery.timeout.ms
	}
	if a.timeoutSet {
		opts = append(opts, kgo.RecordDeliveryTimeout(a.timeout))
	}
	if s.buffered > 0 {
		opts = append(opts, kgo.MaxBufferedRecords(s.buffered))
	}
	switch s.acks {
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	default:
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	}
	switch s.codec {
	case "gzip":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.GzipCompression()))
	case "snappy":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	case "lz4":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	case "zstd":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	default:
		opts = append(opts, kgo.ProducerBatchCompression(kgo.NoCompression()))
	}
	opts = append(opts, kgo.RecordPartitioner(partitionerFor(s.partitioner, s.partition)))
	if props, err := parseProperties(a.props); err != nil {
		return nil, err
	} else if props.maxRequestSize > 0 {
		p.maxBytes.Store(props.maxRequestSize)
	}
	var err error
	if p.client, err = a.open(ctx, opts...); err != nil {
		return nil, err
	}
	if err := p.prepare(ctx, s); err != nil {
		p.close()
		return nil, err
	}
	if s.batchBytes > 0 {
		p.maxBytes.Store(min(s.batchBytes, p.maxBytes.Load()))
	}
	return p, nil
}

// partitionerFor returns the partitioner of a name.
func partitionerFor(name string, partition int32) kgo.Partitioner {
	switch {
	case partition >= 0:
		return kgo.ManualPartitioner()
	case name == "round-robin":
		return kgo.RoundRobinPartitioner()
	case name == "sticky":
		return kgo.StickyPartitioner()
	}
	return kgo.StickyKeyPartitioner(nil) // nil: murmur2 as in Kafka's own producer
}

// createWait is how long a topic that is being created on first use may be unknown: a
// broker that does not create topics says the same thing, so we must stop asking.
const createWait = 3 * time.Second

func (p *producer) prepare(ctx context.Context, s produceSpec) error {
	began := time.Now()
	for {
		n, err := p.partitions(ctx, s.topic)
		k := protocolError(err)
		switch {
		case err == nil && s.partition >= n:
			return &failure{what: fmt.Sprintf("topic %s has no partition %d; it has %d", s.topic, s.partition, n), code: ExitNotFound}
		case err == nil:
			return p.learnLimit(ctx, s.topic)
		case k == nil || !k.Retriable:
			return failed(err, "produce to %s", s.topic)
		case errors.Is(err, kerr.UnknownTopicOrPartition) && time.Since(began) > createWait:
			return &failure{
				what: "topic " + s.topic + " does not exist, and the cluster does not create topics on first use",
				hint: "'kalda topic create " + s.topic + "' makes it",
				err:  err,
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return failed(p.explain(errors.Join(err)), "wait for topic %s", s.topic)
		}
	}
}

// partitions returns the number of the topic's partitions, asking for its creation.
func (p *producer) partitions(ctx context.Context, topic string) (int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = true
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, p.cl)
	if err != nil {
		return 0, p.explain(err)
	}
	if len(resp.Topics) != 1 {
		return 0, fmt.Errorf("the broker answered for %d topics instead of one", len(resp.Topics))
	}
	got := &resp.Topics[0]
	if err := errorOf(got.ErrorCode, nil); err != nil {
		return 0, err
	}
	for i := range got.Partitions {
		if err := errorOf(got.Partitions[i].ErrorCode, nil); errors.Is(err, kerr.LeaderNotAvailable) {
			return 0, err
		}
	}
	return int32(len(got.Partitions)), nil
}

// learnLimit takes the topic's max.message.bytes as the size of batches. A broker that
// does not tell leaves the default; it still refuses what is too large by itself.
func (p *producer) learnLimit(ctx context.Context, topic string) error {
	if p.maxBytes.Load() != defaultMaxBytes { // -X max.request.size
		return nil
	}
	rcs, err := p.adm.DescribeTopicConfigs(ctx, topic)
	if err != nil && ctx.Err() != nil {
		return p.explain(err)
	}
	for _, rc := range rcs {
		for _, c := range rc.Configs {
			if c.Key != "max.message.bytes" || c.Value == nil {
				continue
			}
			// Above 16 MiB batches only cost memory; the bound is lifted for records by
			// -X max.request.size. Below 512 the client cannot work.
			if n, err := strconv.ParseInt(*c.Value, 10, 32); err == nil {
				p.maxBytes.Store(int32(min(max(n, 512), 16<<20)))
			}
		}
	}
	return nil
}

// limit is the size in bytes above which a record cannot be sent.
func (p *producer) limit() int { return int(p.maxBytes.Load()) }

// send queues one record and blocks while the buffer is full. done is called once, from
// another goroutine, with where the record went; key may be nil.
func (p *producer) send(ctx context.Context, key, value []byte, done func(partition int32, offset int64, err error)) {
	if len(p.slab) == 0 {
		p.slab = make([]kgo.Record, 256)
	}
	r := &p.slab[0]
	p.slab = p.slab[1:]
	r.Key, r.Value, r.Headers = key, value, p.headers
	if p.partition >= 0 {
		r.Partition = p.partition
	}
	p.waiting.Add(1)
	p.cl.Produce(ctx, r, func(r *kgo.Record, err error) {
		done(r.Partition, r.Offset, p.explain(err))
		p.waiting.Add(-1)
	})
}

// flush waits until every record has its outcome.
func (p *producer) flush(ctx context.Context) error { return p.cl.Flush(ctx) }

// errorOf returns kalda's error for a code of the protocol, with the broker's message.
func errorOf(code int16, message *string) error {
	k, _ := kerr.ForCode(code)
	if k == nil {
		return nil
	}
	if message != nil && *message != "" && *message != k.Name {
		return kerr.With(k, "%s", *message)
	}
	return k
}

// pause waits d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
