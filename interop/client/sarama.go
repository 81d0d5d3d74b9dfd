package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// Sarama is IBM/sarama.
type Sarama struct{ addr string }

// NewSarama returns sarama bound to a broker.
func NewSarama(addr string) *Sarama { return &Sarama{addr: addr} }

// Name implements Client.
func (s *Sarama) Name() string { return "sarama" }

// Version implements Client.
func (s *Sarama) Version() string { return moduleVersion("github.com/IBM/sarama") }

// config returns sarama's defaults, told to speak the newest protocol that it knows.
func (s *Sarama) config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.ClientID = "interop-sarama"
	c.Consumer.MaxWaitTime = 200 * time.Millisecond
	c.Producer.Return.Successes = true
	return c
}

// Produce implements Client.
func (s *Sarama) Produce(_ context.Context, topic string, o ProduceOptions, recs []Record) ([]Ack, error) {
	c := s.config()
	c.Producer.RequiredAcks = sarama.RequiredAcks(o.Acks)
	c.Producer.Compression = map[Codec]sarama.CompressionCodec{"": sarama.CompressionNone, None: sarama.CompressionNone,
		Gzip: sarama.CompressionGZIP, Snappy: sarama.CompressionSnappy, LZ4: sarama.CompressionLZ4, Zstd: sarama.CompressionZSTD}[o.Codec]
	switch o.Old {
	case Kafka09:
		if c.Version = sarama.V0_9_0_1; o.Codec == LZ4 {
			return nil, unsupported("sarama writes lz4 from broker version 0.10 on")
		}
	case Kafka010:
		c.Version = sarama.V0_10_0_1
	}
	c.Producer.Partitioner = sarama.NewMurmur2Partitioner
	if len(recs) > 0 && recs[0].Partition != AnyPartition {
		c.Producer.Partitioner = sarama.NewManualPartitioner
	}
	if o.Idempotent {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1 // sarama demands it
	}
	p, err := sarama.NewSyncProducer([]string{s.addr}, c)
	if err != nil {
		return nil, err
	}
	msgs := make([]*sarama.ProducerMessage, len(recs))
	for i, r := range recs {
		m := &sarama.ProducerMessage{Topic: topic, Partition: r.Partition}
		if r.Key != nil {
			m.Key = sarama.ByteEncoder(r.Key)
		}
		if r.Value != nil {
			m.Value = sarama.ByteEncoder(r.Value)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		msgs[i] = m
	}
	err = p.SendMessages(msgs)
	if err := errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	acks := make([]Ack, len(msgs))
	for i, m := range msgs {
		acks[i] = Ack{m.Partition, m.Offset}
		if o.Acks == AcksNone {
			acks[i].Offset = -1
		}
	}
	return acks, nil
}

// Read implements Client.
func (s *Sarama) Read(ctx context.Context, topic string, partition int32, from int64, n int) ([]Record, error) {
	c, err := sarama.NewConsumer([]string{s.addr}, s.config())
	if err != nil {
		return nil, err
	}
	defer closeQuietly(c)
	pc, err := c.ConsumePartition(topic, partition, from) // sarama's OffsetOldest is -2 too
	if err != nil {
		return nil, err
	}
	defer closeQuietly(pc)
	var out []Record
	for len(out) < n {
		select {
		case m := <-pc.Messages():
			out = append(out, saramaRecord(m))
		case <-ctx.Done():
			return out, fmt.Errorf("after %d of %d records: %w", len(out), n, ctx.Err())
		}
	}
	return out, nil
}

// closeQuietly closes what was only read from: its error changes nothing that was learnt.
func closeQuietly(c io.Closer) { _ = c.Close() }

func saramaRecord(m *sarama.ConsumerMessage) Record {
	r := Record{Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp.UnixMilli(), Key: m.Key, Value: m.Value}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{string(h.Key), h.Value})
	}
	return r
}

// Offset implements Client.
func (s *Sarama) Offset(_ context.Context, topic string, partition int32, at int64) (int64, error) {
	c, err := sarama.NewClient([]string{s.addr}, s.config())
	if err != nil {
		return 0, err
	}
	defer closeQuietly(c)
	return c.GetOffset(topic, partition, at)
}

func (s *Sarama) withAdmin(do func(sarama.ClusterAdmin) error) error {
	adm, err := sarama.NewClusterAdmin([]string{s.addr}, s.config())
	if err != nil {
		return err
	}
	defer closeQuietly(adm)
	return do(adm)
}

// CreateTopic implements Admin.
func (s *Sarama) CreateTopic(_ context.Context, topic string, partitions int, configs map[string]string) error {
	d := &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: -1, ConfigEntries: map[string]*string{}}
	for k, v := range configs {
		d.ConfigEntries[k] = &v
	}
	return s.withAdmin(func(adm sarama.ClusterAdmin) error { return adm.CreateTopic(topic, d, false) })
}

// Partitions implements Admin.
func (s *Sarama) Partitions(_ context.Context, topic string) (n int, err error) {
	err = s.withAdmin(func(adm sarama.ClusterAdmin) error {
		got, err := adm.DescribeTopics([]string{topic})
		if err != nil {
			return err
		}
		for _, t := range got {
			if t.Name != topic {
				continue
			}
			if t.Err == sarama.ErrUnknownTopicOrPartition {
				return nil
			}
			if t.Err != sarama.ErrNoError {
				return t.Err
			}
			n = len(t.Partitions)
		}
		return nil
	})
	return n, err
}

// DeleteTopic implements Admin.
func (s *Sarama) DeleteTopic(_ context.Context, topic string) error {
	return s.withAdmin(func(adm sarama.ClusterAdmin) error { return adm.DeleteTopic(topic) })
}

// AddPartitions implements Admin.
func (s *Sarama) AddPartitions(_ context.Context, topic string, total int) error {
	return s.withAdmin(func(adm sarama.ClusterAdmin) error { return adm.CreatePartitions(topic, int32(total), nil, false) })
}

// TopicConfig implements Admin.
func (s *Sarama) TopicConfig(_ context.Context, topic, key string) (value string, err error) {
	err = s.withAdmin(func(adm sarama.ClusterAdmin) error {
		got, err := adm.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{key}})
		if err != nil {
			return err
		}
		for _, e := range got {
			if e.Name == key {
				value = e.Value
				return nil
			}
		}
		return fmt.Errorf("%s has no config %s", topic, key)
	})
	return value, err
}

// SetTopicConfig implements Admin.
func (s *Sarama) SetTopicConfig(_ context.Context, topic, key, value string) error {
	return s.withAdmin(func(adm sarama.ClusterAdmin) error {
		return adm.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
			key: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}, false)
	})
}

// DeleteRecords implements Admin.
func (s *Sarama) DeleteRecords(_ context.Context, topic string, partition int32, before int64) error {
	return s.withAdmin(func(adm sarama.ClusterAdmin) error {
		return adm.DeleteRecords(topic, map[int32]int64{partition: before})
	})
}

// Groups implements Admin.
func (s *Sarama) Groups(context.Context) (names []string, err error) {
	err = s.withAdmin(func(adm sarama.ClusterAdmin) error {
		got, err := adm.ListConsumerGroups()
		for g := range got {
			names = append(names, g)
		}
		return err
	})
	return names, err
}

// Group implements Admin.
func (s *Sarama) Group(_ context.Context, group string) (info GroupInfo, err error) {
	err = s.withAdmin(func(adm sarama.ClusterAdmin) error {
		got, err := adm.DescribeConsumerGroups([]string{group})
		if err != nil {
			return err
		}
		if len(got) != 1 {
			return fmt.Errorf("%d answers for one group", len(got))
		}
		info = GroupInfo{State: got[0].State, Members: len(got[0].Members)}
		if got[0].Err != sarama.ErrNoError {
			return got[0].Err
		}
		return nil
	})
	return info, err
}

// DeleteGroup implements Admin.
func (s *Sarama) DeleteGroup(_ context.Context, group string) error {
	return s.withAdmin(func(adm sarama.ClusterAdmin) error { return adm.DeleteConsumerGroup(group) })
}

// Committed implements Admin. A coordinator that has just been elected says for a moment
// that it is loading; sarama leaves it to its users to ask again.
func (s *Sarama) Committed(ctx context.Context, group, topic string, partition int32) (offset int64, err error) {
	for {
		offset, err = s.committed(group, topic, partition)
		if !errors.Is(err, sarama.ErrOffsetsLoadInProgress) || ctx.Err() != nil {
			return offset, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Sarama) committed(group, topic string, partition int32) (offset int64, err error) {
	err = s.withAdmin(func(adm sarama.ClusterAdmin) error {
		got, err := adm.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
		if err != nil {
			return err
		}
		b := got.GetBlock(topic, partition)
		if b == nil {
			return fmt.Errorf("no answer for %s-%d", topic, partition)
		}
		offset = b.Offset
		if b.Err != sarama.ErrNoError {
			return b.Err
		}
		return nil
	})
	return offset, err
}

// saramaMember is a consumer of a sarama group.
type saramaMember struct {
	*inbox
	topic string
	group sarama.ConsumerGroup
	cut   *cutter
	stop  context.CancelFunc
	done  sync.WaitGroup

	smu     sync.Mutex
	session sarama.ConsumerGroupSession // guarded by smu; nil between sessions
}

// Join implements Client.
func (s *Sarama) Join(_ context.Context, o GroupOptions) (Member, error) {
	m := &saramaMember{inbox: newInbox(), topic: o.Topic, cut: new(cutter)}
	c := s.config()
	c.Net.Proxy.Enable = true
	c.Net.Proxy.Dialer = m.cut
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Session.Timeout = o.session()
	c.Consumer.Group.Heartbeat.Interval = heartbeatEvery
	c.Consumer.Group.InstanceId = o.InstanceID
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	if o.Cooperative {
		c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	}
	g, err := sarama.NewConsumerGroup([]string{s.addr}, o.Group, c)
	if err != nil {
		return nil, err
	}
	m.group = g
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background())
	m.done.Go(func() {
		for ctx.Err() == nil {
			err := g.Consume(ctx, []string{o.Topic}, m)
			if errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
			if err != nil && ctx.Err() == nil {
				log.Printf("sarama group %s: %v", o.Group, err) // it joins again by itself
			}
		}
	})
	return m, nil
}

// Setup implements sarama.ConsumerGroupHandler.
func (m *saramaMember) Setup(s sarama.ConsumerGroupSession) error {
	m.smu.Lock()
	m.session = s
	m.smu.Unlock()
	m.assign(s.Claims()[m.topic])
	return nil
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error {
	m.smu.Lock()
	m.session = nil
	m.smu.Unlock()
	m.remove(m.Assigned().Owned)
	return nil
}

// ConsumeClaim implements sarama.ConsumerGroupHandler. With a cooperative strategy a claim comes and
// goes while the session lives, so ownership follows the claims.
func (m *saramaMember) ConsumeClaim(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.hold(claim.Partition())
	defer m.remove([]int32{claim.Partition()})
	for msg := range claim.Messages() {
		m.deliver(saramaRecord(msg))
	}
	return nil
}

// Commit implements Member.
func (m *saramaMember) Commit(context.Context) error {
	m.smu.Lock()
	defer m.smu.Unlock()
	if m.session == nil {
		return errors.New("the member is between two sessions")
	}
	for p, o := range m.positions() {
		m.session.MarkOffset(m.topic, p, o, "")
	}
	m.session.Commit()
	return nil
}

// Leave implements Member.
func (m *saramaMember) Leave(context.Context) error {
	m.stop()
	err := m.group.Close() // leaves the group unless the member is static
	m.done.Wait()
	m.fail(errLeft)
	return err
}

// Crash implements Member.
func (m *saramaMember) Crash() {
	m.cut.Cut()
	m.stop()
	closeQuietly(m.group)
	m.done.Wait()
	m.fail(errLeft)
}
