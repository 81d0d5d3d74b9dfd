// Package metatest makes contents of an ensemble from bytes, for fuzz tests of what reads
// them: keys that kalda uses with values that it may not have written.
//
//	bytes: one event after another
//	| key: 1 byte, low bits choose the kind, high bits the name | length: uint16 | value |
//
// A length of 0xffff deletes the key. A value that begins with no '{' is put between
// `{"v":1,` and `}`.
package metatest

import (
	"encoding/binary"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
)

// Keys is the layout of the keys.
var Keys = meta.NewKeys("", "fuzz")

// deleted is the length that deletes.
const deleted = 0xffff

// key chooses one of a few dozen keys.
func key(b byte) string {
	id := model.TopicID{15: 1 + b>>6}
	name := string([]byte{'a' + b>>6})
	switch b & 15 {
	case 0:
		return Keys.Generation()
	case 1:
		return Keys.Controller()
	case 2:
		return Keys.Registration(model.BrokerID(b >> 6))
	case 3:
		return Keys.BrokerState(model.BrokerID(b >> 6))
	case 4:
		return Keys.TopicName(name)
	case 5:
		return Keys.Topic(id)
	case 6:
		return Keys.Tombstone(id)
	case 7, 8:
		return Keys.Partition(model.Partition{Topic: id, Index: int32(b >> 4 & 3)})
	case 9:
		return Keys.Config(meta.ResourceTopic, name)
	case 10:
		return Keys.Config(meta.ResourceBroker, []string{"", "1", "2", "x"}[b>>6])
	case 11:
		return Keys.Config(meta.ResourceGroup, name)
	case 12:
		return Keys.Feature(name)
	case 13:
		return Keys.Op(name)
	case 14:
		return Keys.Prefix() + "parts/" + id.String() + "/2147483647"
	}
	return Keys.Prefix() + "later/" + name
}

// Events reads bytes as events, each of a revision of its own.
func Events(b []byte) []meta.Event {
	var out []meta.Event
	created := map[string]int64{}
	for rev := int64(1); len(b) >= 3; rev++ {
		k, n := key(b[0]), int(binary.BigEndian.Uint16(b[1:]))
		b = b[3:]
		if n == deleted {
			delete(created, k)
			out = append(out, meta.Event{KV: meta.KV{Key: k, ModRevision: rev}, Deleted: true})
			continue
		}
		n = min(n, len(b))
		v := b[:n]
		b = b[n:]
		if n == 0 || v[0] != '{' {
			v = append(append([]byte(`{"v":1,`), v...), '}')
		}
		if created[k] == 0 {
			created[k] = rev
		}
		out = append(out, meta.Event{KV: meta.KV{Key: k, Value: v, CreateRevision: created[k], ModRevision: rev}})
	}
	return out
}

// event is one event as bytes.
func event(k byte, v string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{k}, uint16(len(v))), v...)
}

// Seeds are contents that make sense, or nearly.
func Seeds() [][]byte {
	id1, id2 := model.TopicID{15: 1}.String(), model.TopicID{15: 2}.String()
	brokers := append(event(0x42, `"incarnation":"i","want":"running","endpoints":[{"name":"PLAINTEXT","host":"h","port":1}]`),
		event(0x43, `"epoch":1,"incarnation":"i","status":"active","endpoints":[]`)...)
	topic := append(event(0x04, `"id":"`+id1+`","status":"live"`), event(0x05, `"name":"a","partitions":2,"replicationFactor":1,"status":"live"`)...)
	for _, k := range []byte{0x07, 0x17} {
		topic = append(topic, event(k, `"partitionEpoch":0,"leaderEpoch":0,"leader":{"id":1,"epoch":1},"isr":[{"id":1,"epoch":1}],"replicas":[1],"minIsr":1,"flushPolicy":"commit","controllerEpoch":1`)...)
	}
	all := append(append(event(0, `"clusterId":"c","generation":"g","format":1`), brokers...), topic...)
	deleting := append(append([]byte{}, all...), event(0x05, `"name":"a","partitions":2,"status":"deleting"`)...)
	deleting = append(deleting, event(0x06, `"name":"a","partitions":2,"deletedMs":5`)...)
	creating := append(append([]byte{}, brokers...), event(0x44, `"id":"`+id2+`","status":"creating"`)...)
	creating = append(creating, event(0x4d, `"kind":"create-topic","id":"`+id2+`","topic":{"name":"b","partitions":2,"replicationFactor":1,"status":"live"}`)...)
	// An intent that claims a live topic's id and name.
	claims := append(append([]byte{}, all...), event(0x0d, `"kind":"create-topic","id":"`+id1+`","topic":{"name":"a","partitions":7,"status":"live"}`)...)
	steals := append(append([]byte{}, all...), event(0x0d, `"kind":"create-topic","id":"`+id2+`","topic":{"name":"a","partitions":7,"status":"live"}`)...)
	// A field that differs from ours in case only is ours to the decoder.
	cases := append(append([]byte{}, brokers...), event(0x43, `"epoch":9,"incarnation":"i","stAtus":"active","later":1`)...)
	lost := append(append([]byte{}, brokers...), event(0x07, `"replicas":[1,2],"lk":[1],"leader":{"id":-1,"epoch":0},"isr":[]`)...)
	return [][]byte{
		all, deleting, creating, claims, steals, cases, lost, append(all, event(0x05, `"name":"a","partitions":-1,"status":"live"`)...),
		event(0x0e, `"replicas":[1]`), event(0x05, `{"v":9}`), event(0x0f, `x`), {0x05, 0xff, 0xff}, append(event(0x09, `"config":{"retention.ms":"1"}`), topic...),
	}
}
