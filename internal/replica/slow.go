package replica

import (
	"sync"
	"time"
)

// slowDisk judges how long syncs take. A disk is slow when for slowFor no stretch of time
// passed in which 99 of 100 syncs took less than slowSync: not a single pause, and not a
// disk that has nothing to do. It is a matter for people (and, with more than one
// replica, for moving leaders away), never a reason to fence a broker.
type slowDisk struct {
	mu sync.Mutex
	// done and late count the syncs that ended since the latest look, and those of them
	// that took longer than slowSync.
	done, late int
	// running are the syncs under way, by when they began: one for each loop that syncs.
	running []time.Duration
	// since is when the disk began to be slow, -1 while it is not; seen when it last was.
	since, seen time.Duration
	slow        bool
	// total and took sum up all syncs.
	total int64
	took  time.Duration
}

const (
	slowSync = time.Second
	slowFor  = 10 * time.Second
)

// begin notes that a sync begins at now on Clock.Boot.
func (s *slowDisk) begin(now time.Duration) {
	s.mu.Lock()
	s.running = append(s.running, now)
	s.mu.Unlock()
}

// end notes that a sync that began at began ended at now.
func (s *slowDisk) end(began, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.running {
		if b == began {
			s.running = append(s.running[:i], s.running[i+1:]...)
			break
		}
	}
	s.done++
	s.total++
	s.took += now - began
	if now-began > slowSync {
		s.late++
	}
}

// judge looks at what ended since the last call. changed says that slow is not what it was.
func (s *slowDisk) judge(now time.Duration) (slow, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	late, done := s.late, s.done
	s.late, s.done = 0, 0
	for _, began := range s.running {
		if done == 0 && now-began > slowSync {
			late, done = late+1, done+1
		}
	}
	was := s.slow
	switch {
	case done == 0: // nothing to judge by
		if s.since >= 0 && now-s.seen > slowFor {
			s.since, s.slow = -1, false
		}
	case late*100 <= done:
		s.since, s.slow = -1, false
	default:
		if s.since < 0 {
			s.since = now
		}
		s.seen = now
		s.slow = now-s.since >= slowFor
	}
	return s.slow, s.slow != was
}

// sums are the number of syncs and the time that they took, and whether the disk is slow.
func (s *slowDisk) sums() (n int64, took time.Duration, slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.took, s.slow
}

// tellSlow logs when the disk begins or ceases to be slow.
func (d *logDir) tellSlow() {
	slow, changed := d.slow.judge(d.m.o.Clock.Boot())
	switch {
	case !changed:
	case slow:
		d.m.o.Logger.Warn("the disk is slow: syncs take more than a second", "dir", d.d.Path())
	default:
		d.m.o.Logger.Info("the disk is no longer slow", "dir", d.d.Path())
	}
}
