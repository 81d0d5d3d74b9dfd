package node

import (
	"errors"
	"testing"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/kerr"
)

// Retention on the offsets topic would forget the offsets of groups that still commit.
func TestInternalTopicStaysCompacted(t *testing.T) {
	for _, c := range []struct {
		topic, value string
		ok           bool
	}{
		{meta.OffsetsTopic, "compact", true},
		{meta.OffsetsTopic, "delete", false},
		{meta.OffsetsTopic, "compact,delete", false},
		{"orders", "delete", true},
	} {
		_, err := normalizeConfig(meta.ResourceTopic, c.topic, "cleanup.policy", c.value)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, kerr.InvalidConfig) {
			t.Errorf("%s: cleanup.policy=%s: %v", c.topic, c.value, err)
		}
	}
}

// Taking the policy off, or replacing the whole configuration without it, would let the
// default hold, which deletes.
func TestInternalTopicKeepsItsPolicy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		ctx := t.Context()
		compact := map[string]string{"cleanup.policy": "compact"}
		res, rev, err := adminOf{b.Broker}.CreateTopics(ctx, []meta.NewTopic{{Name: meta.OffsetsTopic, Partitions: 1, ReplicationFactor: -1, Internal: true, Config: compact}}, false)
		if err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
		if err := b.replicas.WaitApplied(ctx, rev); err != nil {
			t.Fatal(err)
		}
		size := "1048576"
		for name, c := range map[string]meta.ConfigChange{
			"deleted":  {Ops: []meta.ConfigOpEntry{{Key: "cleanup.policy", Op: meta.ConfigDelete}}},
			"replaced": {Replace: true, Ops: []meta.ConfigOpEntry{{Key: "segment.bytes", Op: meta.ConfigSet, Value: &size}}},
		} {
			c.Kind, c.Name = meta.ResourceTopic, meta.OffsetsTopic
			errs, _, err := adminOf{b.Broker}.AlterConfigs(ctx, []meta.ConfigChange{c}, false)
			if err != nil || !errors.Is(errs[0], kerr.InvalidConfig) {
				t.Errorf("%s: %v %v", name, err, errs)
			}
		}
		if got := b.o.Meta.Publisher.Image().Topics[meta.OffsetsTopic].Config["cleanup.policy"]; got != "compact" {
			t.Errorf("the policy is %q now", got)
		}
	})
}
