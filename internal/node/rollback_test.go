package node

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/meta"
)

// A broker whose directories have seen newer metadata than the ensemble holds refuses to
// start, and the same directories go on with the right ensemble.
func TestRolledBackEnsembleIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		old := meta.NewMemory(w.clock)
		defer old.Close()
		// Two ensembles with the same identity, as a backup has: the newer one goes on.
		ctx := context.Background()
		keys := meta.NewKeys("kalda", "test")
		id, err := meta.Bootstrap(ctx, old, keys)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.Txn(ctx, meta.Txn{Then: []meta.Op{meta.Put(keys.Generation(), meta.EncodeValue(id, nil))}}); err != nil {
			t.Fatal(err)
		}
		b := w.start()
		b.create("t", 3, nil)
		b.stop()

		try := func(s meta.Store) error {
			cfg, _, err := config.Load(config.LoadOptions{Set: []string{"node.id=1", "listeners=PLAINTEXT://" + brokerAddr, "log.dirs=/data", "kalda.http.listen="}})
			if err != nil {
				t.Fatal(err)
			}
			m, err := OpenMeta(ctx, MetaOptions{Store: s, Cluster: "test", Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			b, err := Start(ctx, Options{Config: cfg, Meta: m, FS: w.disk, Listen: w.net.Listen, Clock: w.clock, Logger: slog.New(slog.DiscardHandler)})
			if err == nil {
				_ = b.Close(ctx)
			}
			_ = m.Close()
			return err
		}
		if err := try(old); err == nil || !strings.Contains(err.Error(), "METADATA_ROLLED_BACK") {
			t.Fatalf("an ensemble that went back is taken: %v", err)
		}
		other := id
		other.Generation = "another"
		restored := meta.NewMemory(w.clock)
		defer restored.Close()
		if _, err := restored.Txn(ctx, meta.Txn{Then: []meta.Op{meta.Put(keys.Generation(), meta.EncodeValue(other, nil))}}); err != nil {
			t.Fatal(err)
		}
		if err := try(restored); err == nil || !strings.Contains(err.Error(), "METADATA_ROLLED_BACK") {
			t.Fatalf("an ensemble of another generation is taken: %v", err)
		}
		if err := try(w.store); err != nil {
			t.Fatalf("the right ensemble: %v", err)
		}
	})
}
