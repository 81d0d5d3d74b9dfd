package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// OffsetDelete (47): 0 (KIP-496). Partitions that do not exist are refused here.
func (b *Broker) offsetDelete(p *wire.Pending, req *kmsg.OffsetDeleteRequest) wire.Outcome {
	im := b.o.Image()
	var refused []kmsg.OffsetDeleteResponseTopic
	kept := req.Topics[:0]
	for _, t := range req.Topics {
		known, unknown := lookUp(im, false, t.Topic, [16]byte{})
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		good := t.Partitions[:0]
		for _, q := range t.Partitions {
			if known != nil && q.Partition >= 0 && int(q.Partition) < len(known.Partitions) {
				good = append(good, q)
				continue
			}
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition, rp.ErrorCode = q.Partition, unknown.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(rt.Partitions) > 0 {
			refused = append(refused, rt)
		}
		if len(good) > 0 {
			t.Partitions = good
			kept = append(kept, t)
		}
	}
	req.Topics = kept
	b.o.Groups.Submit(p, req, func(r kmsg.Response) {
		if resp := r.(*kmsg.OffsetDeleteResponse); resp.ErrorCode == kerr.Code(nil) {
			resp.Topics = append(resp.Topics, refused...)
		}
	})
	return wire.Parked
}
