package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// KafkaGo is segmentio/kafka-go.
type KafkaGo struct{ addr string }

// NewKafkaGo returns kafka-go bound to a broker.
func NewKafkaGo(addr string) *KafkaGo { return &KafkaGo{addr: addr} }

// Name implements Client.
func (k *KafkaGo) Name() string { return "kafka-go" }

// Version implements Client.
func (k *KafkaGo) Version() string { return moduleVersion("github.com/segmentio/kafka-go") }

// NoAppendTime implements Timeless.
func (k *KafkaGo) NoAppendTime() string {
	return "kafka-go's reader tells the producer's time, whatever the batch says of its type"
}

// client returns a request client and the function that closes its connections.
func (k *KafkaGo) client() (*kafka.Client, func()) {
	t := new(kafka.Transport) // of its own, so that its metadata is never old
	return &kafka.Client{Addr: kafka.TCP(k.addr), Transport: t, Timeout: 20 * time.Second}, t.CloseIdleConnections
}

// Produce implements Client.
func (k *KafkaGo) Produce(ctx context.Context, topic string, o ProduceOptions, recs []Record) ([]Ack, error) {
	if o.Idempotent {
		return nil, unsupported("kafka-go has no idempotent producer")
	}
	if o.Old != "" {
		return nil, unsupported("kafka-go sends what the broker's versions allow, and cannot be held to less")
	}
	acks := make([]Ack, len(recs))
	var mu sync.Mutex
	t := new(kafka.Transport)
	defer t.CloseIdleConnections()
	w := &kafka.Writer{
		Addr: kafka.TCP(k.addr), Topic: topic, Transport: t, BatchTimeout: 5 * time.Millisecond, BatchBytes: 2 << 20,
		RequiredAcks: kafka.RequiredAcks(o.Acks), Balancer: kafka.Murmur2Balancer{Consistent: true},
		Compression: map[Codec]kafka.Compression{Gzip: kafka.Gzip, Snappy: kafka.Snappy, LZ4: kafka.Lz4, Zstd: kafka.Zstd}[o.Codec],
		Completion: func(msgs []kafka.Message, err error) {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range msgs {
				a := Ack{int32(m.Partition), m.Offset}
				if o.Acks == AcksNone {
					a.Offset = -1
				}
				acks[m.WriterData.(int)] = a
			}
		},
	}
	msgs := make([]kafka.Message, len(recs))
	for i, r := range recs {
		msgs[i] = kafka.Message{Key: r.Key, Value: r.Value, WriterData: i}
		for _, h := range r.Headers {
			msgs[i].Headers = append(msgs[i].Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
	}
	if len(recs) > 0 && recs[0].Partition != AnyPartition {
		// A kafka-go message names no partition: a balancer is its way to choose one.
		w.Balancer = kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return int(recs[m.WriterData.(int)].Partition) })
	}
	if err := errors.Join(w.WriteMessages(ctx, msgs...), w.Close()); err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	return acks, nil
}

// reader opens one partition.
func (k *KafkaGo) reader(topic string, partition int32, from int64, dialer *kafka.Dialer) (*kafka.Reader, error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{k.addr}, Topic: topic, Partition: int(partition),
		MinBytes: 1, MaxBytes: 8 << 20, MaxWait: 200 * time.Millisecond, Dialer: dialer})
	if err := r.SetOffset(from); err != nil { // kafka-go's FirstOffset is -2 too
		closeQuietly(r)
		return nil, err
	}
	return r, nil
}

// Read implements Client.
func (k *KafkaGo) Read(ctx context.Context, topic string, partition int32, from int64, n int) ([]Record, error) {
	r, err := k.reader(topic, partition, from, nil)
	if err != nil {
		return nil, err
	}
	defer closeQuietly(r)
	var out []Record
	for len(out) < n {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return out, fmt.Errorf("after %d of %d records: %w", len(out), n, err)
		}
		out = append(out, kafkaGoRecord(m))
	}
	return out, nil
}

func kafkaGoRecord(m kafka.Message) Record {
	r := Record{Partition: int32(m.Partition), Offset: m.Offset, Timestamp: m.Time.UnixMilli(), Key: m.Key, Value: m.Value}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{h.Key, h.Value})
	}
	return r
}

// AsRead implements Lossy: kafka-go's reader gives nil for empty keys and values too.
func (k *KafkaGo) AsRead(r Record) Record {
	if len(r.Key) == 0 {
		r.Key = nil
	}
	if len(r.Value) == 0 {
		r.Value = nil
	}
	return r
}

// Offset implements Client.
func (k *KafkaGo) Offset(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	c, done := k.client()
	defer done()
	var ask kafka.OffsetRequest
	switch at {
	case Earliest:
		ask = kafka.FirstOffsetOf(int(partition))
	case Latest:
		ask = kafka.LastOffsetOf(int(partition))
	default:
		ask = kafka.TimeOffsetOf(int(partition), time.UnixMilli(at))
	}
	resp, err := c.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {ask}}})
	if err != nil {
		return 0, err
	}
	for _, p := range resp.Topics[topic] {
		if p.Error != nil {
			return 0, p.Error
		}
		switch at {
		case Earliest:
			return p.FirstOffset, nil
		case Latest:
			return p.LastOffset, nil
		}
		for offset := range p.Offsets {
			return offset, nil
		}
	}
	return 0, fmt.Errorf("no answer for %s-%d", topic, partition)
}

// CreateTopic implements Admin.
func (k *KafkaGo) CreateTopic(ctx context.Context, topic string, partitions int, configs map[string]string) error {
	c, done := k.client()
	defer done()
	t := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: -1}
	for key, v := range configs {
		t.ConfigEntries = append(t.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: v})
	}
	resp, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{t}})
	if err != nil {
		return err
	}
	return resp.Errors[topic]
}

// Partitions implements Admin.
func (k *KafkaGo) Partitions(ctx context.Context, topic string) (int, error) {
	c, done := k.client()
	defer done()
	resp, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	for _, t := range resp.Topics {
		if t.Name != topic {
			continue
		}
		if errors.Is(t.Error, kafka.UnknownTopicOrPartition) {
			return 0, nil
		}
		return len(t.Partitions), t.Error
	}
	return 0, nil
}

// DeleteTopic implements Admin.
func (k *KafkaGo) DeleteTopic(ctx context.Context, topic string) error {
	c, done := k.client()
	defer done()
	resp, err := c.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return resp.Errors[topic]
}

// AddPartitions implements Admin.
func (k *KafkaGo) AddPartitions(ctx context.Context, topic string, total int) error {
	c, done := k.client()
	defer done()
	resp, err := c.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(total)}}})
	if err != nil {
		return err
	}
	return resp.Errors[topic]
}

// TopicConfig implements Admin.
func (k *KafkaGo) TopicConfig(ctx context.Context, topic, key string) (string, error) {
	c, done := k.client()
	defer done()
	resp, err := c.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{key}}}})
	if err != nil {
		return "", err
	}
	for _, r := range resp.Resources {
		if r.Error != nil {
			return "", r.Error
		}
		for _, e := range r.ConfigEntries {
			if e.ConfigName == key {
				return e.ConfigValue, nil
			}
		}
	}
	return "", fmt.Errorf("%s has no config %s", topic, key)
}

// SetTopicConfig implements Admin.
func (k *KafkaGo) SetTopicConfig(ctx context.Context, topic, key, value string) error {
	c, done := k.client()
	defer done()
	resp, err := c.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
		Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: key, Value: value, ConfigOperation: kafka.ConfigOperationSet}}}}})
	if err != nil {
		return err
	}
	for _, r := range resp.Resources {
		if r.Error != nil {
			return r.Error
		}
	}
	return nil
}

// DeleteRecords implements Admin.
func (k *KafkaGo) DeleteRecords(context.Context, string, int32, int64) error {
	return unsupported("kafka-go has no DeleteRecords call")
}

// Groups implements Admin.
func (k *KafkaGo) Groups(ctx context.Context) ([]string, error) {
	c, done := k.client()
	defer done()
	resp, err := c.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, g := range resp.Groups {
		names = append(names, g.GroupID)
	}
	return names, resp.Error
}

// Group implements Admin.
func (k *KafkaGo) Group(ctx context.Context, group string) (GroupInfo, error) {
	c, done := k.client()
	defer done()
	resp, err := c.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return GroupInfo{}, err
	}
	if len(resp.Groups) != 1 {
		return GroupInfo{}, fmt.Errorf("%d answers for one group", len(resp.Groups))
	}
	g := resp.Groups[0]
	return GroupInfo{State: g.GroupState, Members: len(g.Members)}, g.Error
}

// DeleteGroup implements Admin.
func (k *KafkaGo) DeleteGroup(ctx context.Context, group string) error {
	c, done := k.client()
	defer done()
	resp, err := c.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return err
	}
	return resp.Errors[group]
}

// Committed implements Admin.
func (k *KafkaGo) Committed(ctx context.Context, group, topic string, partition int32) (int64, error) {
	c, done := k.client()
	defer done()
	resp, err := c.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {int(partition)}}})
	if err != nil {
		return 0, err
	}
	for _, p := range resp.Topics[topic] {
		return p.CommittedOffset, p.Error
	}
	return 0, errors.Join(resp.Error, errors.New("no answer for "+topic+"-"+strconv.Itoa(int(partition))))
}

// kafkaGoMember is a consumer of a kafka-go group, on the library's own low-level group because its
// Reader does not tell which partitions it owns.
type kafkaGoMember struct {
	*inbox
	topic string
	group *kafka.ConsumerGroup
	cut   *cutter
	stop  context.CancelFunc
	done  sync.WaitGroup

	gmu sync.Mutex
	gen *kafka.Generation // guarded by gmu; nil before the first
}

// Join implements Client.
func (k *KafkaGo) Join(_ context.Context, o GroupOptions) (Member, error) {
	if o.InstanceID != "" {
		return nil, unsupported("kafka-go has no group.instance.id")
	}
	if o.Cooperative {
		return nil, unsupported("kafka-go has no cooperative assignor")
	}
	m := &kafkaGoMember{inbox: newInbox(), topic: o.Topic, cut: new(cutter)}
	dialer := &kafka.Dialer{Timeout: 5 * time.Second, DialFunc: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return m.cut.DialContext(ctx, network, addr)
	}}
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: o.Group, Brokers: []string{k.addr}, Dialer: dialer, Topics: []string{o.Topic}, StartOffset: kafka.FirstOffset,
		SessionTimeout: o.session(), HeartbeatInterval: heartbeatEvery, JoinGroupBackoff: 200 * time.Millisecond,
		GroupBalancers: []kafka.GroupBalancer{kafka.RangeGroupBalancer{}},
	})
	if err != nil {
		return nil, err
	}
	m.group = g
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background())
	m.done.Go(func() {
		for {
			gen, err := g.Next(ctx)
			if errors.Is(err, kafka.ErrGroupClosed) || ctx.Err() != nil {
				return
			}
			if err != nil {
				continue // the group backs off and joins again by itself
			}
			m.gmu.Lock()
			m.gen = gen
			m.gmu.Unlock()
			var owned []int32
			for _, a := range gen.Assignments[o.Topic] {
				owned = append(owned, int32(a.ID))
			}
			m.assign(owned)
			for _, a := range gen.Assignments[o.Topic] {
				gen.Start(func(ctx context.Context) {
					defer m.remove([]int32{int32(a.ID)})
					r, err := k.reader(o.Topic, int32(a.ID), a.Offset, dialer)
					if err != nil {
						m.fail(err)
						return
					}
					defer closeQuietly(r)
					for {
						msg, err := r.ReadMessage(ctx)
						if err != nil {
							return // the generation has ended, or the member has been cut off
						}
						m.deliver(kafkaGoRecord(msg))
					}
				})
			}
		}
	})
	return m, nil
}

// Commit implements Member.
func (m *kafkaGoMember) Commit(context.Context) error {
	m.gmu.Lock()
	gen := m.gen
	m.gmu.Unlock()
	if gen == nil {
		return errors.New("the member has no generation yet")
	}
	offsets := make(map[int]int64)
	for p, o := range m.positions() {
		offsets[int(p)] = o
	}
	return gen.CommitOffsets(map[string]map[int]int64{m.topic: offsets})
}

// Leave implements Member.
func (m *kafkaGoMember) Leave(context.Context) error {
	err := m.group.Close()
	m.stop()
	m.done.Wait()
	m.fail(errLeft)
	return err
}

// Crash implements Member.
func (m *kafkaGoMember) Crash() {
	m.cut.Cut()
	closeQuietly(m.group)
	m.stop()
	m.done.Wait()
	m.fail(errLeft)
}
