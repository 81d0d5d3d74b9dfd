package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/coordinator"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// The kinds of coordinators in FindCoordinator.
const (
	groupCoordinator       = 0
	transactionCoordinator = 1
)

// FindCoordinator (10): 0 to 6. The kind of coordinator from v1, several keys from v4
// (KIP-699), share groups' partitions in v6, which there are none of. The first question
// for a group creates __consumer_offsets.
func (b *Broker) findCoordinator(p *wire.Pending, req *kmsg.FindCoordinatorRequest) wire.Outcome {
	keys := req.CoordinatorKeys
	if req.Version < 4 {
		keys = []string{req.CoordinatorKey}
	}
	im := b.o.Image()
	if req.CoordinatorType != groupCoordinator || im.Topics[meta.OffsetsTopic] != nil || len(keys) == 0 {
		return respond(p, b.coordinatorsOf(p.Conn, im, req, keys, nil))
	}
	conn := p.Conn
	return b.later(p, 0, func(ctx context.Context) kmsg.Response {
		failed := b.createMissing(ctx, []meta.NewTopic{b.offsetsTopic()})
		return b.coordinatorsOf(conn, b.o.Image(), req, keys, failed[meta.OffsetsTopic])
	})
}

// coordinatorsOf answers for all keys; failed is why __consumer_offsets could not be
// created.
func (b *Broker) coordinatorsOf(conn *wire.Conn, im *meta.Image, req *kmsg.FindCoordinatorRequest, keys []string, failed error) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	for _, key := range keys {
		c := b.coordinatorOf(conn, im, req.CoordinatorType, key, failed)
		resp.Coordinators = append(resp.Coordinators, c)
		if req.Version < 4 {
			resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
			resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
		}
	}
	return resp
}

func (b *Broker) coordinatorOf(conn *wire.Conn, im *meta.Image, kind int8, key string, failed error) kmsg.FindCoordinatorResponseCoordinator {
	c := kmsg.NewFindCoordinatorResponseCoordinator()
	c.Key, c.NodeID, c.Port = key, -1, -1
	refuse := func(err error) kmsg.FindCoordinatorResponseCoordinator {
		c.ErrorCode, c.ErrorMessage = kerr.Code(err), kerr.Message(err)
		return c
	}
	switch kind {
	case groupCoordinator:
	case transactionCoordinator:
		// The one error that Java, librdkafka and franz-go give up on at once.
		return refuse(kerr.With(kerr.TransactionalIDAuthorizationFailed, "transactions are not available in this version"))
	default:
		return refuse(kerr.With(kerr.InvalidRequest, "there are no coordinators of type %d", kind))
	}
	t := im.Topics[meta.OffsetsTopic]
	if t == nil || len(t.Partitions) == 0 {
		if failed != nil {
			return refuse(kerr.With(kerr.CoordinatorNotAvailable, "%s cannot be created: %s", meta.OffsetsTopic, *kerr.Message(failed)))
		}
		return refuse(kerr.CoordinatorNotAvailable)
	}
	st := t.Partitions[coordinator.PartitionOf(key, int32(len(t.Partitions)))]
	br := im.Brokers[b.leader(im, st)]
	if br == nil {
		return refuse(kerr.CoordinatorNotAvailable)
	}
	host, port, ok := b.endpoint(conn, im, br)
	if !ok {
		return refuse(kerr.CoordinatorNotAvailable)
	}
	c.NodeID, c.Host, c.Port = int32(br.ID), host, port
	return c
}
