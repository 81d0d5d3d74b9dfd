package node

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// largestValue is the longest value that the ensemble holds.
func (d *ward) largestValue() int {
	d.t.Helper()
	page, err := d.w.store.Range(d.t.Context(), d.meta.Keys.Prefix(), "", 0, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	n := 0
	for _, kv := range page.KVs {
		n = max(n, len(kv.Value), len(kv.Key))
	}
	return n
}

// maxValue is what no value of the ensemble may exceed, whatever clients do.
const maxValue = 512 << 10

// Creating topics and partitions without end is refused, in one request or in many.
func TestPartitionsAreBounded(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		for n, want := range map[int32]*kerr.Error{100_000: kerr.InvalidPartitions, math.MaxInt32: kerr.InvalidPartitions,
			0: kerr.InvalidPartitions, -2: kerr.InvalidPartitions, math.MinInt32: kerr.InvalidPartitions} {
			if p := createTopic(c, 7, "big", n); p.ErrorCode != want.Code {
				t.Errorf("%d partitions: code %d", n, p.ErrorCode)
			}
			more := kmsg.NewCreatePartitionsRequestTopic()
			more.Topic, more.Count = "t", n
			req := kmsg.NewPtrCreatePartitionsRequest()
			req.Version, req.TimeoutMillis, req.Topics = 3, 30_000, append(req.Topics, more)
			if p := ask[*kmsg.CreatePartitionsResponse](c, req).Topics[0]; p.ErrorCode != want.Code {
				t.Errorf("grow to %d partitions: code %d", n, p.ErrorCode)
			}
		}
		// Many topics in one request: the ten thousandth partition is the last.
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version, req.ValidateOnly, req.TimeoutMillis = 7, true, 30_000
		for i := range 30 {
			rt := kmsg.NewCreateTopicsRequestTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = fmt.Sprint("x", i), 999, 1
			req.Topics = append(req.Topics, rt)
		}
		refused := 0
		for _, p := range ask[*kmsg.CreateTopicsResponse](c, req).Topics {
			switch p.ErrorCode {
			case 0:
			case kerr.PolicyViolation.Code:
				refused++
			default:
				t.Errorf("code %d", p.ErrorCode)
			}
		}
		if refused != 20 {
			t.Errorf("%d of 30 topics of 999 partitions are refused", refused)
		}
		// An assignment by hand is counted as well; a bad one is refused for what it is.
		for name, f := range map[string]func(*kmsg.CreateTopicsRequestTopic){
			"gap":         func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicaAssignment[0].Partition = 7 },
			"twice":       func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicaAssignment[1].Partition = 0 },
			"negative":    func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicaAssignment[0].Partition = math.MinInt32 },
			"no replicas": func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicaAssignment[0].Replicas = nil },
			"unknown":     func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicaAssignment[0].Replicas = []int32{99} },
			"negative id": func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicaAssignment[0].Replicas = []int32{-1} },
			"same twice":  func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicaAssignment[0].Replicas = []int32{1, 1} },
			"uneven":      func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicaAssignment[0].Replicas = []int32{1, 2} },
			"a million":   func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicaAssignment[0].Replicas = make([]int32, 1_000_000) },
		} {
			rt := kmsg.NewCreateTopicsRequestTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "assigned", -1, -1
			for i := range int32(2) {
				a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
				a.Partition, a.Replicas = i, []int32{1}
				rt.ReplicaAssignment = append(rt.ReplicaAssignment, a)
			}
			f(&rt)
			req := kmsg.NewPtrCreateTopicsRequest()
			req.Version, req.TimeoutMillis, req.Topics = 7, 30_000, append(req.Topics, rt)
			if p := ask[*kmsg.CreateTopicsResponse](c, req).Topics[0]; p.ErrorCode != kerr.InvalidReplicaAssignment.Code {
				t.Errorf("assignment with %s: code %d", name, p.ErrorCode)
			}
		}
		if im := d.meta.Publisher.Image(); len(im.Topics) != 1 || d.largestValue() > maxValue {
			t.Errorf("topics: %v", im.TopicNames())
		}
	})
	// The bound on all together.
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		created := 0
		for i := range 10 {
			switch p := createTopic(c, 7, fmt.Sprint("x", i), 10); p.ErrorCode {
			case 0:
				created++
			case kerr.PolicyViolation.Code:
			default:
				t.Fatalf("code %d", p.ErrorCode)
			}
		}
		if created != 4 { // two are there
			t.Errorf("%d topics of 10 partitions where 50 partitions may be", created)
		}
		more := kmsg.NewCreatePartitionsRequestTopic()
		more.Topic, more.Count = "x0", 100
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Version, req.TimeoutMillis, req.Topics = 3, 30_000, append(req.Topics, more)
		if p := ask[*kmsg.CreatePartitionsResponse](c, req).Topics[0]; p.ErrorCode != kerr.PolicyViolation.Code {
			t.Errorf("grow: code %d", p.ErrorCode)
		}
	}, "kalda.partitions.max=50")
}

// Metadata for very many names is answered once for each name or closes the connection, and
// creates at most a thousand topics of valid names; all topics are told to many clients at the same time.
func TestMetadataIsBounded(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		req := kmsg.NewPtrMetadataRequest()
		req.Version = 12
		for i := range 50_000 {
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = kmsg.StringPtr([]string{"t", "nosuch", "other"}[i%3])
			req.Topics = append(req.Topics, rt)
		}
		if resp := ask[*kmsg.MetadataResponse](c, req); len(resp.Topics) != 3 {
			t.Errorf("%d answers about 3 names", len(resp.Topics))
		}
		req.Topics = nil
		for i := range 2_000_000 {
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = kmsg.StringPtr(fmt.Sprint("n", i))
			req.Topics = append(req.Topics, rt)
		}
		// Two million names are more than the budget for decoded requests holds.
		if c.send(req); !c.closes() {
			t.Error("two million names are answered")
		}
		c = d.w.dial()
		req.Topics = req.Topics[:100_000]
		if resp := ask[*kmsg.MetadataResponse](c, req); len(resp.Topics) != 100_000 || resp.Topics[5].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("%d answers about a hundred thousand names", len(resp.Topics))
		}
		var all []*wireConn
		for range 300 {
			m := kmsg.NewPtrMetadataRequest()
			m.Version, m.Topics = 12, nil
			cc := d.w.dial()
			cc.send(m)
			all = append(all, cc)
		}
		for _, cc := range all {
			resp := kmsg.NewPtrMetadataResponse()
			resp.Version = 12
			if cc.receive(resp); len(resp.Topics) != 1 {
				t.Fatalf("%+v", resp)
			}
			_ = cc.c.Close()
		}
	}, "auto.create.topics.enable=false")
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		req := kmsg.NewPtrMetadataRequest()
		req.Version, req.AllowAutoTopicCreation = 12, true
		for i := range 3_000 {
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = kmsg.StringPtr(fmt.Sprint("n", i))
			req.Topics = append(req.Topics, rt)
		}
		resp := ask[*kmsg.MetadataResponse](c, req)
		codes := map[int16]int{}
		for _, m := range resp.Topics {
			codes[m.ErrorCode]++
		}
		if got := len(d.meta.Publisher.Image().Topics); got != 501 || codes[0] != 500 || len(resp.Topics) != 3_000 {
			t.Errorf("%d topics, codes %v", got, codes)
		}
		if codes[kerr.UnknownTopicOrPartition.Code] != 2_000 || codes[kerr.PolicyViolation.Code] != 500 {
			t.Errorf("codes %v", codes)
		}
	}, "kalda.partitions.max=502")
}

// Configurations that are long, many or nonsense change nothing, and no value of the
// ensemble grows beyond what it takes.
func TestBadConfigs(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		rev := d.meta.Publisher.Image().Revision
		alter := func(kind kmsg.ConfigResourceType, name string, op int8, kvs ...[2]string) int16 {
			rr := kmsg.NewIncrementalAlterConfigsRequestResource()
			rr.ResourceType, rr.ResourceName = kind, name
			for _, kv := range kvs {
				rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				rc.Name, rc.Op, rc.Value = kv[0], kmsg.IncrementalAlterConfigOp(op), &kv[1]
				rr.Configs = append(rr.Configs, rc)
			}
			req := kmsg.NewPtrIncrementalAlterConfigsRequest()
			req.Version, req.Resources = 1, append(req.Resources, rr)
			resp := ask[*kmsg.IncrementalAlterConfigsResponse](c, req).Resources[0]
			if resp.ErrorMessage != nil && len(*resp.ErrorMessage) > 2000 {
				t.Errorf("a message of %d bytes", len(*resp.ErrorMessage))
			}
			return resp.ErrorCode
		}
		many := make([][2]string, 100_000)
		for i := range many {
			many[i] = [2]string{fmt.Sprint("key.", i), "1"}
		}
		long := strings.Repeat("\x01", 32_000)
		topic, broker, group := kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeGroupConfig
		for name, row := range map[string]struct {
			got  int16
			want *kerr.Error
		}{
			"many":             {alter(topic, "t", 0, many...), kerr.InvalidConfig},
			"long key":         {alter(topic, "t", 0, [2]string{long, "1"}), kerr.InvalidConfig},
			"long value":       {alter(topic, "t", 0, [2]string{"retention.ms", long}), kerr.InvalidConfig},
			"not a number":     {alter(topic, "t", 0, [2]string{"retention.ms", "x"}), kerr.InvalidConfig},
			"too large":        {alter(topic, "t", 0, [2]string{"retention.ms", "9223372036854775808"}), kerr.InvalidConfig},
			"negative":         {alter(topic, "t", 0, [2]string{"segment.bytes", "-1"}), kerr.InvalidConfig},
			"twice":            {alter(topic, "t", 0, [2]string{"retention.ms", "1"}, [2]string{"retention.ms", "2"}), kerr.InvalidRequest},
			"op 9":             {alter(topic, "t", 9, [2]string{"retention.ms", "1"}), kerr.InvalidRequest},
			"op -1":            {alter(topic, "t", -1, [2]string{"retention.ms", "1"}), kerr.InvalidRequest},
			"append no list":   {alter(topic, "t", 2, [2]string{"retention.ms", "1"}), kerr.InvalidConfig},
			"unknown topic":    {alter(topic, "nosuch", 0, [2]string{"retention.ms", "1"}), kerr.UnknownTopicOrPartition},
			"bad topic":        {alter(topic, "a/b", 0, [2]string{"retention.ms", "1"}), kerr.InvalidTopicException},
			"no broker":        {alter(broker, "x", 0, [2]string{"log.retention.ms", "1"}), kerr.InvalidRequest},
			"unknown broker":   {alter(broker, "99", 0, [2]string{"log.retention.ms", "1"}), kerr.BrokerIDNotRegistered},
			"read-only":        {alter(broker, "", 0, [2]string{"node.id", "5"}), kerr.InvalidRequest},
			"group, no name":   {alter(group, "", 0, [2]string{"consumer.session.timeout.ms", "45000"}), kerr.InvalidRequest},
			"unknown resource": {alter(99, "x", 0, [2]string{"a", "1"}), kerr.InvalidRequest},
		} {
			if row.got != row.want.Code && !(name == "read-only" && row.got == kerr.InvalidConfig.Code) {
				t.Errorf("%s: code %d, want %v", name, row.got, row.want)
			}
		}
		for name, kv := range map[string][2]string{"unknown": {"no.such.key", "1"}, "long": {"retention.ms", long}, "bad": {"cleanup.policy", "x"}} {
			if p := createTopic(c, 7, "new", 1, kv); p.ErrorCode != kerr.InvalidConfig.Code {
				t.Errorf("create with %s: code %d", name, p.ErrorCode)
			}
		}
		if now := d.meta.Publisher.Image().Revision; now != rev {
			t.Errorf("the ensemble went from revision %d to %d", rev, now)
		}
		// Lists can be appended to; not for ever.
		last := int16(0)
		for i := range 1_000 {
			var b strings.Builder
			for j := range 2_000 {
				fmt.Fprintf(&b, "%d:1,", i*2_000+j)
			}
			if last = alter(topic, "t", 2, [2]string{"leader.replication.throttled.replicas", strings.TrimSuffix(b.String(), ",")}); last != 0 {
				break
			}
		}
		if last != kerr.InvalidConfig.Code || d.largestValue() > maxValue {
			t.Errorf("appending ends with code %d, the largest value has %d bytes", last, d.largestValue())
		}
		// Group configurations must not be a way to fill the ensemble either.
		for i := range 100 {
			_ = alter(group, fmt.Sprint(i, strings.Repeat("g", 30_000)), 0, [2]string{"consumer.session.timeout.ms", "45000"})
		}
		if n := len(d.meta.Publisher.Image().GroupConfigs); n > 0 || d.largestValue() > maxValue {
			t.Errorf("%d group configurations", n)
		}
		// One resource is described once, however often it is named.
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Version, req.IncludeDocumentation, req.IncludeSynonyms = 4, true, true
		for range 100_000 {
			rr := kmsg.NewDescribeConfigsRequestResource()
			rr.ResourceType, rr.ResourceName = topic, "t"
			req.Resources = append(req.Resources, rr)
		}
		if resp := ask[*kmsg.DescribeConfigsResponse](c, req); len(resp.Resources) != 1 {
			t.Errorf("%d answers", len(resp.Resources))
		}
	})
}

// Names of one topic or group may not be told from those of another; a refused request of
// each kind leaves metadata as it was.
func TestBadAdmin(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		rev := d.meta.Publisher.Image().Revision
		del := func(version int16, f func(*kmsg.DeleteTopicsRequest)) []kmsg.DeleteTopicsResponseTopic {
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.Version, req.TimeoutMillis = version, 30_000
			f(req)
			return ask[*kmsg.DeleteTopicsResponse](c, req).Topics
		}
		for _, name := range []string{"nosuch", "", "../t", "T", strings.Repeat("t", 32_000)} {
			if p := del(5, func(r *kmsg.DeleteTopicsRequest) { r.TopicNames = []string{name} })[0]; p.ErrorCode != kerr.UnknownTopicOrPartition.Code {
				t.Errorf("delete %.10q: code %d", name, p.ErrorCode)
			}
		}
		both := kmsg.NewDeleteTopicsRequestTopic()
		both.Topic, both.TopicID = kmsg.StringPtr("t"), d.id
		byID := kmsg.NewDeleteTopicsRequestTopic()
		byID.TopicID = [16]byte{9}
		for i, rt := range []kmsg.DeleteTopicsRequestTopic{both, byID, kmsg.NewDeleteTopicsRequestTopic()} {
			want := kerr.UnknownTopicID
			if i == 0 {
				want = kerr.InvalidRequest
			}
			if p := del(6, func(r *kmsg.DeleteTopicsRequest) { r.Topics = []kmsg.DeleteTopicsRequestTopic{rt} })[0]; p.ErrorCode != want.Code {
				t.Errorf("delete %+v: code %d", rt, p.ErrorCode)
			}
		}
		features := kmsg.NewPtrUpdateFeaturesRequest()
		features.Version = 1
		for _, name := range []string{"nosuch", "metadata.version", "transaction.version", strings.Repeat("f", 32_000)} {
			fu := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
			fu.Feature, fu.MaxVersionLevel, fu.UpgradeType = name, math.MaxInt16, 1
			features.FeatureUpdates = append(features.FeatureUpdates, fu)
		}
		for _, r := range ask[*kmsg.UpdateFeaturesResponse](c, features).Results {
			if r.ErrorCode != kerr.InvalidUpdateVersion.Code {
				t.Errorf("feature %.20s: code %d", r.Feature, r.ErrorCode)
			}
		}
		init := kmsg.NewPtrInitProducerIDRequest()
		init.Version, init.TransactionalID = 4, kmsg.StringPtr(strings.Repeat("x", 32_767))
		if resp := ask[*kmsg.InitProducerIDResponse](c, init); resp.ErrorCode != kerr.TransactionalIDAuthorizationFailed.Code || resp.ProducerID != -1 {
			t.Errorf("a long transactional id: %+v", resp)
		}
		init.TransactionalID, init.ProducerID = nil, math.MaxInt64
		if resp := ask[*kmsg.InitProducerIDResponse](c, init); resp.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("an id without an epoch: %+v", resp)
		}
		if now := d.meta.Publisher.Image().Revision; now != rev {
			t.Errorf("the ensemble went from revision %d to %d", rev, now)
		}
	})
}

// Producer ids are any number that a client puts into a batch: the broker remembers as many
// as it is told to.
func TestProducerIDsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start("kalda.producer.ids.max=50")
		defer b.stop()
		b.create("t", 1, nil)
		c := w.dial()
		defer c.c.Close()
		for pid := range int64(500) {
			if p := ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, idempotent(t, pid<<40, 0, 0, "x"))).Topics[0].Partitions[0]; p.ErrorCode != 0 {
				t.Fatalf("producer %d: code %d", pid, p.ErrorCode)
			}
		}
		part, err := b.replicas.Lookup([]byte("t"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := part.Stats().Producers; n > 50 || n < 30 {
			t.Errorf("%d producers are remembered", n)
		}
		// The newest is known, so a repeat is one.
		if p := ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, idempotent(t, 499<<40, 0, 0, "x"))).Topics[0].Partitions[0]; p.BaseOffset != 499 {
			t.Errorf("a repeat is at offset %d", p.BaseOffset)
		}
	})
}
