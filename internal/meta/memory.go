package meta

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

// memoryHistory is how many revisions a Memory keeps for watches and pinned ranges;
// older ones are compacted. A watcher that falls further behind loads again.
const memoryHistory = 8192

// Memory is a Store in this process's memory, for tests and ephemeral clusters. It
// behaves as the etcd store does (storetest holds both to it). Safe for concurrent use.
type Memory struct {
	clock model.Clock

	mu struct {
		sync.Mutex
		revision  int64
		compacted int64 // reads and watches below are refused
		versions  map[string][]version
		names     []string // keys of versions, sorted
		history   []Revision
		leases    map[LeaseID]*memoryLease
		lastLease LeaseID
		changed   chan struct{} // closed at the next revision, or at Close
		closed    bool
	}
}

// version is one life stage of a key, in force from its mod revision to the next version's.
type version struct {
	KV
	deleted bool
}

type memoryLease struct {
	ttl      time.Duration
	deadline time.Duration // on clock.Boot
	timer    *time.Timer
	keys     map[string]bool
}

// NewMemory returns an empty store whose leases follow the clock's Boot time.
func NewMemory(clock model.Clock) *Memory {
	m := &Memory{clock: clock}
	m.mu.revision = 1
	m.mu.versions = map[string][]version{}
	m.mu.leases = map[LeaseID]*memoryLease{}
	m.mu.changed = make(chan struct{})
	return m
}

// Close ends leases' timers and all watches. Later calls return ErrClosed.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return nil
	}
	m.mu.closed = true
	for _, l := range m.mu.leases {
		l.timer.Stop()
	}
	close(m.mu.changed)
	return nil
}

// checkLocked refuses calls on a closed store and under an ended context.
func (m *Memory) checkLocked(ctx context.Context) error {
	if m.mu.closed {
		return ErrClosed
	}
	return ctx.Err()
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (KV, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(ctx); err != nil {
		return KV{}, 0, err
	}
	return m.atLocked(key, m.mu.revision), m.mu.revision, nil
}

// atLocked returns the key as it was at a revision that is not compacted.
func (m *Memory) atLocked(key string, revision int64) KV {
	vs := m.mu.versions[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].ModRevision <= revision {
			if vs[i].deleted {
				break
			}
			return vs[i].KV
		}
	}
	return KV{Key: key}
}

// Range implements Store.
func (m *Memory) Range(ctx context.Context, prefix, after string, limit int, revision int64) (Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(ctx); err != nil {
		return Page{}, err
	}
	if revision == 0 {
		revision = m.mu.revision
	}
	if revision < m.mu.compacted {
		return Page{}, fmt.Errorf("range %s at %d: %w", prefix, revision, ErrCompacted)
	}
	if revision > m.mu.revision {
		return Page{}, fmt.Errorf("range %s at %d: the store is at %d", prefix, revision, m.mu.revision)
	}
	page := Page{Revision: revision}
	i, _ := slices.BinarySearch(m.mu.names, prefix)
	if after != "" {
		var found bool
		if i, found = slices.BinarySearch(m.mu.names, after); found {
			i++
		}
	}
	for ; i < len(m.mu.names) && strings.HasPrefix(m.mu.names[i], prefix); i++ {
		kv := m.atLocked(m.mu.names[i], revision)
		if !kv.Exists() {
			continue
		}
		if len(page.KVs) == limit {
			page.More = true
			break
		}
		page.KVs = append(page.KVs, kv)
	}
	return page, nil
}

// Txn implements Store.
func (m *Memory) Txn(ctx context.Context, txn Txn) (TxnResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(ctx); err != nil {
		return TxnResult{}, err
	}
	if err := CheckTxn(txn); err != nil {
		return TxnResult{}, err
	}
	for _, c := range txn.If {
		kv := m.atLocked(c.Key, m.mu.revision)
		have := kv.CreateRevision
		if c.Target == CompareMod {
			have = kv.ModRevision
		}
		if have != c.Revision {
			res := TxnResult{Revision: m.mu.revision}
			for _, c := range txn.If {
				res.Current = append(res.Current, m.atLocked(c.Key, m.mu.revision))
			}
			return res, nil
		}
	}
	for _, op := range txn.Then {
		if op.Lease != 0 && m.mu.leases[op.Lease] == nil {
			return TxnResult{}, fmt.Errorf("put %s: %w", op.Key, ErrLeaseNotFound)
		}
	}
	m.writeLocked(txn.Then)
	return TxnResult{Applied: true, Revision: m.mu.revision}, nil
}

// CheckTxn says whether a store may refuse the transaction for its form: too many
// conditions or operations, or a key written twice. The error is ErrInvalidTxn.
func CheckTxn(txn Txn) error {
	if max(len(txn.If), len(txn.Then)) > MaxTxnOps {
		return fmt.Errorf("%d conditions and %d operations, at most %d: %w", len(txn.If), len(txn.Then), MaxTxnOps, ErrInvalidTxn)
	}
	seen := make(map[string]bool, len(txn.Then))
	for _, op := range txn.Then {
		if seen[op.Key] {
			return fmt.Errorf("key %s is written twice: %w", op.Key, ErrInvalidTxn)
		}
		seen[op.Key] = true
	}
	return nil
}

// writeLocked carries out operations at one new revision, if they change anything.
func (m *Memory) writeLocked(ops []Op) {
	rev := Revision{Revision: m.mu.revision + 1}
	for _, op := range ops {
		old := m.atLocked(op.Key, m.mu.revision)
		if op.Delete && !old.Exists() {
			continue
		}
		if l := m.mu.leases[old.Lease]; l != nil {
			delete(l.keys, op.Key)
		}
		v := version{KV: KV{Key: op.Key, ModRevision: rev.Revision}, deleted: op.Delete}
		if !op.Delete {
			v.Value = slices.Clone(op.Value)
			v.Lease = op.Lease
			v.CreateRevision = old.CreateRevision
			if !old.Exists() {
				v.CreateRevision = rev.Revision
			}
			if l := m.mu.leases[op.Lease]; l != nil {
				l.keys[op.Key] = true
			}
		}
		if _, ok := m.mu.versions[op.Key]; !ok {
			i, _ := slices.BinarySearch(m.mu.names, op.Key)
			m.mu.names = slices.Insert(m.mu.names, i, op.Key)
		}
		m.mu.versions[op.Key] = append(m.mu.versions[op.Key], v)
		rev.Events = append(rev.Events, Event{KV: v.KV, Deleted: op.Delete})
	}
	if len(rev.Events) == 0 {
		return
	}
	m.mu.revision = rev.Revision
	m.mu.history = append(m.mu.history, rev)
	if len(m.mu.history) > 2*memoryHistory {
		m.compactLocked(m.mu.revision - memoryHistory)
	}
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
}

// Compact forgets what was before a revision: ranges and watches from below it get
// ErrCompacted.
func (m *Memory) Compact(revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compactLocked(min(revision, m.mu.revision))
}

func (m *Memory) compactLocked(revision int64) {
	if revision <= m.mu.compacted {
		return
	}
	m.mu.compacted = revision
	i := slices.IndexFunc(m.mu.history, func(r Revision) bool { return r.Revision >= revision })
	if i < 0 {
		i = len(m.mu.history)
	}
	m.mu.history = slices.Clone(m.mu.history[i:])
	names := m.mu.names[:0]
	for _, name := range m.mu.names {
		vs := m.mu.versions[name]
		keep := 0 // the last version at or below revision
		for keep+1 < len(vs) && vs[keep+1].ModRevision <= revision {
			keep++
		}
		if vs[keep].deleted && vs[keep].ModRevision <= revision {
			keep++
		}
		if keep == len(vs) {
			delete(m.mu.versions, name)
			continue
		}
		m.mu.versions[name] = slices.Clone(vs[keep:])
		names = append(names, name)
	}
	m.mu.names = names
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, prefix string, from int64) (Watcher, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(ctx); err != nil {
		return nil, err
	}
	return &memoryWatcher{m: m, prefix: prefix, next: from}, nil
}

type memoryWatcher struct {
	m      *Memory
	prefix string
	next   int64 // the first revision that was not looked at
}

// Next implements Watcher.
func (w *memoryWatcher) Next(ctx context.Context) ([]Revision, error) {
	for {
		revs, changed, err := w.take()
		if err != nil || len(revs) > 0 {
			return revs, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take returns what is ready, or else the channel that tells of more.
func (w *memoryWatcher) take() ([]Revision, <-chan struct{}, error) {
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return nil, nil, fmt.Errorf("watch %s: %w", w.prefix, ErrWatchLost)
	}
	if w.next < m.mu.compacted {
		return nil, nil, fmt.Errorf("watch %s from %d: %w", w.prefix, w.next, ErrCompacted)
	}
	i, _ := slices.BinarySearchFunc(m.mu.history, w.next, func(r Revision, n int64) int {
		return int(r.Revision - n)
	})
	var revs []Revision
	for _, r := range m.mu.history[i:] {
		mine := Revision{Revision: r.Revision}
		for _, e := range r.Events {
			if strings.HasPrefix(e.Key, w.prefix) {
				mine.Events = append(mine.Events, e)
			}
		}
		if len(mine.Events) > 0 {
			revs = append(revs, mine)
		}
	}
	w.next = max(w.next, m.mu.revision+1)
	return revs, m.mu.changed, nil
}

// Close implements Watcher.
func (w *memoryWatcher) Close() {}

// Grant implements Store.
func (m *Memory) Grant(ctx context.Context, ttl time.Duration) (LeaseID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(ctx); err != nil {
		return 0, err
	}
	ttl = max(time.Second, (ttl + time.Second - 1).Truncate(time.Second))
	m.mu.lastLease++
	id := m.mu.lastLease
	m.mu.leases[id] = &memoryLease{
		ttl:      ttl,
		deadline: m.clock.Boot() + ttl,
		timer:    time.AfterFunc(ttl, func() { m.expire(id) }),
		keys:     map[string]bool{},
	}
	return id, nil
}

// expire ends a lease whose deadline has passed, and looks again later if it has not.
func (m *Memory) expire(id LeaseID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.mu.leases[id]
	if l == nil || m.mu.closed {
		return
	}
	if left := l.deadline - m.clock.Boot(); left > 0 {
		l.timer.Reset(left)
		return
	}
	m.revokeLocked(id)
}

func (m *Memory) revokeLocked(id LeaseID) {
	l := m.mu.leases[id]
	if l == nil {
		return
	}
	l.timer.Stop()
	var ops []Op
	for key := range l.keys {
		ops = append(ops, Delete(key))
	}
	slices.SortFunc(ops, func(a, b Op) int { return strings.Compare(a.Key, b.Key) })
	m.writeLocked(ops)
	delete(m.mu.leases, id)
}

// KeepAlive implements Store.
func (m *Memory) KeepAlive(ctx context.Context, id LeaseID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(ctx); err != nil {
		return err
	}
	l := m.mu.leases[id]
	if l == nil {
		return fmt.Errorf("lease %d: %w", id, ErrLeaseNotFound)
	}
	l.deadline = m.clock.Boot() + l.ttl // the timer finds out when it fires
	return nil
}

// Revoke implements Store.
func (m *Memory) Revoke(ctx context.Context, id LeaseID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(ctx); err != nil {
		return err
	}
	m.revokeLocked(id)
	return nil
}
