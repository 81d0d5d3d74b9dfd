package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// tagRebalances is the tagged field of DescribeGroups in which kalda's brokers send the
// history of a group's rebalances; see docs/format/kalda-tags.md. Other brokers send none.
const tagRebalances = 10000

// rebalance is one entry of that history, in the form in which it travels.
type rebalance struct {
	StartedMs  int64    `json:"startedMs"`
	EndedMs    int64    `json:"endedMs"` // 0 while it goes on
	Generation int32    `json:"generation"`
	Members    int      `json:"members"`
	Reasons    []string `json:"reasons"`
	More       int      `json:"more"` // reasons that were left out
}

// groupInfo is what its coordinator tells about a group.
type groupInfo struct {
	name         string
	state        string
	protocolType string
	protocol     string
	coordinator  int32 // -1 when it was not asked for
	members      []memberInfo
	rebalances   []rebalance // oldest first
}

// memberInfo is one member of a group.
type memberInfo struct {
	id, instance, client, host string
	topics                     []string // subscribed
	owned                      []model.TopicPartition
}

// listedGroup is a group as ListGroups tells it.
type listedGroup struct {
	name, state, protocolType string
	coordinator               int32
}

// coordinatorPause is the time between two questions to a coordinator that is not ready.
const coordinatorPause = 100 * time.Millisecond

// coordinated calls fn again while there is no coordinator: on a new cluster the first
// question about a group makes the topic of the offsets, and a coordinator that moved
// loads its groups first.
func coordinated[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	for {
		v, err := fn()
		if !errors.Is(err, kerr.CoordinatorNotAvailable) && !errors.Is(err, kerr.CoordinatorLoadInProgress) && !errors.Is(err, kerr.NotCoordinator) {
			return v, err
		}
		if pause(ctx, coordinatorPause) != nil {
			return v, err // it says more than that the time is up
		}
	}
}

// groups lists all groups by name.
func (c *client) groups(ctx context.Context) ([]listedGroup, error) {
	gs, err := coordinated(ctx, func() (kadm.ListedGroups, error) {
		gs, err := c.adm.ListGroups(ctx)
		return gs, c.explain(err)
	})
	if err != nil {
		return nil, err
	}
	var list []listedGroup
	for _, g := range gs.Sorted() {
		list = append(list, listedGroup{g.Group, g.State, g.ProtocolType, g.Coordinator})
	}
	return list, nil
}

// describeGroups asks the coordinators of the groups. A group that does not exist is
// GROUP_ID_NOT_FOUND.
func (c *client) describeGroups(ctx context.Context, names ...string) ([]groupInfo, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return coordinated(ctx, func() ([]groupInfo, error) { return c.describeOnce(ctx, names) })
}

func (c *client) describeOnce(ctx context.Context, names []string) ([]groupInfo, error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = names
	resp, err := req.RequestWith(ctx, c.cl)
	if err != nil {
		return nil, c.explain(err)
	}
	coordinators := c.adm.FindGroupCoordinators(ctx, names...)
	var list []groupInfo
	for i := range resp.Groups {
		g := &resp.Groups[i]
		if err := errorOf(g.ErrorCode, g.ErrorMessage); err != nil {
			return nil, failed(err, "group %s", g.Group)
		}
		info := groupInfo{name: g.Group, state: g.State, protocolType: g.ProtocolType, protocol: g.Protocol, coordinator: -1}
		if co, ok := coordinators[g.Group]; ok && co.Err == nil {
			info.coordinator = co.NodeID
		}
		for j := range g.Members {
			info.members = append(info.members, memberOf(g.ProtocolType, &g.Members[j]))
		}
		sort.Slice(info.members, func(a, b int) bool { return info.members[a].id < info.members[b].id })
		var bad error
		g.UnknownTags.Each(func(tag uint32, value []byte) {
			if tag == tagRebalances {
				bad = json.Unmarshal(value, &info.rebalances)
			}
		})
		if bad != nil {
			return nil, fmt.Errorf("group %s: the broker's history of rebalances: %w", g.Group, bad)
		}
		list = append(list, info)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].name < list[j].name })
	return list, nil
}

// memberOf reads a member. What it subscribed to and owns is known only for consumers,
// whose bytes have a common form.
func memberOf(protocolType string, m *kmsg.DescribeGroupsResponseGroupMember) memberInfo {
	info := memberInfo{id: m.MemberID, client: m.ClientID, host: m.ClientHost}
	if m.InstanceID != nil {
		info.instance = *m.InstanceID
	}
	if protocolType != "consumer" {
		return info
	}
	var meta kmsg.ConsumerMemberMetadata
	if meta.ReadFrom(m.ProtocolMetadata) == nil {
		info.topics = meta.Topics
	}
	var owned kmsg.ConsumerMemberAssignment
	if len(m.MemberAssignment) > 0 && owned.ReadFrom(m.MemberAssignment) == nil {
		for _, t := range owned.Topics {
			for _, p := range t.Partitions {
				info.owned = append(info.owned, model.TopicPartition{Topic: t.Topic, Partition: p})
			}
		}
	}
	return info
}

// spansOf returns the readable part of the partitions of topics; topics that are gone and
// partitions without a leader are left out.
func (c *client) spansOf(ctx context.Context, topics []string) (map[model.TopicPartition]span, error) {
	m := make(map[model.TopicPartition]span)
	if len(topics) == 0 {
		return m, nil
	}
	starts, err := c.adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, c.explain(err)
	}
	ends, err := c.adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, c.explain(err)
	}
	ends.Each(func(e kadm.ListedOffset) {
		if s, ok := starts.Lookup(e.Topic, e.Partition); ok && s.Err == nil && e.Err == nil {
			m[model.TopicPartition{Topic: e.Topic, Partition: e.Partition}] = span{s.Offset, e.Offset}
		}
	})
	return m, nil
}

// timestampsWait bounds how long timestamps may take; what is missing then stays unknown.
const timestampsWait = 5 * time.Second

// timestamps returns the timestamp of the first record at or after an offset in each
// partition. The protocol has no question for that, so the records are read: one batch
// of each partition, all partitions of a broker in one fetch.
func (a *app) timestamps(ctx context.Context, at map[model.TopicPartition]int64) (map[model.TopicPartition]time.Time, error) {
	found := make(map[model.TopicPartition]time.Time, len(at))
	if len(at) == 0 {
		return found, nil
	}
	places := make(map[string]map[int32]kgo.Offset)
	for tp, o := range at {
		if places[tp.Topic] == nil {
			places[tp.Topic] = make(map[int32]kgo.Offset)
		}
		places[tp.Topic][tp.Partition] = kgo.NewOffset().At(o)
	}
	ctx, cancel := context.WithTimeout(ctx, timestampsWait)
	defer cancel()
	c, err := a.open(ctx, kgo.ConsumePartitions(places), kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond),
		// A broker sends at least one whole batch, whatever its size; more is not needed.
		kgo.FetchMaxPartitionBytes(1<<10), kgo.FetchMaxBytes(1<<20))
	if err != nil {
		return nil, err
	}
	defer c.close()
	for len(found) < len(at) && ctx.Err() == nil {
		fs := c.cl.PollFetches(ctx)
		done := make(map[string][]int32)
		fs.EachPartition(func(p kgo.FetchTopicPartition) {
			tp := model.TopicPartition{Topic: p.Topic, Partition: p.Partition}
			if _, ok := found[tp]; !ok && len(p.Records) > 0 {
				found[tp] = p.Records[0].Timestamp
				done[p.Topic] = append(done[p.Topic], p.Partition)
			}
		})
		c.cl.RemoveConsumePartitions(done)
	}
	return found, nil
}

// commitOffsets sets the group's committed offsets. The group must have no members.
func (c *client) commitOffsets(ctx context.Context, group string, at map[model.TopicPartition]int64) error {
	os := make(kadm.Offsets)
	for tp, o := range at {
		os.Add(kadm.Offset{Topic: tp.Topic, Partition: tp.Partition, At: o, LeaderEpoch: -1})
	}
	_, err := coordinated(ctx, func() (struct{}, error) {
		rs, err := c.adm.CommitOffsets(ctx, group, os)
		if err != nil {
			return struct{}{}, c.explain(err)
		}
		var first error
		rs.Each(func(r kadm.OffsetResponse) {
			if r.Err != nil && first == nil {
				first = failed(convert(r.Err), "commit %s-%d", r.Topic, r.Partition)
			}
		})
		return struct{}{}, first
	})
	return err
}

// deleteGroups deletes groups; results come in the order of names.
func (c *client) deleteGroups(ctx context.Context, names []string) ([]error, error) {
	rs, err := c.adm.DeleteGroups(ctx, names...)
	if err != nil && len(rs) == 0 {
		return nil, c.explain(err)
	}
	errs := make([]error, len(names))
	for i, n := range names {
		r, ok := rs[n]
		switch {
		case !ok:
			errs[i] = errors.New("the broker did not answer for it")
		case r.Err != nil:
			errs[i] = convertWith(r.Err, r.ErrMessage)
		}
	}
	return errs, nil
}

// deleteOffsets forgets committed offsets of a group; results come in the order of tps.
func (c *client) deleteOffsets(ctx context.Context, group string, tps []model.TopicPartition) ([]error, error) {
	set := make(kadm.TopicsSet)
	for _, tp := range tps {
		set.Add(tp.Topic, tp.Partition)
	}
	rs, err := coordinated(ctx, func() (kadm.DeleteOffsetsResponses, error) {
		rs, err := c.adm.DeleteOffsets(ctx, group, set)
		return rs, c.explain(err)
	})
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(tps))
	for i, tp := range tps {
		if e, ok := rs.Lookup(tp.Topic, tp.Partition); ok {
			errs[i] = convert(e)
		} else {
			errs[i] = kerr.UnknownTopicOrPartition
		}
	}
	return errs, nil
}
