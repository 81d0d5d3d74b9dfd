package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// firstLoadBuffer is the size of a load's first read. Most partitions hold less: fifty of
// them must not cost fifty times Options.LoadBufferBytes when a broker starts.
const firstLoadBuffer = 64 << 10

// maxLoadBuffer bounds the buffer that a long batch may ask for; no batch is longer.
const maxLoadBuffer = 256 << 20

// waiting are replies that may leave once all below end is committed.
type waiting[C Call] struct {
	end   model.Offset
	calls []C
}

// shard runs one core at one leader epoch of one partition. Its goroutine owns all
// fields that are not in mu.
type shard[C Call] struct {
	r         *Runtime[C]
	partition int32
	epoch     model.LeaderEpoch
	log       Log
	logger    *slog.Logger
	// signal holds a token when something in mu is news to the goroutine.
	signal chan struct{}

	mu struct {
		sync.Mutex
		inbox   []C
		loading bool
		// ended: no call is accepted any more; the goroutine fails what is left and goes.
		ended bool
		// committed is how far the log is known to be committed (exclusive).
		committed model.Offset
	}

	core Core[C]
	// replies wait in the order of their end; appended is the last end.
	replies  []waiting[C]
	appended model.Offset
	out      Effects[C]
	spare    []C    // the inbox's other buffer
	buf      []byte // the batch that is being built
}

func newShard[C Call](r *Runtime[C], partition int32, epoch model.LeaderEpoch, log Log) *shard[C] {
	s := &shard[C]{
		r: r, partition: partition, epoch: epoch, log: log, signal: make(chan struct{}, 1),
		logger: r.opts.Logger.With("partition", partition, "leaderEpoch", int32(epoch)),
	}
	s.mu.loading = true
	return s
}

func (s *shard[C]) submit(call C, tell bool) {
	s.mu.Lock()
	var err error
	switch {
	case s.mu.ended:
		err = kerr.NotCoordinator
	case s.mu.loading && !tell:
		err = kerr.CoordinatorLoadInProgress
	case len(s.mu.inbox) >= s.r.opts.MaxInbox:
		err = kerr.CoordinatorNotAvailable
	default:
		s.mu.inbox = append(s.mu.inbox, call)
	}
	s.mu.Unlock()
	if err != nil {
		call.Fail(err)
		return
	}
	s.wake()
}

// end makes the goroutine finish.
func (s *shard[C]) end() {
	s.mu.Lock()
	s.mu.ended = true
	s.mu.Unlock()
	s.wake()
}

func (s *shard[C]) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

func (s *shard[C]) isEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.ended
}

func (s *shard[C]) now() Now {
	return Now{Boot: s.r.clock.Boot(), Wall: s.r.clock.Wall()}
}

// run loads and serves until the shard ends, and begins anew when an append fails.
func (s *shard[C]) run() {
	backoff := s.r.opts.ReloadBackoff
	for {
		began := s.r.clock.Boot()
		err := s.load()
		if err == nil {
			err = s.serve()
		}
		s.failAll(err)
		if s.isEnded() {
			return
		}
		if s.r.clock.Boot()-began > 2*s.r.opts.MaxReloadBackoff {
			backoff = s.r.opts.ReloadBackoff
		}
		s.logger.Warn("coordinator shard loads again", "error", err, "after", backoff)
		if !s.pause(backoff) {
			return
		}
		backoff = min(2*backoff, s.r.opts.MaxReloadBackoff)
	}
}

// pause waits for d; false when the shard ended before.
func (s *shard[C]) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return !s.isEnded()
		case <-s.signal:
			if s.isEnded() {
				return false
			}
		}
	}
}

// failAll answers everything that the shard still owes with err and forgets the state.
func (s *shard[C]) failAll(err error) {
	s.mu.Lock()
	if errors.Is(err, kerr.NotCoordinator) {
		s.mu.ended = true
	}
	s.mu.loading = true
	inbox := s.mu.inbox
	s.mu.inbox = nil
	s.mu.Unlock()
	for _, c := range s.out.Replies {
		c.Fail(err)
	}
	for _, w := range s.replies {
		for _, c := range w.calls {
			c.Fail(err)
		}
	}
	if s.core != nil {
		for _, c := range s.core.Parked() {
			c.Fail(err)
		}
	}
	for _, c := range inbox {
		c.Fail(err)
	}
	s.out, s.replies, s.core = Effects[C]{}, nil, nil
}

// load replays the log up to its end and waits until that end is committed.
func (s *shard[C]) load() error {
	// Loads are few at a time; waiting for a turn must not outlive the shard.
	for taken := false; !taken; {
		select {
		case s.r.loads <- struct{}{}:
			taken = true
		case <-s.signal:
			if s.isEnded() {
				return kerr.NotCoordinator
			}
		}
	}
	began := s.r.clock.Boot()
	core := s.r.newCore(s.partition)
	end := s.log.EndOffset()
	n, err := s.replay(core, end)
	<-s.r.loads
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.mu.committed = min(s.mu.committed, end)
	s.mu.Unlock()
	if err := s.awaitCommit(end); err != nil {
		return err
	}
	s.core, s.appended = core, end
	if took := s.r.clock.Boot() - began; n > 0 {
		level := slog.LevelDebug
		if took > time.Second {
			level = slog.LevelInfo
		}
		s.logger.Log(context.Background(), level, "coordinator shard loaded", "records", n, "took", took)
	}
	core.Loaded(s.now(), &s.out)
	if err := s.flush(); err != nil {
		return err
	}
	s.mu.Lock()
	s.mu.loading = false
	s.mu.Unlock()
	s.wake() // for what was told meanwhile, whose signal the load has taken
	return nil
}

// replay feeds the records below end to the core and returns their number.
func (s *shard[C]) replay(core Core[C], end model.Offset) (int, error) {
	at := s.log.StartOffset()
	if at >= end {
		return 0, nil
	}
	buf := make([]byte, min(firstLoadBuffer, s.r.opts.LoadBufferBytes))
	reader := record.NewReader(0)
	n := 0
	for at < end {
		if s.isEnded() {
			return n, kerr.NotCoordinator
		}
		got, next, err := s.log.Read(at, buf)
		if errors.Is(err, io.ErrShortBuffer) && len(buf) < maxLoadBuffer {
			buf = make([]byte, 2*len(buf))
			continue
		}
		if err != nil {
			return n, s.loadError(at, err)
		}
		if got == 0 {
			return n, s.loadError(at, fmt.Errorf("the log ends before %d", end))
		}
		m, err := s.replayBatches(core, reader, buf[:got])
		if n += m; err != nil {
			return n, s.loadError(at, err)
		}
		at = next
		if got > len(buf)/2 && at < end && len(buf) < s.r.opts.LoadBufferBytes {
			buf = make([]byte, min(4*len(buf), s.r.opts.LoadBufferBytes))
		}
	}
	return n, nil
}

// replayBatches feeds whole batches to the core.
func (s *shard[C]) replayBatches(core Core[C], reader *record.Reader, buf []byte) (n int, err error) {
	for len(buf) > 0 {
		var b record.Batch
		if b, buf, err = record.Split(buf); err != nil {
			return n, err
		}
		if b.IsControl() {
			continue
		}
		if err := reader.Reset(b); err != nil {
			return n, err
		}
		for {
			var r record.Record
			ok, err := reader.Next(&r)
			if err != nil {
				return n, err
			}
			if !ok {
				break
			}
			n++
			if err := core.Replay(&r); err != nil {
				// Damage would have failed the checksum, so somebody wrote this. One odd
				// record must not take all other groups of the partition down.
				s.logger.Error("coordinator passes over a record", "offset", int64(r.Offset), "error", err)
			}
		}
	}
	return n, nil
}

func (s *shard[C]) loadError(at model.Offset, err error) error {
	if errors.Is(err, kerr.NotLeaderOrFollower) {
		return kerr.NotCoordinator
	}
	return fmt.Errorf("load from offset %d: %w: %w", at, kerr.CoordinatorNotAvailable, err)
}

// awaitCommit waits until all below end is committed.
func (s *shard[C]) awaitCommit(end model.Offset) error {
	if end <= s.log.StartOffset() {
		s.commit(end)
		return nil
	}
	s.notify(end)
	for {
		s.mu.Lock()
		committed, ended := s.mu.committed, s.mu.ended
		s.mu.Unlock()
		if ended {
			return kerr.NotCoordinator
		}
		if committed >= end {
			return nil
		}
		<-s.signal
	}
}

// notify asks the log to tell when all below end is committed.
func (s *shard[C]) notify(end model.Offset) {
	s.log.NotifyCommitted(end-1, func(err error) {
		if err != nil {
			s.end() // leadership is lost
			return
		}
		s.commit(end)
		s.wake()
	})
}

// commit notes that all below end is committed.
func (s *shard[C]) commit(end model.Offset) {
	s.mu.Lock()
	s.mu.committed = max(s.mu.committed, end)
	s.mu.Unlock()
}

// serve runs turns until the shard ends or an append fails.
func (s *shard[C]) serve() error {
	// The timer is only an alarm: what is due is decided by the clock, which may count
	// time that the timer does not (a machine that slept).
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		at, some := s.core.Deadline()
		wait := 24 * time.Hour
		if some {
			wait = min(wait, max(at-s.r.clock.Boot(), 0))
		}
		timer.Reset(wait)
		select {
		case <-s.signal:
		case <-timer.C:
		}
		if err := s.turn(); err != nil {
			return err
		}
	}
}

// turn handles all that has come up since the last one.
func (s *shard[C]) turn() error {
	s.mu.Lock()
	calls, ended, committed := s.mu.inbox, s.mu.ended, s.mu.committed
	s.mu.inbox = s.spare[:0]
	s.mu.Unlock()
	if ended {
		s.out.Replies = append(s.out.Replies, calls...) // to be failed with the rest
		return kerr.NotCoordinator
	}
	s.release(committed)
	now := s.now()
	for i, c := range calls {
		s.core.Step(now, c, &s.out)
		var none C
		calls[i] = none
	}
	s.spare = calls[:0]
	// Only now what is due: when this goroutine was held up, by a slow disk perhaps, the
	// sign of life that waited in the inbox must count before its absence does.
	if at, some := s.core.Deadline(); some && at <= now.Boot {
		s.core.Wake(now, &s.out)
	}
	return s.flush()
}

// release sends the replies that wait for offsets below committed.
func (s *shard[C]) release(committed model.Offset) {
	n := 0
	for ; n < len(s.replies) && s.replies[n].end <= committed; n++ {
		for _, c := range s.replies[n].calls {
			c.Release()
		}
		s.replies[n] = waiting[C]{}
	}
	if s.replies = s.replies[n:]; len(s.replies) == 0 {
		s.replies = nil
	}
}

// flush appends the records that the turn gave and lets its replies wait for them, or
// for what was appended before them.
func (s *shard[C]) flush() error {
	if len(s.out.Records) > 0 {
		if err := s.append(s.out.Records); err != nil {
			return err
		}
		clear(s.out.Records)
		s.out.Records = s.out.Records[:0]
		s.notify(s.appended)
	}
	s.mu.Lock()
	committed := s.mu.committed
	s.mu.Unlock()
	s.release(committed)
	if len(s.out.Replies) == 0 {
		return nil
	}
	if committed >= s.appended {
		for _, c := range s.out.Replies {
			c.Release()
		}
		clear(s.out.Replies)
		s.out.Replies = s.out.Replies[:0]
		return nil
	}
	s.replies = append(s.replies, waiting[C]{s.appended, s.out.Replies})
	s.out.Replies = nil
	return nil
}

// recordOverhead is more than a record's own fields take in a batch.
const recordOverhead = 32

// append writes records as one or more batches.
func (s *shard[C]) append(records []record.Record) error {
	for len(records) > 0 {
		n, size := 0, record.HeaderLen
		for n < len(records) {
			size += recordOverhead + len(records[n].Key) + len(records[n].Value)
			if n > 0 && size > s.r.opts.MaxBatchBytes {
				break
			}
			n++
		}
		b, err := record.Build(s.buf[:0], record.NewTemplate(), records[:n])
		if err != nil {
			return fmt.Errorf("build batch: %w", err)
		}
		if s.buf = b; cap(s.buf) > 2*s.r.opts.MaxBatchBytes {
			s.buf = nil // one large group must not keep the memory
		}
		last, err := s.log.Append(b)
		if err != nil {
			return s.appendError(err)
		}
		s.appended = last + 1
		records = records[n:]
	}
	return nil
}

// appendError says what clients are to make of a failed append (Kafka's
// CoordinatorOperationExceptionHelper, but for storage errors: Kafka's NOT_COORDINATOR
// would say that the shard is elsewhere, and a full disk passes where it is).
func (s *shard[C]) appendError(err error) error {
	switch {
	case errors.Is(err, kerr.NotLeaderOrFollower), errors.Is(err, kerr.FencedLeaderEpoch):
		return fmt.Errorf("append: %w: %w", kerr.NotCoordinator, err)
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge), errors.Is(err, kerr.InvalidFetchSize):
		return fmt.Errorf("append: %w: %w", kerr.UnknownServerError, err)
	}
	return fmt.Errorf("append: %w: %w", kerr.CoordinatorNotAvailable, err)
}
