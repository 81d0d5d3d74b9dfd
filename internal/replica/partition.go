package replica

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/isr"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// Partition is one partition that this broker holds: its log, its commit state and
// everyone who waits for either. Safe for concurrent use.
type Partition struct {
	// TP and ID name the partition.
	TP model.TopicPartition
	ID model.Partition

	m    *Manager
	dir  *logDir
	name []byte // TP.Topic

	settings atomic.Pointer[Settings]
	// atOnce says which acks come with the write, as far as a look without the lock can tell.
	atOnce atomic.Uint32
	// recoveredHW is the high watermark of the last checkpoint: a lower bound.
	recoveredHW model.Offset

	mu struct {
		sync.Mutex
		log   *storage.Log
		state isr.State
		// commit is the effective flush policy: vouch after fdatasync.
		commit bool
		// acks waits for the leader's ack position, commits for the high watermark.
		acks, commits waitList
		fetches       fetchList
		// queued: the flusher will sync this partition. unsynced: the background flush will.
		queued, unsynced bool
		// offline is why the log cannot be used; nil while it can.
		offline error
		removed bool
		// staged counts the bytes appended since the last Write; noted is the log end that the
		// background flush has heard of.
		staged int64
		noted  model.Offset
		// used is set by appends and reads, cleared when idle logs are looked for.
		used bool
		// checkpointed is the recovery point of the latest checkpoint.
		checkpointed model.Offset
		// cleaning: a cleaning round has it. cleanAgain is when the next may, by Clock.Boot;
		// uncleanable is why none may any more.
		cleaning    bool
		cleanAgain  time.Duration
		uncleanable error
	}
}

// Appended is what became of a batch.
type Appended struct {
	BaseOffset model.Offset
	LogStart   model.Offset
	// LeaderEpoch is the epoch under which it was appended.
	LeaderEpoch model.LeaderEpoch
	// LogAppendTime is the batch's time, ms since 1970, where the broker sets it
	// (message.timestamp.type=LogAppendTime), else -1.
	LogAppendTime int64
}

// Ack says who is to be told of an append, and when.
type Ack struct {
	// Acks is the request's acks: 1 tells W once the leader vouches for the batch, -1 once
	// it is committed, 0 when it does, too, once for any number of batches.
	Acks int16
	// W is told through Acked(Slot, Gen). nil is allowed with acks 0.
	W    Waiter
	Slot int32
	Gen  uint32
	// RefuseZstd is set for Produce versions whose consumers may not know the codec.
	RefuseZstd bool
	// Unpacking is of the request that brings the batch.
	Unpacking *Unpacking
}

// Append checks the client batch b, stamps it in place and stages it; Write puts it
// into the file. What the topic stores in another form, b in an older format or another
// codec, is converted into memory of its own first. b is not kept. On success the waiter of a will be told, exactly once unless acks is
// 0; on error it will not. now is in ms since 1970.
func (p *Partition) Append(b []byte, now int64, a Ack) (Appended, error) {
	s := p.settings.Load()
	v := s.Validate
	v.Now, v.RefuseZstd = now, a.RefuseZstd
	if !s.Target.Takes(b) {
		return p.appendConverted(b, s, v, a)
	}
	if err := record.Validate(b, v); err != nil {
		return Appended{}, err
	}
	if v.RequireKeys && record.Batch(b).Codec() != record.None {
		if err := p.checkCompressed(b, s, v, a.Unpacking); err != nil {
			return Appended{}, err
		}
	}
	if v.LogAppendTime {
		record.Batch(b).StampLogAppendTime(now)
	}
	return p.stage(b, &v, &a)
}

// stage appends the batch b, which is valid by v, to the log.
func (p *Partition) stage(b []byte, v *record.ValidateOptions, a *Ack) (Appended, error) {
	p.mu.Lock()
	at, err := p.stageLocked(b, v, a)
	p.mu.Unlock()
	return at, err
}

func (p *Partition) stageLocked(b []byte, v *record.ValidateOptions, a *Ack) (Appended, error) {
	r, err := p.appendLocked(b, v.Now, a.Acks, false)
	if err != nil {
		return Appended{}, err
	}
	// A duplicate waits like the original: it may not be committed yet.
	w := waiter{end: r.LastOffset + 1, w: a.W, slot: a.Slot, gen: a.Gen}
	switch a.Acks {
	case 0:
		if a.W != nil {
			p.mu.acks.extend(w)
		}
	case 1:
		p.mu.acks.add(w)
	case -1:
		p.mu.commits.add(w)
	}
	return p.appendedLocked(&r, v.LogAppendTime), nil
}

// appendLocked gives a client batch to the log, if the partition may take it.
func (p *Partition) appendLocked(b []byte, now int64, acks int16, through bool) (storage.AppendResult, error) {
	if err := p.leadsLocked(); err != nil {
		return storage.AppendResult{}, err
	}
	if acks == -1 && !p.mu.state.EnoughReplicas() {
		return storage.AppendResult{}, kerr.NotEnoughReplicas
	}
	if err := p.dir.admit(); err != nil {
		return storage.AppendResult{}, err
	}
	r, err := p.mu.log.Append(record.Batch(b), storage.AppendArgs{Epoch: p.mu.state.LeaderEpoch(), NowMs: now, Client: true, Through: through})
	if err != nil {
		return storage.AppendResult{}, p.appendFailedLocked(err)
	}
	p.mu.staged += int64(len(b))
	p.mu.used = true
	return r, nil
}

// appendedLocked is what the producer hears of r.
func (p *Partition) appendedLocked(r *storage.AppendResult, logAppendTime bool) Appended {
	at := Appended{BaseOffset: r.BaseOffset, LogStart: p.mu.log.StartOffset(), LeaderEpoch: p.mu.state.LeaderEpoch(), LogAppendTime: record.NoTimestamp}
	if logAppendTime {
		at.LogAppendTime = r.MaxTimestamp
	}
	return at
}

// Write puts everything staged into the file with one write, whoever staged it, and
// tells who waits. Errors reach the waiters.
func (p *Partition) Write() {
	p.mu.Lock()
	_ = p.writeLocked() // who waits was told
	p.mu.Unlock()
}

// writeLocked writes what is staged. The error is what those who wait for it were told.
func (p *Partition) writeLocked() error {
	if err := p.unusableLocked(); err != nil {
		p.mu.acks.fail(-1, err)
		p.mu.commits.fail(-1, err)
		return err
	}
	err := p.mu.log.Write()
	if err != nil {
		err = p.failedLocked("write", err)
		end := p.mu.log.EndOffset()
		p.mu.acks.fail(end, err)
		p.mu.commits.fail(end, err)
	} else {
		p.dir.wrote(p.mu.staged)
	}
	p.progressLocked()
	return err
}

// progressLocked tells the commit state how far the log reaches and releases waiters.
func (p *Partition) progressLocked() {
	// After a failed sync nothing in the directory is vouched for, not even what another
	// log of it had written.
	if p.mu.state.Role() != isr.RoleLeader || p.unusableLocked() != nil {
		return
	}
	end, flushed := p.mu.log.EndOffset(), p.mu.log.FlushedOffset()
	p.mu.state.Appended(end)
	moved := false
	n := p.settings.Load().FlushMessages
	if p.mu.commit || n > 0 && int64(end-flushed) >= n {
		moved = p.mu.state.Acked(flushed)
		if flushed < end && !p.mu.queued {
			p.mu.queued = true
			p.dir.flush.add(p)
		}
	} else {
		moved = p.mu.state.Acked(end)
		if end > p.mu.noted { // also by a large batch, which is written when it is appended
			p.notedLocked(p.mu.staged, p.settings.Load().FlushInterval)
		}
	}
	p.mu.staged, p.mu.noted = 0, end
	p.releaseLocked(moved)
}

func (p *Partition) releaseLocked(moved bool) {
	p.mu.acks.release(p.mu.state.AckPos())
	// Also when nothing moved: a duplicate waits for what may be committed long ago.
	p.mu.commits.release(p.mu.state.HighWatermark())
	if !moved {
		return
	}
	for w := p.mu.fetches.first; w != nil; {
		next := w.next
		w.owner.Available(w.slot, p.availableLocked(w.from, w.maxBytes))
		w = next
	}
}

// leadsLocked returns nil if this broker leads the partition and its log is usable.
func (p *Partition) leadsLocked() error {
	if err := p.unusableLocked(); err != nil {
		return err
	}
	if p.mu.state.Role() != isr.RoleLeader {
		return kerr.NotLeaderOrFollower
	}
	return nil
}

func (p *Partition) unusableLocked() error {
	switch {
	case p.mu.removed:
		return kerr.NotLeaderOrFollower
	case p.mu.offline != nil:
		return kerr.With(kerr.KafkaStorageError, "%s is offline: %v", p.TP, p.mu.offline)
	}
	return p.dir.offline()
}

// failedLocked sorts an error of the log: protocol errors are the client's, anything
// else is the disk's and takes the partition offline unless the log undid the step.
func (p *Partition) failedLocked(what string, err error) error {
	var ke *kerr.Error
	if errors.As(err, &ke) && ke != kerr.KafkaStorageError {
		return err
	}
	p.dir.saw(err)
	if vfs.NoSpace(err) {
		// Said once, when the directory's state changes.
		return kerr.With(kerr.KafkaStorageError, "%s %s: the volume is full: %v", what, p.TP, err)
	}
	p.m.o.Logger.Error("a log operation failed", "op", what, "partition", p.TP.String(), "err", err)
	if broken := p.mu.log.Failed(); broken != nil {
		p.goOfflineLocked(broken)
	}
	return kerr.With(kerr.KafkaStorageError, "%s %s: %v", what, p.TP, err)
}

// appendFailedLocked is failedLocked for an append. An append may write what was staged
// before it; if that failed the log took all of it back and gives its offsets to others,
// so whoever waits for them hears of it now.
func (p *Partition) appendFailedLocked(err error) error {
	err = p.failedLocked("append", err)
	if end := p.mu.log.EndOffset(); p.mu.log.StagedEnd() == end {
		p.mu.acks.fail(end, err)
		p.mu.commits.fail(end, err)
	}
	return err
}

// goOfflineLocked makes the partition unusable until the process starts again.
func (p *Partition) goOfflineLocked(err error) {
	if p.mu.offline != nil {
		return
	}
	p.mu.offline = err
	p.mu.state.Resign()
	uerr := p.unusableLocked()
	p.mu.acks.fail(-1, uerr)
	p.mu.commits.fail(-1, uerr)
	p.wakeFetchesLocked()
	p.m.failed(p, err)
}

func (p *Partition) wakeFetchesLocked() {
	for w := p.mu.fetches.first; w != nil; {
		next := w.next
		w.owner.Available(w.slot, -1)
		w = next
	}
}

// sync makes everything written durable: one round for the partition, which was taken out
// of the set from. The lock is not held while the disk works. done says that all that was
// written when it began is durable in the log's own files; a failure takes the partition
// offline and tells everyone.
func (p *Partition) sync(from *partSet) (done bool) {
	p.mu.Lock()
	// Out of that set; it may still be in the other one.
	switch from {
	case &p.dir.flush:
		p.mu.queued = false
	case &p.dir.unsynced:
		p.mu.unsynced = false
	}
	if p.unusableLocked() != nil {
		defer p.mu.Unlock()
		return p.mu.removed
	}
	s, need := p.mu.log.BeginSync()
	if !need && from == &p.dir.unsynced && p.mu.log.Syncing() {
		// The group commit syncs it now, perhaps not up to the end: come again.
		p.notedLocked(0, 0)
		p.mu.Unlock()
		return false
	}
	p.mu.Unlock()
	if !need {
		return true
	}
	began := p.m.o.Clock.Boot()
	p.dir.slow.begin(began)
	err := s.Run()
	p.dir.slow.end(began, p.m.o.Clock.Boot())
	p.dir.saw(err) // before anything that this sync covered is vouched for
	p.mu.Lock()
	defer p.mu.Unlock()
	err = p.mu.log.EndSync(s, err)
	if p.mu.removed {
		return true
	}
	if vfs.NoSpace(err) {
		// A file beside the log found no room. What waits is told when the next round of
		// the background flush found some.
		p.notedLocked(0, time.Second)
		return false
	}
	if err != nil {
		// A failed sync is final: the kernel may have dropped the pages.
		p.goOfflineLocked(fmt.Errorf("sync: %w", err))
		return false
	}
	p.progressLocked()
	return true
}

// notedLocked leaves the partition to the background flush, which shall come within that
// time (0: at its interval), and counts bytes that were written.
func (p *Partition) notedLocked(bytes int64, within time.Duration) {
	if !p.mu.unsynced {
		p.mu.unsynced = true
		p.dir.unsynced.add(p)
	} else {
		within = 0 // it was told
	}
	p.dir.note(bytes, within)
}

// apply takes the controller's word on the partition.
func (p *Partition) apply(self model.Pair, st *meta.PartitionState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.removed || p.mu.offline != nil {
		return
	}
	defer p.hintLocked()
	view := isr.View{
		LeaderEpoch: st.LeaderEpoch, PartitionEpoch: st.PartitionEpoch,
		ISR: st.ISR, Replicas: st.Replicas, MinISR: int(max(st.MinISR, 1)),
	}
	p.mu.commit = st.FlushPolicy == model.FlushCommit.String()
	log := p.mu.log
	hw := p.mu.state.HighWatermark()
	switch {
	case st.Leader == self:
		_ = p.writeLocked() // staged under an older epoch
		newEpoch := p.mu.state.Role() != isr.RoleLeader || p.mu.state.LeaderEpoch() != st.LeaderEpoch
		end, ack := log.EndOffset(), log.EndOffset()
		if p.mu.commit {
			ack = log.FlushedOffset()
		}
		if !p.mu.state.Lead(self, view, end, ack, max(hw, p.recoveredHW)) {
			return
		}
		if newEpoch {
			p.mu.acks.fail(-1, kerr.NotLeaderOrFollower)
			p.mu.commits.fail(-1, kerr.NotLeaderOrFollower)
			log.StartEpoch(st.LeaderEpoch)
		}
		p.progressLocked()
		p.releaseLocked(true)
	case st.Leader.ID == model.NoBroker:
		p.mu.state.Resign()
		p.resignedLocked()
	default:
		if p.mu.state.Follow(self, view, log.EndOffset(), max(hw, p.recoveredHW)) {
			p.resignedLocked()
		}
	}
}

func (p *Partition) resignedLocked() {
	p.mu.acks.fail(-1, kerr.NotLeaderOrFollower)
	p.mu.commits.fail(-1, kerr.NotLeaderOrFollower)
	p.wakeFetchesLocked()
}

// close ends the partition's use and returns what a clean stop remembers of its log.
func (p *Partition) close() (storage.CheckpointEntry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.removed {
		return storage.CheckpointEntry{}, nil
	}
	if p.mu.offline == nil {
		_ = p.writeLocked()
	}
	p.mu.removed = true
	hw := p.mu.state.HighWatermark()
	p.mu.state.Resign()
	p.resignedLocked()
	if p.mu.offline != nil {
		return storage.CheckpointEntry{}, errors.Join(p.mu.offline, p.mu.log.Close())
	}
	if err := p.mu.log.Close(); err != nil {
		return storage.CheckpointEntry{}, err
	}
	return p.mu.log.CleanEntry(hw), nil
}

// Leader returns the leader epoch if this broker leads the partition.
func (p *Partition) Leader() (model.LeaderEpoch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.state.LeaderEpoch(), p.leadsLocked()
}
