package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
)

// What is served follows Kafka 4.4 at the top, and reaches below Kafka 4 at the bottom
// only where the old form is really read.
func TestServedVersions(t *testing.T) {
	table := newAPITable()
	wantMin := map[kmsg.Key]int16{kmsg.Fetch: 4, kmsg.ListOffsets: 1, kmsg.OffsetCommit: 1, kmsg.OffsetFetch: 1}
	for key, a := range table {
		if a == nil {
			continue
		}
		k := kmsg.Key(key)
		req := kmsg.RequestForKey(int16(key))
		if req == nil {
			t.Fatalf("key %d is no API", key)
		}
		top := req.MaxVersion()
		if k == kmsg.InitProducerID {
			top = 5 // v6 (KIP-939) is not in Kafka's stable set
		}
		if a.max != top {
			t.Errorf("%s: served to version %d, Kafka 4.4 has %d", k.Name(), a.max, top)
		}
		if a.min != wantMin[k] {
			t.Errorf("%s: served from version %d, want %d", k.Name(), a.min, wantMin[k])
		}
		if (a.serve == nil) == (a.hot == nil) {
			t.Errorf("%s: needs exactly one function", k.Name())
		}
	}
	for _, k := range []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata,
		kmsg.ApiVersions, kmsg.CreateTopics, kmsg.DeleteTopics, kmsg.DeleteRecords, kmsg.InitProducerID, kmsg.OffsetForLeaderEpoch,
		kmsg.DescribeConfigs, kmsg.AlterConfigs, kmsg.DescribeLogDirs, kmsg.CreatePartitions,
		kmsg.IncrementalAlterConfigs, kmsg.UpdateFeatures, kmsg.DescribeCluster, kmsg.ListConfigResources,
		kmsg.DescribeTopicPartitions} {
		if table.find(k.Int16()) == nil {
			t.Errorf("%s is not served", k.Name())
		}
	}
	for _, k := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.EndTxn, kmsg.SASLHandshake, kmsg.ConsumerGroupHeartbeat, kmsg.ShareFetch, kmsg.GetTelemetrySubscriptions} {
		if table.find(k.Int16()) != nil {
			t.Errorf("%s is served but not built", k.Name())
		}
	}
}

func TestUnknownAPIsClose(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	for _, c := range []struct{ key, version int16 }{{-1, 0}, {200, 0}, {32767, 0}, {3, 99}, {1, 3}, {24, 0}} {
		p := &wire.Pending{Conn: &wire.Conn{}, Key: c.key, Version: c.version}
		if got := b.Handle(p); got != wire.CloseConn || p.CloseReason == "" {
			t.Errorf("key %d version %d: outcome %d, reason %q; want the connection closed with a reason", c.key, c.version, got, p.CloseReason)
		}
	}
}

// A version of ApiVersions from the future is answered in version 0, with the keys.
func TestFutureAPIVersions(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	p := &wire.Pending{Conn: &wire.Conn{}, Key: 18, Version: 99, Body: []byte{1, 2, 3}}
	if got := b.Handle(p); got != wire.Done {
		t.Fatalf("outcome %d", got)
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(p.Resp); err != nil {
		t.Fatal(err)
	}
	if resp.ErrorCode != 35 || len(resp.ApiKeys) < 19 {
		t.Fatalf("code %d with %d keys", resp.ErrorCode, len(resp.ApiKeys))
	}
}
