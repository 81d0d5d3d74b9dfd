package replica

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/storage"
)

// ScrubSettings are the broker's own settings of scrubbing (kalda.scrub.*).
type ScrubSettings struct {
	// BytesPerSecond bounds what is read in each log directory; 0 is no scrubbing.
	BytesPerSecond float64
	// Interval is the pause between the end of a round and the beginning of the next.
	Interval time.Duration
}

// Scrubbing is how far the scrubbing of a log directory is.
type Scrubbing struct {
	// ReadBytes and Segments were checked since the start.
	ReadBytes, Segments int64
	// Running: a round is under way.
	Running bool
	// CompletedMs is when the last round ended that went through everything, ms since 1970;
	// 0 for never.
	CompletedMs int64
	// Damaged is how many closed segments are known to be damaged.
	Damaged int
}

const (
	// scrubDelay is the time after the start in which nothing is scrubbed: there is enough
	// to do then.
	scrubDelay = 30 * time.Second
	// scrubLook is how often a scrubber without work looks whether a round is due; a change
	// of the settings is felt within it.
	scrubLook = 5 * time.Second
	// scrubSave is how often a round writes down where it is: what a crash makes it read
	// twice.
	scrubSave = time.Minute
	// recheckRate is the least rate, in bytes per second, of checking again what an earlier
	// process found.
	recheckRate = 1 << 20
)

// scrubber reads the closed segments of one directory again, round after round, and reports
// those that are damaged. What it knows outlives the process, in the directory's scrub file.
type scrubber struct {
	d    *logDir
	rate rateLimit

	read, segments atomic.Int64
	running        atomic.Bool

	mu struct {
		sync.Mutex
		rec storage.ScrubRecord
	}

	rechecks bool // recheck is under way; loop's
	// unsaved and savedAt (Clock.Boot) belong to loop: the record on disk is older.
	unsaved bool
	savedAt time.Duration
}

// state returns the state of the directory's scrubbing.
func (s *scrubber) state() Scrubbing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Scrubbing{
		ReadBytes: s.read.Load(), Segments: s.segments.Load(), Running: s.running.Load(),
		CompletedMs: s.mu.rec.CompletedMs, Damaged: len(s.mu.rec.Damaged),
	}
}

// Damage are the partition's closed segments that are known to be damaged, by offset.
func (p *Partition) Damage() []storage.DamagedSegment {
	s := &p.dir.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []storage.DamagedSegment
	for _, d := range s.mu.rec.Damaged {
		if d.Partition == p.ID {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b storage.DamagedSegment) int { return cmp.Compare(a.Base, b.Base) })
	return out
}

// loop scrubs until ctx ends or the directory goes offline.
func (s *scrubber) loop(ctx context.Context) {
	s.recall()
	t := time.NewTimer(scrubDelay)
	defer t.Stop()
	rechecked := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		t.Reset(scrubLook)
		if s.d.offline() != nil {
			return
		}
		s.forget()
		if !rechecked {
			s.recheck(ctx)
			rechecked = true
		}
		o := s.d.m.o.Scrub()
		if o.BytesPerSecond <= 0 {
			continue
		}
		if s.due(o.Interval) {
			s.round(ctx)
		}
		s.save(true)
	}
}

// recall reads what an earlier life left.
func (s *scrubber) recall() {
	r, err := s.d.d.ReadScrub()
	if err != nil {
		s.d.m.o.Logger.Warn("what is known of the scrubbing cannot be read; a round begins anew", "dir", s.d.d.Path(), "err", err)
		s.d.saw(err)
	}
	s.mu.Lock()
	s.mu.rec = r
	s.mu.Unlock()
	if n := len(r.Damaged); n > 0 {
		s.d.m.o.Logger.Warn("closed segments are known to be damaged; they are checked again first", "dir", s.d.d.Path(), "segments", n)
	}
}

// save writes the record if it changed: now, or when it was long ago.
func (s *scrubber) save(now bool) {
	boot := s.d.m.o.Clock.Boot()
	if !s.unsaved || !now && boot-s.savedAt < scrubSave || s.d.offline() != nil {
		return
	}
	s.mu.Lock()
	r := s.mu.rec
	r.Damaged = slices.Clone(r.Damaged)
	s.mu.Unlock()
	s.savedAt = boot
	if err := s.d.d.WriteScrub(r); err != nil {
		s.d.m.o.Logger.Warn("how far the scrubbing is cannot be written down", "dir", s.d.d.Path(), "err", err)
		s.d.saw(err)
		return
	}
	s.unsaved = false
}

// due says whether a round is to begin, or to go on. A completion in the future is that of
// a clock that was wrong.
func (s *scrubber) due(interval time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := s.d.m.o.Clock.Wall().UnixMilli() - s.mu.rec.CompletedMs
	return s.mu.rec.BeganMs != 0 || age < 0 || age >= interval.Milliseconds()
}

// round goes through the closed segments of all partitions, from where the last life of the
// broker was if it was in the middle of one.
func (s *scrubber) round(ctx context.Context) {
	m := s.d.m
	s.running.Store(true)
	defer s.running.Store(false)
	began, read, segments := m.o.Clock.Boot(), s.read.Load(), s.segments.Load()
	s.mu.Lock()
	r := &s.mu.rec
	s.unsaved = s.unsaved || r.BeganMs != 0 // the record on disk says that it goes on
	if r.BeganMs == 0 {
		r.BeganMs, r.At, r.From = m.o.Clock.Wall().UnixMilli(), model.Partition{}, 0
	}
	at, from := r.At, r.From
	s.mu.Unlock()
	var parts []*Partition
	for _, p := range m.Partitions() {
		if p.dir == s.d && compareIDs(p.ID, at) >= 0 {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b *Partition) int { return compareIDs(a.ID, b.ID) })
	for _, p := range parts {
		next := model.Offset(0)
		if p.ID == at {
			next = from
		}
		for more := true; more; {
			if next, more = s.check(ctx, p, next); ctx.Err() != nil || s.d.offline() != nil {
				return
			}
			if more {
				s.mu.Lock()
				s.mu.rec.At, s.mu.rec.From = p.ID, next
				s.mu.Unlock()
				s.unsaved = true
				s.save(false)
			}
		}
	}
	s.forget()
	s.mu.Lock()
	s.mu.rec.BeganMs, s.mu.rec.CompletedMs = 0, m.o.Clock.Wall().UnixMilli()
	damaged := len(s.mu.rec.Damaged)
	s.mu.Unlock()
	if n := s.segments.Load() - segments; n > 0 {
		m.o.Logger.Info("the closed segments of a log directory were checked", "dir", s.d.d.Path(), "segments", n,
			"read_bytes", s.read.Load()-read, "damaged", damaged, "took", m.o.Clock.Boot()-began)
	}
}

// compareIDs is the order of the round: the same in every life of the broker.
func compareIDs(a, b model.Partition) int {
	return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Index, b.Index))
}

// recheck checks what was known to be damaged when the process started, so that the
// damage is refused to readers, or forgotten, before a round comes by, and also where
// rounds are switched off.
func (s *scrubber) recheck(ctx context.Context) {
	s.rechecks = true
	defer func() { s.rechecks = false }()
	s.mu.Lock()
	known := slices.Clone(s.mu.rec.Damaged)
	s.mu.Unlock()
	for _, d := range known {
		if p := s.d.m.partition(d.Partition); p != nil && ctx.Err() == nil && s.d.offline() == nil {
			s.check(ctx, p, d.Base)
		}
	}
}

func (m *Manager) partition(id model.Partition) *Partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.byID[id]
}

// check checks the partition's first closed segment with offsets at or beyond from; false
// if there is none, or the work has to stop.
func (s *scrubber) check(ctx context.Context, p *Partition, from model.Offset) (next model.Offset, more bool) {
	m := s.d.m
	p.mu.Lock()
	if p.unusableLocked() != nil {
		p.mu.Unlock()
		return 0, false
	}
	c, found := p.mu.log.BeginScrub(from)
	p.mu.Unlock()
	if !found {
		return 0, false
	}
	rate := func() float64 {
		if s.rechecks {
			return max(m.o.Scrub().BytesPerSecond, recheckRate)
		}
		return m.o.Scrub().BytesPerSecond
	}
	limit := func(n int) error {
		if err := s.d.offline(); err != nil {
			return err
		}
		return s.rate.wait(ctx, m.o.Clock.Boot, n, rate)
	}
	var err error
	for more, read := true, int64(0); more; {
		err = c.Run(limit)
		s.d.saw(err)
		p.mu.Lock()
		more, err = p.mu.log.ContinueScrub(c, err)
		p.mu.Unlock()
		s.read.Add(c.Result().Bytes - read)
		read = c.Result().Bytes
	}
	r := c.Result()
	switch {
	case ctx.Err() != nil || s.d.offline() != nil:
		return 0, false
	case err != nil:
		m.o.Logger.Warn("a closed segment could not be checked", "partition", p.TP.String(), "path", r.Path, "err", err)
	case !r.Gone:
		s.segments.Add(1)
		s.tell(p, r)
	}
	return r.End, true
}

// tell reports what a check found, unless it is known.
func (s *scrubber) tell(p *Partition, r storage.ScrubResult) {
	log := s.d.m.o.Logger.With("partition", p.TP.String(), "path", r.Path)
	if len(r.Rebuilt) > 0 {
		log.Warn("files beside a closed segment were damaged or missing; they were made anew from it", "files", r.Rebuilt)
	}
	found := storage.NewDamagedSegment(p.ID, r)
	s.mu.Lock()
	i := slices.IndexFunc(s.mu.rec.Damaged, func(d storage.DamagedSegment) bool { return d.Partition == p.ID && d.Base == r.Base })
	switch {
	case i < 0 && found.Places > 0:
		s.mu.rec.Damaged = append(s.mu.rec.Damaged, found)
	case i >= 0 && found.Places == 0:
		s.mu.rec.Damaged = slices.Delete(s.mu.rec.Damaged, i, i+1)
	case i >= 0 && s.mu.rec.Damaged[i] != found:
		s.mu.rec.Damaged[i] = found
	default:
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.unsaved = true
	if found.Places > 0 {
		d := r.Damage[0]
		what := "a closed segment is damaged: these offsets are refused to readers until it is restored or removed"
		if d.First == d.Next {
			what = "a closed segment is damaged: there are bytes behind its last record"
		}
		log.Error(what, "position", d.Position, "bytes", d.Length, "first_offset", d.First, "next_offset", d.Next, "places", found.Places, "err", d.Err)
	} else {
		log.Info("a closed segment that was damaged is whole again")
	}
	s.save(true)
}

// forget drops what was known of segments that are not there any more.
func (s *scrubber) forget() {
	s.mu.Lock()
	known := slices.Clone(s.mu.rec.Damaged)
	s.mu.Unlock()
	if len(known) == 0 || s.d.m.revision() == 0 { // before the first image nothing is there
		return
	}
	var gone []storage.DamagedSegment
	for _, d := range known {
		p := s.d.m.partition(d.Partition)
		if p == nil || p.dir != s.d {
			gone = append(gone, d)
			continue
		}
		p.mu.Lock()
		if p.mu.removed || p.unusableLocked() == nil && !p.mu.log.HasClosed(d.Base) {
			gone = append(gone, d)
		}
		p.mu.Unlock()
	}
	if len(gone) == 0 {
		return
	}
	s.mu.Lock()
	s.mu.rec.Damaged = slices.DeleteFunc(s.mu.rec.Damaged, func(d storage.DamagedSegment) bool { return slices.Contains(gone, d) })
	s.mu.Unlock()
	s.unsaved = true
}
