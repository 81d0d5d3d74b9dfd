package node

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/config"
)

// A configuration read anew takes effect as far as it can: for the log, for the describe
// call and, through the controller, for partitions. What cannot change is named, and stays.
func TestReload(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start("log.retention.ms=-1")
		defer b.stop()
		id := b.create("t", 1, nil)
		b.create("own", 1, map[string]string{"kalda.flush.policy": "commit"})
		d := &dyn{T: t, running: b, c: w.dial(), topic: id, key: "log.retention.ms", kind: kmsg.ConfigResourceTypeBroker, name: "1"}
		defer d.c.c.Close()
		policy := func(topic string) string { return b.o.Meta.Publisher.Image().Topics[topic].Partitions[0].FlushPolicy }
		reload := func(set ...string) []string {
			t.Helper()
			next, _, err := config.Load(config.LoadOptions{Set: append(testConfig(), set...)})
			if err != nil {
				t.Fatal(err)
			}
			restart, err := b.Reload(context.Background(), next)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return restart
		}
		d.fill(3, 10)

		restart := reload("log.retention.ms=60000", "kalda.flush.policy=os", "num.partitions=7", "group.max.size=3")
		if want := []string{"group.max.size", "num.partitions"}; !slices.Equal(restart, want) {
			t.Errorf("%q wait for a restart, want %q", restart, want)
		}
		d.want("log.retention.ms", d.described(), "60000")
		d.want("flush policy of t", policy("t"), "os")
		d.want("flush policy of a topic with its own", policy("own"), "commit")
		if n := b.opts.Load().NumPartitions; n != 1 {
			t.Errorf("num.partitions is %d without a restart", n)
		}
		<-time.After(retentionRound)
		if start, _, _ := d.log(); start != 3 {
			t.Errorf("the log starts at %d: the new retention does not hold", start)
		}

		// A key that is gone is back at its default; a dynamic config is stronger than all.
		d.c = w.dial()
		d.alter("120000")
		if restart := reload("log.retention.ms=5"); len(restart) != 0 {
			t.Errorf("%q wait for a restart", restart)
		}
		d.want("log.retention.ms", d.described(), "120000")
		d.want("flush policy of t", policy("t"), "commit")
	})
}

// A broker that has stopped says so instead of keeping the caller.
func TestReloadOfStopped(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		b.stop()
		if _, err := b.Reload(context.Background(), b.o.Config); err == nil {
			t.Error("no error")
		}
	})
}
