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
