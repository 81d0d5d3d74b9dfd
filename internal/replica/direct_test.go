package replica

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// direct links batches of one partition for AppendAll.
func direct(acks int16, batches ...[]byte) []Direct {
	all := make([]Direct, len(batches))
	for i, b := range batches {
		all[i] = Direct{Records: b, NowMs: time.Now().UnixMilli(), Acks: acks, Next: int32(i + 1)}
	}
	all[len(all)-1].Next = -1
	return all
}

// outcome says where batches went, or with what code they failed.
func outcome(all []Direct) string {
	s := ""
	Wait(all)
	for i := range all {
		if all[i].Err != nil {
			s += fmt.Sprintf("!%d ", kerr.Code(all[i].Err))
		} else {
			s += fmt.Sprintf("%d ", all[i].At.BaseOffset)
		}
	}
	return s
}

func producerBatch(t testing.TB, id model.ProducerID, seq int32, size int) []byte {
	tmpl := record.NewTemplate()
	tmpl.ProducerID, tmpl.ProducerEpoch, tmpl.BaseSequence = id, 0, seq
	b, err := record.Build(nil, tmpl, []record.Record{{Timestamp: time.Now().UnixMilli(), Value: make([]byte, size)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Takes leaves to Append whatever is to be refused, rewritten, or waits for more than its write.
func TestTakes(t *testing.T) {
	compact := Settings{Validate: record.ValidateOptions{CheckRecords: true, RequireKeys: true}}
	snappy, ok := record.TargetFor("snappy")
	if !ok {
		t.Fatal("no target")
	}
	two := alone("os")
	two.ISR, two.Replicas = append(two.ISR, model.Pair{ID: 2, Epoch: 20}), []model.BrokerID{1, 2}
	led := alone("os")
	led.Leader, led.ISR, led.Replicas = model.Pair{ID: 2, Epoch: 20}, []model.Pair{{ID: 2, Epoch: 20}, self}, []model.BrokerID{1, 2}
	keyed := func(codec record.Codec) []byte {
		tmpl := record.NewTemplate()
		tmpl.Codec = codec
		b, err := record.Build(nil, tmpl, []record.Record{{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: make([]byte, 200)}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	broken := someBatch(t, 1)
	broken[len(broken)-1] ^= 1
	for _, c := range []struct {
		name     string
		settings Settings
		state    meta.PartitionState
		batch    []byte
		one, all bool // acks=1, acks=all
	}{
		{"alone", Settings{}, alone("os"), someBatch(t, 1), true, true},
		{"a follower in sync", Settings{}, two, someBatch(t, 1), true, false},
		{"led elsewhere", Settings{}, led, someBatch(t, 1), false, false},
		{"commit", Settings{}, alone("commit"), someBatch(t, 1), false, false},
		{"flush.messages", Settings{FlushMessages: 5}, alone("os"), someBatch(t, 1), false, false},
		{"another codec", Settings{Target: snappy}, alone("os"), someBatch(t, 1), false, false},
		{"no key", compact, alone("os"), someBatch(t, 1), false, false},
		{"keys", compact, alone("os"), keyed(record.None), true, true},
		{"keys in compressed records", compact, alone("os"), keyed(record.Snappy), false, false},
		{"damaged", Settings{}, alone("os"), broken, false, false},
	} {
		b := newBench(t)
		b.m.o.Settings = func(*meta.Image, *meta.Topic) (Settings, error) { return c.settings, nil }
		var p *Partition
		if c.state.Leader != self {
			b.apply(alone("os")) // so that it is found
			b.rev++
			im := meta.EmptyImage()
			im.Revision = b.rev
			c.state.PartitionEpoch, c.state.LeaderEpoch = 2, 2
			topic := &meta.Topic{ID: b.tid, Name: "t", Partitions: []*meta.PartitionState{&c.state}}
			im.Topics["t"], im.TopicsByID[b.tid] = topic, topic
			b.m.Apply(im)
			p, _ = b.m.Lookup([]byte("t"), 0)
		} else {
			p = b.apply(c.state)
		}
		now := time.Now().UnixMilli()
		if one, all := p.Takes(c.batch, now, 1), p.Takes(c.batch, now, -1); one != c.one || all != c.all {
			t.Errorf("%s: takes acks=1 %v, acks=all %v; want %v, %v", c.name, one, all, c.one, c.all)
		}
	}
}

// What others staged goes first, and they are told; what is refused leaves no gap; what was
// appended before is answered with its first offset.
func TestAppendAll(t *testing.T) {
	b := newBench(t)
	p := b.apply(alone("os"))
	var w acks
	if _, err := b.append(p, 1, &w, 3); err != nil {
		t.Fatal(err)
	}
	all := direct(1, someBatch(t, 2), producerBatch(t, 7, 0, 10), producerBatch(t, 7, 5, 10), producerBatch(t, 7, 0, 10), someBatch(t, 1))
	p.AppendAll(all, 0)
	if got, want := outcome(all), fmt.Sprintf("1 3 !%d 3 4 ", kerr.OutOfOrderSequenceNumber.Code); got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	if got := w.take(); got != "[3/7:0]" {
		t.Fatalf("who staged before hears %s", got)
	}
	if s := p.Stats(); s.LogEnd != 5 || s.HighWatermark != 5 {
		t.Fatalf("%+v", s)
	}
	// A list may begin anywhere.
	all = append(all[:1], direct(-1, someBatch(t, 1))...)
	all[1].Next = -1
	p.AppendAll(all, 1)
	if got := outcome(all[1:]); got != "5 " {
		t.Fatal(got)
	}
}

// Too few replicas in sync for acks=all; the others of the list do not mind.
func TestAppendAllRefuses(t *testing.T) {
	b := newBench(t)
	st := alone("os")
	st.MinISR = 2
	p := b.apply(st)
	all := direct(1, someBatch(t, 1), someBatch(t, 1), someBatch(t, 1))
	all[1].Acks = -1
	p.AppendAll(all, 0)
	if got, want := outcome(all), fmt.Sprintf("0 !%d 1 ", kerr.NotEnoughReplicas.Code); got != want {
		t.Fatalf("%q, want %q", got, want)
	}
}

// A write that fails is heard by all whose batches it held, and by no other: those that were
// in the file before, and those that come behind.
func TestAppendAllFailedWrite(t *testing.T) {
	code := kerr.KafkaStorageError.Code
	for _, c := range []struct {
		name    string
		batches func(t *testing.T) [][]byte
		fails   int // which write to the log's file
		want    string
		next    string
	}{
		{"all staged", func(t *testing.T) [][]byte { return [][]byte{someBatch(t, 1), someBatch(t, 1)} }, 1,
			fmt.Sprintf("!%d !%d ", code, code), "0 "},
		// The large one is written at once, with what was staged before it.
		{"within an append", func(t *testing.T) [][]byte {
			return [][]byte{someBatch(t, 1), someBatch(t, 1), largeBatch(t), someBatch(t, 1)}
		}, 1, fmt.Sprintf("!%d !%d !%d 0 ", code, code, code), "1 "},
		{"after a write", func(t *testing.T) [][]byte {
			return [][]byte{someBatch(t, 1), largeBatch(t), someBatch(t, 1)}
		}, 3, fmt.Sprintf("0 1 !%d ", code), "2 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, faults := newFaultyBench(t)
			p := b.apply(alone("os"))
			faults.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Skip: c.fails - 1, Times: 1, Short: 50, Err: errors.New("no space left on device")})
			all := direct(1, c.batches(t)...)
			p.AppendAll(all, 0)
			if got := outcome(all); got != c.want {
				t.Fatalf("%q, want %q", got, c.want)
			}
			next := direct(1, someBatch(t, 1))
			p.AppendAll(next, 0)
			if got := outcome(next); got != c.next {
				t.Fatalf("then %q, want %q", got, c.next)
			}
		})
	}
}

// Between Takes and AppendAll the policy may change, or a replica may come: then the ack is
// waited for after all, though not for long.
func TestDirectThatHasToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		p := b.apply(alone("os"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.m.Run(ctx) }()
		all := direct(1, someBatch(t, 1), someBatch(t, 1))
		all[1].Acks = -1
		for _, d := range all {
			if !p.Takes(d.Records, d.NowMs, d.Acks) {
				t.Fatal("not taken")
			}
		}
		st := alone("commit")
		st.PartitionEpoch = 2
		b.apply(st)
		p.AppendAll(all, 0)
		if all[0].late == nil || all[1].late == nil {
			t.Fatal("vouched for before the sync")
		}
		if got := outcome(all); got != "0 1 " {
			t.Fatal(got)
		}
		if s := p.Stats(); s.Flushed != 2 {
			t.Fatalf("%+v", s)
		}
		st = alone("os")
		st.PartitionEpoch, st.ISR, st.Replicas = 3, append(st.ISR, model.Pair{ID: 2, Epoch: 20}), []model.BrokerID{1, 2}
		b.apply(st)
		all = direct(-1, someBatch(t, 1), someBatch(t, 1), someBatch(t, 1))
		all[1].Acks = 1
		p.AppendAll(all, 0)
		began := time.Now()
		if got, want := outcome(all), fmt.Sprintf("!%d 3 !%d ", kerr.RequestTimedOut.Code, kerr.RequestTimedOut.Code); got != want || time.Since(began) != lateWait {
			t.Fatalf("%q after %v, want %q", got, time.Since(began), want)
		}
		cancel()
		if err := errors.Join(<-done, b.m.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// Takes and AppendAll of a small batch allocate nothing.
func TestDirectAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; this runs without it too")
	}
	b := newBench(t)
	p := b.apply(alone("os"))
	all := direct(-1, someBatch(t, 10), someBatch(t, 1))
	step := func() {
		for _, d := range all {
			record.Batch(d.Records).SetBaseOffset(0)
			if !p.Takes(d.Records, d.NowMs, d.Acks) {
				t.Fatal("not taken")
			}
		}
		p.AppendAll(all, 0)
	}
	for range 100 {
		step()
	}
	// The memory disk grows its file now and then; the rest must be nothing.
	if n := testing.AllocsPerRun(1000, step); n >= 1 {
		t.Errorf("%v allocations for two batches", n)
	}
}

// A log that breaks for good within a list takes all of it along, at once: what is in the file
// already is not vouched for any more.
func TestAppendAllBreaksTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, faults := newFaultyBench(t)
		p := b.apply(alone("os"))
		boom := errors.New("broken")
		faults.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Skip: 2, Times: 1, Short: 50, Err: boom})
		faults.Add(vfs.Rule{Op: vfs.OpTruncate, Path: "*.log", Times: 1, Err: boom})
		all := direct(1, someBatch(t, 1), largeBatch(t), someBatch(t, 1))
		began := time.Now()
		p.AppendAll(all, 0)
		code := kerr.KafkaStorageError.Code
		if got, want := outcome(all), fmt.Sprintf("!%d !%d !%d ", code, code, code); got != want || time.Now() != began {
			t.Errorf("%q after %v, want %q at once", got, time.Since(began), want)
		}
		_ = b.m.Close()
	})
}

// A log that is on the disk when it is opened is none of the background flush's business.
func TestFlushedLogIsNotNoted(t *testing.T) {
	b := newBench(t)
	p := b.apply(alone("os"))
	p.AppendAll(direct(1, someBatch(t, 1)), 0)
	if err := b.m.Close(); err != nil {
		t.Fatal(err)
	}
	b.open()
	if p = b.apply(alone("os")); p.mu.unsynced {
		t.Errorf("noted, though flushed %d of %d", p.mu.log.FlushedOffset(), p.mu.log.EndOffset())
	}
}
