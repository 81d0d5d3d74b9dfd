package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
)

// topicInfo is what metadata tells about a topic.
type topicInfo struct {
	name       string
	id         string // "" where the broker knows no ids
	internal   bool
	partitions []partitionInfo // by number
}

// partitionInfo is what metadata tells about a partition.
type partitionInfo struct {
	n           int32
	leader      int32 // -1: none
	leaderEpoch int32
	replicas    []int32
	isr         []int32
	offline     []int32
	err         error
}

// replication is the number of replicas of the topic's first partition; the others have
// as many unless a reassignment is under way.
func (t *topicInfo) replication() int {
	if len(t.partitions) == 0 {
		return 0
	}
	return len(t.partitions[0].replicas)
}

// topics returns the named topics, or all when there are no names.
func (c *client) topics(ctx context.Context, names ...string) ([]topicInfo, error) {
	md, err := c.adm.Metadata(ctx, names...)
	if err != nil {
		return nil, c.explain(err)
	}
	var list []topicInfo
	for _, t := range md.Topics.Sorted() {
		if t.Err != nil {
			return nil, failed(convert(t.Err), "topic %s", t.Topic)
		}
		info := topicInfo{name: t.Topic, internal: t.IsInternal}
		if t.ID != (kadm.TopicID{}) {
			info.id = model.TopicID(t.ID).String()
		}
		for _, p := range t.Partitions.Sorted() {
			info.partitions = append(info.partitions, partitionInfo{
				n: p.Partition, leader: p.Leader, leaderEpoch: p.LeaderEpoch,
				replicas: p.Replicas, isr: p.ISR, offline: p.OfflineReplicas, err: convert(p.Err),
			})
		}
		list = append(list, info)
	}
	return list, nil
}

// newTopic is a topic to be created; -1 takes the cluster's default.
type newTopic struct {
	partitions  int32
	replication int16
	configs     map[string]*string
	dryRun      bool
}

// createTopics creates topics; results come in the order of names, a nil error is success.
func (c *client) createTopics(ctx context.Context, n newTopic, names []string) ([]error, error) {
	create := c.adm.CreateTopics
	if n.dryRun {
		create = c.adm.ValidateCreateTopics
	}
	rs, err := create(ctx, n.partitions, n.replication, n.configs, names...)
	if err != nil {
		return nil, c.explain(err)
	}
	errs := make([]error, len(names))
	for i, name := range names {
		r, ok := rs[name]
		switch {
		case !ok:
			errs[i] = errors.New("the broker did not answer for it")
		case r.Err != nil:
			errs[i] = convertWith(r.Err, r.ErrMessage)
		}
	}
	return errs, nil
}

// deleteTopics deletes topics; results come in the order of names.
func (c *client) deleteTopics(ctx context.Context, names []string) ([]error, error) {
	rs, err := c.adm.DeleteTopics(ctx, names...)
	if err != nil {
		return nil, c.explain(err)
	}
	errs := make([]error, len(names))
	for i, name := range names {
		r, ok := rs[name]
		switch {
		case !ok:
			errs[i] = errors.New("the broker did not answer for it")
		case r.Err != nil:
			errs[i] = convertWith(r.Err, r.ErrMessage)
		}
	}
	return errs, nil
}

// setPartitions grows a topic to n partitions.
func (c *client) setPartitions(ctx context.Context, topic string, n int, dryRun bool) error {
	update := c.adm.UpdatePartitions
	if dryRun {
		update = c.adm.ValidateUpdatePartitions
	}
	rs, err := update(ctx, n, topic)
	if err != nil {
		return c.explain(err)
	}
	r := rs[topic]
	return convertWith(r.Err, r.ErrMessage)
}

// trim deletes the records before an offset in each partition (-1: before the high
// watermark) and returns the new log starts.
func (c *client) trim(ctx context.Context, before map[model.TopicPartition]int64) (map[model.TopicPartition]int64, error) {
	os := make(kadm.Offsets)
	for tp, o := range before {
		os.Add(kadm.Offset{Topic: tp.Topic, Partition: tp.Partition, At: o})
	}
	rs, err := c.adm.DeleteRecords(ctx, os)
	if err != nil {
		return nil, c.explain(err)
	}
	starts := make(map[model.TopicPartition]int64)
	for tp := range before {
		r, ok := rs[tp.Topic][tp.Partition]
		switch {
		case !ok:
			return nil, fmt.Errorf("the broker did not answer for %s", tp)
		case r.Err != nil:
			return nil, failed(convert(r.Err), "trim %s", tp)
		}
		starts[tp] = r.LowWatermark
	}
	return starts, nil
}

// configEntry is one key of a topic's or broker's configuration.
type configEntry struct {
	Key       string  `json:"key"`
	Value     *string `json:"value"`
	Source    string  `json:"source"`
	Sensitive bool    `json:"sensitive,omitempty"`
	ReadOnly  bool    `json:"read_only,omitempty"`
	Doc       string  `json:"doc,omitempty"`
}

// The kinds of resource that have a configuration.
const (
	topicResource  = kmsg.ConfigResourceTypeTopic
	brokerResource = kmsg.ConfigResourceTypeBroker
)

// describeConfig returns the configuration of a topic or a broker by key. name "" is the
// cluster-wide broker configuration.
func (c *client) describeConfig(ctx context.Context, kind resourceKind, name string) ([]configEntry, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeDocumentation = true
	res := kmsg.NewDescribeConfigsRequestResource()
	res.ResourceType, res.ResourceName = kind, name
	req.Resources = append(req.Resources, res)
	resp, err := req.RequestWith(ctx, c.cl)
	if err != nil {
		return nil, c.explain(err)
	}
	var list []configEntry
	for i := range resp.Resources {
		r := &resp.Resources[i]
		if err := errorOf(r.ErrorCode, r.ErrorMessage); err != nil {
			return nil, err
		}
		for j := range r.Configs {
			e := &r.Configs[j]
			ce := configEntry{Key: e.Name, Value: e.Value, Source: sourceName(e.Source), Sensitive: e.IsSensitive, ReadOnly: e.ReadOnly}
			if e.Documentation != nil {
				ce.Doc = *e.Documentation
			}
			list = append(list, ce)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Key < list[j].Key })
	return list, nil
}

// sourceName says where a value comes from, in product words.
func sourceName(s kmsg.ConfigSource) string {
	switch s {
	case kmsg.ConfigSourceDynamicTopicConfig:
		return "topic"
	case kmsg.ConfigSourceDynamicBrokerConfig:
		return "broker"
	case kmsg.ConfigSourceDynamicDefaultBrokerConfig:
		return "cluster"
	case kmsg.ConfigSourceStaticBrokerConfig:
		return "file"
	case kmsg.ConfigSourceDefaultConfig:
		return "default"
	}
	return strings.ToLower(s.String())
}

// configOp is what a configChange does to its key, and resourceKind whose configuration it is.
type (
	configOp     = kmsg.IncrementalAlterConfigOp
	resourceKind = kmsg.ConfigResourceType
)

// configChange is one --set, --append, --remove or --unset.
type configChange struct {
	op    configOp
	key   string
	value *string
}

// The operations of a configChange.
const (
	setConfig    = kmsg.IncrementalAlterConfigOpSet
	unsetConfig  = kmsg.IncrementalAlterConfigOpDelete
	appendConfig = kmsg.IncrementalAlterConfigOpAppend
	removeConfig = kmsg.IncrementalAlterConfigOpSubtract
)

// alterConfig changes the configuration of a topic or a broker.
func (c *client) alterConfig(ctx context.Context, kind resourceKind, name string, changes []configChange, dryRun bool) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = dryRun
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kind, name
	for _, ch := range changes {
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Op, rc.Name, rc.Value = ch.op, ch.key, ch.value
		res.Configs = append(res.Configs, rc)
	}
	req.Resources = append(req.Resources, res)
	resp, err := req.RequestWith(ctx, c.cl)
	if err != nil {
		return c.explain(err)
	}
	for i := range resp.Resources {
		if err := errorOf(resp.Resources[i].ErrorCode, resp.Resources[i].ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}

// replicaSize is what one broker stores of one partition.
type replicaSize struct {
	broker int32
	dir    string // of the partition; of all logs where the broker does not tell more
	bytes  int64
	// compaction is nil where the broker does not tell, or the topic is not compacted.
	compaction *wire.PartitionCompaction
	// damage is nil where nothing is known to be damaged.
	damage *wire.PartitionDamage
}

// sizes returns what is stored of each partition of the topics, of all topics if none is
// named; none for brokers that do not tell. It is additional knowledge: an error is no reason to fail.
func (c *client) sizes(ctx context.Context, topics ...string) map[model.TopicPartition][]replicaSize {
	m := make(map[model.TopicPartition][]replicaSize)
	// All topics are asked for and filtered here: the request would need their partitions.
	for _, shard := range c.cl.RequestSharded(ctx, kmsg.NewPtrDescribeLogDirsRequest()) {
		resp, ok := shard.Resp.(*kmsg.DescribeLogDirsResponse)
		if shard.Err != nil || !ok {
			continue
		}
		for _, d := range resp.Dirs {
			for _, t := range d.Topics {
				if len(topics) > 0 && !slices.Contains(topics, t.Topic) {
					continue
				}
				for _, p := range t.Partitions {
					if p.IsFuture {
						continue
					}
					size := replicaSize{broker: shard.Meta.NodeID, dir: d.Dir, bytes: p.Size}
					// Our brokers name the partition's own directory, and more.
					p.UnknownTags.Each(func(tag uint32, v []byte) {
						switch tag {
						case wire.TagPartitionDirectory:
							size.dir = string(v)
						case wire.TagPartitionCompaction:
							var c wire.PartitionCompaction
							if json.Unmarshal(v, &c) == nil {
								size.compaction = &c
							}
						case wire.TagPartitionDamage:
							var d wire.PartitionDamage
							if json.Unmarshal(v, &d) == nil {
								size.damage = &d
							}
						}
					})
					tp := model.TopicPartition{Topic: t.Topic, Partition: p.Partition}
					m[tp] = append(m[tp], size)
				}
			}
		}
	}
	for _, l := range m {
		sort.Slice(l, func(i, j int) bool { return l[i].broker < l[j].broker })
	}
	return m
}

// ends returns log starts and ends of a topic's partitions; partitions without a leader
// are left out.
func (c *client) ends(ctx context.Context, topic string) (starts, ends map[int32]int64, err error) {
	lo, err := c.adm.ListStartOffsets(ctx, topic)
	if err == nil {
		var hi kadm.ListedOffsets
		if hi, err = c.adm.ListEndOffsets(ctx, topic); err == nil {
			return listed(lo[topic]), listed(hi[topic]), nil
		}
	}
	return nil, nil, failed(c.explain(err), "offsets of %s", topic)
}

// listed takes the offsets out of an answer to ListOffsets.
func listed(ps map[int32]kadm.ListedOffset) map[int32]int64 {
	m := make(map[int32]int64, len(ps))
	for p, o := range ps {
		if o.Err == nil {
			m[p] = o.Offset
		}
	}
	return m
}

// placeRows returns where the logs of a topic begin and end and, when at is a time, the
// first record at or after it.
func (c *client) placeRows(ctx context.Context, topic string, at startSpec) ([]placeRow, error) {
	spans, err := c.spans(ctx, consumeSpec{topics: []string{topic}})
	if err != nil {
		return nil, err
	}
	var found kadm.ListedOffsets
	if at.kind == startTime {
		if found, err = c.adm.ListOffsetsAfterMilli(ctx, at.at.UnixMilli(), topic); err != nil {
			return nil, failed(c.explain(err), "offsets of %s", topic)
		}
	}
	// Whoever may not see the configuration gets the bound, which always holds.
	config, err := c.describeConfig(ctx, topicResource, topic)
	compacted := err != nil || compacts(config)
	rows := make([]placeRow, 0, len(spans))
	for tp, sp := range spans {
		r := placeRow{Topic: tp.Topic, Partition: tp.Partition, Start: sp.start, End: sp.end, compacted: compacted}
		// Without a record at or after the time the answer has no timestamp.
		if o, ok := found.Lookup(topic, tp.Partition); ok && o.Err == nil && o.Timestamp >= 0 {
			when := time.UnixMilli(o.Timestamp).UTC().Format("2006-01-02T15:04:05.000Z")
			r.At, r.Time = &o.Offset, &when
		}
		rows = append(rows, r)
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Partition < rows[j].Partition })
	return rows, nil
}
