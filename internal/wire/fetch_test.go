package wire

import (
	"bytes"
	"errors"
	"math"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// randomFetch returns a request as kmsg has it and the same as ours.
func randomFetch(s source, version int16, tags bool) (*kmsg.FetchRequest, *FetchRequest) {
	k := kmsg.NewPtrFetchRequest()
	req := NewFetchRequest(version)
	r := &req
	k.Version, k.UnknownTags = version, s.tags(tags)
	k.MaxWaitMillis, k.MinBytes, k.MaxBytes, k.IsolationLevel = s.int32(), s.int32(), s.int32(), int8(s.IntN(2))
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.IsolationLevel = k.MaxWaitMillis, k.MinBytes, k.MaxBytes, k.IsolationLevel
	if s.IntN(2) == 0 {
		r.ReplicaID = s.int32()
		if version >= replicaStateVersion {
			r.ReplicaEpoch = s.int64()
		}
	}
	if version < replicaStateVersion {
		k.ReplicaID = r.ReplicaID
	} else {
		k.ReplicaState.ID, k.ReplicaState.Epoch = r.ReplicaID, r.ReplicaEpoch
	}
	if version >= 7 {
		r.SessionID, r.SessionEpoch = s.int32(), s.int32()
	}
	k.SessionID, k.SessionEpoch = r.SessionID, r.SessionEpoch
	if version >= 12 {
		k.ClusterID = s.stringPtr()
		r.ClusterID = nullable(k.ClusterID)
	}
	if version >= 11 {
		k.Rack = s.string()
		r.Rack = append([]byte{}, k.Rack...)
	}
	for range s.IntN(4) {
		kt := kmsg.FetchRequestTopic{Topic: s.string(), TopicID: s.id(), UnknownTags: s.tags(tags)}
		t := FetchTopic{Name: topicName(version, kt.Topic), ID: topicID(version, kt.TopicID)}
		for range s.IntN(4) {
			p := NewFetchPartition(s.int32(), s.int64(), s.int32())
			if version >= 5 {
				p.LogStartOffset = s.int64()
			}
			if version >= 9 {
				p.CurrentLeaderEpoch = s.int32()
			}
			if version >= 12 {
				p.LastFetchedEpoch = s.int32()
			}
			if version >= directoryVersion && s.IntN(2) == 0 {
				p.ReplicaDirectoryID = s.id()
			}
			if version >= replicaHWVersion && s.IntN(2) == 0 {
				p.HighWatermark = s.int64()
			}
			t.Partitions = append(t.Partitions, p)
			kt.Partitions = append(kt.Partitions, kmsg.FetchRequestTopicPartition{
				Partition: p.Index, CurrentLeaderEpoch: p.CurrentLeaderEpoch, FetchOffset: p.FetchOffset,
				LastFetchedEpoch: p.LastFetchedEpoch, LogStartOffset: p.LogStartOffset, PartitionMaxBytes: p.MaxBytes,
				ReplicaDirectoryID: p.ReplicaDirectoryID, HighWatermark: p.HighWatermark, UnknownTags: s.tags(tags)})
		}
		k.Topics, r.Topics = append(k.Topics, kt), append(r.Topics, t)
	}
	if version >= 7 {
		for range s.IntN(4) {
			kt := kmsg.FetchRequestForgottenTopic{Topic: s.string(), TopicID: s.id(), UnknownTags: s.tags(tags)}
			t := ForgottenTopic{Name: topicName(version, kt.Topic), ID: topicID(version, kt.TopicID)}
			for range s.IntN(4) {
				t.Partitions = append(t.Partitions, s.int32())
			}
			if t.Partitions == nil {
				t.Partitions = []int32{}
			}
			kt.Partitions = t.Partitions
			k.ForgottenTopics, r.Forgotten = append(k.ForgottenTopics, kt), append(r.Forgotten, t)
		}
	}
	return k, r
}

func randomEpochEnd(s source, on bool) EpochEnd {
	if !on || s.IntN(2) == 0 {
		return EpochEnd{}
	}
	return EpochEnd{Set: true, Epoch: int32(s.IntN(5)), EndOffset: s.int64()}
}

func randomFetched(s source, version int16, tags bool) (*kmsg.FetchResponse, *FetchResponse) {
	k := kmsg.NewPtrFetchResponse()
	k.Version, k.ThrottleMillis, k.UnknownTags = version, s.int32(), s.tags(tags)
	r := &FetchResponse{Version: version, ThrottleMillis: k.ThrottleMillis}
	if version >= 7 {
		k.ErrorCode, k.SessionID = int16(s.int32()), s.int32()
		r.ErrorCode, r.SessionID = k.ErrorCode, k.SessionID
	}
	for range s.IntN(4) {
		kt := kmsg.FetchResponseTopic{Topic: s.string(), TopicID: s.id(), UnknownTags: s.tags(tags)}
		t := FetchedTopic{Name: topicName(version, kt.Topic), ID: topicID(version, kt.TopicID)}
		for range s.IntN(4) {
			kp, p := randomFetchedPartition(s, version, tags)
			kt.Partitions, t.Partitions = append(kt.Partitions, kp), append(t.Partitions, p)
		}
		k.Topics, r.Topics = append(k.Topics, kt), append(r.Topics, t)
	}
	if version >= fetchEndpointsVersion {
		for range s.IntN(4) {
			e := NodeEndpoint{ID: s.int32(), Host: s.string(), Port: s.int32(), Rack: s.stringPtr()}
			r.NodeEndpoints = append(r.NodeEndpoints, e)
			k.Brokers = append(k.Brokers, kmsg.FetchResponseBroker{
				NodeID: e.ID, Host: e.Host, Port: e.Port, Rack: e.Rack, UnknownTags: s.tags(tags)})
		}
	}
	return k, r
}

func randomFetchedPartition(s source, version int16, tags bool) (kmsg.FetchResponseTopicPartition, FetchedPartition) {
	kp := kmsg.NewFetchResponseTopicPartition()
	kp.Partition, kp.ErrorCode, kp.UnknownTags = s.int32(), int16(s.int32()), s.tags(tags)
	kp.HighWatermark, kp.LastStableOffset, kp.RecordBatches = s.int64(), s.int64(), s.bytes()
	p := NewFetchedPartition(kp.Partition, kp.ErrorCode)
	p.HighWatermark, p.LastStableOffset, p.Records = kp.HighWatermark, kp.LastStableOffset, kp.RecordBatches
	if version >= 5 {
		p.LogStartOffset = s.int64()
		kp.LogStartOffset = p.LogStartOffset
	}
	if version >= 11 {
		p.PreferredReadReplica = s.int32()
		kp.PreferredReadReplica = p.PreferredReadReplica
	}
	if s.IntN(2) == 0 {
		p.Aborted = []AbortedTransaction{}
		kp.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
		for range s.IntN(4) {
			a := AbortedTransaction{ProducerID: s.int64(), FirstOffset: s.int64()}
			p.Aborted = append(p.Aborted, a)
			kp.AbortedTransactions = append(kp.AbortedTransactions, kmsg.FetchResponseTopicPartitionAbortedTransaction{
				ProducerID: a.ProducerID, FirstOffset: a.FirstOffset, UnknownTags: s.tags(tags)})
		}
	}
	on := version >= fetchFlexible
	if p.DivergingEpoch = randomEpochEnd(s, on); p.DivergingEpoch.Set {
		kp.DivergingEpoch.Epoch, kp.DivergingEpoch.EndOffset = p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset
		kp.DivergingEpoch.UnknownTags = s.tags(tags)
	}
	if p.CurrentLeader = randomLeader(s, on); p.CurrentLeader.Set {
		kp.CurrentLeader.LeaderID, kp.CurrentLeader.LeaderEpoch = p.CurrentLeader.ID, p.CurrentLeader.Epoch
		kp.CurrentLeader.UnknownTags = s.tags(tags)
	}
	if p.SnapshotID = randomEpochEnd(s, on); p.SnapshotID.Set {
		kp.SnapshotID.Epoch, kp.SnapshotID.EndOffset = p.SnapshotID.Epoch, p.SnapshotID.EndOffset
		kp.SnapshotID.UnknownTags = s.tags(tags)
	}
	return kp, p
}

func TestFetchRequestOracle(t *testing.T) {
	var got FetchRequest // used again throughout
	for version := MinFetch; version <= MaxFetch; version++ {
		for seed := range uint64(rounds) {
			k, want := randomFetch(newSource(version, seed), version, false)
			body := k.AppendTo(nil)
			if ours := want.AppendTo(nil); !bytes.Equal(ours, body) {
				t.Fatalf("version %d seed %d: encoded\n% x, kmsg\n% x", version, seed, ours, body)
			}
			k, want = randomFetch(newSource(version, seed), version, true)
			body = k.AppendTo(nil)
			if err := got.Decode(version, body); err != nil || !equal(&got, want) {
				t.Fatalf("version %d seed %d: %v\n got %+v\nwant %+v", version, seed, err, got, want)
			}
		}
	}
}

func TestFetchResponseOracle(t *testing.T) {
	var got FetchResponse
	for version := MinFetch; version <= MaxFetch; version++ {
		for seed := range uint64(rounds) {
			k, want := randomFetched(newSource(version, seed), version, false)
			body := k.AppendTo(nil)
			if ours := want.AppendTo(nil); !bytes.Equal(ours, body) {
				t.Fatalf("version %d seed %d: encoded\n% x, kmsg\n% x", version, seed, ours, body)
			}
			k, want = randomFetched(newSource(version, seed), version, true)
			body = k.AppendTo(nil)
			if err := got.Decode(version, body); err != nil || !equal(&got, want) {
				t.Fatalf("version %d seed %d: %v\n got %+v\nwant %+v", version, seed, err, got, want)
			}
			for i := range want.Topics {
				for j := range want.Topics[i].Partitions {
					if (want.Topics[i].Partitions[j].Aborted == nil) != (got.Topics[i].Partitions[j].Aborted == nil) {
						t.Fatalf("version %d seed %d: null and empty aborted transactions are mixed up", version, seed)
					}
				}
			}
		}
	}
}

func TestFetchCuts(t *testing.T) {
	for version := MinFetch; version <= MaxFetch; version++ {
		k, _ := randomFetch(newSource(version, 2), version, true)
		var r FetchRequest
		checkCuts(t, version, k.AppendTo(nil), func(v int16, b []byte) error {
			err := r.Decode(v, b)
			if err != nil && (len(r.Topics) != 0 || len(r.Forgotten) != 0) {
				t.Fatal("topics are left after an error")
			}
			return err
		})
		a, _ := randomFetched(newSource(version, 2), version, true)
		checkCuts(t, version, a.AppendTo(nil), new(FetchResponse).Decode)
	}
}

func TestFetchVersions(t *testing.T) {
	for _, v := range []int16{-1, 3, MaxFetch + 1} {
		if err := new(FetchRequest).Decode(v, nil); !errors.Is(err, kerr.UnsupportedVersion) {
			t.Errorf("request version %d: %v", v, err)
		}
		if err := new(FetchResponse).Decode(v, nil); !errors.Is(err, kerr.UnsupportedVersion) {
			t.Errorf("answer version %d: %v", v, err)
		}
	}
	if k := kmsg.NewPtrFetchRequest(); k.MaxVersion() != MaxFetch {
		t.Errorf("kmsg goes up to version %d", k.MaxVersion())
	}
}

// TestFetchReplicaByTag: below v15 a replica's id in a tagged field is an unknown field and
// must not make a replica of a consumer.
func TestFetchReplicaByTag(t *testing.T) {
	k := kmsg.NewPtrFetchRequest()
	k.Version, k.ReplicaID, k.ReplicaState.ID, k.ReplicaState.Epoch = 14, -1, 3, 4
	var r FetchRequest
	if err := r.Decode(14, k.AppendTo(nil)); err != nil || r.ReplicaID != -1 || r.ReplicaEpoch != -1 {
		t.Errorf("%+v, %v", r, err)
	}
	k.Version = 15
	if err := r.Decode(15, k.AppendTo(nil)); err != nil || r.ReplicaID != 3 || r.ReplicaEpoch != 4 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestFetchLaterFields: tagged fields of later versions do not go out in earlier ones and
// are skipped where they come in.
func TestFetchLaterFields(t *testing.T) {
	for version := fetchFlexible; version < MaxFetch; version++ {
		plain := NewFetchRequest(version)
		plain.Rack = []byte{}
		plain.Topics = []FetchTopic{{Name: topicName(version, "t"), Partitions: []FetchPartition{NewFetchPartition(1, 2, 3)}}}
		k := kmsg.NewPtrFetchRequest()
		k.Version = version
		if err := k.ReadFrom(plain.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		p, kp := &plain.Topics[0].Partitions[0], &k.Topics[0].Partitions[0]
		kp.HighWatermark, kp.ReplicaDirectoryID = 77, [16]byte{9}
		if version >= directoryVersion {
			p.ReplicaDirectoryID = [16]byte{9}
		}
		want := plain.AppendTo(nil)
		var got FetchRequest
		if err := got.Decode(version, k.AppendTo(nil)); err != nil || !equal(&got, &plain) {
			t.Errorf("version %d: %v\n got %+v\nwant %+v", version, err, got, plain)
		}
		p.HighWatermark, p.ReplicaDirectoryID = 77, [16]byte{9}
		if ours := plain.AppendTo(nil); !bytes.Equal(ours, want) {
			t.Errorf("version %d: sent % x, want % x", version, ours, want)
		}
	}
	for version := fetchFlexible; version < fetchEndpointsVersion; version++ {
		plain := FetchResponse{Version: version}
		want := plain.AppendTo(nil)
		k := kmsg.NewPtrFetchResponse()
		k.Version, k.Brokers = version, []kmsg.FetchResponseBroker{{NodeID: 2, Host: "h", Port: 1}}
		var got FetchResponse
		if err := got.Decode(version, k.AppendTo(nil)); err != nil || !equal(&got, &plain) {
			t.Errorf("version %d: %v, %+v", version, err, got)
		}
		plain.NodeEndpoints = []NodeEndpoint{{ID: 2, Host: "h", Port: 1}}
		if ours := plain.AppendTo(nil); !bytes.Equal(ours, want) {
			t.Errorf("version %d: sent % x, want % x", version, ours, want)
		}
	}
}

// TestFetchDefaults: what a version does not carry must read as unknown, also in a struct
// that held a later version before.
func TestFetchDefaults(t *testing.T) {
	full := NewFetchRequest(18)
	full.ClusterID, full.Rack = []byte("c"), []byte("r")
	full.ReplicaID, full.ReplicaEpoch, full.SessionID, full.SessionEpoch = 1, 2, 3, 4
	full.Topics = []FetchTopic{{ID: model.TopicID{1}, Partitions: []FetchPartition{{Index: 1, HighWatermark: 5}}}}
	full.Forgotten = []ForgottenTopic{{ID: model.TopicID{1}, Partitions: []int32{1}}}
	var r FetchRequest
	if err := r.Decode(18, full.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	old := NewFetchRequest(4)
	old.Topics = []FetchTopic{{Name: []byte("t"), Partitions: []FetchPartition{NewFetchPartition(1, 7, 8)}}}
	if err := r.Decode(4, old.AppendTo(nil)); err != nil || !equal(&r, &old) {
		t.Errorf("%v\n got %+v\nwant %+v", err, r, old)
	}
	if p := r.Topics[0].Partitions[0]; p.CurrentLeaderEpoch != -1 || p.LastFetchedEpoch != -1 || p.LogStartOffset != -1 ||
		p.HighWatermark != math.MaxInt64 || r.SessionEpoch != -1 || r.ReplicaEpoch != -1 {
		t.Errorf("%+v", r)
	}
}

func TestFetchClaims(t *testing.T) {
	head := make([]byte, 4+4+4+4+1) // v4 up to the topics
	v12 := append(make([]byte, 4+4+4+4+1+4+4), 1)
	for _, tc := range []struct {
		name    string
		version int16
		body    []byte
	}{
		{"topics", 4, append(bytes.Clone(head), 0x7f, 0xff, 0xff, 0xff)},
		{"topics null", 4, append(bytes.Clone(head), 0xff, 0xff, 0xff, 0xff)},
		{"partitions", 4, append(bytes.Clone(head), 0, 0, 0, 1, 0, 1, 't', 0x7f, 0, 0, 0)},
		{"forgotten", 12, append(bytes.Clone(v12), 0xff, 0xff, 0xff, 0xff, 0x0f)},
		{"forgotten partitions", 12, append(bytes.Clone(v12), 2, 2, 't', 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0)},
		{"rack null", 12, append(bytes.Clone(v12), 1, 0, 0)},
		{"cluster id runs over", 12, append(bytes.Clone(v12), 1, 1, 1, 0, 2, 9, 'x')},
		{"cluster id of the wrong size", 12, append(bytes.Clone(v12), 1, 1, 1, 0, 3, 2, 'x', 'y')},
	} {
		var before, after runtime.MemStats
		var r FetchRequest
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
	if err := new(FetchRequest).Decode(12, append(bytes.Clone(v12), 1, 1, 1, 0, 2, 2, 'x')); err != nil {
		t.Errorf("the bodies of this test are wrong: %v", err)
	}
}

func TestFetchAllocs(t *testing.T) {
	records := make([]byte, 1000)
	for _, version := range []int16{11, 12, 18} {
		r := NewFetchRequest(version)
		r.Topics = []FetchTopic{{Name: []byte("a"), Partitions: []FetchPartition{NewFetchPartition(1, 2, 3), NewFetchPartition(2, 2, 3)}}, {Name: []byte("b")}}
		r.Forgotten = []ForgottenTopic{{Name: []byte("c"), Partitions: []int32{1, 2}}}
		body := r.AppendTo(nil)
		answer := FetchResponse{Version: version, Topics: []FetchedTopic{{Name: []byte("a"), Partitions: []FetchedPartition{
			{Records: records, Aborted: []AbortedTransaction{{1, 2}}}, {Records: records, Aborted: []AbortedTransaction{}}}}}}
		answerBody := answer.AppendTo(nil)
		var buf []byte
		var got FetchRequest
		var gotAnswer FetchResponse
		if n := testing.AllocsPerRun(100, func() {
			if got.Decode(version, body) != nil || gotAnswer.Decode(version, answerBody) != nil {
				t.Fatal("refused")
			}
			buf = AppendFetchStart(buf[:0], version, 0, 0, 0, len(got.Topics))
			for i := range got.Topics {
				gt := &got.Topics[i]
				buf = AppendFetchTopic(buf, version, gt.Name, gt.ID, len(gt.Partitions))
				for _, gp := range gt.Partitions {
					p := NewFetchedPartition(gp.Index, 0)
					p.CurrentLeader = Leader{Set: true}
					buf = AppendFetched(buf, version, &p, len(records))
					buf = append(buf, records...)
					buf = AppendFetchedEnd(buf, version, &p)
				}
				buf = AppendFetchTopicEnd(buf, version)
			}
			buf = AppendFetchEnd(buf, version, nil)
			buf = got.AppendTo(buf)
		}); n != 0 {
			t.Errorf("version %d: %v allocations", version, n)
		}
	}
}

func FuzzFetchRequest(f *testing.F) {
	for version := MinFetch; version <= MaxFetch; version++ {
		k, _ := randomFetch(newSource(version, 2), version, true)
		f.Add(version, k.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var r, again FetchRequest
		if err := r.Decode(version, body); err != nil {
			if cap(r.Topics)*3 > len(body)*8+64 || cap(r.partitions)*16 > len(body)*8+64 {
				t.Fatalf("room for %d topics and %d partitions from %d bytes", cap(r.Topics), cap(r.partitions), len(body))
			}
			return
		}
		if err := again.Decode(version, r.AppendTo(nil)); err != nil || !equal(&r, &again) {
			t.Fatalf("%v\nfirst %+v\nagain %+v", err, r, again)
		}
	})
}

func FuzzFetchResponse(f *testing.F) {
	for version := MinFetch; version <= MaxFetch; version++ {
		k, _ := randomFetched(newSource(version, 2), version, true)
		f.Add(version, k.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var r, again FetchResponse
		if r.Decode(version, body) != nil {
			return
		}
		if err := again.Decode(version, r.AppendTo(nil)); err != nil || !equal(&r, &again) {
			t.Fatalf("%v\nfirst %+v\nagain %+v", err, r, again)
		}
	})
}
