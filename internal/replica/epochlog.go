package replica

import (
	"io"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/kerr"
)

// EpochLog is a partition that this broker leads at one leader epoch, the way a
// coordinator uses it: every append is conditional on the epoch, and a commit counts
// only if it happens in it.
type EpochLog struct {
	p     *Partition
	epoch model.LeaderEpoch
}

// At returns the partition as led at that epoch.
func (p *Partition) At(epoch model.LeaderEpoch) *EpochLog { return &EpochLog{p, epoch} }

func (l *EpochLog) leadsLocked() error {
	if err := l.p.leadsLocked(); err != nil {
		return err
	}
	if l.p.mu.state.LeaderEpoch() != l.epoch {
		return kerr.NotLeaderOrFollower
	}
	return nil
}

// Append stamps b in place, writes it, and returns the offset of its last record.
func (l *EpochLog) Append(b record.Batch) (model.Offset, error) {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := l.leadsLocked(); err != nil {
		return model.NoOffset, err
	}
	if !p.mu.state.EnoughReplicas() {
		return model.NoOffset, kerr.NotEnoughReplicas
	}
	if err := p.dir.admitInternal(); err != nil {
		return model.NoOffset, err
	}
	r, err := p.mu.log.Append(b, storage.AppendArgs{Epoch: l.epoch, NowMs: p.m.o.Clock.Wall().UnixMilli()})
	if err != nil {
		return model.NoOffset, p.appendFailedLocked(err)
	}
	p.mu.staged += int64(len(b))
	_ = p.writeLocked()
	if p.mu.log.EndOffset() <= r.LastOffset {
		return model.NoOffset, kerr.KafkaStorageError
	}
	return r.LastOffset, nil
}

// notify is a Waiter for one commit.
type notify func(error)

// Acked implements Waiter.
func (n notify) Acked(_ int32, _ uint32, err error) { n(err) }

// NotifyCommitted calls done once: with nil when the high watermark passed upTo, with
// an error when leadership was lost before. done may be called before NotifyCommitted
// returns, with the partition's lock held; it must not block nor call the partition.
func (l *EpochLog) NotifyCommitted(upTo model.Offset, done func(error)) {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := l.leadsLocked(); err != nil {
		done(err)
		return
	}
	if p.mu.state.HighWatermark() > upTo {
		done(nil)
		return
	}
	p.mu.commits.add(waiter{end: upTo + 1, w: notify(done)})
}

// Read copies whole batches from the one that holds from, committed or not, and returns
// the offset after them; n is 0 at the log end. A first batch longer than buf is
// io.ErrShortBuffer.
func (l *EpochLog) Read(from model.Offset, buf []byte) (n int, next model.Offset, err error) {
	p := l.p
	p.mu.Lock()
	if err := l.leadsLocked(); err != nil {
		p.mu.Unlock()
		return 0, from, err
	}
	end := p.mu.log.EndOffset()
	if from >= end {
		p.mu.Unlock()
		return 0, from, nil
	}
	v, err := p.mu.log.Read(from, end, len(buf), true)
	if err != nil {
		err = p.failedLocked("read", err)
	}
	p.mu.Unlock()
	if err != nil {
		return 0, from, err
	}
	defer v.Release()
	if v.Len > len(buf) {
		return 0, from, io.ErrShortBuffer
	}
	if _, err := v.ReadAt(buf[:v.Len], 0); err != nil {
		p.dir.saw(err)
		return 0, from, err
	}
	next = from
	for rest := buf[:v.Len]; len(rest) > 0; {
		b, tail, err := record.Split(rest)
		if err != nil {
			return 0, from, err
		}
		next, rest = b.NextOffset(), tail
	}
	return v.Len, next, nil
}

// StartOffset is the first offset that can be read.
func (l *EpochLog) StartOffset() model.Offset {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return l.p.mu.log.StartOffset()
}

// EndOffset is the log end offset.
func (l *EpochLog) EndOffset() model.Offset {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return l.p.mu.log.EndOffset()
}
