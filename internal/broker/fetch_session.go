package broker

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// Incremental fetch sessions (KIP-227): the broker remembers which partitions a
// consumer reads, so that a request names only what changed and an answer carries only
// partitions with news.
//
// A session is used by one request at a time in well-behaved clients; its mutex
// protects it from others. Sessions live in a bounded cache, least recently used out
// first.

// The fetch epochs with a meaning of their own.
const (
	sessionInitial = 0  // with id 0: begin a session
	sessionFinal   = -1 // no session, or end the one named
)

// partKey names a partition in a session: by topic id from Fetch v13 on, else by name.
type partKey struct {
	id    model.TopicID
	name  string
	index int32
}

// sessionPart is what a session remembers of one partition.
type sessionPart struct {
	key      partKey
	name     []byte // key.name, for answers
	offset   model.Offset
	maxBytes int32
	current  model.LeaderEpoch
	last     model.LeaderEpoch
	// What the client was told last; sent again only when it changed.
	sent     bool
	hw       model.Offset
	logStart model.Offset
	hadError bool
	hadData  bool
}

// session is one consumer's set of partitions.
type session struct {
	id       int32
	mu       sync.Mutex
	epoch    int32 // the epoch that the next request must carry
	parts    []*sessionPart
	spare    []*sessionPart // scratch of rotate
	byKey    map[partKey]*sessionPart
	lastUsed time.Duration // Clock.Boot; guarded by the cache
	elem     *list.Element // guarded by the cache
	// bytes is what the session counts against the cache's bound; guarded by the cache.
	bytes int
}

// partBytes is what one partition of a session takes beside its name: itself, its key in
// the map and its place in the lists.
const partBytes = 256

func (k *partKey) bytes() int { return partBytes + len(k.name) }

// set adds or changes a partition; p.name is shared by all partitions of a topic that one
// request adds. It returns by how many bytes the session grew.
func (s *session) set(p sessionPart) int {
	if old := s.byKey[p.key]; old != nil {
		old.offset, old.maxBytes, old.current, old.last = p.offset, p.maxBytes, p.current, p.last
		return 0
	}
	n := &p
	s.byKey[p.key] = n
	s.parts = append(s.parts, n)
	return p.key.bytes()
}

// forget takes a partition out and returns by how many bytes the session shrank.
func (s *session) forget(k partKey) int {
	p := s.byKey[k]
	if p == nil {
		return 0
	}
	delete(s.byKey, k)
	for i, q := range s.parts {
		if q == p {
			s.parts = append(s.parts[:i], s.parts[i+1:]...)
			break
		}
	}
	return p.key.bytes()
}

// find looks a partition up by name without copying it: the compiler makes no string of a
// name that is only looked up.
func (s *session) find(name []byte, index int32) *sessionPart {
	return s.byKey[partKey{name: string(name), index: index}]
}

// rotate moves partitions that had data behind the others, so that a full answer does
// not always begin with the same ones.
func (s *session) rotate() {
	n := 0
	s.spare = s.spare[:0]
	for _, p := range s.parts {
		if p.hadData {
			s.spare = append(s.spare, p)
		} else {
			s.parts[n] = p
			n++
		}
	}
	copy(s.parts[n:], s.spare)
	clear(s.spare)
}

// sessionCache holds the sessions of one broker.
type sessionCache struct {
	max int
	// maxBytes bounds what all sessions remember together.
	maxBytes int
	mu       sync.Mutex
	// bytes is the sum over the sessions.
	bytes int
	// byID and lru hold the same sessions; the front of lru is the least recently used.
	byID map[int32]*session
	lru  *list.List
}

// sessionEvictable is for how long a session must not have been used before another
// may take its place (min.incremental.fetch.session.eviction.ms).
const sessionEvictable = 120 * time.Second

func newSessionCache(max, maxBytes int) *sessionCache {
	return &sessionCache{max: max, maxBytes: maxBytes, byID: map[int32]*session{}, lru: list.New()}
}

// create begins a session; nil when the cache is full of sessions in use.
func (c *sessionCache) create(now time.Duration) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byID) >= c.max {
		oldest := c.lru.Front()
		if oldest == nil {
			return nil
		}
		s := oldest.Value.(*session)
		if now-s.lastUsed < sessionEvictable {
			return nil
		}
		c.removeLocked(s)
	}
	s := &session{epoch: 1, byKey: map[partKey]*sessionPart{}, lastUsed: now}
	for s.id == 0 || c.byID[s.id] != nil {
		s.id = rand.Int32()
	}
	c.byID[s.id] = s
	s.elem = c.lru.PushBack(s)
	return s
}

// use finds the session of an incremental request and steps its epoch.
func (c *sessionCache) use(id, epoch int32, now time.Duration) (*session, error) {
	c.mu.Lock()
	s := c.byID[id]
	if s != nil {
		s.lastUsed = now
		c.lru.MoveToBack(s.elem)
	}
	c.mu.Unlock()
	if s == nil {
		return nil, kerr.FetchSessionIDNotFound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return nil, kerr.InvalidFetchSessionEpoch
	}
	if s.epoch++; s.epoch < 0 { // wrapped past 2^31-1
		s.epoch = 1
	}
	return s, nil
}

// remove ends a session, if there is one.
func (c *sessionCache) remove(id int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.byID[id]; s != nil {
		c.removeLocked(s)
	}
}

func (c *sessionCache) removeLocked(s *session) {
	delete(c.byID, s.id)
	c.lru.Remove(s.elem)
	c.bytes -= s.bytes
}

// left is by how many bytes sessions may grow.
func (c *sessionCache) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.maxBytes - c.bytes
}

// grow notes that a session grew by n bytes, which may be negative. When that is more than
// all sessions may take together the session ends, and grow says no: the client begins
// anew and is served without one, or with a smaller one.
func (c *sessionCache) grow(s *session, n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[s.id] != s {
		return true // ended meanwhile; what it holds goes with this request
	}
	if n > 0 && c.bytes+n > c.maxBytes {
		c.removeLocked(s)
		return false
	}
	s.bytes += n
	c.bytes += n
	return true
}

// len is the number of sessions, for metrics.
func (c *sessionCache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byID)
}
