package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/kalda-io/kalda/internal/controller"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
)

// openDirs locks the log directories and learns of the broker's former lives.
func (b *Broker) openDirs() error {
	boot := bootID()
	for _, path := range b.opts.Load().LogDirs {
		d, err := storage.OpenDir(b.o.FS, path, storage.DirOptions{
			Files:     b.files,
			ClusterID: b.o.Meta.Identity.ClusterID, NodeID: b.id, BootID: boot, MaxProducers: b.opts.Load().MaxProducerIDs,
		})
		if vfs.DiskFailed(err) {
			b.log.Error("a log directory cannot be opened: its disk failed", "dir", path, "err", err)
			b.dead = append(b.dead, replica.DeadDir{Path: path, Err: err})
			continue
		}
		if err != nil {
			return err
		}
		b.dirs = append(b.dirs, d)
		if n := d.DamagedCheckpoints(); n > 0 {
			b.log.Error("the checkpoints of a log directory are damaged: the logs concerned are read from their beginning, and records that were deleted from it may be there again",
				"file", path+"/checkpoints", "damaged", n)
		}
	}
	if len(b.dirs) == 0 {
		return fmt.Errorf("no log directory can be used: %w", b.dead[0].Err)
	}
	if err := b.distrustFailed(); err != nil {
		return err
	}
	b.incarnation = storage.NewIncarnation()
	b.former = map[string]bool{}
	for _, d := range b.dirs {
		for _, inc := range d.RunMeta().Incarnations {
			b.former[inc] = true
		}
	}
	return nil
}

// bootID names this boot of the kernel; "" where the system does not tell.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// pair is the broker's registration; its epoch is 0 until there is one.
func (b *Broker) pair() model.Pair {
	if r := b.registrar.Load(); r != nil {
		if p := r.Pair(); p.Epoch != 0 {
			return p
		}
	}
	return model.Pair{ID: b.id}
}

// owns says whether an incarnation is a former life of this broker: its directories
// named it, and this process holds their locks.
func (b *Broker) owns(incarnation string) bool { return b.former[incarnation] }

func (b *Broker) previousEpoch() model.BrokerEpoch {
	var e model.BrokerEpoch
	for _, d := range b.dirs {
		e = max(e, d.RunMeta().BrokerEpoch)
	}
	return e
}

func (b *Broker) tails() map[string]meta.TailClass {
	out := map[string]meta.TailClass{}
	for _, d := range b.dirs {
		class := meta.TailSuspect
		switch {
		case b.replicas.Damaged(d.ID()):
		case d.Class() == storage.Clean:
			class = meta.TailClean
		case d.Class() == storage.CrashSameBoot:
			class = meta.TailSameBoot
		}
		out[d.ID()] = class
	}
	return out
}

// endpoints are the addresses that clients are told: advertised.listeners, else where
// the listeners are bound, with this host's name for a listener on all addresses.
func (b *Broker) endpoints() []meta.Endpoint {
	opts := b.opts.Load()
	if len(opts.Advertised) > 0 {
		var out []meta.Endpoint
		for _, l := range opts.Advertised {
			out = append(out, meta.Endpoint{Name: l.Name, Host: l.Host, Port: int32(l.Port)})
		}
		return out
	}
	var out []meta.Endpoint
	for i, ln := range b.listeners {
		e := meta.Endpoint{Name: opts.Listeners[i].Name, Host: opts.Listeners[i].Host}
		if a, ok := ln.Addr().(*net.TCPAddr); ok {
			e.Port = int32(a.Port)
			if e.Host == "" || a.IP.IsUnspecified() {
				e.Host = "localhost"
				if name, err := os.Hostname(); err == nil {
					e.Host = name
				}
			}
		}
		out = append(out, e)
	}
	return out
}

// checkAlone refuses to join brokers of other processes: without replication nothing
// carries requests between them.
func (b *Broker) checkAlone(im *meta.Image) error {
	ours := map[model.BrokerID]bool{b.id: true}
	for _, p := range b.o.Peers {
		ours[p.id] = true
	}
	for id, br := range im.Brokers {
		if !ours[id] && br.Status != meta.BrokerFenced && !b.o.Meta.Exclusive {
			return fmt.Errorf("broker %d of another process is already in this cluster; "+
				"several nodes in one cluster are not available in this version: give this node a kalda.cluster of its own", id)
		}
	}
	return nil
}

// register tells the ensemble of this life: what the directories hold, and where clients
// reach it. The life is on disk before, so that after a crash in between its key is known
// to be ours.
func (b *Broker) register(ctx context.Context) error {
	tails := b.tails()
	for _, d := range b.dirs {
		if err := d.SetIncarnation(b.incarnation); err != nil {
			return err
		}
	}
	r := controller.NewRegistrar(controller.RegistrarOptions{
		Store: b.o.Meta.Store, Keys: b.o.Meta.Keys, Clock: b.o.Clock, Log: b.log,
		Broker: b.id, Incarnation: b.incarnation, BootID: bootID(),
		PreviousEpoch: b.previousEpoch(), Tails: tails,
		Endpoints: b.endpoints(), Rack: b.opts.Load().Rack, Owns: b.owns,
	})
	b.registrar.Store(r)
	pair, err := r.Register(ctx)
	if err != nil {
		return err
	}
	for _, d := range b.dirs {
		if err := d.SetBrokerEpoch(pair.Epoch); err != nil {
			return err
		}
	}
	if err := b.forgetFailures(); err != nil {
		return err
	}
	if err := b.recordDirs(ctx, pair.Epoch); err != nil {
		// The broker is registered. What is missing is only noticed when directories go.
		b.log.Error("the log directories cannot be recorded", "err", err)
	}
	return nil
}

// recordEpoch writes a new registration's epoch into the directories: a broker whose
// lease was lost registers again while it runs.
func (b *Broker) recordEpoch() {
	epoch := b.pair().Epoch
	if epoch == 0 {
		return
	}
	changed := false
	for _, d := range b.dirs {
		if d.RunMeta().BrokerEpoch == epoch || b.replicas.DirOffline(d.ID()) {
			continue
		}
		if err := d.SetBrokerEpoch(epoch); err != nil {
			b.log.Error("the registration cannot be recorded", "dir", d.Path(), "err", err)
			continue
		}
		changed = true
	}
	if !changed {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordDirsWait)
	defer cancel()
	if err := b.recordDirs(ctx, epoch); err != nil {
		b.log.Error("the log directories cannot be recorded", "err", err)
	}
}

// awaitActive waits until the controller made this registration active and the image
// that says so, with its elections, is applied.
func (b *Broker) awaitActive(ctx context.Context) error {
	pair := b.pair()
	im, err := b.o.Meta.Publisher.WaitUntil(ctx, func(im *meta.Image) bool {
		br := im.Brokers[b.id]
		if br == nil || br.Epoch != pair.Epoch || br.Status != meta.BrokerActive {
			return false
		}
		for _, t := range im.Topics {
			for _, st := range t.Partitions {
				if len(st.Replicas) == 1 && st.Replicas[0] == b.id && st.Leader != pair {
					return false
				}
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("the controller did not admit broker %d: %w", b.id, err)
	}
	return b.replicas.WaitApplied(ctx, im.Revision)
}
