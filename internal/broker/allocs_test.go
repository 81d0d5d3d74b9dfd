package broker

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/internal/wheel"
	"github.com/kalda-io/kalda/internal/wire"
)

// bench is a broker over real partitions on a memory disk, without sockets: what a
// connection's goroutine does, done by hand.
type bench struct {
	t    testing.TB
	b    *Broker
	conn *wire.Conn
	im   *meta.Image
	id   model.TopicID
	name string
	// first is the first partition that produceBody writes to.
	first int32
}

func newBench(t testing.TB, partitions int) *bench {
	return newBenchOn(t, vfs.NewMem(), "topic", partitions, 1)
}

// newBenchOn is a bench on that disk, with a topic of that name whose partitions have so
// many replicas in sync, of which only this broker is real, and conf as keys and values.
func newBenchOn(t testing.TB, disk vfs.FS, name string, partitions, insync int, conf ...string) *bench {
	t.Helper()
	self := model.Pair{ID: 1, Epoch: 10}
	path := "/data"
	if _, real := disk.(vfs.OS); real {
		path = t.TempDir()
	}
	d, err := storage.OpenDir(disk, path, storage.DirOptions{ClusterID: "c", NodeID: 1, BootID: "b"})
	if err != nil {
		t.Fatal(err)
	}
	clock := model.SystemClock()
	log := slog.New(slog.DiscardHandler)
	m := replica.New(replica.Options{
		Self: func() model.Pair { return self }, Dirs: []*storage.Dir{d}, Clock: clock, Logger: log,
		Settings: func(_ *meta.Image, t *meta.Topic) (replica.Settings, error) {
			target, ok := record.TargetFor(t.Config["compression.type"])
			if !ok {
				target, _ = record.TargetFor("producer")
			}
			return replica.Settings{Target: target, Validate: record.ValidateOptions{
				MaxBatchBytes: 1 << 20, CheckRecords: true, LogAppendTime: t.Config["message.timestamp.type"] == "LogAppendTime"}}, nil
		},
	})
	im := meta.EmptyImage()
	topic := &meta.Topic{ID: model.NewTopicID(), Name: name, Config: map[string]string{}}
	for i := 0; i < len(conf); i += 2 {
		topic.Config[conf[i]] = conf[i+1]
	}
	for range partitions {
		st := &meta.PartitionState{PartitionEpoch: 1, LeaderEpoch: 1, Leader: self, MinISR: 1, FlushPolicy: "os"}
		for i := range insync {
			id := model.BrokerID(i + 1)
			st.ISR = append(st.ISR, model.Pair{ID: id, Epoch: model.BrokerEpoch(10 * id)})
			st.Replicas = append(st.Replicas, id)
		}
		topic.Partitions = append(topic.Partitions, st)
	}
	im.Revision, im.Topics[name], im.TopicsByID[topic.ID] = 1, topic, topic
	m.Apply(im)
	b := New(Options{
		NodeID: 1, Image: func() *meta.Image { return im }, Replicas: m, Wheel: wheel.New(clock), Clock: clock, Logger: log,
		WaitApplied: func(context.Context, int64) error { return nil },
	})
	t.Cleanup(func() { b.Close(); _ = m.Close() })
	return &bench{t: t, b: b, conn: &wire.Conn{}, im: im, id: topic.ID, name: name}
}

// completed is the queue of one request.
type completed struct{ n atomic.Int32 }

func (c *completed) Ready(*wire.Pending) { c.n.Add(1) }

// body is a request's body without its header.
func body(req kmsg.Request) []byte { return req.AppendTo(nil) }

func (b *bench) produceBody(version int16, partitions int) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = b.name, b.id
	for i := range int32(partitions) {
		batch, err := record.Build(nil, record.NewTemplate(), []record.Record{{Timestamp: time.Now().UnixMilli(), Value: make([]byte, 100)}})
		if err != nil {
			b.t.Fatal(err)
		}
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = b.first+i, batch
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return body(req)
}

// A Produce of a warm connection allocates nothing, from the frame to the answer, for any
// number of records and for several partitions, also where the broker sets the time or the
// codec.
func TestProduceAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; this runs without it too")
	}
	for _, c := range []struct {
		version int16
		conf    []string
	}{
		{7, nil}, {9, nil}, {13, nil},
		{9, []string{"message.timestamp.type", "LogAppendTime"}},
		{9, []string{"compression.type", "uncompressed"}}, // as they are sent
		{9, []string{"compression.type", "snappy"}},       // each batch is converted
	} {
		version := c.version
		b := newBenchOn(t, vfs.NewMem(), "topic", 3, 1, c.conf...)
		frame := b.produceBody(version, 3)
		buf := make([]byte, len(frame))
		p := &wire.Pending{Conn: b.conn, Key: 0, Version: version}
		var q completed
		p.Bind(&q)
		step := func() {
			copy(buf, frame) // the batches are stamped in place
			p.Body, p.Resp, p.Encode, p.State = buf, p.Resp[:0], nil, nil
			before := q.n.Load()
			if got := b.b.Handle(p); got != wire.Parked {
				t.Fatal(got, p.CloseReason)
			}
			b.b.Flush(b.conn)
			if q.n.Load() != before+1 {
				t.Fatal("not answered by the end of its drain")
			}
			if p.Encode != nil {
				t.Fatal("encoded twice")
			}
		}
		for range 100 {
			step()
		}
		// The memory disk grows its files now and then.
		if n := testing.AllocsPerRun(1000, step); n >= 1 {
			t.Errorf("version %d %v: %v allocations per request", version, c.conf, n)
		}
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = version
		if err := resp.ReadFrom(p.Resp); err != nil || resp.Topics[0].Partitions[2].ErrorCode != 0 {
			t.Fatal(err, resp)
		}
	}
}

// So does a Fetch that finds its bytes, with and without a session, and one that parks.
func TestFetchAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; this runs without it too")
	}
	b := newBench(t, 3)
	{
		p := &wire.Pending{Conn: b.conn, Key: 0, Version: 9, Body: b.produceBody(9, 3)}
		p.Bind(&completed{})
		b.b.Handle(p)
		b.b.Flush(b.conn)
	}
	request := func(offset int64, edit func(*kmsg.FetchRequest)) []byte {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MinBytes, req.MaxBytes, req.MaxWaitMillis, req.SessionEpoch = 13, 1, 1<<20, 60_000, -1
		rt := kmsg.NewFetchRequestTopic()
		rt.TopicID = b.id
		for i := range int32(3) {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = i, offset, 1<<20
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
		if edit != nil {
			edit(req)
		}
		return body(req)
	}
	p := &wire.Pending{Conn: b.conn, Key: 1, Version: 13}
	var q completed
	p.Bind(&q)
	ask := func(frame []byte) {
		p.Body, p.Resp, p.Encode, p.State, p.Arrived = frame, p.Resp[:0], nil, nil, b.b.o.Clock.Boot()
		if b.b.Handle(p) == wire.Parked {
			p.State.(*fetchState).Available(0, -1) // as if bytes had come
			p.Encode.EncodeAnswer(p)
		}
	}
	check := func(name string, step func()) {
		t.Helper()
		for range 100 {
			step()
		}
		if n := testing.AllocsPerRun(1000, step); n != 0 {
			t.Errorf("%s: %v allocations per request", name, n)
		}
	}
	hot, idle := request(0, nil), request(1, nil)
	check("hot", func() { ask(hot) })
	check("parked", func() { ask(idle) })
	ask(request(0, func(r *kmsg.FetchRequest) { r.SessionEpoch = 0 }))
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 13
	if err := resp.ReadFrom(p.Resp); err != nil || resp.SessionID == 0 {
		t.Fatal(err, resp.SessionID)
	}
	s := b.b.sessions.byID[resp.SessionID]
	next := request(0, func(r *kmsg.FetchRequest) { r.SessionID, r.SessionEpoch, r.Topics = resp.SessionID, 1, nil })
	check("session", func() { s.epoch = 1; ask(next) })
}

func BenchmarkProduceHandle(b *testing.B) {
	h := newBench(b, 1)
	frame := h.produceBody(9, 1)
	buf := make([]byte, len(frame))
	p := &wire.Pending{Conn: h.conn, Key: 0, Version: 9}
	p.Bind(&completed{})
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		copy(buf, frame)
		p.Body, p.Resp, p.Encode = buf, p.Resp[:0], nil
		h.b.Handle(p)
		h.b.Flush(h.conn)
	}
}

// BenchmarkProduceDrain handles small requests for twelve partitions on a real disk, sixteen
// in each drain of a connection. An operation is a request.
func BenchmarkProduceDrain(b *testing.B) {
	const drain, partitions = 16, 12
	h := newBenchOn(b, vfs.OS{}, "topic", partitions, 1)
	var frames, bufs [drain][]byte
	var reqs [drain]wire.Pending
	for i := range reqs {
		h.first = int32(i % partitions)
		frames[i] = h.produceBody(9, 1)
		bufs[i] = make([]byte, len(frames[i]))
		reqs[i] = wire.Pending{Conn: h.conn, Key: 0, Version: 9}
		reqs[i].Bind(&completed{})
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(frames[0])))
	for n := 0; n < b.N; n += drain {
		for i := range reqs {
			copy(bufs[i], frames[i])
			p := &reqs[i]
			p.Body, p.Resp, p.Encode = bufs[i], p.Resp[:0], nil
			h.b.Handle(p)
		}
		h.b.Flush(h.conn)
	}
}
