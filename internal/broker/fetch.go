package broker

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/wheel"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// Fetch (1): 4 to 18. v7 brings sessions (KIP-227), v10 zstd, v11 the client's rack, v12
// the flexible form and epochs (KIP-595), v13 topic ids, v15 another place for the
// replica id, v16 node endpoints (KIP-951). Answers carry batches as they are stored.
//
// A request is turned into a list of partitions, read, and answered at once if enough
// bytes are there, an error is among them, or no waiting was asked for. Otherwise it
// parks: one watch per partition and one entry in the timing wheel; what comes first
// completes it, and the goroutine that sends reads the batches.

// copyBytes is up to how many bytes of batches are copied into an answer, which small answers
// of one connection then share a write with.
const copyBytes = 64 << 10

// fetchPart is one partition of a fetch.
type fetchPart struct {
	part     *replica.Partition // nil if the lookup failed
	err      error
	name     []byte // for answers by name; not to be changed
	id       model.TopicID
	index    int32
	args     replica.ReadArgs
	maxBytes int
	sess     *sessionPart // nil without a session
	watch    replica.FetchWatch
	avail    int // bytes known to be readable, while parked
	result   replica.ReadResult
}

// fetchState is one Fetch, pooled by the broker.
type fetchState struct {
	b        *Broker
	minBytes int
	maxBytes int
	sess     *session
	// full says that every partition is answered; an incremental answer leaves out what
	// has no news.
	full bool
	// committed is isolation level read_committed.
	committed bool
	parts     []fetchPart
	// streams says that the batches are not copied into the answer but read when it is
	// sent; streamed are the indexes in parts of those that have some, in order.
	streams  bool
	streamed []int

	mu     sync.Mutex
	p      *wire.Pending
	parked bool
	// parking holds the answer back while watches are still being set: whoever sends
	// would take them off at the same time.
	parking  bool
	ready    bool
	total    int
	deadline time.Duration
	expiry   wheel.Entry
}

func (b *Broker) fetch(p *wire.Pending) wire.Outcome {
	cs := connStateOf(p.Conn)
	req := &cs.fetchReq
	if err := req.Decode(p.Version, p.Body); err != nil {
		p.CloseReason = fmt.Sprintf("Fetch version %d cannot be parsed: %v", p.Version, err)
		return wire.CloseConn
	}
	fs := b.newFetchState(p)
	if err := b.resolve(fs, req); err != nil {
		b.endFetch(fs)
		p.Resp = wire.AppendFetchStart(p.Resp, p.Version, 0, kerr.Code(err), 0, 0)
		p.Resp = wire.AppendFetchEnd(p.Resp, p.Version, nil)
		return wire.Done
	}
	defer req.Trim()
	fs.maxBytes = b.o.FetchMaxBytes
	if req.MaxBytes > 0 {
		fs.maxBytes = min(fs.maxBytes, int(req.MaxBytes))
	}
	fs.committed = req.IsolationLevel == 1
	fs.minBytes = min(int(req.MinBytes), fs.maxBytes)
	wait := time.Duration(max(req.MaxWaitMillis, 0)) * time.Millisecond
	n, urgent := fs.read()
	if n >= fs.minBytes || urgent || wait == 0 || len(fs.parts) == 0 && fs.full {
		fs.answer(p, n)
		return wire.Done
	}
	fs.release()
	fs.deadline = p.Arrived + wait
	p.Encode, p.State = fs, fs
	fs.park()
	return wire.Parked
}

// resolve fills the list of partitions from the request and its session.
func (b *Broker) resolve(fs *fetchState, req *wire.FetchRequest) error {
	if req.ReplicaID >= 0 {
		// Whoever claims to be a broker on a client listener is not believed (CVE-2018-1288).
		if req.Version >= 7 {
			return kerr.ClusterAuthorizationFailed
		}
		fs.full = true // the answer has room for errors of partitions only
		b.resolveRequest(fs, req)
		for i := range fs.parts {
			fs.parts[i].part, fs.parts[i].err = nil, kerr.ClusterAuthorizationFailed
		}
		return nil
	}
	switch {
	case req.SessionEpoch == sessionFinal:
		if req.SessionID != 0 {
			b.sessions.remove(req.SessionID)
		}
		fs.full = true
		b.resolveRequest(fs, req)
	case req.SessionEpoch == sessionInitial:
		if req.SessionID != 0 {
			b.sessions.remove(req.SessionID)
		}
		fs.full = true
		if fs.sess = b.sessions.create(b.o.Clock.Boot()); fs.sess == nil {
			b.resolveRequest(fs, req)
			return nil
		}
		fs.sess.mu.Lock()
		defer fs.sess.mu.Unlock()
		if !b.updateSession(fs.sess, req) {
			fs.sess = nil
			b.resolveRequest(fs, req)
			return nil
		}
		b.resolveSession(fs, req.Version)
	default:
		s, err := b.sessions.use(req.SessionID, req.SessionEpoch, b.o.Clock.Boot())
		if err != nil {
			return err
		}
		fs.sess = s
		s.mu.Lock()
		defer s.mu.Unlock()
		if !b.updateSession(s, req) {
			fs.sess = nil
			return kerr.FetchSessionIDNotFound
		}
		b.resolveSession(fs, req.Version)
	}
	return nil
}

// updateSession takes the request into the session; false when the sessions' bound on
// memory ended it.
func (b *Broker) updateSession(s *session, req *wire.FetchRequest) bool {
	grown, left := 0, b.sessions.left()
	for ti := range req.Topics {
		t := &req.Topics[ti]
		var name []byte
		var text string // of name
		for pi := range t.Partitions {
			q := &t.Partitions[pi]
			p := sessionPart{
				key: partKey{id: t.ID, index: q.Index}, offset: model.Offset(q.FetchOffset), maxBytes: q.MaxBytes,
				current: model.LeaderEpoch(q.CurrentLeaderEpoch), last: model.LeaderEpoch(q.LastFetchedEpoch),
			}
			if req.Version < 13 {
				// The name is copied only when a partition is new to the session, and then
				// once for all of the topic.
				if old := s.find(t.Name, q.Index); old != nil {
					p.key = old.key
				} else {
					if text == "" {
						name, text = bytes.Clone(t.Name), string(t.Name)
					}
					p.key.name, p.name = text, name
				}
			}
			if grown += s.set(p); grown > left {
				return b.sessions.grow(s, grown)
			}
		}
	}
	for ti := range req.Forgotten {
		t := &req.Forgotten[ti]
		for _, index := range t.Partitions {
			k := partKey{id: t.ID, index: index}
			if req.Version < 13 {
				old := s.find(t.Name, index)
				if old == nil {
					continue
				}
				k = old.key
			}
			grown -= s.forget(k)
		}
	}
	return b.sessions.grow(s, grown)
}

func (b *Broker) resolveSession(fs *fetchState, version int16) {
	for _, sp := range fs.sess.parts {
		f := fs.add()
		f.sess, f.id, f.name, f.index = sp, sp.key.id, sp.name, sp.key.index
		f.maxBytes = int(sp.maxBytes)
		f.args = replica.ReadArgs{From: sp.offset, CurrentEpoch: sp.current, LastEpoch: sp.last}
		if version >= 13 {
			f.part, f.err = b.o.Replicas.LookupID(f.id, f.index)
		} else {
			f.part, f.err = b.o.Replicas.Lookup(f.name, f.index)
		}
		f.refuseZstd(version)
	}
}

func (b *Broker) resolveRequest(fs *fetchState, req *wire.FetchRequest) {
	for ti := range req.Topics {
		t := &req.Topics[ti]
		var unknown []byte // the name of an unknown topic, once for all its partitions
		for pi := range t.Partitions {
			q := &t.Partitions[pi]
			f := fs.add()
			f.id, f.index, f.maxBytes = t.ID, q.Index, int(q.MaxBytes)
			f.args = replica.ReadArgs{
				From: model.Offset(q.FetchOffset), CurrentEpoch: model.LeaderEpoch(q.CurrentLeaderEpoch),
				LastEpoch: model.LeaderEpoch(q.LastFetchedEpoch),
			}
			if req.Version >= 13 {
				f.part, f.err = b.o.Replicas.LookupID(t.ID, q.Index)
			} else {
				f.part, f.err = b.o.Replicas.Lookup(t.Name, q.Index)
			}
			f.refuseZstd(req.Version)
			switch {
			case f.part != nil:
				f.name = f.part.Name()
			case req.Version < 13:
				if unknown == nil {
					unknown = bytes.Clone(t.Name)
				}
				f.name = unknown
			}
		}
	}
}

// refuseZstd turns consumers that do not know zstd away from topics that hold nothing else.
// Kafka: KafkaApis.handleFetchRequest; zstd from producers goes out there too.
func (f *fetchPart) refuseZstd(version int16) {
	if f.part != nil && version < 10 && f.part.StoresZstd() {
		f.part, f.err = nil, kerr.UnsupportedCompressionType
	}
}

// add appends a cleared partition.
func (fs *fetchState) add() *fetchPart {
	if n := len(fs.parts); n < cap(fs.parts) {
		fs.parts = fs.parts[:n+1]
	} else {
		fs.parts = append(fs.parts, fetchPart{})
	}
	f := &fs.parts[len(fs.parts)-1]
	*f = fetchPart{}
	return f
}

// read reads every partition within the bounds and returns the bytes found. urgent
// says that a partition has something to say that must not wait.
func (fs *fetchState) read() (total int, urgent bool) {
	left := fs.maxBytes
	for i := range fs.parts {
		f := &fs.parts[i]
		if f.part == nil {
			urgent = true
			continue
		}
		f.args.MaxBytes = max(min(f.maxBytes, left), 0)
		// KIP-74: the first batch goes out even if it is larger than every limit, so
		// that a consumer cannot get stuck.
		f.args.MinOne = total == 0
		f.result, f.err = f.part.Read(f.args)
		n := f.result.View.Len
		total += n
		left -= n
		if f.err != nil || f.result.Diverging {
			urgent = true
		}
	}
	return total, urgent
}

// release gives back what read holds.
func (fs *fetchState) release() {
	for i := range fs.parts {
		if fs.parts[i].part != nil {
			fs.parts[i].result.View.Release()
			fs.parts[i].result = replica.ReadResult{}
		}
	}
}

// park waits for bytes or the deadline. It may complete before it returns.
func (fs *fetchState) park() {
	fs.mu.Lock()
	fs.parked, fs.parking, fs.ready, fs.total = true, true, false, 0
	fs.b.o.Wheel.ScheduleAt(fs.deadline, &fs.expiry)
	fs.mu.Unlock()
	for i := range fs.parts {
		f := &fs.parts[i]
		f.args.MaxBytes = f.maxBytes
		n := f.part.Watch(&f.watch, fs, i, f.args)
		fs.Available(i, n)
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.parking = false
	if fs.ready {
		fs.finishLocked()
	}
}

// Available implements replica.FetchOwner.
func (fs *fetchState) Available(slot, n int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !fs.parked || fs.ready {
		return
	}
	if n < 0 {
		fs.finishLocked()
		return
	}
	f := &fs.parts[slot]
	if n > f.avail {
		fs.total += n - f.avail
		f.avail = n
	}
	if fs.total >= fs.minBytes {
		fs.finishLocked()
	}
}

// Expire implements wheel.Target: fetch.max.wait.ms is over.
func (fs *fetchState) Expire(_ *wheel.Entry, now time.Duration) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.parked && !fs.ready && now >= fs.deadline {
		fs.finishLocked()
	}
}

func (fs *fetchState) finishLocked() {
	fs.ready = true
	if fs.parking {
		return
	}
	fs.b.o.Wheel.Cancel(&fs.expiry)
	fs.p.Complete()
}

// unpark takes the watches off; afterwards nobody refers to the state.
func (fs *fetchState) unpark() {
	fs.mu.Lock()
	parked := fs.parked
	fs.parked = false
	fs.mu.Unlock()
	if !parked {
		return
	}
	fs.b.o.Wheel.Cancel(&fs.expiry)
	for i := range fs.parts {
		if f := &fs.parts[i]; f.part != nil {
			f.part.Unwatch(&f.watch)
		}
	}
}

// EncodeAnswer implements wire.Encoder for a parked fetch.
func (fs *fetchState) EncodeAnswer(p *wire.Pending) {
	fs.unpark()
	n, _ := fs.read()
	fs.answer(p, n)
}

// answer appends the answer from what read found, n bytes of batches. Few are copied into
// it; many are left to be read when they are sent, and the state lives until then.
func (fs *fetchState) answer(p *wire.Pending, n int) {
	fs.streams = n > copyBytes
	fs.encode(p)
	if len(p.Parts) > 0 {
		p.Stream = fs
		return
	}
	fs.b.endFetch(fs)
}

// ReadStream implements wire.Stream.
func (fs *fetchState) ReadStream(part int, b []byte, off int64) error {
	f := &fs.parts[fs.streamed[part]]
	_, err := f.result.View.ReadAt(b, off)
	if err != nil {
		f.part.ReadFailed(err)
	}
	return err
}

// EndStream implements wire.Stream.
func (fs *fetchState) EndStream() {
	for _, i := range fs.streamed {
		fs.parts[i].result.View.Release()
	}
	fs.b.endFetch(fs)
}

// encode appends the answer from what read found.
func (fs *fetchState) encode(p *wire.Pending) {
	var sessionID int32
	if fs.sess != nil {
		sessionID = fs.sess.id
		fs.sess.mu.Lock()
		defer fs.sess.mu.Unlock()
	}
	out := wire.AppendFetchStart(p.Resp, p.Version, 0, 0, sessionID, fs.groups())
	moved := false
	for i := 0; i < len(fs.parts); {
		n := fs.groupEnd(i)
		count := 0
		for j := i; j < n; j++ {
			if fs.parts[j].tell(fs) {
				count++
			}
		}
		if count > 0 {
			out = wire.AppendFetchTopic(out, p.Version, fs.parts[i].name, fs.parts[i].id, count)
			for j := i; j < n; j++ {
				f := &fs.parts[j]
				if !f.tell(fs) {
					continue
				}
				out = fs.encodePart(out, p, j)
				moved = moved || kerr.Of(f.err) == kerr.NotLeaderOrFollower
			}
			out = wire.AppendFetchTopicEnd(out, p.Version)
		}
		i = n
	}
	var nodes []wire.NodeEndpoint
	if moved && p.Version >= 16 {
		nodes = fs.b.nodeEndpoints(p.Conn)
	}
	p.Resp = wire.AppendFetchEnd(out, p.Version, nodes)
	if fs.sess != nil {
		fs.remember()
	}
}

func (fs *fetchState) encodePart(out []byte, p *wire.Pending, i int) []byte {
	f := &fs.parts[i]
	h := wire.NewFetchedPartition(f.index, kerr.Code(f.err))
	if fs.committed {
		h.Aborted = fs.b.noAborted
	}
	n := 0
	switch {
	case f.err == nil:
		r := &f.result
		h.HighWatermark, h.LastStableOffset, h.LogStartOffset = int64(r.HighWatermark), int64(r.LastStable), int64(r.LogStart)
		if r.Diverging {
			h.DivergingEpoch = wire.EpochEnd{Set: true, Epoch: int32(r.DivergingEpoch), EndOffset: int64(r.DivergingEnd)}
		}
		n = r.View.Len
	case kerr.Of(f.err) == kerr.OffsetOutOfRange:
		h.LogStartOffset = int64(f.result.LogStart)
		h.HighWatermark, h.LastStableOffset = int64(f.result.HighWatermark), int64(f.result.LastStable)
	case kerr.Of(f.err) == kerr.NotLeaderOrFollower || kerr.Of(f.err) == kerr.FencedLeaderEpoch:
		if id, epoch, ok := fs.b.presentLeader(f.name, f.id, f.index); ok {
			h.CurrentLeader = wire.Leader{Set: true, ID: int32(id), Epoch: int32(epoch)}
		}
	}
	mark := len(out)
	out = wire.AppendFetched(out, p.Version, &h, n)
	switch {
	case n > 0 && fs.streams:
		p.Parts = append(p.Parts, wire.Part{At: len(out), Len: n})
		fs.streamed = append(fs.streamed, i)
	case n > 0:
		at := len(out)
		out = slices.Grow(out, n)[:at+n]
		_, err := f.result.View.ReadAt(out[at:], 0)
		f.result.View.Release()
		if err != nil {
			// The answer for this partition is begun again without data.
			f.part.ReadFailed(err)
			f.err = kerr.KafkaStorageError
			f.result = replica.ReadResult{}
			return fs.encodePart(out[:mark], p, i)
		}
	}
	return wire.AppendFetchedEnd(out, p.Version, &h)
}

// groupEnd is the end of the run of partitions of one topic that begins at i.
func (fs *fetchState) groupEnd(i int) int {
	n := i + 1
	for n < len(fs.parts) && fs.parts[n].id == fs.parts[i].id && bytes.Equal(fs.parts[n].name, fs.parts[i].name) {
		n++
	}
	return n
}

// groups is the number of topics in the answer.
func (fs *fetchState) groups() int {
	topics := 0
	for i := 0; i < len(fs.parts); {
		n := fs.groupEnd(i)
		for j := i; j < n; j++ {
			if fs.parts[j].tell(fs) {
				topics++
				break
			}
		}
		i = n
	}
	return topics
}

// tell says whether the partition belongs into the answer: always without a session or
// in its first answer, later only with news.
func (f *fetchPart) tell(fs *fetchState) bool {
	if fs.full || f.sess == nil {
		return true
	}
	s := f.sess
	return f.err != nil || s.hadError || !s.sent || f.result.Diverging || f.result.View.Len > 0 ||
		f.result.HighWatermark != s.hw || f.result.LogStart != s.logStart
}

// remember notes in the session what the answer told.
func (fs *fetchState) remember() {
	for i := range fs.parts {
		f := &fs.parts[i]
		f.sess.hadError = f.err != nil
		f.sess.sent = f.err == nil
		f.sess.hw, f.sess.logStart = f.result.HighWatermark, f.result.LogStart
		f.sess.hadData = f.result.View.Len > 0
	}
	fs.sess.rotate()
}

// Cancel implements wire.Handler: the connection of a parked request is gone.
func (b *Broker) Cancel(p *wire.Pending) {
	if fs, ok := p.State.(*fetchState); ok {
		fs.unpark()
	}
}

// Closed implements wire.Handler.
func (b *Broker) Closed(c *wire.Conn) { c.State = nil }

func (b *Broker) newFetchState(p *wire.Pending) *fetchState {
	fs, _ := b.fetchStates.Get().(*fetchState)
	if fs == nil {
		fs = &fetchState{b: b}
		fs.expiry.Target = fs
	}
	fs.mu.Lock() // the wheel may be about to tell of an earlier use
	fs.p, fs.sess, fs.full, fs.parked, fs.ready = p, nil, false, false, false
	fs.mu.Unlock()
	fs.parts, fs.streamed = fs.parts[:0], fs.streamed[:0]
	return fs
}

// endFetch gives a state back that nothing refers to any more.
func (b *Broker) endFetch(fs *fetchState) {
	fs.mu.Lock()
	fs.p, fs.sess = nil, nil
	fs.mu.Unlock()
	clear(fs.parts)
	if cap(fs.parts) > 1024 {
		fs.parts, fs.streamed = nil, nil // one large request must not pin its memory
	}
	b.fetchStates.Put(fs)
}
