package replica

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// newConvertBench has the partition of a topic that stores snappy.
func newConvertBench(t *testing.T) (*bench, *Partition) {
	b := newBench(t)
	b.m.o.Settings = func(*meta.Image, *meta.Topic) (Settings, error) {
		return Settings{Target: record.Target{Recompress: true, Codec: record.Snappy}}, nil
	}
	return b, b.apply(alone("os"))
}

func batchWith(t *testing.T, value string) []byte {
	b, err := record.Build(nil, record.NewTemplate(), []record.Record{{Timestamp: time.Now().UnixMilli(), Value: []byte(value)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is appended is in the log's own memory: the request's buffer and the converter are
// used again before anything is written, for small batches and for those that go to the
// file at once.
func TestConvertedBatchIsNotKept(t *testing.T) {
	_, p := newConvertBench(t)
	values := []string{"small one", "small two", strings.Repeat("incompressible? no ", 1<<16), "small three"}
	var w acks
	for i, v := range values {
		buf := batchWith(t, v)
		at, err := p.Append(buf, time.Now().UnixMilli(), Ack{Acks: 1, W: &w, Slot: int32(i), Gen: 7})
		if err != nil || at.BaseOffset != model.Offset(i) || at.LogAppendTime != -1 {
			t.Fatalf("batch %d: %+v, %v", i, at, err)
		}
		for j := range buf {
			buf[j] = 0xaa
		}
	}
	p.Write()
	if got := w.take(); got != "[0/7:0 1/7:0 2/7:0 3/7:0]" {
		t.Error(got)
	}
	r := record.NewReader(0)
	for i, v := range values {
		got, err := p.Read(ReadArgs{From: model.Offset(i), CurrentEpoch: -1, LastEpoch: -1, MaxBytes: 1, MinOne: true})
		if err != nil {
			t.Fatal(err)
		}
		batch := make([]byte, got.View.Len)
		if _, err := got.View.ReadAt(batch, 0); err != nil {
			t.Fatal(err)
		}
		got.View.Release()
		if err := record.Check(batch); err != nil || record.Batch(batch).Codec() != record.Snappy {
			t.Fatal(err, record.Batch(batch).Codec())
		}
		var rec record.Record
		if err := r.Reset(batch); err != nil {
			t.Fatal(err)
		}
		if ok, err := r.Next(&rec); !ok || !bytes.Equal(rec.Value, []byte(v)) {
			t.Errorf("record %d: %.20q, %v", i, rec.Value, err)
		}
	}
}

// A refused batch gives its converter back, so that as many as one likes may be refused.
func TestRefusedConversionGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := newConvertBench(t)
		for range 100 {
			bad := batchWith(t, "value")
			bad[len(bad)-1]++
			if _, err := p.Append(bad, time.Now().UnixMilli(), Ack{}); kerr.Of(err) != kerr.CorruptMessage {
				t.Fatal(err)
			}
		}
		if _, err := p.Append(batchWith(t, "value"), time.Now().UnixMilli(), Ack{}); err != nil {
			t.Error(err)
		}
	})
}

// While every converter works further conversions wait; batches that need none do not, and
// nothing is unpacked for a partition that another broker leads.
func TestConversionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := newConvertBench(t)
		var taken []*record.Converter
		for range cap(b.m.converters) {
			taken = append(taken, b.m.converters.take())
		}
		done := make(chan error, 1)
		go func() {
			_, err := p.Append(batchWith(t, "value"), time.Now().UnixMilli(), Ack{})
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("a conversion beyond the bound ran: %v", err)
		default:
		}
		tpl := record.NewTemplate()
		tpl.Codec = record.Snappy
		snappy, err := record.Build(nil, tpl, []record.Record{{Timestamp: time.Now().UnixMilli(), Value: []byte("v")}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Append(snappy, time.Now().UnixMilli(), Ack{}); err != nil {
			t.Error(err)
		}
		b.m.converters.give(taken[0])
		if err := <-done; err != nil {
			t.Error(err)
		}
		b.m.converters.take()
		follower := alone("os")
		follower.PartitionEpoch, follower.LeaderEpoch = 2, 2
		follower.Leader = model.Pair{ID: 2, Epoch: 20}
		follower.Replicas, follower.ISR = []model.BrokerID{1, 2}, []model.Pair{self, follower.Leader}
		p = b.apply(follower)
		if _, err := p.Append(batchWith(t, "value"), time.Now().UnixMilli(), Ack{}); kerr.Of(err) != kerr.NotLeaderOrFollower {
			t.Error(err)
		}
	})
}
