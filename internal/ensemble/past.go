package ensemble

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// firstForget is when a process forgets what was before it, and forgetEvery the time
	// between two later rounds: one to two of it stay. All that reads the past is a load in
	// pages, which starts again, and a watch that falls behind, whose owner loads again.
	firstForget = 10 * time.Second
	forgetEvery = time.Minute
)

// past forgets old revisions of the embedded ensemble's keys. Each costs some 300 bytes of
// memory until it is compacted. etcd's own compaction counts its time from the start of the
// process, so one that never lives for that long (an hour was the setting) would grow with every
// topic that was ever deleted; this one begins with what an earlier process left, soon after the
// start, but not within it. The bytes on disk etcd deletes in the background, and uses again.
type past struct {
	client *clientv3.Client
	// seen is the revision of the last round, also of one that could not compact: what was
	// before it goes in the next. 0 at first. It belongs to run.
	seen int64
	end  context.CancelFunc
	wait sync.WaitGroup
}

// newPast begins to forget, until stop.
func newPast(client *clientv3.Client, log *slog.Logger) *past {
	ctx, cancel := context.WithCancel(context.Background())
	p := &past{client: client, end: cancel}
	p.wait.Go(func() { p.run(ctx, log) })
	return p
}

// stop returns when the round that is under way has ended.
func (p *past) stop() {
	p.end()
	p.wait.Wait()
}

func (p *past) run(ctx context.Context, log *slog.Logger) {
	t := time.NewTimer(firstForget)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		t.Reset(forgetEvery)
		if err := p.forget(ctx); err != nil && ctx.Err() == nil {
			log.Warn("the ensemble's history cannot be compacted", "err", err)
		}
	}
}

// forget compacts what was before the revision at which it was called before, the first time
// what was before now.
func (p *past) forget(ctx context.Context) error {
	r, err := p.client.Get(ctx, "revision", clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	now := r.Header.Revision
	to := p.seen
	if to == 0 {
		to = now
	}
	p.seen = now
	_, err = p.client.Compact(ctx, to)
	if errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) {
		err = nil // nothing happened since
	}
	return err
}
