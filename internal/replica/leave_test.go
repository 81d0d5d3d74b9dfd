package replica

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// parked records what a parked fetch is told.
type parked struct{ told []int }

func (f *parked) Available(_, n int) { f.told = append(f.told, n) }

// Whoever is parked on a partition hears at once that it must be asked again: when this
// broker leads it no longer, when its log failed, when its start moved.
func TestParkedFetchHearsOfTheEnd(t *testing.T) {
	leave := map[string]func(b *bench, p *Partition, faults *vfs.Faults){
		"leadership": func(b *bench, p *Partition, _ *vfs.Faults) {
			st := alone("os")
			st.PartitionEpoch, st.LeaderEpoch, st.Leader = 2, 2, model.Pair{ID: model.NoBroker}
			b.apply(st)
		},
		"failed sync": func(b *bench, p *Partition, faults *vfs.Faults) {
			faults.Add(vfs.Rule{Op: vfs.OpDatasync, Path: "*.log", Err: errors.New("disk on fire")})
			p.sync(nil)
		},
		"deleted records": func(b *bench, p *Partition, _ *vfs.Faults) {
			if _, err := p.DeleteRecords(1); err != nil {
				b.t.Fatal(err)
			}
		},
		"deleted topic": func(b *bench, p *Partition, _ *vfs.Faults) {
			dead := meta.EmptyImage()
			dead.Revision, dead.Tombstones[b.tid] = 101, "t"
			b.m.Apply(dead)
		},
	}
	for name, f := range leave {
		t.Run(name, func(t *testing.T) {
			b, faults := newFaultyBench(t)
			p := b.apply(alone("os"))
			if _, err := b.append(p, 0, nil, 0); err != nil {
				t.Fatal(err)
			}
			p.Write()
			var w FetchWatch
			var owner parked
			if n := p.Watch(&w, &owner, 0, ReadArgs{From: 1, CurrentEpoch: -1, LastEpoch: -1, MaxBytes: 100}); n != 0 {
				t.Fatal(n)
			}
			f(b, p, faults)
			if fmt.Sprint(owner.told) != "[-1]" {
				t.Fatalf("told %v, want that it is asked again", owner.told)
			}
			p.Unwatch(&w)
		})
	}
}

// A new epoch of the same leader: what was staged is in the log under the epoch that it
// was staged under, and its producers are told to ask again, since acks=all was promised
// by the epoch that is over.
func TestNewEpochOfTheSameLeader(t *testing.T) {
	b := newBench(t)
	two := model.Pair{ID: 2, Epoch: 20}
	st := alone("os")
	st.ISR, st.Replicas = []model.Pair{self, two}, []model.BrokerID{1, 2}
	p := b.apply(st)
	var w acks
	if _, err := b.append(p, -1, &w, 0); err != nil {
		t.Fatal(err)
	}
	st.PartitionEpoch, st.LeaderEpoch = 2, 2
	b.apply(st)
	if got, want := w.take(), fmt.Sprintf("[0/7:%d]", kerr.NotLeaderOrFollower.Code); got != want {
		t.Fatalf("acked %s, want %s", got, want)
	}
	if s := p.Stats(); s.LogEnd != 1 || s.LeaderEpoch != 2 {
		t.Fatalf("%+v", s)
	}
	buf := make([]byte, 1<<10)
	n, _, err := p.At(2).Read(0, buf)
	if err != nil || record.Batch(buf[:n]).LeaderEpoch() != 1 {
		t.Fatalf("the batch carries epoch %d, %v; it was staged under 1", record.Batch(buf[:n]).LeaderEpoch(), err)
	}
	// Its watermark is behind the epoch's start: nobody knows yet where the committed part ends.
	if _, err := p.ListOffset(LatestTimestamp, -1); !errors.Is(err, kerr.OffsetNotAvailable) {
		t.Fatalf("the latest offset: %v", err)
	}
}

// A failed write is heard by all whose batches it held, and later writers are not.
func TestFailedWriteTellsWhoWaits(t *testing.T) {
	b, faults := newFaultyBench(t)
	p := b.apply(alone("os"))
	var w acks
	for slot, ackOf := range []int16{1, -1} {
		if _, err := b.append(p, ackOf, &w, int32(slot)); err != nil {
			t.Fatal(err)
		}
	}
	faults.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Times: 1, Short: 50, Err: errors.New("no space left on device")})
	p.Write()
	code := kerr.KafkaStorageError.Code
	if got, want := w.take(), fmt.Sprintf("[0/7:%d 1/7:%d]", code, code); got != want {
		t.Fatalf("acked %s, want %s", got, want)
	}
	if off, err := b.append(p, 1, &w, 2); err != nil || off != 0 {
		t.Fatal(off, err)
	}
	p.Write()
	if got := w.take(); got != "[2/7:0]" {
		t.Fatalf("acked %s", got)
	}
}

// flush.messages=1: with policy os, too, nobody is answered before the sync.
func TestFlushMessagesHoldsAcks(t *testing.T) {
	b := newBench(t)
	b.m.o.Settings = func(*meta.Image, *meta.Topic) (Settings, error) { return Settings{FlushMessages: 1}, nil }
	p := b.apply(alone("os"))
	var w acks
	if _, err := b.append(p, 1, &w, 0); err != nil {
		t.Fatal(err)
	}
	p.Write()
	if got := w.take(); got != "[]" {
		t.Fatalf("acked %s before the sync", got)
	}
	if !p.sync(nil) {
		t.Fatal("the sync failed")
	}
	if got := w.take(); got != "[0/7:0]" {
		t.Fatalf("acked %s", got)
	}
}

// Each life deletes a topic that it has written through the journal, and ends in a crash.
// The journal does not grow with the lives: what it holds of the deleted topic would
// otherwise wait for ever for its log to be opened.
func TestJournalForgetsDeletedTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		dead := meta.EmptyImage()
		for life := range 8 {
			stop := b.run()
			p := b.apply(alone("commit"))
			var w acks
			b.write(p, &w, 0)
			synctest.Wait()
			if got := w.take(); got != "[0/7:0]" {
				t.Fatalf("life %d: acked %s", life, got)
			}
			b.rev++
			dead.Revision, dead.Tombstones[b.tid] = b.rev, "t"
			b.m.Apply(dead)
			stop()
			after := b.disk.CrashClone(uint64(life))
			_ = b.m.Close() // of the life that the crash has ended
			b.disk, b.fs, b.tid = after, after, model.NewTopicID()
			b.open()
			b.m.Apply(dead)
			if err := b.m.RemoveStale(dead); err != nil {
				t.Fatal(err)
			}
			if left := b.m.dirs[0].d.Journal().Left(); len(left) > 0 {
				t.Fatalf("life %d: the journal waits for %v", life, left)
			}
		}
		files, err := b.disk.List("/data/journal")
		if err != nil {
			t.Fatal(err)
		}
		if len(files) > 2 {
			t.Errorf("the journal has %d files after 8 lives: %v", len(files), files)
		}
		_ = b.m.Close()
	})
}
