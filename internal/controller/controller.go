package controller

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
)

const (
	// defaultLeaseTTL is the life of controller and registration keys without renewal.
	defaultLeaseTTL = 4 * time.Second
	// callTimeout bounds one call of the ensemble; after it the outcome is unknown.
	callTimeout = 5 * time.Second
	// retryWait is the pause after the ensemble failed.
	retryWait = 200 * time.Millisecond
	// resignTimeout bounds the clean end of a term; the lease does the rest.
	resignTimeout = time.Second
)

// errLost ends a term: another controller is elected, or may be.
var errLost = errors.New("controller: no longer elected")

// Options are what a Controller works with. Store, Keys, Clock and Broker are required.
type Options struct {
	Store meta.Store
	Keys  meta.Keys
	Clock model.Clock
	// Log may be nil.
	Log *slog.Logger
	// Broker is the broker in whose name it campaigns, Incarnation that broker's process
	// life, Address where other brokers reach its controller ("" when all are in this process).
	Broker      model.BrokerID
	Incarnation string
	Address     string
	// Owns says whether an incarnation of this broker is a former one that is proven to be dead, because
	// this process holds the lock of its directories. Its controller key is removed at once,
	// its lease is not waited for. nil owns none.
	Owns func(incarnation string) bool
	// LeaseTTL is the life of the controller key without renewal; 0 means 4 s.
	LeaseTTL time.Duration
	// Rules hold until SetRules gives others.
	Rules Rules
	// NewTopicID gives ids that were never used; nil means model.NewTopicID.
	NewTopicID func() model.TopicID
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Owns == nil {
		o.Owns = func(string) bool { return false }
	}
	if o.LeaseTTL == 0 {
		o.LeaseTTL = defaultLeaseTTL
	}
	if o.NewTopicID == nil {
		o.NewTopicID = model.NewTopicID
	}
	return o
}

// Controller campaigns to be the cluster's controller and does its work while elected.
// It implements meta.Admin; its methods answer NOT_CONTROLLER while another is elected.
type Controller struct {
	opts  Options
	term  atomic.Pointer[term]
	rules atomic.Pointer[Rules]
	// ruled tells a running term that the rules have changed; capacity 1, for one pending
	// token stands for every change before it.
	ruled chan struct{}
}

// New returns a controller that does nothing until Run.
func New(opts Options) *Controller {
	c := &Controller{opts: opts.withDefaults(), ruled: make(chan struct{}, 1)}
	c.rules.Store(&c.opts.Rules)
	return c
}

// SetRules changes the rules that plans follow. An elected controller brings what exists
// in line with them, soon.
func (c *Controller) SetRules(r Rules) {
	c.rules.Store(&r)
	select {
	case c.ruled <- struct{}{}:
	default:
	}
}

// Elected says whether the controller is elected and ready to take calls.
func (c *Controller) Elected() bool { return c.term.Load() != nil }

// Run campaigns and leads, again and again, until ctx ends; then it resigns and returns
// nil. An error means that the ensemble holds something that this version cannot read.
func (c *Controller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		epoch, lease, err := c.campaign(ctx)
		if err == nil {
			err = c.lead(ctx, epoch, lease)
			c.resign(ctx, epoch, lease)
		}
		switch {
		case ctx.Err() != nil:
		case meta.IsUnreadable(err):
			return fmt.Errorf("controller: %w", err)
		case errors.Is(err, errLost):
			c.opts.Log.Warn("controller was replaced", "broker", c.opts.Broker, "epoch", epoch)
		default:
			c.opts.Log.Warn("controller cannot work", "broker", c.opts.Broker, "error", err)
			wait(ctx, retryWait)
		}
	}
	return nil
}

// wait sleeps, or returns early when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// campaign returns once this controller's key exists: its epoch and its lease.
func (c *Controller) campaign(ctx context.Context) (int64, meta.LeaseID, error) {
	store, key := c.opts.Store, c.opts.Keys.Controller()
	for {
		kv, rev, err := store.Get(ctx, key)
		if err != nil {
			return 0, 0, err
		}
		if kv.Exists() {
			var rec meta.ControllerRecord
			_, err := meta.DecodeValue(kv.Value, &rec)
			if err == nil && rec.Broker == c.opts.Broker &&
				(rec.Incarnation == c.opts.Incarnation || c.opts.Owns(rec.Incarnation)) {
				// Our own, from a term or a life that is over. Deleted and created again,
				// never overwritten: an overwritten key would keep the old epoch.
				if err := deleteCreated(ctx, store, key, kv.CreateRevision); err != nil {
					return 0, 0, err
				}
				continue
			}
			if err := waitDeleted(ctx, store, key, rev); err != nil {
				return 0, 0, err
			}
			continue
		}
		lease, err := store.Grant(ctx, c.opts.LeaseTTL)
		if err != nil {
			return 0, 0, err
		}
		rec := meta.ControllerRecord{
			Broker: c.opts.Broker, Incarnation: c.opts.Incarnation, Address: c.opts.Address, Nonce: rand.Text(),
		}
		epoch, err := create(ctx, store, key, meta.EncodeValue(rec, nil), lease)
		if err == nil && epoch != 0 {
			return epoch, lease, nil
		}
		c.revoke(ctx, lease)
		if err != nil {
			return 0, 0, err
		}
	}
}

// create puts a key that must not exist and returns its CreateRevision, 0 if somebody
// else was faster. An unknown outcome is resolved by reading the value, which is unique.
func create(ctx context.Context, store meta.Store, key string, value []byte, lease meta.LeaseID, more ...meta.Compare) (int64, error) {
	res, err := store.Txn(ctx, meta.Txn{
		If:   append([]meta.Compare{{Key: key, Target: meta.CompareCreate}}, more...),
		Then: []meta.Op{{Key: key, Value: value, Lease: lease}},
	})
	switch {
	case errors.Is(err, meta.ErrUnknownOutcome):
		kv, _, err2 := store.Get(ctx, key)
		if err2 != nil {
			return 0, fmt.Errorf("create %s: %w: %w", key, err, err2)
		}
		if string(kv.Value) == string(value) {
			return kv.CreateRevision, nil
		}
		// It may still come; whoever creates next is protected by the same condition, and
		// the lease of this attempt is revoked.
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("create %s: %w", key, err)
	case !res.Applied:
		return 0, nil
	}
	return res.Revision, nil
}

// deleteCreated deletes one life of a key. The life being over already is no error.
func deleteCreated(ctx context.Context, store meta.Store, key string, created int64) error {
	_, err := store.Txn(ctx, meta.Txn{
		If:   []meta.Compare{{Key: key, Target: meta.CompareCreate, Revision: created}},
		Then: []meta.Op{meta.Delete(key)},
	})
	if err != nil && !errors.Is(err, meta.ErrUnknownOutcome) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// waitDeleted waits until a key that existed at rev is deleted. A lost watch ends the
// wait as well: the caller reads again.
func waitDeleted(ctx context.Context, store meta.Store, key string, rev int64) error {
	w, err := store.Watch(ctx, key, rev+1)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		revs, err := w.Next(ctx)
		if errors.Is(err, meta.ErrCompacted) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, r := range revs {
			for _, e := range r.Events {
				if e.Key == key && e.Deleted {
					return nil
				}
			}
		}
	}
}

func (c *Controller) revoke(ctx context.Context, lease meta.LeaseID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	if err := c.opts.Store.Revoke(ctx, lease); err != nil {
		c.opts.Log.Debug("lease is left to expire", "error", err)
	}
}

// resign gives the office up, so that the next controller need not wait for the lease.
func (c *Controller) resign(ctx context.Context, epoch int64, lease meta.LeaseID) {
	tctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	if err := deleteCreated(tctx, c.opts.Store, c.opts.Keys.Controller(), epoch); err != nil {
		c.opts.Log.Debug("controller key is left to expire", "error", err)
	}
	c.revoke(ctx, lease)
}

// lead runs one term. It returns when ctx ends, when the office is lost or when the
// ensemble fails.
func (c *Controller) lead(ctx context.Context, epoch int64, lease meta.LeaseID) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	// The snapshot is taken after the key was created: it contains every write that any
	// earlier controller could make.
	st := meta.NewState(c.opts.Keys)
	if _, err := st.Load(ctx, c.opts.Store); err != nil {
		return err
	}
	if st.ControllerEpoch != epoch {
		return errLost
	}
	t := &term{
		Options: &c.opts, epoch: epoch, st: st,
		plan:    NewPlanner(st, *c.rules.Load()),
		rules:   &c.rules,
		ruled:   c.ruled,
		inbox:   make(chan *call),
		batches: make(chan batch),
		done:    make(chan struct{}),
		missing: map[model.BrokerID]time.Duration{},
		dirty:   true,
		loaded:  c.opts.Clock.Boot() - retryWait, // the first reload waits for nothing
	}
	wg.Go(func() { cancel(keepAlive(ctx, c.opts.Store, c.opts.Clock, lease, c.opts.LeaseTTL)) })
	c.opts.Log.Info("controller elected", "broker", c.opts.Broker, "epoch", epoch)
	defer close(t.done)
	defer c.term.Store(nil)
	err := t.run(ctx, &wg, func() { c.term.Store(t) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// keepAlive renews a lease until ctx ends, and returns errLost when the lease may have
// ended.
func keepAlive(ctx context.Context, store meta.Store, clock model.Clock, lease meta.LeaseID, ttl time.Duration) error {
	confirmed := clock.Boot()
	for {
		wait(ctx, ttl/8)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		sent := clock.Boot()
		rctx, cancel := context.WithTimeout(ctx, ttl/4)
		err := store.KeepAlive(rctx, lease)
		cancel()
		switch {
		case err == nil:
			confirmed = sent
		case errors.Is(err, meta.ErrLeaseNotFound), clock.Boot()-confirmed > ttl:
			return errLost
		}
	}
}
