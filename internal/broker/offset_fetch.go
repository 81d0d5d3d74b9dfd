package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// OffsetFetch (9): 1 to 10. All topics of a group from v2, several groups from v8
// (KIP-709), topic ids instead of names in v10. A partition without a committed offset,
// and a group that does not exist, have offset -1 and no error.
func (b *Broker) offsetFetch(p *wire.Pending, req *kmsg.OffsetFetchRequest) wire.Outcome {
	if req.Version < 10 {
		b.o.Groups.Submit(p, req, nil)
		return wire.Parked
	}
	im := b.o.Image()
	refused := make([][]kmsg.OffsetFetchResponseGroupTopic, len(req.Groups))
	for i := range req.Groups {
		g := &req.Groups[i]
		if g.Topics == nil {
			continue // all
		}
		kept := g.Topics[:0]
		for _, t := range g.Topics {
			known, unknown := lookUp(im, true, "", t.TopicID)
			if known != nil {
				t.Topic = known.Name
				kept = append(kept, t)
				continue
			}
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.TopicID = t.TopicID
			for _, q := range t.Partitions {
				rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				rp.Partition, rp.Offset, rp.LeaderEpoch, rp.ErrorCode = q, -1, -1, unknown.Code
				rp.Metadata = kmsg.StringPtr("")
				rt.Partitions = append(rt.Partitions, rp)
			}
			refused[i] = append(refused[i], rt)
		}
		g.Topics = kept
	}
	b.o.Groups.Submit(p, req, func(r kmsg.Response) {
		groups := r.(*kmsg.OffsetFetchResponse).Groups
		for i := range groups {
			g := &groups[i]
			if g.ErrorCode != 0 {
				continue
			}
			found := g.Topics[:0]
			for _, t := range g.Topics {
				if known := im.Topics[t.Topic]; known != nil { // else it has no id to be named by
					t.TopicID = known.ID
					found = append(found, t)
				}
			}
			g.Topics = append(found, refused[i]...)
		}
	})
	return wire.Parked
}
