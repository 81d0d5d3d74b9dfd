package meta_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/meta/storetest"
	"github.com/kalda-io/kalda/internal/model"
)

func newMemory(t *testing.T) *meta.Memory {
	m := meta.NewMemory(model.SystemClock())
	t.Cleanup(func() { m.Close() })
	return m
}

func TestMemoryStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		m := newMemory(t)
		return storetest.Subject{Store: m, Compact: func(rev int64) error { m.Compact(rev); return nil }}
	})
}

// A lease lives exactly its time after the latest renewal, on the clock that the store
// was given.
func TestMemoryLeaseTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		m := newMemory(t)
		id, err := m.Grant(ctx, 4*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		res, err := m.Txn(ctx, meta.Txn{Then: []meta.Op{{Key: "/k", Lease: id}}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.AfterFunc(3*time.Second, func() {
			if err := m.KeepAlive(ctx, id); err != nil {
				t.Error(err)
			}
		})
		w, err := m.Watch(ctx, "/k", res.Revision+1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Next(ctx); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != 7*time.Second {
			t.Fatalf("the key died after %v, want 4 s after the renewal at 3 s", got)
		}
	})
}
