package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// askFor is one Produce for one partition.
type askFor struct {
	version int16
	acks    int16
	index   int32
	records []byte
}

func (b *bench) bodyOf(a askFor, edit func(*kmsg.ProduceRequest)) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = a.version, a.acks, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = b.name, b.id
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = a.index, bytes.Clone(a.records)
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	if edit != nil {
		edit(req)
	}
	return body(req)
}

// handled is the answer, as a frame, by way of Handle; between runs before Flush.
func (b *bench) handled(t *testing.T, a askFor, id int32, between func()) []byte {
	t.Helper()
	p := &wire.Pending{Conn: b.conn, Version: a.version, Body: b.bodyOf(a, nil)}
	p.Resp = wire.AppendResponseHeader(nil, 0, a.version, id)
	var q completed
	p.Bind(&q)
	if between != nil {
		between()
	}
	if got := b.b.Handle(p); got != wire.Parked {
		t.Fatal(got, p.CloseReason)
	}
	b.b.Flush(b.conn)
	if q.n.Load() != 1 {
		t.Fatalf("completed %d times", q.n.Load())
	}
	if p.Encode != nil {
		p.Encode.EncodeAnswer(p)
	}
	wire.FinishFrame(p.Resp, 0)
	return p.Resp
}

// taken is the same by way of Take and Answer.
func (b *bench) taken(t *testing.T, a askFor, id int32, between func()) []byte {
	t.Helper()
	if !b.b.Take(b.conn, &wire.Header{Version: a.version, CorrelationID: id}, b.bodyOf(a, nil)) {
		t.Fatalf("version %d, acks %d: not taken", a.version, a.acks)
	}
	if between != nil {
		between()
	}
	return b.b.Answer(b.conn, nil)
}

// producedIn is what the frame says of its only partition.
func producedIn(t *testing.T, version int16, frame []byte) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = version
	if err := resp.ReadFrom(frame[9:]); err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].Partitions[0]
}

func batchWith(t testing.TB, producer model.ProducerID, seq int32) []byte {
	tmpl := record.NewTemplate()
	tmpl.ProducerID, tmpl.ProducerEpoch, tmpl.BaseSequence = producer, 0, seq
	if producer < 0 {
		tmpl.ProducerEpoch, tmpl.BaseSequence = -1, -1
	}
	b, err := record.Build(nil, tmpl, []record.Record{{Timestamp: 1_700_000_000_000, Value: []byte("value")}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Requests that are answered at once have the very answers that Handle gives, errors of the
// append, the write and the leadership included.
func TestDirectAnswersAreTheSame(t *testing.T) {
	for version := int16(9); version <= 13; version++ {
		for _, acks := range []int16{1, -1} {
			disks := [2]*vfs.Faults{vfs.NewFaults(vfs.NewMem()), vfs.NewFaults(vfs.NewMem())}
			one, two := newBenchOn(t, disks[0], "topic", 3, 1), newBenchOn(t, disks[1], "topic", 3, 1)
			id := int32(0)
			step := func(what string, index int32, records []byte, between func(*bench, *vfs.Faults)) {
				t.Helper()
				id++
				a := askFor{version, acks, index, records}
				run := func(b *bench, f *vfs.Faults) func() {
					if between == nil {
						return nil
					}
					return func() { between(b, f) }
				}
				want, got := one.handled(t, a, id, run(one, disks[0])), two.taken(t, a, id, run(two, disks[1]))
				got = bytes.ReplaceAll(got, two.id[:], one.id[:]) // v13 answers with it
				if between != nil && index == 0 {
					// Handle has encoded its answer by then, without a place for the reason.
					for who, frame := range map[string][]byte{"Answer": got, "Handle": want} {
						p := producedIn(t, version, frame)
						if p.ErrorCode != kerr.KafkaStorageError.Code || p.BaseOffset != -1 || (p.ErrorMessage != nil) != (who == "Answer") {
							t.Errorf("version %d, acks %d: %s is answered %+v by %s", version, acks, what, p, who)
						}
					}
					return
				}
				if !bytes.Equal(got, want) {
					t.Errorf("version %d, acks %d: %s is answered\n%x by Answer,\n%x by Handle", version, acks, what, got, want)
				}
			}
			step("a batch", 0, batchWith(t, -1, 0), nil)
			step("the next", 0, batchWith(t, -1, 0), nil)
			step("a producer's", 1, batchWith(t, 5, 0), nil)
			step("its duplicate", 1, batchWith(t, 5, 0), nil)
			step("a gap in the sequence", 1, batchWith(t, 5, 9), nil)
			step("a failed write", 0, batchWith(t, -1, 0), func(_ *bench, f *vfs.Faults) {
				f.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Times: 1, Err: errors.New("no space left on device")})
			})
			step("one after it", 0, batchWith(t, -1, 0), nil)
			step("a leader that moved", 2, batchWith(t, -1, 0), func(b *bench, _ *vfs.Faults) {
				im := meta.EmptyImage()
				im.Revision = 2
				old := b.im.Topics["topic"]
				moved := *old
				moved.Partitions = nil
				for _, st := range old.Partitions {
					away := *st
					away.LeaderEpoch, away.PartitionEpoch = 2, 2
					away.Leader = model.Pair{ID: 2, Epoch: 20}
					away.ISR, away.Replicas = []model.Pair{away.Leader, {ID: 1, Epoch: 10}}, []model.BrokerID{1, 2}
					moved.Partitions = append(moved.Partitions, &away)
				}
				im.Topics["topic"], im.TopicsByID[moved.ID] = &moved, &moved
				b.b.o.Replicas.Apply(im)
			})
		}
	}
}

// A drain's requests are answered in their order, whatever their partitions.
func TestDirectAnswersInOrder(t *testing.T) {
	b := newBench(t, 3)
	for round := range 3 {
		for i := range int32(40) {
			a := askFor{9 + int16(i%4), []int16{1, -1}[i%2], i * 7 % 3, batchWith(t, -1, 0)}
			if !b.b.Take(b.conn, &wire.Header{Version: a.version, CorrelationID: i}, b.bodyOf(a, nil)) {
				t.Fatal("not taken")
			}
		}
		next := map[int32]int64{}
		out := b.b.Answer(b.conn, []byte("before"))
		if !bytes.HasPrefix(out, []byte("before")) {
			t.Fatal("what was in the buffer is gone")
		}
		out = out[6:]
		for i := range int32(40) {
			size := 4 + int(binary.BigEndian.Uint32(out))
			frame := out[:size]
			out = out[size:]
			if id := int32(binary.BigEndian.Uint32(frame[4:])); id != i {
				t.Fatalf("answer %d has id %d", i, id)
			}
			p := producedIn(t, 9+int16(i%4), frame)
			if _, seen := next[p.Partition]; !seen {
				next[p.Partition] = int64(round) * []int64{14, 13, 13}[p.Partition]
			}
			if p.Partition != i*7%3 || p.ErrorCode != 0 || p.BaseOffset != next[p.Partition] {
				t.Fatalf("answer %d: %+v, want offset %d", i, p, next[p.Partition])
			}
			next[p.Partition]++
		}
		if len(out) > 0 {
			t.Fatalf("%d bytes more", len(out))
		}
	}
}

// Whatever is not the common request is left, byte for byte, to Handle.
func TestTakeLeavesAlone(t *testing.T) {
	b := newBench(t, 2)
	internal := newBenchOn(t, vfs.NewMem(), meta.OffsetsTopic, 1, 1)
	good := batchWith(t, -1, 0)
	broken := bytes.Clone(good)
	broken[len(broken)-1] ^= 1
	for _, c := range []struct {
		name string
		b    *bench
		ask  askFor
		edit func(*kmsg.ProduceRequest)
	}{
		{"an old version", b, askFor{8, 1, 0, good}, nil},
		{"no answer", b, askFor{9, 0, 0, good}, nil},
		{"unknown acks", b, askFor{9, 2, 0, good}, nil},
		{"an unknown partition", b, askFor{9, 1, 7, good}, nil},
		{"an unknown topic", b, askFor{9, 1, 0, good}, func(r *kmsg.ProduceRequest) { r.Topics[0].Topic = "other" }},
		{"an unknown topic id", b, askFor{13, 1, 0, good}, func(r *kmsg.ProduceRequest) { r.Topics[0].TopicID[0] ^= 1 }},
		{"an internal topic", internal, askFor{9, 1, 0, good}, nil},
		{"damage", b, askFor{9, 1, 0, broken}, nil},
		{"no records", b, askFor{9, 1, 0, []byte{}}, nil},
		{"two batches", b, askFor{9, 1, 0, append(bytes.Clone(good), good...)}, nil},
		{"a transaction", b, askFor{9, 1, 0, good}, func(r *kmsg.ProduceRequest) { r.TransactionID = kmsg.StringPtr("t") }},
		{"two partitions", b, askFor{9, 1, 0, good}, func(r *kmsg.ProduceRequest) {
			r.Topics[0].Partitions = append(r.Topics[0].Partitions, r.Topics[0].Partitions[0])
		}},
		{"two topics", b, askFor{9, 1, 0, good}, func(r *kmsg.ProduceRequest) { r.Topics = append(r.Topics, r.Topics[0]) }},
		{"nothing", b, askFor{9, 1, 0, good}, func(r *kmsg.ProduceRequest) { r.Topics = nil }},
	} {
		frame := c.b.bodyOf(c.ask, c.edit)
		before := bytes.Clone(frame)
		if c.b.b.Take(c.b.conn, &wire.Header{Version: c.ask.version}, frame) {
			t.Errorf("%s: taken", c.name)
		}
		if !bytes.Equal(frame, before) {
			t.Errorf("%s: changed", c.name)
		}
	}
	// A connection whose acks=0 batch was lost is closed by its next request, so by Handle.
	cs := connStateOf(b.conn)
	cs.Acked(0, 0, kerr.KafkaStorageError)
	if b.b.Take(b.conn, &wire.Header{Version: 9}, b.bodyOf(askFor{9, 1, 0, good}, nil)) {
		t.Error("taken after a loss")
	}
}

// The broker sets the time where the topic says so.
func TestDirectLogAppendTime(t *testing.T) {
	b := newBenchOn(t, vfs.NewMem(), "topic", 1, 1, "message.timestamp.type", "LogAppendTime")
	before := time.Now().UnixMilli()
	frame := b.taken(t, askFor{9, 1, 0, batchWith(t, -1, 0)}, 1, nil)
	if p := producedIn(t, 9, frame); p.ErrorCode != 0 || p.LogAppendTime < before || p.LogAppendTime > time.Now().UnixMilli() {
		t.Fatalf("%+v", p)
	}
}

// Take and Answer allocate nothing once warm.
func TestDirectAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; this runs without it too")
	}
	for _, version := range []int16{9, 13} {
		b := newBench(t, 3)
		var frames, bufs [16][]byte
		for i := range frames {
			frames[i] = b.bodyOf(askFor{version, -1, int32(i % 3), batchWith(t, -1, 0)}, nil)
			bufs[i] = make([]byte, len(frames[i]))
		}
		hd := &wire.Header{Version: version}
		var out []byte
		step := func() {
			for i := range frames {
				copy(bufs[i], frames[i])
				if !b.b.Take(b.conn, hd, bufs[i]) {
					t.Fatal("not taken")
				}
			}
			out = b.b.Answer(b.conn, out[:0])
		}
		for range 100 {
			step()
		}
		// The memory disk grows its files now and then, and the pool is emptied by collections.
		if n := testing.AllocsPerRun(1000, step); n >= 1 {
			t.Errorf("version %d: %v allocations for sixteen requests", version, n)
		}
	}
}

// Between requests nothing keeps the connection's read buffer, whichever way they went.
func TestReadBufferIsLetGo(t *testing.T) {
	for name, ask := range map[string]func(b *bench, a askFor){
		"Take":   func(b *bench, a askFor) { b.taken(t, a, 1, nil) },
		"Handle": func(b *bench, a askFor) { b.handled(t, a, 1, nil) },
	} {
		b := newBench(t, 1)
		ask(b, askFor{version: 13, acks: 1, records: batchWith(t, -1, 0)})
		req := &connStateOf(b.conn).req
		for _, topic := range req.Topics[:cap(req.Topics)] {
			if topic.Name != nil || topic.Partitions != nil {
				t.Errorf("%s: %+v", name, topic)
			}
		}
	}
}

// Where acks wait, requests are not looked at twice each time; where they do not any more, that
// is found out soon.
func TestTakeGivesUpForAWhile(t *testing.T) {
	b := newBench(t, 1)
	policy := func(revision int64, policy string) {
		im := meta.EmptyImage()
		im.Revision = revision
		topic := *b.im.Topics[b.name]
		st := *topic.Partitions[0]
		st.FlushPolicy, st.PartitionEpoch = policy, model.PartitionEpoch(revision)
		topic.Partitions = []*meta.PartitionState{&st}
		im.Topics[b.name], im.TopicsByID[b.id] = &topic, &topic
		b.b.o.Replicas.Apply(im)
	}
	take := func() bool {
		return b.b.Take(b.conn, &wire.Header{Version: 9}, b.bodyOf(askFor{9, 1, 0, batchWith(t, -1, 0)}, nil))
	}
	policy(2, "commit")
	if take() {
		t.Fatal("taken under commit")
	}
	policy(3, "os")
	for i := range retryAtOnce {
		if take() {
			t.Fatalf("looked at again after %d requests", i)
		}
	}
	for range 2 {
		if !take() {
			t.Fatal("not looked at again")
		}
	}
	b.b.Answer(b.conn, nil)
}
