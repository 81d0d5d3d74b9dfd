package node

import (
	"math"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// What is wrong with a Fetch is answered, and no session or partition comes of it.
func TestBadFetch(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		top := func(req *kmsg.FetchRequest) int16 { return ask[*kmsg.FetchResponse](c, req).ErrorCode }
		part := func(req *kmsg.FetchRequest) kmsg.FetchResponseTopicPartition {
			t.Helper()
			resp := ask[*kmsg.FetchResponse](c, req)
			if resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
				t.Fatalf("answer: %+v", resp)
			}
			return resp.Topics[0].Partitions[0]
		}
		for v := int16(4); v <= 18; v++ {
			fetch := func(offset int64) *kmsg.FetchRequest { return fetchRequest(v, "t", d.id, offset) }
			// Whoever says that it is a broker is not believed (CVE-2018-1288).
			for _, id := range []int32{0, 1, 2, math.MaxInt32} {
				req := fetch(0)
				req.ReplicaID = id
				if v >= 15 {
					req.ReplicaID = -1
					req.ReplicaState.ID, req.ReplicaState.Epoch = id, 1
				}
				if v < 7 { // no place for it but the partitions
					if resp := ask[*kmsg.FetchResponse](c, req); len(resp.Topics) != 1 || resp.Topics[0].Partitions[0].ErrorCode != kerr.ClusterAuthorizationFailed.Code {
						t.Errorf("version %d, replica %d: %+v", v, id, resp)
					}
				} else if got := top(req); got != kerr.ClusterAuthorizationFailed.Code {
					t.Errorf("version %d, replica %d: code %d", v, id, got)
				}
			}
			for _, offset := range []int64{-1, -2, math.MinInt64, wardRecords + 1, math.MaxInt64} {
				if p := part(fetch(offset)); p.ErrorCode != kerr.OffsetOutOfRange.Code || len(p.RecordBatches) != 0 {
					t.Errorf("version %d, offset %d: code %d", v, offset, p.ErrorCode)
				}
			}
			for _, index := range []int32{-1, 2, math.MaxInt32, math.MinInt32} {
				req := fetch(0)
				req.Topics[0].Partitions[0].Partition = index
				if p := part(req); p.ErrorCode != kerr.UnknownTopicOrPartition.Code {
					t.Errorf("version %d, partition %d: code %d", v, index, p.ErrorCode)
				}
			}
			// Odd bounds give at least the first batch and never hang.
			for _, bounds := range [][4]int32{ // max bytes, partition's, min bytes, wait
				{-1, 1 << 20, 1, 0}, {math.MinInt32, math.MinInt32, 1, 0}, {0, 0, 1, 0}, {math.MaxInt32, math.MaxInt32, 1, 0},
				{1, 1, 1, 0}, {1 << 20, -1, 1, 0}, {1, 1, math.MaxInt32, 0}, {1 << 20, 1 << 20, math.MinInt32, math.MaxInt32},
				{100, 100, math.MaxInt32, 1}, {100, 100, 1, math.MinInt32},
			} {
				req := fetch(0)
				req.MaxBytes, req.MinBytes, req.MaxWaitMillis = bounds[0], bounds[2], bounds[3]
				req.Topics[0].Partitions[0].PartitionMaxBytes = bounds[1]
				if p := part(req); p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
					t.Errorf("version %d, bounds %v: code %d, %d bytes", v, bounds, p.ErrorCode, len(p.RecordBatches))
				}
			}
			if v >= 9 {
				for epoch, want := range map[int32]*kerr.Error{math.MaxInt32: kerr.UnknownLeaderEpoch, 1: kerr.UnknownLeaderEpoch} {
					req := fetch(0)
					req.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch
					if p := part(req); p.ErrorCode != want.Code {
						t.Errorf("version %d, leader epoch %d: code %d", v, epoch, p.ErrorCode)
					}
				}
			}
			if v < 7 {
				continue
			}
			for _, s := range []struct {
				id, epoch int32
				want      *kerr.Error
			}{
				{12345, 1, kerr.FetchSessionIDNotFound}, {0, 1, kerr.FetchSessionIDNotFound}, {-1, math.MaxInt32, kerr.FetchSessionIDNotFound},
				{math.MinInt32, 5, kerr.FetchSessionIDNotFound}, {0, -2, kerr.FetchSessionIDNotFound}, {0, math.MinInt32, kerr.FetchSessionIDNotFound},
			} {
				req := fetch(0)
				req.SessionID, req.SessionEpoch = s.id, s.epoch
				if got := top(req); got != s.want.Code {
					t.Errorf("version %d, session %d epoch %d: code %d", v, s.id, s.epoch, got)
				}
			}
			req := fetch(0)
			req.SessionEpoch = 0
			began := ask[*kmsg.FetchResponse](c, req)
			if began.SessionID == 0 {
				t.Fatalf("version %d: no session", v)
			}
			for _, epoch := range []int32{2, 7, math.MaxInt32, -2, math.MinInt32} {
				req.SessionID, req.SessionEpoch = began.SessionID, epoch
				if got := top(req); got != kerr.InvalidFetchSessionEpoch.Code {
					t.Errorf("version %d, session epoch %d: code %d", v, epoch, got)
				}
			}
			req.SessionEpoch = -1
			if got := top(req); got != 0 {
				t.Errorf("version %d: closing the session: code %d", v, got)
			}
		}
		if n := d.handler.Sessions(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// Sessions and what they remember stay within their bounds, whatever clients ask for.
func TestFetchSessionsAreBounded(t *testing.T) {
	t.Run("many", func(t *testing.T) {
		suffers(t, func(d *ward) {
			c := d.w.dial()
			defer c.c.Close()
			refused := 0
			for range 5000 {
				req := fetchRequest(13, "t", d.id, 0)
				req.SessionEpoch = 0
				resp := ask[*kmsg.FetchResponse](c, req)
				if resp.ErrorCode != 0 || len(resp.Topics[0].Partitions[0].RecordBatches) == 0 {
					t.Fatalf("without a session: %+v", resp)
				}
				if resp.SessionID == 0 {
					refused++
				}
			}
			if n := d.handler.Sessions(); n != 1000 || refused != 4000 {
				t.Errorf("%d sessions, %d refused", n, refused)
			}
		})
	})
	// One session, each time more partitions that do not exist.
	t.Run("long", func(t *testing.T) {
		suffers(t, func(d *ward) {
			c := d.w.dial()
			defer c.c.Close()
			req := fetchRequest(12, "t", d.id, 0)
			req.SessionEpoch = 0
			id := ask[*kmsg.FetchResponse](c, req).SessionID
			before := heap()
			ended := false
			for round := range int32(40) {
				req := fetchRequest(12, strings.Repeat("x", 30_000), d.id)
				req.SessionID, req.SessionEpoch = id, round+1
				for i := range int32(2_000) {
					rp := kmsg.NewFetchRequestTopicPartition()
					rp.Partition = round*2_000 + i
					req.Topics[0].Partitions = append(req.Topics[0].Partitions, rp)
				}
				resp := ask[*kmsg.FetchResponse](c, req)
				if resp.ErrorCode == kerr.FetchSessionIDNotFound.Code {
					ended = true
					break
				}
				if resp.ErrorCode != 0 {
					t.Fatalf("round %d: code %d", round, resp.ErrorCode)
				}
			}
			if grown := heap() - before; !ended || grown > 12<<20 || d.handler.Sessions() != 0 {
				t.Errorf("ended %v, %d sessions, the heap grew by %d bytes", ended, d.handler.Sessions(), grown)
			}
			// A client that begins anew is served without a session.
			req = fetchRequest(12, "t", d.id, 0)
			req.SessionEpoch = 0
			if resp := ask[*kmsg.FetchResponse](c, req); resp.ErrorCode != 0 || resp.SessionID == 0 {
				t.Errorf("a new session: %+v", resp)
			}
		}, "kalda.fetch.session.max.bytes=4MiB")
	})
	// A name is kept once however many partitions stand under it.
	t.Run("names", func(t *testing.T) {
		suffers(t, func(d *ward) {
			c := d.w.dial()
			defer c.c.Close()
			for _, epoch := range []int32{-1, 0} {
				req := fetchRequest(12, strings.Repeat("x", 30_000), d.id)
				req.SessionEpoch = epoch
				for i := range int32(50_000) {
					rp := kmsg.NewFetchRequestTopicPartition()
					rp.Partition = i
					req.Topics[0].Partitions = append(req.Topics[0].Partitions, rp)
				}
				before := heap()
				if resp := ask[*kmsg.FetchResponse](c, req); resp.ErrorCode != 0 || len(resp.Topics) != 1 {
					t.Fatalf("code %d, %d topics", resp.ErrorCode, len(resp.Topics))
				}
				if grown := heap() - before; grown > 64<<20 {
					t.Errorf("session epoch %d: the heap grew by %d bytes", epoch, grown)
				}
			}
		})
	})
}

// Times and epochs at the ends of their ranges.
func TestBadOffsetQueries(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		list := func(version int16, ts int64, f func(*kmsg.ListOffsetsRequest)) kmsg.ListOffsetsResponseTopicPartition {
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Timestamp, rp.CurrentLeaderEpoch = ts, -1
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic, rt.Partitions = "t", append(rt.Partitions, rp)
			req := kmsg.NewPtrListOffsetsRequest()
			req.Version, req.ReplicaID, req.Topics = version, -1, append(req.Topics, rt)
			if f != nil {
				f(req)
			}
			return ask[*kmsg.ListOffsetsResponse](c, req).Topics[0].Partitions[0]
		}
		for v := int16(1); v <= 11; v++ {
			for ts, want := range map[int64]*kerr.Error{
				math.MinInt64: kerr.UnsupportedVersion, -7: kerr.UnsupportedVersion, -100: kerr.UnsupportedVersion, math.MaxInt64: nil,
				math.MaxInt64 - 1: nil, 0: nil,
			} {
				p := list(v, ts, nil)
				if p.ErrorCode != code(errOf(want)) || (ts > 0 && p.Offset != -1) {
					t.Errorf("version %d, timestamp %d: %+v", v, ts, p)
				}
			}
			if p := list(v, -1, func(r *kmsg.ListOffsetsRequest) { r.ReplicaID = 1 }); p.ErrorCode != kerr.ClusterAuthorizationFailed.Code {
				t.Errorf("version %d, a replica id: %+v", v, p)
			}
			if p := list(v, -1, func(r *kmsg.ListOffsetsRequest) { r.Topics[0].Partitions[0].Partition = -1 }); p.ErrorCode != kerr.UnknownTopicOrPartition.Code {
				t.Errorf("version %d, partition -1: %+v", v, p)
			}
			if p := list(v, -1, func(r *kmsg.ListOffsetsRequest) {
				r.Topics[0].Partitions = append(r.Topics[0].Partitions, r.Topics[0].Partitions[0])
			}); p.ErrorCode != kerr.InvalidRequest.Code {
				t.Errorf("version %d, a partition twice: %+v", v, p)
			}
			if v >= 4 {
				for _, epoch := range []int32{math.MaxInt32, 1} {
					if p := list(v, -1, func(r *kmsg.ListOffsetsRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch }); p.ErrorCode != kerr.UnknownLeaderEpoch.Code {
						t.Errorf("version %d, epoch %d: %+v", v, epoch, p)
					}
				}
			}
		}

		epochEnd := func(version int16, replica, current, epoch int32) kmsg.OffsetForLeaderEpochResponseTopicPartition {
			rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			rp.CurrentLeaderEpoch, rp.LeaderEpoch = current, epoch
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic, rt.Partitions = "t", append(rt.Partitions, rp)
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			req.Version, req.ReplicaID, req.Topics = version, replica, append(req.Topics, rt)
			return ask[*kmsg.OffsetForLeaderEpochResponse](c, req).Topics[0].Partitions[0]
		}
		for v := int16(0); v <= 4; v++ {
			for _, epoch := range []int32{-1, math.MaxInt32, math.MinInt32, 1} {
				if p := epochEnd(v, -1, -1, epoch); p.ErrorCode != 0 || p.EndOffset != -1 || v >= 1 && p.LeaderEpoch != -1 {
					t.Errorf("version %d, epoch %d: %+v", v, epoch, p)
				}
			}
			if v >= 2 {
				if p := epochEnd(v, -1, math.MaxInt32, 0); p.ErrorCode != kerr.UnknownLeaderEpoch.Code {
					t.Errorf("version %d, current epoch: %+v", v, p)
				}
			}
			if v >= 3 {
				if p := epochEnd(v, 1, -1, 0); p.ErrorCode != kerr.ClusterAuthorizationFailed.Code {
					t.Errorf("version %d, a replica id: %+v", v, p)
				}
			}
		}
	})
}

// errOf is nil for a nil *kerr.Error.
func errOf(e *kerr.Error) error {
	if e == nil {
		return nil
	}
	return e
}

// DeleteRecords outside of what is committed changes nothing.
func TestBadDeleteRecords(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		del := func(version int16, topic string, index int32, offsets ...int64) []kmsg.DeleteRecordsResponseTopicPartition {
			rt := kmsg.NewDeleteRecordsRequestTopic()
			rt.Topic = topic
			for _, o := range offsets {
				rp := kmsg.NewDeleteRecordsRequestTopicPartition()
				rp.Partition, rp.Offset = index, o
				rt.Partitions = append(rt.Partitions, rp)
			}
			req := kmsg.NewPtrDeleteRecordsRequest()
			req.Version, req.Topics = version, append(req.Topics, rt)
			return ask[*kmsg.DeleteRecordsResponse](c, req).Topics[0].Partitions
		}
		for v := int16(0); v <= 2; v++ {
			for _, offset := range []int64{wardRecords + 1, math.MaxInt64, -2, math.MinInt64} {
				if p := del(v, "t", 0, offset)[0]; p.ErrorCode != kerr.OffsetOutOfRange.Code || p.LowWatermark != int64(model.NoOffset) {
					t.Errorf("version %d, offset %d: %+v", v, offset, p)
				}
			}
			for _, index := range []int32{-1, 2, math.MaxInt32} {
				if p := del(v, "t", index, 0)[0]; p.ErrorCode != kerr.UnknownTopicOrPartition.Code {
					t.Errorf("version %d, partition %d: %+v", v, index, p)
				}
			}
			if p := del(v, "nosuch", 0, 0)[0]; p.ErrorCode != kerr.UnknownTopicOrPartition.Code {
				t.Errorf("version %d, unknown topic: %+v", v, p)
			}
			// Each would be a file to sync.
			for _, p := range del(v, "t", 0, 1, 2, 3) {
				if p.ErrorCode != kerr.InvalidRequest.Code {
					t.Errorf("version %d, a partition three times: %+v", v, p)
				}
			}
		}
	})
}
