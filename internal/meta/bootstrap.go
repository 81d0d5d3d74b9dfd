package meta

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/kalda-io/kalda/internal/model"
)

// newUUID returns a random UUID in the 22 characters of base64url that Kafka prints ids in.
func newUUID() string {
	id := model.NewTopicID()
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// retries is how often an operation that lost a race, or whose outcome is unknown, is
// looked at again before its caller is told.
const retries = 16

// Bootstrap returns the cluster's identity and writes it first if the cluster is new.
// Any number of brokers may do so at the same time; all get the same answer.
func Bootstrap(ctx context.Context, store Store, keys Keys) (Generation, error) {
	var last error
	for range retries {
		kv, _, err := store.Get(ctx, keys.Generation())
		if err != nil {
			return Generation{}, fmt.Errorf("read the cluster's identity: %w", err)
		}
		if kv.Exists() {
			var g Generation
			if _, err := DecodeValue(kv.Value, &g); err != nil {
				return g, fmt.Errorf("key %s: %w", kv.Key, err)
			}
			if g.Format != FormatVersion {
				return g, fmt.Errorf("cluster %s has key layout %d, this kalda knows %d", g.ClusterID, g.Format, FormatVersion)
			}
			return g, nil
		}
		g := Generation{ClusterID: newUUID(), Generation: newUUID(), Format: FormatVersion}
		_, err = store.Txn(ctx, Txn{
			If:   []Compare{{Key: kv.Key, Target: CompareCreate}},
			Then: []Op{Put(kv.Key, EncodeValue(g, nil))},
		})
		if err != nil && !errors.Is(err, ErrUnknownOutcome) {
			return Generation{}, fmt.Errorf("write the cluster's identity: %w", err)
		}
		last = err
	}
	return Generation{}, fmt.Errorf("write the cluster's identity: %w", last)
}

// AllocateProducerIDs reserves n producer ids and returns the first. No id is ever
// given out twice; a block whose transaction had no answer is left unused.
func AllocateProducerIDs(ctx context.Context, store Store, keys Keys, n int) (model.ProducerID, error) {
	if n <= 0 {
		return model.NoProducerID, fmt.Errorf("allocate %d producer ids: want at least 1", n)
	}
	last := error(ErrUnknownOutcome)
	for range retries {
		kv, _, err := store.Get(ctx, keys.ProducerIDs())
		if err != nil {
			return model.NoProducerID, fmt.Errorf("allocate producer ids: %w", err)
		}
		var rec ProducerIDRecord
		var extra Extra
		if kv.Exists() {
			if extra, err = DecodeValue(kv.Value, &rec); err != nil {
				return model.NoProducerID, fmt.Errorf("key %s: %w", kv.Key, err)
			}
		}
		first := rec.Next
		rec.Next += model.ProducerID(n)
		res, err := store.Txn(ctx, Txn{
			If:   []Compare{{Key: kv.Key, Target: CompareMod, Revision: kv.ModRevision}},
			Then: []Op{Put(kv.Key, EncodeValue(rec, extra))},
		})
		switch {
		case err == nil && res.Applied:
			return first, nil
		case err != nil && !errors.Is(err, ErrUnknownOutcome):
			return model.NoProducerID, fmt.Errorf("allocate producer ids: %w", err)
		case err != nil:
			last = err
		default:
			last = errors.New("other brokers were faster every time")
		}
	}
	return model.NoProducerID, fmt.Errorf("allocate producer ids: %w", last)
}
