package replica

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// Compaction is what cleanup.policy=compact means for a topic.
type Compaction struct {
	// Enabled: the policy has compact.
	Enabled bool
	// MinDirtyRatio is min.cleanable.dirty.ratio: a log is due when more than that share
	// of it is dirty.
	MinDirtyRatio float64
	// MinLag and MaxLag are min.compaction.lag.ms and max.compaction.lag.ms; a MaxLag of
	// 0 is none.
	MinLag, MaxLag time.Duration
	// DeleteRetention is delete.retention.ms.
	DeleteRetention time.Duration
}

// CleanerSettings are the broker's own settings for compaction (log.cleaner.*).
type CleanerSettings struct {
	// Enabled lets it run.
	Enabled bool
	// Threads is how many logs are cleaned at once.
	Threads int
	// Backoff is the pause when no log is due.
	Backoff time.Duration
	// DedupeBytes and BufferBytes are the memory of all threads together, for keys and for
	// reading and writing; LoadFactor says how full the first gets.
	DedupeBytes int64
	LoadFactor  float64
	BufferBytes int
	// BytesPerSecond bounds what all of them read and write.
	BytesPerSecond float64
}

// CleanerStats count what compaction did since the start.
type CleanerStats struct {
	// Rounds ended, Running go on.
	Rounds, Running int64
	// ReadBytes and WrittenBytes went over the disk.
	ReadBytes, WrittenBytes int64
	// RemovedRecords were dropped.
	RemovedRecords int64
	// Time was spent in rounds, waits for the rate limit included.
	Time time.Duration
}

// Cleaning is the state of one compacted partition.
type Cleaning struct {
	// DirtyBytes are in segments with records that were not compacted yet, the one that
	// grows included; TotalBytes is the size of the log.
	DirtyBytes, TotalBytes int64
	// CleanedMs is when the last round began that went to its end, ms since 1970; 0: none.
	CleanedMs int64
	// Running: a round is under way.
	Running bool
	// Uncleanable is why the partition is left alone until the broker starts again.
	Uncleanable error
}

// DirtyRatio is the share of dirty bytes, 0 to 1.
func (c Cleaning) DirtyRatio() float64 {
	if c.TotalBytes == 0 {
		return 0
	}
	return float64(c.DirtyBytes) / float64(c.TotalBytes)
}

// cleaner schedules cleaning rounds. The state of single partitions is theirs.
type cleaner struct {
	m       *Manager
	rate    rateLimit
	running atomic.Int64

	rounds, read, written, removed, spent atomic.Int64
}

// CleanerStats returns the counters.
func (m *Manager) CleanerStats() CleanerStats {
	c := &m.cleaner
	return CleanerStats{
		Rounds: c.rounds.Load(), Running: c.running.Load(), ReadBytes: c.read.Load(), WrittenBytes: c.written.Load(),
		RemovedRecords: c.removed.Load(), Time: time.Duration(c.spent.Load()),
	}
}

// Cleaning returns the partition's state; false if its topic is not compacted.
func (p *Partition) Cleaning() (Cleaning, bool) {
	if !p.settings.Load().Compaction.Enabled {
		return Cleaning{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unusableLocked() != nil {
		return Cleaning{}, false
	}
	c := Cleaning{CleanedMs: p.mu.log.CleanedAt(), Running: p.mu.cleaning, Uncleanable: p.mu.uncleanable}
	c.DirtyBytes, c.TotalBytes = p.mu.log.DirtyBytes()
	return c, true
}

// loop begins a round for the dirtiest log whenever a thread is free, until ctx ends.
func (c *cleaner) loop(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{}) // each round that ends, received here or given up with ctx
	t := time.NewTimer(0)
	defer t.Stop()
	looked := never
	for {
		s := c.m.o.Cleaner()
		now := c.m.o.Clock.Boot()
		for s.Enabled && now-looked >= s.Backoff && int(c.running.Load()) < s.Threads {
			p, args, found := c.dirtiest(s)
			if !found {
				looked = now
				break
			}
			c.running.Add(1)
			wg.Go(func() {
				c.clean(ctx, p, args)
				c.running.Add(-1)
				select {
				case done <- struct{}{}:
				case <-ctx.Done():
				}
			})
		}
		// In short steps, so that a change of the settings is felt.
		t.Reset(max(min(s.Backoff, maxCleanerWait), minCleanerBackoff))
		select {
		case <-ctx.Done():
			return
		case <-done:
			looked = never
		case <-t.C:
		}
	}
}

const (
	// minCleanerBackoff keeps log.cleaner.backoff.ms=0 from turning into a busy loop.
	minCleanerBackoff = 100 * time.Millisecond
	maxCleanerWait    = 15 * time.Second
	// never is a time before any other.
	never time.Duration = math.MinInt64 / 2
)

// dirtiest picks, of the logs that are due, the one with the largest dirty share, and
// marks it as taken.
func (c *cleaner) dirtiest(s CleanerSettings) (best *Partition, args storage.CompactArgs, found bool) {
	boot, wall := c.m.o.Clock.Boot(), c.m.o.Clock.Wall().UnixMilli()
	ratio := -1.0
	for _, p := range c.m.Partitions() {
		o := p.settings.Load().Compaction
		if !o.Enabled {
			continue
		}
		a := storage.CompactArgs{
			NowMs: wall, MinLag: o.MinLag, MaxLag: o.MaxLag, DeleteRetention: o.DeleteRetention,
			MapBytes: s.DedupeBytes / int64(max(s.Threads, 1)), MapLoad: s.LoadFactor,
			BufferBytes: s.BufferBytes / max(s.Threads, 1) / 2,
		}
		if r, due := p.dirt(&a, o, boot); due && r > ratio {
			best, args, ratio = p, a, r
		}
	}
	if best == nil {
		return nil, args, false
	}
	best.mu.Lock()
	best.mu.cleaning = true
	best.mu.Unlock()
	return best, args, true
}

// dirt says how dirty the log is and whether it is due. A segment that grows and is due by
// max.compaction.lag.ms is closed first.
func (p *Partition) dirt(a *storage.CompactArgs, o Compaction, boot time.Duration) (ratio float64, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unusableLocked() != nil || p.mu.cleaning || p.mu.uncleanable != nil || boot < p.mu.cleanAgain {
		return 0, false
	}
	// Without transactions all that is committed is stable.
	a.Stable, a.HighWatermark = p.mu.state.HighWatermark(), p.mu.state.HighWatermark()
	rolled, err := p.mu.log.RollOverdue(a.NowMs, a.MaxLag)
	if err == nil && rolled {
		p.notedLocked(0, 0) // what was not synced before is synced with the next flush
	}
	var st storage.CleanState
	if err == nil {
		st, err = p.mu.log.CleanState(*a)
	}
	if err != nil {
		p.uncleanableLocked(err)
		return 0, false
	}
	return st.Ratio(), st.DirtyBytes > 0 && (st.Overdue || st.Ratio() > o.MinDirtyRatio)
}

// uncleanableLocked leaves the partition alone from now on.
func (p *Partition) uncleanableLocked(err error) {
	p.mu.uncleanable = err
	p.m.o.Logger.Error("a partition cannot be compacted; it is left alone until the broker starts again",
		"partition", p.TP.String(), "err", err)
	if broken := p.mu.log.Failed(); broken != nil && !p.mu.removed {
		p.goOfflineLocked(broken)
	}
}

// clean runs one round.
func (c *cleaner) clean(ctx context.Context, p *Partition, a storage.CompactArgs) {
	began := c.m.o.Clock.Boot()
	round, err := p.beginCleaning(a)
	if round == nil {
		p.endCleaning(ctx, storage.CleanStats{}, err)
		return
	}
	rate := func() float64 { return c.m.o.Cleaner().BytesPerSecond }
	limit := func(n int) error { return c.rate.wait(ctx, c.m.o.Clock.Boot, n, rate) }
	var last storage.CleanStats
	for more := true; more; {
		err := round.Run(limit)
		p.mu.Lock()
		more, err = p.mu.log.ContinueCompaction(round, err)
		p.mu.Unlock()
		st := round.Stats()
		c.read.Add(st.ReadBytes - last.ReadBytes)
		c.written.Add(st.WrittenBytes - last.WrittenBytes)
		last = st
		if !more {
			c.rounds.Add(1)
			c.removed.Add(st.Records - st.Kept)
			took := c.m.o.Clock.Boot() - began
			c.spent.Add(int64(took))
			p.endCleaning(ctx, st, err)
			if err == nil && !st.Abandoned {
				c.m.o.Logger.Info("a partition was compacted", "partition", p.TP.String(), "up_to", st.End, "keys", st.Keys,
					"records", st.Records, "kept", st.Kept, "read_bytes", st.ReadBytes, "written_bytes", st.WrittenBytes,
					"segments", st.Segments, "into", st.Into, "took", took, "map_full", st.Full)
			}
		}
	}
}

func (p *Partition) beginCleaning(a storage.CompactArgs) (*storage.Compaction, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.unusableLocked(); err != nil {
		return nil, nil
	}
	if p.mu.log.StagedEnd() != p.mu.log.EndOffset() {
		_ = p.writeLocked()
	}
	round, _, err := p.mu.log.BeginCompaction(a)
	return round, err
}

// cleanRetry is how long a log rests whose round was abandoned, or found the disk full.
const cleanRetry = 30 * time.Second

// endCleaning takes note of how a round ended.
func (p *Partition) endCleaning(ctx context.Context, st storage.CleanStats, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.cleaning = false
	switch {
	case p.mu.removed, err == nil && st.End > 0:
	case err == nil:
		p.mu.cleanAgain = p.m.o.Clock.Boot() + cleanRetry
	case ctx.Err() != nil: // the broker stops
	case p.mu.log.Failed() == nil && vfs.NoSpace(err):
		p.mu.cleanAgain = p.m.o.Clock.Boot() + cleanRetry
		p.m.o.Logger.Warn("a partition was not compacted: the disk is full", "partition", p.TP.String(), "again_in", cleanRetry, "err", err)
	default:
		p.uncleanableLocked(err)
	}
}

// rateLimit keeps what is read and written below a rate that may change at any time.
type rateLimit struct {
	mu sync.Mutex
	// debt are bytes that went over the disk and were not paid for in time; at is when that
	// was reckoned, by Clock.Boot.
	debt float64
	at   time.Duration
}

// maxRateWait bounds one wait, so that a change of the rate is felt.
const maxRateWait = time.Second

// wait returns when n more bytes may go over the disk, or with ctx. What is asked for is
// let through when all before it is paid for, so that no request is too large.
func (r *rateLimit) wait(ctx context.Context, boot func() time.Duration, n int, rate func() float64) error {
	for {
		if ctx.Err() != nil {
			return kerr.With(kerr.KafkaStorageError, "background work stops: %v", ctx.Err())
		}
		wait := r.take(boot(), n, rate())
		if wait == 0 {
			return nil
		}
		t := time.NewTimer(min(wait, maxRateWait))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// take counts n bytes if nothing is owed at now, or says how long to wait.
func (r *rateLimit) take(now time.Duration, n int, perSecond float64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.debt = max(0, r.debt-(now-r.at).Seconds()*perSecond)
	r.at = now
	if r.debt > 0 {
		return max(time.Duration(min(r.debt/perSecond, 3600)*float64(time.Second)), time.Millisecond)
	}
	r.debt = float64(n)
	return 0
}
