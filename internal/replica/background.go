package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/storage"
)

// logDir is one log directory with its queue of partitions to sync.
type logDir struct {
	m     *Manager
	d     *storage.Dir
	count atomic.Int64
	// damaged: a log in it was found damaged when it was opened, or could not be opened.
	damaged atomic.Bool
	// broken: a log in it could not be opened, so the directory cannot be closed as clean.
	broken atomic.Bool
	// unlisted is why it is not known what the directory holds.
	unlisted error
	// found are the partitions that the directory held when it was opened.
	found map[model.Partition]bool
	// flush holds partitions with waiters for durability (kalda.flush.policy=commit);
	// unsynced those that the background flush makes durable at its interval.
	flush, unsynced partSet
	// soonest is the smallest flush.ms of what was added to unsynced since the flush loop
	// looked, in nanoseconds; unsyncedBytes what was written since its last round.
	soonest, unsyncedBytes atomic.Int64
	scrub                  scrubber
	dirHealth
}

func newLogDir(m *Manager, d *storage.Dir) *logDir {
	l := &logDir{m: m, d: d, found: map[model.Partition]bool{}}
	l.scrub.d = l
	ids, err := d.Partitions()
	if err != nil {
		l.unlisted = err
		m.o.Logger.Error("a log directory cannot be listed", "dir", d.Path(), "err", err)
	}
	for _, id := range ids {
		l.found[id] = true
	}
	// Set flags: one pending wake-up is enough.
	l.flush.signal, l.unsynced.signal = make(chan struct{}, 1), make(chan struct{}, 1)
	l.soonest.Store(int64(m.o.FlushInterval))
	l.wake, l.slow.since = make(chan struct{}, 1), -1
	l.tellRoom(l.look())
	return l
}

// partSet is a set of partitions that wait for a sync. A partition is in it at most
// once (its queued or unsynced flag), so the partitions held are its bound.
type partSet struct {
	mu     sync.Mutex
	parts  []*Partition
	spare  []*Partition
	signal chan struct{}
}

func (s *partSet) add(p *Partition) {
	s.mu.Lock()
	s.parts = append(s.parts, p)
	s.mu.Unlock()
	s.wake()
}

func (s *partSet) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// note tells the flush loop of bytes that were written and not synced, with the topic's
// own bound on how long they may stay so (0 for none).
func (d *logDir) note(bytes int64, within time.Duration) {
	if within > 0 {
		for {
			old := d.soonest.Load()
			if int64(within) >= old {
				break
			}
			if d.soonest.CompareAndSwap(old, int64(within)) {
				d.unsynced.wake()
				break
			}
		}
	}
	if n := d.unsyncedBytes.Add(bytes); n >= d.m.o.FlushBytes && n-bytes < d.m.o.FlushBytes {
		d.unsynced.wake()
	}
}

// take returns what is in the set and empties it. The result is valid until the next take.
func (s *partSet) take() []*Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.parts
	s.parts, s.spare = s.spare[:0], got
	return got
}

// Run serves the background work of all directories until ctx ends: group commit,
// background flush, checkpoints, retention, compaction, scrubbing.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range m.dirs {
		g.Go(func() error { d.commitLoop(ctx); return nil })
		g.Go(func() error { d.flushLoop(ctx); return nil })
		g.Go(func() error { d.watch(ctx); return nil })
		g.Go(func() error { d.scrub.loop(ctx); return nil })
	}
	g.Go(func() error { m.retentionLoop(ctx); return nil })
	g.Go(func() error { m.cleaner.loop(ctx); return nil })
	return g.Wait()
}

// flushLoop bounds the unsynced tail and advances the recovery points: a round every
// FlushInterval, sooner when a topic's flush.ms or the bound in bytes asks for it.
func (d *logDir) flushLoop(ctx context.Context) {
	t := time.NewTimer(d.m.o.FlushInterval)
	defer t.Stop()
	next := d.m.o.Clock.Boot() + d.m.o.FlushInterval
	round := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.unsynced.signal:
			now := d.m.o.Clock.Boot()
			due := min(next, now+time.Duration(d.soonest.Swap(int64(d.m.o.FlushInterval))))
			if d.unsyncedBytes.Load() >= d.m.o.FlushBytes {
				due = now
			}
			if due < next {
				next = due
				t.Reset(max(due-now, 0))
			}
			continue
		case <-t.C:
		}
		next = d.m.o.Clock.Boot() + d.m.o.FlushInterval
		t.Reset(d.m.o.FlushInterval)
		d.unsyncedBytes.Store(0)
		journal := d.d.Journal()
		mark, all := journal.Mark(), true
		for _, p := range d.unsynced.take() {
			all = p.sync(&d.unsynced) && all
		}
		if all {
			journal.Release(mark)
		}
		if err := d.m.checkpoint(d); err != nil {
			d.m.o.Logger.Error("the checkpoint file cannot be written", "dir", d.d.Path(), "err", err)
			d.saw(err)
		}
		if round++; round%idleRounds == 0 {
			d.rest()
		}
	}
}

func (m *Manager) retentionLoop(ctx context.Context) {
	for {
		t := time.NewTimer(max(m.o.RetentionInterval(), 100*time.Millisecond))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-m.retainNow:
			t.Stop()
		case <-t.C:
		}
		m.Retain()
	}
}

// idleRounds is how many flush rounds (5 s each) a log must see no use before it gives up
// its open files and buffers.
const idleRounds = 12

// rest lets the logs that were not used since the last call give up what they hold open.
func (d *logDir) rest() {
	for _, p := range d.m.Partitions() {
		if p.dir != d {
			continue
		}
		p.mu.Lock()
		if !p.mu.used && p.unusableLocked() == nil && p.mu.log.StagedEnd() == p.mu.log.EndOffset() {
			p.idleLocked()
		} else if p.unusableLocked() == nil {
			p.mu.log.Calm()
		}
		p.mu.used = false
		p.mu.Unlock()
	}
}

// Retain applies retention by time and size to every log, and forgets producers that
// were silent too long.
func (m *Manager) Retain() {
	now := m.o.Clock.Wall().UnixMilli()
	for _, p := range m.Partitions() {
		p.mu.Lock()
		if p.unusableLocked() == nil {
			n, err := p.mu.log.DeleteOld(now, p.mu.state.HighWatermark())
			if err != nil {
				_ = p.failedLocked("apply retention", err)
			}
			if n > 0 {
				m.o.Logger.Info("old segments were removed", "partition", p.TP.String(), "segments", n, "log_start", p.mu.log.StartOffset())
				p.wakeFetchesLocked()
			}
			p.mu.log.ExpireProducers(now)
		}
		p.mu.Unlock()
	}
}

// checkpoint writes recovery points, log starts and watermarks of a directory.
func (m *Manager) checkpoint(d *logDir) error {
	if d.offline() != nil {
		return nil
	}
	var entries []storage.CheckpointEntry
	for _, p := range m.Partitions() {
		if p.dir != d {
			continue
		}
		p.mu.Lock()
		if p.unusableLocked() == nil && p.mu.checkpointed != p.mu.log.RecoveryPoint() {
			entries = append(entries, p.mu.log.CheckpointEntry(p.mu.state.HighWatermark()))
			p.mu.checkpointed = p.mu.log.RecoveryPoint()
		}
		p.mu.Unlock()
	}
	if len(entries) == 0 {
		return nil
	}
	return d.d.Checkpoint(entries)
}

// Close writes, syncs and closes every log and marks the directories clean. Call it
// after Run returned and no request runs any more.
func (m *Manager) Close() error {
	var errs []error
	for _, d := range m.dirs {
		var entries []storage.CheckpointEntry
		clean := !d.broken.Load() && d.offline() == nil
		for _, p := range m.Partitions() {
			if p.dir != d {
				continue
			}
			e, err := p.close()
			if err != nil {
				errs = append(errs, fmt.Errorf("close %s: %w", p.TP, err))
				clean = false
				continue
			}
			entries = append(entries, e)
		}
		if clean {
			errs = append(errs, d.d.CloseClean(entries))
		} else {
			errs = append(errs, d.d.Close())
		}
	}
	return errors.Join(errs...)
}

// Dir is the path of the log directory that holds the partition.
func (p *Partition) Dir() string { return p.dir.d.Path() }

// Name is the topic's name as bytes, which must not be changed.
func (p *Partition) Name() []byte { return p.name }

// Path is the partition's own directory.
func (p *Partition) Path() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.log.Path()
}
