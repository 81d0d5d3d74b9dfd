package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// renewEvery is how often a broker renews its registration.
const renewEvery = 500 * time.Millisecond

// RegistrarOptions describe a broker. Store, Keys, Clock, Broker and Incarnation are
// required.
type RegistrarOptions struct {
	Store meta.Store
	Keys  meta.Keys
	Clock model.Clock
	// Log may be nil.
	Log    *slog.Logger
	Broker model.BrokerID
	// Incarnation is a UUID of this process life. It is durable in the broker's log directories
	// before Register is called, for it is what proves ownership after a crash.
	Incarnation string
	// BootID is the kernel's boot id.
	BootID string
	// PreviousEpoch is the epoch that the broker's directories had last, 0 if they do not
	// know. A registration of an owned incarnation that is still there overrides it.
	PreviousEpoch model.BrokerEpoch
	// Tails are the classes of the log directories after recovery. Empty means trusted.
	Tails map[string]meta.TailClass
	// Endpoints are the advertised listeners.
	Endpoints []meta.Endpoint
	Rack      string
	// Owns says whether an incarnation of this broker is a former one that is proven to be
	// dead, because this process holds the lock of its directories. nil owns none.
	Owns func(incarnation string) bool
	// LeaseTTL is the life of the registration without renewal; 0 means 4 s.
	LeaseTTL time.Duration
}

// Registrar keeps one broker registered. Its life: Register, then Run in a goroutine,
// then, when Run has returned, Close for a clean stop. Pair, ValidUntil and SetWant may
// be called from any goroutine.
type Registrar struct {
	opts RegistrarOptions
	poke chan struct{} // capacity 1: want has changed

	mu struct {
		sync.Mutex
		pair       model.Pair
		validUntil time.Duration
		want       meta.Want
	}

	// The rest belongs to the goroutine in Register, Run or Close.
	lease   meta.LeaseID
	created int64     // CreateRevision of our key
	written meta.Want // what the key says
}

// NewRegistrar returns a registrar of a broker that is not registered yet.
func NewRegistrar(opts RegistrarOptions) *Registrar {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Owns == nil {
		opts.Owns = func(string) bool { return false }
	}
	if opts.LeaseTTL == 0 {
		opts.LeaseTTL = defaultLeaseTTL
	}
	r := &Registrar{opts: opts, poke: make(chan struct{}, 1)}
	r.mu.pair = noLeader
	r.mu.want = meta.WantStarting
	return r
}

// Pair is the broker's present life; the id is model.NoBroker before Register. The
// epoch changes when a lost lease forced a new registration.
func (r *Registrar) Pair() model.Pair {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.pair
}

// ValidUntil is the time on Clock.Boot until which no other broker can have been told
// that this one is gone: three quarters of the lease after the latest successful renewal
// was sent.
func (r *Registrar) ValidUntil() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.validUntil
}

// SetWant tells the controller, through the registration, what the broker wants to be.
// It returns at once; Run writes it. What the controller makes of it shows in the Image.
func (r *Registrar) SetWant(want meta.Want) {
	r.mu.Lock()
	r.mu.want = want
	r.mu.Unlock()
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

func (r *Registrar) want() meta.Want {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.want
}

func (r *Registrar) set(epoch model.BrokerEpoch, confirmed time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch != 0 {
		r.mu.pair = model.Pair{ID: r.opts.Broker, Epoch: epoch}
	}
	r.mu.validUntil = confirmed + r.opts.LeaseTTL*3/4
}

// Register writes the broker's registration and returns its pair. A registration left by a
// former life of this broker that is proven dead is replaced at once; any other of the
// same id is waited for, because two brokers with one id would both write.
func (r *Registrar) Register(ctx context.Context) (model.Pair, error) {
	if err := r.register(ctx, r.opts.PreviousEpoch, r.opts.Tails); err != nil {
		return noLeader, fmt.Errorf("register broker %d: %w", r.opts.Broker, err)
	}
	return r.Pair(), nil
}

func (r *Registrar) register(ctx context.Context, previous model.BrokerEpoch, tails map[string]meta.TailClass) error {
	store, key, stateKey := r.opts.Store, r.opts.Keys.Registration(r.opts.Broker), r.opts.Keys.BrokerState(r.opts.Broker)
	warned := false
	for {
		kv, rev, err := store.Get(ctx, key)
		if err != nil {
			return err
		}
		if kv.Exists() {
			var old meta.Registration
			if _, err := meta.DecodeValue(kv.Value, &old); err != nil {
				return fmt.Errorf("key %s: %w", key, err)
			}
			switch {
			case old.Incarnation == r.opts.Incarnation || r.opts.Owns(old.Incarnation):
				if previous = old.CarriedEpoch; previous == 0 {
					previous = model.BrokerEpoch(kv.CreateRevision)
				}
				if err := deleteCreated(ctx, store, key, kv.CreateRevision); err != nil {
					return err
				}
			default:
				if !warned {
					warned = true
					r.opts.Log.Warn("another process is registered with this broker's id, waiting until it is gone",
						"broker", r.opts.Broker, "incarnation", old.Incarnation, "error", kerr.DuplicateBrokerRegistration)
				}
				if err := waitDeleted(ctx, store, key, rev); err != nil {
					return fmt.Errorf("%w: another process is registered with this id: %w", kerr.DuplicateBrokerRegistration, err)
				}
			}
			continue
		}
		stateKV, _, err := store.Get(ctx, stateKey)
		if err != nil {
			return err
		}
		rec := meta.Registration{
			Incarnation: r.opts.Incarnation, BootID: r.opts.BootID, PreviousEpoch: previous, Tails: tails,
			Endpoints: r.opts.Endpoints, Rack: r.opts.Rack, Want: r.want(),
		}
		if stateKV.Exists() {
			var st meta.BrokerState
			if _, err := meta.DecodeValue(stateKV.Value, &st); err != nil {
				return fmt.Errorf("key %s: %w", stateKey, err)
			}
			switch {
			case st.Status != meta.BrokerFenced && st.Pair(r.opts.Broker) == r.Pair() && st.Incarnation == r.opts.Incarnation:
				rec.CarriedEpoch = st.Epoch // the lease hiccuped; nobody acted on it
			case rec.PreviousEpoch == 0 && r.opts.Owns(st.Incarnation):
				rec.PreviousEpoch = st.Epoch
			}
		}
		sent := r.opts.Clock.Boot()
		lease, err := store.Grant(ctx, r.opts.LeaseTTL)
		if err != nil {
			return err
		}
		// The controller's word must still be what the decision to carry was made on.
		created, err := create(ctx, store, key, meta.EncodeValue(rec, nil), lease,
			meta.Compare{Key: stateKey, Target: meta.CompareMod, Revision: stateKV.ModRevision})
		if err == nil && created != 0 {
			r.lease, r.created, r.written = lease, created, rec.Want
			epoch := rec.CarriedEpoch
			if epoch == 0 {
				epoch = model.BrokerEpoch(created)
			}
			r.set(epoch, sent)
			return nil
		}
		if rerr := store.Revoke(ctx, lease); rerr != nil {
			r.opts.Log.Debug("lease is left to expire", "error", rerr)
		}
		if err != nil {
			return err
		}
	}
}

// Run renews the registration until ctx ends, writes what SetWant asks for and
// registers again when the lease was lost. It returns nil when ctx ends and leaves the
// registration to Close or to its lease.
func (r *Registrar) Run(ctx context.Context) error {
	for {
		if err := r.writeWant(ctx); err != nil && ctx.Err() == nil {
			r.opts.Log.Warn("registration cannot be written", "broker", r.opts.Broker, "error", err)
		}
		timer := time.NewTimer(renewEvery)
		select {
		case <-timer.C:
			if err := r.renew(ctx); err != nil && ctx.Err() == nil {
				r.opts.Log.Warn("registration cannot be renewed", "broker", r.opts.Broker, "error", err)
			}
		case <-r.poke:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// renew keeps the lease alive; when it is gone, the broker registers again at once.
func (r *Registrar) renew(ctx context.Context) error {
	sent := r.opts.Clock.Boot()
	rctx, cancel := context.WithTimeout(ctx, r.opts.LeaseTTL/4)
	err := r.opts.Store.KeepAlive(rctx, r.lease)
	cancel()
	switch {
	case err == nil:
		r.set(0, sent)
		return nil
	case !errors.Is(err, meta.ErrLeaseNotFound):
		return err
	}
	before := r.Pair()
	// The process never died, so no tail is in doubt.
	if err := r.register(ctx, before.Epoch, nil); err != nil {
		return fmt.Errorf("the lease was lost: %w", err)
	}
	r.opts.Log.Warn("the broker's lease was lost, it registered again", "broker", r.opts.Broker,
		"epoch_before", before.Epoch, "epoch", r.Pair().Epoch)
	return nil
}

// writeWant brings the key's wish up to date.
func (r *Registrar) writeWant(ctx context.Context) error {
	want := r.want()
	if want == r.written {
		return nil
	}
	key := r.opts.Keys.Registration(r.opts.Broker)
	rctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, _, err := r.opts.Store.Get(rctx, key)
	if err != nil {
		return err
	}
	if kv.CreateRevision != r.created {
		return nil // the lease is gone; the next renewal registers with the new wish
	}
	var rec meta.Registration
	extra, err := meta.DecodeValue(kv.Value, &rec)
	if err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	rec.Want = want
	res, err := r.opts.Store.Txn(rctx, meta.Txn{
		If:   []meta.Compare{{Key: key, Target: meta.CompareMod, Revision: kv.ModRevision}},
		Then: []meta.Op{{Key: key, Value: meta.EncodeValue(rec, extra), Lease: r.lease}},
	})
	if err != nil {
		return err
	}
	if res.Applied {
		r.written = want
	}
	return nil
}

// Close removes the registration: the clean stop. It is called after Run has returned.
// An error means that the lease must expire by itself.
func (r *Registrar) Close(ctx context.Context) error {
	if r.created == 0 {
		return nil
	}
	r.set(0, -r.opts.LeaseTTL) // valid no longer
	err := deleteCreated(ctx, r.opts.Store, r.opts.Keys.Registration(r.opts.Broker), r.created)
	return errors.Join(err, r.opts.Store.Revoke(ctx, r.lease))
}
