package kalda_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda"
)

// TestIdlePartitionsAreSmall: a partition that nobody uses costs a node at most 8 KiB of
// live heap, its part of the embedded ensemble included; one that was written just now,
// with its file open, does so too.
func TestIdlePartitionsAreSmall(t *testing.T) {
	const (
		topics, perTopic = 100, 20
		partitions       = topics * perTopic
		most             = 8 << 10
	)
	k, err := kalda.Start(t.Context(), quiet(kalda.Options{
		Ephemeral: true, Kafka: "127.0.0.1:0", Config: map[string]string{"kalda.flush.policy": "os"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	names := make([]string, topics)
	for i := range names {
		names[i] = fmt.Sprintf("topic-%d", i)
	}
	// Each client is gone when the heap is looked at: it runs in this process, too.
	with := func(f func(ctx context.Context, cl *kgo.Client) error) {
		t.Helper()
		cl, err := kgo.NewClient(kgo.SeedBrokers(k.Kafka()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := f(t.Context(), cl); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what pools held through the first one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	with(func(ctx context.Context, cl *kgo.Client) error { return cl.Ping(ctx) })
	empty := heap()
	check := func(what string) {
		t.Helper()
		each := (heap() - empty) / partitions
		t.Logf("%s: %d bytes each", what, each)
		if each > most {
			t.Errorf("%s: %d bytes each, want at most %d", what, each, most)
		}
	}
	with(func(ctx context.Context, cl *kgo.Client) error {
		created, err := kadm.NewClient(cl).CreateTopics(ctx, perTopic, 1, nil, names...)
		if err != nil {
			return err
		}
		return created.Error()
	})
	check("never written")
	with(func(ctx context.Context, cl *kgo.Client) error {
		var records []*kgo.Record
		for _, name := range names {
			for p := range int32(perTopic) {
				records = append(records, &kgo.Record{Topic: name, Partition: p, Value: []byte("some value")})
			}
		}
		return cl.ProduceSync(ctx, records...).FirstErr()
	})
	check("just written")
}
