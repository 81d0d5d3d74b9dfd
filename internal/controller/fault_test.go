package controller_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/controller"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// faulty is a store whose transactions, renewals and watches can be tampered with.
type faulty struct {
	meta.Store
	txn   func(ctx context.Context, x meta.Txn) (meta.TxnResult, error)
	renew func(ctx context.Context, id meta.LeaseID) error
	watch func(w meta.Watcher) meta.Watcher
}

func (f *faulty) Txn(ctx context.Context, x meta.Txn) (meta.TxnResult, error) {
	if f.txn != nil {
		return f.txn(ctx, x)
	}
	return f.Store.Txn(ctx, x)
}

func (f *faulty) KeepAlive(ctx context.Context, id meta.LeaseID) error {
	if f.renew != nil {
		return f.renew(ctx, id)
	}
	return f.Store.KeepAlive(ctx, id)
}

func (f *faulty) Watch(ctx context.Context, prefix string, from int64) (meta.Watcher, error) {
	w, err := f.Store.Watch(ctx, prefix, from)
	if err == nil && f.watch != nil {
		w = f.watch(w)
	}
	return w, err
}

// on gives a broker's controller and registration another store.
func on(s meta.Store) func(*controller.Options, *controller.RegistrarOptions) {
	return func(c *controller.Options, r *controller.RegistrarOptions) { c.Store, r.Store = s, s }
}

// controllerOn gives only its controller another store.
func controllerOn(s meta.Store) func(*controller.Options, *controller.RegistrarOptions) {
	return func(c *controller.Options, _ *controller.RegistrarOptions) { c.Store = s }
}

// A controller that was cut off and replaced has a transaction on its way: it arrives
// after the new one is elected and must change nothing.
func TestReplacedControllerWritesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, m *meta.Memory) {
		c := newCluster(t, m)
		var cut atomic.Bool
		held := make(chan meta.Txn, 1)
		old := &faulty{Store: m}
		old.txn = func(ctx context.Context, x meta.Txn) (meta.TxnResult, error) {
			if !cut.Load() {
				return m.Txn(ctx, x)
			}
			select {
			case held <- x:
			default:
			}
			<-ctx.Done()
			return meta.TxnResult{}, fmt.Errorf("%w: %w", meta.ErrUnknownOutcome, ctx.Err())
		}
		old.renew = func(ctx context.Context, id meta.LeaseID) error {
			if cut.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return m.KeepAlive(ctx, id)
		}
		first := c.start(1, "b1-a", controllerOn(old))
		c.active(1)
		c.start(2, "b2-a")
		im := c.active(1, 2)
		if im.Controller != 1 {
			t.Fatalf("controller is %d, want 1", im.Controller)
		}
		synctest.Wait() // what the controller still had to write for broker 2 must not be what is held
		cut.Store(true)
		start := time.Now()
		if _, _, err := first.ctl.CreateTopics(c.ctx(), []meta.NewTopic{{Name: "ghost", Partitions: 1, ReplicationFactor: -1}}, false); !errors.Is(err, kerr.RequestTimedOut) {
			t.Fatalf("a call to a controller that was cut off: %v, want REQUEST_TIMED_OUT", err)
		}
		next := c.until("broker 2 is the controller", func(im *meta.Image) bool { return im.Controller == 2 })
		if next.ControllerEpoch <= im.ControllerEpoch {
			t.Fatalf("controller epoch went from %d to %d", im.ControllerEpoch, next.ControllerEpoch)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Fatalf("replaced after %v, want the lease of 4 s and little more", took)
		}
		c.create("real", 1)
		res, err := m.Txn(c.ctx(), <-held)
		if err != nil || res.Applied {
			t.Fatalf("the old controller's transaction: %+v, %v: want it refused", res, err)
		}
		if c.pub.Image().Topics["ghost"] != nil {
			t.Fatal("the topic of the old controller exists")
		}
		if first.ctl.Elected() {
			t.Fatal("the old controller still believes to be elected")
		}
		if _, _, err := first.ctl.CreateTopics(c.ctx(), nil, false); !errors.Is(err, kerr.NotController) {
			t.Fatalf("a call to it: %v, want NOT_CONTROLLER", err)
		}
		c.close()
	})
}

// Transactions lose their answers at random, before or after they were applied. Every
// creation that was answered exists, exactly as answered, and no key is left over.
func TestUnknownOutcomes(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, m *meta.Memory) {
				rng := rand.New(rand.NewPCG(seed, 1))
				lost := 0
				f := &faulty{Store: m}
				armed := false
				f.txn = func(ctx context.Context, x meta.Txn) (meta.TxnResult, error) {
					if !armed {
						return m.Txn(ctx, x)
					}
					switch rng.IntN(4) {
					case 0:
						lost++
						return meta.TxnResult{}, meta.ErrUnknownOutcome // never arrives
					case 1:
						lost++
						if _, err := m.Txn(ctx, x); err != nil {
							return meta.TxnResult{}, err
						}
						return meta.TxnResult{}, meta.ErrUnknownOutcome // arrived, the answer did not
					}
					return m.Txn(ctx, x)
				}
				c := newCluster(t, m)
				n := c.start(1, "b1-a", controllerOn(f))
				c.active(1)
				c.create("first", 1) // from here on the loop is idle
				armed = true
				made := map[string]model.TopicID{}
				for i := range 30 {
					name, parts := fmt.Sprintf("t%d", i), int32(1)
					if i%5 == 0 {
						parts = 130
					}
					res, _, err := n.ctl.CreateTopics(c.ctx(), []meta.NewTopic{{Name: name, Partitions: parts, ReplicationFactor: -1}}, false)
					if err == nil {
						if res[0].Err != nil {
							t.Fatalf("%s: %v", name, res[0].Err)
						}
						made[name] = res[0].ID
					}
				}
				armed = false
				if lost == 0 || len(made) < 20 {
					t.Fatalf("%d answers lost, %d topics made: the test shows nothing", lost, len(made))
				}
				last := c.create("last", 1)
				im := c.pub.Image()
				for name, id := range made {
					if im.Topics[name] == nil || im.Topics[name].ID != id {
						t.Errorf("%s was answered with id %s; the image has %v", name, id, im.Topics[name])
					}
				}
				if left := mustRange(t, m, c.keys.Prefix()+"ops/"); len(left) != 0 {
					t.Errorf("%d intents are left", len(left))
				}
				if last.Partitions[0].ControllerEpoch != im.ControllerEpoch {
					t.Error("the last topic was not made by the present controller")
				}
				c.close()
			})
		})
	}
}

// lossyWatcher ends after a few deliveries.
type lossyWatcher struct {
	meta.Watcher
	left int
}

func (w *lossyWatcher) Next(ctx context.Context) ([]meta.Revision, error) {
	if w.left--; w.left < 0 {
		return nil, meta.ErrWatchLost
	}
	return w.Watcher.Next(ctx)
}

// The controller goes on when its watch breaks again and again.
func TestControllerSurvivesLostWatches(t *testing.T) {
	for _, good := range []int{3, 0} {
		t.Run(fmt.Sprint(good), func(t *testing.T) { survivesLostWatches(t, good) })
	}
}

func survivesLostWatches(t *testing.T, good int) {
	bubble(t, func(t *testing.T, m *meta.Memory) {
		f := &faulty{Store: m, watch: func(w meta.Watcher) meta.Watcher { return &lossyWatcher{w, good} }}
		c := newCluster(t, m)
		c.start(1, "b1-a", controllerOn(f))
		c.active(1)
		for i := range 20 {
			c.create(fmt.Sprintf("t%d", i), 1)
		}
		c.close()
	})
}

// kill -9 of a single node and a start at once: the new process removes what the old one
// left under leases, and leads its partitions again without waiting for any lease.
func TestRestartAfterKill(t *testing.T) {
	bubble(t, func(t *testing.T, m *meta.Memory) {
		c := newCluster(t, m)
		first := c.start(1, "b1-a")
		c.active(1)
		topic := c.create("t", 2)
		old := first.reg.Pair()
		kill(c, first)
		start := time.Now()
		second := c.start(1, "b1-b")
		im := c.until("the new life leads", func(im *meta.Image) bool {
			return im.Topics["t"].Partitions[0].Leader == second.reg.Pair() && im.Topics["t"].Partitions[1].Leader == second.reg.Pair()
		})
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Fatalf("leading again after %v of waiting, want none", took)
		}
		ps := im.Topics["t"].Partitions[0]
		if second.reg.Pair() == old || ps.LeaderEpoch <= topic.Partitions[0].LeaderEpoch || ps.LastKnown != nil || len(ps.ISR) != 1 {
			t.Fatalf("partition 0 after the restart: %+v", *ps)
		}
		c.close()
	})
}

// A registration names the latest former life of its broker, admitted or not: only that
// one's successor may vouch for a tail.
func TestPreviousEpoch(t *testing.T) {
	bubble(t, func(t *testing.T, m *meta.Memory) {
		c := newCluster(t, m)
		first := c.start(1, "b1-a")
		c.active(1)
		kill(c, first)
		record := func(incarnation string) (r meta.Registration) {
			reg := controller.NewRegistrar(controller.RegistrarOptions{
				Store: m, Keys: c.keys, Clock: model.SystemClock(), Broker: 1, Incarnation: incarnation,
				Owns: func(string) bool { return true },
			})
			if _, err := reg.Register(c.ctx()); err != nil {
				t.Fatal(err)
			}
			kv, _, err := m.Get(c.ctx(), c.keys.Registration(1))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := meta.DecodeValue(kv.Value, &r); err != nil {
				t.Fatal(err)
			}
			r.Epoch = reg.Pair().Epoch
			return r
		}
		second := record("b1-b") // dies before any controller has seen it
		third := record("b1-c")
		if second.PreviousEpoch != first.reg.Pair().Epoch || third.PreviousEpoch != second.Epoch {
			t.Fatalf("first %v, second %+v, third %+v", first.reg.Pair(), second, third)
		}
		// The key is gone with its lease: the controller's word has to do.
		<-time.After(5 * time.Second)
		if fourth := record("b1-d"); fourth.PreviousEpoch != first.reg.Pair().Epoch {
			t.Fatalf("after the lease ended: %+v", fourth)
		}
		c.close()
	})
}

// kill stops a broker's goroutines as if its process were gone: keys and leases stay.
func kill(c *cluster, n *node) {
	// Its store stops answering first, so that nothing can be given back on the way out.
	n.dead.Store(true)
	n.stop()
	c.forget(n)
}

// A process that cannot prove that the other one is dead waits for its lease.
func TestForeignRegistrationIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, m *meta.Memory) {
		c := newCluster(t, m)
		first := c.start(1, "elsewhere-a")
		c.active(1)
		kill(c, first)
		start := time.Now()
		second := c.start(1, "b1-b")
		if took := time.Since(start); took < 3*time.Second || took > 5*time.Second {
			t.Fatalf("registered after %v, want the rest of the other's lease of 4 s", took)
		}
		c.until("the new one is active", func(im *meta.Image) bool {
			b := im.Brokers[1]
			return b != nil && b.Epoch == second.reg.Pair().Epoch && b.Status == meta.BrokerActive
		})
		c.close()
	})
}

// Three brokers; one dies without a word, and another is stopped cleanly.
func TestBrokersGoAway(t *testing.T) {
	bubble(t, func(t *testing.T, m *meta.Memory) {
		c := newCluster(t, m)
		for id := model.BrokerID(1); id <= 3; id++ {
			c.start(id, fmt.Sprintf("b%d-a", id))
		}
		c.active(1, 2, 3)
		twelve := c.create("twelve", 12)
		led := map[model.BrokerID]int{}
		for _, ps := range twelve.Partitions {
			led[ps.Leader.ID]++
		}
		if led[1] != 4 || led[2] != 4 || led[3] != 4 {
			t.Fatalf("12 partitions on 3 brokers: %v", led)
		}
		start := time.Now()
		kill(c, c.nodes[2])
		c.until("broker 3 is fenced", func(im *meta.Image) bool { return im.Brokers[3].Status == meta.BrokerFenced })
		if took := time.Since(start); took > 5500*time.Millisecond {
			t.Errorf("fenced after %v, want at most the lease of 4 s and 1.5 s", took)
		}
		im := c.until("its partitions have no leader", func(im *meta.Image) bool {
			for _, ps := range im.Topics["twelve"].Partitions {
				if ps.Leader.ID == 3 {
					return false
				}
			}
			return true
		})
		if im.Brokers[1].Status != meta.BrokerActive || im.Brokers[2].Status != meta.BrokerActive {
			t.Fatal(describe(im))
		}
		// Clean: draining first, then gone, and fenced without a grace.
		n := c.nodes[1]
		n.reg.SetWant(meta.WantDraining)
		c.until("broker 2 is draining", func(im *meta.Image) bool { return im.Brokers[2].Status == meta.BrokerDraining })
		n.stop()
		start = time.Now()
		if err := n.reg.Close(c.ctx()); err != nil {
			t.Fatal(err)
		}
		c.until("broker 2 is fenced", func(im *meta.Image) bool { return im.Brokers[2].Status == meta.BrokerFenced })
		if took := time.Since(start); took > 0 {
			t.Errorf("fenced %v after a clean stop, want at once", took)
		}
		c.forget(n)
		// And back again.
		again := c.start(3, "b3-b")
		c.until("broker 3 leads its partitions", func(im *meta.Image) bool {
			n := 0
			for _, ps := range im.Topics["twelve"].Partitions {
				if ps.Leader == again.reg.Pair() {
					n++
				}
			}
			return n == 4
		})
		c.close()
	})
}

// A lease that vanishes under a healthy broker costs nothing if the broker notices in
// time: it carries its epoch on. Too late, it gets a new one.
func TestLeaseLost(t *testing.T) {
	bubble(t, func(t *testing.T, m *meta.Memory) {
		c := newCluster(t, m)
		var cut atomic.Bool
		f := &faulty{Store: m, renew: func(ctx context.Context, id meta.LeaseID) error {
			if cut.Load() {
				return errors.New("no route")
			}
			return m.KeepAlive(ctx, id)
		}}
		c.start(1, "b1-a")
		c.active(1)
		n := c.start(2, "b2-a", on(f))
		c.active(1, 2)
		topic := c.create("t", 2)
		before := n.reg.Pair()
		revoke := func() {
			kv, _, err := m.Get(c.ctx(), c.keys.Registration(2))
			if err != nil || kv.Lease == 0 {
				t.Fatalf("%+v %v", kv, err)
			}
			if err := m.Revoke(c.ctx(), kv.Lease); err != nil {
				t.Fatal(err)
			}
		}
		revoke()
		im := c.until("broker 2 is registered anew", func(im *meta.Image) bool {
			kv, _, _ := m.Get(c.ctx(), c.keys.Registration(2))
			return kv.Exists() && im.Revision >= kv.CreateRevision
		})
		if n.reg.Pair() != before || im.Topics["t"] != topic || im.Brokers[2].Status != meta.BrokerActive {
			t.Fatalf("a short loss of the lease changed something: %v, %s", n.reg.Pair(), describe(im))
		}
		if left := n.reg.ValidUntil() - n.clock.Boot(); left <= 0 || left > 3*time.Second {
			t.Fatalf("the registration is valid for %v, want up to three quarters of 4 s", left)
		}
		cut.Store(true)
		revoke()
		c.until("broker 2 is fenced", func(im *meta.Image) bool { return im.Brokers[2].Status == meta.BrokerFenced })
		<-time.After(3 * time.Second) // of the bubble: the validity runs out
		if left := n.reg.ValidUntil() - n.clock.Boot(); left > 0 {
			t.Fatalf("cut off for over 3 s, the registration still counts for %v", left)
		}
		cut.Store(false)
		im = c.until("broker 2 leads again", func(im *meta.Image) bool {
			for _, ps := range im.Topics["t"].Partitions {
				if ps.Leader == n.reg.Pair() {
					return true
				}
			}
			return false
		})
		if n.reg.Pair() == before {
			t.Fatal("a fenced broker came back under its old epoch")
		}
		for _, ps := range im.Topics["t"].Partitions {
			if len(ps.LastKnown) != 0 {
				t.Fatalf("the tail of a process that never died is in doubt: %+v", *ps)
			}
		}
		c.close()
	})
}

// Calls wait for an election, and tombstones are dropped in time.
func TestLocalWaitsAndTombstonesGo(t *testing.T) {
	bubble(t, func(t *testing.T, m *meta.Memory) {
		c := newCluster(t, m)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := c.local.CreateTopics(ctx, nil, false); !errors.Is(err, kerr.RequestTimedOut) {
			t.Fatalf("without any controller: %v", err)
		}
		c.start(1, "b1-a", func(o *controller.Options, _ *controller.RegistrarOptions) {
			o.Rules.TombstoneKeep = 90 * time.Minute
		})
		if _, _, err := c.local.CreateTopics(c.ctx(), nil, false); err != nil {
			t.Fatalf("while one is being elected: %v", err)
		}
		c.active(1)
		topic := c.create("t", 1)
		if _, _, err := c.local.DeleteTopics(c.ctx(), []model.TopicID{topic.ID}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), 4*time.Hour)
		defer cancel()
		if _, err := c.pub.WaitUntil(ctx, func(im *meta.Image) bool { return len(im.Topics) == 0 && len(im.Tombstones) == 1 }); err != nil {
			t.Fatal(err)
		}
		if _, err := c.pub.WaitUntil(ctx, func(im *meta.Image) bool { return len(im.Tombstones) == 0 }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 90*time.Minute || took > 150*time.Minute {
			t.Fatalf("the tombstone went after %v", took)
		}
		c.close()
	})
}

// Fields of a later version survive what this version rewrites, and a value of a later
// format stops it.
func TestLaterVersionsValues(t *testing.T) {
	bubble(t, func(t *testing.T, m *meta.Memory) {
		c := newCluster(t, m)
		c.start(1, "b1-a")
		c.active(1)
		topic := c.create("t", 1)
		key := c.keys.Partition(model.Partition{Topic: topic.ID})
		kv, _, err := m.Get(c.ctx(), key)
		if err != nil {
			t.Fatal(err)
		}
		value := append(kv.Value[:len(kv.Value)-1:len(kv.Value)-1], `,"tier":{"bucket":"b"}}`...)
		res, err := m.Txn(c.ctx(), meta.Txn{Then: []meta.Op{meta.Put(key, value)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.pub.WaitFor(c.ctx(), res.Revision); err != nil {
			t.Fatal(err)
		}
		policy := "os"
		errs, _, err := c.local.AlterConfigs(c.ctx(), []meta.ConfigChange{{
			Kind: meta.ResourceTopic, Name: "t",
			Ops: []meta.ConfigOpEntry{{Key: "kalda.flush.policy", Value: &policy}},
		}}, false)
		if err != nil || errs[0] != nil {
			t.Fatal(err, errs)
		}
		kv, _, err = m.Get(c.ctx(), key)
		if err != nil || !contains(kv.Value, `"flushPolicy":"os"`) || !contains(kv.Value, `"tier":{"bucket":"b"}`) {
			t.Fatalf("rewritten: %s, %v", kv.Value, err)
		}
		c.close()
	})
}
