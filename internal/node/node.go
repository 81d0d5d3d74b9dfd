// Package node assembles a broker: it builds every room, wires them to each other,
// starts them in order and stops them in the reverse order. It is the one place that
// knows all rooms.
//
//	Meta (shared by the brokers of a process):
//	  ensemble -> cluster identity -> publisher of images
//	Broker:
//	  configuration -> log directories (lock, class)  -> sockets bound
//	  -> registration (lease, epoch) -> controller -> partitions follow the image
//	  -> coordinators -> sockets accept -> ready
//
// Stop is the way back: sockets close and running requests end, coordinators resign, the
// registration is given up, logs are synced and marked clean, and last the ensemble
// closes. Every goroutine started here is waited for.
package node

import (
	"context"
	"errors"
	"log/slog"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/kalda-io/kalda/internal/ensemble"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
)

func brokerName(id model.BrokerID) string { return strconv.Itoa(int(id)) }

// MetaOptions say where the cluster's metadata is.
type MetaOptions struct {
	// Store is used as it is if not nil; otherwise Dir or URL opens an ensemble.
	Store meta.Store
	// Dir is the directory of an embedded ensemble.
	Dir string
	// URL is an external ensemble, etcd://host:port[,...][/prefix].
	URL string
	// Root is the first element of all keys ("kalda"); the prefix of URL replaces it.
	Root string
	// Cluster is the cluster's name within the ensemble.
	Cluster string
	// SmallWAL keeps the embedded ensemble's files small, for development and tests.
	SmallWAL bool
	Logger   *slog.Logger
}

// Meta is a cluster's metadata as one process sees it, shared by its brokers.
type Meta struct {
	Store     meta.Store
	Keys      meta.Keys
	Publisher *meta.Publisher
	Identity  meta.Generation
	// Exclusive says that no other process can reach the ensemble.
	Exclusive bool

	ens    *ensemble.Ensemble // nil for a given Store
	dir    string             // of an embedded ensemble, else ""
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of the publisher; set when done is closed
}

// OpenMeta opens the ensemble, founds the cluster if it is new, loads its image and
// follows it until Close.
func OpenMeta(ctx context.Context, o MetaOptions) (*Meta, error) {
	m := &Meta{Store: o.Store, Exclusive: o.Store != nil, dir: o.Dir, done: make(chan struct{})}
	root := o.Root
	if root == "" {
		root = "kalda"
	}
	if m.Store == nil {
		ens, err := ensemble.Open(ctx, ensemble.Options{Dir: o.Dir, URL: o.URL, Log: o.Logger, SmallWAL: o.SmallWAL})
		if err != nil {
			return nil, err
		}
		m.ens, m.Store, m.Exclusive = ens, ens.Store(), ens.Exclusive()
		if p := ens.Prefix(); p != "" {
			root = p
		}
	}
	m.Keys = meta.NewKeys(root, o.Cluster)
	if err := m.load(ctx, o.Logger); err != nil {
		return nil, errors.Join(err, m.closeEnsemble())
	}
	run, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	g, run := errgroup.WithContext(run)
	g.Go(func() error { return m.Publisher.Run(run) })
	if m.ens != nil && m.ens.Done() != nil {
		g.Go(func() error {
			select {
			case <-m.ens.Done():
				return errors.New("the embedded ensemble ended: its disk failed")
			case <-run.Done():
				return nil
			}
		})
	}
	go func() {
		defer close(m.done)
		m.err = g.Wait()
	}()
	return m, nil
}

func (m *Meta) load(ctx context.Context, log *slog.Logger) error {
	var err error
	if m.Identity, err = meta.Bootstrap(ctx, m.Store, m.Keys); err != nil {
		return err
	}
	m.Publisher = meta.NewPublisher(m.Store, m.Keys, log)
	return m.Publisher.Load(ctx)
}

func (m *Meta) closeEnsemble() error {
	if m.ens == nil {
		return nil
	}
	return m.ens.Close()
}

// Failed is closed when the metadata cannot be followed any more; Err then says why.
func (m *Meta) Failed() <-chan struct{} { return m.done }

// Err is why following ended; valid once Failed is closed.
func (m *Meta) Err() error { return m.err }

// Close stops following and closes the ensemble. Brokers must be closed before.
func (m *Meta) Close() error {
	m.cancel()
	<-m.done
	return m.closeEnsemble()
}
