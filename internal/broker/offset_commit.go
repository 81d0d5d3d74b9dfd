package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// OffsetCommit (8): 1 to 10. Offsets of partitions that do not exist are refused here,
// one by one; topic ids instead of names in v10 (KIP-848).
func (b *Broker) offsetCommit(p *wire.Pending, req *kmsg.OffsetCommitRequest) wire.Outcome {
	im := b.o.Image()
	var refused []kmsg.OffsetCommitResponseTopic
	kept := req.Topics[:0]
	for _, t := range req.Topics {
		known, unknown := lookUp(im, req.Version >= 10, t.Topic, t.TopicID)
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		good := t.Partitions[:0]
		for _, q := range t.Partitions {
			if known != nil && q.Partition >= 0 && int(q.Partition) < len(known.Partitions) {
				good = append(good, q)
				continue
			}
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = q.Partition, unknown.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(rt.Partitions) > 0 {
			refused = append(refused, rt)
		}
		if len(good) > 0 {
			t.Topic, t.Partitions = known.Name, good
			kept = append(kept, t)
		}
	}
	req.Topics = kept
	if len(kept) == 0 {
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		resp.Topics = refused
		return respond(p, resp)
	}
	var finish func(kmsg.Response)
	if len(refused) > 0 {
		finish = func(r kmsg.Response) {
			resp := r.(*kmsg.OffsetCommitResponse)
			resp.Topics = append(resp.Topics, refused...)
		}
	}
	b.o.Groups.Submit(p, req, finish)
	return wire.Parked
}

// lookUp finds a topic by id or by name. For a partition that does not exist, or one of
// a topic that was not found, unknown is the error.
func lookUp(im *meta.Image, byID bool, name string, id model.TopicID) (t *meta.Topic, unknown *kerr.Error) {
	if !byID {
		return im.Topics[name], kerr.UnknownTopicOrPartition
	}
	if t = im.TopicsByID[id]; t == nil {
		return nil, kerr.UnknownTopicID
	}
	return t, kerr.UnknownTopicOrPartition
}
