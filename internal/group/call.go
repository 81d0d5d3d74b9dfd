package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// Client is who sent a request.
type Client struct {
	// ID is the client id of the request header.
	ID string
	// Host is the client's address as Kafka prints it, "/127.0.0.1".
	Host string
	// Kalda says that the client's software is kalda's, which gets the tagged fields
	// that only kalda knows.
	Kalda bool
}

// Call is one request on its way through a shard.
type Call struct {
	// Req is the request; nil for an event of ours.
	Req kmsg.Request
	// Resp is the answer, set when the call is released.
	Resp kmsg.Response
	// Client sent the request.
	Client Client

	// event is set when Req is nil.
	event topicsDeleted
	// Exactly one of the following says where the answer goes; none for an event.
	pending *wire.Pending
	part    *fanOut
	done    func(*Call)
	// finish, where set, may change the answer before it goes out.
	finish func(kmsg.Response)
}

// topicsDeleted tells a shard that topics are gone, and with them what groups committed.
type topicsDeleted struct{ topics []string }

// NewCall returns a call whose answer is given to done.
func NewCall(req kmsg.Request, client Client, done func(*Call)) *Call {
	return &Call{Req: req, Client: client, done: done}
}

// Release implements coordinator.Call.
func (c *Call) Release() { c.deliver() }

// Fail implements coordinator.Call.
func (c *Call) Fail(err error) {
	if c.Req != nil {
		c.Resp = errorAnswer(c.Req, err)
	}
	c.deliver()
}

// kept says that the call may wait for long, and that what the shard keeps of its request
// counts against the shard's own bounds: the broker's memory for requests is for others.
func (c *Call) kept() {
	if c.pending != nil {
		c.pending.Release()
	}
}

func (c *Call) deliver() {
	if c.finish != nil {
		c.finish(c.Resp)
	}
	switch {
	case c.part != nil:
		c.part.countdown.Done()
	case c.pending != nil:
		p := c.pending
		c.pending = nil // the server uses p again once the answer is sent
		p.Encode = c
		p.Complete()
	case c.done != nil:
		c.done(c)
	}
}

// EncodeAnswer implements wire.Encoder.
func (c *Call) EncodeAnswer(p *wire.Pending) { p.Resp = c.Resp.AppendTo(p.Resp) }

// errorAnswer puts err where the answer to req has a place for it.
func errorAnswer(req kmsg.Request, err error) kmsg.Response {
	code := kerr.Code(err)
	resp := req.ResponseKind()
	switch req := req.(type) {
	case *kmsg.JoinGroupRequest:
		return joinError(req, req.MemberID, err)
	case *kmsg.SyncGroupRequest:
		resp.(*kmsg.SyncGroupResponse).ErrorCode = code
	case *kmsg.HeartbeatRequest:
		resp.(*kmsg.HeartbeatResponse).ErrorCode = code
	case *kmsg.LeaveGroupRequest:
		resp.(*kmsg.LeaveGroupResponse).ErrorCode = code
	case *kmsg.OffsetCommitRequest:
		return commitAnswer(req, code)
	case *kmsg.OffsetFetchRequest:
		return fetchError(req, code)
	case *kmsg.OffsetDeleteRequest:
		resp.(*kmsg.OffsetDeleteResponse).ErrorCode = code
	case *kmsg.ListGroupsRequest:
		resp.(*kmsg.ListGroupsResponse).ErrorCode = code
	case *kmsg.DescribeGroupsRequest:
		r := resp.(*kmsg.DescribeGroupsResponse)
		for _, id := range req.Groups {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode, g.ErrorMessage = id, code, kerr.Message(err)
			r.Groups = append(r.Groups, g)
		}
	case *kmsg.DeleteGroupsRequest:
		r := resp.(*kmsg.DeleteGroupsResponse)
		for _, id := range req.Groups {
			g := kmsg.NewDeleteGroupsResponseGroup()
			g.Group, g.ErrorCode, g.ErrorMessage = id, code, kerr.Message(err)
			r.Groups = append(r.Groups, g)
		}
	}
	return resp
}

// joinError answers a JoinGroup with an error and the member id that the client is to
// use from now on; "" makes it ask for a new one.
func joinError(req *kmsg.JoinGroupRequest, memberID string, err error) *kmsg.JoinGroupResponse {
	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.ErrorCode = kerr.Code(err)
	resp.Generation = -1
	resp.MemberID = memberID
	return resp
}

// fetchError answers an OffsetFetch with an error: per partition in version 1, which has
// no other place for it, for the whole up to version 7 and per group after that.
func fetchError(req *kmsg.OffsetFetchRequest, code int16) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	resp.ErrorCode = code
	if req.Version < 2 {
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetFetchResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetFetchResponseTopicPartition()
				rp.Partition, rp.Offset, rp.ErrorCode = p, -1, code
				rp.Metadata = kmsg.StringPtr("")
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
	}
	for _, g := range req.Groups {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group, rg.ErrorCode = g.Group, code
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}

// commitAnswer answers an OffsetCommit with one code for every partition.
func commitAnswer(req *kmsg.OffsetCommitRequest, code int16) *kmsg.OffsetCommitResponse {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, len(req.Topics))
	for i := range req.Topics {
		t, rt := &req.Topics[i], &resp.Topics[i]
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		rt.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			rt.Partitions[j].Partition = t.Partitions[j].Partition
			rt.Partitions[j].ErrorCode = code
		}
	}
	return resp
}
