// Package storetest is the suite that every implementation of meta.Store passes, so
// that what is tested on memory holds on etcd.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
)

// Subject is a store under test, empty at first.
type Subject struct {
	Store meta.Store
	// Compact makes the store forget revisions below the given one.
	Compact func(revision int64) error
}

// Run runs the suite; open is called once for each test.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s Subject)
	}{
		{"GetPutDelete", getPutDelete},
		{"Compares", compares},
		{"RefusedForm", refusedForm},
		{"RangePinned", rangePinned},
		{"RangePrefix", rangePrefix},
		{"WatchWholeRevisions", watchWholeRevisions},
		{"WatchCompacted", watchCompacted},
		{"RangeCompacted", rangeCompacted},
		{"WatchEndsWithContext", watchEndsWithContext},
		{"LeaseRevoke", leaseRevoke},
		{"LeaseMoves", leaseMoves},
		{"LeaseExpires", leaseExpires},
		{"Bootstrap", bootstrap},
		{"ProducerIDs", producerIDs},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// limit is the longest that one test may wait for a store on a busy machine.
const limit = 20 * time.Second

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func get(t *testing.T, s meta.Store, key string) meta.KV {
	t.Helper()
	kv, _, err := s.Get(ctxOf(t), key)
	if err != nil {
		t.Fatalf("Get %s: %v", key, err)
	}
	return kv
}

// txn runs a transaction that must not fail.
func txn(t *testing.T, s meta.Store, x meta.Txn) meta.TxnResult {
	t.Helper()
	res, err := s.Txn(ctxOf(t), x)
	if err != nil {
		t.Fatalf("Txn: %v", err)
	}
	return res
}

// write applies operations without conditions and returns the revision.
func write(t *testing.T, s meta.Store, ops ...meta.Op) int64 {
	t.Helper()
	res := txn(t, s, meta.Txn{Then: ops})
	if !res.Applied {
		t.Fatal("a transaction without conditions was not applied")
	}
	return res.Revision
}

func put(key, value string) meta.Op { return meta.Put(key, []byte(value)) }

func getPutDelete(t *testing.T, sub Subject) {
	s := sub.Store
	if kv := get(t, s, "/a/k"); kv.Exists() || kv.ModRevision != 0 || kv.Key != "/a/k" {
		t.Fatalf("absent key: %+v", kv)
	}
	r1 := write(t, s, put("/a/k", "one"))
	r2 := write(t, s, put("/a/k", "two"))
	if r2 <= r1 {
		t.Fatalf("revisions %d then %d: want growth", r1, r2)
	}
	kv, rev, err := s.Get(ctxOf(t), "/a/k")
	if err != nil || string(kv.Value) != "two" || kv.CreateRevision != r1 || kv.ModRevision != r2 || rev != r2 {
		t.Fatalf("after two puts at %d and %d: %+v at %d, %v", r1, r2, kv, rev, err)
	}
	r3 := write(t, s, meta.Delete("/a/k"))
	if kv := get(t, s, "/a/k"); kv.Exists() {
		t.Fatalf("after the deletion: %+v", kv)
	}
	if r4 := write(t, s, meta.Delete("/a/k")); r4 != r3 {
		t.Fatalf("deleting an absent key moved the revision from %d to %d", r3, r4)
	}
	r5 := write(t, s, put("/a/k", "three"))
	if kv := get(t, s, "/a/k"); kv.CreateRevision != r5 {
		t.Fatalf("a new life of the key: created at %d, want %d", kv.CreateRevision, r5)
	}
}

func compares(t *testing.T, sub Subject) {
	s := sub.Store
	absent := meta.Compare{Key: "/c", Target: meta.CompareCreate}
	res := txn(t, s, meta.Txn{If: []meta.Compare{absent}, Then: []meta.Op{put("/c", "1")}})
	if !res.Applied {
		t.Fatal("create of an absent key was refused")
	}
	created := res.Revision
	res = txn(t, s, meta.Txn{If: []meta.Compare{absent}, Then: []meta.Op{put("/c", "2"), put("/d", "2")}})
	if res.Applied || len(res.Current) != 1 || string(res.Current[0].Value) != "1" || res.Current[0].CreateRevision != created {
		t.Fatalf("create of an existing key: %+v", res)
	}
	if get(t, s, "/d").Exists() {
		t.Fatal("a refused transaction wrote a key")
	}
	modified := write(t, s, put("/c", "3"))
	for _, c := range []struct {
		cmp  meta.Compare
		want bool
	}{
		{meta.Compare{Key: "/c", Target: meta.CompareCreate, Revision: created}, true},
		{meta.Compare{Key: "/c", Target: meta.CompareCreate, Revision: modified}, false},
		{meta.Compare{Key: "/c", Target: meta.CompareMod, Revision: modified}, true},
		{meta.Compare{Key: "/c", Target: meta.CompareMod, Revision: created}, false},
		{meta.Compare{Key: "/none", Target: meta.CompareMod}, true},
		{meta.Compare{Key: "/none", Target: meta.CompareMod, Revision: 1}, false},
		{meta.Compare{Key: "/c", Target: meta.CompareMod}, false},
	} {
		res := txn(t, s, meta.Txn{If: []meta.Compare{c.cmp}})
		if res.Applied != c.want {
			t.Errorf("%+v: applied %v, want %v", c.cmp, res.Applied, c.want)
		}
	}
	// One false condition among true ones refuses the whole.
	res = txn(t, s, meta.Txn{
		If: []meta.Compare{
			{Key: "/c", Target: meta.CompareCreate, Revision: created},
			{Key: "/none", Target: meta.CompareMod, Revision: 7},
		},
		Then: []meta.Op{put("/x", "x")},
	})
	if res.Applied || len(res.Current) != 2 || !res.Current[0].Exists() || res.Current[1].Exists() {
		t.Fatalf("one false condition of two: %+v", res)
	}
}

func refusedForm(t *testing.T, sub Subject) {
	s := sub.Store
	before := write(t, s, put("/r", ""))
	many := make([]meta.Op, meta.MaxTxnOps+1)
	for i := range many {
		many[i] = put(fmt.Sprintf("/r/%03d", i), "")
	}
	for name, x := range map[string]meta.Txn{
		"too many": {Then: many},
		"twice":    {Then: []meta.Op{put("/r/a", "1"), meta.Delete("/r/a")}},
	} {
		if _, err := s.Txn(ctxOf(t), x); !errors.Is(err, meta.ErrInvalidTxn) {
			t.Errorf("%s: error %v, want ErrInvalidTxn", name, err)
		}
	}
	if kv, rev, _ := s.Get(ctxOf(t), "/r/a"); kv.Exists() || rev != before {
		t.Fatalf("a refused transaction left %+v, revision %d (was %d)", kv, rev, before)
	}
	if rev := write(t, s, many[:meta.MaxTxnOps]...); rev != before+1 {
		t.Fatalf("a full transaction ended at revision %d, want %d", rev, before+1)
	}
}

func keysOf(kvs []meta.KV) string {
	var names []string
	for _, kv := range kvs {
		names = append(names, kv.Key+"="+string(kv.Value))
	}
	return strings.Join(names, " ")
}

func rangePinned(t *testing.T, sub Subject) {
	s := sub.Store
	write(t, s, put("/p/a", "1"), put("/p/b", "1"), put("/p/c", "1"), put("/p/d", "1"))
	first, err := s.Range(ctxOf(t), "/p/", "", 2, 0)
	if err != nil || keysOf(first.KVs) != "/p/a=1 /p/b=1" || !first.More {
		t.Fatalf("first page: %s more %v, %v", keysOf(first.KVs), first.More, err)
	}
	// What happens between two pages is not in the second.
	write(t, s, put("/p/a", "2"), meta.Delete("/p/c"), put("/p/d", "2"), put("/p/e", "2"))
	second, err := s.Range(ctxOf(t), "/p/", "/p/b", 2, first.Revision)
	if err != nil || keysOf(second.KVs) != "/p/c=1 /p/d=1" || second.More || second.Revision != first.Revision {
		t.Fatalf("second page: %s more %v at %d, %v", keysOf(second.KVs), second.More, second.Revision, err)
	}
	now, err := s.Range(ctxOf(t), "/p/", "", 10, 0)
	if err != nil || keysOf(now.KVs) != "/p/a=2 /p/b=1 /p/d=2 /p/e=2" || now.More {
		t.Fatalf("present: %s more %v, %v", keysOf(now.KVs), now.More, err)
	}
	if now.Revision != first.Revision+1 {
		t.Fatalf("present is revision %d, first page was %d", now.Revision, first.Revision)
	}
}

func rangePrefix(t *testing.T, sub Subject) {
	s := sub.Store
	write(t, s, put("/q/1", ""), put("/q/1/x", ""), put("/q/10/x", ""), put("/q0", ""), put("/q", ""))
	page, err := s.Range(ctxOf(t), "/q/1/", "", 10, 0)
	if err != nil || keysOf(page.KVs) != "/q/1/x=" {
		t.Fatalf("range /q/1/: %s, %v", keysOf(page.KVs), err)
	}
	page, err = s.Range(ctxOf(t), "/q/", "", 10, 0)
	if err != nil || keysOf(page.KVs) != "/q/1= /q/1/x= /q/10/x=" {
		t.Fatalf("range /q/: %s, %v", keysOf(page.KVs), err)
	}
	if page, err = s.Range(ctxOf(t), "/nothing/", "", 10, 0); err != nil || len(page.KVs) != 0 || page.More {
		t.Fatalf("empty range: %+v, %v", page, err)
	}
}

func watch(t *testing.T, s meta.Store, prefix string, from int64) meta.Watcher {
	t.Helper()
	w, err := s.Watch(ctxOf(t), prefix, from)
	if err != nil {
		t.Fatalf("Watch %s from %d: %v", prefix, from, err)
	}
	t.Cleanup(w.Close)
	return w
}

// collect takes n revisions from a watcher.
func collect(t *testing.T, w meta.Watcher, n int) []meta.Revision {
	t.Helper()
	var all []meta.Revision
	for len(all) < n {
		revs, err := w.Next(ctxOf(t))
		if err != nil {
			t.Fatalf("Next after %d of %d revisions: %v", len(all), n, err)
		}
		if len(revs) == 0 {
			t.Fatal("Next returned nothing and no error")
		}
		all = append(all, revs...)
	}
	return all
}

func show(revs []meta.Revision) string {
	var b strings.Builder
	for _, r := range revs {
		fmt.Fprintf(&b, "[")
		events := slices.Clone(r.Events)
		slices.SortFunc(events, func(a, b meta.Event) int { return strings.Compare(a.Key, b.Key) })
		for i, e := range events {
			if i > 0 {
				b.WriteByte(' ')
			}
			if e.Deleted {
				fmt.Fprintf(&b, "-%s", e.Key)
			} else {
				fmt.Fprintf(&b, "%s=%s", e.Key, e.Value)
			}
			if e.ModRevision != r.Revision {
				fmt.Fprintf(&b, "(at %d in revision %d)", e.ModRevision, r.Revision)
			}
		}
		b.WriteByte(']')
	}
	return b.String()
}

func watchWholeRevisions(t *testing.T, sub Subject) {
	s := sub.Store
	write(t, s, put("/w/old", "1"))
	from := write(t, s, put("/w/a", "1"), put("/w/b", "1"), put("/other", "1"))
	write(t, s, put("/other", "2"))
	w := watch(t, s, "/w/", from) // begins in the past, inclusive
	write(t, s, put("/w/a", "2"), meta.Delete("/w/b"), meta.Delete("/w/none"))
	r := write(t, s, put("/w/b", "3"))
	got := collect(t, w, 3)
	if want := "[/w/a=1 /w/b=1][/w/a=2 -/w/b][/w/b=3]"; show(got) != want {
		t.Fatalf("watched %s, want %s", show(got), want)
	}
	if last := got[2].Events[0]; last.CreateRevision != r || got[2].Revision != r {
		t.Fatalf("recreated key: %+v, want created at %d", last, r)
	}
	if e := got[1].Events[slices.IndexFunc(got[1].Events, func(e meta.Event) bool { return e.Deleted })]; e.Value != nil || e.CreateRevision != 0 {
		t.Fatalf("a deletion carries %+v", e.KV)
	}
	// And a large transaction in one piece.
	var ops []meta.Op
	for i := range 100 {
		ops = append(ops, put(fmt.Sprintf("/w/many/%03d", i), strings.Repeat("x", 400)))
	}
	write(t, s, ops...)
	if got = collect(t, w, 1); len(got) != 1 || len(got[0].Events) != 100 {
		t.Fatalf("a transaction of 100 keys came as %d revisions, the first with %d events", len(got), len(got[0].Events))
	}
}

func watchCompacted(t *testing.T, sub Subject) {
	s := sub.Store
	first := write(t, s, put("/k/a", "1"))
	write(t, s, put("/k/a", "2"))
	deleted := write(t, s, meta.Delete("/k/a"))
	write(t, s, put("/k/b", "1"))
	if err := sub.Compact(deleted); err != nil {
		t.Fatal(err)
	}
	w := watch(t, s, "/k/", first)
	if _, err := w.Next(ctxOf(t)); !errors.Is(err, meta.ErrCompacted) {
		t.Fatalf("watch from a compacted revision: %v, want ErrCompacted", err)
	}
	// The compacted revision itself is kept, its deletions too.
	w = watch(t, s, "/k/", deleted)
	if got := show(collect(t, w, 2)); got != "[-/k/a][/k/b=1]" {
		t.Fatalf("watch from the compacted revision: %s", got)
	}
}

func rangeCompacted(t *testing.T, sub Subject) {
	s := sub.Store
	r1 := write(t, s, put("/k/a", "1"))
	r2 := write(t, s, put("/k/b", "1"))
	if err := sub.Compact(r2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Range(ctxOf(t), "/k/", "", 10, r1); !errors.Is(err, meta.ErrCompacted) {
		t.Fatalf("range at a compacted revision: %v, want ErrCompacted", err)
	}
	if page, err := s.Range(ctxOf(t), "/k/", "", 10, r2); err != nil || keysOf(page.KVs) != "/k/a=1 /k/b=1" {
		t.Fatalf("range at the compacted revision itself: %s, %v", keysOf(page.KVs), err)
	}
}

func watchEndsWithContext(t *testing.T, sub Subject) {
	w := watch(t, sub.Store, "/e/", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Next with an ended context: %v", err)
	}
	// The context ended that call, not the watch.
	write(t, sub.Store, put("/e/a", "1"))
	if got := show(collect(t, w, 1)); got != "[/e/a=1]" {
		t.Fatalf("after an ended call: %s", got)
	}
}

func grant(t *testing.T, s meta.Store, ttl time.Duration) meta.LeaseID {
	t.Helper()
	id, err := s.Grant(ctxOf(t), ttl)
	if err != nil || id == 0 {
		t.Fatalf("Grant: %d, %v", id, err)
	}
	return id
}

func leaseRevoke(t *testing.T, sub Subject) {
	s := sub.Store
	id := grant(t, s, 60*time.Second)
	r := write(t, s, meta.Op{Key: "/l/a", Value: []byte("1"), Lease: id}, meta.Op{Key: "/l/b", Value: []byte("1"), Lease: id}, put("/l/c", "1"))
	if kv := get(t, s, "/l/a"); kv.Lease != id {
		t.Fatalf("lease of the key is %d, want %d", kv.Lease, id)
	}
	if err := s.KeepAlive(ctxOf(t), id); err != nil {
		t.Fatalf("KeepAlive of a live lease: %v", err)
	}
	w := watch(t, s, "/l/", r+1)
	if err := s.Revoke(ctxOf(t), id); err != nil {
		t.Fatalf("Revoke: %v", err)
	}
	if got := show(collect(t, w, 1)); got != "[-/l/a -/l/b]" {
		t.Fatalf("revoke deleted %s, want both keys in one revision", got)
	}
	if err := s.KeepAlive(ctxOf(t), id); !errors.Is(err, meta.ErrLeaseNotFound) {
		t.Fatalf("KeepAlive of a revoked lease: %v, want ErrLeaseNotFound", err)
	}
	if err := s.Revoke(ctxOf(t), id); err != nil {
		t.Fatalf("second Revoke: %v", err)
	}
	if _, err := s.Txn(ctxOf(t), meta.Txn{Then: []meta.Op{{Key: "/l/d", Lease: id}}}); !errors.Is(err, meta.ErrLeaseNotFound) {
		t.Fatalf("put under a revoked lease: %v, want ErrLeaseNotFound", err)
	}
	if get(t, s, "/l/d").Exists() || !get(t, s, "/l/c").Exists() {
		t.Fatal("a key without a lease died, or one under a dead lease was born")
	}
}

func leaseMoves(t *testing.T, sub Subject) {
	s := sub.Store
	a, b := grant(t, s, 60*time.Second), grant(t, s, 60*time.Second)
	write(t, s, meta.Op{Key: "/m/moved", Lease: a}, meta.Op{Key: "/m/freed", Lease: a}, meta.Op{Key: "/m/kept", Lease: a})
	write(t, s, meta.Op{Key: "/m/moved", Lease: b}, put("/m/freed", ""))
	if err := s.Revoke(ctxOf(t), a); err != nil {
		t.Fatal(err)
	}
	page, err := s.Range(ctxOf(t), "/m/", "", 10, 0)
	if err != nil || keysOf(page.KVs) != "/m/freed= /m/moved=" {
		t.Fatalf("after the first lease ended: %s, %v", keysOf(page.KVs), err)
	}
}

func leaseExpires(t *testing.T, sub Subject) {
	s := sub.Store
	id := grant(t, s, time.Millisecond) // rounded up to a second
	r := write(t, s, meta.Op{Key: "/x/a", Lease: id})
	w := watch(t, s, "/x/", r+1)
	if got := show(collect(t, w, 1)); got != "[-/x/a]" {
		t.Fatalf("expiry: %s", got)
	}
	if err := s.KeepAlive(ctxOf(t), id); !errors.Is(err, meta.ErrLeaseNotFound) {
		t.Fatalf("KeepAlive of an expired lease: %v, want ErrLeaseNotFound", err)
	}
}

func bootstrap(t *testing.T, sub Subject) {
	blue, green := meta.NewKeys("", "blue"), meta.NewKeys("", "green")
	type answer struct {
		g   meta.Generation
		err error
	}
	answers := make(chan answer)
	for range 4 {
		go func() {
			g, err := meta.Bootstrap(ctxOf(t), sub.Store, blue)
			answers <- answer{g, err}
		}()
	}
	first := <-answers
	if first.err != nil || len(first.g.ClusterID) != 22 || first.g.Format != meta.FormatVersion {
		t.Fatalf("Bootstrap: %+v", first)
	}
	for range 3 {
		if a := <-answers; a != first {
			t.Fatalf("brokers disagree: %+v and %+v", first, a)
		}
	}
	other, err := meta.Bootstrap(ctxOf(t), sub.Store, green)
	if err != nil || other.ClusterID == first.g.ClusterID {
		t.Fatalf("another cluster in the same ensemble: %+v, %v", other, err)
	}
}

func producerIDs(t *testing.T, sub Subject) {
	keys := meta.NewKeys("", "c")
	type answer struct {
		first int64
		err   error
	}
	answers := make(chan answer)
	for range 4 {
		go func() {
			id, err := meta.AllocateProducerIDs(ctxOf(t), sub.Store, keys, 1000)
			answers <- answer{int64(id), err}
		}()
	}
	var firsts []int64
	for range 4 {
		a := <-answers
		if a.err != nil {
			t.Fatal(a.err)
		}
		firsts = append(firsts, a.first)
	}
	slices.Sort(firsts)
	if !slices.Equal(firsts, []int64{0, 1000, 2000, 3000}) {
		t.Fatalf("blocks begin at %v", firsts)
	}
}
