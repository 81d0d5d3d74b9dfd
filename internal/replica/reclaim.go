package replica

import (
	"fmt"

	"github.com/kalda-io/kalda/internal/storage"
)

// reclaim closes files of logs that were not used of late, until at least want are closed
// or nothing more can be, and returns how many. Whoever calls it wants to open one and
// holds the lock of its partition, so other partitions are only tried; the lock of the
// reclaim itself is taken last and nothing is waited for under it but the disk.
//
// A log keeps the file that it has written to open until the background flush has synced
// it. If closing what is clean does not suffice, logs are synced on the spot: slow, but
// better than to fail what a client sends.
func (m *Manager) reclaim(files *storage.Files, want int) int {
	m.reclaiming.Lock()
	defer m.reclaiming.Unlock()
	before := files.Open()
	closed := func() int { return before - files.Open() }
	parts := m.Partitions() // in no order: each time others are first
	for _, how := range []func(*Partition){(*Partition).restLocked, (*Partition).idleLocked, (*Partition).syncLocked} {
		for _, p := range parts {
			if closed() >= want {
				return closed()
			}
			if p.mu.TryLock() {
				how(p)
				p.mu.Unlock()
			}
		}
	}
	return closed()
}

// restLocked lets the log give up its files if it was not used since the last call.
func (p *Partition) restLocked() {
	if !p.mu.used {
		p.idleLocked()
	}
	p.mu.used = false
}

// idleLocked lets the log give up what it has open and clean.
func (p *Partition) idleLocked() {
	if p.unusableLocked() == nil && p.mu.log.StagedEnd() == p.mu.log.EndOffset() {
		p.mu.log.Idle()
	}
}

// syncLocked makes the log durable and lets it give up what it has open.
func (p *Partition) syncLocked() {
	if p.unusableLocked() != nil {
		return
	}
	s, need := p.mu.log.BeginSync()
	if need {
		if err := p.mu.log.EndSync(s, s.Run()); err != nil {
			p.goOfflineLocked(fmt.Errorf("sync: %w", err))
			return
		}
		p.progressLocked()
	}
	p.idleLocked()
}
