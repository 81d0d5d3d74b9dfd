package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
)

// term is one time in office. Its fields belong to the goroutine in run, except
// inbox, batches and done.
type term struct {
	*Options
	epoch int64
	st    *meta.State
	plan  *Planner

	inbox   chan *call    // admin calls; nobody waits in line but the callers themselves
	batches chan batch    // what the watch brings
	done    chan struct{} // closed when the term is over

	rules *atomic.Pointer[Rules] // the Controller's
	ruled <-chan struct{}        // rules have changed

	missing map[model.BrokerID]time.Duration // Now.MissingSince
	dirty   bool                             // Reconcile may find something
	at      time.Duration                    // Reconcile wants to run again, on Clock.Boot; 0 never
	watch   func()                           // restarts the watch behind the state
	loaded  time.Duration                    // the latest reload, on Clock.Boot
}

// batch is one delivery of the watch.
type batch struct {
	revs []meta.Revision
	err  error
}

// call is one admin call on its way through the inbox.
type call struct {
	run  func(ctx context.Context) error
	done chan error // capacity 1: the caller may have left
}

// run is the loop. ready is called once the first Reconcile is through, when calls can
// be taken.
func (t *term) run(ctx context.Context, wg *sync.WaitGroup, ready func()) error {
	stop := func() {}
	t.watch = func() {
		stop()
		wctx, cancel := context.WithCancel(ctx)
		stopped := make(chan struct{})
		from := t.st.Revision() + 1
		wg.Go(func() { defer close(stopped); t.pump(wctx, from) })
		stop = func() { cancel(); <-stopped }
	}
	t.watch()
	defer func() { stop() }()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for first := true; ; {
		if t.dirty || t.at != 0 && t.Clock.Boot() >= t.at {
			switch err := t.reconcile(ctx); {
			case errors.Is(err, errLost), meta.IsUnreadable(err), ctx.Err() != nil:
				return err
			case err != nil:
				t.Log.Warn("controller could not carry out its plan", "error", err)
				t.dirty, t.at = false, t.Clock.Boot()+retryWait
				if err := t.reload(ctx); err != nil {
					return err
				}
			}
		}
		if first {
			ready()
			first = false
		}
		var due <-chan time.Time
		if t.at != 0 {
			timer.Reset(t.at - t.Clock.Boot())
			due = timer.C
		}
		select {
		case b := <-t.batches:
			if err := t.receive(ctx, b); err != nil {
				return err
			}
		case call := <-t.inbox:
			err := call.run(ctx)
			call.done <- err
			if errors.Is(err, errLost) || meta.IsUnreadable(err) {
				return err
			}
		case <-t.ruled:
			t.plan, t.dirty = NewPlanner(t.st, *t.rules.Load()), true
		case <-due:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pump follows the watch from a revision on until ctx ends or the watch does.
func (t *term) pump(ctx context.Context, from int64) {
	send := func(b batch) {
		select {
		case t.batches <- b:
		case <-ctx.Done():
		}
	}
	w, err := t.Store.Watch(ctx, t.Keys.Prefix(), from)
	if err != nil {
		send(batch{err: err})
		return
	}
	defer w.Close()
	for {
		revs, err := w.Next(ctx)
		if ctx.Err() != nil {
			return
		}
		send(batch{revs: revs, err: err})
		if err != nil {
			return
		}
	}
}

// receive applies what the watch brought.
func (t *term) receive(ctx context.Context, b batch) error {
	if b.err != nil {
		t.Log.Warn("controller's watch ended, loading again", "error", b.err)
		return t.reload(ctx)
	}
	for _, rev := range b.revs {
		for _, e := range rev.Events {
			name := strings.TrimPrefix(e.Key, t.Keys.Prefix())
			for _, p := range [...]string{"brokers/", "config/", "ops/"} {
				t.dirty = t.dirty || strings.HasPrefix(name, p)
			}
		}
		if err := t.st.Apply(rev); err != nil {
			return err
		}
	}
	if t.st.ControllerEpoch != t.epoch {
		return errLost
	}
	return nil
}

// reload replaces the state by a fresh snapshot and watches on from there.
func (t *term) reload(ctx context.Context) error {
	for {
		// An ensemble that answers loads but no watches is not flooded.
		wait(ctx, t.loaded+retryWait-t.Clock.Boot())
		t.loaded = t.Clock.Boot()
		cctx, cancel := context.WithTimeout(ctx, callTimeout)
		_, err := t.st.Load(cctx, t.Store)
		cancel()
		switch {
		case err == nil && t.st.ControllerEpoch != t.epoch:
			return errLost
		case err == nil:
			t.dirty = true
			t.watch()
			return nil
		case meta.IsUnreadable(err):
			return err
		}
		t.Log.Warn("controller cannot load the metadata", "error", err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// reconcile makes the changes that the planner asks for until it asks for none.
func (t *term) reconcile(ctx context.Context) error {
	for {
		for id := range t.st.BrokerStates {
			_, live := t.st.LivePair(id)
			if _, known := t.missing[id]; !live || t.st.Registrations[id] != nil {
				delete(t.missing, id)
			} else if !known {
				t.missing[id] = t.Clock.Boot()
			}
		}
		step := t.plan.Reconcile(Now{
			Boot: t.Clock.Boot(), WallMs: t.Clock.Wall().UnixMilli(), MissingSince: t.missing,
		})
		if len(step.Changes) == 0 {
			t.dirty, t.at = false, step.At
			return nil
		}
		if _, err := t.commit(ctx, step.Changes); err != nil {
			return err
		}
	}
}

// commit makes changes in their order, several in one transaction where they fit, and
// returns the revision of the last.
func (t *term) commit(ctx context.Context, changes []Change) (int64, error) {
	var last int64
	for len(changes) > 0 {
		tx := Change{}
		n := 0
		keys := map[string]bool{}
		for n < len(changes) && (n == 0 || !overlaps(keys, changes[n])) {
			joined := Change{Writes: append(tx.Writes[:len(tx.Writes):len(tx.Writes)], changes[n].Writes...)}
			if n > 0 && joined.size() > maxOps {
				break
			}
			tx = joined
			for _, w := range changes[n].Writes {
				keys[w.Key] = true
			}
			n++
		}
		rev, err := t.commitOne(ctx, &tx)
		if err != nil {
			return last, err
		}
		last = rev
		for _, c := range changes[:n] {
			if c.Note != "" {
				t.Log.Warn("controller: "+c.Note, "revision", rev)
			}
		}
		changes = changes[n:]
	}
	return last, nil
}

func overlaps(keys map[string]bool, c Change) bool {
	for _, w := range c.Writes {
		if keys[w.Key] {
			return true
		}
	}
	return false
}

// attempts is how often a transaction whose outcome stays unknown is tried.
const attempts = 5

// commitOne makes one transaction and waits until the state contains it.
func (t *term) commitOne(ctx context.Context, c *Change) (int64, error) {
	txn := meta.Txn{If: []meta.Compare{{Key: t.Keys.Controller(), Target: meta.CompareCreate, Revision: t.epoch}}}
	var witness meta.Op // a write whose effect can be seen
	var seen int64      // the revision of witness's key before
	for _, w := range c.Writes {
		mod := t.st.ModRevision(w.Key)
		txn.If = append(txn.If, meta.Compare{Key: w.Key, Target: meta.CompareMod, Revision: mod})
		op := meta.Delete(w.Key)
		if w.Value != nil {
			op = meta.Put(w.Key, meta.EncodeValue(w.Value, t.st.Extra(w.Key)))
		}
		txn.Then = append(txn.Then, op)
		if witness.Key == "" && (!op.Delete || mod != 0) {
			witness, seen = op, mod
		}
	}
	for _, id := range c.Guards() {
		key := t.Keys.BrokerState(id)
		txn.If = append(txn.If, meta.Compare{Key: key, Target: meta.CompareMod, Revision: t.st.ModRevision(key)})
	}
	if witness.Key == "" {
		return t.st.Revision(), nil // deletions of what is gone
	}
	var err error
	for range attempts {
		cctx, cancel := context.WithTimeout(ctx, callTimeout)
		var res meta.TxnResult
		res, err = t.Store.Txn(cctx, txn)
		cancel()
		switch {
		case err == nil && res.Applied:
			return res.Revision, t.catchUp(ctx, res.Revision)
		case err == nil && res.Current[0].CreateRevision != t.epoch:
			return 0, errLost
		case err != nil && !errors.Is(err, meta.ErrUnknownOutcome):
			return 0, err
		}
		// The outcome is unknown, or this is the attempt after such a one. The state is read
		// again and the witness tells. Sending the same transaction once more is safe then:
		// its conditions let at most one of the two through.
		if err := t.reload(ctx); err != nil {
			return 0, err
		}
		kv, _, gerr := t.Store.Get(ctx, witness.Key)
		switch {
		case gerr != nil:
			err = gerr
		case kv.ModRevision == seen:
		case !kv.Exists() && witness.Delete, kv.Exists() && string(kv.Value) == string(witness.Value):
			return max(kv.ModRevision, t.st.Revision()), t.catchUp(ctx, kv.ModRevision)
		default:
			return 0, fmt.Errorf("controller: %s was changed by somebody else", witness.Key)
		}
	}
	if err == nil {
		err = errors.New("controller: the state is not what the ensemble holds")
	}
	return 0, err
}

// catchUp waits until the state contains a revision that this term wrote.
func (t *term) catchUp(ctx context.Context, revision int64) error {
	for t.st.Revision() < revision {
		select {
		case b := <-t.batches:
			if err := t.receive(ctx, b); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
