package broker

import (
	"context"
	"math"
	"net"
	"sort"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// Metadata (3): 0 to 13. v0 takes an empty list as "all"; below v4 a named topic is
// created implicitly; topic ids from v10, lookup by id from v12.
func (b *Broker) metadata(p *wire.Pending, req *kmsg.MetadataRequest) wire.Outcome {
	im := b.o.Image()
	req.Topics = eachOnce(req.Topics)
	create := req.Version < 4 || req.AllowAutoTopicCreation
	var missing []meta.NewTopic
	if create && b.o.AutoCreateTopics() {
		for _, t := range req.Topics {
			if len(missing) == maxAutoTopics {
				break // the rest is unknown as yet; clients ask again
			}
			if t.Topic != nil && t.TopicID == (model.TopicID{}) && im.Topics[*t.Topic] == nil && meta.CheckTopicName(*t.Topic) == nil {
				missing = append(missing, b.autoTopic(*t.Topic))
			}
		}
	}
	if len(missing) == 0 {
		return respond(p, b.metadataOf(p.Conn, im, req, nil))
	}
	conn := p.Conn
	return b.later(p, 0, func(ctx context.Context) kmsg.Response {
		failed := b.createMissing(ctx, missing)
		return b.metadataOf(conn, b.o.Image(), req, failed)
	})
}

// maxAutoTopics is how many topics one Metadata request may create by naming them.
const maxAutoTopics = 1000

// eachOnce leaves out topics that are named before, as Kafka does: the answer about one
// may be a hundred thousand times longer than its name.
func eachOnce(topics []kmsg.MetadataRequestTopic) []kmsg.MetadataRequestTopic {
	if len(topics) < 2 {
		return topics
	}
	type key struct {
		name string
		null bool
		id   model.TopicID
	}
	seen := make(map[key]bool, len(topics))
	kept := topics[:0]
	for _, t := range topics {
		k := key{null: t.Topic == nil, id: t.TopicID}
		if t.Topic != nil {
			k.name = *t.Topic
		}
		if !seen[k] {
			seen[k] = true
			kept = append(kept, t)
		}
	}
	return kept
}

// autoTopic is the topic that a client creates by naming it.
func (b *Broker) autoTopic(name string) meta.NewTopic {
	if name == meta.OffsetsTopic {
		return b.offsetsTopic()
	}
	return meta.NewTopic{Name: name, Partitions: -1, ReplicationFactor: -1}
}

// createMissing creates topics and waits until they are served here; it returns the
// errors by name. Somebody else having been faster is no error.
func (b *Broker) createMissing(ctx context.Context, topics []meta.NewTopic) map[string]error {
	failed := map[string]error{}
	res, rev, err := b.o.Admin.CreateTopics(ctx, topics, false)
	for i, t := range topics {
		e := adminError(err)
		if err == nil {
			e = res[i].Err
		}
		if e != nil && kerr.Of(e) != kerr.TopicAlreadyExists {
			failed[t.Name] = e
		}
	}
	b.applied(ctx, rev)
	return failed
}

func (b *Broker) metadataOf(conn *wire.Conn, im *meta.Image, req *kmsg.MetadataRequest, failed map[string]error) kmsg.Response {
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = req.Version
	resp.ClusterID = &im.ClusterID
	resp.ControllerID = int32(b.controllerID(im))
	for _, id := range im.BrokerIDs() {
		br := im.Brokers[id]
		if br.Status == meta.BrokerFenced {
			continue
		}
		host, port, ok := b.endpoint(conn, im, br)
		if !ok {
			continue
		}
		m := kmsg.NewMetadataResponseBroker()
		m.NodeID, m.Host, m.Port, m.Rack = int32(id), host, port, rack(br)
		resp.Brokers = append(resp.Brokers, m)
	}
	if req.Version >= 8 && req.Version <= 10 && req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	all := req.Topics == nil || req.Version == 0 && len(req.Topics) == 0
	if all {
		for _, name := range im.TopicNames() {
			resp.Topics = append(resp.Topics, b.metadataTopic(conn, im, req, im.Topics[name]))
		}
		return resp
	}
	for _, t := range req.Topics {
		byID := t.TopicID != (model.TopicID{})
		var found *meta.Topic
		if byID {
			found = im.TopicsByID[t.TopicID]
		} else if t.Topic != nil {
			found = im.Topics[*t.Topic]
		}
		if found != nil {
			resp.Topics = append(resp.Topics, b.metadataTopic(conn, im, req, found))
			continue
		}
		m := kmsg.NewMetadataResponseTopic()
		m.TopicID = t.TopicID
		switch {
		case byID:
			m.ErrorCode = kerr.UnknownTopicID.Code
			if req.Version < 12 {
				m.Topic = new(string) // the name is not nullable there
			}
		case t.Topic == nil:
			m.Topic = new(string)
			m.ErrorCode = kerr.InvalidTopicException.Code
		default:
			m.Topic = t.Topic
			m.ErrorCode = metadataError(*t.Topic, failed).Code
		}
		resp.Topics = append(resp.Topics, m)
	}
	return resp
}

// metadataError is what a client hears of a topic that is not there.
func metadataError(name string, failed map[string]error) *kerr.Error {
	if err := failed[name]; err != nil {
		switch e := kerr.Of(err); e {
		case kerr.InvalidTopicException, kerr.PolicyViolation, kerr.TopicAuthorizationFailed:
			return e
		default:
			// Retriable for every client: creation may work the next time.
			return kerr.LeaderNotAvailable
		}
	}
	if meta.CheckTopicName(name) != nil {
		return kerr.InvalidTopicException
	}
	return kerr.UnknownTopicOrPartition
}

func (b *Broker) metadataTopic(conn *wire.Conn, im *meta.Image, req *kmsg.MetadataRequest, t *meta.Topic) kmsg.MetadataResponseTopic {
	m := kmsg.NewMetadataResponseTopic()
	name := t.Name
	m.Topic, m.TopicID, m.IsInternal = &name, t.ID, meta.IsInternal(name)
	if req.IncludeTopicAuthorizedOperations {
		m.AuthorizedOperations = topicOperations
	}
	m.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, len(t.Partitions))
	for i, st := range t.Partitions {
		part := kmsg.NewMetadataResponseTopicPartition()
		part.Partition = int32(i)
		part.Leader, part.LeaderEpoch = int32(b.leader(im, st)), int32(st.LeaderEpoch)
		part.Replicas, part.ISR = ids(st.Replicas), pairIDs(st.ISR)
		part.OfflineReplicas = offline(im, st.Replicas)
		if part.Leader < 0 {
			part.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		m.Partitions = append(m.Partitions, part)
	}
	return m
}

// leader is the broker that leads, NoBroker while its registration is not the one that
// was elected, or is fenced.
func (b *Broker) leader(im *meta.Image, st *meta.PartitionState) model.BrokerID {
	br := im.Brokers[st.Leader.ID]
	if br == nil || br.Status == meta.BrokerFenced || br.Epoch != st.Leader.Epoch {
		return model.NoBroker
	}
	return st.Leader.ID
}

// controllerID is the broker to which clients send admin requests. Any broker passes
// them on, so without an elected controller this one is as good.
func (b *Broker) controllerID(im *meta.Image) model.BrokerID {
	if br := im.Brokers[im.Controller]; br != nil && br.Status != meta.BrokerFenced {
		return im.Controller
	}
	return b.nodeID()
}

// endpoint is the address of br for a client on conn. A broker that is alone and has
// no advertised.listeners is where the client reached it.
func (b *Broker) endpoint(conn *wire.Conn, im *meta.Image, br *meta.Broker) (string, int32, bool) {
	if !b.o.Advertised && len(im.Brokers) == 1 && br.ID == b.nodeID() && conn.Local != nil {
		if host, port, err := net.SplitHostPort(conn.Local.String()); err == nil {
			if n, err := strconv.ParseUint(port, 10, 16); err == nil {
				return host, int32(n), true
			}
		}
	}
	e, ok := br.Endpoint(conn.Listener)
	return e.Host, e.Port, ok
}

func rack(br *meta.Broker) *string {
	if br.Rack == "" {
		return nil
	}
	r := br.Rack
	return &r
}

func ids(in []model.BrokerID) []int32 {
	out := make([]int32, len(in))
	for i, id := range in {
		out[i] = int32(id)
	}
	return out
}

func pairIDs(in []model.Pair) []int32 {
	out := make([]int32, len(in))
	for i, p := range in {
		out[i] = int32(p.ID)
	}
	return out
}

func offline(im *meta.Image, replicas []model.BrokerID) []int32 {
	out := []int32{}
	for _, id := range replicas {
		if br := im.Brokers[id]; br == nil || br.Status == meta.BrokerFenced {
			out = append(out, int32(id))
		}
	}
	return out
}

// What everyone may do as long as there is no authorizer, as the bit sets of KIP-430:
// bit n is Kafka's AclOperation with code n.
const (
	opRead, opWrite, opCreate, opDelete  = 1 << 3, 1 << 4, 1 << 5, 1 << 6
	opAlter, opDescribe, opClusterAction = 1 << 7, 1 << 8, 1 << 9
	opDescribeConfigs, opAlterConfigs    = 1 << 10, 1 << 11
	opIdempotentWrite                    = 1 << 12

	topicOperations = opRead | opWrite | opCreate | opDelete | opAlter | opDescribe | opDescribeConfigs | opAlterConfigs
	// groupOperations are those of a consumer group.
	groupOperations   = opRead | opDelete | opDescribe | opDescribeConfigs | opAlterConfigs
	clusterOperations = opCreate | opAlter | opDescribe | opClusterAction | opDescribeConfigs | opAlterConfigs | opIdempotentWrite
)

// DescribeCluster (60): 0 to 2 (KIP-700, KIP-919 endpoint type, KIP-1073 fenced brokers).
func (b *Broker) describeCluster(p *wire.Pending, req *kmsg.DescribeClusterRequest) kmsg.Response {
	im := b.o.Image()
	resp := kmsg.NewPtrDescribeClusterResponse()
	if req.Version >= 1 {
		resp.EndpointType = req.EndpointType
		if req.EndpointType != 1 {
			err := kerr.With(kerr.UnsupportedEndpointType, "only brokers (endpoint type 1) can be described here, not type %d", req.EndpointType)
			resp.ErrorCode, resp.ErrorMessage = kerr.Code(err), kerr.Message(err)
			return resp
		}
	}
	resp.ClusterID = im.ClusterID
	resp.ControllerID = int32(b.controllerID(im))
	for _, id := range im.BrokerIDs() {
		br := im.Brokers[id]
		fenced := br.Status == meta.BrokerFenced
		if fenced && !req.IncludeFencedBrokers {
			continue
		}
		host, port, ok := b.endpoint(p.Conn, im, br)
		if !ok {
			continue
		}
		d := kmsg.NewDescribeClusterResponseBroker()
		d.NodeID, d.Host, d.Port, d.Rack, d.IsFenced = int32(id), host, port, rack(br), fenced
		resp.Brokers = append(resp.Brokers, d)
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	return resp
}

// DescribeTopicPartitions (75): 0 (KIP-966), paged by a cursor. Without topics all are
// described, in the order of names.
func (b *Broker) describeTopicPartitions(_ *wire.Pending, req *kmsg.DescribeTopicPartitionsRequest) kmsg.Response {
	im := b.o.Image()
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	var names []string
	if len(req.Topics) == 0 {
		names = im.TopicNames()
	} else {
		for _, t := range req.Topics {
			names = append(names, t.Topic)
		}
		sort.Strings(names)
	}
	limit := b.o.MaxTopicPartitions
	if req.ResponsePartitionLimit > 0 {
		limit = min(limit, int(req.ResponsePartitionLimit))
	}
	first := int32(0)
	if c := req.Cursor; c != nil {
		if c.Partition < 0 || c.Partition == math.MaxInt32 {
			return kmsg.NewPtrDescribeTopicPartitionsResponse()
		}
		i := sort.SearchStrings(names, c.Topic)
		if i < len(names) && names[i] == c.Topic {
			first = c.Partition
		}
		names = names[i:]
	}
	for n, name := range names {
		if n > 0 && name == names[n-1] {
			continue
		}
		d := kmsg.NewDescribeTopicPartitionsResponseTopic()
		topicName := name
		d.Topic = &topicName
		t := im.Topics[name]
		if t == nil {
			d.ErrorCode = metadataError(name, nil).Code
			resp.Topics = append(resp.Topics, d)
			continue
		}
		d.TopicID, d.IsInternal, d.AuthorizedOperations = t.ID, meta.IsInternal(name), topicOperations
		for i := int(first); i < len(t.Partitions); i++ {
			if limit == 0 {
				next := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
				next.Topic, next.Partition = name, int32(i)
				resp.NextCursor = &next
				if len(d.Partitions) > 0 {
					resp.Topics = append(resp.Topics, d)
				}
				return resp
			}
			limit--
			st := t.Partitions[i]
			q := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
			q.Partition, q.LeaderID, q.LeaderEpoch = int32(i), int32(b.leader(im, st)), int32(st.LeaderEpoch)
			q.Replicas, q.ISR = ids(st.Replicas), pairIDs(st.ISR)
			q.EligibleLeaderReplicas, q.LastKnownELR = pairIDs(st.ELR), ids(st.LastKnown)
			q.OfflineReplicas = offline(im, st.Replicas)
			if q.LeaderID < 0 {
				q.ErrorCode = kerr.LeaderNotAvailable.Code
			}
			d.Partitions = append(d.Partitions, q)
		}
		first = 0
		resp.Topics = append(resp.Topics, d)
	}
	return resp
}
