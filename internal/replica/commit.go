package replica

import (
	"context"
	"fmt"

	"github.com/kalda-io/kalda/internal/storage"
)

// commitLoop is the group commit: one sync at a time per directory. What is appended
// while the disk works shares the next one.
func (d *logDir) commitLoop(ctx context.Context) {
	var r commitRound
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.flush.signal:
		}
		d.commit(d.flush.take(), &r)
	}
}

// roundBytes is how much one append to the journal gathers, about.
const roundBytes = 1 << 20

// commitRound is memory that rounds use again.
type commitRound struct {
	buf   []byte
	tails []committing
}

// committing is a partition with what the journal is to hold of it.
type committing struct {
	p *Partition
	t storage.Tail
}

// commit makes durable what the partitions wait for: small ends of logs together in the
// journal, the others each in its own file.
func (d *logDir) commit(parts []*Partition, r *commitRound) {
	for _, p := range parts {
		if !p.beginTail(r) {
			p.sync(&d.flush)
		}
		if len(r.buf) >= roundBytes {
			d.appendJournal(r)
		}
	}
	if len(r.tails) > 0 {
		d.appendJournal(r)
	}
}

// beginTail adds to r what the log has written and not made durable. false means that the
// log has to sync its own file.
func (p *Partition) beginTail(r *commitRound) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unusableLocked() != nil {
		return false
	}
	from := len(r.buf)
	t, b, ok := p.mu.log.AppendTail(r.buf)
	if !ok {
		return false
	}
	p.mu.queued = false
	r.buf = b
	r.tails = append(r.tails, committing{p, t})
	// The background flush syncs the file later; only then the journal forgets. It has to
	// know before the journal has the bytes.
	p.notedLocked(int64(len(b)-from), 0)
	return true
}

// appendJournal makes the round's bytes durable and tells the partitions.
func (d *logDir) appendJournal(r *commitRound) {
	j := d.d.Journal()
	began := d.m.o.Clock.Boot()
	d.slow.begin(began)
	ok, err := j.Append(r.buf)
	d.slow.end(began, d.m.o.Clock.Boot())
	d.saw(err) // before anything that this sync covered is vouched for
	for i, c := range r.tails {
		r.tails[i] = committing{}
		switch {
		case err != nil:
			c.p.tailFailed(err)
		case ok:
			c.p.tailDurable(c.t)
		default: // no room
			c.p.sync(&d.flush)
		}
	}
	r.buf, r.tails = r.buf[:0], r.tails[:0]
	if j.Crowded() {
		d.note(0, 1) // flush now, so that the journal can forget
	}
}

func (p *Partition) tailDurable(t storage.Tail) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.removed || p.mu.offline != nil {
		return
	}
	p.mu.log.TailDurable(t)
	p.progressLocked()
}

func (p *Partition) tailFailed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.removed {
		// A failed sync is final: the kernel may have dropped the pages.
		p.goOfflineLocked(fmt.Errorf("sync: %w", err))
	}
}
