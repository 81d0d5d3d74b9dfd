package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// A client writes, deletes and reads a compacted topic while it is compacted, with restarts
// in between: what it reads from the beginning is a map with the last value of each key,
// at the offsets that the producer was told.
func TestCompactedTopicEndToEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		b.create("m", 1, compacted("segment.bytes", "4096", "min.cleanable.dirty.ratio", "0.1", "delete.retention.ms", "60000"))
		want, offsets := map[string]string{}, map[string]int64{}
		for round := range 6 {
			cl := w.client(kgo.ProducerBatchCompression([]kgo.CompressionCodec{
				kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(),
			}[round%4]))
			for i := range 60 {
				k := fmt.Sprintf("key-%d", (i*7+round)%25)
				r := &kgo.Record{Topic: "m", Key: []byte(k)}
				if (i+round)%9 == 0 {
					delete(want, k)
				} else {
					r.Value = []byte(fmt.Sprintf("%d/%d %s", round, i, strings.Repeat("x", 100)))
					want[k] = string(r.Value)
				}
				if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
					t.Fatal(err)
				}
				offsets[k] = r.Offset
			}
			cl.Close()
			<-time.After(2 * time.Minute) // tombstones have had their time by the next round
			if round%2 == 1 {
				b.stop()
				b = w.start()
			}
		}
		defer func() { b.stop() }()
		<-time.After(cleanerRound)
		p, err := b.replicas.Lookup([]byte("m"), 0)
		if err != nil {
			t.Fatal(err)
		}
		end := p.Stats().LogEnd
		got, n := map[string]string{}, 0
		cl := w.client(kgo.ConsumeTopics("m"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		for last := int64(-1); last < int64(end)-1; {
			f := cl.PollFetches(t.Context())
			if err := f.Err(); err != nil {
				t.Fatal(err)
			}
			f.EachRecord(func(r *kgo.Record) {
				n++
				if r.Offset <= last {
					t.Errorf("offset %d behind %d", r.Offset, last)
				}
				last = r.Offset
				if r.Value == nil {
					delete(got, string(r.Key))
				} else {
					got[string(r.Key)] = string(r.Value)
				}
				if at := offsets[string(r.Key)]; r.Offset > at {
					t.Errorf("%s at %d, was written at %d", r.Key, r.Offset, at)
				}
			})
		}
		if len(got) != len(want) {
			t.Errorf("%d keys, want %d", len(got), len(want))
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s is %.9q, want %.9q", k, got[k], v)
			}
		}
		if n > 120 {
			t.Errorf("%d of 360 records are left for %d keys", n, len(want))
		}
	})
}

// Groups survive the compaction of their topic: the coordinator reads what it left, and
// what was deleted does not come back.
func TestOffsetsTopicIsCompacted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start("offsets.topic.num.partitions=1", "offsets.topic.segment.bytes=4096", "log.cleaner.min.cleanable.ratio=0.1",
			"log.cleaner.delete.retention.ms=1000")
		b.create("t", 2, nil)
		commit := func(group string, partition int32, at int64) {
			adm := kadm.NewClient(w.client())
			var o kadm.Offsets
			o.AddOffset("t", partition, at, -1)
			if err := adm.CommitAllOffsets(t.Context(), group, o); err != nil {
				t.Fatal(err)
			}
			adm.Close()
		}
		for i := range int64(60) {
			commit("g", 0, i)
			commit("gone", 0, i)
		}
		commit("g", 1, 777)
		adm := kadm.NewClient(w.client())
		if _, err := adm.DeleteGroup(t.Context(), "gone"); err != nil {
			t.Fatal(err)
		}
		adm.Close()
		for i := range int64(60) { // the tombstones get into closed segments, and get old
			commit("g", 0, 1000+i)
			<-time.After(time.Second)
		}
		<-time.After(2 * cleanerRound)
		p, err := b.replicas.Lookup([]byte(meta.OffsetsTopic), 0)
		if err != nil {
			t.Fatal(err)
		}
		c, compacted := p.Cleaning()
		if s := p.Stats(); !compacted || c.CleanedMs == 0 || s.Bytes > 16<<10 || s.LogStart != 0 || s.LogEnd < 180 {
			t.Errorf("compacted %v: %+v, %+v", compacted, c, s)
		}
		b.stop()
		b = w.start("offsets.topic.num.partitions=1", "offsets.topic.segment.bytes=4096")
		defer b.stop()
		adm = kadm.NewClient(w.client())
		defer adm.Close()
		got, err := adm.FetchOffsets(t.Context(), "g")
		if err != nil {
			t.Fatal(err)
		}
		for partition, want := range map[int32]int64{0: 1059, 1: 777} {
			if o, _ := got.Lookup("t", partition); o.At != want {
				t.Errorf("group g is at %d of partition %d, want %d", o.At, partition, want)
			}
		}
		if l, err := adm.ListGroups(t.Context()); err != nil || len(l.Groups()) != 1 {
			t.Errorf("groups %v, %v", l.Groups(), err)
		}
	})
}

// Records without keys are refused for compacted topics, in every codec, with the record
// named; nothing of the batch is appended.
func TestCompactedTopicNeedsKeys(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		b.create("t", 1, map[string]string{"cleanup.policy": "compact,delete"})
		c := w.dial()
		defer c.c.Close()
		for codec := record.None; codec <= record.LZ4; codec++ {
			tpl := record.NewTemplate()
			tpl.Codec = codec
			now := time.Now().UnixMilli()
			batch, err := record.Build(nil, tpl, []record.Record{{Timestamp: now, Key: []byte("a")}, {Timestamp: now, Value: []byte("v")}, {Timestamp: now, Key: []byte{}}})
			if err != nil {
				t.Fatal(err)
			}
			r := ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, batch)).Topics[0].Partitions[0]
			if r.ErrorCode != code(kerr.InvalidRecord) || len(r.ErrorRecords) != 1 || r.ErrorRecords[0].RelativeOffset != 1 {
				t.Errorf("%v: code %d, records %+v", codec, r.ErrorCode, r.ErrorRecords)
			}
		}
		p, err := b.replicas.Lookup([]byte("t"), 0)
		if err != nil || p.Stats().LogEnd != 0 {
			t.Errorf("log end %d, %v", p.Stats().LogEnd, err)
		}
	})
}

// How far a partition is compacted is told to tools of ours, and to Prometheus.
func TestCompactionIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		d := &dyn{T: t, running: b, topic: b.create("t", 1, compacted()), c: w.dial()}
		defer d.stop()
		b.create("plain", 1, nil)
		tell := func(software string) (c wire.PartitionCompaction, told bool) {
			cl := w.client(kgo.SoftwareNameAndVersion(software, "1"))
			defer cl.Close()
			resp, err := kmsg.NewPtrDescribeLogDirsRequest().RequestWith(context.Background(), cl)
			if err != nil {
				t.Fatal(err)
			}
			for _, topic := range resp.Dirs[0].Topics {
				topic.Partitions[0].UnknownTags.Each(func(tag uint32, v []byte) {
					if tag != wire.TagPartitionCompaction {
						return
					}
					if topic.Topic != "t" || json.Unmarshal(v, &c) != nil {
						t.Errorf("%s: %s", topic.Topic, v)
					}
					told = true
				})
			}
			return c, told
		}
		metric := func(name string) string {
			rec := httptest.NewRecorder()
			b.metricsHandler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
			for _, l := range strings.Split(rec.Body.String(), "\n") {
				if v, ok := strings.CutPrefix(l, name+" "); ok {
					return v
				}
			}
			return "none"
		}
		d.puts("a", "a", "a", "z")
		if c, _ := tell("kalda"); c.CleanedMs != 0 || c.DirtyBytes != c.TotalBytes || c.TotalBytes == 0 {
			t.Errorf("before: %+v", c)
		}
		d.want("ratio before", metric(`kalda_partition_dirty_ratio{partition="0",topic="t"}`), "1")
		<-time.After(cleanerRound)
		synctest.Wait()
		if c, _ := tell("kalda"); c.CleanedMs == 0 || c.DirtyBytes*2 != c.TotalBytes || c.Uncleanable != "" {
			t.Errorf("after: %+v", c)
		}
		if _, told := tell("other"); told {
			t.Error("other clients are told")
		}
		d.want("ratio", metric(`kalda_partition_dirty_ratio{partition="0",topic="t"}`), "0.5")
		d.want("uncleanable", metric(`kalda_partition_uncleanable{partition="0",topic="t"}`), "0")
		d.want("of a plain topic", metric(`kalda_partition_dirty_ratio{partition="0",topic="plain"}`), "none")
		d.want("rounds", metric("kalda_cleaner_rounds_total"), "1")
		d.want("removed", metric("kalda_cleaner_removed_records_total"), "2")
	})
}

// What compaction alone may take from a topic, nobody else may: not the groups of the
// offsets topic either.
func TestDeleteRecordsOfCompactedTopic(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start("offsets.topic.num.partitions=1")
		defer b.stop()
		b.create("both", 1, map[string]string{"cleanup.policy": "compact,delete"})
		b.create("t", 1, compacted())
		d := &dyn{T: t, running: b, c: w.dial()}
		defer d.c.c.Close()
		d.puts("a", "b")
		adm := kadm.NewClient(w.client())
		defer adm.Close()
		var o kadm.Offsets
		o.AddOffset("t", 0, 1, -1)
		if err := adm.CommitAllOffsets(t.Context(), "g", o); err != nil {
			t.Fatal(err)
		}
		for topic, want := range map[string]int16{"t": code(kerr.PolicyViolation), meta.OffsetsTopic: code(kerr.PolicyViolation), "both": 0} {
			rp := kmsg.NewDeleteRecordsRequestTopicPartition()
			rp.Offset = -1
			rt := kmsg.NewDeleteRecordsRequestTopic()
			rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
			req := kmsg.NewPtrDeleteRecordsRequest()
			req.Topics = append(req.Topics, rt)
			if p := ask[*kmsg.DeleteRecordsResponse](d.c, req).Topics[0].Partitions[0]; p.ErrorCode != want {
				t.Errorf("%s: %+v, want code %d", topic, p, want)
			}
		}
		d.want("records", d.kept(), "0 1")
	})
}

// A record that may not be compacted yet must not be overdue: the two lags are held against
// each other when a topic is made or altered, with the defaults behind them.
func TestCompactionLagsGoTogether(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start("log.cleaner.max.compaction.lag.ms=3600000")
		defer b.stop()
		ctx := t.Context()
		for i, c := range []struct {
			conf map[string]string
			ok   bool
		}{
			{map[string]string{"min.compaction.lag.ms": "1000", "max.compaction.lag.ms": "999"}, false},
			{map[string]string{"min.compaction.lag.ms": "3600001"}, false},
			{map[string]string{"min.compaction.lag.ms": "3600000"}, true},
			{map[string]string{"min.compaction.lag.ms": "1000", "max.compaction.lag.ms": "1000"}, true},
		} {
			res, _, err := adminOf{b.Broker}.CreateTopics(ctx, []meta.NewTopic{{Name: fmt.Sprintf("t%d", i), Partitions: 1, ReplicationFactor: -1, Config: c.conf}}, false)
			if err != nil || c.ok != (res[0].Err == nil) || !c.ok && !errors.Is(res[0].Err, kerr.InvalidConfig) {
				t.Errorf("%v: %v %v", c.conf, err, res)
			}
		}
		for value, good := range map[string]bool{"999": false, "1000": true, "2000": true} {
			errs, _, err := adminOf{b.Broker}.AlterConfigs(ctx, []meta.ConfigChange{{Kind: meta.ResourceTopic, Name: "t3",
				Ops: []meta.ConfigOpEntry{{Key: "max.compaction.lag.ms", Op: meta.ConfigSet, Value: &value}}}}, false)
			if err != nil || good != (errs[0] == nil) || !good && !errors.Is(errs[0], kerr.InvalidConfig) {
				t.Errorf("max.compaction.lag.ms=%s: %v %v", value, err, errs)
			}
		}
	})
}
