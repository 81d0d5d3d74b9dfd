package node

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// values reads partition 0 of a topic up to its end, by offset.
func (w *world) values(topic string) map[int64]string {
	w.t.Helper()
	c := w.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	defer c.Close()
	req := kmsg.NewPtrListOffsetsRequest()
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req.ReplicaID, req.Topics = -1, append(req.Topics, rt)
	resp, err := req.RequestWith(context.Background(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	end := resp.Topics[0].Partitions[0].Offset
	got := map[int64]string{}
	for next := int64(0); next < end; {
		fs := c.PollFetches(context.Background())
		if err := fs.Err(); err != nil {
			w.t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			got[r.Offset] = string(r.Value)
			next = r.Offset + 1
		})
	}
	return got
}
