package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

func batchOf(t *testing.T, values ...string) []byte {
	t.Helper()
	var recs []record.Record
	for _, v := range values {
		recs = append(recs, record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(v)})
	}
	b, err := record.Build(nil, record.NewTemplate(), recs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func produceRequest(version int16, topic string, acks int16, batches ...[]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, acks, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	for i, b := range batches {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = int32(i), b
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// Every codec and acks setting of a real client goes round.
func TestRoundTrip(t *testing.T) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		for acks, opts := range map[string][]kgo.Opt{
			"all": {kgo.RequiredAcks(kgo.AllISRAcks())}, "1": {kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()},
			"0": {kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()},
		} {
			t.Run(name+"/acks="+acks, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					b := w.start()
					defer b.stop()
					b.create("t", 1, nil)
					p := w.client(append(opts, kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic("t"))...)
					for i := range 100 {
						p.Produce(context.Background(), &kgo.Record{Key: []byte{byte(i)}, Value: fmt.Append(nil, i, strings.Repeat("x", 100)),
							Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}}, nil)
					}
					if err := p.Flush(context.Background()); err != nil {
						t.Fatal(err)
					}
					p.Close()
					c := w.client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
					defer c.Close()
					var got []*kgo.Record
					for len(got) < 100 {
						fs := c.PollFetches(context.Background())
						if err := fs.Err(); err != nil {
							t.Fatal(err)
						}
						got = append(got, fs.Records()...)
					}
					for i, r := range got {
						if r.Offset != int64(i) || r.Key[0] != byte(i) || !strings.HasPrefix(string(r.Value), fmt.Sprint(i)) || len(r.Headers) != 1 {
							t.Fatalf("record %d: %+v", i, r)
						}
					}
				})
			})
		}
	}
}

// Each version of Produce appends the batch and says where.
func TestProduceVersions(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 1, nil)
		c := w.dial()
		defer c.c.Close()
		for v := int16(3); v <= 13; v++ {
			req := produceRequest(v, "t", -1, batchOf(t, "a", "b"))
			req.Topics[0].TopicID = id
			p := ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0]
			if want := int64(v-3) * 2; p.ErrorCode != 0 || p.BaseOffset != want {
				t.Errorf("version %d: code %d at offset %d, want offset %d", v, p.ErrorCode, p.BaseOffset, want)
			}
		}
	})
}

// What must not be appended is refused with its own error, and leaves no trace.
func TestProduceRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		b.create("t", 1, map[string]string{"max.message.bytes": "1000"})
		flipped := batchOf(t, "a")
		flipped[len(flipped)-1] ^= 1
		control := record.Batch(batchOf(t, "a"))
		control.SetAttributes(record.AttrControl | record.AttrTransactional)
		control.Seal()
		magic1 := batchOf(t, "a")
		magic1[16] = 1
		for name, c := range map[string]struct {
			batch []byte
			acks  int16
			topic string
			want  *kerr.Error
		}{
			"flipped bit":    {flipped, 1, "t", kerr.CorruptMessage},
			"control":        {control, 1, "t", kerr.InvalidRecord},
			"magic 1":        {magic1, 1, "t", kerr.InvalidRecord},
			"too large":      {batchOf(t, strings.Repeat("x", 2000)), 1, "t", kerr.MessageTooLarge},
			"no records":     {nil, 1, "t", kerr.InvalidRecord},
			"two batches":    {append(batchOf(t, "a"), batchOf(t, "b")...), 1, "t", kerr.InvalidRecord},
			"unknown topic":  {batchOf(t, "a"), 1, "nope", kerr.UnknownTopicOrPartition},
			"acks 5":         {batchOf(t, "a"), 5, "t", kerr.InvalidRequiredAcks},
			"internal topic": {batchOf(t, "a"), 1, "__consumer_offsets", kerr.UnknownTopicOrPartition},
		} {
			conn := w.dial()
			p := ask[*kmsg.ProduceResponse](conn, produceRequest(9, c.topic, c.acks, c.batch)).Topics[0].Partitions[0]
			if p.ErrorCode != c.want.Code || p.BaseOffset != -1 {
				t.Errorf("%s: code %d offset %d, want %s and -1", name, p.ErrorCode, p.BaseOffset, c.want.Name)
			}
			_ = conn.c.Close()
		}
		p, err := b.replicas.Lookup([]byte("t"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if s := p.Stats(); s.LogEnd != 0 {
			t.Errorf("the log ends at %d after refused batches", s.LogEnd)
		}
	})
}

// acks=0 gets no answer, and an error on it closes the connection, the only way to be heard.
func TestAcksZero(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		b.create("t", 1, nil)
		c := w.dial()
		c.send(produceRequest(9, "t", 0, batchOf(t, "a")))
		m := kmsg.NewPtrMetadataRequest()
		m.Version = 9
		corr := c.send(m)
		if got := c.receive(m.ResponseKind()); got != corr {
			t.Fatalf("the first answer is for request %d, want %d: acks=0 must have none", got, corr)
		}
		if p, _ := b.replicas.Lookup([]byte("t"), 0); p.Stats().LogEnd != 1 {
			t.Error("the batch is not in the log")
		}
		c.send(produceRequest(9, "nope", 0, batchOf(t, "a")))
		if _, err := readFrame(c.c); err == nil {
			t.Error("the connection stays open after a failed acks=0")
		}
	})
}

// Produce requests of one connection are answered in order though they wait on
// different partitions, and a later Fetch waits for them.
func TestPipelinedOrder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		b.create("durable", 1, map[string]string{"kalda.flush.policy": "commit"})
		b.create("quick", 1, map[string]string{"kalda.flush.policy": "os"})
		c := w.dial()
		defer c.c.Close()
		for range 50 {
			for _, topic := range []string{"durable", "quick"} {
				c.send(produceRequest(9, topic, -1, batchOf(t, "x")))
			}
		}
		for want := int32(1); want <= 100; want++ {
			resp := kmsg.NewPtrProduceResponse()
			resp.Version = 9
			if got := c.receive(resp); got != want {
				t.Fatalf("answer %d came in place of %d", got, want)
			}
			if p := resp.Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != int64(want-1)/2 {
				t.Fatalf("request %d: %+v", want, p)
			}
		}
	})
}

// A batch that comes again, with nothing else under way, is answered at once and with the
// offset of the first, under either flush policy and for every acks.
func TestDuplicateIsAnsweredAtOnce(t *testing.T) {
	for _, policy := range []string{"os", "commit"} {
		for _, acks := range []int16{1, -1} {
			bubble(t, func(t *testing.T, w *world) {
				b := w.start()
				defer b.stop()
				b.create("t", 1, map[string]string{"kalda.flush.policy": policy})
				c := w.dial()
				defer c.c.Close()
				tpl := record.NewTemplate()
				tpl.ProducerID, tpl.ProducerEpoch, tpl.BaseSequence = 7, 0, 0
				batch, err := record.Build(nil, tpl, []record.Record{{Timestamp: time.Now().UnixMilli(), Value: []byte("x")}})
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					began := time.Now()
					p := ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", acks, batch)).Topics[0].Partitions[0]
					if p.ErrorCode != 0 || p.BaseOffset != 0 || time.Since(began) != 0 {
						t.Fatalf("%s, acks %d: code %d at offset %d after %v", policy, acks, p.ErrorCode, p.BaseOffset, time.Since(began))
					}
				}
			})
		}
	}
}
