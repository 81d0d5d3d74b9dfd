package load

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func fake(t *testing.T) string {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

// A run sends what it says: as many records arrive, in every partition, with every
// way of sending.
func TestProduceArrives(t *testing.T) {
	for name, o := range map[string]Options{
		"pipelined": {Connections: 3, Outstanding: 8, RecordBytes: 100, BatchRecords: 1, Acks: 1},
		"in turn":   {Connections: 3, Outstanding: 1, RecordBytes: 100, BatchRecords: 3, Acks: -1},
		"acks=0":    {Connections: 2, Outstanding: 4, RecordBytes: 10, BatchRecords: 2, Acks: 0},
		"client":    {Connections: 1, Outstanding: 1, RecordBytes: 100, BatchRecords: 1, Acks: 1, Client: true},
		"paced":     {Connections: 1, Outstanding: 1, RecordBytes: 100, BatchRecords: 1, Acks: 1, Client: true, Rate: 5000},
		"large":     {Connections: 2, Outstanding: 3, RecordBytes: 1000, BatchRecords: 200, Acks: 1},
	} {
		t.Run(name, func(t *testing.T) {
			o.Addr, o.Prefix, o.Topics, o.Partitions = fake(t), "t", 2, 3
			o.Requests, o.Time = 500, 20*time.Second
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := Prepare(ctx, o); err != nil {
				t.Fatal(err)
			}
			r, err := Run(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Requests != 500 || r.Records != int64(500*o.BatchRecords) || r.Seconds <= 0 || r.Bytes < r.Records*int64(o.RecordBytes) {
				t.Errorf("%+v", r)
			}
			if o.Acks != 0 && (r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Max) {
				t.Errorf("latencies %+v", r)
			}
			ends := endOffsets(ctx, t, o)
			sum := int64(0)
			for _, e := range ends {
				if e == 0 && !o.Client { // it fills one partition's batch, then another's
					t.Errorf("a partition got nothing: %v", ends)
				}
				sum += e
			}
			// acks=0 ends with one answered record per connection.
			want := r.Records
			if o.Acks == 0 {
				want += int64(o.Connections)
			}
			if sum != want {
				t.Errorf("%d records arrived, want %d", sum, want)
			}
		})
	}
}

func endOffsets(ctx context.Context, t *testing.T, o Options) (ends []int64) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrListOffsetsRequest()
	for i := range o.Topics {
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic = topicName(o.Prefix, i)
		for p := range o.Partitions {
			part := kmsg.NewListOffsetsRequestTopicPartition()
			part.Partition, part.Timestamp = int32(p), -1
			topic.Partitions = append(topic.Partitions, part)
		}
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			ends = append(ends, p.Offset)
		}
	}
	return ends
}

// Fetch reads whole passes over what was produced.
func TestFetchReadsEverything(t *testing.T) {
	o := Options{
		Addr: fake(t), Prefix: "t", Topics: 1, Partitions: 2, Connections: 2, Outstanding: 1,
		RecordBytes: 100, BatchRecords: 10, Acks: 1, Requests: 200, Time: 20 * time.Second,
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := Prepare(ctx, o); err != nil {
		t.Fatal(err)
	}
	o.Fetch, o.FetchBytes = true, 10000
	if _, err := Run(ctx, o); err == nil {
		t.Error("a run over empty partitions must fail")
	}
	o.Fetch = false
	if _, err := Run(ctx, o); err != nil {
		t.Fatal(err)
	}
	perPass := endOffsets(ctx, t, o)
	o.Fetch, o.Connections, o.Requests = true, 1, 0
	o.Bytes = 3 * (perPass[0] / 10) * int64(len(batch(10, 100, 0))) // three passes and a bit
	r, err := Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Records < 3*perPass[0] || r.Records > 4*perPass[0] || r.Bytes < o.Bytes {
		t.Errorf("%d records of %d per pass: %+v", r.Records, perPass[0], r)
	}
}

func TestBrokerErrorsEndTheRun(t *testing.T) {
	o := Options{
		Addr: fake(t), Prefix: "missing", Topics: 1, Partitions: 1, Connections: 2, Outstanding: 4,
		RecordBytes: 10, BatchRecords: 1, Acks: 1, Time: 20 * time.Second,
	}
	if _, err := Run(t.Context(), o); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("produce to a missing topic: %v", err)
	}
	o.Fetch, o.FetchBytes = true, 1000
	if _, err := Run(t.Context(), o); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("fetch from a missing topic: %v", err)
	}
}

func TestRunEnds(t *testing.T) {
	o := Options{
		Addr: fake(t), Prefix: "t", Topics: 1, Partitions: 1, Connections: 2, Outstanding: 4,
		RecordBytes: 10, BatchRecords: 1, Acks: 1, Bytes: 100_000,
	}
	if err := Prepare(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), o)
	frame := int64(len(produceFrame("t-0", 0, 1, batch(1, 10, 0))))
	if sent := r.Requests * frame; err != nil || sent > 100_000 || sent < 50_000 {
		t.Errorf("%d bytes of 100000 sent: %v", sent, err)
	}
	o.Bytes, o.Time = 0, 50*time.Millisecond
	if r, err = Run(t.Context(), o); err != nil || r.Seconds < 0.05 || r.Seconds > 10 {
		t.Errorf("50 ms took %v s: %v", r.Seconds, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.Time = time.Hour
	if _, err = Run(ctx, o); err == nil {
		t.Error("a cancelled run succeeds")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Addr: "x:1", Connections: 1, Outstanding: 1, Topics: 1, Partitions: 1, BatchRecords: 1, Requests: 1}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"addr":        func(o *Options) { o.Addr = "" },
		"connections": func(o *Options) { o.Connections = 0 },
		"outstanding": func(o *Options) { o.Outstanding = -1 },
		"topics":      func(o *Options) { o.Topics = 0 },
		"batch":       func(o *Options) { o.BatchRecords = 1 << 20; o.RecordBytes = 1 << 20 },
		"acks":        func(o *Options) { o.Acks = 2 },
		"no end":      func(o *Options) { o.Requests = 0 },
		"fetch bytes": func(o *Options) { o.Fetch = true },
	} {
		o := good
		change(&o)
		if o.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestHistogram(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var h, part histogram
	var all []int64
	for i := range 20000 {
		v := rnd.Int64N(1 << rnd.IntN(40))
		all = append(all, v)
		if i%2 == 0 {
			h.record(v, 1)
		} else {
			part.record(v, 1)
		}
	}
	h.add(&part)
	slices.Sort(all)
	for _, q := range []float64{0, 0.1, 0.5, 0.9, 0.99, 0.999} {
		want := float64(all[int(q*float64(len(all)))])
		if got := h.quantile(q); math.Abs(got-want) > 1+want*0.04 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	if got := h.quantile(1); got != float64(all[len(all)-1]) {
		t.Errorf("the largest is %v, want %v", got, all[len(all)-1])
	}
}

func TestHop(t *testing.T) {
	one := batch(7, 20, 0)
	two := batch(3, 20, 0)
	binary.BigEndian.PutUint64(two, 7)
	both := append(slices.Clone(one), two...)
	if next, n, size := hop(both); next != 10 || n != 10 || size != int64(len(both)) {
		t.Errorf("two batches: next %d, %d records, %d bytes", next, n, size)
	}
	if next, n, size := hop(both[:len(both)-1]); next != 7 || n != 7 || size != int64(len(one)) {
		t.Errorf("the second is cut: next %d, %d records, %d bytes", next, n, size)
	}
	if _, n, _ := hop(nil); n != 0 {
		t.Error("records in nothing")
	}
}
