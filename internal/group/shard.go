package group

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/coordinator"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// Shard holds the groups of one partition of __consumer_offsets. It implements
// coordinator.Core and is not safe for concurrent use.
type Shard struct {
	opts   Options
	groups map[string]*group
	timers timers
	// retention fires when expired offsets and groups are to be looked for. It runs
	// only while there are groups.
	retention timer

	// topicIDs says which topic each name with offsets stands for.
	topicIDs map[string]model.TopicID
	// committing is the group whose commit is being handled.
	committing *group

	// now and out belong to the step that is running.
	now coordinator.Now
	out *coordinator.Effects[*Call]
}

var _ coordinator.Core[*Call] = (*Shard)(nil)

// NewShard returns a shard without groups.
func NewShard(opts Options) *Shard {
	s := &Shard{opts: opts.withDefaults(), groups: map[string]*group{}, topicIDs: map[string]model.TopicID{}}
	s.retention.fire = s.expire
	return s
}

// Step implements coordinator.Core.
func (s *Shard) Step(now coordinator.Now, c *Call, out *coordinator.Effects[*Call]) {
	s.now, s.out = now, out
	switch req := c.Req.(type) {
	case *kmsg.HeartbeatRequest:
		s.heartbeat(c, req)
	case *kmsg.OffsetCommitRequest:
		s.commitOffsets(c, req)
	case *kmsg.OffsetFetchRequest:
		s.fetchOffsets(c, req)
	case *kmsg.JoinGroupRequest:
		s.join(c, req)
	case *kmsg.SyncGroupRequest:
		s.sync(c, req)
	case *kmsg.LeaveGroupRequest:
		s.leave(c, req)
	case *kmsg.DescribeGroupsRequest:
		s.describe(c, req)
	case *kmsg.ListGroupsRequest:
		s.list(c, req)
	case *kmsg.DeleteGroupsRequest:
		s.deleteGroups(c, req)
	case *kmsg.OffsetDeleteRequest:
		s.deleteOffsets(c, req)
	case nil:
		s.forgetTopics(c.event)
		s.reply(c, nil)
	default:
		s.refuse(c, kerr.UnsupportedVersion)
	}
	s.now, s.out = coordinator.Now{}, nil
}

// Wake implements coordinator.Core.
func (s *Shard) Wake(now coordinator.Now, out *coordinator.Effects[*Call]) {
	s.now, s.out = now, out
	s.timers.run(now.Boot)
	s.now, s.out = coordinator.Now{}, nil
}

// Deadline implements coordinator.Core.
func (s *Shard) Deadline() (time.Duration, bool) { return s.timers.next() }

// Loaded implements coordinator.Core. Members get a whole session timeout from now on:
// for how long they were silent before is not known, and they may not have found us yet.
func (s *Shard) Loaded(now coordinator.Now, out *coordinator.Effects[*Call]) {
	s.now, s.out = now, out
	for _, g := range s.groups {
		s.account(g)
		for _, m := range g.members {
			s.touch(g, m)
		}
	}
	for _, id := range sortedKeys(s.groups) {
		if g := s.groups[id]; len(g.members) > s.opts.MaxSize {
			s.rebalance(g, "group.max.size is smaller than the group")
		}
	}
	s.settleTopics()
	s.watchRetention()
	s.now, s.out = coordinator.Now{}, nil
}

// Parked implements coordinator.Core.
func (s *Shard) Parked() []*Call {
	var calls []*Call
	for _, g := range s.groups {
		s.unaccount(g) // the shard is at its end
		for _, m := range g.members {
			if c := g.unpark(m); c != nil {
				calls = append(calls, c)
			}
			if m.sync != nil {
				calls, m.sync = append(calls, m.sync), nil
			}
		}
	}
	return calls
}

func (s *Shard) reply(c *Call, resp kmsg.Response) {
	c.Resp = resp
	s.out.Replies = append(s.out.Replies, c)
}

// refuse answers c with err and changes nothing.
func (s *Shard) refuse(c *Call, err error) { s.reply(c, errorAnswer(c.Req, err)) }

func (s *Shard) append(key, value []byte) {
	s.out.Records = append(s.out.Records, record.Record{Timestamp: s.nowMs(), Key: key, Value: value})
}

func (s *Shard) nowMs() int64 { return s.now.Wall.UnixMilli() }

// create returns a new group and sees to it that it expires some day.
func (s *Shard) create(id string) *group {
	g := newGroup(id, s.nowMs())
	s.install(g)
	s.watchRetention()
	return g
}

// install puts g into the shard and sets up its timers.
func (s *Shard) install(g *group) {
	g.joinTimer.fire = func() { s.joinDue(g) }
	g.syncTimer.fire = func() { s.syncDue(g) }
	s.groups[g.id] = g
	if s.out != nil { // what is replayed is counted when all of it is there
		s.account(g)
	}
}

func (s *Shard) watchRetention() {
	if len(s.groups) > 0 && s.retention.index == 0 {
		s.timers.set(&s.retention, s.now.Boot+s.opts.RetentionCheckInterval)
	}
}

// drop forgets g, of which nothing is left in the log, or whose tombstones are written.
func (s *Shard) drop(g *group) {
	s.timers.stop(&g.joinTimer)
	s.timers.stop(&g.syncTimer)
	for _, m := range g.members {
		s.timers.stop(&m.session)
	}
	for _, t := range g.pending {
		s.timers.stop(t)
	}
	s.unaccount(g)
	if s.groups[g.id] == g {
		delete(s.groups, g.id)
	}
}

// touch gives m a whole session timeout from now on.
func (s *Shard) touch(g *group, m *member) { s.touchFor(g, m, m.sessionTimeout) }

func (s *Shard) touchFor(g *group, m *member, d time.Duration) {
	if m.session.fire == nil {
		m.session.fire = func() { s.sessionDue(g, m) }
	}
	s.timers.set(&m.session, s.now.Boot+d)
}

// stateFilter says whether a state passes the filter of ListGroups, whatever its case.
func stateFilter(filter []string, name string) bool {
	if len(filter) == 0 {
		return true
	}
	for _, f := range filter {
		if strings.EqualFold(f, name) {
			return true
		}
	}
	return false
}
