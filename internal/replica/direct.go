package replica

import (
	"math"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// Direct is a client batch whose ack needs nothing but its write: AppendAll appends, writes
// and answers it in one step, with no waiter. That is so where the leader vouches for what is
// written (kalda.flush.policy=os) and, for acks=all, where it is the only in-sync replica.
type Direct struct {
	// Records is the batch, for which Takes said yes; NowMs the time that it was told.
	Records []byte
	NowMs   int64
	// Acks is 1 or -1.
	Acks int16
	// Next is the index of the partition's next batch among all that are given to AppendAll,
	// negative for none.
	Next int32

	// At says where it went, unless Err says why it is not in the log. Both are AppendAll's.
	At  Appended
	Err error

	end  model.Offset
	late chan error
}

// What Partition.atOnce says.
const (
	atOnceLeader = 1 << iota // acks=1
	atOnceAll                // acks=-1
)

// lateWait bounds Wait.
const lateWait = time.Second

// hintLocked keeps atOnce in step with role and policy.
func (p *Partition) hintLocked() {
	hint := uint32(0)
	if !p.mu.commit && p.leadsLocked() == nil {
		hint = atOnceLeader
		if p.mu.state.Alone() {
			hint |= atOnceAll
		}
	}
	p.atOnce.Store(hint)
}

// AtOnce says whether such acks come with the write, as far as a look without the lock can tell.
func (p *Partition) AtOnce(acks int16) bool {
	want := uint32(atOnceLeader)
	if acks == -1 {
		want = atOnceAll
	}
	n := p.settings.Load().FlushMessages
	return p.atOnce.Load()&want != 0 && (n <= 0 || n == math.MaxInt64)
}

// Takes says whether AppendAll may have the batch b of a producer: its ack, most likely, needs
// nothing but the write, and it is valid and stored as it is. Then the time is stamped into it
// where the broker sets it. All else is left to Append, errors with it; b is as it was.
func (p *Partition) Takes(b []byte, nowMs int64, acks int16) bool {
	s := p.settings.Load()
	if !p.AtOnce(acks) || !s.Target.Takes(b) {
		return false
	}
	v := s.Validate
	v.Now = nowMs
	if v.RequireKeys && record.Batch(b).Codec() != record.None || record.Validate(b, v) != nil {
		return false
	}
	if v.LogAppendTime {
		record.Batch(b).StampLogAppendTime(nowMs)
	}
	return true
}

// AppendAll appends the batches of all that begin at first and are linked by Next, and puts
// them into the file with one write at most. Then At and Err are set, but for batches that
// Wait is to be called for.
func (p *Partition) AppendAll(all []Direct, first int32) {
	p.mu.Lock()
	p.appendAllLocked(all, first)
	p.mu.Unlock()
}

func (p *Partition) appendAllLocked(all []Direct, first int32) {
	through := !p.mu.commit
	for i := first; i >= 0; i = all[i].Next {
		d := &all[i]
		r, err := p.appendLocked(d.Records, d.NowMs, d.Acks, through)
		if err != nil {
			d.Err = err
			if end := p.mu.log.EndOffset(); p.mu.log.StagedEnd() == end {
				lose(all, first, i, end, err) // what was staged went with it
			}
			continue
		}
		d.At, d.Err, d.end = p.appendedLocked(&r, record.Batch(d.Records).Attributes()&record.AttrLogAppendTime != 0), nil, r.LastOffset+1
	}
	err := p.writeLocked()
	if err != nil {
		lose(all, first, -1, p.mu.log.EndOffset(), err)
	}
	broken := p.unusableLocked()
	acked, committed := p.mu.state.AckPos(), p.mu.state.HighWatermark()
	for i := first; i >= 0; i = all[i].Next {
		if d := &all[i]; d.Err == nil && (d.Acks == -1 || acked < d.end) && committed < d.end {
			if broken != nil {
				d.Err = broken // in the file, but nobody vouches for it any more
				continue
			}
			p.lateLocked(d)
		}
	}
}

// lose tells the batches from first up to the one before last, if they are not below end, that
// they are not in the log.
func lose(all []Direct, first, last int32, end model.Offset, err error) {
	for i := first; i >= 0 && i != last; i = all[i].Next {
		if d := &all[i]; d.Err == nil && d.end > end {
			d.Err = err
		}
	}
}

// lateLocked is for a batch that has to wait after all: policy or replicas changed since it
// was taken, or it repeats one that waits.
func (p *Partition) lateLocked(d *Direct) {
	d.late = make(chan error, 1)
	w := waiter{end: d.end, w: lateAck(d.late)}
	if d.Acks == -1 {
		p.mu.commits.add(w)
	} else {
		p.mu.acks.add(w)
	}
}

// lateAck is a Waiter of one batch.
type lateAck chan error

// Acked implements Waiter. It is called once.
func (a lateAck) Acked(_ int32, _ uint32, err error) { a <- err }

// Wait waits for the acks of batches that were to have them at once and did not, which is
// seldom: a second at most for all, then Err is REQUEST_TIMED_OUT.
func Wait(all []Direct) {
	var over <-chan time.Time
	timedOut := false
	for i := range all {
		d := &all[i]
		if d.late == nil {
			continue
		}
		if over == nil {
			t := time.NewTimer(lateWait)
			defer t.Stop()
			over = t.C
		}
		select {
		case d.Err = <-d.late:
		default:
			if !timedOut {
				select {
				case d.Err = <-d.late:
				case <-over:
					timedOut = true
				}
			}
			if timedOut {
				d.Err = kerr.RequestTimedOut
			}
		}
		d.late = nil
	}
}
