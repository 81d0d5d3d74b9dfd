package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// formats_test.go: what has another form than the one stored, over the wire.

// oldProducers are the versions whose producers send message sets, and the set's format.
var oldProducers = []struct {
	name    string
	version func() *kversion.Versions
	magic   int
}{{"0.8.2", kversion.V0_8_2, 0}, {"0.9", kversion.V0_9_0, 0}, {"0.10", kversion.V0_10_0, 1}}

// What a producer of old writes, a consumer of today reads; times there are from v1 on.
func TestOldProducers(t *testing.T) {
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression()}
	for _, old := range oldProducers {
		for ci, codec := range codecs {
			for _, conf := range []map[string]string{
				nil, {"compression.type": "zstd"}, {"compression.type": "uncompressed", "message.timestamp.type": "LogAppendTime"},
			} {
				t.Run(fmt.Sprint(old.name, "/", record.Codec(ci), "/", conf["compression.type"]), func(t *testing.T) {
					bubble(t, func(t *testing.T, w *world) {
						oldProducer(t, w, old.version(), old.magic, codec, record.Codec(ci), conf)
					})
				})
			}
		}
	}
}

func oldProducer(t *testing.T, w *world, versions *kversion.Versions, magic int, codec kgo.CompressionCodec, sent record.Codec, conf map[string]string) {
	b := w.start()
	defer b.stop()
	id := b.create("t", 1, conf)
	p := w.client(kgo.MaxVersions(versions), kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(codec),
		kgo.DefaultProduceTopic("t"), kgo.ProducerLinger(10*time.Millisecond))
	made := time.Now().Add(-time.Minute)
	value := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", 100)) }
	for i := range 100 {
		r := &kgo.Record{Key: []byte{byte(i)}, Value: []byte(value(i)), Timestamp: made.Add(time.Duration(i) * time.Millisecond)}
		if i == 7 {
			r.Key, r.Value = nil, nil
		}
		p.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			if err != nil || r.Offset != int64(i) {
				t.Errorf("record %d is acknowledged at %d: %v", i, r.Offset, err)
			}
		})
	}
	if err := p.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.Close()
	stored := time.Now()
	d := &dyn{T: t, running: b, c: w.dial(), topic: id}
	defer d.c.c.Close()
	want := sent
	switch conf["compression.type"] {
	case "zstd":
		want = record.Zstd
	case "uncompressed":
		want = record.None
	}
	// Where the client ends its batches is its own affair; now and then the first has one record.
	most := int32(0)
	for at := model.Offset(0); at < 100; {
		b := d.stored(at)
		if b.Codec() != want {
			t.Errorf("the batch at %d is stored in %s, want %s", at, b.Codec(), want)
		}
		most, at = max(most, b.NumRecords()), b.NextOffset()
	}
	if most < 2 {
		t.Error("no batch has more than one record")
	}
	byBroker := conf["message.timestamp.type"] == "LogAppendTime"
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
		ts := made.Add(time.Duration(i) * time.Millisecond).UnixMilli()
		if magic == 0 {
			ts = -1
		}
		if byBroker {
			ts = r.Timestamp.UnixMilli()
			if r.Timestamp.Before(made.Add(time.Second)) || r.Timestamp.After(stored) || r.Attrs.TimestampType() != 1 {
				t.Errorf("record %d has the time %v of type %d", i, r.Timestamp, r.Attrs.TimestampType())
			}
		}
		null := i == 7
		if r.Offset != int64(i) || (r.Key == nil) != null || (r.Value == nil) != null || !null && string(r.Value) != value(i) || r.Timestamp.UnixMilli() != ts {
			t.Fatalf("record %d: %+v", i, r)
		}
	}
}

// Versions 0 to 2 also take an empty set, which is no error, and one record batch; what they
// and later ones may not carry is refused and leaves no trace.
func TestOldProduceForms(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		b.create("t", 1, nil)
		c := w.dial()
		defer c.c.Close()
		next := int64(0)
		set := oldMessageSet(1)
		for v := int16(0); v <= 3; v++ {
			for _, tc := range []struct {
				name    string
				records []byte
				want    *kerr.Error // from version 3 on
				old     *kerr.Error // before
				added   int64
			}{
				{"set v0", oldMessageSet(0), kerr.InvalidRecord, nil, 2},
				{"set v1", set, kerr.InvalidRecord, nil, 2},
				{"batch", batchOf(t, "a"), nil, nil, 1},
				{"empty", []byte{}, kerr.InvalidRecord, nil, 0},
				{"cut", set[:len(set)-1], kerr.InvalidRecord, kerr.CorruptMessage, 0},
				{"cut before the magic", set[:15], kerr.CorruptMessage, kerr.CorruptMessage, 0},
				{"two batches", append(batchOf(t, "a"), batchOf(t, "b")...), kerr.InvalidRecord, kerr.InvalidRecord, 0},
			} {
				want := tc.want
				if v < 3 {
					want = tc.old
				}
				p := ask[*kmsg.ProduceResponse](c, produceRequest(v, "t", -1, tc.records)).Topics[0].Partitions[0]
				switch {
				case want != nil && (p.ErrorCode != want.Code || p.BaseOffset != -1):
					t.Errorf("version %d, %s: code %d at offset %d, want %s and -1", v, tc.name, p.ErrorCode, p.BaseOffset, want.Name)
				case want == nil && tc.added == 0 && (p.ErrorCode != 0 || p.BaseOffset != -1):
					t.Errorf("version %d, %s: code %d at offset %d, want 0 and -1", v, tc.name, p.ErrorCode, p.BaseOffset)
				case want == nil && tc.added > 0 && (p.ErrorCode != 0 || p.BaseOffset != next):
					t.Errorf("version %d, %s: code %d at offset %d, want 0 and %d", v, tc.name, p.ErrorCode, p.BaseOffset, next)
				}
				if p.LogAppendTime > 0 {
					t.Errorf("version %d, %s: log append time %d", v, tc.name, p.LogAppendTime)
				}
				if want == nil {
					next += tc.added
				}
			}
		}
		p, err := b.replicas.Lookup([]byte("t"), 0)
		if err != nil || p.Stats().LogEnd != model.Offset(next) {
			t.Errorf("the log ends at %d, want %d (%v)", p.Stats().LogEnd, next, err)
		}
	})
}

// oldMessageSet has two messages of that format.
func oldMessageSet(magic int8) (set []byte) {
	for _, v := range []string{"a", "b"} {
		var one []byte
		if magic == 0 {
			m := kmsg.MessageV0{Value: []byte(v)}
			one = m.AppendTo(nil)
		} else {
			m := kmsg.MessageV1{Magic: 1, Timestamp: time.Now().UnixMilli(), Value: []byte(v)}
			one = m.AppendTo(nil)
		}
		set = append(set, sealedMessage(one)...)
	}
	return set
}

// sealedMessage sets size and checksum of one message.
func sealedMessage(m []byte) []byte {
	binary.BigEndian.PutUint32(m[8:], uint32(len(m)-12))
	binary.BigEndian.PutUint32(m[12:], crc32.ChecksumIEEE(m[16:]))
	return m
}

// A topic of zstd turns away consumers that do not know it, by Fetch's version; a zstd batch
// of a producer's own choice it does not.
func TestFetchOfZstdTopic(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		b.create("t", 1, map[string]string{"compression.type": "zstd"})
		b.create("own", 1, nil)
		c := w.dial()
		defer c.c.Close()
		tpl := record.NewTemplate()
		tpl.Codec = record.Zstd
		zstd, err := record.Build(nil, tpl, []record.Record{{Timestamp: time.Now().UnixMilli(), Value: []byte("v")}})
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"t", "own"} {
			if p := ask[*kmsg.ProduceResponse](c, produceRequest(9, topic, -1, zstd)).Topics[0].Partitions[0]; p.ErrorCode != 0 {
				t.Fatal(p.ErrorCode)
			}
		}
		for v := int16(4); v <= 12; v++ {
			req := kmsg.NewPtrFetchRequest()
			req.Version, req.MinBytes, req.MaxBytes, req.SessionEpoch = v, 1, 1<<20, -1
			for _, topic := range []string{"t", "own"} {
				rt := kmsg.NewFetchRequestTopic()
				rt.Topic = topic
				rp := kmsg.NewFetchRequestTopicPartition()
				rp.PartitionMaxBytes = 1 << 20
				rt.Partitions = append(rt.Partitions, rp)
				req.Topics = append(req.Topics, rt)
			}
			for _, rt := range ask[*kmsg.FetchResponse](c, req).Topics {
				p, refused := rt.Partitions[0], rt.Topic == "t" && v < 10
				if refused != (p.ErrorCode == kerr.UnsupportedCompressionType.Code) || refused != (len(p.RecordBatches) == 0) || !refused && p.ErrorCode != 0 {
					t.Errorf("version %d of %s: code %d, %d bytes", v, rt.Topic, p.ErrorCode, len(p.RecordBatches))
				}
			}
		}
	})
}

// A batch that comes again is answered with the offset and the time of the first.
func TestLogAppendTimeOfDuplicate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		b.create("t", 1, map[string]string{"message.timestamp.type": "LogAppendTime", "compression.type": "gzip"})
		d := &dyn{T: t, running: b, c: w.dial()}
		tpl := record.NewTemplate()
		tpl.ProducerID, tpl.ProducerEpoch, tpl.BaseSequence = 7, 0, 0
		first := d.send(0, tpl, 10, 0)
		<-time.After(time.Minute)
		again := d.send(0, tpl, 10, 0)
		if first.ErrorCode != 0 || first.LogAppendTime != time.Now().Add(-time.Minute).UnixMilli() || again.ErrorCode != 0 ||
			again.BaseOffset != first.BaseOffset || again.LogAppendTime != first.LogAppendTime {
			t.Errorf("first %+v, again %+v", first, again)
		}
		// So it is after a restart.
		_ = d.c.c.Close()
		b.stop()
		b = w.start()
		defer b.stop()
		d = &dyn{T: t, running: b, c: w.dial()}
		defer d.c.c.Close()
		if again := d.send(0, tpl, 10, 0); again.BaseOffset != first.BaseOffset || again.LogAppendTime != first.LogAppendTime {
			t.Errorf("first %+v, after a restart %+v", first, again)
		}
	})
}

// ListOffsets, retention and the age of segments go by the broker's time, whatever the
// producer's clock says.
func TestLogAppendTimeRules(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 1, map[string]string{"message.timestamp.type": "LogAppendTime", "segment.ms": "3600000", "retention.ms": "7200000"})
		d := &dyn{T: t, running: b, topic: id}
		redial := func() { // an idle connection is closed after ten minutes
			d.c = w.dial()
			t.Cleanup(func() { _ = d.c.c.Close() })
		}
		ages := []time.Duration{100 * 24 * time.Hour, -100 * 24 * time.Hour, 0} // of the producer's clock
		var times []int64
		for _, age := range ages {
			redial()
			r := d.send(0, record.NewTemplate(), 10, age)
			d.want("code", r.ErrorCode, int16(0))
			times = append(times, r.LogAppendTime)
			<-time.After(10 * time.Minute)
		}
		d.want("segments within the hour", d.segments(0), 1)
		p, err := b.replicas.Lookup([]byte("t"), 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, ts := range times {
			at, err := p.ListOffset(ts, -1)
			if err != nil || at.Offset != model.Offset(i) || at.Timestamp != ts {
				t.Errorf("offset at %d: %+v, %v; want %d", ts, at, err, i)
			}
			if at, err := p.ListOffset(ts+1, -1); err != nil || i < 2 && at.Offset != model.Offset(i+1) || i == 2 && at.Offset != -1 {
				t.Errorf("offset after %d: %+v, %v", ts, at, err)
			}
		}
		if at, err := p.ListOffset(-3, -1); err != nil || at.Offset != 2 || at.Timestamp != times[2] {
			t.Errorf("largest time: %+v, %v", at, err)
		}
		<-time.After(31 * time.Minute)
		redial()
		d.fill(1, 10)
		d.want("segments after the hour", d.segments(0), 2)
		start, _, _ := d.log()
		d.want("start before", start, model.Offset(0))
		<-time.After(100 * time.Minute)
		start, _, _ = d.log()
		d.want("start when the newest of the segment is two hours old", start, model.Offset(3))
	})
}
