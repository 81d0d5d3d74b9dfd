package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// scrubBench is a manager with one topic whose every record of 270 bytes is a segment.
type scrubBench struct {
	*cleanBench
	scrub  atomic.Pointer[ScrubSettings]
	logged bytes.Buffer
	// compact: the topic is compacted.
	compact bool
	stop    func()
}

func newScrubBench(t *testing.T, partitions int) *scrubBench {
	s := &scrubBench{cleanBench: newCleanBench(t, partitions)}
	s.setRate(1e9)
	s.again()
	return s
}

// again opens the directory anew, as the next process would.
func (s *scrubBench) again() {
	s.t.Helper()
	if err := s.m.Close(); err != nil {
		s.t.Fatal(err)
	}
	parts := len(s.parts)
	s.parts = nil
	s.open()
	s.m.o.Scrub = func() ScrubSettings { return *s.scrub.Load() }
	s.m.o.Logger = slog.New(slog.NewTextHandler(&s.logged, &slog.HandlerOptions{Level: slog.LevelInfo}))
	s.m.o.Settings = func(*meta.Image, *meta.Topic) (Settings, error) {
		return Settings{
			Storage:    storage.Options{SegmentBytes: 300},
			Compaction: Compaction{Enabled: s.compact, MinDirtyRatio: 0.1, DeleteRetention: time.Hour},
		}, nil
	}
	s.m.o.Cleaner = func() CleanerSettings {
		return CleanerSettings{Enabled: true, Threads: 1, Backoff: time.Second, DedupeBytes: 1 << 20, LoadFactor: 0.9, BufferBytes: 8192, BytesPerSecond: 1e9}
	}
	s.m.Apply(s.im)
	for i := range parts {
		p, err := s.m.Lookup([]byte("t"), int32(i))
		if err != nil {
			s.t.Fatal(err)
		}
		s.parts = append(s.parts, p)
	}
}

func (s *scrubBench) setRate(perSecond float64) {
	s.scrub.Store(&ScrubSettings{BytesPerSecond: perSecond, Interval: time.Hour})
}

func (s *scrubBench) start() { s.stop = s.run() }

// end stops the work and closes the logs.
func (s *scrubBench) end() {
	s.t.Helper()
	s.stop()
	if err := s.m.Close(); err != nil {
		s.t.Error(err)
	}
}

func (s *scrubBench) spoil(name string, at int64) {
	s.t.Helper()
	f, err := s.disk.OpenReadWrite(name)
	if err != nil {
		s.t.Fatal(err)
	}
	b := []byte{0}
	_, err = f.ReadAt(b, at)
	b[0] ^= 0x10
	_, werr := f.WriteAt(b, at)
	if err := errors.Join(err, werr, f.Close()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scrubBench) state() Scrubbing { return s.m.Dirs()[0].Scrub }

// lines is how many lines of the log contain the text.
func (s *scrubBench) lines(text string) int { return strings.Count(s.logged.String(), text) }

func (s *scrubBench) readAt(p *Partition, from model.Offset) error {
	r, err := p.Read(ReadArgs{From: from, CurrentEpoch: -1, LastEpoch: -1, MaxBytes: 1, MinOne: true})
	if err == nil && r.View.Base != from {
		err = fmt.Errorf("base %d", r.View.Base)
	}
	r.View.Release()
	return err
}

const damagedLine = "a closed segment is damaged"

// Damage is found, said once, refused to readers and nothing else, remembered over a
// restart, and forgotten when it is gone.
func TestScrubberTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScrubBench(t, 3)
		for _, p := range s.parts {
			s.put(p, 4)
		}
		bad := s.parts[1]
		s.start()
		<-time.After(20 * time.Second) // synced, and not scrubbed yet
		s.spoil(s.log(bad), 100)
		<-time.After(time.Minute)
		want := func(when string, damaged, said int) {
			t.Helper()
			st := s.state()
			if st.Damaged != damaged || s.lines(damagedLine) != said || (len(bad.Damage()) == 1) != (damaged == 1) {
				t.Fatalf("%s: %+v, %v\n%s", when, st, bad.Damage(), s.logged.String())
			}
			if err := s.readAt(bad, 0); errors.Is(err, kerr.CorruptMessage) != (damaged == 1) {
				t.Fatalf("%s: a read gives %v", when, err)
			}
			for _, p := range s.parts {
				if p != bad && len(p.Damage()) > 0 || s.readAt(p, 1) != nil || s.readAt(p, 3) != nil {
					t.Errorf("%s: %s: %v", when, p.TP, p.Damage())
				}
			}
		}
		want("found", 1, 1)
		if st := s.state(); st.CompletedMs == 0 || st.Segments != 9 || st.ReadBytes < 9*250 || st.Running {
			t.Errorf("%+v", st)
		}
		if d := bad.Damage()[0]; d.First != 0 || d.Next != 1 || d.Places != 1 {
			t.Errorf("%+v", d)
		}
		<-time.After(2 * time.Hour)
		want("after more rounds", 1, 1)
		if st := s.state(); st.Segments != 27 {
			t.Errorf("%+v", st)
		}
		s.stop()
		s.again()
		bad = s.parts[1]
		if st := s.state(); st.Damaged != 0 { // Run has not read it yet
			t.Errorf("%+v", st)
		}
		s.start()
		<-time.After(time.Second)
		if s.state().Damaged != 1 {
			t.Error("the next process does not know of it")
		}
		<-time.After(time.Minute)
		want("restarted", 1, 1)
		if st := s.state(); st.Segments != 1 {
			t.Errorf("only what is damaged is looked at before the next round: %+v", st)
		}
		s.spoil(s.log(bad), 100)
		<-time.After(time.Hour)
		want("mended", 0, 1)
		s.spoil(s.log(bad), 100)
		<-time.After(time.Hour)
		want("damaged again", 1, 2)
		if _, err := bad.DeleteRecords(1); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		if st := s.state(); st.Damaged != 0 {
			t.Errorf("deleted: %+v", st)
		}
		s.end()
		if s.lines("WARN") != 1 { // that something was known at the restart
			t.Error(s.logged.String())
		}
	})
}

// What an earlier process found is checked again where scrubbing is switched off, too: it is
// refused, and forgotten once it is mended.
func TestKnownDamageIsCheckedThoughItIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScrubBench(t, 1)
		s.put(s.parts[0], 4)
		s.start()
		<-time.After(20 * time.Second)
		s.spoil(s.log(s.parts[0]), 100)
		<-time.After(time.Minute)
		s.setRate(0)
		for _, damaged := range []int{1, 0} {
			s.stop()
			s.again()
			if damaged == 0 {
				s.spoil(s.log(s.parts[0]), 100)
			}
			s.start()
			<-time.After(time.Minute)
			err := s.readAt(s.parts[0], 0)
			if st := s.state(); st.Damaged != damaged || st.Segments != 1 || errors.Is(err, kerr.CorruptMessage) != (damaged == 1) {
				t.Errorf("%+v, a read gives %v", st, err)
			}
		}
		s.end()
	})
}

// A damaged index is made anew with a warning, and is no damage.
func TestScrubberRebuilds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScrubBench(t, 1)
		p := s.parts[0]
		s.put(p, 3)
		s.start()
		<-time.After(20 * time.Second)
		s.spoil(strings.Replace(s.log(p), ".log", ".timeindex", 1), 3)
		<-time.After(time.Minute)
		if st := s.state(); st.Damaged != 0 || s.lines("level=WARN") != 1 || s.lines("made anew") != 1 {
			t.Errorf("%+v\n%s", st, s.logged.String())
		}
		s.end()
	})
}

// A round goes on where the last process was.
func TestScrubberGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScrubBench(t, 4)
		for _, p := range s.parts {
			s.put(p, 6)
		}
		s.setRate(100) // 4 s for each segment
		s.start()
		<-time.After(scrubDelay + 40*time.Second)
		first := s.state()
		if !first.Running || first.CompletedMs != 0 || first.Segments < 5 {
			t.Fatalf("%+v", first)
		}
		before := time.Now()
		s.stop()
		if took := time.Since(before); took != 0 {
			t.Errorf("stopping took %v", took)
		}
		s.again()
		s.setRate(1e9)
		s.start()
		<-time.After(time.Minute)
		if st := s.state(); st.Running || st.CompletedMs == 0 || st.Segments+first.Segments != 20 {
			t.Errorf("%+v after %+v", st, first)
		}
		// Without the record it begins anew; one in the future is not believed.
		s.stop()
		if err := s.m.dirs[0].d.WriteScrub(storage.ScrubRecord{CompletedMs: time.Now().Add(time.Hour).UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		s.again()
		s.start()
		<-time.After(time.Minute)
		if st := s.state(); st.Segments != 20 || st.CompletedMs > time.Now().UnixMilli() {
			t.Errorf("%+v", st)
		}
		s.end()
	})
}

// The rate bounds what is read, also while it changes; 0 stops the work in the middle.
func TestScrubberRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScrubBench(t, 2)
		for _, p := range s.parts {
			s.put(p, 50)
		}
		s.setRate(0)
		s.start()
		<-time.After(time.Hour)
		if st := s.state(); st.ReadBytes != 0 || st.Running || st.CompletedMs != 0 {
			t.Fatalf("off: %+v", st)
		}
		s.setRate(50)
		<-time.After(scrubLook + time.Minute)
		slow := s.state().ReadBytes
		if slow < 50*50 || slow > 50*65+400 {
			t.Errorf("%d bytes in a minute at 50 per second", slow)
		}
		s.setRate(0)
		<-time.After(time.Minute)
		off := s.state().ReadBytes
		if off > slow+400 {
			t.Errorf("%d bytes while it is off", off-slow)
		}
		s.setRate(500)
		<-time.After(10 * time.Second)
		if n := s.state().ReadBytes - off; n < 400*10 || n > 500*11+400 {
			t.Errorf("%d bytes in ten seconds at 500 per second", n)
		}
		s.end()
	})
}

// Readers and writers go on while the disk works for the scrubber.
func TestScrubbingHoldsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScrubBench(t, 1)
		p := s.parts[0]
		s.put(p, 4)
		hold := make(chan struct{})
		var held atomic.Bool
		s.start()
		<-time.After(20 * time.Second)
		s.disk.Add(vfs.Rule{Op: vfs.OpReadAt, Path: "*.log", Times: 1, Hook: func(vfs.Op, string) { held.Store(true); <-hold }})
		<-time.After(20 * time.Second)
		if !held.Load() {
			t.Fatal("nothing is read")
		}
		s.put(p, 2)
		if err := s.readAt(p, 1); err != nil {
			t.Error(err)
		}
		if _, err := p.DeleteRecords(2); err != nil { // what is being read goes away
			t.Error(err)
		}
		hold <- struct{}{}
		<-time.After(time.Minute)
		if st := s.state(); st.Damaged != 0 || st.CompletedMs == 0 {
			t.Errorf("%+v", st)
		}
		s.end()
	})
}

// An I/O error takes the directory offline, as any read's does, and ends the work.
func TestScrubberMeetsIOError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScrubBench(t, 1)
		s.put(s.parts[0], 4)
		s.start()
		<-time.After(20 * time.Second)
		s.disk.Add(vfs.Rule{Op: vfs.OpReadAt, Path: "*.log", Err: syscall.EIO})
		<-time.After(time.Minute)
		st := s.state()
		if s.m.Dirs()[0].Offline == nil || st.Damaged != 0 || s.lines(damagedLine) != 0 || st.CompletedMs != 0 {
			t.Errorf("%+v, offline %v", st, s.m.Dirs()[0].Offline)
		}
		s.disk.Clear()
		<-time.After(3 * time.Hour)
		if now := s.state(); now != st {
			t.Errorf("an offline directory is scrubbed: %+v", now)
		}
		s.stop()
		_ = s.m.Close()
	})
}

// Retention, compaction, deletion of the topic, writers and rounds without a pause side by side: no
// damage is invented. Under -race it shows what is shared.
func TestScrubberBesideEverything(t *testing.T) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compact=%v", compact), func(t *testing.T) { besideEverything(t, compact) })
	}
}

func besideEverything(t *testing.T, compact bool) {
	synctest.Test(t, func(t *testing.T) {
		s := newScrubBench(t, 4)
		s.compact = compact
		s.again()
		s.scrub.Store(&ScrubSettings{BytesPerSecond: 1e9, Interval: time.Millisecond})
		s.start()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		for ctx.Err() == nil {
			for _, p := range s.parts {
				s.put(p, 3)
				if end := p.Stats().HighWatermark; end > 20 && !compact {
					if _, err := p.DeleteRecords(end - 10); err != nil {
						t.Error(err)
					}
				}
			}
			<-time.After(time.Second)
		}
		gone := meta.EmptyImage()
		gone.Revision = 2
		gone.Tombstones = map[model.TopicID]string{s.tid: "t"}
		s.m.Apply(gone)
		<-time.After(time.Minute)
		if rounds := s.m.CleanerStats().Rounds; (rounds > 100) != compact {
			t.Errorf("%d compactions", rounds)
		}
		if st := s.state(); st.Damaged != 0 || st.Segments < 100 || s.lines("level=ERROR")+s.lines("level=WARN") != 0 {
			t.Errorf("%+v\n%s", st, s.logged.String())
		}
		s.end()
	})
}
