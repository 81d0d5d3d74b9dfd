package replica

import (
	"sync"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/storage"
)

// openers is how many logs are opened at once. Opening waits for the disk more than it
// computes: after a start with a cold cache each log is a handful of small reads.
const openers = 16

// opening is a log on its way to being opened.
type opening struct {
	tp       model.TopicPartition
	id       model.Partition
	settings *Settings
	dir      *logDir
	log      *storage.Log
	rec      storage.Recovery
	err      error
}

// openAll opens the logs of partitions that are not open yet, side by side, and makes
// what their recovery found durable, together. Those that succeed are open partitions
// afterwards; the others are returned with their error.
func (m *Manager) openAll(all []*opening) map[model.Partition]error {
	failed := map[model.Partition]error{}
	var work []*opening
	for _, o := range all {
		if o.dir, o.err = m.dirFor(o.id); o.err != nil {
			m.failure(o.tp, o.err)
			failed[o.id] = o.err
			continue
		}
		o.dir.count.Add(1) // now: the next one goes to the directory with the fewest
		work = append(work, o)
	}
	next := make(chan *opening)
	var wg sync.WaitGroup
	for range min(openers, len(work)) {
		wg.Go(func() {
			for o := range next {
				o.log, o.rec, o.err = o.dir.d.OpenLogUnsynced(o.id, o.settings.storage(o.id))
			}
		})
	}
	for _, o := range work {
		next <- o
	}
	close(next)
	wg.Wait()
	for _, d := range m.dirs {
		var logs []*storage.Log
		for _, o := range work {
			if o.dir == d && o.err == nil {
				logs = append(logs, o.log)
			}
		}
		_ = d.d.SyncOpened(logs) // each log that it concerns knows
	}
	for _, o := range work {
		if o.err == nil && o.log.Failed() != nil {
			o.err = o.log.Failed()
			_ = o.log.Close()
		}
		if o.err != nil {
			m.openFailed(o)
			failed[o.id] = o.err
			continue
		}
		m.opened(o)
	}
	return failed
}

// openFailed takes note of a log that cannot be opened.
func (m *Manager) openFailed(o *opening) {
	o.dir.count.Add(-1)
	// Nobody knows what its tail is worth.
	o.dir.damaged.Store(true)
	o.dir.broken.Store(true)
	o.dir.saw(o.err)
	m.o.Logger.Error("a partition's log cannot be opened", "partition", o.tp.String(), "dir", o.dir.d.Path(), "err", o.err)
	m.failure(o.tp, o.err)
}

// opened makes an open log a partition.
func (m *Manager) opened(o *opening) {
	m.report(o.tp, o.rec)
	if o.rec.Damaged {
		o.dir.damaged.Store(true)
	}
	p := &Partition{TP: o.tp, ID: o.id, m: m, dir: o.dir, name: []byte(o.tp.Topic), recoveredHW: o.rec.HighWatermark}
	p.settings.Store(o.settings)
	p.mu.log, p.mu.noted = o.log, o.log.FlushedOffset()
	m.mu.Lock()
	m.mu.byID[o.id] = p
	m.mu.Unlock()
}
