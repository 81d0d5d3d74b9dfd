package group

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/coordinator"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// Service is the group coordinator of one broker: the shards of the partitions of
// __consumer_offsets that this broker leads. All methods may be called from any
// goroutine.
type Service struct {
	runtime    *coordinator.Runtime[*Call]
	partitions func() int32
	admit      func(partition int32) error // Options.Admit
	budget     *budget                     // of all shards
}

// NewService returns a service without shards. partitions says how many partitions
// __consumer_offsets has in the current image, 0 while the topic does not exist.
// opts.NewID may be nil: member ids then end in 128 random bits.
func NewService(clock model.Clock, partitions func() int32, opts Options, runtime coordinator.Options) *Service {
	if opts.NewID == nil {
		opts.NewID = randomID
	}
	opts = opts.withDefaults() // with a budget that all shards share
	return &Service{
		partitions: partitions,
		admit:      opts.Admit,
		budget:     opts.budget,
		runtime: coordinator.New(clock, func(int32) coordinator.Core[*Call] {
			return NewShard(opts)
		}, runtime),
	}
}

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// Bytes is about what all groups take in memory, offsets included.
func (s *Service) Bytes() int64 { return s.budget.used.Load() }

// Elect starts the shard of a partition that this broker now leads at epoch; requests
// are answered COORDINATOR_LOAD_IN_PROGRESS until its log is replayed. An older epoch
// of the same partition ends.
func (s *Service) Elect(partition int32, epoch model.LeaderEpoch, log coordinator.Log) {
	s.runtime.Elect(partition, epoch, log)
}

// Resign ends the shard of a partition if it runs at epoch or an older one. Its requests,
// parked ones included, are answered NOT_COORDINATOR.
func (s *Service) Resign(partition int32, epoch model.LeaderEpoch) {
	s.runtime.Resign(partition, epoch)
}

// Close ends all shards and waits for their goroutines.
func (s *Service) Close() { s.runtime.Close() }

// ClientOf describes the sender of p. It is for the connection's reader goroutine only.
func ClientOf(p *wire.Pending) Client {
	c := Client{ID: p.ClientID}
	if p.Conn == nil {
		return c
	}
	c.Kalda = strings.HasPrefix(p.Conn.SoftwareName, "kalda")
	if p.Conn.Remote != nil {
		host := p.Conn.Remote.String()
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			host = host[:i]
		}
		c.Host = "/" + strings.Trim(host, "[]")
	}
	return c
}

// Submit hands a request to the group coordinator, which completes p: the handler returns
// wire.Parked. req may be any request of the classic protocol, from JoinGroup to
// DeleteGroups, apart from FindCoordinator; what it shares with p.Body is copied.
//
// For OffsetCommit and OffsetFetch the caller has left only topics that exist and are
// allowed, with their names filled in also where the version carries topic ids. finish,
// if not nil, gets the answer before it is sent, on another goroutine, to add what the
// caller has kept back.
func (s *Service) Submit(p *wire.Pending, req kmsg.Request, finish func(kmsg.Response)) {
	s.submit(&Call{Req: req, Client: ClientOf(p), pending: p, finish: finish})
}

// TopicsDeleted removes the offsets that groups of this broker's shards committed to
// deleted topics. A topic that was deleted and created again counts: it is called for
// each id that is gone.
func (s *Service) TopicsDeleted(topics []string) {
	for _, p := range s.runtime.Led() {
		s.runtime.Tell(p, &Call{event: topicsDeleted{topics}})
	}
}

func (s *Service) submit(c *Call) {
	switch req := c.Req.(type) {
	case *kmsg.HeartbeatRequest:
		s.route(req.Group, c)
	case *kmsg.OffsetCommitRequest:
		s.route(req.Group, c)
	case *kmsg.JoinGroupRequest:
		for i := range req.Protocols {
			req.Protocols[i].Metadata = bytes.Clone(req.Protocols[i].Metadata)
		}
		s.route(req.Group, c)
	case *kmsg.SyncGroupRequest:
		for i := range req.GroupAssignment {
			req.GroupAssignment[i].MemberAssignment = bytes.Clone(req.GroupAssignment[i].MemberAssignment)
		}
		s.route(req.Group, c)
	case *kmsg.LeaveGroupRequest:
		s.route(req.Group, c)
	case *kmsg.OffsetDeleteRequest:
		s.route(req.Group, c)
	case *kmsg.OffsetFetchRequest:
		if req.Version < 8 {
			s.route(req.Group, c)
			return
		}
		s.fan(c, len(req.Groups), func(i int) (string, kmsg.Request) {
			one := *req
			one.Groups = req.Groups[i : i+1]
			return req.Groups[i].Group, &one
		})
	case *kmsg.DescribeGroupsRequest:
		s.fan(c, len(req.Groups), func(i int) (string, kmsg.Request) {
			one := *req
			one.Groups = req.Groups[i : i+1]
			return req.Groups[i], &one
		})
	case *kmsg.DeleteGroupsRequest:
		s.fan(c, len(req.Groups), func(i int) (string, kmsg.Request) {
			one := *req
			one.Groups = req.Groups[i : i+1]
			return req.Groups[i], &one
		})
	case *kmsg.ListGroupsRequest:
		led := s.runtime.Led()
		f := newFanOut(c, len(led))
		for i, p := range led {
			s.runtime.Submit(p, f.call(i, req))
		}
		f.countdown.Done()
	default:
		c.Fail(kerr.UnsupportedVersion)
	}
}

// route sends a call to the shard of its group.
func (s *Service) route(groupID string, c *Call) {
	n := s.partitions()
	if n <= 0 {
		c.Fail(kerr.NotCoordinator)
		return
	}
	at := coordinator.PartitionOf(groupID, n)
	if s.admit != nil && leadsToRecords(c.Req) {
		if err := s.admit(at); err != nil {
			c.Fail(fmt.Errorf("%w: %w", kerr.CoordinatorNotAvailable, err))
			return
		}
	}
	s.runtime.Submit(at, c)
}

// leadsToRecords says whether a request may change what a group must remember.
func leadsToRecords(req kmsg.Request) bool {
	switch req.(type) {
	case *kmsg.OffsetCommitRequest, *kmsg.JoinGroupRequest, *kmsg.SyncGroupRequest, *kmsg.LeaveGroupRequest,
		*kmsg.OffsetDeleteRequest, *kmsg.DeleteGroupsRequest:
		return true
	}
	return false
}

// fan sends a request about n groups as n requests to the groups' shards.
func (s *Service) fan(c *Call, n int, part func(i int) (groupID string, one kmsg.Request)) {
	f := newFanOut(c, n)
	seen := make(map[string]bool, n)
	for i := range n {
		id, one := part(i)
		call := f.call(i, one)
		if seen[id] {
			// The answer about a group may be a million times longer than the question.
			call.Fail(kerr.With(kerr.InvalidRequest, "a group is named more than once in one request"))
			continue
		}
		seen[id] = true
		s.route(id, call)
	}
	f.countdown.Done()
}

// fanOut collects the answers to the parts of one call.
type fanOut struct {
	whole     *Call
	parts     []*Call
	countdown *coordinator.Countdown
}

// newFanOut makes room for n parts. The countdown holds one more, which whoever sends
// the parts takes off at the end, so that n may be 0 and early answers do no harm.
func newFanOut(c *Call, n int) *fanOut {
	f := &fanOut{whole: c, parts: make([]*Call, n)}
	f.countdown = coordinator.NewCountdown(n+1, f.merge)
	return f
}

func (f *fanOut) call(i int, req kmsg.Request) *Call {
	f.parts[i] = &Call{Req: req, Client: f.whole.Client, part: f}
	return f.parts[i]
}

// merge answers the whole call from its parts, in their order.
func (f *fanOut) merge() {
	c := f.whole
	c.Resp = c.Req.ResponseKind()
	switch resp := c.Resp.(type) {
	case *kmsg.OffsetFetchResponse:
		for _, p := range f.parts {
			resp.Groups = append(resp.Groups, p.Resp.(*kmsg.OffsetFetchResponse).Groups...)
		}
	case *kmsg.DescribeGroupsResponse:
		for _, p := range f.parts {
			resp.Groups = append(resp.Groups, p.Resp.(*kmsg.DescribeGroupsResponse).Groups...)
		}
	case *kmsg.DeleteGroupsResponse:
		for _, p := range f.parts {
			resp.Groups = append(resp.Groups, p.Resp.(*kmsg.DeleteGroupsResponse).Groups...)
		}
	case *kmsg.ListGroupsResponse:
		for _, p := range f.parts {
			r := p.Resp.(*kmsg.ListGroupsResponse)
			switch r.ErrorCode {
			case 0, kerr.NotCoordinator.Code: // the shard has moved: its broker lists it
				resp.Groups = append(resp.Groups, r.Groups...)
			default:
				resp.ErrorCode = r.ErrorCode
			}
		}
	}
	c.deliver()
}

// budget bounds what the groups of all shards of a broker take together, in bytes.
type budget struct {
	max  int64
	used atomic.Int64
}

func (b *budget) take(n int) { b.used.Add(int64(n)) }

func (b *budget) has(n int) bool { return b.used.Load()+int64(n) <= b.max }
