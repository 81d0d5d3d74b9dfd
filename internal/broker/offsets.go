package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// ListOffsets (2): 1 to 11. -3 from v7, -4 from v8, -5 from v9; -6 (v11) names
// uploads that are pending, of which there are none without tiering.
func (b *Broker) listOffsets(_ *wire.Pending, req *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := kmsg.NewPtrListOffsetsResponse()
	type key struct {
		topic     string
		partition int32
	}
	seen := map[key]int{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			seen[key{t.Topic, p.Partition}]++
		}
	}
	for _, t := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, q := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition = q.Partition
			if seen[key{t.Topic, q.Partition}] > 1 {
				rp.ErrorCode = kerr.InvalidRequest.Code
				rt.Partitions = append(rt.Partitions, rp)
				continue
			}
			info, err := b.listOffset(req, t.Topic, &q)
			rp.ErrorCode = kerr.Code(err)
			if err == nil {
				rp.Offset, rp.Timestamp, rp.LeaderEpoch = int64(info.Offset), info.Timestamp, int32(info.Epoch)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (b *Broker) listOffset(req *kmsg.ListOffsetsRequest, topic string, q *kmsg.ListOffsetsRequestTopicPartition) (replica.OffsetInfo, error) {
	// Whoever claims to be a broker on a client listener is not believed (CVE-2018-1288).
	if req.ReplicaID >= 0 {
		return replica.OffsetInfo{}, kerr.ClusterAuthorizationFailed
	}
	// Each version knows the special timestamps of its time.
	if q.Timestamp == replica.MaxTimestamp && req.Version < 7 || q.Timestamp == replica.EarliestLocalTimestamp && req.Version < 8 ||
		q.Timestamp == replica.LatestTieredTimestamp && req.Version < 9 {
		return replica.OffsetInfo{}, kerr.UnsupportedVersion
	}
	if q.Timestamp == earliestPendingUpload && req.Version >= 11 {
		return replica.OffsetInfo{Offset: model.NoOffset, Timestamp: -1, Epoch: model.NoLeaderEpoch}, nil
	}
	part, err := b.o.Replicas.Lookup([]byte(topic), q.Partition)
	if err != nil {
		return replica.OffsetInfo{}, err
	}
	current := model.NoLeaderEpoch
	if req.Version >= 4 {
		current = model.LeaderEpoch(q.CurrentLeaderEpoch)
	}
	info, err := part.ListOffset(q.Timestamp, current)
	if kerr.Of(err) == kerr.OffsetNotAvailable && req.Version < 5 {
		err = kerr.LeaderNotAvailable // KIP-207
	}
	return info, err
}

// earliestPendingUpload is timestamp -6 (KIP-1023).
const earliestPendingUpload = -6

// OffsetForLeaderEpoch (23): 0 to 4 (KIP-101, KIP-279, KIP-320).
func (b *Broker) offsetForLeaderEpoch(_ *wire.Pending, req *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		for _, q := range t.Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition = q.Partition
			part, err := b.o.Replicas.Lookup([]byte(t.Topic), q.Partition)
			if err == nil && req.Version >= 3 && req.ReplicaID >= 0 {
				err = kerr.ClusterAuthorizationFailed
			}
			if err == nil {
				current := model.NoLeaderEpoch
				if req.Version >= 2 {
					current = model.LeaderEpoch(q.CurrentLeaderEpoch)
				}
				var e model.LeaderEpoch
				var end model.Offset
				e, end, err = part.EpochEnd(model.LeaderEpoch(q.LeaderEpoch), current)
				rp.LeaderEpoch, rp.EndOffset = int32(e), int64(end)
			}
			rp.ErrorCode = kerr.Code(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// DeleteRecords (21): 0 to 2 (KIP-107).
func (b *Broker) deleteRecords(_ *wire.Pending, req *kmsg.DeleteRecordsRequest) kmsg.Response {
	resp := kmsg.NewPtrDeleteRecordsResponse()
	type key struct {
		topic     string
		partition int32
	}
	times := map[key]int{}
	for _, t := range req.Topics {
		for _, q := range t.Partitions {
			times[key{t.Topic, q.Partition}]++
		}
	}
	for _, t := range req.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		for _, q := range t.Partitions {
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			rp.Partition, rp.LowWatermark = q.Partition, int64(model.NoOffset)
			part, err := b.o.Replicas.Lookup([]byte(t.Topic), q.Partition)
			if err == nil && times[key{t.Topic, q.Partition}] > 1 {
				// Each step of the start is synced to disk.
				err = kerr.With(kerr.InvalidRequest, "%s is named more than once in one request", part.TP)
			}
			if err == nil {
				var low model.Offset
				if low, err = part.DeleteRecords(model.Offset(q.Offset)); err == nil {
					rp.LowWatermark = int64(low)
				}
			}
			rp.ErrorCode = kerr.Code(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
