package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// commitOffsets handles OffsetCommit v1-10. The topics exist and are allowed: broker has
// seen to that, and to topic ids (v10).
func (s *Shard) commitOffsets(c *Call, req *kmsg.OffsetCommitRequest) {
	g, err := s.checkCommit(req)
	if err != nil {
		s.refuse(c, err)
		return
	}
	s.committing = g // not to be dropped, though an offset of a former topic be its last
	defer func() { s.committing = nil }()
	resp := commitAnswer(req, 0)
	twice := repeated(req)
	for i := range req.Topics {
		t := &req.Topics[i]
		known := s.knowTopic(t.Topic)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			switch {
			case !known: // deleted since broker looked
				resp.Topics[i].Partitions[j].ErrorCode = kerr.UnknownTopicOrPartition.Code
				continue
			case twice[partitionKey{t.Topic, p.Partition}]:
				resp.Topics[i].Partitions[j].ErrorCode = kerr.InvalidRequest.Code
				continue
			}
			o := committed{offset: p.Offset, leaderEpoch: -1, commitMs: s.nowMs(), expireMs: -1}
			if p.Metadata != nil {
				o.metadata = *p.Metadata
			}
			if len(o.metadata) > s.opts.MaxMetadataBytes {
				resp.Topics[i].Partitions[j].ErrorCode = kerr.OffsetMetadataTooLarge.Code
				continue
			}
			if req.Version >= 6 {
				o.leaderEpoch = p.LeaderEpoch
			}
			if req.Version >= 2 && req.Version <= 4 && req.RetentionTimeMillis >= 0 {
				o.expireMs = o.commitMs + req.RetentionTimeMillis
			}
			if !s.room(g.offsetGrowth(t.Topic, p.Partition, o)) {
				resp.Topics[i].Partitions[j].ErrorCode = kerr.InvalidCommitOffsetSize.Code
				continue
			}
			g.setOffset(t.Topic, p.Partition, o)
			s.writeOffset(g, t.Topic, p.Partition, o)
			s.account(g)
		}
	}
	if g.isVoid() {
		s.drop(g)
	}
	s.reply(c, resp)
}

// checkCommit finds the group of a commit and keeps the member's session alive. A commit
// without a generation is for groups without members: tools, and consumers that assign
// themselves.
func (s *Shard) checkCommit(req *kmsg.OffsetCommitRequest) (*group, error) {
	generation, memberID := req.Generation, req.MemberID
	if req.Version < 1 {
		generation, memberID = -1, ""
	}
	g := s.groups[req.Group]
	switch {
	case g == nil && generation < 0 && len(req.Group) > maxIDBytes:
		return nil, kerr.InvalidGroupID
	case g == nil && generation < 0 && !s.room(groupBytes+2*len(req.Group)):
		return nil, kerr.InvalidCommitOffsetSize
	case g == nil && generation < 0:
		return s.create(req.Group), nil
	case g == nil && req.Version >= 9:
		return nil, kerr.GroupIDNotFound
	case g == nil:
		return nil, kerr.IllegalGeneration
	case generation < 0 && g.state == empty:
		return g, nil
	case generation < 0 && memberID == "" && req.InstanceID == nil:
		return nil, kerr.UnknownMemberID
	}
	m, err := g.check(memberID, req.InstanceID)
	switch {
	case err != nil:
		return nil, err
	case generation != g.generation:
		return nil, kerr.IllegalGeneration
	case g.state == completing:
		// It knows the new generation but not yet what it owns there.
		return nil, kerr.RebalanceInProgress
	}
	s.touch(g, m)
	return g, nil
}

// fetchOffsets handles OffsetFetch v1-10 for one group: from v8 on Service sends each
// group of a request on its own. A group that does not exist has no offsets, which is
// not an error. RequireStable asks for the open transactions' offsets, of which there
// are none.
func (s *Shard) fetchOffsets(c *Call, req *kmsg.OffsetFetchRequest) {
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	if req.Version >= 8 {
		for i := range req.Groups {
			resp.Groups = append(resp.Groups, s.fetchGroup(&req.Groups[i]))
		}
		s.reply(c, resp)
		return
	}
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = req.Group
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetFetchRequestGroupTopic()
		rt.Topic, rt.Partitions = t.Topic, t.Partitions
		rg.Topics = append(rg.Topics, rt)
	}
	if req.Version < 2 || req.Topics != nil {
		rg.Topics = slices.Grow(rg.Topics, 1) // an empty list is not "all"
	}
	for _, gt := range s.fetchGroup(&rg).Topics {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = gt.Topic
		for _, gp := range gt.Partitions {
			p := kmsg.NewOffsetFetchResponseTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = gp.Partition, gp.Offset, gp.LeaderEpoch, gp.Metadata
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	s.reply(c, resp)
}

func (s *Shard) fetchGroup(rg *kmsg.OffsetFetchRequestGroup) kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = rg.Group
	var offsets map[string]map[int32]committed
	if g := s.groups[rg.Group]; g != nil {
		offsets = g.offsets
	}
	told := map[partitionKey]bool{}
	answer := func(name string, id [16]byte, partitions []int32) {
		t := kmsg.NewOffsetFetchResponseGroupTopic()
		t.Topic, t.TopicID = name, id
		for _, p := range partitions {
			if k := (partitionKey{name, p}); len(partitions) > 1 || len(rg.Topics) > 1 {
				if told[k] {
					continue // each once: its metadata is a thousand times longer than the question
				}
				told[k] = true
			}
			rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = p, -1, -1
			o, ok := offsets[name][p]
			if ok {
				rp.Offset, rp.LeaderEpoch = o.offset, o.leaderEpoch
			}
			rp.Metadata = kmsg.StringPtr(o.metadata)
			t.Partitions = append(t.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, t)
	}
	if rg.Topics == nil {
		for _, name := range sortedKeys(offsets) {
			answer(name, [16]byte{}, sortedKeys(offsets[name]))
		}
		return resp
	}
	for i := range rg.Topics {
		answer(rg.Topics[i].Topic, rg.Topics[i].TopicID, rg.Topics[i].Partitions)
	}
	return resp
}

// deleteOffsets handles OffsetDelete v0 (KIP-496).
func (s *Shard) deleteOffsets(c *Call, req *kmsg.OffsetDeleteRequest) {
	g := s.groups[req.Group]
	switch {
	case req.Group == "":
		s.refuse(c, kerr.InvalidGroupID)
		return
	case g == nil:
		s.refuse(c, kerr.GroupIDNotFound)
		return
	case g.state != empty && g.protocolType != consumerProtocol:
		s.refuse(c, kerr.NonEmptyGroup)
		return
	}
	resp := req.ResponseKind().(*kmsg.OffsetDeleteResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition = p.Partition
			if g.state != empty && g.isSubscribed(t.Topic) {
				rp.ErrorCode = kerr.GroupSubscribedToTopic.Code
			} else if _, ok := g.offsets[t.Topic][p.Partition]; ok {
				s.writeOffsetTombstone(g, t.Topic, p.Partition)
				g.forgetOffset(t.Topic, p.Partition)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	s.account(g)
	if g.isVoid() {
		s.drop(g)
	}
	s.reply(c, resp)
}

// expire removes offsets whose time is over, and then groups of which nothing is left
// (KIP-211):
//
//   - of an empty group, offsets.retention.minutes after it became empty, or after the
//     commit if a tool committed later (Kafka would let that one expire early);
//   - of a stable consumer group, for topics that it does not subscribe to any more,
//     that long after the commit;
//   - of a group that never had members, that long after the commit.
//
// An offset whose client asked for a retention of its own (OffsetCommit v2-4) goes by
// that in each of the three cases.
func (s *Shard) expire() {
	for _, id := range sortedKeys(s.groups) {
		g := s.groups[id]
		if since, ok := g.retentionStart(); ok {
			for _, topic := range sortedKeys(g.offsets) {
				if g.state != empty && g.isSubscribed(topic) {
					continue
				}
				for _, p := range sortedKeys(g.offsets[topic]) {
					if s.isOver(g.offsets[topic][p], since) {
						s.writeOffsetTombstone(g, topic, p)
						g.forgetOffset(topic, p)
					}
				}
			}
		}
		s.account(g)
		if g.state == empty && len(g.offsets) == 0 && len(g.pending) == 0 {
			if g.written {
				s.writeGroupTombstone(g)
			}
			s.drop(g)
		}
	}
	s.watchRetention()
}

// retentionStart says from when on the retention of a group's offsets counts, unless an
// offset was committed later still; false when nothing expires now.
func (g *group) retentionStart() (since int64, ok bool) {
	switch {
	case g.protocolType == "":
		return -1, true
	case g.state == empty:
		return g.stateSince, true
	default:
		return -1, g.state == stable && g.subscribedKnown
	}
}

func (s *Shard) isOver(o committed, since int64) bool {
	if o.expireMs >= 0 {
		return s.nowMs() >= o.expireMs
	}
	return s.nowMs()-max(since, o.commitMs) >= s.opts.OffsetsRetention.Milliseconds()
}
