package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// acks records what a waiter is told.
type acks struct{ told []string }

func (a *acks) Acked(slot int32, gen uint32, err error) {
	a.told = append(a.told, fmt.Sprintf("%d/%d:%d", slot, gen, kerr.Code(err)))
}

// take returns what was told since the last call.
func (a *acks) take() string {
	s := fmt.Sprint(a.told)
	a.told = nil
	return s
}

var self = model.Pair{ID: 1, Epoch: 10}

type bench struct {
	t    testing.TB
	disk *vfs.Mem
	fs   vfs.FS
	m    *Manager
	im   *meta.Image
	tid  model.TopicID
	rev  int64
}

// newBench gives a manager on a memory disk with no topics.
func newBench(t testing.TB) *bench {
	b := &bench{t: t, disk: vfs.NewMem(), tid: model.NewTopicID()}
	b.fs = b.disk
	b.open()
	return b
}

// newFaultyBench is newBench on a disk whose operations can be made to fail.
func newFaultyBench(t testing.TB) (*bench, *vfs.Faults) {
	b := newBench(t)
	_ = b.m.Close()
	faults := vfs.NewFaults(b.disk)
	b.fs = faults
	b.open()
	return b, faults
}

func (b *bench) open() {
	b.t.Helper()
	d, err := storage.OpenDir(b.fs, "/data", storage.DirOptions{ClusterID: "c", NodeID: 1, BootID: "boot"})
	if err != nil {
		b.t.Fatal(err)
	}
	b.m = New(Options{
		Self:     func() model.Pair { return self },
		Dirs:     []*storage.Dir{d},
		Settings: func(*meta.Image, *meta.Topic) (Settings, error) { return Settings{}, nil },
		Clock:    model.SystemClock(),
		Logger:   slog.New(slog.DiscardHandler),
	})
}

// apply gives the manager one topic "t" with one partition in that state.
func (b *bench) apply(st meta.PartitionState) *Partition {
	b.t.Helper()
	b.rev++
	im := meta.EmptyImage()
	im.Revision = b.rev
	t := &meta.Topic{ID: b.tid, Name: "t", Partitions: []*meta.PartitionState{&st}}
	im.Topics["t"], im.TopicsByID[b.tid] = t, t
	b.im = im
	b.m.Apply(im)
	p, err := b.m.Lookup([]byte("t"), 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// alone is the state of a partition whose only replica is this broker.
func alone(policy string) meta.PartitionState {
	return meta.PartitionState{
		PartitionEpoch: 1, LeaderEpoch: 1, Leader: self, ISR: []model.Pair{self},
		Replicas: []model.BrokerID{1}, MinISR: 1, FlushPolicy: policy,
	}
}

func someBatch(t testing.TB, n int) []byte {
	recs := make([]record.Record, n)
	for i := range recs {
		recs[i] = record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("some value")}
	}
	batch, err := record.Build(nil, record.NewTemplate(), recs)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// append stages a batch and returns its base offset.
func (b *bench) append(p *Partition, acks int16, w Waiter, slot int32) (model.Offset, error) {
	a, err := p.Append(someBatch(b.t, 1), time.Now().UnixMilli(), Ack{Acks: acks, W: w, Slot: slot, Gen: 7})
	return a.BaseOffset, err
}

// With policy os the leader vouches as soon as the write returned, never before.
func TestAckAfterWrite(t *testing.T) {
	b := newBench(t)
	p := b.apply(alone("os"))
	var w acks
	for slot, acks := range []int16{1, -1, 0} {
		if off, err := b.append(p, acks, &w, int32(slot)); err != nil || off != model.Offset(slot) {
			t.Fatal(off, err)
		}
	}
	if got := w.take(); got != "[]" {
		t.Fatalf("acked %s before anything was written", got)
	}
	p.Write()
	if got := w.take(); got != "[0/7:0 1/7:0]" {
		t.Fatalf("acked %s; acks=0 has nobody to tell", got)
	}
	if s := p.Stats(); s.HighWatermark != 3 || s.Flushed != 0 {
		t.Fatalf("%+v", s)
	}
}

// With policy commit nobody hears anything before the sync, and one sync serves all.
func TestAckAfterSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		syncs := 0
		hold := make(chan struct{})
		faults := vfs.NewFaults(b.disk)
		faults.Add(vfs.Rule{Op: vfs.OpDatasync, Hook: func(vfs.Op, string) { syncs++; <-hold }})
		b.fs = faults
		_ = b.m.Close()
		b.open()
		p := b.apply(alone("commit"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.m.Run(ctx) }()
		var w acks
		first := func(slot int32) {
			if _, err := b.append(p, -1, &w, slot); err != nil {
				t.Fatal(err)
			}
			p.Write()
		}
		first(0)
		synctest.Wait() // the sync of slot 0 is in the disk's hands
		for slot := int32(1); slot < 5; slot++ {
			first(slot)
		}
		synctest.Wait()
		if got := w.take(); got != "[]" {
			t.Fatalf("acked %s while the sync runs", got)
		}
		if hw := p.Stats().HighWatermark; hw != 0 {
			t.Fatalf("high watermark %d over what is not on disk", hw)
		}
		before := syncs
		close(hold)
		synctest.Wait()
		if got := w.take(); got != "[0/7:0 1/7:0 2/7:0 3/7:0 4/7:0]" {
			t.Fatalf("acked %s", got)
		}
		if syncs-before != 1 {
			t.Fatalf("%d syncs for the four that waited together", syncs-before)
		}
		cancel()
		if err := errors.Join(<-done, b.m.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// acks=all waits for the second in-sync replica; acks=1 does not. The replica is played
// by the test.
func TestAcksAllWaitsForTheSecondReplica(t *testing.T) {
	b := newBench(t)
	two := model.Pair{ID: 2, Epoch: 20}
	st := alone("os")
	st.ISR, st.Replicas, st.MinISR = []model.Pair{self, two}, []model.BrokerID{1, 2}, 2
	p := b.apply(st)
	fetched := func(offset model.Offset) {
		p.mu.Lock()
		moved := p.mu.state.Fetched(two, offset, offset)
		p.releaseLocked(moved)
		p.mu.Unlock()
	}
	var w acks
	for slot, acks := range []int16{-1, 1, -1} {
		if _, err := b.append(p, acks, &w, int32(slot)); err != nil {
			t.Fatal(err)
		}
	}
	p.Write()
	if got := w.take(); got != "[1/7:0]" {
		t.Fatalf("acked %s, want acks=1 alone", got)
	}
	fetched(1)
	if got := w.take(); got != "[0/7:0]" {
		t.Fatalf("after the replica has offset 0: acked %s", got)
	}
	r, err := p.Read(ReadArgs{From: 1, CurrentEpoch: -1, LastEpoch: -1, MaxBytes: 1 << 20, MinOne: true})
	if err != nil || r.View.Len != 0 || r.HighWatermark != 1 {
		t.Fatalf("a consumer reads uncommitted records: %+v %v", r, err)
	}
	fetched(3)
	if got := w.take(); got != "[2/7:0]" {
		t.Fatalf("after the replica has all: acked %s", got)
	}
	// Alone in sync with min.insync.replicas=2: refused, and nothing appended.
	st.PartitionEpoch, st.ISR = 2, []model.Pair{self}
	b.apply(st)
	if _, err := b.append(p, -1, &w, 0); !errors.Is(err, kerr.NotEnoughReplicas) {
		t.Fatalf("acks=all with too few replicas: %v", err)
	}
	if end := p.Stats().LogEnd; end != 3 {
		t.Fatalf("the refused batch is in the log, which ends at %d", end)
	}
}

// An idempotent producer that retries what was committed long ago is answered at once,
// with the first offset, though nothing is appended and no position moves.
func TestDuplicateOfCommittedBatch(t *testing.T) {
	for _, policy := range []string{"os", "commit"} {
		b := newBench(t)
		p := b.apply(alone(policy))
		tmpl := record.NewTemplate()
		tmpl.ProducerID, tmpl.ProducerEpoch, tmpl.BaseSequence = 7, 0, 0
		send := func(acks int16, w Waiter) Appended {
			batch, err := record.Build(nil, tmpl, []record.Record{{Timestamp: time.Now().UnixMilli(), Value: []byte("v")}})
			if err != nil {
				t.Fatal(err)
			}
			a, err := p.Append(batch, time.Now().UnixMilli(), Ack{Acks: acks, W: w})
			if err != nil {
				t.Fatal(err)
			}
			p.Write()
			return a
		}
		var w acks
		send(-1, &w)
		if !p.sync(nil) {
			t.Fatal("the sync failed")
		}
		if got := w.take(); got != "[0/0:0]" {
			t.Fatalf("%s: the original: %s", policy, got)
		}
		for _, acks := range []int16{-1, 1} {
			if a := send(acks, &w); a.BaseOffset != 0 {
				t.Fatalf("%s: the duplicate is answered with offset %d", policy, a.BaseOffset)
			}
			if got := w.take(); got != "[0/0:0]" {
				t.Fatalf("%s: the duplicate with acks=%d: %s", policy, acks, got)
			}
		}
		if end := p.Stats().LogEnd; end != 1 {
			t.Fatalf("%s: the duplicate is in the log, which ends at %d", policy, end)
		}
	}
}

// Losing leadership fails those who wait, and they hear it once.
func TestLosingLeadershipFailsWaiters(t *testing.T) {
	b := newBench(t)
	two := model.Pair{ID: 2, Epoch: 20}
	st := alone("os")
	st.ISR, st.Replicas = []model.Pair{self, two}, []model.BrokerID{1, 2}
	p := b.apply(st)
	var w acks
	if _, err := b.append(p, -1, &w, 0); err != nil {
		t.Fatal(err)
	}
	p.Write()
	st.PartitionEpoch, st.LeaderEpoch, st.Leader = 2, 2, two
	b.apply(st)
	if got := w.take(); got != fmt.Sprintf("[0/7:%d]", kerr.NotLeaderOrFollower.Code) {
		t.Fatalf("acked %s", got)
	}
	if _, err := b.append(p, 1, &w, 0); !errors.Is(err, kerr.NotLeaderOrFollower) {
		t.Fatalf("append on a follower: %v", err)
	}
	// A registration that is not the elected pair does not lead either.
	st.PartitionEpoch, st.LeaderEpoch, st.Leader = 3, 3, model.Pair{ID: 1, Epoch: 9}
	b.apply(st)
	if _, err := p.Leader(); !errors.Is(err, kerr.NotLeaderOrFollower) {
		t.Fatalf("a former life leads: %v", err)
	}
	st.PartitionEpoch, st.LeaderEpoch, st.Leader = 4, 4, self
	b.apply(st)
	if e, err := p.Leader(); err != nil || e != 4 {
		t.Fatalf("epoch %d, %v", e, err)
	}
}

// A failed sync is final: what waits fails, and nothing is taken any more.
func TestFailedSyncIsFinal(t *testing.T) {
	b := newBench(t)
	_ = b.m.Close()
	faults := vfs.NewFaults(b.disk)
	faults.Add(vfs.Rule{Op: vfs.OpDatasync, Path: "*.log", Err: errors.New("disk on fire")})
	b.fs = faults
	b.open()
	var failed []DirFailure
	b.m.o.OnDirFailure = func(f DirFailure) { failed = append(failed, f) }
	p := b.apply(alone("commit"))
	var w acks
	if _, err := b.append(p, -1, &w, 0); err != nil {
		t.Fatal(err)
	}
	p.Write()
	if p.sync(nil) {
		t.Fatal("the failed sync is not reported")
	}
	if got := w.take(); got != fmt.Sprintf("[0/7:%d]", kerr.KafkaStorageError.Code) {
		t.Fatalf("acked %s", got)
	}
	if _, err := b.append(p, 1, &w, 0); !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("append after a failed sync: %v", err)
	}
	b.m.dirs[0].takeOffline()
	b.m.dirs[0].takeOffline()
	if len(failed) != 1 || failed[0].Path != "/data" || !failed[0].Last {
		t.Fatalf("failures reported: %v", failed)
	}
}

// Data goes on a tombstone only; a topic that metadata merely lacks keeps it.
func TestDataGoesOnTombstoneOnly(t *testing.T) {
	b := newBench(t)
	p := b.apply(alone("os"))
	if _, err := b.append(p, 0, nil, 0); err != nil {
		t.Fatal(err)
	}
	p.Write()
	empty := meta.EmptyImage()
	empty.Revision = 100
	b.m.Apply(empty)
	if ids, _ := b.m.dirs[0].d.Partitions(); len(ids) != 1 {
		t.Fatalf("the data of a topic that metadata lacks is gone")
	}
	dead := meta.EmptyImage()
	dead.Revision, dead.Tombstones[b.tid] = 101, "t"
	b.m.Apply(dead)
	if ids, _ := b.m.dirs[0].d.Partitions(); len(ids) != 0 {
		t.Fatalf("the data of a deleted topic is still there")
	}
	if _, err := b.m.Lookup([]byte("t"), 0); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatal(err)
	}
}

func TestWaitListOrder(t *testing.T) {
	var l waitList
	var w acks
	for _, end := range []model.Offset{5, 9, 3, 9, 4} { // 3 and 4 are duplicates of older batches
		l.add(waiter{end: end, w: &w, slot: int32(end)})
	}
	l.release(4)
	if got := w.take(); got != "[3/0:0 4/0:0]" {
		t.Fatal(got)
	}
	l.fail(8, kerr.NotLeaderOrFollower)
	if got := w.take(); got != "[9/0:6 9/0:6]" {
		t.Fatal(got)
	}
	l.release(100)
	if got := w.take(); got != "[5/0:0]" || len(l.q) != 0 {
		t.Fatal(got, len(l.q))
	}
}

type nobody struct{}

func (nobody) Acked(int32, uint32, error) {}

// Append, write, ack, and a read of a small batch allocate nothing.
func TestHotPathAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; this runs without it too")
	}
	b := newBench(t)
	p := b.apply(alone("os"))
	batch, now := someBatch(t, 10), time.Now().UnixMilli()
	w := nobody{}
	step := func() {
		record.Batch(batch).SetBaseOffset(0)
		if _, err := p.Append(batch, now, Ack{Acks: -1, W: w}); err != nil {
			t.Fatal(err)
		}
		p.Write()
		r, err := p.Read(ReadArgs{From: p.Stats().LogEnd - 10, CurrentEpoch: -1, LastEpoch: -1, MaxBytes: 1 << 20, MinOne: true})
		if err != nil || r.View.Len != len(batch) {
			t.Fatal(r.View.Len, err)
		}
		r.View.Release()
	}
	for range 100 {
		step()
	}
	// The memory disk grows its file now and then; the rest must be nothing.
	if n := testing.AllocsPerRun(1000, step); n >= 1 {
		t.Errorf("%v allocations per batch", n)
	}
}
