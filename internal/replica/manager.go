// Package replica holds the partitions of this broker: each is a log, its commit state
// and those who wait for either. It is the shell around the isr core.
//
//	Append --stage--> log --Write--> LEO --(os: at once, commit: after fdatasync)--> ack position
//	                                                              isr: high watermark --> waiters, fetches
//
// A Manager follows the cluster image: it opens the logs of the partitions that the
// image gives to this broker, leads those whose leader is this very registration, and
// removes data only on a tombstone (never because metadata lacks it).
//
// Locks: one mutex per Partition, short sections. It is not held while the group commit
// or the background flush syncs; delete-records and retention sync small files under it.
// While the process is out of file descriptors it is held across a sync, too (reclaim).
// Order where two are held: Partition, then whatever a Waiter or FetchOwner locks, then
// the queue of a connection. Nothing takes a Partition's lock while holding one of those.
package replica

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/kerr"
)

// Settings are what a topic's configuration means for its partitions.
type Settings struct {
	// Storage are the log's options; each partition takes its part of SegmentJitter off
	// SegmentAge.
	Storage storage.Options
	// SegmentJitter is the most that a partition takes off; never more than SegmentAge.
	SegmentJitter time.Duration
	// Validate bounds client batches; Now is filled per append.
	Validate record.ValidateOptions
	// Target is the form in which client batches are stored.
	Target record.Target
	// Compaction says how the topic is compacted, if it is.
	Compaction Compaction
	// FlushMessages is flush.messages: an append is not vouched for while more records
	// than this are unsynced. 0 and very large values mean never.
	FlushMessages int64
	// FlushInterval is flush.ms: for how long a written record may stay unsynced, if that
	// is less than the broker's own bound. 0 means no bound of its own.
	FlushInterval time.Duration
}

// Options configure a Manager.
type Options struct {
	// Self is the broker's current registration; a partition is led only under it.
	Self func() model.Pair
	// Dirs are the log directories, opened. At least one.
	Dirs []*storage.Dir
	// DeadDirs are further log directories, whose disks failed before they were opened.
	DeadDirs []DeadDir
	// Files is what counts the files of the logs in Dirs; the manager closes some when it is
	// full. nil if nothing bounds them.
	Files *storage.Files
	// Settings yields the settings of a topic under an image.
	Settings func(*meta.Image, *meta.Topic) (Settings, error)
	// Roles, if not nil, hears of partitions of internal topics that this broker begins
	// or ceases to lead. Calls come one at a time from Apply.
	Roles RoleListener
	// OnFailure hears once of each partition that went offline by itself; it must not block.
	OnFailure func(model.TopicPartition, error)
	// OnDirFailure hears once of each log directory whose disk failed, after its logs went
	// offline and the others hold the marker of it. It may block.
	OnDirFailure func(DirFailure)
	// Marks yields the limits of free space; nil is none. It is asked at every look.
	Marks func() Marks
	// FlushInterval and FlushBytes bound the unsynced tail per log directory
	// (5 s and 256 MiB).
	FlushInterval time.Duration
	FlushBytes    int64
	// RetentionInterval is log.retention.check.interval.ms (5 min).
	RetentionInterval func() time.Duration
	// Cleaner yields the present log.cleaner.* settings; nil is no compaction.
	Cleaner func() CleanerSettings
	// Scrub yields the present kalda.scrub.* settings; nil is no scrubbing.
	Scrub  func() ScrubSettings
	Clock  model.Clock
	Logger *slog.Logger
}

// RoleListener hears of leadership.
type RoleListener interface {
	// Leads says that this broker leads p in that epoch.
	Leads(p *Partition, epoch model.LeaderEpoch)
	// Resigns says that it no longer does.
	Resigns(tp model.TopicPartition, epoch model.LeaderEpoch)
}

// Manager owns the partitions of one broker.
type Manager struct {
	o    Options
	dirs []*logDir
	// retainNow asks for retention before its time. A set flag: capacity 1.
	retainNow chan struct{}

	// index is what request threads look partitions up in; Apply replaces it.
	index atomic.Pointer[index]

	converters converters
	cleaner    cleaner

	// appliedSelf is the registration of the latest Apply; led are the internal
	// partitions that Roles was told this broker leads. Both belong to Apply.
	appliedSelf model.Pair
	led         map[model.Partition]ledRole

	// reclaiming is held while files are closed for others; see reclaim.
	reclaiming sync.Mutex

	mu struct {
		sync.Mutex
		// byID are all open partitions.
		byID map[model.Partition]*Partition
	}
	applied struct {
		sync.Mutex
		revision int64
		waiters  []appliedWaiter
	}
}

type appliedWaiter struct {
	revision int64
	done     chan struct{}
}

// ledRole is an internal partition that Roles was told of.
type ledRole struct {
	tp    model.TopicPartition
	epoch model.LeaderEpoch
}

// index is an immutable lookup of the partitions this broker holds.
type index struct {
	byName map[string]*held
	byID   map[model.TopicID]*held
}

// held are the partitions of one topic that this broker holds; nil where it does not.
type held struct {
	topic *meta.Topic
	parts []*Partition
	// failed are those that it should hold but whose log cannot be opened, with the
	// KAFKA_STORAGE_ERROR that requests are answered with; nil if there are none.
	failed map[int32]error
}

// New builds a manager; Run serves its background work, Apply its images.
func New(o Options) *Manager {
	if o.FlushInterval == 0 {
		o.FlushInterval = 5 * time.Second
	}
	if o.FlushBytes == 0 {
		o.FlushBytes = 256 << 20
	}
	if o.RetentionInterval == nil {
		o.RetentionInterval = func() time.Duration { return 5 * time.Minute }
	}
	if o.Marks == nil {
		o.Marks = func() Marks { return Marks{} }
	}
	if o.Cleaner == nil {
		o.Cleaner = func() CleanerSettings { return CleanerSettings{Backoff: time.Minute} }
	}
	if o.Scrub == nil {
		o.Scrub = func() ScrubSettings { return ScrubSettings{} }
	}
	m := &Manager{o: o, converters: newConverters(), retainNow: make(chan struct{}, 1)}
	m.cleaner.m = m
	m.mu.byID = map[model.Partition]*Partition{}
	m.led = map[model.Partition]ledRole{}
	for _, d := range o.Dirs {
		m.dirs = append(m.dirs, newLogDir(m, d))
	}
	if o.Files != nil {
		o.Files.OnFull(func(want int) int { return m.reclaim(o.Files, want) })
	}
	m.index.Store(&index{byName: map[string]*held{}, byID: map[model.TopicID]*held{}})
	return m
}

// Lookup finds a partition by topic name. It returns UNKNOWN_TOPIC_OR_PARTITION when
// the topic or index is unknown, NOT_LEADER_OR_FOLLOWER when another broker holds it,
// KAFKA_STORAGE_ERROR when this one does but cannot open its log.
// name may alias a buffer; nothing is allocated.
func (m *Manager) Lookup(name []byte, partition int32) (*Partition, error) {
	h := m.index.Load().byName[string(name)]
	if h == nil {
		return nil, kerr.UnknownTopicOrPartition
	}
	return h.at(partition)
}

// LookupID finds a partition by topic id; an unknown id is UNKNOWN_TOPIC_ID.
func (m *Manager) LookupID(id model.TopicID, partition int32) (*Partition, error) {
	h := m.index.Load().byID[id]
	if h == nil {
		return nil, kerr.UnknownTopicID
	}
	return h.at(partition)
}

func (h *held) at(partition int32) (*Partition, error) {
	if partition < 0 || int(partition) >= len(h.parts) {
		return nil, kerr.UnknownTopicOrPartition
	}
	if p := h.parts[partition]; p != nil {
		return p, nil
	}
	if err := h.failed[partition]; err != nil {
		return nil, err
	}
	return nil, kerr.NotLeaderOrFollower
}

// Apply takes a cluster image: opens, leads, resigns and removes. One call at a time.
func (m *Manager) Apply(im *meta.Image) {
	self := m.o.Self()
	next := &index{byName: make(map[string]*held, len(im.Topics)), byID: make(map[model.TopicID]*held, len(im.Topics))}
	prev := m.index.Load()
	var changed []*change
	var open []*opening
	for name, t := range im.Topics {
		// Images share what did not change. After a new registration every state counts
		// anew, and a log that could not be opened is tried again.
		if h := prev.byID[t.ID]; h != nil && h.topic == t && self == m.appliedSelf && h.failed == nil {
			next.byName[name], next.byID[t.ID] = h, h
			continue
		}
		c := m.change(im, t, self.ID)
		changed, open = append(changed, c), append(open, c.open...)
	}
	failed := m.openAll(open)
	for _, c := range changed {
		h := m.hold(c, self, failed)
		next.byName[c.topic.Name], next.byID[c.topic.ID] = h, h
	}
	m.index.Store(next)
	m.appliedSelf = self
	m.removeDeleted(im)
	m.tellRoles(next)
	m.setApplied(im.Revision)
}

// change is a topic that an image brings, or that has changed in it.
type change struct {
	topic    *meta.Topic
	settings *Settings
	// err is why there are no settings: an open partition keeps those it has and no other
	// is opened.
	err error
	// open are its partitions that this broker holds and that are not open yet.
	open []*opening
}

// change looks at what a topic needs.
func (m *Manager) change(im *meta.Image, t *meta.Topic, self model.BrokerID) *change {
	settings, err := m.o.Settings(im, t)
	if err != nil {
		m.o.Logger.Error("a topic's configuration cannot be used; its present one stays", "topic", t.Name, "err", err)
	}
	c := &change{topic: t, settings: &settings, err: err}
	if err != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, st := range t.Partitions {
		id := model.Partition{Topic: t.ID, Index: int32(i)}
		if contains(st.Replicas, self) && m.mu.byID[id] == nil {
			tp := model.TopicPartition{Topic: t.Name, Partition: int32(i)}
			c.open = append(c.open, &opening{tp: tp, id: id, settings: c.settings})
		}
	}
	return c
}

// hold applies a changed topic to its partitions, whose logs are open but for those that
// failed.
func (m *Manager) hold(c *change, self model.Pair, failed map[model.Partition]error) *held {
	h := &held{topic: c.topic, parts: make([]*Partition, len(c.topic.Partitions))}
	for i, st := range c.topic.Partitions {
		if !contains(st.Replicas, self.ID) {
			continue
		}
		id := model.Partition{Topic: c.topic.ID, Index: int32(i)}
		m.mu.Lock()
		p := m.mu.byID[id]
		m.mu.Unlock()
		if p == nil {
			if h.failed == nil {
				h.failed = map[int32]error{}
			}
			tp := model.TopicPartition{Topic: c.topic.Name, Partition: int32(i)}
			err := cmp.Or(failed[id], c.err)
			h.failed[int32(i)] = kerr.With(kerr.KafkaStorageError, "the log of %s cannot be opened: %v", tp, err)
			continue
		}
		if c.err == nil {
			p.set(c.settings)
		}
		p.apply(self, st)
		h.parts[i] = p
	}
	return h
}

// Refresh computes every topic's settings anew, after broker-wide defaults changed.
func (m *Manager) Refresh(im *meta.Image) {
	for _, h := range m.index.Load().byID {
		s, err := m.o.Settings(im, h.topic)
		if err != nil {
			m.o.Logger.Error("a topic's configuration cannot be used; its present one stays", "topic", h.topic.Name, "err", err)
			continue
		}
		for _, p := range h.parts {
			if p != nil {
				p.set(&s)
			}
		}
	}
}

func contains(ids []model.BrokerID, id model.BrokerID) bool {
	for _, r := range ids {
		if r == id {
			return true
		}
	}
	return false
}

// report logs what recovery found, as far as an operator should know.
func (m *Manager) report(tp model.TopicPartition, r storage.Recovery) {
	level := slog.LevelDebug
	switch {
	case r.Damaged:
		level = slog.LevelError
	case r.CutBytes > 0 || len(r.Rebuilt) > 0:
		level = slog.LevelWarn
	case r.Clean || r.Created:
		return
	}
	m.o.Logger.Log(context.Background(), level, "a partition's log was recovered", "partition", tp.String(),
		"scanned_bytes", r.ScannedBytes, "scanned_batches", r.ScannedBatches, "cut_bytes", r.CutBytes,
		"cut_reason", r.CutReason, "damaged", r.Damaged, "lost", r.Lost, "rebuilt", r.Rebuilt)
}

// dirFor is where the partition's log is, or for a new one the directory with the
// fewest partitions. While a directory cannot be listed no log is taken for a new one: it
// would begin again, empty, beside its records.
func (m *Manager) dirFor(id model.Partition) (*logDir, error) {
	var best *logDir
	var unlisted error
	for _, d := range m.dirs {
		if d.found[id] {
			return d, d.offline()
		}
		if d.unlisted != nil {
			unlisted = d.unlisted
		}
		if d.offline() == nil && (best == nil || d.count.Load() < best.count.Load()) {
			best = d
		}
	}
	if best == nil {
		return nil, m.dirs[0].offline()
	}
	for _, d := range m.o.DeadDirs {
		unlisted = fmt.Errorf("log directory %s may hold it, and cannot be opened: %w", d.Path, d.Err)
	}
	return best, unlisted
}

// storage are the options of one partition's log. The jitter is the same each time, so
// that another change of the configuration does not roll a segment.
func (s *Settings) storage(id model.Partition) storage.Options {
	o := s.Storage
	if j := min(s.SegmentJitter, o.SegmentAge); j > 0 {
		h := fnv.New32a()
		// The index first: what comes last is hardly mixed.
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(id.Index)))
		_, _ = h.Write(id.Topic[:])
		part := float64(h.Sum32()) / (1 << 32) // below 1
		o.SegmentAge = max(o.SegmentAge-time.Duration(part*float64(j)), time.Millisecond)
	}
	return o
}

// set gives the partition its topic's settings, which are shared and must not change.
func (p *Partition) set(s *Settings) {
	if p.settings.Swap(s) == s {
		return
	}
	p.mu.Lock()
	if !p.mu.removed {
		p.mu.log.SetOptions(s.storage(p.ID))
	}
	p.mu.Unlock()
}

// removeDeleted removes the data of partitions whose topic has a tombstone.
func (m *Manager) removeDeleted(im *meta.Image) {
	var gone []*Partition
	m.mu.Lock()
	for id, p := range m.mu.byID {
		if _, dead := im.Tombstones[id.Topic]; dead {
			gone = append(gone, p)
			delete(m.mu.byID, id)
		}
	}
	m.mu.Unlock()
	for _, p := range gone {
		if _, err := p.close(); err != nil {
			m.o.Logger.Warn("closing a deleted partition", "partition", p.TP.String(), "err", err)
		}
		p.dir.count.Add(-1)
		if err := p.dir.d.RemoveLog(p.ID); err != nil {
			m.o.Logger.Error("a deleted partition's files cannot be removed", "partition", p.TP.String(), "err", err)
			p.dir.saw(err)
		}
	}
}

// Damaged says whether a log of the directory with that id was found damaged beyond what
// a crash leaves; its tails must not be trusted then.
func (m *Manager) Damaged(dirID string) bool {
	for _, d := range m.dirs {
		if d.d.ID() == dirID {
			return d.damaged.Load()
		}
	}
	return false
}

// RemoveStale removes what an earlier run left of deleted topics, files and entries of
// the journal, and reports directories that no metadata names: those are kept. Call it
// when the logs of all live topics were opened.
func (m *Manager) RemoveStale(im *meta.Image) error {
	var errs []error
	for _, d := range m.dirs {
		ids, err := d.d.Partitions()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, id := range ids {
			if _, live := im.TopicsByID[id.Topic]; live {
				continue
			}
			if _, dead := im.Tombstones[id.Topic]; !dead {
				m.o.Logger.Warn("a directory belongs to no topic that the cluster knows; it is left alone", "dir", d.d.Path(), "partition", id.String())
				continue
			}
			if err := d.d.RemoveLog(id); err != nil {
				errs = append(errs, err)
			}
		}
		for _, id := range d.d.Journal().Left() {
			if _, dead := im.Tombstones[id.Topic]; dead {
				d.d.Journal().Forget(id)
			}
		}
	}
	return errors.Join(errs...)
}

// tellRoles tells the listener which internal partitions are led here now.
func (m *Manager) tellRoles(ix *index) {
	if m.o.Roles == nil {
		return
	}
	now := map[model.Partition]*Partition{}
	for name, h := range ix.byName {
		if !meta.IsInternal(name) {
			continue
		}
		for _, p := range h.parts {
			if p != nil {
				now[p.ID] = p
			}
		}
	}
	for id, role := range m.led {
		p := now[id]
		if p != nil {
			if e, err := p.Leader(); err == nil && e == role.epoch {
				delete(now, id)
				continue
			}
		}
		m.o.Roles.Resigns(role.tp, role.epoch)
		delete(m.led, id)
	}
	for id, p := range now {
		if e, err := p.Leader(); err == nil {
			m.led[id] = ledRole{p.TP, e}
			m.o.Roles.Leads(p, e)
		}
	}
}

func (m *Manager) setApplied(rev int64) {
	m.applied.Lock()
	defer m.applied.Unlock()
	m.applied.revision = max(m.applied.revision, rev)
	keep := m.applied.waiters[:0]
	for _, w := range m.applied.waiters {
		if w.revision <= m.applied.revision {
			close(w.done)
		} else {
			keep = append(keep, w)
		}
	}
	m.applied.waiters = keep
}

// revision is that of the latest image that was applied, 0 before the first.
func (m *Manager) revision() int64 {
	m.applied.Lock()
	defer m.applied.Unlock()
	return m.applied.revision
}

// WaitApplied waits until an image of at least that revision was applied.
func (m *Manager) WaitApplied(ctx context.Context, rev int64) error {
	m.applied.Lock()
	if m.applied.revision >= rev {
		m.applied.Unlock()
		return nil
	}
	w := appliedWaiter{revision: rev, done: make(chan struct{})}
	m.applied.waiters = append(m.applied.waiters, w)
	m.applied.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for revision %d to be applied: %w", rev, ctx.Err())
	}
}

// Partitions returns all open partitions, in no order.
func (m *Manager) Partitions() []*Partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Partition, 0, len(m.mu.byID))
	for _, p := range m.mu.byID {
		out = append(out, p)
	}
	return out
}

// failed is told by a partition, with its lock held, that it went offline.
func (m *Manager) failed(p *Partition, err error) {
	if p.dir.offline() != nil {
		return // said of the directory, not of its thousands of logs
	}
	m.o.Logger.Error("a partition is offline until the process starts again", "partition", p.TP.String(), "err", err)
	m.failure(p.TP, err)
}

func (m *Manager) failure(tp model.TopicPartition, err error) {
	if m.o.OnFailure != nil {
		m.o.OnFailure(tp, err)
	}
}
