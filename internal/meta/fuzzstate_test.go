package meta_test

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/meta/metatest"
	"github.com/kalda-io/kalda/internal/model"
)

// FuzzState applies whatever an ensemble may hold: each value is taken or refused with its
// key, nothing panics or takes memory that the bytes do not cover, and what an image shows is
// whole. A state that is loaded at once shows the same as one that saw each change.
func FuzzState(f *testing.F) {
	for _, seed := range metatest.Seeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		state := meta.NewState(metatest.Keys)
		last := map[string]meta.KV{}
		for i, e := range metatest.Events(b) {
			err := state.Apply(meta.Revision{Revision: e.ModRevision, Events: []meta.Event{e}})
			if err != nil {
				if !strings.Contains(err.Error(), e.Key) {
					t.Fatalf("event %d: the error does not name its key %q: %v", i, e.Key, err)
				}
				return
			}
			if e.Deleted {
				delete(last, e.Key)
			} else {
				last[e.Key] = e.KV
			}
			checkImage(t, state.Image())
		}
		again := meta.NewState(metatest.Keys)
		rev := meta.Revision{Revision: state.Revision()}
		for _, kv := range last {
			rev.Events = append(rev.Events, meta.Event{KV: kv})
		}
		if err := again.Apply(rev); err != nil {
			t.Fatalf("all at once: %v", err)
		}
		if a, b := state.Image(), again.Image(); rev.Revision > 0 && !reflect.DeepEqual(a, b) {
			t.Fatalf("one by one: %+v\nat once: %+v", a, b)
		}
	})
}

func checkImage(t *testing.T, im *meta.Image) {
	t.Helper()
	if len(im.Topics) != len(im.TopicsByID) {
		t.Fatalf("%d topics by name, %d by id", len(im.Topics), len(im.TopicsByID))
	}
	for name, topic := range im.Topics {
		if topic.Name != name || im.TopicsByID[topic.ID] != topic || topic.Config == nil || meta.CheckTopicName(name) != nil {
			t.Fatalf("topic %q: %+v", name, topic)
		}
		for i, p := range topic.Partitions {
			if p == nil || len(p.Replicas) == 0 {
				t.Fatalf("topic %q has no partition %d", name, i)
			}
		}
	}
}

// FuzzValue reads whatever bytes as each kind of value: what is taken is the same after it
// was written and read again, unknown fields included.
func FuzzValue(f *testing.F) {
	for _, seed := range metatest.Seeds() {
		for _, e := range metatest.Events(seed) {
			f.Add(e.Value)
		}
	}
	f.Add([]byte(`{"v":1,"name":"t","partitions":-1,"later":{"a":[1]}}`))
	f.Add([]byte(`{"v":2}`))
	f.Add(binary.BigEndian.AppendUint64([]byte(`{"v":1,`), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range []any{
			new(meta.Generation), new(meta.ControllerRecord), new(meta.Registration), new(meta.BrokerState), new(meta.TopicNameRecord),
			new(meta.TopicRecord), new(meta.TombstoneRecord), new(meta.PartitionState), new(meta.ConfigRecord), new(meta.ProducerIDRecord),
			new(meta.FeatureRecord), new(meta.OpRecord),
		} {
			extra, err := meta.DecodeValue(b, v)
			if err != nil {
				continue
			}
			written := meta.EncodeValue(v, extra)
			again := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			extra2, err := meta.DecodeValue(written, again)
			if err != nil {
				t.Fatalf("%T: %q is written as %q: %v", v, b, written, err)
			}
			if w := meta.EncodeValue(again, extra2); string(w) != string(written) {
				t.Fatalf("%T: %q is written as %q and then as %q", v, b, written, w)
			}
		}
	})
}

// A value that kalda would not write is refused with its key.
func TestImpossibleValues(t *testing.T) {
	id := model.TopicID{1}
	part := metatest.Keys.Partition(model.Partition{Topic: id, Index: 0})
	for name, row := range map[string]struct{ key, value string }{
		"partition index":    {metatest.Keys.Partition(model.Partition{Topic: id, Index: 1<<31 - 1}), `{"v":1,"replicas":[1],"leader":{"id":-1,"epoch":0}}`},
		"negative count":     {metatest.Keys.Topic(id), `{"v":1,"name":"t","partitions":-1,"status":"live"}`},
		"huge count":         {metatest.Keys.Topic(id), `{"v":1,"name":"t","partitions":2147483647,"status":"live"}`},
		"bad name":           {metatest.Keys.Topic(id), `{"v":1,"name":"../t","partitions":1,"status":"live"}`},
		"no replicas":        {part, `{"v":1,"replicas":[]}`},
		"replica twice":      {part, `{"v":1,"replicas":[1,1]}`},
		"negative replica":   {part, `{"v":1,"replicas":[-5]}`},
		"strange leader":     {part, `{"v":1,"replicas":[1],"leader":{"id":2,"epoch":0}}`},
		"strange ISR":        {part, `{"v":1,"replicas":[1],"leader":{"id":1,"epoch":0},"isr":[{"id":2,"epoch":0}]}`},
		"strange last known": {part, `{"v":1,"replicas":[1],"leader":{"id":-1,"epoch":0},"lk":[7]}`},
		"negative epoch":     {part, `{"v":1,"replicas":[1],"leader":{"id":1,"epoch":0},"leaderEpoch":-1}`},
		"newer version":      {metatest.Keys.Topic(id), `{"v":2,"name":"t"}`},
		"not JSON":           {metatest.Keys.Topic(id), "\x00"},
		"null":               {metatest.Keys.Topic(id), "null"},
		"broker id":          {metatest.Keys.Prefix() + "brokers/reg/-1", `{"v":1}`},
		"operation":          {metatest.Keys.Op("x"), `{"v":1,"kind":"create-topic","topic":{"name":"t","partitions":-3}}`},
	} {
		state := meta.NewState(metatest.Keys)
		err := state.Apply(meta.Revision{Revision: 1, Events: []meta.Event{{KV: meta.KV{Key: row.key, Value: []byte(row.value), ModRevision: 1, CreateRevision: 1}}}})
		if err == nil || !strings.Contains(err.Error(), row.key) || !meta.IsUnreadable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
