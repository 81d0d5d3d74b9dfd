package replica

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// topic gives the manager topic "t" with n partitions that this broker leads alone.
func (b *bench) topic(n int, policy string) []*Partition {
	b.t.Helper()
	b.rev++
	im := meta.EmptyImage()
	im.Revision = b.rev
	t := &meta.Topic{ID: b.tid, Name: "t"}
	for range n {
		st := alone(policy)
		t.Partitions = append(t.Partitions, &st)
	}
	im.Topics["t"], im.TopicsByID[b.tid] = t, t
	b.im = im
	b.m.Apply(im)
	parts := make([]*Partition, n)
	for i := range parts {
		p, err := b.m.Lookup([]byte("t"), int32(i))
		if err != nil {
			b.t.Fatal(err)
		}
		parts[i] = p
	}
	return parts
}

// run starts the manager's loops; the result ends them.
func (b *bench) run() (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error)
	go func() { done <- b.m.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
}

func (b *bench) write(p *Partition, w Waiter, slot int32) {
	b.t.Helper()
	if _, err := b.append(p, -1, w, slot); err != nil {
		b.t.Fatal(err)
	}
	p.Write()
}

// Partitions that wait for durability together share one sync, of the journal; their own
// files follow with the background flush, after which the journal forgets.
func TestPartitionsShareASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		_ = b.m.Close()
		faults := vfs.NewFaults(b.disk)
		var mu sync.Mutex
		var synced []string
		taken := func() []string {
			mu.Lock()
			defer mu.Unlock()
			got := synced
			synced = nil
			return got
		}
		hold := make(chan struct{})
		faults.Add(vfs.Rule{Op: vfs.OpDatasync, Hook: func(_ vfs.Op, name string) {
			mu.Lock()
			synced = append(synced, path.Ext(name))
			mu.Unlock()
			<-hold
		}})
		b.fs = faults
		b.open()
		parts := b.topic(5, "commit")
		stop := b.run()
		var w acks
		b.write(parts[0], &w, 0)
		synctest.Wait() // slot 0 is in the disk's hands
		for i, p := range parts[1:] {
			b.write(p, &w, int32(i+1))
		}
		close(hold)
		synctest.Wait()
		if got := w.take(); got != "[0/7:0 1/7:0 2/7:0 3/7:0 4/7:0]" {
			t.Fatalf("acked %s", got)
		}
		if got := fmt.Sprint(taken()); got != "[.journal .journal]" {
			t.Fatalf("synced %s for one partition, then four", got)
		}
		for _, p := range parts {
			if s := p.Stats(); s.Flushed != 1 || s.HighWatermark != 1 {
				t.Fatalf("%+v", s)
			}
		}
		<-time.After(b.m.o.FlushInterval + time.Millisecond) // the next flush round
		synctest.Wait()
		logs := 0
		all := taken()
		for _, ext := range all {
			if ext == ".log" {
				logs++
			}
		}
		if logs != len(parts) {
			t.Fatalf("the flush round synced %v, want the logs of %d partitions", all, len(parts))
		}
		// Everything the journal has was released: a power cut needs nothing of it.
		disk := b.disk.CrashClone(0)
		if err := disk.RemoveAll("/data/journal"); err != nil {
			t.Fatal(err)
		}
		d, err := storage.OpenDir(disk, "/data", storage.DirOptions{ClusterID: "c", NodeID: 1, BootID: "other"})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			l, _, err := d.OpenLog(p.ID, storage.Options{})
			if err != nil || l.EndOffset() != 1 {
				t.Fatalf("%v: end %d, %v", p.ID, l.EndOffset(), err)
			}
		}
		_ = d.Close()
		stop()
		_ = b.m.Close()
	})
}

// A power cut right after the answers loses nothing, though no log was synced; on a disk
// that only pretends to sync the journal it loses all, or this would prove nothing.
func TestAckedSurvivesPowerCut(t *testing.T) {
	for lie, kept := range map[bool]model.Offset{false: 20, true: 0} {
		synctest.Test(t, func(t *testing.T) { ackedSurvives(t, lie, kept) })
	}
}

func ackedSurvives(t *testing.T, lie bool, kept model.Offset) {
	b := newBench(t)
	if lie {
		_ = b.m.Close()
		faults := vfs.NewFaults(b.disk)
		faults.Add(vfs.Rule{Op: vfs.OpDatasync, Path: "*.journal", Lie: true})
		b.fs = faults
		b.open()
	}
	parts := b.topic(3, "commit")
	stop := b.run()
	var w acks
	for round := range 20 {
		for i, p := range parts {
			b.write(p, &w, int32(i))
		}
		synctest.Wait()
		if got := w.take(); got != "[0/7:0 1/7:0 2/7:0]" {
			t.Fatalf("round %d: acked %s", round, got)
		}
	}
	disk := b.disk.CrashClone(0)
	stop()
	_ = b.m.Close()
	b.disk, b.fs = disk, disk
	b.open()
	for _, p := range b.topic(3, "commit") {
		if s := p.Stats(); s.LogEnd != kept {
			t.Errorf("%v: %d of 20 acknowledged records, want %d (the disk lies: %v)", p.TP, s.LogEnd, kept, lie)
		}
	}
	_ = b.m.Close()
}

// A failed sync of the journal is as final as that of a log: all who waited for it fail,
// and nothing is taken any more.
func TestFailedJournalSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, faults := newFaultyBench(t)
		parts := b.topic(2, "commit")
		faults.Add(vfs.Rule{Op: vfs.OpDatasync, Path: "*.journal", Times: 1, Err: errors.New("disk on fire")})
		stop := b.run()
		var w [2]acks
		for i, p := range parts {
			b.write(p, &w[i], 0)
		}
		synctest.Wait()
		for i, p := range parts {
			if got := w[i].take(); got != fmt.Sprintf("[0/7:%d]", kerr.KafkaStorageError.Code) {
				t.Errorf("acked %s", got)
			}
			if _, err := b.append(p, 1, &w[i], 0); !errors.Is(err, kerr.KafkaStorageError) {
				t.Errorf("append after a failed sync: %v", err)
			}
		}
		stop()
		_ = b.m.Close()
	})
}

// With policy os, too, what was written is on the disk within FlushInterval, in whatever way
// it came: staged and written, written when it was appended, or answered at once.
func TestBackgroundFlush(t *testing.T) {
	for name, write := range map[string]func(p *Partition, b []byte){
		"Append": func(p *Partition, b []byte) {
			if _, err := p.Append(b, time.Now().UnixMilli(), Ack{}); err != nil {
				t.Error(err)
			}
			p.Write()
		},
		"AppendAll": func(p *Partition, b []byte) { p.AppendAll(direct(1, b), 0) },
	} {
		for size, batch := range map[string]func(testing.TB) []byte{
			"small": func(t testing.TB) []byte { return someBatch(t, 1) }, "large": largeBatch,
		} {
			t.Run(name+" "+size, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					p := b.apply(alone("os"))
					stop := b.run()
					for range 3 {
						write(p, batch(t))
						<-time.After(5 * time.Second)
						synctest.Wait()
						if s := p.Stats(); s.Flushed != s.LogEnd {
							t.Fatalf("after the interval: flushed %d of %d", s.Flushed, s.LogEnd)
						}
					}
					stop()
				})
			})
		}
	}
}
