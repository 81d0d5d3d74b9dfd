package group

import (
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// state is where a group stands; the package doc has the picture.
type state uint8

const (
	empty state = iota
	preparing
	completing
	stable
)

// String is the name that DescribeGroups and ListGroups use.
func (s state) String() string {
	switch s {
	case empty:
		return "Empty"
	case preparing:
		return "PreparingRebalance"
	case completing:
		return "CompletingRebalance"
	default:
		return "Stable"
	}
}

// consumerProtocol is the protocol type of consumers, whose metadata we can read.
const consumerProtocol = "consumer"

// member is one member of a group.
type member struct {
	id string
	// instance is the static member's instance id; nil for a dynamic member.
	instance         *string
	clientID, host   string
	sessionTimeout   time.Duration
	rebalanceTimeout time.Duration
	// protocols are what the member can do, in its order of preference. After a replay
	// it is only the one that the group had chosen.
	protocols []protocol
	// assignment is what the leader gave it in the current generation; not nil.
	assignment []byte
	// join and sync are the parked calls; nil when there is none.
	join, sync *Call
	// isNew: it never had an answer to JoinGroup, so it cannot send heartbeats yet.
	isNew bool
	// owesSync: it has not sent SyncGroup in this generation.
	owesSync bool
	// session fires when the member was silent for too long.
	session timer
	// bytes is what the member counts against Options.MaxGroupBytes.
	bytes int
}

type protocol struct {
	name     string
	metadata []byte
}

// metadata returns what the member said for a protocol; nil if it does not support it.
func (m *member) metadata(name string) []byte {
	for i := range m.protocols {
		if m.protocols[i].name == name {
			return m.protocols[i].metadata
		}
	}
	return nil
}

// matches says whether the member offers exactly these protocols.
func (m *member) matches(ps []kmsg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(m.protocols, ps, func(a protocol, b kmsg.JoinGroupRequestProtocol) bool {
		return a.name == b.Name && string(a.metadata) == string(b.Metadata)
	})
}

// parked says that the member waits for us, so its silence proves nothing.
func (m *member) parked() bool { return !m.isNew && (m.join != nil || m.sync != nil) }

// group is one group: members, generation and committed offsets.
type group struct {
	id string
	// state and the one before it; stateSince is in ms since 1970, -1 when not known.
	state, previous state
	stateSince      int64
	generation      int32
	// protocolType is "" for a group that never had members (a simple group).
	protocolType string
	// protocol is the chosen one, "" in Empty.
	protocol string
	// leader is the member that assigns, nil when there is none.
	leader *member
	// members in the order in which they joined; byID and static index them.
	members []*member
	byID    map[string]*member
	static  map[string]*member
	// support counts the members that offer a protocol.
	support map[string]int
	// joining counts the members that are parked in JoinGroup.
	joining int
	// pending are ids that were handed out with MEMBER_ID_REQUIRED and not used yet.
	pending map[string]*timer
	// bytes is what the members count against Options.MaxGroupBytes.
	bytes int

	// joinTimer ends PreparingRebalance, syncTimer CompletingRebalance.
	joinTimer, syncTimer timer
	// initialDelay and initialLeft are the initial rebalance's current and remaining
	// delay; someoneJoined extends it (KIP-134).
	initialDelay, initialLeft time.Duration
	someoneJoined             bool

	// subscribed are the topics of all members when subscribedKnown: the group speaks
	// the consumer protocol and we could read it.
	subscribed      map[string]bool
	subscribedKnown bool
	// sizes are the partition counts of the subscribed topics at this generation.
	sizes map[string]int32

	offsets map[string]map[int32]committed
	// offsetBytes is what the offsets take, counted what the budget knows of the group.
	offsetBytes, counted int
	// written says that the log holds a GroupMetadata record of the group.
	written bool
	history history
}

func newGroup(id string, nowMs int64) *group {
	return &group{
		id:         id,
		stateSince: nowMs,
		byID:       map[string]*member{},
		static:     map[string]*member{},
		pending:    map[string]*timer{},
		support:    map[string]int{},
	}
}

func (g *group) transition(to state, nowMs int64) {
	g.previous, g.state, g.stateSince = g.state, to, nowMs
}

// park keeps m's JoinGroup and returns the one that it replaces.
func (g *group) park(m *member, c *Call) (replaced *Call) {
	if replaced = m.join; replaced == nil {
		g.joining++
	}
	m.join = c
	c.kept()
	return replaced
}

// unpark returns m's JoinGroup, if there is one, to be answered.
func (g *group) unpark(m *member) *Call {
	c := m.join
	if c != nil {
		g.joining--
		m.join = nil
	}
	return c
}

func (g *group) allJoined() bool { return len(g.pending) == 0 && g.joining == len(g.members) }

func (g *group) isLeader(m *member) bool { return g.leader == m }

func (g *group) leaderID() string {
	if g.leader == nil {
		return ""
	}
	return g.leader.id
}

func (g *group) rebalanceTimeout() time.Duration {
	var d time.Duration
	for _, m := range g.members {
		d = max(d, m.rebalanceTimeout)
	}
	return d
}

// isVoid says that nothing would be lost if the group were forgotten.
func (g *group) isVoid() bool {
	return g.state == empty && !g.written && len(g.members) == 0 && len(g.pending) == 0 && len(g.offsets) == 0
}

// add takes m in; a first member decides the protocol type and leads.
func (g *group) add(m *member, protocolType string) {
	if len(g.members) == 0 {
		g.protocolType = protocolType
	}
	g.members = append(g.members, m)
	g.byID[m.id] = m
	if m.instance != nil {
		g.static[*m.instance] = m
	}
	if g.leader == nil {
		g.leader = m
	}
	g.bytes += m.bytes
	g.count(m, 1)
}

// count adds n to the support of each of m's protocols.
func (g *group) count(m *member, n int) {
	for i, p := range m.protocols {
		if slices.ContainsFunc(m.protocols[:i], func(o protocol) bool { return o.name == p.name }) {
			continue // offered twice, counted once
		}
		if g.support[p.name] += n; g.support[p.name] == 0 {
			delete(g.support, p.name)
		}
	}
}

// remove takes m out; the longest-standing other member leads if m did.
func (g *group) remove(m *member) {
	g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
	delete(g.byID, m.id)
	if m.instance != nil {
		delete(g.static, *m.instance)
	}
	if g.leader == m {
		g.leader = nil
		if len(g.members) > 0 {
			g.leader = g.members[0]
		}
	}
	g.bytes -= m.bytes
	g.count(m, -1)
}

// rename gives a static member that came back its new id.
func (g *group) rename(m *member, id string) {
	delete(g.byID, m.id)
	m.id = id
	g.byID[id] = m
}

// setAssignment gives m what it owns in this generation; nil is nothing.
func (g *group) setAssignment(m *member, a []byte) {
	if a == nil {
		a = []byte{}
	}
	g.bytes += len(a) - len(m.assignment)
	m.bytes += len(a) - len(m.assignment)
	m.assignment = a
}

// check finds the member that a request names and fences impostors.
func (g *group) check(id string, instance *string) (*member, error) {
	if instance != nil {
		switch m := g.static[*instance]; {
		case m == nil:
			return nil, kerr.UnknownMemberID
		case m.id != id:
			return nil, kerr.FencedInstanceID
		}
	}
	m := g.byID[id]
	if m == nil {
		return nil, kerr.UnknownMemberID
	}
	return m, nil
}

// accepts says whether a member of that type and those protocols fits to the others.
func (g *group) accepts(protocolType string, ps []kmsg.JoinGroupRequestProtocol) bool {
	if protocolType == "" || len(ps) == 0 {
		return false
	}
	for i := range ps {
		if ps[i].Name == "" {
			return false
		}
	}
	if g.state == empty {
		return true
	}
	return g.protocolType == protocolType &&
		slices.ContainsFunc(ps, func(p kmsg.JoinGroupRequestProtocol) bool { return g.allSupport(p.Name) })
}

func (g *group) allSupport(name string) bool { return g.support[name] == len(g.members) }

// selectProtocol lets each member vote for the first of its protocols that all support.
// The most votes win; among equals the one that was voted for first.
func (g *group) selectProtocol() string {
	votes := map[string]int{}
	best, bestVotes := "", 0
	var order []string
	for _, m := range g.members {
		for _, p := range m.protocols {
			if g.allSupport(p.name) {
				if votes[p.name] == 0 {
					order = append(order, p.name)
				}
				votes[p.name]++
				break
			}
		}
	}
	for _, name := range order {
		if votes[name] > bestVotes {
			best, bestVotes = name, votes[name]
		}
	}
	return best
}

// readSubscriptions fills subscribed from the members' metadata.
func (g *group) readSubscriptions() {
	g.subscribed, g.subscribedKnown = nil, false
	if g.protocolType != consumerProtocol {
		return
	}
	if len(g.members) > 0 && g.protocol == "" {
		return
	}
	topics := map[string]bool{}
	for _, m := range g.members {
		if !subscribedTopics(m.metadata(g.protocol), func(t string) bool {
			topics[t] = true
			return len(topics) <= maxSubscribed
		}) {
			return
		}
	}
	g.subscribed, g.subscribedKnown = topics, true
}

// isSubscribed says whether offsets of the topic are in use. A consumer group that we
// cannot read counts as subscribed to everything.
func (g *group) isSubscribed(topic string) bool {
	if !g.subscribedKnown {
		return g.protocolType == consumerProtocol
	}
	return g.subscribed[topic]
}

// name is how reasons call a member.
func (m *member) name() string { return "member " + m.id }

// clientReason is the reason that a client gave (KIP-800), cleaned and cut.
func clientReason(r *string) string {
	if r == nil {
		return ""
	}
	s := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, *r)
	if len(s) > 255 {
		s = strings.ToValidUTF8(s[:255], "")
	}
	return strings.TrimSpace(s)
}
