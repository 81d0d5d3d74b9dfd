package node

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

func fetchRequest(version int16, topic string, id model.TopicID, offsets ...int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MinBytes, req.SessionEpoch = version, 1<<20, 1, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	for i, o := range offsets {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = int32(i), o, 1<<20
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// Each version of Fetch gives the same batches, and sets log start and watermarks.
func TestFetchVersions(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 1, nil)
		c := w.dial()
		defer c.c.Close()
		sent := batchOf(t, "a", "b")
		ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, sent))
		for v := int16(4); v <= 18; v++ {
			resp := ask[*kmsg.FetchResponse](c, fetchRequest(v, "t", id, 0))
			if resp.ErrorCode != 0 || len(resp.Topics) != 1 {
				t.Fatalf("version %d: %+v", v, resp)
			}
			p := resp.Topics[0].Partitions[0]
			if p.ErrorCode != 0 || p.HighWatermark != 2 || p.LastStableOffset != 2 || v >= 5 && p.LogStartOffset != 0 {
				t.Errorf("version %d: %+v", v, p)
			}
			got := record.Batch(p.RecordBatches)
			if len(got) != len(sent) || !got.CheckCRC() || got.NumRecords() != 2 {
				t.Errorf("version %d: %d bytes, want the %d that were sent", v, len(got), len(sent))
			}
		}
	})
}

// A fetch is answered at the earlier of fetch.min.bytes and fetch.max.wait.ms, to the
// millisecond.
func TestLongPoll(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 2, nil)
		c, producer := w.dial(), w.dial()
		defer c.c.Close()
		defer producer.c.Close()
		poll := func(minBytes, waitMs int32, offsets ...int64) (time.Duration, int) {
			req := fetchRequest(13, "t", id, offsets...)
			req.MinBytes, req.MaxWaitMillis = minBytes, waitMs
			began := time.Now()
			resp := ask[*kmsg.FetchResponse](c, req)
			n := 0
			for _, p := range resp.Topics[0].Partitions {
				n += len(p.RecordBatches)
			}
			return time.Since(began), n
		}
		// Nothing comes: the whole wait and not a millisecond more.
		if d, n := poll(1, 500, 0, 0); d != 500*time.Millisecond || n != 0 {
			t.Fatalf("an idle poll took %v and gave %d bytes", d, n)
		}
		if d, _ := poll(1, 0, 0, 0); d != 0 {
			t.Fatalf("max wait 0 took %v", d)
		}
		one := batchOf(t, strings.Repeat("x", 100))
		size := int32(len(one))
		produceAfter := func(after time.Duration, partition int32) {
			time.AfterFunc(after, func() {
				req := produceRequest(9, "t", -1, batchOf(t, strings.Repeat("x", 100)))
				req.Topics[0].Partitions[0].Partition = partition
				producer.send(req)
			})
		}
		// The first byte answers.
		produceAfter(70*time.Millisecond, 0)
		if d, n := poll(1, 500, 0, 0); d != 70*time.Millisecond || n != int(size) {
			t.Fatalf("one batch after 70 ms: %v, %d bytes", d, n)
		}
		// Too few bytes wait for more, on whichever partition they come.
		produceAfter(50*time.Millisecond, 0)
		produceAfter(90*time.Millisecond, 1)
		if d, n := poll(2*size, 500, 1, 0); d != 90*time.Millisecond || n != 2*int(size) {
			t.Fatalf("two batches by 90 ms: %v, %d bytes", d, n)
		}
		// Too few bytes until the end give what there is.
		produceAfter(20*time.Millisecond, 0)
		if d, n := poll(10*size, 300, 2, 1); d != 300*time.Millisecond || n != int(size) {
			t.Fatalf("one of ten batches: %v, %d bytes", d, n)
		}
		// Bytes that are there already count.
		produceAfter(40*time.Millisecond, 0)
		if d, n := poll(4*size, 500, 1, 0); d != 40*time.Millisecond || n != 4*int(size) {
			t.Fatalf("3 batches there, one to come: %v, %d bytes", d, n)
		}
	})
}

// A parked fetch whose client goes away leaves nothing behind.
func TestCancelledFetch(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 1, nil)
		c := w.dial()
		req := fetchRequest(13, "t", id, 0)
		req.MaxWaitMillis = 60_000
		c.send(req)
		synctest.Wait()
		if b.wheel.Len() == 0 {
			t.Fatal("the fetch did not park")
		}
		_ = c.c.Close()
		synctest.Wait()
		if n := b.wheel.Len(); n != 0 {
			t.Errorf("%d entries in the wheel after the client left", n)
		}
	})
}

// The per-partition cap holds, except that a first batch comes whole however large it is.
func TestFetchCaps(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 2, nil)
		c := w.dial()
		defer c.c.Close()
		big := batchOf(t, strings.Repeat("x", 5000))
		for range 3 {
			ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, append([]byte(nil), big...), append([]byte(nil), big...)))
		}
		fetch := func(partMax, max int32) (a, b int) {
			req := fetchRequest(13, "t", id, 0, 0)
			req.MaxBytes = max
			for i := range req.Topics[0].Partitions {
				req.Topics[0].Partitions[i].PartitionMaxBytes = partMax
			}
			ps := ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions
			return len(ps[0].RecordBatches) / len(big), len(ps[1].RecordBatches) / len(big)
		}
		n := int32(len(big))
		for _, f := range []struct{ partMax, max, a, b int32 }{
			{2*n + 5, 100 * n, 2, 2}, // whole batches within each partition's cap
			{100 * n, 4*n + 5, 3, 1}, // the request's cap
			{100, 100 * n, 1, 0},     // only the first batch may exceed its partition's cap
			{100 * n, 100, 1, 0},     // or the request's
			{100 * n, 100 * n, 3, 3}, // everything
		} {
			if a, b := fetch(f.partMax, f.max); int32(a) != f.a || int32(b) != f.b {
				t.Errorf("partition cap %d, request cap %d: %d and %d batches, want %d and %d", f.partMax, f.max, a, b, f.a, f.b)
			}
		}
	})
}

func TestFetchErrors(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 1, nil)
		c := w.dial()
		defer c.c.Close()
		for range 4 {
			ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, batchOf(t, "a")))
		}
		p, _ := b.replicas.Lookup([]byte("t"), 0)
		if _, err := p.DeleteRecords(2); err != nil {
			t.Fatal(err)
		}
		for name, f := range map[string]struct {
			req  *kmsg.FetchRequest
			edit func(*kmsg.FetchRequest)
			want *kerr.Error
		}{
			"beyond the end":     {fetchRequest(13, "t", id, 99), nil, kerr.OffsetOutOfRange},
			"below the start":    {fetchRequest(13, "t", id, 1), nil, kerr.OffsetOutOfRange},
			"negative":           {fetchRequest(13, "t", id, -7), nil, kerr.OffsetOutOfRange},
			"unknown id":         {fetchRequest(13, "t", model.NewTopicID(), 2), nil, kerr.UnknownTopicID},
			"unknown name":       {fetchRequest(12, "nope", id, 2), nil, kerr.UnknownTopicOrPartition},
			"coming leader":      {fetchRequest(13, "t", id, 2), func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = 99 }, kerr.UnknownLeaderEpoch},
			"unknown partition":  {fetchRequest(13, "t", id, 2), func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].Partition = 7 }, kerr.UnknownTopicOrPartition},
			"unknown session":    {fetchRequest(13, "t", id, 2), func(r *kmsg.FetchRequest) { r.SessionID, r.SessionEpoch = 77, 3 }, kerr.FetchSessionIDNotFound},
			"a forged follower":  {fetchRequest(13, "t", id, 2), func(r *kmsg.FetchRequest) { r.ReplicaID = 1 }, kerr.ClusterAuthorizationFailed},
			"a forged follower+": {fetchRequest(17, "t", id, 2), func(r *kmsg.FetchRequest) { r.ReplicaState.ID = 1 }, kerr.ClusterAuthorizationFailed},
		} {
			if f.edit != nil {
				f.edit(f.req)
			}
			f.req.MaxWaitMillis = 60_000 // errors must not wait
			began := time.Now()
			resp := ask[*kmsg.FetchResponse](c, f.req)
			got := resp.ErrorCode
			if got == 0 && len(resp.Topics) > 0 {
				got = resp.Topics[0].Partitions[0].ErrorCode
			}
			if got != f.want.Code || time.Since(began) != 0 {
				t.Errorf("%s: code %d after %v, want %s at once", name, got, time.Since(began), f.want.Name)
			}
		}
	})
}

// In a session an answer carries only partitions with news.
func TestFetchSession(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 3, nil)
		c := w.dial()
		defer c.c.Close()
		first := fetchRequest(13, "t", id, 0, 0, 0)
		first.SessionEpoch = 0
		resp := ask[*kmsg.FetchResponse](c, first)
		if resp.SessionID == 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 3 {
			t.Fatalf("the first answer of a session has all partitions: %+v", resp)
		}
		epoch := int32(0)
		again := func(edit func(*kmsg.FetchRequest)) *kmsg.FetchResponse {
			epoch++
			req := fetchRequest(13, "t", id)
			req.Topics, req.SessionID, req.SessionEpoch = nil, resp.SessionID, epoch
			if edit != nil {
				edit(req)
			}
			return ask[*kmsg.FetchResponse](c, req)
		}
		if r := again(nil); r.ErrorCode != 0 || len(r.Topics) != 0 {
			t.Fatalf("no news, but the answer has %+v", r.Topics)
		}
		req := produceRequest(9, "t", -1, batchOf(t, "a"))
		req.Topics[0].Partitions[0].Partition = 1
		ask[*kmsg.ProduceResponse](c, req)
		r := again(nil)
		if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 || r.Topics[0].Partitions[0].Partition != 1 || len(r.Topics[0].Partitions[0].RecordBatches) == 0 {
			t.Fatalf("want the data of partition 1 alone: %+v", r)
		}
		// The consumer moves on, and forgets partition 2.
		r = again(func(q *kmsg.FetchRequest) {
			q.Topics = fetchRequest(13, "t", id, 0, 1).Topics[:1]
			q.Topics[0].Partitions = q.Topics[0].Partitions[1:]
			f := kmsg.NewFetchRequestForgottenTopic()
			f.TopicID, f.Partitions = id, []int32{2}
			q.ForgottenTopics = append(q.ForgottenTopics, f)
		})
		if len(r.Topics) != 0 {
			t.Fatalf("nothing new below the new position: %+v", r)
		}
		req = produceRequest(9, "t", -1, batchOf(t, "b"))
		req.Topics[0].Partitions[0].Partition = 2
		ask[*kmsg.ProduceResponse](c, req)
		if r := again(nil); len(r.Topics) != 0 {
			t.Fatalf("partition 2 was forgotten: %+v", r.Topics)
		}
		if r := again(func(q *kmsg.FetchRequest) { q.SessionEpoch = 99 }); r.ErrorCode != kerr.InvalidFetchSessionEpoch.Code {
			t.Fatalf("a wrong epoch: %d", r.ErrorCode)
		}
	})
}
