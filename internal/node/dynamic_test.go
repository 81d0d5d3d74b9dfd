package node

import (
	"context"
	"fmt"
	"maps"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// dynamic_test.go: every dynamic key is changed through the wire API on a running broker,
// and the change is seen to take effect. A key without a script fails the test.

// dynScript changes one key through d.alter and observes the effect on topic t.
type dynScript struct {
	// fixed is the topic's other configuration.
	fixed map[string]string
	// partitions of the topic; 0 is 1.
	partitions int32
	run        func(d *dyn)
}

// dyn is a broker with one topic, and the resource on which the key is changed.
type dyn struct {
	*testing.T
	*running
	c     *wireConn
	topic model.TopicID
	key   string
	kind  kmsg.ConfigResourceType
	name  string
	// replace uses AlterConfigs, which gives the whole configuration; fixed is the rest of it.
	replace bool
	fixed   map[string]string
	stopped bool
}

// stop ends the broker, once.
func (d *dyn) stop() {
	d.Helper()
	if !d.stopped {
		d.stopped = true
		_ = d.c.c.Close()
		d.running.stop()
	}
}

// set changes the key and returns the error code.
func (d *dyn) set(value string) int16 {
	d.Helper()
	defer synctest.Wait() // controller, image and partitions have followed
	if d.replace {
		req := kmsg.NewPtrAlterConfigsRequest()
		req.Version = 2
		r := kmsg.NewAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = d.kind, d.name
		all := map[string]string{d.key: value}
		for k, v := range d.fixed {
			all[k] = v
		}
		for k, v := range all {
			c := kmsg.NewAlterConfigsRequestResourceConfig()
			c.Name, c.Value = k, &v
			r.Configs = append(r.Configs, c)
		}
		req.Resources = append(req.Resources, r)
		return ask[*kmsg.AlterConfigsResponse](d.c, req).Resources[0].ErrorCode
	}
	return d.incremental(kmsg.IncrementalAlterConfigOpSet, &value)
}

func (d *dyn) incremental(op kmsg.IncrementalAlterConfigOp, value *string) int16 {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = d.kind, d.name
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Op, c.Value = d.key, op, value
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	return ask[*kmsg.IncrementalAlterConfigsResponse](d.c, req).Resources[0].ErrorCode
}

// alter changes the key, which must succeed.
func (d *dyn) alter(value string) {
	d.Helper()
	if code := d.set(value); code != 0 {
		d.Fatalf("%s=%s: code %d", d.key, value, code)
	}
}

// unset removes the key from the resource.
func (d *dyn) unset() {
	d.Helper()
	defer synctest.Wait()
	if code := d.incremental(kmsg.IncrementalAlterConfigOpDelete, nil); code != 0 {
		d.Fatalf("removing %s: code %d", d.key, code)
	}
}

// produce sends a batch of one record of that size and age to a partition; acks is all.
func (d *dyn) produce(partition int32, bytes int, age time.Duration) int16 {
	d.Helper()
	return d.send(partition, record.NewTemplate(), bytes, age).ErrorCode
}

func (d *dyn) send(partition int32, tpl record.Template, bytes int, age time.Duration) kmsg.ProduceResponseTopicPartition {
	d.Helper()
	b, err := record.Build(nil, tpl, []record.Record{{
		Timestamp: time.Now().Add(-age).UnixMilli(), Value: []byte(strings.Repeat("x", bytes)),
	}})
	if err != nil {
		d.Fatal(err)
	}
	req := produceRequest(9, "t", -1, b)
	req.Topics[0].Partitions[0].Partition = partition
	return ask[*kmsg.ProduceResponse](d.c, req).Topics[0].Partitions[0]
}

// fill sends n batches that must be accepted.
func (d *dyn) fill(n, bytes int) {
	d.Helper()
	for range n {
		if code := d.produce(0, bytes, 0); code != 0 {
			d.Fatalf("produce: code %d", code)
		}
	}
}

// want fails unless what is got is wanted.
func (d *dyn) want(what string, got, want any) {
	d.Helper()
	if got != want {
		d.Errorf("%s: %v, want %v", what, got, want)
	}
}

// segments counts the log files of a partition; size adds up its files with that suffix.
func (d *dyn) segments(partition int32) int { n, _ := d.files(partition, ".log"); return n }

func (d *dyn) files(partition int32, suffix string) (n int, size int64) {
	d.Helper()
	dir := path.Join("/data/parts", model.Partition{Topic: d.topic, Index: partition}.String())
	names, err := d.w.disk.List(dir)
	if err != nil {
		d.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, suffix) {
			in, err := d.w.disk.Stat(path.Join(dir, name))
			if err != nil {
				d.Fatal(err)
			}
			n, size = n+1, size+in.Size
		}
	}
	return n, size
}

// log are the figures of partition 0.
func (d *dyn) log() (start, flushed, end model.Offset) {
	d.Helper()
	p, err := d.replicas.Lookup([]byte("t"), 0)
	if err != nil {
		d.Fatal(err)
	}
	s := p.Stats()
	return s.LogStart, s.Flushed, s.LogEnd
}

// retentionRound is longer than the pause between two looks for old segments.
const retentionRound = 6 * time.Minute

// described is what DescribeConfigs says of the key.
func (d *dyn) described() string {
	d.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version = 4
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = d.kind, d.name, []string{d.key}
	req.Resources = append(req.Resources, r)
	res := ask[*kmsg.DescribeConfigsResponse](d.c, req).Resources[0]
	if res.ErrorCode != 0 || len(res.Configs) != 1 || res.Configs[0].Value == nil {
		d.Fatalf("describe %s: %+v", d.key, res)
	}
	return *res.Configs[0].Value
}

// topicScripts observe the keys of topics, and through their synonyms those of brokers.
func topicScripts() map[string]dynScript {
	os := func(more ...string) map[string]string {
		m := map[string]string{"kalda.flush.policy": "os"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	scripts := map[string]dynScript{
		"compression.type":               {run: codecFollows},
		"compression.gzip.level":         levelFollows("gzip", "1", "9"),
		"compression.lz4.level":          levelFollows("lz4", "9", "17"),
		"compression.zstd.level":         levelFollows("zstd", "1", "19"),
		"max.decompressed.message.bytes": {fixed: map[string]string{"compression.type": "uncompressed"}, run: unpackingIsBounded},
		"message.timestamp.type":         {run: timeIsTheBrokers},

		"segment.bytes": {run: func(d *dyn) {
			d.fill(3, 600)
			d.want("segments before", d.segments(0), 1)
			d.alter("1024")
			d.fill(3, 600)
			d.want("segments", d.segments(0), 4)
			d.unset()
			d.fill(3, 600)
			d.want("segments after unset", d.segments(0), 4)
		}},
		"segment.ms": {run: func(d *dyn) {
			d.fill(1, 10)
			<-time.After(10 * time.Minute)
			d.fill(1, 10)
			d.want("segments before", d.segments(0), 1)
			d.alter("60000")
			d.fill(1, 10)
			d.want("segments", d.segments(0), 2)
		}},
		// Each partition has its own part of the jitter: after half of the age some have
		// rolled and some have not.
		"segment.jitter.ms": {fixed: map[string]string{"segment.ms": "3600000"}, partitions: 64, run: func(d *dyn) {
			rolled := func() (n int) {
				for i := range int32(64) {
					if c := d.produce(i, 10, 0); c != 0 {
						d.Fatalf("produce: code %d", c)
					}
					n += d.segments(i) - 1
				}
				return n
			}
			rolled()
			<-time.After(30 * time.Minute)
			d.want("rolled before", rolled(), 0)
			d.alter("3600000")
			if n := rolled(); n == 0 || n == 64 {
				d.Errorf("%d of 64 partitions rolled after half of segment.ms", n)
			}
		}},
		"segment.index.bytes": {fixed: map[string]string{"index.interval.bytes": "1"}, run: func(d *dyn) {
			d.fill(10, 100)
			d.want("segments before", d.segments(0), 1)
			d.alter("24")
			d.fill(4, 100)
			if n := d.segments(0); n < 3 {
				d.Errorf("%d segments", n)
			}
		}},
		"index.interval.bytes": {run: func(d *dyn) {
			d.fill(10, 100)
			d.alter("1")
			d.fill(10, 100)
			d.stop() // which writes the index
			// One entry for each batch from the change on, 8 bytes each.
			_, size := d.files(0, ".index")
			d.want("index", size/8, int64(10))
		}},
		"retention.ms": {run: func(d *dyn) {
			d.fill(3, 10)
			<-time.After(retentionRound)
			start, _, _ := d.log()
			d.want("start before", start, model.Offset(0))
			d.alter("60000")
			<-time.After(retentionRound)
			start, _, _ = d.log()
			d.want("start", start, model.Offset(3))
		}},
		"retention.bytes": {fixed: map[string]string{"segment.bytes": "1024"}, run: func(d *dyn) {
			d.fill(10, 600)
			<-time.After(retentionRound)
			start, _, _ := d.log()
			d.want("start before", start, model.Offset(0))
			d.alter("2048")
			<-time.After(retentionRound)
			start, _, _ = d.log()
			if start < 6 || start > 8 {
				d.Errorf("start %d: the newest 2 KiB of 10 batches of 670 bytes must stay", start)
			}
		}},
		"max.message.bytes": {run: func(d *dyn) {
			d.want("before", d.produce(0, 2000, 0), int16(0))
			d.alter("1000")
			d.want("too large", d.produce(0, 2000, 0), code(kerr.MessageTooLarge))
			d.want("small", d.produce(0, 100, 0), int16(0))
			d.alter("3000")
			d.want("after", d.produce(0, 2000, 0), int16(0))
		}},
		"message.timestamp.before.max.ms": {run: func(d *dyn) {
			d.want("before", d.produce(0, 10, 2*time.Hour), int16(0))
			d.alter("3600000")
			d.want("old", d.produce(0, 10, 2*time.Hour), code(kerr.InvalidTimestamp))
			d.want("new", d.produce(0, 10, 30*time.Minute), int16(0))
		}},
		"message.timestamp.after.max.ms": {run: func(d *dyn) {
			d.want("before", d.produce(0, 10, -2*time.Hour), code(kerr.InvalidTimestamp))
			d.alter("10800000")
			d.want("after", d.produce(0, 10, -2*time.Hour), int16(0))
		}},
		"flush.messages": {fixed: os(), run: func(d *dyn) {
			d.fill(3, 10)
			_, flushed, _ := d.log()
			d.want("flushed before", flushed, model.Offset(0))
			d.alter("1")
			d.fill(1, 10)
			_, flushed, _ = d.log()
			d.want("flushed", flushed, model.Offset(4))
		}},
		"flush.ms": {fixed: os(), run: func(d *dyn) {
			d.fill(1, 10)
			<-time.After(time.Second)
			_, flushed, _ := d.log()
			d.want("flushed before", flushed, model.Offset(0))
			<-time.After(10 * time.Second)
			d.alter("100")
			d.fill(1, 10)
			<-time.After(99 * time.Millisecond)
			_, flushed, _ = d.log()
			d.want("flushed after 99 ms", flushed, model.Offset(1))
			<-time.After(2 * time.Millisecond)
			_, flushed, _ = d.log()
			d.want("flushed after 101 ms", flushed, model.Offset(2))
		}},
		"kalda.flush.policy": {run: func(d *dyn) {
			policy := func() string { return d.o.Meta.Publisher.Image().Topics["t"].Partitions[0].FlushPolicy }
			d.fill(1, 10)
			_, flushed, _ := d.log()
			d.want("flushed under the default, commit", flushed, model.Offset(1))
			d.alter("os")
			d.want("policy", policy(), "os")
			d.fill(1, 10)
			_, flushed, _ = d.log()
			d.want("flushed under os", flushed, model.Offset(1))
			d.alter("commit")
			d.want("policy", policy(), "commit")
			d.fill(1, 10)
			_, flushed, _ = d.log()
			d.want("flushed under commit", flushed, model.Offset(3))
		}},
		// With one replica every value means 1, so the topic gets a second one that is not
		// in sync.
		"min.insync.replicas": {run: func(d *dyn) {
			d.secondReplica()
			d.want("one in sync, one wanted", d.produce(0, 10, 0), int16(0))
			d.alter("2")
			d.want("one in sync, two wanted", d.produce(0, 10, 0), code(kerr.NotEnoughReplicas))
		}},
	}
	maps.Copy(scripts, compactScripts())
	return scripts
}

// secondReplica gives partition 0 a replica on broker 2, which does not exist.
func (d *dyn) secondReplica() {
	d.Helper()
	st := *d.o.Meta.Publisher.Image().Topics["t"].Partitions[0]
	st.Replicas = append(st.Replicas, 2)
	st.PartitionEpoch++
	key := d.o.Meta.Keys.Partition(model.Partition{Topic: d.topic})
	if _, err := d.w.store.Txn(context.Background(), meta.Txn{Then: []meta.Op{meta.Put(key, meta.EncodeValue(st, nil))}}); err != nil {
		d.Fatal(err)
	}
	synctest.Wait()
}

// brokerScripts are the dynamic broker keys that are no synonym of a topic's.
func brokerScripts() map[string]dynScript {
	return map[string]dynScript{
		"kalda.disk.soft": {run: func(d *dyn) {
			d.want("before", d.produce(0, 10, 0), int16(0))
			d.alter("50%,2TiB") // the disk has 1 TiB
			d.w.disk.SetSpace(vfs.Space{Total: 1 << 40, Free: 1 << 38})
			passLook()
			d.want("below the mark", d.produce(0, 10, 0), code(kerr.KafkaStorageError))
			d.alter("20%")
			passLook()
			d.want("above the mark", d.produce(0, 10, 0), int16(0))
		}},
		"kalda.disk.hard": {run: func(d *dyn) {
			d.w.disk.SetSpace(vfs.Space{Total: 1 << 40, Free: 4 << 30}) // below the soft mark
			passLook()
			p := d.replicas.Partitions()[0]
			d.want("before", p.AdmitInternal(), nil)
			d.alter("4608MiB")
			passLook()
			d.want("below the mark", kerr.Code(p.AdmitInternal()), code(kerr.KafkaStorageError))
		}},
		// A batch that comes again is recognized as long as its producer is remembered.
		"producer.id.expiration.ms": {run: func(d *dyn) {
			tpl := record.NewTemplate()
			tpl.ProducerID, tpl.ProducerEpoch, tpl.BaseSequence = 7, 0, 0
			d.want("first", d.send(0, tpl, 10, 0).BaseOffset, int64(0))
			<-time.After(retentionRound)
			r := d.send(0, tpl, 10, 0)
			d.Log(r)
			d.want("again", r.BaseOffset, int64(0))
			d.alter("60000")
			<-time.After(retentionRound)
			d.want("after its producer was forgotten", d.send(0, tpl, 10, 0).BaseOffset, int64(1))
		}},
	}
}

// clusterOnly are the broker keys that the controller reads, which plans for all brokers.
func clusterOnly(key string) bool {
	return key == "kalda.flush.policy" || key == "min.insync.replicas"
}

func TestDynamicConfigs(t *testing.T) {
	t.Parallel()
	scripts := topicScripts()
	walked := map[string]bool{}
	for _, k := range config.TopicKeys() {
		if k.Status != config.Honoured {
			continue
		}
		s, ok := scripts[k.Name]
		if !ok {
			t.Errorf("no script for the topic key %s", k.Name)
			continue
		}
		walked[k.Name] = true
		for _, replace := range []bool{false, true} {
			t.Run(fmt.Sprintf("topic/%s/replace=%v", k.Name, replace), func(t *testing.T) {
				s.test(t, &dyn{key: k.Name, kind: kmsg.ConfigResourceTypeTopic, name: "t", replace: replace})
			})
		}
	}
	for name := range scripts {
		if !walked[name] {
			t.Errorf("the script of %s is of no honoured topic key", name)
		}
	}
}

func TestDynamicBrokerConfigs(t *testing.T) {
	t.Parallel()
	scripts := brokerScripts()
	maps.Copy(scripts, limitScripts())
	maps.Copy(scripts, cleanerScripts())
	maps.Copy(scripts, scrubScripts())
	for _, k := range config.TopicKeys() {
		for _, syn := range k.Synonyms {
			if s, ok := topicScripts()[k.Name]; ok && syn.Factor == 1 {
				scripts[syn.Name] = s
			}
		}
	}
	for _, k := range config.BrokerKeys() {
		if k.Status != config.Honoured || k.Update == config.ReadOnly {
			continue
		}
		s, ok := scripts[k.Name]
		if !ok {
			t.Errorf("no script for the broker key %s", k.Name)
			continue
		}
		for _, name := range []string{"", "1"} {
			t.Run(fmt.Sprintf("broker/%s/%q", k.Name, name), func(t *testing.T) {
				d := &dyn{key: k.Name, kind: kmsg.ConfigResourceTypeBroker, name: name}
				if name != "" && clusterOnly(k.Name) {
					s = dynScript{run: func(d *dyn) {
						d.want("set for one broker", d.set(map[bool]string{true: "2", false: "os"}[k.Type == config.Int]), code(kerr.InvalidConfig))
					}}
				}
				s.test(t, d)
			})
		}
	}
}

// test runs a script in a world of its own.
func (s dynScript) test(t *testing.T, d *dyn) {
	bubble(t, func(t *testing.T, w *world) {
		d.T, d.running, d.fixed = t, w.start("connections.max.idle.ms=864000000"), s.fixed
		defer d.stop()
		d.topic = d.create("t", max(s.partitions, 1), s.fixed)
		d.c = w.dial()
		s.run(d)
	})
}
