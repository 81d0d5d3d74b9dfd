package group

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// join handles JoinGroup v0-9.
//
//	v1: rebalance timeout apart from the session timeout
//	v4: a member without an id is first given one (KIP-394)
//	v5: instance ids, static membership (KIP-345)
//	v8: reason (KIP-800)
//	v9: a static leader that comes back is told to skip the assignment (KIP-814)
func (s *Shard) join(c *Call, req *kmsg.JoinGroupRequest) {
	session := time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	switch {
	case req.Group == "":
		s.refuse(c, kerr.InvalidGroupID)
		return
	case s.groups[req.Group] == nil && len(req.Group) > maxIDBytes:
		s.refuse(c, kerr.With(kerr.InvalidGroupID, "the group's id has more than %d bytes", maxIDBytes))
		return
	case req.InstanceID != nil && len(*req.InstanceID) > maxIDBytes:
		s.refuse(c, kerr.With(kerr.InvalidRequest, "the instance id has more than %d bytes", maxIDBytes))
		return
	case session < s.opts.MinSessionTimeout || session > s.opts.MaxSessionTimeout:
		s.refuse(c, kerr.InvalidSessionTimeout)
		return
	case joinBytes(c, req) > s.opts.MaxMemberBytes:
		s.refuse(c, kerr.With(kerr.InvalidRequest, "the member's metadata is larger than %d bytes", s.opts.MaxMemberBytes))
		return
	}
	g := s.groups[req.Group]
	if g == nil {
		if req.MemberID != "" {
			s.refuse(c, kerr.UnknownMemberID)
			return
		}
		if !s.room(groupBytes + 2*len(req.Group) + memberBytes + joinBytes(c, req)) {
			s.refuse(c, kerr.GroupMaxSizeReached)
			return
		}
		g = s.create(req.Group)
	}
	switch {
	case !s.hasRoom(g, c, req):
		s.reply(c, joinError(req, "", kerr.GroupMaxSizeReached))
		if m := g.byID[req.MemberID]; m != nil {
			s.evict(g, m)
			s.afterRemoval(g, m.name()+": the group is at its maximal size")
		} else {
			s.forgetPending(g, req.MemberID)
		}
	case req.MemberID == "":
		s.joinNew(g, c, req)
	default:
		s.joinKnown(g, c, req)
	}
	s.account(g)
	if g.isVoid() {
		s.drop(g)
	}
}

// joinBytes is what a JoinGroup makes us keep, roughly.
func joinBytes(c *Call, req *kmsg.JoinGroupRequest) int {
	n := len(c.Client.ID) + len(c.Client.Host) + len(req.MemberID) + len(req.ProtocolType)
	if req.InstanceID != nil {
		n += len(*req.InstanceID)
	}
	for i := range req.Protocols {
		n += len(req.Protocols[i].Name) + len(req.Protocols[i].Metadata)
	}
	return n
}

// hasRoom says whether the group can take the joining member (group.max.size, and our
// bound on its bytes). While it rebalances, members that are not back yet do not count:
// whoever comes first stays.
func (s *Shard) hasRoom(g *group, c *Call, req *kmsg.JoinGroupRequest) bool {
	m := g.byID[req.MemberID]
	if m == nil && req.InstanceID != nil {
		m = g.static[*req.InstanceID]
	}
	have := 0
	if m != nil {
		have = m.bytes
	}
	grows := memberBytes + joinBytes(c, req) - have
	if g.bytes+len(g.pending)*pendingBytes+grows > s.opts.MaxGroupBytes || !s.room(grows) {
		return false
	}
	switch g.state {
	case preparing:
		return m != nil && m.join != nil || g.joining < s.opts.MaxSize
	case completing, stable:
		return m != nil || len(g.members) < s.opts.MaxSize
	default:
		return true
	}
}

// joinNew handles a member that has no id yet.
func (s *Shard) joinNew(g *group, c *Call, req *kmsg.JoinGroupRequest) {
	if !g.accepts(req.ProtocolType, req.Protocols) {
		s.refuse(c, kerr.InconsistentGroupProtocol)
		return
	}
	if req.InstanceID != nil {
		id := *req.InstanceID + "-" + s.opts.NewID()
		if m := g.static[*req.InstanceID]; m != nil {
			s.rejoinStatic(g, m, id, c, req)
			return
		}
		s.addMember(g, id, c, req)
		return
	}
	id := idPrefix(c.Client.ID) + "-" + s.opts.NewID()
	if req.Version < 4 {
		s.addMember(g, id, c, req)
		return
	}
	t := &timer{}
	t.fire = func() { s.pendingDue(g, id) }
	g.pending[id] = t
	s.timers.set(t, s.now.Boot+time.Duration(req.SessionTimeoutMillis)*time.Millisecond)
	s.reply(c, joinError(req, id, kerr.MemberIDRequired))
}

// pendingDue forgets an id that nobody came back with.
func (s *Shard) pendingDue(g *group, id string) {
	s.forgetPending(g, id)
	if g.isVoid() {
		s.drop(g)
	}
}

// forgetPending takes back an id that was handed out and not used; a rebalance does not
// wait for it any more. It reports whether there was such an id.
func (s *Shard) forgetPending(g *group, id string) bool {
	t := g.pending[id]
	if t == nil {
		return false
	}
	s.timers.stop(t)
	delete(g.pending, id)
	s.account(g)
	s.completeIfAllJoined(g)
	return true
}

// afterRemoval goes on after members were evicted.
func (s *Shard) afterRemoval(g *group, why string) {
	if g.state != empty {
		s.rebalance(g, why)
	}
}

// joinKnown handles a member that has an id.
func (s *Shard) joinKnown(g *group, c *Call, req *kmsg.JoinGroupRequest) {
	if !g.accepts(req.ProtocolType, req.Protocols) {
		s.refuse(c, kerr.InconsistentGroupProtocol)
		return
	}
	if t := g.pending[req.MemberID]; t != nil && req.InstanceID == nil {
		s.timers.stop(t)
		delete(g.pending, req.MemberID) // no rebalance ends here: the member joins it
		s.addMember(g, req.MemberID, c, req)
		return
	}
	m, err := g.check(req.MemberID, req.InstanceID)
	if err != nil {
		s.refuse(c, err)
		return
	}
	switch {
	case g.state == preparing:
		s.update(g, m, c, req)
		s.completeIfAllJoined(g)
	case g.state == completing && m.matches(req.Protocols),
		g.state == stable && m.matches(req.Protocols) && !g.isLeader(m):
		// It may have missed our answer; nothing else has changed. A leader of a stable
		// group, however, joins again to say that the topics have changed.
		s.touch(g, m)
		s.reply(c, g.joinAnswer(m, req, g.isLeader(m)))
	default:
		why := s.rejoinReason(g, m, req)
		s.update(g, m, c, req)
		s.rebalance(g, why)
	}
}

// rejoinStatic handles a static member that was restarted: it takes over from its former
// self, which is fenced, and keeps its assignment without a rebalance if the group is
// stable and would choose the same protocol again.
func (s *Shard) rejoinStatic(g *group, m *member, id string, c *Call, req *kmsg.JoinGroupRequest) {
	oldLeader := g.leaderID()
	if old := g.unpark(m); old != nil {
		s.refuse(old, kerr.FencedInstanceID)
	}
	if m.sync != nil {
		s.refuse(m.sync, kerr.FencedInstanceID)
		m.sync = nil
	}
	g.rename(m, id)
	m.clientID, m.host, m.isNew = c.Client.ID, c.Client.Host, false
	why := m.name() + ": restarted with other protocols"
	s.update(g, m, c, req)
	switch g.state {
	case stable:
		if g.selectProtocol() != g.protocol {
			s.rebalance(g, withReason(why, req.Reason))
			return
		}
		s.writeGroup(g)
		resp := g.joinAnswer(m, req, g.isLeader(m) && req.Version >= 9)
		switch {
		case req.Version >= 9:
			resp.SkipAssignment = g.isLeader(m)
		default:
			// An old client that finds itself the leader would compute an assignment
			// and expect it to take effect. It gets its former id as the leader's.
			resp.LeaderID = oldLeader
		}
		g.unpark(m)
		s.reply(c, resp)
	case completing:
		// The leader may be assigning to the former id right now.
		s.rebalance(g, withReason(m.name()+": restarted during a rebalance", req.Reason))
	default:
		s.completeIfAllJoined(g)
	}
}

// addMember takes a new member in and rebalances.
func (s *Shard) addMember(g *group, id string, c *Call, req *kmsg.JoinGroupRequest) {
	m := &member{id: id, instance: req.InstanceID, clientID: c.Client.ID, host: c.Client.Host, assignment: []byte{}, isNew: true}
	if g.state == preparing && g.previous == empty {
		g.someoneJoined = true
	}
	setProtocols(m, c, req)
	g.add(m, req.ProtocolType)
	g.park(m, c)
	// It cannot heartbeat before it knows its id, and we cannot see its connection break
	// while the call is parked: a member that gave up must not hold up every rebalance.
	s.touchFor(g, m, s.opts.NewMemberJoinTimeout)
	s.rebalance(g, withReason(m.name()+": joined", req.Reason))
}

// update takes over what a member says of itself and parks its call.
func (s *Shard) update(g *group, m *member, c *Call, req *kmsg.JoinGroupRequest) {
	g.bytes -= m.bytes
	g.count(m, -1)
	setProtocols(m, c, req)
	g.count(m, 1)
	g.bytes += m.bytes
	if old := g.park(m, c); old != nil {
		s.refuse(old, kerr.RebalanceInProgress)
	}
	if !m.isNew {
		s.touch(g, m)
	}
}

func setProtocols(m *member, c *Call, req *kmsg.JoinGroupRequest) {
	m.sessionTimeout = time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	m.rebalanceTimeout = time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	if req.Version < 1 || m.rebalanceTimeout < 0 {
		m.rebalanceTimeout = m.sessionTimeout
	}
	m.protocols = make([]protocol, len(req.Protocols))
	for i, p := range req.Protocols {
		m.protocols[i] = protocol{p.Name, p.Metadata}
	}
	m.bytes = memberBytes + joinBytes(c, req) + len(m.assignment)
}

// rebalance begins a rebalance, or adds its reason to the one that runs.
func (s *Shard) rebalance(g *group, why string) {
	s.because(g, why)
	if g.state == preparing {
		s.completeIfAllJoined(g)
		return
	}
	if g.state == completing {
		for _, m := range g.members {
			g.setAssignment(m, nil)
			s.account(g)
			if m.sync != nil {
				s.refuse(m.sync, kerr.RebalanceInProgress)
				m.sync = nil
				s.touch(g, m)
			}
		}
	}
	s.timers.stop(&g.syncTimer)
	for _, m := range g.members {
		m.owesSync = false
	}
	initial := g.state == empty
	g.transition(preparing, s.nowMs())
	switch {
	case initial && s.opts.InitialRebalanceDelay > 0:
		g.someoneJoined = false
		g.initialDelay = s.opts.InitialRebalanceDelay
		g.initialLeft = max(g.rebalanceTimeout()-g.initialDelay, 0)
		s.timers.set(&g.joinTimer, s.now.Boot+g.initialDelay)
	case g.allJoined() || initial:
		s.completeJoin(g)
	default:
		s.timers.set(&g.joinTimer, s.now.Boot+g.rebalanceTimeout())
	}
}

// completeIfAllJoined ends PreparingRebalance when nobody is missing, except in the
// initial rebalance, which waits for members it does not know of.
func (s *Shard) completeIfAllJoined(g *group) {
	if g.state == preparing && g.allJoined() && (g.previous != empty || len(g.members) == 0) {
		s.completeJoin(g)
	}
}

// joinDue ends PreparingRebalance, or extends the initial one when members keep coming.
func (s *Shard) joinDue(g *group) {
	if g.state != preparing {
		return
	}
	if g.previous == empty && g.someoneJoined && g.initialLeft > 0 {
		g.someoneJoined = false
		next := min(s.opts.InitialRebalanceDelay, g.initialLeft)
		g.initialLeft = max(g.initialLeft-g.initialDelay, 0)
		g.initialDelay = next
		s.timers.set(&g.joinTimer, s.now.Boot+next)
		return
	}
	s.completeJoin(g)
}

// completeJoin begins the next generation with the members that have joined. Dynamic
// members that have not are out; static ones stay until their session ends (KIP-345).
func (s *Shard) completeJoin(g *group) {
	s.timers.stop(&g.joinTimer)
	var late []*member
	for _, m := range g.members {
		if m.join == nil && m.instance == nil {
			late = append(late, m)
		}
	}
	for _, m := range late {
		s.evict(g, m)
		s.because(g, fmt.Sprintf("%s: did not rejoin within rebalance.timeout.ms=%s", m.name(), g.timeoutText(m)))
	}
	if len(g.members) > 0 && g.joining == 0 {
		// Only static members are left and none of them is here: wait for one.
		s.timers.set(&g.joinTimer, s.now.Boot+g.rebalanceTimeout())
		return
	}
	if len(g.members) > 0 && g.leader.join == nil {
		for _, m := range g.members {
			if m.join != nil {
				g.leader = m
				break
			}
		}
	}
	g.generation++
	if len(g.members) == 0 {
		g.protocol = ""
		g.readSubscriptions()
		g.sizes = nil
		g.transition(empty, s.nowMs())
		s.settle(g, 0)
		s.writeGroup(g)
		return
	}
	g.protocol = g.selectProtocol()
	g.readSubscriptions()
	s.measureTopics(g)
	g.transition(completing, s.nowMs())
	s.settle(g, len(g.members))
	for _, m := range g.members {
		m.isNew = false
		m.owesSync = true
		if c := g.unpark(m); c != nil {
			s.reply(c, g.joinAnswer(m, c.Req.(*kmsg.JoinGroupRequest), g.isLeader(m)))
			s.touch(g, m)
		}
	}
	s.timers.set(&g.syncTimer, s.now.Boot+g.rebalanceTimeout())
}

// timeoutText is the rebalance timeout that a late member had.
func (g *group) timeoutText(m *member) time.Duration {
	return max(g.rebalanceTimeout(), m.rebalanceTimeout)
}

// joinAnswer tells m of the current generation; withMembers is for who has to assign.
func (g *group) joinAnswer(m *member, req *kmsg.JoinGroupRequest, withMembers bool) *kmsg.JoinGroupResponse {
	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.Generation = g.generation
	resp.ProtocolType = kmsg.StringPtr(g.protocolType)
	resp.Protocol = kmsg.StringPtr(g.protocol)
	resp.LeaderID = g.leaderID()
	resp.MemberID = m.id
	if withMembers {
		resp.Members = make([]kmsg.JoinGroupResponseMember, 0, len(g.members))
		for _, o := range g.members {
			rm := kmsg.NewJoinGroupResponseMember()
			rm.MemberID, rm.InstanceID, rm.ProtocolMetadata = o.id, o.instance, o.metadata(g.protocol)
			resp.Members = append(resp.Members, rm)
		}
	}
	return resp
}

// evict takes m out of the group; the caller decides what follows. Its parked calls are
// told UNKNOWN_MEMBER_ID, so that a client that is still there joins anew.
func (s *Shard) evict(g *group, m *member) {
	s.timers.stop(&m.session)
	if c := g.unpark(m); c != nil {
		s.reply(c, joinError(c.Req.(*kmsg.JoinGroupRequest), "", kerr.UnknownMemberID))
	}
	if m.sync != nil {
		s.refuse(m.sync, kerr.UnknownMemberID)
		m.sync = nil
	}
	g.remove(m)
	s.account(g)
}
