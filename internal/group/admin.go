package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// describe handles DescribeGroups v0-6 for the groups of this shard. A group that does
// not exist is Dead, and from v6 on an error as well (KIP-1043).
func (s *Shard) describe(c *Call, req *kmsg.DescribeGroupsRequest) {
	resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
	for _, id := range req.Groups {
		resp.Groups = append(resp.Groups, s.describeOne(c, req.Version, id))
	}
	s.reply(c, resp)
}

func (s *Shard) describeOne(c *Call, version int16, id string) kmsg.DescribeGroupsResponseGroup {
	rg := kmsg.NewDescribeGroupsResponseGroup()
	rg.Group = id
	if id == "" {
		rg.ErrorCode, rg.ErrorMessage = kerr.InvalidGroupID.Code, kerr.Message(kerr.InvalidGroupID)
		return rg
	}
	g := s.groups[id]
	if g == nil {
		rg.State = "Dead"
		if version >= 6 {
			rg.ErrorCode = kerr.GroupIDNotFound.Code
			rg.ErrorMessage = kerr.Message(kerr.With(kerr.GroupIDNotFound, "Group %s not found.", id))
		}
		return rg
	}
	rg.State = g.state.String()
	rg.ProtocolType = g.protocolType
	if g.state == stable {
		rg.Protocol = g.protocol
	}
	for _, m := range g.members {
		rm := kmsg.NewDescribeGroupsResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.ClientID, rm.ClientHost = m.id, m.instance, m.clientID, m.host
		if g.state == stable {
			rm.ProtocolMetadata = m.metadata(g.protocol)
			rm.MemberAssignment = m.assignment
		}
		rg.Members = append(rg.Members, rm)
	}
	if c.Client.Kalda && version >= 5 {
		rg.UnknownTags.Set(TagRebalances, g.history.encode())
	}
	return rg
}

// list handles ListGroups v0-5 for this shard.
//
//	v4: filter by state (KIP-518)
//	v5: filter by type (KIP-848); all of ours are "classic"
func (s *Shard) list(c *Call, req *kmsg.ListGroupsRequest) {
	resp := req.ResponseKind().(*kmsg.ListGroupsResponse)
	// The filters may be long, and there are four states.
	passes := map[state]bool{}
	for _, st := range []state{empty, preparing, completing, stable} {
		passes[st] = stateFilter(req.StatesFilter, st.String())
	}
	if stateFilter(req.TypesFilter, "classic") {
		for _, id := range sortedKeys(s.groups) {
			g := s.groups[id]
			if !passes[g.state] {
				continue
			}
			rg := kmsg.NewListGroupsResponseGroup()
			rg.Group, rg.ProtocolType, rg.GroupState, rg.GroupType = id, g.protocolType, g.state.String(), "classic"
			resp.Groups = append(resp.Groups, rg)
		}
	}
	s.reply(c, resp)
}

// deleteGroups handles DeleteGroups v0-3 for the groups of this shard.
func (s *Shard) deleteGroups(c *Call, req *kmsg.DeleteGroupsRequest) {
	resp := req.ResponseKind().(*kmsg.DeleteGroupsResponse)
	for _, id := range req.Groups {
		rg := kmsg.NewDeleteGroupsResponseGroup()
		rg.Group = id
		if err := s.deleteOne(id); err != nil {
			rg.ErrorCode, rg.ErrorMessage = kerr.Code(err), kerr.Message(err)
		}
		resp.Groups = append(resp.Groups, rg)
	}
	s.reply(c, resp)
}

func (s *Shard) deleteOne(id string) error {
	g := s.groups[id]
	switch {
	case g == nil:
		return kerr.With(kerr.GroupIDNotFound, "Group %s not found.", id)
	case g.state != empty:
		return kerr.With(kerr.NonEmptyGroup, "Group %s is %s and has %d members.", id, g.state, len(g.members))
	}
	for _, topic := range sortedKeys(g.offsets) {
		for _, p := range sortedKeys(g.offsets[topic]) {
			s.writeOffsetTombstone(g, topic, p)
		}
	}
	if g.written {
		s.writeGroupTombstone(g)
	}
	s.drop(g)
	return nil
}
