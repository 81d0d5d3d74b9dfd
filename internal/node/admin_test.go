package node

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

func metadataRequest(version int16, create bool, names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = version, create
	for _, n := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &n
		req.Topics = append(req.Topics, t)
	}
	return req
}

// codeOf is the code of an error, 0 for none.
func codeOf(e *kerr.Error) int16 {
	if e == nil {
		return 0
	}
	return e.Code
}

// Naming a topic creates it: always below version 4, later only when asked; and only if
// auto.create.topics.enable allows it.
func TestMetadataCreatesTopics(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		c := w.dial()
		defer c.c.Close()
		for _, m := range []struct {
			version int16
			create  bool
			topic   string
			want    *kerr.Error
		}{
			{0, false, "old", nil},
			{3, false, "older", nil},
			{4, false, "unasked", kerr.UnknownTopicOrPartition},
			{4, true, "asked", nil},
			{13, true, "new", nil},
			{12, true, "no/slash", kerr.InvalidTopicException},
			{12, true, "..", kerr.InvalidTopicException},
			{12, true, strings.Repeat("x", 250), kerr.InvalidTopicException},
		} {
			got := ask[*kmsg.MetadataResponse](c, metadataRequest(m.version, m.create, m.topic)).Topics[0]
			if got.ErrorCode != codeOf(m.want) {
				t.Errorf("version %d, topic %q: code %d, want %v", m.version, m.topic, got.ErrorCode, m.want)
			}
			if m.want == nil && (len(got.Partitions) != 1 || got.Partitions[0].Leader != 1 || got.Partitions[0].ErrorCode != 0) {
				t.Errorf("version %d, topic %q is not ready to use: %+v", m.version, m.topic, got.Partitions)
			}
		}
	})
	bubble(t, func(t *testing.T, w *world) {
		b := w.start("auto.create.topics.enable=false")
		defer b.stop()
		c := w.dial()
		defer c.c.Close()
		if got := ask[*kmsg.MetadataResponse](c, metadataRequest(1, true, "t")).Topics[0].ErrorCode; got != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("created though it is not allowed: code %d", got)
		}
	})
}

// All topics, no topics, topics by id; the operations that a client may do; addresses.
func TestMetadataAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		id := b.create("t", 2, nil)
		c := w.dial()
		defer c.c.Close()
		for _, m := range []struct {
			version int16
			topics  []kmsg.MetadataRequestTopic
			want    int
		}{{0, []kmsg.MetadataRequestTopic{}, 1}, {1, nil, 1}, {1, []kmsg.MetadataRequestTopic{}, 0}, {12, nil, 1}} {
			req := kmsg.NewPtrMetadataRequest()
			req.Version, req.Topics = m.version, m.topics
			if got := ask[*kmsg.MetadataResponse](c, req); len(got.Topics) != m.want || len(got.Brokers) != 1 {
				t.Errorf("version %d with topics %v: %d topics, %d brokers", m.version, m.topics, len(got.Topics), len(got.Brokers))
			}
		}
		req := kmsg.NewPtrMetadataRequest()
		req.Version, req.IncludeTopicAuthorizedOperations = 12, true
		for _, ids := range [][16]byte{id, {1, 2, 3}} {
			rt := kmsg.NewMetadataRequestTopic()
			rt.TopicID = ids
			req.Topics = append(req.Topics, rt)
		}
		got := ask[*kmsg.MetadataResponse](c, req)
		// Read, write, create, delete, alter, describe, and both of configs (KIP-430).
		if f := got.Topics[0]; f.ErrorCode != 0 || *f.Topic != "t" || len(f.Partitions) != 2 || f.AuthorizedOperations != 0b1101_1111_1000 {
			t.Errorf("by id: %+v", f)
		}
		if f := got.Topics[1]; f.ErrorCode != kerr.UnknownTopicID.Code || f.Topic != nil {
			t.Errorf("by an unknown id: %+v", f)
		}
		// Without advertised.listeners the address is the one that the client reached.
		if br := got.Brokers[0]; br.Host != "127.0.0.1" || br.Port != 9092 {
			t.Errorf("address %s:%d", br.Host, br.Port)
		}
	})
	bubble(t, func(t *testing.T, w *world) {
		b := w.start("advertised.listeners=PLAINTEXT://kafka.example:19092")
		defer b.stop()
		c := w.dial()
		defer c.c.Close()
		if br := ask[*kmsg.MetadataResponse](c, metadataRequest(12, false)).Brokers[0]; br.Host != "kafka.example" || br.Port != 19092 {
			t.Errorf("advertised address %s:%d", br.Host, br.Port)
		}
	})
}

// Creating, extending and deleting topics says what is wrong, and changes nothing then.
func TestTopicRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		b.create("a.b", 1, nil)
		c := w.dial()
		defer c.c.Close()
		create := func(edit func(*kmsg.CreateTopicsRequestTopic)) kmsg.CreateTopicsResponseTopic {
			req := kmsg.NewPtrCreateTopicsRequest()
			req.Version = 7
			rt := kmsg.NewCreateTopicsRequestTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "t", 1, 1
			edit(&rt)
			req.Topics = append(req.Topics, rt)
			return ask[*kmsg.CreateTopicsResponse](c, req).Topics[0]
		}
		conf := func(k, v string) func(*kmsg.CreateTopicsRequestTopic) {
			return func(r *kmsg.CreateTopicsRequestTopic) {
				r.Configs = append(r.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: &v})
			}
		}
		for name, m := range map[string]struct {
			edit func(*kmsg.CreateTopicsRequestTopic)
			want *kerr.Error
		}{
			"exists":        {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = "a.b" }, kerr.TopicAlreadyExists},
			"collides":      {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = "a_b" }, kerr.InvalidTopicException},
			"illegal":       {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = "a b" }, kerr.InvalidTopicException},
			"internal":      {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = "__consumer_offsets" }, kerr.InvalidTopicException},
			"no partitions": {func(r *kmsg.CreateTopicsRequestTopic) { r.NumPartitions = 0 }, kerr.InvalidPartitions},
			"too many":      {func(r *kmsg.CreateTopicsRequestTopic) { r.NumPartitions = 1 << 30 }, kerr.InvalidPartitions},
			"two copies":    {func(r *kmsg.CreateTopicsRequestTopic) { r.ReplicationFactor = 2 }, kerr.InvalidReplicationFactor},
			"unknown key":   {conf("retention.mss", "1"), kerr.InvalidConfig},
			"bad value":     {conf("retention.ms", "soon"), kerr.InvalidConfig},
			"not built":     {conf("remote.storage.enable", "true"), kerr.InvalidConfig},
		} {
			if got := create(m.edit); got.ErrorCode != m.want.Code || got.ErrorMessage == nil || *got.ErrorMessage == "" {
				t.Errorf("%s: code %d (%v), want %s with a message", name, got.ErrorCode, got.ErrorMessage, m.want.Name)
			}
		}
		if names := b.o.Meta.Publisher.Image().TopicNames(); len(names) != 1 {
			t.Errorf("topics now: %v", names)
		}
		grow := kmsg.NewPtrCreatePartitionsRequest()
		grow.Version = 3
		grow.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "a.b", Count: 1}, {Topic: "nope", Count: 3}}
		got := ask[*kmsg.CreatePartitionsResponse](c, grow)
		if got.Topics[0].ErrorCode != kerr.InvalidPartitions.Code || got.Topics[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("%+v", got.Topics)
		}
		del := kmsg.NewPtrDeleteTopicsRequest()
		del.Version = 6
		name := "nope"
		del.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &name}, {TopicID: [16]byte{9}}}
		gone := ask[*kmsg.DeleteTopicsResponse](c, del)
		if gone.Topics[0].ErrorCode != kerr.UnknownTopicOrPartition.Code || gone.Topics[1].ErrorCode != kerr.UnknownTopicID.Code {
			t.Errorf("%+v", gone.Topics)
		}
	})
}

// A deleted topic that is created again has another id and none of the old records.
func TestRecreatedTopicIsEmpty(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		old := b.create("t", 1, nil)
		c := w.dial()
		defer c.c.Close()
		ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, batchOf(t, "old")))
		del := kmsg.NewPtrDeleteTopicsRequest()
		del.Version = 6
		del.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: old}}
		if got := ask[*kmsg.DeleteTopicsResponse](c, del).Topics[0].ErrorCode; got != 0 {
			t.Fatal(got)
		}
		if id := b.create("t", 1, nil); id == old {
			t.Fatal("the new topic has the old id")
		}
		if end := ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, batchOf(t, "new"))).Topics[0].Partitions[0].BaseOffset; end != 0 {
			t.Fatalf("the new topic begins at offset %d", end)
		}
		if got := ask[*kmsg.FetchResponse](c, fetchRequest(13, "t", old, 0)).Topics[0].Partitions[0].ErrorCode; got != kerr.UnknownTopicID.Code {
			t.Fatalf("a fetch by the old id: %d", got)
		}
	})
}

// Features that are not known, or at levels that this build does not run, are refused.
func TestUpdateFeatures(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		c := w.dial()
		defer c.c.Close()
		for _, f := range []struct {
			name  string
			level int16
		}{{"transaction.version", 2}, {"group.version", 1}, {"metadata.version", 1}, {"metadata.version", 32767}, {"nonsense", 1}} {
			for v := int16(0); v <= 2; v++ {
				req := kmsg.NewPtrUpdateFeaturesRequest()
				req.Version = v
				req.FeatureUpdates = []kmsg.UpdateFeaturesRequestFeatureUpdate{{Feature: f.name, MaxVersionLevel: f.level, UpgradeType: 1}}
				resp := ask[*kmsg.UpdateFeaturesResponse](c, req)
				got := resp.ErrorCode
				if len(resp.Results) > 0 {
					got = resp.Results[0].ErrorCode
				}
				if got == 0 {
					t.Errorf("version %d: feature %s was set to level %d", v, f.name, f.level)
				}
			}
		}
	})
}

// Offsets by time, the largest timestamp, and the end of a leader epoch.
func TestOffsetsByTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		b.create("t", 1, nil)
		c := w.dial()
		defer c.c.Close()
		var times []int64
		for range 5 {
			times = append(times, time.Now().UnixMilli())
			ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, batchOf(t, "v")))
			<-time.After(time.Second)
		}
		list := func(ts int64) kmsg.ListOffsetsResponseTopicPartition {
			req := kmsg.NewPtrListOffsetsRequest()
			req.Version = 11
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = "t"
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Timestamp = ts
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			return ask[*kmsg.ListOffsetsResponse](c, req).Topics[0].Partitions[0]
		}
		for _, q := range []struct{ ts, offset, stamp int64 }{
			{-1, 5, -1}, {-2, 0, -1}, {-3, 4, times[4]}, {-4, 0, -1}, {-5, -1, -1}, {-6, -1, -1},
			{times[2], 2, times[2]}, {times[2] + 1, 3, times[3]}, {0, 0, times[0]}, {times[4] + 1, -1, -1},
		} {
			if got := list(q.ts); got.ErrorCode != 0 || got.Offset != q.offset || got.Timestamp != q.stamp {
				t.Errorf("timestamp %d: code %d, offset %d at %d; want offset %d at %d", q.ts, got.ErrorCode, got.Offset, got.Timestamp, q.offset, q.stamp)
			}
		}
		p, _ := b.replicas.Lookup([]byte("t"), 0)
		epoch, _ := p.Leader()
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.Version, req.ReplicaID = 4, -1
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = "t"
		rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		rp.LeaderEpoch = int32(epoch)
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		if got := ask[*kmsg.OffsetForLeaderEpochResponse](c, req).Topics[0].Partitions[0]; got.ErrorCode != 0 || got.EndOffset != 5 || got.LeaderEpoch != int32(epoch) {
			t.Errorf("the end of the present epoch: %+v", got)
		}
	})
}
