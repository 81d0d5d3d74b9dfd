package meta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// auditEvery is how often Publisher compares what it applied with what the ensemble
// holds; a lost event is then a bounded delay. Jittered by a tenth.
const auditEvery = 5 * time.Minute

// reloadWait is the least time between two loads, so that an ensemble which answers
// loads but no watches is not flooded.
const reloadWait = 200 * time.Millisecond

func isCompacted(err error) bool { return errors.Is(err, ErrCompacted) }

// Publisher keeps an Image of one cluster up to date: it loads a snapshot, follows the
// watch and publishes an immutable image behind an atomic pointer after every batch of
// whole revisions. One Publisher serves any number of brokers of the same process, for
// an Image says nothing about who holds it.
//
// Image, Current and WaitFor may be called from any goroutine at any time.
type Publisher struct {
	store Store
	log   *slog.Logger
	state *State // of the goroutine in Load or Run

	image atomic.Pointer[Image]
	mu    struct {
		sync.Mutex
		changed chan struct{} // closed when image is replaced
	}
	mismatches atomic.Int64
}

// NewPublisher returns a publisher of an empty image. log may be nil.
func NewPublisher(store Store, keys Keys, log *slog.Logger) *Publisher {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{store: store, log: log, state: NewState(keys)}
	p.image.Store(EmptyImage())
	p.mu.changed = make(chan struct{})
	return p
}

// Image returns the latest image; never nil.
func (p *Publisher) Image() *Image { return p.image.Load() }

// Current returns the latest image and a channel that is closed when a newer one is
// published. Whoever follows the cluster calls it in a loop:
//
//	for {
//		im, changed := p.Current()
//		follow(im) // compares with the image before: unchanged topics are the same pointers
//		select {
//		case <-changed:
//		case <-ctx.Done():
//			return
//		}
//	}
//
// Images that come while follow works are skipped over, except the latest.
func (p *Publisher) Current() (*Image, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.image.Load(), p.mu.changed
}

// Mismatches counts the keys that audits and reloads found to differ from what the watch
// had brought.
func (p *Publisher) Mismatches() int64 { return p.mismatches.Load() }

// WaitFor waits until an image of at least that revision is published and returns it.
func (p *Publisher) WaitFor(ctx context.Context, revision int64) (*Image, error) {
	return p.WaitUntil(ctx, func(im *Image) bool { return im.Revision >= revision })
}

// WaitUntil waits for an image that satisfies ok and returns it.
func (p *Publisher) WaitUntil(ctx context.Context, ok func(*Image) bool) (*Image, error) {
	for {
		im, changed := p.Current()
		if ok(im) {
			return im, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for metadata newer than revision %d: %w", im.Revision, ctx.Err())
		}
	}
}

// publish makes the state's image the latest.
func (p *Publisher) publish() {
	im := p.state.Image()
	p.mu.Lock()
	defer p.mu.Unlock()
	if im == p.image.Load() {
		return
	}
	p.image.Store(im)
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
}

// Load reads a snapshot and publishes it. It is called once, before Run.
func (p *Publisher) Load(ctx context.Context) error {
	if _, err := p.state.Load(ctx, p.store); err != nil {
		return err
	}
	p.publish()
	return nil
}

// Run follows the ensemble until ctx ends, and then returns nil. It survives lost watches and an
// ensemble that does not answer; an error means that the ensemble holds something that this version
// cannot read.
func (p *Publisher) Run(ctx context.Context) error {
	var loaded time.Time // the latest load of this loop
	pause := func() {
		timer := time.NewTimer(time.Until(loaded.Add(reloadWait)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		loaded = time.Now()
	}
	for {
		err := p.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var bad *unreadable
		if errors.As(err, &bad) {
			return bad.err
		}
		p.log.Warn("metadata watch ended, loading again", "error", err)
		for {
			pause()
			err := p.Load(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			if errors.As(err, &bad) {
				return bad.err
			}
			p.log.Warn("metadata cannot be loaded", "error", err)
		}
	}
}

// unreadable wraps errors that loading again cannot cure.
type unreadable struct{ err error }

func (u *unreadable) Error() string { return u.err.Error() }
func (u *unreadable) Unwrap() error { return u.err }

// follow applies a watch until it ends.
func (p *Publisher) follow(ctx context.Context) error {
	w, err := p.store.Watch(ctx, p.state.keys.Prefix(), p.state.revision+1)
	if err != nil {
		return err
	}
	defer w.Close()
	audit := nextAudit()
	for {
		revs, err := p.next(ctx, w, audit)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			audit = nextAudit()
			if err := p.audit(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		for _, rev := range revs {
			if err := p.state.Apply(rev); err != nil {
				return err
			}
		}
		p.publish()
	}
}

func nextAudit() time.Time {
	return time.Now().Add(auditEvery + rand.N(auditEvery/5) - auditEvery/10)
}

// next is w.Next that ends with DeadlineExceeded when an audit is due.
func (p *Publisher) next(ctx context.Context, w Watcher, audit time.Time) ([]Revision, error) {
	ctx, cancel := context.WithDeadline(ctx, audit)
	defer cancel()
	return w.Next(ctx)
}

// audit ends the watch when the ensemble holds something else than what was applied.
func (p *Publisher) audit(ctx context.Context) error {
	n, err := p.state.Audit(ctx, p.store)
	switch {
	case isCompacted(err):
		return nil // nothing to compare with; the next audit will
	case err != nil:
		p.log.Warn("metadata audit failed", "error", err)
		return nil
	case n > 0:
		p.mismatches.Add(int64(n))
		return fmt.Errorf("audit: %d keys differ from the ensemble at revision %d", n, p.state.revision)
	}
	return nil
}
