package controller_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/controller"
	"github.com/kalda-io/kalda/internal/ensemble"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// cluster is some brokers of one process on one store, each with a controller and a
// registration, as package node assembles them.
type cluster struct {
	t     *testing.T
	store meta.Store
	keys  meta.Keys
	pub   *meta.Publisher
	local controller.Local
	nodes []*node
	stop  func()
}

type node struct {
	id   model.BrokerID
	ctl  *controller.Controller
	reg  *controller.Registrar
	stop func()
	wg   sync.WaitGroup
	// dead makes the store refuse everything, as it does to a process that is gone.
	dead  atomic.Bool
	clock model.Clock
}

// mortal is a store that only a living process reaches.
type mortal struct {
	meta.Store
	dead *atomic.Bool
}

var errDead = errors.New("this process is dead")

func (s mortal) Txn(ctx context.Context, x meta.Txn) (meta.TxnResult, error) {
	if s.dead.Load() {
		return meta.TxnResult{}, errDead
	}
	return s.Store.Txn(ctx, x)
}

func (s mortal) Revoke(ctx context.Context, id meta.LeaseID) error {
	if s.dead.Load() {
		return errDead
	}
	return s.Store.Revoke(ctx, id)
}

// forget leaves a broker out of close.
func (c *cluster) forget(n *node) {
	c.nodes = slices.DeleteFunc(c.nodes, func(o *node) bool { return o == n })
	c.local = slices.DeleteFunc(c.local, func(o *controller.Controller) bool { return o == n.ctl })
}

func contains(b []byte, s string) bool { return strings.Contains(string(b), s) }

// testLog shows warnings of a failing test.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newCluster(t *testing.T, store meta.Store) *cluster {
	t.Helper()
	c := &cluster{t: t, store: store, keys: meta.NewKeys("", "test")}
	if _, err := meta.Bootstrap(t.Context(), store, c.keys); err != nil {
		t.Fatal(err)
	}
	c.pub = meta.NewPublisher(store, c.keys, testLog(t))
	if err := c.pub.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.pub.Run(ctx); err != nil {
			t.Errorf("Publisher: %v", err)
		}
	})
	c.stop = func() { cancel(); wg.Wait() }
	return c
}

// start runs a broker's registration and controller. The store that its controller uses may be another
// one, for faults.
func (c *cluster) start(id model.BrokerID, incarnation string, mod ...func(*controller.Options, *controller.RegistrarOptions)) *node {
	c.t.Helper()
	owns := func(inc string) bool { return strings.HasPrefix(inc, fmt.Sprintf("b%d-", id)) }
	co := controller.Options{
		Store: c.store, Keys: c.keys, Clock: model.SystemClock(), Log: testLog(c.t),
		Broker: id, Incarnation: incarnation, Owns: owns,
	}
	ro := controller.RegistrarOptions{
		Store: c.store, Keys: c.keys, Clock: co.Clock, Log: co.Log, Broker: id, Incarnation: incarnation, Owns: owns,
		Tails:     map[string]meta.TailClass{"d": meta.TailSameBoot},
		Endpoints: []meta.Endpoint{{Name: "PLAINTEXT", Host: "h", Port: 9092}},
	}
	for _, m := range mod {
		m(&co, &ro)
	}
	n := &node{id: id, clock: co.Clock}
	co.Store, ro.Store = mortal{co.Store, &n.dead}, mortal{ro.Store, &n.dead}
	n.ctl, n.reg = controller.New(co), controller.NewRegistrar(ro)
	if _, err := n.reg.Register(c.ctx()); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.wg.Go(func() {
		if err := n.reg.Run(ctx); err != nil {
			c.t.Errorf("Registrar %d: %v", id, err)
		}
	})
	n.wg.Go(func() {
		if err := n.ctl.Run(ctx); err != nil {
			c.t.Errorf("Controller %d: %v", id, err)
		}
	})
	n.reg.SetWant(meta.WantRunning)
	n.stop = func() { cancel(); n.wg.Wait() }
	c.local = append(c.local, n.ctl)
	c.nodes = append(c.nodes, n)
	return n
}

func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	c.t.Cleanup(cancel)
	return ctx
}

// until waits for an image.
func (c *cluster) until(what string, ok func(*meta.Image) bool) *meta.Image {
	c.t.Helper()
	im, err := c.pub.WaitUntil(c.ctx(), ok)
	if err != nil {
		c.t.Fatalf("waiting until %s: %v\nthe image: %s", what, err, describe(c.pub.Image()))
	}
	return im
}

func describe(im *meta.Image) string {
	var b strings.Builder
	fmt.Fprintf(&b, "revision %d controller %d/%d\n", im.Revision, im.Controller, im.ControllerEpoch)
	for _, id := range im.BrokerIDs() {
		fmt.Fprintf(&b, "broker %+v\n", *im.Brokers[id])
	}
	for _, name := range im.TopicNames() {
		for i, ps := range im.Topics[name].Partitions {
			fmt.Fprintf(&b, "%s-%d %+v\n", name, i, *ps)
		}
	}
	return b.String()
}

// active waits until the brokers are.
func (c *cluster) active(ids ...model.BrokerID) *meta.Image {
	c.t.Helper()
	return c.until(fmt.Sprintf("brokers %v are active", ids), func(im *meta.Image) bool {
		return !slices.ContainsFunc(ids, func(id model.BrokerID) bool {
			b := im.Brokers[id]
			return b == nil || b.Status != meta.BrokerActive
		})
	})
}

// create makes a topic that must succeed and returns it once the image has it.
func (c *cluster) create(name string, partitions int32) *meta.Topic {
	c.t.Helper()
	res, rev, err := c.local.CreateTopics(c.ctx(), []meta.NewTopic{{Name: name, Partitions: partitions, ReplicationFactor: -1}}, false)
	if err != nil || res[0].Err != nil {
		c.t.Fatalf("create %s: %v, %+v", name, err, res)
	}
	im, err := c.pub.WaitFor(c.ctx(), rev)
	if err != nil {
		c.t.Fatal(err)
	}
	t := im.Topics[name]
	if t == nil || t.ID != res[0].ID || len(t.Partitions) != int(partitions) {
		c.t.Fatalf("the image at revision %d does not show %s: %s", rev, name, describe(im))
	}
	return t
}

// close ends everything, cleanly.
func (c *cluster) close() {
	for _, n := range c.nodes {
		n.stop()
		if err := n.reg.Close(context.Background()); err != nil {
			c.t.Errorf("Close of registrar %d: %v", n.id, err)
		}
	}
	c.stop()
}

// bubble runs a test with fake time on a memory store.
func bubble(t *testing.T, f func(t *testing.T, m *meta.Memory)) {
	synctest.Test(t, func(t *testing.T) {
		m := meta.NewMemory(model.SystemClock())
		f(t, m)
		m.Close()
	})
}

// onBoth runs a test on the memory store in a bubble and on a real embedded ensemble.
func onBoth(t *testing.T, f func(t *testing.T, store meta.Store)) {
	t.Run("memory", func(t *testing.T) {
		bubble(t, func(t *testing.T, m *meta.Memory) { f(t, m) })
	})
	t.Run("etcd", func(t *testing.T) {
		e, err := ensemble.Open(t.Context(), ensemble.Options{Dir: t.TempDir(), SmallWAL: true, Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		f(t, e.Store())
	})
}

// One node does everything that the first issue asks of the controller.
func TestOneNode(t *testing.T) {
	onBoth(t, func(t *testing.T, store meta.Store) {
		c := newCluster(t, store)
		n := c.start(1, "b1-a")
		im := c.active(1)
		if im.Controller != 1 || im.ControllerEpoch == 0 || im.Brokers[1].Epoch != n.reg.Pair().Epoch {
			t.Fatalf("image: %s", describe(im))
		}
		topic := c.create("lines", 3)
		for i, ps := range topic.Partitions {
			if ps.Leader != n.reg.Pair() || !slices.Equal(ps.ISR, []model.Pair{ps.Leader}) || ps.MinISR != 1 ||
				ps.FlushPolicy != "commit" || ps.ControllerEpoch != im.ControllerEpoch {
				t.Fatalf("partition %d: %+v", i, *ps)
			}
		}
		big := c.create("big", 300) // several transactions
		if big.Partitions[299].Leader != n.reg.Pair() {
			t.Fatalf("partition 299: %+v", *big.Partitions[299])
		}
		if len(mustRange(t, store, c.keys.Prefix()+"ops/")) != 0 {
			t.Fatal("the intent of a finished creation is still there")
		}
		// Who is told that a topic exists can wait for it, too.
		var revs [2]int64
		for i := range revs {
			res, rev, err := c.local.CreateTopics(c.ctx(), []meta.NewTopic{{Name: "twice", Partitions: 1, ReplicationFactor: -1}}, false)
			if err != nil || (i == 1) != (kerr.Of(res[0].Err) == kerr.TopicAlreadyExists) {
				t.Fatal(err, res[0].Err)
			}
			revs[i] = rev
		}
		if revs[0] == 0 || revs[1] < revs[0] {
			t.Fatalf("created by revision %d, exists by %d", revs[0], revs[1])
		}
		// More partitions.
		errs, rev, err := c.local.CreatePartitions(c.ctx(), []meta.MorePartitions{{Topic: "lines", Count: 5}}, false)
		if err != nil || errs[0] != nil {
			t.Fatal(err, errs)
		}
		im, _ = c.pub.WaitFor(c.ctx(), rev)
		if got := im.Topics["lines"].Partitions; len(got) != 5 || got[0] != topic.Partitions[0] {
			t.Fatalf("after extending: %s", describe(im))
		}
		// A config change reaches the partitions by the revision that it returns.
		policy := "os"
		errs, rev, err = c.local.AlterConfigs(c.ctx(), []meta.ConfigChange{{
			Kind: meta.ResourceTopic, Name: "lines",
			Ops: []meta.ConfigOpEntry{{Key: "kalda.flush.policy", Op: meta.ConfigSet, Value: &policy}},
		}}, false)
		if err != nil || errs[0] != nil {
			t.Fatal(err, errs)
		}
		im, _ = c.pub.WaitFor(c.ctx(), rev)
		for i, ps := range im.Topics["lines"].Partitions {
			if ps.FlushPolicy != "os" || ps.PartitionEpoch != 1 || ps.LeaderEpoch != 0 {
				t.Fatalf("partition %d after the change: %+v", i, *ps)
			}
		}
		if im.Topics["lines"].Config["kalda.flush.policy"] != "os" || im.Topics["big"] != big {
			t.Fatal("the config is not shown, or an untouched topic was copied")
		}
		// The end of a topic, down to its keys.
		errs, rev, err = c.local.DeleteTopics(c.ctx(), []model.TopicID{big.ID, {1}})
		if err != nil || errs[0] != nil || !errors.Is(errs[1], kerr.UnknownTopicID) {
			t.Fatal(err, errs)
		}
		im, _ = c.pub.WaitFor(c.ctx(), rev)
		if im.Topics["big"] != nil || im.TopicsByID[big.ID] != nil || im.Tombstones[big.ID] != "big" {
			t.Fatalf("after the deletion: %s", describe(im))
		}
		if again := c.create("big", 1); again.ID == big.ID {
			t.Fatal("a new topic has the id of a deleted one")
		}
		c.close()
		if left := mustRange(t, store, c.keys.Prefix()+"parts/"+big.ID.String()); len(left) != 0 {
			t.Errorf("keys of the deleted topic are left: %d", len(left))
		}
		for _, key := range []string{c.keys.Controller(), c.keys.Registration(1)} {
			if len(mustRange(t, store, key)) != 0 {
				t.Errorf("a clean stop left %s", key)
			}
		}
	})
}

func mustRange(t *testing.T, store meta.Store, prefix string) []meta.KV {
	t.Helper()
	page, err := store.Range(context.Background(), prefix, "", 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	return page.KVs
}
