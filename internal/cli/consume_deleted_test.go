package cli

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// With -e nobody waits for the end of a topic that was deleted; and a topic that the broker
// does not know for a moment is not taken for one.
func TestConsumeToTheEndOfWhatIsLeft(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "gone", "left"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	run := func(stdin string, args ...string) (code int, errs string) {
		var out, e bytes.Buffer
		code = Run(ctx, Env{Args: append(args, "-b", c.ListenAddrs()[0]), Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &e})
		return code, e.String()
	}
	if code, errs := run("1\n", "produce", "gone"); code != ExitOK {
		t.Fatal(errs)
	}
	var once sync.Once
	fetched := make(chan struct{})
	answerFetches(c, func() *kerr.Error {
		once.Do(func() { close(fetched) })
		return kerr.UnknownTopicID
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-fetched:
			if code, errs := run("", "topic", "delete", "gone", "--yes"); code != ExitOK {
				t.Error(errs)
			}
		case <-ctx.Done():
		}
	})
	code, errs := run("", "consume", "gone", "left", "-e")
	wg.Wait()
	if code != ExitOK || errs != "note: topic gone was deleted; the others are read on\n" {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// A member hears nothing of a deleted topic that it has no partition of: each rebalance makes
// it ask.
func TestRebalanceLooksForDeletedTopics(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "there"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var notes bytes.Buffer
	a := &app{Env: Env{Stderr: &notes, Now: time.Now}, brokers: c.ListenAddrs(), timeout: 10 * time.Second}
	r := &consumeRun{app: a, at: map[model.TopicPartition]int64{{Topic: "gone"}: 0, {Topic: "there"}: 0}}
	if r.c, err = a.openConsumer(ctx, consumeSpec{topics: []string{"gone", "there"}}, r.at); err != nil {
		t.Fatal(err)
	}
	defer r.c.cl.Close()
	if err := r.dropDeleted(ctx); err != nil || notes.Len() > 0 {
		t.Fatalf("before any assignment: %v, %q", err, notes.String())
	}
	r.c.onAssigned(ctx, nil, nil)
	if err := r.dropDeleted(ctx); err != nil || notes.String() != "note: topic gone was deleted; the others are read on\n" {
		t.Errorf("after one: %v, %q", err, notes.String())
	}
	// A busy topic beside it makes many polls a second.
	var asked atomic.Int32
	c.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked.Add(1)
		return nil, nil, false
	})
	r.c.suspects["there"] = true
	r.nextLook = time.Now().Add(time.Hour)
	if err := r.dropDeleted(ctx); err != nil || asked.Load() > 0 || !r.c.suspects["there"] {
		t.Errorf("asked %d times before its time: %v", asked.Load(), err)
	}
	delete(r.at, model.TopicPartition{Topic: "there"})
	r.at[model.TopicPartition{Topic: "gone"}] = 0
	r.nextLook = time.Time{}
	r.c.onAssigned(ctx, nil, nil)
	if err := r.dropDeleted(ctx); exitCode(err) != ExitNotFound || !strings.Contains(err.Error(), "topic gone was deleted") {
		t.Errorf("the only topic: %v", err)
	}
}
