package node

import (
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// groupModel is what a group must remember, and who was told to own what.
type groupModel struct {
	id string
	// offsets is what was committed last, by topic and partition.
	offsets map[string]map[int32]int64
	// owned says per generation who owns a partition, told what each member was told.
	owned map[int32]map[string]string
	told  map[int32]map[string]string
	// given is what leaders said that members own, by generation and member: a leader may say
	// it more than once, and the first that was heard counts.
	given map[int32]map[string][]string
	// latest is the highest generation that anyone was told.
	latest int32
}

// memberState is what a member is doing.
type memberState uint8

const (
	outside memberState = iota
	joining             // JoinGroup is under way
	joined              // it knows the generation, and must sync
	syncing             // SyncGroup is under way
	member              // it knows what it owns
)

// memberModel is one client of a group.
type memberModel struct {
	group      *groupModel
	line       *line
	state      memberState
	id         string
	instance   *string
	generation int32
	leads      []string // the members, if it leads
	leadsWho   []string // who they are, see who
	version    int      // of its subscription
}

func (m *memberModel) hangUp() {
	if m.line != nil {
		_ = m.line.c.Close()
		m.line = nil
	}
	if m.state == joining || m.state == syncing {
		m.state = outside
	}
}

// who is what a member stays through a restart: its instance, or its id.
func (m *memberModel) who() string {
	if m.instance != nil {
		return "instance " + *m.instance
	}
	return m.id
}

func (p *player) group(i int) *groupModel {
	id := fmt.Sprint("group", i)
	g := p.groups[id]
	if g == nil {
		g = &groupModel{id: id, offsets: map[string]map[int32]int64{}, owned: map[int32]map[string]string{}, told: map[int32]map[string]string{},
			given: map[int32]map[string][]string{}, latest: -1}
		p.groups[id] = g
		p.awaitCoordinator(g)
	}
	return g
}

// awaitCoordinator asks until the group's coordinator has loaded.
func (p *player) awaitCoordinator(g *groupModel) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 6, []string{g.id}
	for range 1000 {
		found := p.call(p.main, req).(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode
		p.legal("FindCoordinator", found, kerr.CoordinatorNotAvailable)
		if found == 0 {
			code := p.askOffsets(g).ErrorCode
			p.legal("OffsetFetch", code, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable)
			if code == 0 {
				return
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	p.fail("no coordinator for %s", g.id)
}

func (p *player) askOffsets(g *groupModel) kmsg.OffsetFetchResponseGroup {
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group, rg.Topics = g.id, nil
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Groups = 9, append(req.Groups, rg)
	return p.call(p.main, req).(*kmsg.OffsetFetchResponse).Groups[0]
}

// member lets one of three members do what comes next for it.
func (p *player) member() {
	if p.members == nil {
		static := "fixed"
		for i := range 3 {
			m := &memberModel{group: p.group(i / 2), generation: -1}
			if i == 1 {
				m.instance = &static
			}
			p.members = append(p.members, m)
		}
	}
	m := p.members[p.n(len(p.members))]
	if m.line == nil {
		m.line = p.dial()
		p.awaitCoordinator(m.group)
	}
	p.hear(m)
	switch m.state {
	case outside:
		p.sendJoin(m)
	case joined:
		p.sendSync(m)
	case member:
		switch p.n(6) {
		case 0, 1:
			p.heartbeat(m)
		case 2, 3:
			p.commitAs(m)
		case 4:
			p.leave(m)
		default:
			m.version++
			p.sendJoin(m)
		}
	}
	p.hear(m)
}

// hear takes the answers that have come.
func (p *player) hear(m *memberModel) {
	for {
		synctest.Wait()
		select {
		case f, ok := <-m.line.answers:
			if !ok {
				p.fail("a member's connection is closed")
			}
			switch m.state {
			case joining:
				p.heardJoin(m, f)
			case syncing:
				p.heardSync(m, f)
			default:
				p.fail("an answer that nobody asked for")
			}
		default:
			return
		}
	}
}

func (p *player) sendJoin(m *memberModel) {
	sub := kmsg.NewConsumerMemberMetadata()
	sub.Topics, sub.UserData = []string{"a"}, fmt.Append(nil, m.version)
	jp := kmsg.NewJoinGroupRequestProtocol()
	jp.Name, jp.Metadata = "range", sub.AppendTo(nil)
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID = 9, m.group.id, m.id, m.instance
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 10_000, 5_000, "consumer"
	req.Protocols = append(req.Protocols, jp)
	p.note("%s: %q joins", m.group.id, m.id)
	p.check(m.line.send(req))
	m.state = joining
}

func (p *player) heardJoin(m *memberModel, f []byte) {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = 9
	p.check(m.line.read(f, resp))
	p.note("%s: join of %q: code %d, generation %d, leader %q", m.group.id, m.id, resp.ErrorCode, resp.Generation, resp.LeaderID)
	m.state = outside
	switch resp.ErrorCode {
	case 0:
	case kerr.MemberIDRequired.Code:
		m.id = resp.MemberID
		p.sendJoin(m)
		return
	default:
		p.legal("JoinGroup", resp.ErrorCode, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.FencedInstanceID, kerr.NotCoordinator)
		m.id = ""
		return
	}
	if resp.Generation < m.group.latest {
		p.fail("%s goes back from generation %d to %d", m.group.id, m.group.latest, resp.Generation)
	}
	m.state, m.id, m.generation, m.leads = joined, resp.MemberID, resp.Generation, nil
	m.leadsWho = nil
	if resp.LeaderID == resp.MemberID && !resp.SkipAssignment {
		for _, o := range resp.Members {
			who := o.MemberID
			if o.InstanceID != nil {
				who = "instance " + *o.InstanceID
			}
			m.leads, m.leadsWho = append(m.leads, o.MemberID), append(m.leadsWho, who)
		}
		if !slices.Contains(m.leads, m.id) {
			p.fail("%s: the leader %s is not among %v", m.group.id, m.id, m.leads)
		}
	}
}

func (p *player) sendSync(m *memberModel) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 5, m.group.id, m.id, m.instance, m.generation
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	gives := make([][]string, len(m.leads))
	for i := 0; i < 4 && len(m.leads) > 0; i++ {
		k := p.n(len(m.leads))
		gives[k] = append(gives[k], fmt.Sprint("p", i))
	}
	for i, id := range m.leads {
		ga := kmsg.NewSyncGroupRequestGroupAssignment()
		ga.MemberID, ga.MemberAssignment = id, []byte(strings.Join(gives[i], ","))
		req.GroupAssignment = append(req.GroupAssignment, ga)
		if m.group.given[m.generation] == nil {
			m.group.given[m.generation] = map[string][]string{}
		}
		who := m.leadsWho[i]
		m.group.given[m.generation][who] = append(m.group.given[m.generation][who], string(ga.MemberAssignment))
	}
	p.note("%s: %q syncs generation %d and gives %v", m.group.id, m.id, m.generation, gives)
	p.check(m.line.send(req))
	m.state = syncing
}

func (p *player) heardSync(m *memberModel, f []byte) {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = 5
	p.check(m.line.read(f, resp))
	p.note("%s: sync of %q: code %d, owns %q", m.group.id, m.id, resp.ErrorCode, resp.MemberAssignment)
	m.state = outside
	if resp.ErrorCode != 0 {
		p.legal("SyncGroup", resp.ErrorCode, kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID, kerr.NotCoordinator)
		p.lost(m, resp.ErrorCode)
		return
	}
	m.state = member
	g, mine := m.group, string(resp.MemberAssignment)
	if g.owned[m.generation] == nil {
		g.owned[m.generation], g.told[m.generation] = map[string]string{}, map[string]string{}
	}
	if was, ok := g.told[m.generation][m.who()]; ok && was != mine {
		p.fail("%s, generation %d: %s owned %q and is told %q", g.id, m.generation, m.who(), was, mine)
	}
	if given := g.given[m.generation][m.who()]; !slices.Contains(given, mine) && (mine != "" || len(given) > 0) {
		p.fail("%s, generation %d: %s is told %q, and the leader gave it %q", g.id, m.generation, m.who(), mine, given)
	}
	g.told[m.generation][m.who()] = mine
	g.latest = max(g.latest, m.generation)
	for _, part := range strings.Split(mine, ",") {
		if part == "" {
			continue
		}
		if o := g.owned[m.generation][part]; o != "" && o != m.who() {
			p.fail("%s, generation %d: %s is owned by %s and %s", g.id, m.generation, part, o, m.who())
		}
		g.owned[m.generation][part] = m.who()
	}
}

// lost says what a member does after an error: it keeps its id unless that is unknown.
func (p *player) lost(m *memberModel, code int16) {
	m.state = outside
	if code == kerr.UnknownMemberID.Code || code == kerr.FencedInstanceID.Code {
		m.id = ""
	}
}

func (p *player) heartbeat(m *memberModel) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, m.group.id, m.id, m.instance, m.generation
	late := p.n(4) == 0
	if late {
		req.Generation--
	}
	code := p.call(m.line, req).(*kmsg.HeartbeatResponse).ErrorCode
	if late {
		if code == 0 {
			p.fail("%s: a heartbeat of generation %d is taken in %d", m.group.id, req.Generation, m.generation)
		}
		p.legal("a late Heartbeat", code, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID)
		return
	}
	p.note("%s: heartbeat of %q: code %d", m.group.id, m.id, code)
	if code != 0 {
		p.legal("Heartbeat", code, kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID)
		p.lost(m, code)
		return
	}
	if m.generation < m.group.latest {
		p.fail("%s: a heartbeat of generation %d is taken in %d", m.group.id, m.generation, m.group.latest)
	}
}

func (p *player) leave(m *memberModel) {
	lm := kmsg.NewLeaveGroupRequestMember()
	lm.MemberID, lm.InstanceID = m.id, m.instance
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group, req.Members = 5, m.group.id, append(req.Members, lm)
	p.note("%s: %q leaves", m.group.id, m.id)
	resp := p.call(m.line, req).(*kmsg.LeaveGroupResponse)
	p.must("LeaveGroup", resp.ErrorCode, nil)
	p.legal("leaving", resp.Members[0].ErrorCode, kerr.UnknownMemberID, kerr.FencedInstanceID)
	m.state, m.id = outside, ""
}

// commitRequest is a commit of one offset of any partition, or of one that does not exist.
func (p *player) commitRequest(g *groupModel) (req *kmsg.OffsetCommitRequest, topic string, index int32, offset int64, exists bool) {
	t, index, _ := p.partition()
	if t == nil {
		return nil, "", 0, 0, false
	}
	if exists = p.n(8) > 0; !exists {
		index = int32(len(t.parts))
	}
	offset = int64(p.n(50))
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch = index, offset, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = t.name, append(rt.Partitions, rp)
	req = kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation, req.Topics = 9, g.id, -1, append(req.Topics, rt)
	if p.n(3) == 0 {
		req.Version, req.Topics[0].Topic, req.Topics[0].TopicID = 10, "", t.id
	}
	return req, t.name, index, offset, exists
}

// committed takes an answer into the model; ok says that the offset was stored.
func (p *player) committed(l *line, g *groupModel, req *kmsg.OffsetCommitRequest, topic string, index int32, offset int64, exists bool) (code int16) {
	code = p.call(l, req).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
	p.note("%s: commit %s-%d %d as %q of generation %d: code %d", g.id, topic, index, offset, req.MemberID, req.Generation, code)
	switch {
	case !exists:
		p.must("a commit to no partition", code, kerr.UnknownTopicOrPartition)
	case code == 0:
		if g.offsets[topic] == nil {
			g.offsets[topic] = map[int32]int64{}
		}
		g.offsets[topic][index] = offset
	}
	return code
}

func (p *player) commitAs(m *memberModel) {
	req, topic, index, offset, exists := p.commitRequest(m.group)
	if req == nil {
		return
	}
	req.MemberID, req.InstanceID, req.Generation = m.id, m.instance, m.generation
	if p.n(4) == 0 && exists { // late, from a generation that is over
		req.Generation--
		code := p.committed(m.line, m.group, req, topic, index, offset, exists)
		if code == 0 {
			p.fail("%s: a commit of generation %d is taken in %d", m.group.id, req.Generation, m.generation)
		}
		p.legal("a late OffsetCommit", code, kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID, kerr.GroupIDNotFound)
		return
	}
	code := p.committed(m.line, m.group, req, topic, index, offset, exists)
	switch {
	case !exists:
	case code == 0 && m.generation < m.group.latest:
		p.fail("%s: a commit of generation %d is taken in %d", m.group.id, m.generation, m.group.latest)
	case code != 0:
		p.legal("OffsetCommit", code, kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID, kerr.GroupIDNotFound)
		p.lost(m, code)
	}
}

// commitSimple commits as a tool does, which a group with members refuses.
func (p *player) commitSimple() {
	g := p.group(p.n(2))
	p.awaitCoordinator(g)
	req, topic, index, offset, exists := p.commitRequest(g)
	if req == nil {
		return
	}
	if code := p.committed(p.main, g, req, topic, index, offset, exists); exists {
		p.legal("a tool's OffsetCommit", code, kerr.UnknownMemberID)
	}
}

func (p *player) fetchOffsets() {
	synctest.Wait()
	g := p.group(p.n(2))
	p.awaitCoordinator(g)
	p.compareOffsets(g)
}

// compareOffsets holds that the group has what was committed last and nothing else.
func (p *player) compareOffsets(g *groupModel) {
	got := map[string]int64{}
	for _, t := range p.askOffsets(g).Topics {
		for _, q := range t.Partitions {
			p.must("an offset", q.ErrorCode, nil)
			got[fmt.Sprint(t.Topic, "-", q.Partition)] = q.Offset
		}
	}
	n := 0
	for topic, ps := range g.offsets {
		for i, want := range ps {
			n++
			if o, ok := got[fmt.Sprint(topic, "-", i)]; !ok || o != want {
				p.fail("%s: %s-%d is at %d (%v), committed was %d", g.id, topic, i, o, ok, want)
			}
		}
	}
	if n != len(got) {
		p.fail("%s has %v, committed was %v", g.id, got, g.offsets)
	}
}

func (p *player) dropGroup() {
	g := p.group(p.n(2))
	p.awaitCoordinator(g)
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Version, req.Groups = 2, []string{g.id}
	code := p.call(p.main, req).(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode
	p.note("delete %s: code %d", g.id, code)
	p.legal("DeleteGroups", code, kerr.NonEmptyGroup, kerr.GroupIDNotFound)
	switch code {
	case 0:
		clear(g.offsets)
		// The next group of that name begins with generation 1.
		clear(g.owned)
		clear(g.told)
		g.latest = -1
	case kerr.GroupIDNotFound.Code:
		for topic, ps := range g.offsets {
			if len(ps) > 0 {
				p.fail("%s is not found, with offsets in %s", g.id, topic)
			}
		}
	}
}

func (p *player) verifyGroups() {
	for _, g := range p.groups {
		p.awaitCoordinator(g)
		p.compareOffsets(g)
	}
}
