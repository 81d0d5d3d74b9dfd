package group

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// sync handles SyncGroup v0-5: the leader brings the assignment, everybody waits for it.
func (s *Shard) sync(c *Call, req *kmsg.SyncGroupRequest) {
	if req.Group == "" {
		s.refuse(c, kerr.InvalidGroupID)
		return
	}
	g := s.groups[req.Group]
	if g == nil || g.state == empty {
		s.refuse(c, kerr.UnknownMemberID)
		return
	}
	m, err := g.check(req.MemberID, req.InstanceID)
	switch {
	case err != nil:
	case req.Generation != g.generation:
		err = kerr.IllegalGeneration
	case req.ProtocolType != nil && *req.ProtocolType != g.protocolType,
		req.Protocol != nil && *req.Protocol != g.protocol:
		err = kerr.InconsistentGroupProtocol
	case g.state == preparing:
		err = kerr.RebalanceInProgress
	}
	if err != nil {
		s.refuse(c, err)
		return
	}
	if g.state == completing && g.isLeader(m) && !s.canKeep(g, req) {
		// It still owes its SyncGroup: if it goes on like this, syncDue throws it out.
		s.refuse(c, kerr.With(kerr.InvalidRequest, "the assignment is larger than a group may be"))
		return
	}
	s.settleSync(g, m)
	if g.state == stable {
		s.touch(g, m)
		s.reply(c, g.syncAnswer(m, c))
		return
	}
	if m.sync != nil {
		s.refuse(m.sync, kerr.RebalanceInProgress) // a retry on another connection
	}
	m.sync = c
	if g.isLeader(m) {
		s.assign(g, req)
	}
}

// assign ends CompletingRebalance with the leader's assignment. The answers leave when
// the record is committed, so that nobody owns what a failover would take away.
func (s *Shard) assign(g *group, req *kmsg.SyncGroupRequest) {
	given := make(map[string][]byte, len(req.GroupAssignment))
	for _, a := range req.GroupAssignment {
		given[a.MemberID] = a.MemberAssignment
	}
	g.transition(stable, s.nowMs())
	for _, m := range g.members {
		g.setAssignment(m, given[m.id])
	}
	s.account(g)
	s.writeGroup(g)
	for _, m := range g.members {
		if m.sync != nil {
			s.reply(m.sync, g.syncAnswer(m, m.sync))
			m.sync = nil
			s.touch(g, m)
		}
	}
}

// canKeep says whether the group stays within Options.MaxGroupBytes with the assignment.
func (s *Shard) canKeep(g *group, req *kmsg.SyncGroupRequest) bool {
	size := g.bytes
	for _, m := range g.members {
		size -= len(m.assignment)
	}
	for _, a := range req.GroupAssignment {
		if g.byID[a.MemberID] != nil {
			size += len(a.MemberAssignment)
		}
	}
	return size <= s.opts.MaxGroupBytes && s.room(size-g.bytes)
}

// settleSync notes that m has sent SyncGroup; when all have, the sync phase has no end
// to wait for.
func (s *Shard) settleSync(g *group, m *member) {
	m.owesSync = false
	for _, o := range g.members {
		if o.owesSync {
			return
		}
	}
	s.timers.stop(&g.syncTimer)
}

// syncDue throws out the members that did not ask for their assignment in time.
func (s *Shard) syncDue(g *group) {
	var late []string
	for _, m := range append([]*member(nil), g.members...) {
		if m.owesSync {
			s.evict(g, m)
			late = append(late, m.id)
		}
	}
	if len(late) > 0 {
		s.afterRemoval(g, memberList(late)+": no SyncGroup within the rebalance timeout")
	}
}

func memberList(ids []string) string {
	if len(ids) == 1 {
		return "member " + ids[0]
	}
	return "members " + strings.Join(ids, ", ")
}

func (g *group) syncAnswer(m *member, c *Call) *kmsg.SyncGroupResponse {
	resp := c.Req.ResponseKind().(*kmsg.SyncGroupResponse)
	resp.ProtocolType = kmsg.StringPtr(g.protocolType)
	resp.Protocol = kmsg.StringPtr(g.protocol)
	resp.MemberAssignment = m.assignment
	return resp
}

// heartbeat handles Heartbeat v0-4.
func (s *Shard) heartbeat(c *Call, req *kmsg.HeartbeatRequest) {
	if req.Group == "" {
		s.refuse(c, kerr.InvalidGroupID)
		return
	}
	g := s.groups[req.Group]
	if g == nil {
		s.refuse(c, kerr.UnknownMemberID)
		return
	}
	m, err := g.check(req.MemberID, req.InstanceID)
	if err == nil && req.Generation != g.generation {
		err = kerr.IllegalGeneration
	}
	if err != nil {
		s.refuse(c, err)
		return
	}
	s.touch(g, m)
	if g.state == preparing {
		s.refuse(c, kerr.RebalanceInProgress)
		return
	}
	s.reply(c, req.ResponseKind())
}

// sessionDue removes a member that was silent for its session timeout.
func (s *Shard) sessionDue(g *group, m *member) {
	if m.parked() {
		s.touch(g, m)
		return
	}
	why := m.name() + ": no heartbeat within session.timeout.ms=" + m.sessionTimeout.String()
	if m.isNew {
		why = m.name() + ": gave up before it had joined"
	}
	s.evict(g, m)
	s.afterRemoval(g, why)
}

// leave handles LeaveGroup v0-5.
//
//	v3: several members at once, static ones by their instance id
//	v5: reason (KIP-800)
func (s *Shard) leave(c *Call, req *kmsg.LeaveGroupRequest) {
	if req.Group == "" {
		s.refuse(c, kerr.InvalidGroupID)
		return
	}
	g := s.groups[req.Group]
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	leaving := req.Members
	if req.Version < 3 {
		lm := kmsg.NewLeaveGroupRequestMember()
		lm.MemberID = req.MemberID
		leaving = []kmsg.LeaveGroupRequestMember{lm}
	}
	why := ""
	for i := range leaving {
		lm := &leaving[i]
		left, err := s.leaveOne(g, lm)
		if left != nil {
			if why != "" {
				s.because(g, why)
			}
			why = withReason(left.name()+": left", lm.Reason)
		}
		if req.Version < 3 {
			resp.ErrorCode = kerr.Code(err)
			continue
		}
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ErrorCode = lm.MemberID, lm.InstanceID, kerr.Code(err)
		resp.Members = append(resp.Members, rm)
	}
	if why != "" {
		s.afterRemoval(g, why)
	}
	if g != nil && g.isVoid() {
		s.drop(g)
	}
	s.reply(c, resp)
}

// leaveOne takes one member out; nil without an error for an id that was not used yet.
func (s *Shard) leaveOne(g *group, lm *kmsg.LeaveGroupRequestMember) (*member, error) {
	if g == nil {
		return nil, kerr.UnknownMemberID
	}
	var m *member
	var err error
	switch {
	case lm.MemberID == "" && lm.InstanceID != nil:
		if m = g.static[*lm.InstanceID]; m == nil {
			return nil, kerr.UnknownMemberID
		}
	case s.forgetPending(g, lm.MemberID):
		return nil, nil
	default:
		if m, err = g.check(lm.MemberID, lm.InstanceID); err != nil {
			return nil, err
		}
	}
	s.evict(g, m)
	return m, nil
}

// withReason adds what the client said.
func withReason(why string, reason *string) string {
	switch r := clientReason(reason); r {
	case "", "beginning to manage the group lifecycle", "client leaving group per normal operation":
		// Nothing, or what franz-go says each time a client starts or stops.
		return why
	default:
		return why + " (" + r + ")"
	}
}
