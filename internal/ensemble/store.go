package ensemble

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kalda-io/kalda/internal/meta"
)

// store shows an etcd client as a meta.Store.
type store struct {
	client *clientv3.Client
	// requireLeader makes watches end when the member they hang on lost its quorum. The
	// in-process client passes no interceptor that would look at it.
	requireLeader bool
}

// Get implements meta.Store.
func (s *store) Get(ctx context.Context, key string) (meta.KV, int64, error) {
	resp, err := s.client.Get(ctx, key)
	if err != nil {
		return meta.KV{}, 0, s.readError(ctx, "get "+key, err)
	}
	kv := meta.KV{Key: key}
	for _, e := range resp.Kvs {
		kv = meta.KV{
			Key: key, Value: e.Value, CreateRevision: e.CreateRevision,
			ModRevision: e.ModRevision, Lease: meta.LeaseID(e.Lease),
		}
	}
	return kv, resp.Header.Revision, nil
}

// Range implements meta.Store.
func (s *store) Range(ctx context.Context, prefix, after string, limit int, revision int64) (meta.Page, error) {
	start := prefix
	if after != "" {
		start = after + "\x00"
	}
	resp, err := s.client.Get(ctx, start,
		clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)),
		clientv3.WithLimit(int64(limit)), clientv3.WithRev(revision))
	if err != nil {
		return meta.Page{}, s.readError(ctx, "range "+prefix, err)
	}
	page := meta.Page{Revision: revision, More: resp.More, KVs: make([]meta.KV, 0, len(resp.Kvs))}
	if revision == 0 {
		page.Revision = resp.Header.Revision
	}
	for _, e := range resp.Kvs {
		page.KVs = append(page.KVs, meta.KV{
			Key: string(e.Key), Value: e.Value, CreateRevision: e.CreateRevision,
			ModRevision: e.ModRevision, Lease: meta.LeaseID(e.Lease),
		})
	}
	return page, nil
}

// Txn implements meta.Store.
func (s *store) Txn(ctx context.Context, txn meta.Txn) (meta.TxnResult, error) {
	if err := meta.CheckTxn(txn); err != nil {
		return meta.TxnResult{}, err
	}
	if err := ctx.Err(); err != nil {
		return meta.TxnResult{}, err
	}
	cmps := make([]clientv3.Cmp, len(txn.If))
	gets := make([]clientv3.Op, len(txn.If))
	for i, c := range txn.If {
		target := clientv3.CreateRevision(c.Key)
		if c.Target == meta.CompareMod {
			target = clientv3.ModRevision(c.Key)
		}
		cmps[i] = clientv3.Compare(target, "=", c.Revision)
		gets[i] = clientv3.OpGet(c.Key)
	}
	ops := make([]clientv3.Op, len(txn.Then))
	for i, op := range txn.Then {
		if op.Delete {
			ops[i] = clientv3.OpDelete(op.Key)
		} else {
			ops[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease)))
		}
	}
	resp, err := s.client.Txn(ctx).If(cmps...).Then(ops...).Else(gets...).Commit()
	if err != nil {
		return meta.TxnResult{}, txnError(err)
	}
	res := meta.TxnResult{Applied: resp.Succeeded, Revision: resp.Header.Revision}
	if !resp.Succeeded {
		for i, r := range resp.Responses {
			kv := meta.KV{Key: txn.If[i].Key}
			for _, e := range r.GetResponseRange().GetKvs() {
				kv = meta.KV{
					Key: kv.Key, Value: e.Value, CreateRevision: e.CreateRevision,
					ModRevision: e.ModRevision, Lease: meta.LeaseID(e.Lease),
				}
			}
			res.Current = append(res.Current, kv)
		}
	}
	return res, nil
}

// refused are the errors that etcd answers before a transaction enters its log, or by
// which it refuses to apply it.
var refused = [...]error{
	rpctypes.ErrEmptyKey, rpctypes.ErrTooManyOps, rpctypes.ErrDuplicateKey, rpctypes.ErrNoSpace,
	rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyRequests, rpctypes.ErrPermissionDenied,
	rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed, rpctypes.ErrInvalidAuthToken,
	rpctypes.ErrNoLeader, rpctypes.ErrNotCapable,
}

// txnError sorts the errors of a transaction into refused and unknown.
func txnError(err error) error {
	err = rpctypes.Error(err)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("transaction: %w", meta.ErrLeaseNotFound)
	}
	for _, r := range refused {
		if errors.Is(err, r) {
			return fmt.Errorf("transaction refused: %w", err)
		}
	}
	return fmt.Errorf("transaction: %w: %w", meta.ErrUnknownOutcome, err)
}

// readError names the errors of reads that callers tell apart.
func (s *store) readError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	if errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) {
		err = meta.ErrCompacted
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Watch implements meta.Store.
func (s *store) Watch(ctx context.Context, prefix string, from int64) (meta.Watcher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The watch lives until Close, not until ctx ends.
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if s.requireLeader {
		wctx = clientv3.WithRequireLeader(wctx)
	}
	ch := s.client.Watch(wctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	return &watcher{prefix: prefix, ch: ch, cancel: cancel}, nil
}

type watcher struct {
	prefix string
	ch     clientv3.WatchChan
	cancel context.CancelFunc
	err    error // set once the watch has ended
}

// Next implements meta.Watcher.
func (w *watcher) Next(ctx context.Context) ([]meta.Revision, error) {
	var revs []meta.Revision
	for w.err == nil {
		if len(revs) > 0 {
			// Take what is there, wait for nothing.
			select {
			case resp, ok := <-w.ch:
				revs = w.take(revs, resp, ok)
			default:
				return revs, nil
			}
			continue
		}
		select {
		case resp, ok := <-w.ch:
			revs = w.take(revs, resp, ok)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if len(revs) > 0 {
		return revs, nil // the end is told by the next call
	}
	return nil, w.err
}

// take adds a response's events. etcd never splits a revision over responses unless
// fragments are asked for, so grouping by ModRevision gives whole revisions.
func (w *watcher) take(revs []meta.Revision, resp clientv3.WatchResponse, ok bool) []meta.Revision {
	if !ok {
		w.err = fmt.Errorf("watch %s: %w", w.prefix, meta.ErrWatchLost)
		return revs
	}
	if err := resp.Err(); err != nil {
		if resp.CompactRevision != 0 {
			w.err = fmt.Errorf("watch %s, compacted at %d: %w", w.prefix, resp.CompactRevision, meta.ErrCompacted)
		} else {
			w.err = fmt.Errorf("watch %s: %w: %w", w.prefix, meta.ErrWatchLost, err)
		}
		return revs
	}
	for _, e := range resp.Events {
		ev := meta.Event{KV: meta.KV{Key: string(e.Kv.Key), ModRevision: e.Kv.ModRevision}}
		if e.Type == clientv3.EventTypeDelete {
			ev.Deleted = true
		} else {
			ev.Value, ev.CreateRevision, ev.Lease = e.Kv.Value, e.Kv.CreateRevision, meta.LeaseID(e.Kv.Lease)
		}
		if n := len(revs); n == 0 || revs[n-1].Revision != ev.ModRevision {
			revs = append(revs, meta.Revision{Revision: ev.ModRevision})
		}
		last := &revs[len(revs)-1]
		last.Events = append(last.Events, ev)
	}
	return revs
}

// Close implements meta.Watcher.
func (w *watcher) Close() { w.cancel() }

// Grant implements meta.Store.
func (s *store) Grant(ctx context.Context, ttl time.Duration) (meta.LeaseID, error) {
	resp, err := s.client.Grant(ctx, max(1, int64((ttl+time.Second-1)/time.Second)))
	if err != nil {
		return 0, s.readError(ctx, "grant a lease", err)
	}
	return meta.LeaseID(resp.ID), nil
}

// KeepAlive implements meta.Store.
func (s *store) KeepAlive(ctx context.Context, id meta.LeaseID) error {
	_, err := s.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
	return s.leaseError(ctx, "keep alive", id, err)
}

// Revoke implements meta.Store.
func (s *store) Revoke(ctx context.Context, id meta.LeaseID) error {
	_, err := s.client.Revoke(ctx, clientv3.LeaseID(id))
	if err = s.leaseError(ctx, "revoke", id, err); errors.Is(err, meta.ErrLeaseNotFound) {
		return nil
	}
	return err
}

func (s *store) leaseError(ctx context.Context, what string, id meta.LeaseID, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s lease %x: %w", what, int64(id), ctx.Err())
	case errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%s lease %x: %w", what, int64(id), meta.ErrLeaseNotFound)
	}
	return fmt.Errorf("%s lease %x: %w", what, int64(id), err)
}
