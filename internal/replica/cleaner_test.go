package replica

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
)

// cleanBench is a manager whose topics are compacted, with a disk that can fail.
type cleanBench struct {
	*bench
	disk  *vfs.Faults
	rate  float64
	off   bool
	parts []*Partition
}

func newCleanBench(t *testing.T, partitions int) *cleanBench {
	b := newBench(t)
	_ = b.m.Close()
	c := &cleanBench{bench: b, disk: vfs.NewFaults(b.disk), rate: 1e18}
	b.fs = c.disk
	b.open()
	b.m.o.Settings = func(*meta.Image, *meta.Topic) (Settings, error) {
		return Settings{
			Storage:    storage.Options{SegmentBytes: 300},
			Compaction: Compaction{Enabled: true, MinDirtyRatio: 0.1, DeleteRetention: time.Hour},
		}, nil
	}
	b.m.o.Cleaner = func() CleanerSettings {
		return CleanerSettings{Enabled: !c.off, Threads: 1, Backoff: time.Second, DedupeBytes: 1 << 20, LoadFactor: 0.9, BufferBytes: 8192, BytesPerSecond: c.rate}
	}
	im := meta.EmptyImage()
	im.Revision = 1
	topic := &meta.Topic{ID: b.tid, Name: "t"}
	for range partitions {
		st := alone("commit")
		topic.Partitions = append(topic.Partitions, &st)
	}
	im.Topics["t"], im.TopicsByID[b.tid] = topic, topic
	b.im = im
	b.m.Apply(im)
	for i := range partitions {
		p, err := b.m.Lookup([]byte("t"), int32(i))
		if err != nil {
			t.Fatal(err)
		}
		c.parts = append(c.parts, p)
	}
	return c
}

// run runs the background work until the end of the test.
func (c *cleanBench) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.m.Run(ctx) }()
	return func() { cancel(); <-done }
}

// rest syncs everything, without cleaning.
func (c *cleanBench) rest() {
	c.off = true
	stop := c.run()
	<-time.After(time.Minute)
	stop()
	c.off = false
}

// put appends n records of one key, each in a segment of its own.
func (c *cleanBench) put(p *Partition, n int) {
	c.t.Helper()
	for i := range n {
		b, err := record.Build(nil, record.NewTemplate(), []record.Record{{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: []byte(strings.Repeat("v", 200))}})
		if err == nil {
			_, err = p.Append(b, time.Now().UnixMilli(), Ack{})
		}
		if err != nil {
			c.t.Fatal(i, err)
		}
		p.Write()
	}
}

// recordsOf is how many records of some 270 bytes the partition has: a cleaned one has one
// that is closed, and that of the segment that grows.
func recordsOf(p *Partition) int64 { return p.Stats().Bytes / 270 }

func (c *cleanBench) log(p *Partition) string {
	return fmt.Sprintf("%s/%020d.log", p.Path(), 0)
}

// A log that cannot be cleaned is left alone, said so, and still served; the others are
// cleaned.
func TestUncleanableIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCleanBench(t, 3)
		bad := c.parts[1]
		for _, p := range c.parts {
			c.put(p, 4)
		}
		f, err := c.disk.OpenReadWrite(c.log(bad))
		if err == nil {
			_, err = f.WriteAt([]byte{0xff}, 90) // under the first batch's checksum
		}
		if err != nil {
			t.Fatal(err)
		}
		stop := c.run()
		<-time.After(time.Minute)
		for i, p := range c.parts {
			cl, _ := p.Cleaning()
			if want := p == bad; (cl.Uncleanable != nil) != want || (recordsOf(p) == 2) == want {
				t.Errorf("partition %d: %+v, %d records", i, cl, recordsOf(p))
			}
		}
		if _, err := c.append(bad, 0, nil, 0); err != nil {
			t.Error(err)
		}
		if rounds := c.m.CleanerStats().Rounds; rounds != 3 {
			t.Errorf("%d rounds: the bad log is tried again", rounds)
		}
		stop()
		_ = c.m.Close()
	})
}

// A full disk ends a round, not the log nor its chance to be cleaned later.
func TestFullDiskIsNotFatalToCleaning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCleanBench(t, 1)
		p := c.parts[0]
		c.put(p, 4)
		c.disk.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.cleaned", Err: syscall.ENOSPC})
		stop := c.run()
		<-time.After(2 * time.Minute)
		if cl, _ := p.Cleaning(); cl.Uncleanable != nil || recordsOf(p) != 4 || cl.CleanedMs != 0 {
			t.Errorf("%+v, %d records", cl, recordsOf(p))
		}
		if rounds := c.m.CleanerStats().Rounds; rounds < 2 || rounds > 10 {
			t.Errorf("%d rounds in two minutes", rounds)
		}
		c.disk.Clear()
		<-time.After(time.Minute)
		if recordsOf(p) != 2 {
			t.Errorf("%d records once there is room", recordsOf(p))
		}
		stop()
		_ = c.m.Close()
	})
}

// What is read and written stays below the rate, the work stops at once with the manager
// in the middle of a wait, leaves no files behind, and a topic can be deleted meanwhile.
func TestCleanerRateAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCleanBench(t, 2)
		c.rate = 100
		for _, p := range c.parts {
			c.put(p, 5) // 4 closed segments of some 270 bytes
		}
		stop := c.run()
		<-time.After(20 * time.Second)
		if st := c.m.CleanerStats(); st.Running != 1 || st.ReadBytes > 20*100+300 {
			t.Errorf("after 20 s at 100 bytes per second: %+v", st)
		}
		<-time.After(5 * time.Second)
		before := time.Now()
		stop()
		if took := time.Since(before); took != 0 {
			t.Errorf("stopping took %v", took)
		}
		for _, p := range c.parts {
			names, err := c.fs.List(p.Path())
			if err != nil || strings.Contains(strings.Join(names, " "), ".cleaned") {
				t.Errorf("%q, %v", names, err)
			}
		}
		stop = c.run()
		<-time.After(10 * time.Second)
		gone := meta.EmptyImage()
		gone.Revision = 2
		gone.Tombstones = map[model.TopicID]string{c.tid: "t"}
		c.m.Apply(gone)
		<-time.After(time.Minute)
		if st := c.m.CleanerStats(); st.Running != 0 {
			t.Errorf("a deleted topic is still cleaned: %+v", st)
		}
		stop()
		if err := c.m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Readers and writers go on while the disk works for the cleaner.
func TestCleaningHoldsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCleanBench(t, 1)
		p := c.parts[0]
		c.put(p, 4)
		hold := make(chan struct{})
		var held atomic.Int32
		for _, op := range []vfs.Op{vfs.OpWriteAt, vfs.OpSync} {
			c.disk.Add(vfs.Rule{Op: op, Path: "*.cleaned", Times: 1, Hook: func(vfs.Op, string) { held.Add(1); <-hold }})
		}
		stop := c.run()
		for i := range 2 {
			<-time.After(5 * time.Second)
			if int(held.Load()) != i+1 {
				t.Fatalf("held %d times", held.Load())
			}
			c.put(p, 1)
			if r, err := p.Read(ReadArgs{CurrentEpoch: -1, LastEpoch: -1, MaxBytes: 1000, MinOne: true}); err != nil || r.View.Len == 0 {
				t.Error(err)
			} else {
				r.View.Release()
			}
			if cl, _ := p.Cleaning(); !cl.Running {
				t.Error("not running")
			}
			hold <- struct{}{}
		}
		<-time.After(5 * time.Second)
		stop()
		if cl, _ := p.Cleaning(); cl.CleanedMs == 0 || cl.Running {
			t.Errorf("%+v", cl)
		}
		_ = c.m.Close()
	})
}

// Of the logs that are due the one with the largest dirty share is cleaned first.
func TestDirtiestLogFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCleanBench(t, 3)
		for _, p := range c.parts {
			c.put(p, 3)
		}
		stop := c.run()
		<-time.After(time.Minute)
		stop()
		for i, n := range []int{2, 4, 3} { // beside one clean segment each
			c.put(c.parts[i], n)
		}
		c.rest()
		c.rate = 1
		stop = c.run()
		<-time.After(20 * time.Second)
		for i, p := range c.parts {
			if cl, _ := p.Cleaning(); cl.Running != (i == 1) {
				t.Errorf("partition %d: %+v", i, cl)
			}
		}
		stop()
		_ = c.m.Close()
	})
}

// The threads share the memory for keys and for reading and writing.
func TestCleanerThreadsShareMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCleanBench(t, 1)
		c.put(c.parts[0], 3)
		c.rest()
		s := c.m.o.Cleaner()
		s.Threads, s.DedupeBytes, s.BufferBytes = 4, 4000, 8000
		p, a, found := c.m.cleaner.dirtiest(s)
		if !found || p != c.parts[0] || a.MapBytes != 1000 || a.BufferBytes != 1000 {
			t.Errorf("found %v, %d bytes for keys, buffers of %d", found, a.MapBytes, a.BufferBytes)
		}
		p.mu.Lock()
		p.mu.cleaning = false
		p.mu.Unlock()
		_ = c.m.Close()
	})
}

// log.cleaner.enable=false stops cleaning and nothing else; what not every
// in-sync replica has, beyond the watermark, is not cleaned either.
func TestNothingIsCleanedThatMustNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCleanBench(t, 1)
		p := c.parts[0]
		c.put(p, 4)
		c.rest()
		if cl, _ := p.Cleaning(); cl.CleanedMs != 0 || recordsOf(p) != 4 {
			t.Errorf("cleaned while it is off: %+v, %d records", cl, recordsOf(p))
		}
		// Another replica joins the in-sync set; it never fetches, so the watermark stays.
		im := *c.im
		im.Revision++
		topic := *im.Topics["t"]
		st := *topic.Partitions[0]
		st.PartitionEpoch, st.LeaderEpoch = st.PartitionEpoch+1, st.LeaderEpoch+1
		st.Replicas, st.ISR = append(st.Replicas, 2), append(st.ISR, model.Pair{ID: 2, Epoch: 1})
		topic.Partitions = []*meta.PartitionState{&st}
		im.Topics, im.TopicsByID = map[string]*meta.Topic{"t": &topic}, map[model.TopicID]*meta.Topic{c.tid: &topic}
		c.m.Apply(&im)
		stop := c.run()
		<-time.After(time.Minute)
		stop()
		c.put(p, 3)
		stop = c.run()
		<-time.After(time.Minute)
		stop()
		if s := p.Stats(); s.HighWatermark != 4 || s.Flushed != 7 || recordsOf(p) != 4 {
			t.Errorf("%+v, %d records: the last of the first four and the three behind it were to stay", s, recordsOf(p))
		}
		_ = c.m.Close()
	})
}
