package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Two consumers share four partitions; when one leaves, the other gets all of them. Each
// record is read once, apart from those that the one had not committed: they come again.
func TestConsumersShare(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const partitions, perRound = 4, 40
		r := w.start()
		defer r.stop()
		r.create("t", partitions, nil)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		p := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
		defer p.Close()
		sent := 0
		produce := func() {
			t.Helper()
			var rs []*kgo.Record
			for range perRound {
				rs = append(rs, &kgo.Record{Topic: "t", Partition: int32(sent % partitions), Value: fmt.Append(nil, sent)})
				sent++
			}
			if err := p.ProduceSync(ctx, rs...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		consumer := func() *kgo.Client {
			return w.client(kgo.ConsumerGroup(theGroup), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		}
		read := map[string]int{}
		// poll reads for a while and commits or not; it returns what it read by partition.
		poll := func(c *kgo.Client, commit bool) map[int32][]string {
			t.Helper()
			wait, stop := context.WithTimeout(ctx, time.Second)
			defer stop()
			defer c.AllowRebalance()
			got := map[int32][]string{}
			fs := c.PollFetches(wait)
			for _, e := range fs.Errors() {
				if e.Err != context.DeadlineExceeded {
					t.Fatal(e.Err)
				}
			}
			fs.EachRecord(func(r *kgo.Record) {
				got[r.Partition] = append(got[r.Partition], string(r.Value))
				read[string(r.Value)]++
			})
			if commit && len(got) > 0 {
				if err := c.CommitRecords(ctx, fs.Records()...); err != nil {
					t.Fatal(err)
				}
			}
			return got
		}
		// round produces, polls until all is read, and says which partitions each had.
		round := func(cs ...*kgo.Client) []map[int32]bool {
			t.Helper()
			produce()
			owned := make([]map[int32]bool, len(cs))
			for i := range owned {
				owned[i] = map[int32]bool{}
			}
			for len(read) < sent {
				if err := ctx.Err(); err != nil {
					t.Fatalf("%d of %d records were read", len(read), sent)
				}
				for i, c := range cs {
					for p := range poll(c, true) {
						owned[i][p] = true
					}
				}
			}
			return owned
		}
		one, two := consumer(), consumer()
		defer one.Close()
		defer two.Close()
		for range 20 { // the rebalances come to rest
			poll(one, true)
			poll(two, true)
		}
		for i, own := range round(one, two) {
			if len(own) != partitions/2 {
				t.Errorf("consumer %d read partitions %v, want two", i, own)
			}
		}
		for v, n := range read {
			if n != 1 {
				t.Errorf("record %s was read %d times", v, n)
			}
		}
		// The last that one reads is not committed, and it leaves.
		produce()
		again := map[string]bool{}
		for len(again) < perRound/2 && ctx.Err() == nil {
			for _, vs := range poll(one, false) {
				for _, v := range vs {
					again[v] = true
				}
			}
		}
		one.Close()
		for len(read) < sent || len(unrepeated(read, again)) > 0 {
			if ctx.Err() != nil {
				t.Fatalf("%d of %d records were read, not again: %v", len(read), sent, unrepeated(read, again))
			}
			poll(two, true)
		}
		if own := round(two)[0]; len(own) != partitions {
			t.Errorf("the one that stayed read partitions %v, want all", own)
		}
		for v, n := range read {
			if want := map[bool]int{false: 1, true: 2}[again[v]]; n != want {
				t.Errorf("record %s was read %d times, want %d", v, n, want)
			}
		}
	})
}

// unrepeated are those of again that were not read a second time yet.
func unrepeated(read map[string]int, again map[string]bool) (missing []string) {
	for v := range again {
		if read[v] < 2 {
			missing = append(missing, v)
		}
	}
	return missing
}
