package wire

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// randomProduce returns a request as kmsg has it and the same as ours.
func randomProduce(s source, version int16, tags bool) (*kmsg.ProduceRequest, *ProduceRequest) {
	k := kmsg.NewPtrProduceRequest()
	k.Version, k.Acks, k.TimeoutMillis, k.UnknownTags = version, int16(s.IntN(3)-1), s.int32(), s.tags(tags)
	r := &ProduceRequest{Version: version, Acks: k.Acks, TimeoutMillis: k.TimeoutMillis}
	if version >= 3 {
		k.TransactionID = s.stringPtr()
		r.TransactionalID = nullable(k.TransactionID)
	}
	for range s.IntN(4) {
		kt := kmsg.ProduceRequestTopic{Topic: s.string(), TopicID: s.id(), UnknownTags: s.tags(tags)}
		t := ProduceTopic{Name: topicName(version, kt.Topic), ID: topicID(version, kt.TopicID)}
		for range s.IntN(4) {
			kp := kmsg.ProduceRequestTopicPartition{Partition: s.int32(), Records: s.bytes(), UnknownTags: s.tags(tags)}
			kt.Partitions = append(kt.Partitions, kp)
			t.Partitions = append(t.Partitions, ProducePartition{Index: kp.Partition, Records: kp.Records})
		}
		k.Topics, r.Topics = append(k.Topics, kt), append(r.Topics, t)
	}
	return k, r
}

// randomLeader returns a leader; kmsg leaves it out when it is -1, -1.
func randomLeader(s source, on bool) Leader {
	if !on || s.IntN(2) == 0 {
		return Leader{}
	}
	return Leader{Set: true, ID: int32(s.IntN(9)), Epoch: s.int32()}
}

func randomProduced(s source, version int16, tags bool) (*kmsg.ProduceResponse, *ProduceResponse) {
	k := kmsg.NewPtrProduceResponse()
	k.Version, k.UnknownTags = version, s.tags(tags)
	r := &ProduceResponse{Version: version}
	if version >= 1 {
		k.ThrottleMillis = s.int32()
		r.ThrottleMillis = k.ThrottleMillis
	}
	for range s.IntN(4) {
		kt := kmsg.ProduceResponseTopic{Topic: s.string(), TopicID: s.id(), UnknownTags: s.tags(tags)}
		t := ProducedTopic{Name: topicName(version, kt.Topic), ID: topicID(version, kt.TopicID)}
		for range s.IntN(4) {
			kp := kmsg.NewProduceResponseTopicPartition()
			kp.Partition, kp.ErrorCode, kp.BaseOffset, kp.UnknownTags = s.int32(), int16(s.int32()), s.int64(), s.tags(tags)
			p := NewProducedPartition(kp.Partition, kp.ErrorCode)
			p.BaseOffset = kp.BaseOffset
			if version >= 2 {
				p.LogAppendTime = s.int64()
			}
			if version >= 5 {
				p.LogStartOffset = s.int64()
			}
			kp.LogAppendTime, kp.LogStartOffset = p.LogAppendTime, p.LogStartOffset
			if version >= 8 {
				p.ErrorMessage = s.stringPtr()
				kp.ErrorMessage = p.ErrorMessage
				for range s.IntN(3) {
					e := RecordError{Index: s.int32(), Message: s.stringPtr()}
					p.RecordErrors = append(p.RecordErrors, e)
					kp.ErrorRecords = append(kp.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{
						RelativeOffset: e.Index, ErrorMessage: e.Message, UnknownTags: s.tags(tags)})
				}
			}
			if p.CurrentLeader = randomLeader(s, version >= currentLeaderVersion); p.CurrentLeader.Set {
				kp.CurrentLeader.LeaderID, kp.CurrentLeader.LeaderEpoch = p.CurrentLeader.ID, p.CurrentLeader.Epoch
				kp.CurrentLeader.UnknownTags = s.tags(tags)
			}
			kt.Partitions, t.Partitions = append(kt.Partitions, kp), append(t.Partitions, p)
		}
		k.Topics, r.Topics = append(k.Topics, kt), append(r.Topics, t)
	}
	if version >= currentLeaderVersion {
		for range s.IntN(4) {
			e := NodeEndpoint{ID: s.int32(), Host: s.string(), Port: s.int32(), Rack: s.stringPtr()}
			r.NodeEndpoints = append(r.NodeEndpoints, e)
			k.Brokers = append(k.Brokers, kmsg.ProduceResponseBroker{
				NodeID: e.ID, Host: e.Host, Port: e.Port, Rack: e.Rack, UnknownTags: s.tags(tags)})
		}
	}
	return k, r
}

const rounds = 150

func TestProduceRequestOracle(t *testing.T) {
	var got ProduceRequest // used again throughout
	for version := MinProduce; version <= MaxProduce; version++ {
		for seed := range uint64(rounds) {
			k, want := randomProduce(newSource(version, seed), version, false)
			body := k.AppendTo(nil)
			if ours := want.AppendTo(nil); !bytes.Equal(ours, body) {
				t.Fatalf("version %d seed %d: encoded\n% x, kmsg\n% x", version, seed, ours, body)
			}
			k, want = randomProduce(newSource(version, seed), version, true)
			body = k.AppendTo(nil)
			if err := got.Decode(version, body); err != nil || !equal(&got, want) {
				t.Fatalf("version %d seed %d: %v\n got %+v\nwant %+v", version, seed, err, got, want)
			}
		}
	}
}

func TestProduceResponseOracle(t *testing.T) {
	var got ProduceResponse
	for version := MinProduce; version <= MaxProduce; version++ {
		for seed := range uint64(rounds) {
			k, want := randomProduced(newSource(version, seed), version, false)
			body := k.AppendTo(nil)
			if ours := want.AppendTo(nil); !bytes.Equal(ours, body) {
				t.Fatalf("version %d seed %d: encoded\n% x, kmsg\n% x", version, seed, ours, body)
			}
			k, want = randomProduced(newSource(version, seed), version, true)
			body = k.AppendTo(nil)
			if err := got.Decode(version, body); err != nil || !equal(&got, want) {
				t.Fatalf("version %d seed %d: %v\n got %+v\nwant %+v", version, seed, err, got, want)
			}
		}
	}
}

// checkCuts requires that every prefix of body, and body with a byte more, is refused.
func checkCuts(t *testing.T, version int16, body []byte, decode func(int16, []byte) error) {
	t.Helper()
	for n := range body {
		if err := decode(version, body[:n]); !errors.Is(err, kerr.InvalidRequest) {
			t.Fatalf("version %d cut to %d of %d bytes: %v", version, n, len(body), err)
		}
	}
	if err := decode(version, append(bytes.Clone(body), 0)); !errors.Is(err, kerr.InvalidRequest) {
		t.Fatalf("version %d with a byte more: %v", version, err)
	}
}

func TestProduceCuts(t *testing.T) {
	for version := MinProduce; version <= MaxProduce; version++ {
		k, _ := randomProduce(newSource(version, 3), version, true)
		var r ProduceRequest
		checkCuts(t, version, k.AppendTo(nil), func(v int16, b []byte) error {
			err := r.Decode(v, b)
			if err != nil && len(r.Topics) != 0 {
				t.Fatal("topics are left after an error")
			}
			return err
		})
		a, _ := randomProduced(newSource(version, 3), version, true)
		checkCuts(t, version, a.AppendTo(nil), new(ProduceResponse).Decode)
	}
}

func TestProduceVersions(t *testing.T) {
	for _, v := range []int16{-1, MaxProduce + 1} {
		if err := new(ProduceRequest).Decode(v, nil); !errors.Is(err, kerr.UnsupportedVersion) {
			t.Errorf("request version %d: %v", v, err)
		}
		if err := new(ProduceResponse).Decode(v, nil); !errors.Is(err, kerr.UnsupportedVersion) {
			t.Errorf("answer version %d: %v", v, err)
		}
	}
	if k := kmsg.NewPtrProduceRequest(); k.MaxVersion() != MaxProduce {
		t.Errorf("kmsg goes up to version %d", k.MaxVersion())
	}
}

// TestProduceClaims: counts and lengths that the bytes cannot hold are refused without
// making room for them.
func TestProduceClaims(t *testing.T) {
	v8 := func(rest ...byte) []byte { return append([]byte{0xff, 0xff, 0, 1, 0, 0, 0, 1}, rest...) } // no transactional id, acks 1
	v9 := func(rest ...byte) []byte { return append([]byte{0, 0, 1, 0, 0, 0, 1}, rest...) }
	for _, tc := range []struct {
		name    string
		version int16
		body    []byte
	}{
		{"topics", 8, v8(0x7f, 0xff, 0xff, 0xff)},
		{"topics negative", 8, v8(0xff, 0xff, 0xff, 0xfe)},
		{"topics null", 8, v8(0xff, 0xff, 0xff, 0xff)},
		{"partitions", 8, v8(0, 0, 0, 1, 0, 1, 't', 0x7f, 0, 0, 0)},
		{"partitions null", 8, v8(0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff)},
		{"name null", 8, v8(0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0)},
		{"name negative", 8, v8(0, 0, 0, 1, 0xff, 0xfe, 0, 0, 0, 0)},
		{"name not UTF-8", 8, v8(0, 0, 0, 1, 0, 1, 0xc0, 0, 0, 0, 0)},
		{"records", 8, v8(0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff)},
		{"records negative", 8, v8(0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe)},
		{"compact topics", 9, v9(0xff, 0xff, 0xff, 0xff, 0x0f)},
		{"compact topics null", 9, v9(0, 0)},
		{"compact topics, six bytes", 9, v9(0x81, 0x80, 0x80, 0x80, 0x80, 0x00, 0)},
		{"compact name null", 9, v9(2, 0, 1, 0, 0)},
		{"compact name", 9, v9(2, 0xff, 0xff, 0xff, 0xff, 0x0f)},
		{"compact records", 9, v9(2, 2, 't', 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0)},
		{"tags", 9, v9(1, 0xff, 0xff, 0xff, 0xff, 0x0f)},
		{"tag size", 9, v9(1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f)},
	} {
		var before, after runtime.MemStats
		var r ProduceRequest
		runtime.ReadMemStats(&before)
		err := r.Decode(tc.version, tc.body)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, kerr.InvalidRequest) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%s: %d bytes allocated", tc.name, n)
		}
	}
	name := strings.Repeat("n", maxString+1)
	long := append(v9(2, 0x81, 0x80, 2), name...)
	if err := new(ProduceRequest).Decode(9, append(long, 1, 0, 0)); !errors.Is(err, kerr.InvalidRequest) {
		t.Errorf("a name of %d bytes: %v", len(name), err)
	}
	long = append(v9(2, 0x80, 0x80, 2), name[1:]...)
	if err := new(ProduceRequest).Decode(9, append(long, 1, 0, 0)); err != nil {
		t.Errorf("a name of %d bytes: %v", len(name)-1, err)
	}
}

func TestTooManyElements(t *testing.T) {
	// v13 topics take 18 bytes each and their partitions 6.
	body := func(topics, partitions int) []byte {
		b := appendCount([]byte{0, 0, 1, 0, 0, 0, 1}, true, topics)
		for range topics {
			b = append(b, make([]byte, 16)...)
			b = appendCount(b, true, partitions)
			for range partitions {
				b = append(b, 0, 0, 0, 0, 0, 0)
			}
			b = append(b, 0)
		}
		return append(b, 0)
	}
	var r ProduceRequest
	for _, n := range [][2]int{{maxHotElements, 0}, {1, maxHotElements - 1}, {256, maxHotElements/256 - 1}} {
		if err := r.Decode(13, body(n[0], n[1])); err != nil || len(r.Topics) != n[0] || len(r.Topics[0].Partitions) != n[1] {
			t.Errorf("%d topics with %d partitions: %v", n[0], n[1], err)
		}
	}
	for _, n := range [][2]int{{maxHotElements + 1, 0}, {1, maxHotElements}, {256, maxHotElements / 256}} {
		if err := r.Decode(13, body(n[0], n[1])); !errors.Is(err, kerr.InvalidRequest) {
			t.Errorf("%d topics with %d partitions: %v", n[0], n[1], err)
		}
	}
	if cap(r.Topics) > keepElements || cap(r.partitions) > keepElements {
		t.Errorf("room for %d topics and %d partitions is kept", cap(r.Topics), cap(r.partitions))
	}
	// Fetch has the same bound, over topics and what is forgotten.
	fetch := append(make([]byte, 4+4+4+4+1+4+4), 1)
	fetch = appendCount(fetch, true, maxHotElements+1)
	for range maxHotElements + 1 {
		fetch = append(fetch, 1, 1, 0)
	}
	fetch = append(fetch, 1, 0)
	if err := new(FetchRequest).Decode(12, fetch); !errors.Is(err, kerr.InvalidRequest) {
		t.Errorf("a Fetch that forgets %d topics: %v", maxHotElements+1, err)
	}
}

func TestPatchProduced(t *testing.T) {
	msg := "text"
	for version := MinProduce; version <= MaxProduce; version++ {
		r := &ProduceResponse{Version: version, Topics: []ProducedTopic{{Name: topicName(version, "a"), ID: topicID(version, [16]byte{1})}}}
		var at [3]int
		dst := AppendProduceStart([]byte("header"), version, 1)
		dst = AppendProduceTopic(dst, version, []byte("a"), model.TopicID{1}, len(at))
		for i := range at {
			p := ProducedPartition{Index: int32(i), BaseOffset: 1000, LogAppendTime: 7, LogStartOffset: 8, ErrorMessage: &msg}
			dst, at[i] = AppendProduced(dst, version, &p)
			if version < 8 {
				p.ErrorMessage = nil
			}
			r.Topics[0].Partitions = append(r.Topics[0].Partitions, p)
		}
		dst = AppendProduceEnd(AppendProduceTopicEnd(dst, version), version, 0, nil)
		PatchProduceError(dst, at[1], version, 7)
		PatchProduced(dst, at[2], version, 0, 5000, 9, 10)
		want := r.Topics[0].Partitions
		want[1].ErrorCode, want[1].BaseOffset, want[1].LogAppendTime, want[1].LogStartOffset = 7, -1, -1, -1
		want[2].BaseOffset, want[2].LogAppendTime, want[2].LogStartOffset = 5000, 9, 10
		for i := range want {
			if version < 2 {
				want[i].LogAppendTime = -1
			}
			if version < 5 {
				want[i].LogStartOffset = -1
			}
		}
		var got ProduceResponse
		if err := got.Decode(version, dst[len("header"):]); err != nil || !equal(&got, r) {
			t.Errorf("version %d: %v\n got %+v\nwant %+v", version, err, got, *r)
		}
	}
}

// TestProduceLaterFields: fields of version 10 do not go out in version 9 and are skipped
// where they come in.
func TestProduceLaterFields(t *testing.T) {
	plain := ProduceResponse{Version: 9, Topics: []ProducedTopic{{Name: []byte("t"), Partitions: []ProducedPartition{NewProducedPartition(1, 6)}}}}
	want := plain.AppendTo(nil)
	k := kmsg.NewPtrProduceResponse()
	k.Version = 9
	if err := k.ReadFrom(want); err != nil {
		t.Fatal(err)
	}
	k.Topics[0].Partitions[0].CurrentLeader = kmsg.ProduceResponseTopicPartitionCurrentLeader{LeaderID: 2, LeaderEpoch: 3}
	k.Brokers = []kmsg.ProduceResponseBroker{{NodeID: 2, Host: "h", Port: 1}}
	var got ProduceResponse
	if err := got.Decode(9, k.AppendTo(nil)); err != nil || !equal(&got, &plain) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, plain)
	}
	plain.Topics[0].Partitions[0].CurrentLeader = Leader{Set: true, ID: 2, Epoch: 3}
	plain.NodeEndpoints = []NodeEndpoint{{ID: 2, Host: "h", Port: 1}}
	if ours := plain.AppendTo(nil); !bytes.Equal(ours, want) {
		t.Errorf("sent % x, want % x", ours, want)
	}
}

func TestKnownTagOfWrongSize(t *testing.T) {
	r := ProduceResponse{Version: 10, Topics: []ProducedTopic{{Name: []byte("t"), Partitions: []ProducedPartition{
		{CurrentLeader: Leader{Set: true, ID: 2, Epoch: 3}}}}}}
	body := r.AppendTo(nil)
	at := bytes.Index(body, []byte{0, 9, 0, 0, 0, 2, 0, 0, 0, 3, 0})
	for _, tag := range [][]byte{
		{0, 8, 0, 0, 0, 2, 0, 0, 0, 3},
		{0, 10, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0},
		{0, 2, 0, 0},
	} {
		b := append(append(bytes.Clone(body[:at]), tag...), body[at+11:]...)
		if err := new(ProduceResponse).Decode(10, b); !errors.Is(err, kerr.InvalidRequest) {
			t.Errorf("tag % x: %v", tag, err)
		}
	}
}

func TestLongMessageIsCut(t *testing.T) {
	msg := strings.Repeat("a", maxString-1) + "é and more"
	for _, version := range []int16{8, 9} {
		p := NewProducedPartition(0, 1)
		p.ErrorMessage = &msg
		r := ProduceResponse{Version: version, Topics: []ProducedTopic{{Name: []byte("t"), Partitions: []ProducedPartition{p}}}}
		var got ProduceResponse
		if err := got.Decode(version, r.AppendTo(nil)); err != nil || *got.Topics[0].Partitions[0].ErrorMessage != msg[:maxString-1] {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

func TestProduceAllocs(t *testing.T) {
	for _, version := range []int16{7, 12, 13} {
		r := ProduceRequest{Version: version, Acks: 1, TransactionalID: []byte("tx"), Topics: []ProduceTopic{
			{Name: []byte("a"), Partitions: []ProducePartition{{Index: 1, Records: make([]byte, 100)}, {Index: 2, Records: make([]byte, 100)}}},
			{Name: []byte("b"), Partitions: []ProducePartition{{Index: 1, Records: make([]byte, 100)}}}}}
		body := r.AppendTo(nil)
		answer := ProduceResponse{Version: version, Topics: []ProducedTopic{{Name: []byte("a"), Partitions: []ProducedPartition{{}, {}}}}}
		answerBody := answer.AppendTo(nil)
		var buf []byte
		var got ProduceRequest
		var gotAnswer ProduceResponse
		if n := testing.AllocsPerRun(100, func() {
			if got.Decode(version, body) != nil || gotAnswer.Decode(version, answerBody) != nil {
				t.Fatal("refused")
			}
			buf = AppendProduceStart(buf[:0], version, len(got.Topics))
			for i := range got.Topics {
				gt := &got.Topics[i]
				buf = AppendProduceTopic(buf, version, gt.Name, gt.ID, len(gt.Partitions))
				for _, gp := range gt.Partitions {
					p := NewProducedPartition(gp.Index, 0)
					var at int
					buf, at = AppendProduced(buf, version, &p)
					PatchProduceError(buf, at, version, 3)
				}
				buf = AppendProduceTopicEnd(buf, version)
			}
			buf = AppendProduceEnd(buf, version, 0, nil)
			buf = got.AppendTo(buf)
		}); n != 0 {
			t.Errorf("version %d: %v allocations", version, n)
		}
	}
}

// TestProduceSmall: the request that is sent most takes the short way, and nothing but it.
func TestProduceSmall(t *testing.T) {
	for version := produceFlexible; version <= MaxProduce; version++ {
		for _, n := range []int{0, 1, 126, 127, 200, 20_000} {
			r := ProduceRequest{Version: version, Acks: -1, TimeoutMillis: 1 << 20}
			part := ProducePartition{Index: 1 << 20, Records: bytes.Repeat([]byte{7}, n)}
			topic := ProduceTopic{Name: []byte("orders"), Partitions: []ProducePartition{part}}
			if version >= topicIDVersion {
				topic.Name, topic.ID = nil, model.TopicID{9, 8, 7}
			}
			r.Topics = []ProduceTopic{topic}
			body := r.AppendTo(nil)
			var small, got ProduceRequest
			if !small.DecodeSmall(version, body) || !equal(&small, &r) {
				t.Fatalf("version %d, %d bytes of records: %+v", version, n, small)
			}
			for _, at := range []int{0, 7, len(body) - 1, len(body) - 2, len(body) - 3} {
				wrong := bytes.Clone(body)
				wrong[at]++
				if got.DecodeSmall(version, wrong) {
					t.Fatalf("version %d: a body with another byte %d is taken", version, at)
				}
			}
			for cut := range min(len(body), 300) {
				if got.DecodeSmall(version, body[:len(body)-cut-1]) {
					t.Fatalf("version %d: a body cut by %d bytes parses", version, cut+1)
				}
			}
			for _, change := range []func(r *ProduceRequest){
				func(r *ProduceRequest) { r.TransactionalID = []byte{} },
				func(r *ProduceRequest) { r.Topics = append(r.Topics, topic) },
				func(r *ProduceRequest) { r.Topics = nil },
				func(r *ProduceRequest) { r.Topics[0].Partitions = append(r.Topics[0].Partitions, part) },
				func(r *ProduceRequest) { r.Topics[0].Partitions = nil },
				func(r *ProduceRequest) { r.Topics[0].Partitions[0].Records = nil },
			} {
				o := r
				o.Topics = []ProduceTopic{topic}
				o.Topics[0].Partitions = slices.Clone(topic.Partitions)
				change(&o)
				body := o.AppendTo(nil)
				if got.DecodeSmall(version, body) {
					t.Fatalf("version %d: taken for a small one: %+v", version, o)
				}
				if err := got.Decode(version, body); err != nil || !equal(&got, &o) {
					t.Fatalf("version %d: %v, %+v", version, err, got)
				}
			}
		}
	}
}

func FuzzProduceRequest(f *testing.F) {
	for version := MinProduce; version <= MaxProduce; version++ {
		k, _ := randomProduce(newSource(version, 3), version, true)
		f.Add(version, k.AppendTo(nil))
	}
	for version := produceFlexible; version <= MaxProduce; version++ {
		r := ProduceRequest{Version: version, Acks: 1, TimeoutMillis: 1000, Topics: []ProduceTopic{
			{Name: []byte("orders"), ID: model.TopicID{1, 2}, Partitions: []ProducePartition{{Index: 1, Records: make([]byte, 200)}}}}}
		f.Add(version, r.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var small, whole ProduceRequest
		if version >= produceFlexible && version <= MaxProduce && small.DecodeSmall(version, body) {
			if err := whole.decode(version, body); err != nil || !equal(&small, &whole) {
				t.Fatalf("%v\nsmall %+v\nwhole %+v", err, small, whole)
			}
		}
		var r, again ProduceRequest
		if err := r.Decode(version, body); err != nil {
			if cap(r.Topics)*3 > len(body)*8+64 {
				t.Fatalf("room for %d topics from %d bytes", cap(r.Topics), len(body))
			}
			return
		}
		k := kmsg.NewPtrProduceRequest()
		k.Version = version
		if err := k.ReadFrom(body); err != nil {
			t.Fatalf("kmsg refuses what we take: %v", err)
		}
		if err := again.Decode(version, r.AppendTo(nil)); err != nil || !equal(&r, &again) {
			t.Fatalf("%v\nfirst %+v\nagain %+v", err, r, again)
		}
	})
}

func FuzzProduceResponse(f *testing.F) {
	for version := MinProduce; version <= MaxProduce; version++ {
		k, _ := randomProduced(newSource(version, 3), version, true)
		f.Add(version, k.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var r, again ProduceResponse
		if r.Decode(version, body) != nil {
			return
		}
		if err := again.Decode(version, r.AppendTo(nil)); err != nil || !equal(&r, &again) {
			t.Fatalf("%v\nfirst %+v\nagain %+v", err, r, again)
		}
	})
}
