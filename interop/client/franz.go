package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Franz is franz-go. It is also the observer by which scenarios check other clients, because it
// reads everything that the protocol tells.
type Franz struct{ addr string }

// NewFranz returns franz-go bound to a broker.
func NewFranz(addr string) *Franz { return &Franz{addr: addr} }

// Name implements Client.
func (f *Franz) Name() string { return "franz-go" }

// Version implements Client.
func (f *Franz) Version() string { return moduleVersion("github.com/twmb/franz-go") }

func (f *Franz) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(f.addr), kgo.MetadataMinAge(50 * time.Millisecond)}, opts...)...)
}

// Produce implements Client.
func (f *Franz) Produce(ctx context.Context, topic string, o ProduceOptions, recs []Record) ([]Ack, error) {
	codec := map[Codec]kgo.CompressionCodec{"": kgo.NoCompression(), None: kgo.NoCompression(), Gzip: kgo.GzipCompression(),
		Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression()}[o.Codec]
	acks := map[Acks]kgo.Acks{AcksNone: kgo.NoAck(), AcksLeader: kgo.LeaderAck(), AcksAll: kgo.AllISRAcks()}[o.Acks]
	byHash := kgo.StickyKeyPartitioner(nil)
	opts := []kgo.Opt{kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec), kgo.RequiredAcks(acks),
		kgo.RecordPartitioner(byHash), kgo.ProducerLinger(0)}
	if v := map[BrokerVersion]*kversion.Versions{Kafka09: kversion.V0_9_0(), Kafka010: kversion.V0_10_0()}[o.Old]; v != nil {
		opts = append(opts, kgo.MaxVersions(v))
	}
	if !o.Idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	if len(recs) > 0 && recs[0].Partition != AnyPartition {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	cl, err := f.client(opts...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	out := make([]*kgo.Record, len(recs))
	for i, r := range recs {
		out[i] = &kgo.Record{Key: r.Key, Value: r.Value, Partition: r.Partition}
		if r.Timestamp != 0 {
			out[i].Timestamp = time.UnixMilli(r.Timestamp)
		}
		for _, h := range r.Headers {
			out[i].Headers = append(out[i].Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	if err := cl.ProduceSync(ctx, out...).FirstErr(); err != nil {
		return nil, err
	}
	got := make([]Ack, len(out))
	for i, r := range out {
		got[i] = Ack{r.Partition, r.Offset}
		if o.Acks == AcksNone {
			got[i].Offset = -1
		}
	}
	return got, nil
}

// Read implements Client.
func (f *Franz) Read(ctx context.Context, topic string, partition int32, from int64, n int) ([]Record, error) {
	at := kgo.NewOffset().At(from)
	if from == Earliest {
		at = kgo.NewOffset().AtStart()
	}
	cl, err := f.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: at}}), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var out []Record
	for len(out) < n {
		fetches := cl.PollFetches(ctx)
		if err := firstErr(fetches); err != nil {
			return out, fmt.Errorf("after %d of %d records: %w", len(out), n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { out = append(out, franzRecord(r)) })
	}
	return out[:n], nil
}

func franzRecord(r *kgo.Record) Record {
	out := Record{Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, Header{h.Key, h.Value})
	}
	return out
}

func firstErr(f kgo.Fetches) error {
	for _, e := range f.Errors() {
		return e.Err
	}
	return nil
}

// Offset implements Client.
func (f *Franz) Offset(ctx context.Context, topic string, partition int32, at int64) (offset int64, err error) {
	err = f.withAdmin(func(adm *kadm.Client) error {
		var listed kadm.ListedOffsets
		switch at {
		case Earliest:
			listed, err = adm.ListStartOffsets(ctx, topic)
		case Latest:
			listed, err = adm.ListEndOffsets(ctx, topic)
		default:
			// kadm answers the end where no record is that young; the raw answer is -1, which it
			// tells by leaving the timestamp at -1.
			listed, err = adm.ListOffsetsAfterMilli(ctx, at, topic)
		}
		if err != nil {
			return err
		}
		o, ok := listed.Lookup(topic, partition)
		if !ok {
			return fmt.Errorf("no answer for %s-%d", topic, partition)
		}
		offset = o.Offset
		if at >= 0 && o.Timestamp == -1 {
			offset = -1
		}
		return o.Err
	})
	return offset, err
}

func (f *Franz) withAdmin(do func(*kadm.Client) error) error {
	cl, err := f.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return do(kadm.NewClient(cl))
}

// Seen is how the batch around one record looked on the wire.
type Seen struct {
	Codec      Codec
	ProducerID int64 // -1 without an idempotent producer
}

// Inspect reads n records from the start of a partition and tells how their batches looked.
func (f *Franz) Inspect(ctx context.Context, topic string, partition int32, n int) ([]Seen, error) {
	cl, err := f.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}),
		kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var out []Seen
	for len(out) < n {
		fetches := cl.PollFetches(ctx)
		if err := firstErr(fetches); err != nil {
			return out, fmt.Errorf("after %d of %d records: %w", len(out), n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			out = append(out, Seen{Codecs()[r.Attrs.CompressionType()], r.ProducerID})
		})
	}
	return out[:n], nil
}

// Generation returns a group's generation, found by heartbeats as one of its members: the right one
// is the only one that the coordinator does not refuse. Works for every client's group, because no
// answer to an administrator tells it.
func (f *Franz) Generation(ctx context.Context, group string) (generation int32, err error) {
	err = f.withAdmin(func(adm *kadm.Client) error {
		groups, err := adm.DescribeGroups(ctx, group)
		if err != nil {
			return err
		}
		if err := groups.Error(); err != nil {
			return err
		}
		members := groups[group].Members
		if len(members) == 0 {
			return fmt.Errorf("group %s has no member", group)
		}
		cl, err := f.client()
		if err != nil {
			return err
		}
		defer cl.Close()
		for generation = 1; generation < 100; generation++ {
			req := kmsg.NewPtrHeartbeatRequest()
			req.Group, req.MemberID, req.InstanceID, req.Generation = group, members[0].MemberID, members[0].InstanceID, generation
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return err
			}
			switch err := kerr.ErrorForCode(resp.ErrorCode); {
			case err == nil || errors.Is(err, kerr.RebalanceInProgress):
				return nil
			case !errors.Is(err, kerr.IllegalGeneration):
				return err
			}
		}
		return fmt.Errorf("group %s: no generation below 100 was accepted", group)
	})
	return generation, err
}

// CreateTopic implements Admin.
func (f *Franz) CreateTopic(ctx context.Context, topic string, partitions int, configs map[string]string) error {
	values := make(map[string]*string)
	for k, v := range configs {
		values[k] = &v
	}
	return f.withAdmin(func(adm *kadm.Client) error {
		_, err := adm.CreateTopic(ctx, int32(partitions), -1, values, topic)
		return err
	})
}

// Partitions implements Admin.
func (f *Franz) Partitions(ctx context.Context, topic string) (n int, err error) {
	err = f.withAdmin(func(adm *kadm.Client) error {
		topics, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		t := topics[topic]
		if errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
			return nil
		}
		n = len(t.Partitions)
		return t.Err
	})
	return n, err
}

// DeleteTopic implements Admin.
func (f *Franz) DeleteTopic(ctx context.Context, topic string) error {
	return f.withAdmin(func(adm *kadm.Client) error {
		_, err := adm.DeleteTopic(ctx, topic)
		return err
	})
}

// AddPartitions implements Admin.
func (f *Franz) AddPartitions(ctx context.Context, topic string, total int) error {
	return f.withAdmin(func(adm *kadm.Client) error {
		resp, err := adm.UpdatePartitions(ctx, total, topic)
		if err != nil {
			return err
		}
		return resp[topic].Err
	})
}

// TopicConfig implements Admin.
func (f *Franz) TopicConfig(ctx context.Context, topic, key string) (value string, err error) {
	err = f.withAdmin(func(adm *kadm.Client) error {
		resp, err := adm.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return err
		}
		rc, err := resp.On(topic, nil)
		if err != nil {
			return err
		}
		if rc.Err != nil {
			return rc.Err
		}
		for _, c := range rc.Configs {
			if c.Key == key {
				value = c.MaybeValue()
				return nil
			}
		}
		return fmt.Errorf("%s has no config %s", topic, key)
	})
	return value, err
}

// SetTopicConfig implements Admin.
func (f *Franz) SetTopicConfig(ctx context.Context, topic, key, value string) error {
	return f.withAdmin(func(adm *kadm.Client) error {
		resp, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
		if err != nil {
			return err
		}
		r, err := resp.On(topic, nil)
		if err != nil {
			return err
		}
		return r.Err
	})
}

// DeleteRecords implements Admin.
func (f *Franz) DeleteRecords(ctx context.Context, topic string, partition int32, before int64) error {
	return f.withAdmin(func(adm *kadm.Client) error {
		var o kadm.Offsets
		o.AddOffset(topic, partition, before, -1)
		resp, err := adm.DeleteRecords(ctx, o)
		if err != nil {
			return err
		}
		r, ok := resp.Lookup(topic, partition)
		if !ok {
			return fmt.Errorf("no answer for %s-%d", topic, partition)
		}
		return r.Err
	})
}

// Groups implements Admin.
func (f *Franz) Groups(ctx context.Context) (names []string, err error) {
	err = f.withAdmin(func(adm *kadm.Client) error {
		groups, err := adm.ListGroups(ctx)
		names = groups.Groups()
		return err
	})
	return names, err
}

// Group implements Admin.
func (f *Franz) Group(ctx context.Context, group string) (info GroupInfo, err error) {
	err = f.withAdmin(func(adm *kadm.Client) error {
		groups, err := adm.DescribeGroups(ctx, group)
		if err != nil {
			return err
		}
		g := groups[group]
		info = GroupInfo{State: g.State, Members: len(g.Members)}
		return g.Err
	})
	return info, err
}

// DeleteGroup implements Admin.
func (f *Franz) DeleteGroup(ctx context.Context, group string) error {
	return f.withAdmin(func(adm *kadm.Client) error {
		_, err := adm.DeleteGroup(ctx, group)
		return err
	})
}

// Committed implements Admin.
func (f *Franz) Committed(ctx context.Context, group, topic string, partition int32) (offset int64, err error) {
	err = f.withAdmin(func(adm *kadm.Client) error {
		got, err := adm.FetchOffsets(ctx, group)
		if err != nil {
			return err
		}
		offset = -1
		if o, ok := got.Lookup(topic, partition); ok {
			offset = o.At
			return o.Err
		}
		return nil
	})
	return offset, err
}

// franzMember is a group consumer of franz-go.
type franzMember struct {
	*inbox
	topic string
	cl    *kgo.Client
	cut   *cutter
	stop  context.CancelFunc // ends the polling
	die   context.CancelFunc // ends all that the client does
	done  sync.WaitGroup
}

// Join implements Client.
func (f *Franz) Join(_ context.Context, o GroupOptions) (Member, error) {
	m := &franzMember{inbox: newInbox(), topic: o.Topic, cut: new(cutter)}
	var life context.Context
	life, m.die = context.WithCancel(context.Background())
	opts := []kgo.Opt{
		kgo.WithContext(life),
		kgo.ConsumerGroup(o.Group), kgo.ConsumeTopics(o.Topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(o.session()), kgo.HeartbeatInterval(heartbeatEvery), kgo.FetchMaxWait(200 * time.Millisecond),
		kgo.Dialer(m.cut.DialContext),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) { m.add(got[o.Topic]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { m.remove(lost[o.Topic]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { m.remove(lost[o.Topic]) }),
	}
	if o.Cooperative {
		opts = append(opts, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	} else {
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer()))
	}
	if o.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(o.InstanceID))
	}
	cl, err := f.client(opts...)
	if err != nil {
		m.die()
		return nil, err
	}
	m.cl = cl
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background())
	m.done.Go(func() {
		for ctx.Err() == nil {
			fetches := cl.PollFetches(ctx)
			if fetches.IsClientClosed() {
				return
			}
			fetches.EachRecord(func(r *kgo.Record) { m.deliver(franzRecord(r)) })
		}
	})
	return m, nil
}

// Commit implements Member.
func (m *franzMember) Commit(ctx context.Context) error {
	offsets := make(map[int32]kgo.EpochOffset)
	for p, o := range m.positions() {
		offsets[p] = kgo.EpochOffset{Epoch: -1, Offset: o}
	}
	var failed error
	m.cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{m.topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			failed = err
			if err != nil {
				return
			}
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					failed = errors.Join(failed, kerr.ErrorForCode(p.ErrorCode))
				}
			}
		})
	return failed
}

// Leave implements Member.
func (m *franzMember) Leave(context.Context) error {
	m.stop()
	m.cl.Close() // leaves the group unless the member is static
	m.die()
	m.done.Wait()
	m.fail(errLeft)
	return nil
}

// Crash implements Member.
func (m *franzMember) Crash() {
	m.cut.Cut()
	m.stop()
	m.die() // without its context the client does not try to leave
	m.cl.Close()
	m.done.Wait()
	m.fail(errLeft)
}
