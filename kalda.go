// Package kalda runs a Kafka-compatible log inside a Go program: one broker or several,
// and the ensemble that keeps their metadata, in this process.
//
//	k, err := kalda.Start(ctx, kalda.Options{Ephemeral: true, Kafka: "127.0.0.1:0"})
//	if err != nil {
//		return err
//	}
//	defer k.Close()
//	client, err := kgo.NewClient(kgo.SeedBrokers(k.Kafka()...))
//
// There are no package variables: any number of clusters run side by side in a process.
package kalda

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/node"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
)

// Options say what to run. The zero value is one broker that keeps its data in
// ./kalda-data and listens on 127.0.0.1:9092.
type Options struct {
	// Brokers is how many brokers to run; 0 means 1. They share one embedded ensemble.
	Brokers int
	// DataDir holds everything that must survive; "" means ./kalda-data. It is made if absent.
	DataDir string
	// Ephemeral keeps the data in a temporary directory that Close removes; DataDir must
	// be empty then.
	Ephemeral bool
	// Kafka is the client address of the first broker, 127.0.0.1:9092 if empty; the next
	// brokers take the following ports. Port 0 picks free ones.
	Kafka string
	// HTTP is the address of /metrics, /healthz and /readyz of the first broker; empty for none.
	HTTP string
	// Config are broker configs by Kafka's names, for every broker. They win over the
	// environment, which is not read at all.
	Config map[string]string
	// Logger gets what operators should know; nil is slog.Default().
	Logger *slog.Logger
}

// ErrLocked is in the error of a start on a directory that another cluster runs in, of
// this process or another.
const ErrLocked = vfs.ErrLocked

// Kalda is a running cluster.
type Kalda struct {
	opts    Options
	started time.Time
	ready   time.Duration
	dir     string
	temp    string // removed by Close
	meta    *node.Meta
	brokers []*node.Broker
	reread  func() (*config.Config, []config.Warning, error) // nil when nothing outside is read

	failed chan error // the first failure that the cluster cannot mend by itself; capacity 1
	close  sync.Once
	err    error
}

// Start runs brokers and ensemble and returns when all of them serve. ctx bounds the
// start only; Close ends what runs.
func Start(ctx context.Context, o Options) (*Kalda, error) {
	if o.Brokers == 0 {
		o.Brokers = 1
	}
	if o.Brokers < 0 {
		return nil, fmt.Errorf("kalda: %d brokers: want at least 1", o.Brokers)
	}
	if o.Kafka == "" {
		o.Kafka = "127.0.0.1:9092"
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Ephemeral && o.DataDir != "" {
		return nil, errors.New("kalda: DataDir and Ephemeral exclude each other")
	}
	k := &Kalda{opts: o, started: time.Now(), failed: make(chan error, 1)}
	if err := k.start(ctx); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	k.ready = time.Since(k.started)
	return k, nil
}

// NodeOptions say how one node of a real cluster is configured.
type NodeOptions struct {
	// ConfigFile is a kalda.yaml or a server.properties; "" for none.
	ConfigFile string
	// Env is the environment as NAME=value; nil reads none.
	Env []string
	// Set are key=value pairs, stronger than Env and ConfigFile; a later one wins.
	Set []string
	// Logger gets what operators should know; nil is slog.Default().
	Logger *slog.Logger
}

// StartNode runs one node as it is configured and returns when it serves. ctx bounds the
// start only.
func StartNode(ctx context.Context, o NodeOptions) (*Kalda, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	k := &Kalda{opts: Options{Logger: o.Logger}, started: time.Now(), failed: make(chan error, 1)}
	k.reread = func() (*config.Config, []config.Warning, error) {
		return config.Load(config.LoadOptions{File: o.ConfigFile, Env: o.Env, Set: o.Set})
	}
	c, warnings, err := k.reread()
	if err != nil {
		return nil, err
	}
	k.warn(warnings)
	b := c.Broker()
	m := node.MetaOptions{Cluster: b.Cluster, Logger: o.Logger, URL: b.Metadata}
	if b.Metadata == config.EmbeddedMetadata {
		m.URL, m.Dir = "", filepath.Join(b.LogDirs[0], "ensemble")
	}
	k.dir = b.LogDirs[0]
	if err := k.run(ctx, m, []*config.Config{c}); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	k.ready = time.Since(k.started)
	return k, nil
}

// Reload reads the file of StartNode anew and applies what may change while the node
// runs; a line of the log names the keys whose change waits for a restart. A file with
// mistakes is an error and changes nothing. After Start there is nothing to read.
func (k *Kalda) Reload(ctx context.Context) error {
	if k.reread == nil {
		return nil
	}
	next, warnings, err := k.reread()
	if err != nil {
		return err
	}
	k.warn(warnings)
	for _, b := range k.brokers {
		restart, err := b.Reload(ctx, next)
		if err != nil {
			return fmt.Errorf("kalda: apply the configuration: %w", err)
		}
		if len(restart) > 0 {
			k.opts.Logger.Warn("configuration re-read; some changes wait for a restart", "keys", restart)
		} else {
			k.opts.Logger.Info("configuration re-read and applied")
		}
	}
	return nil
}

func (k *Kalda) warn(ws []config.Warning) {
	for _, w := range ws {
		k.opts.Logger.Warn(w.String())
	}
}

func (k *Kalda) start(ctx context.Context) error {
	dir := k.opts.DataDir
	switch {
	case k.opts.Ephemeral:
		tmp, err := os.MkdirTemp("", "kalda-")
		if err != nil {
			return fmt.Errorf("kalda: %w", err)
		}
		k.temp, dir = tmp, tmp
	case dir == "":
		dir = "kalda-data"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("kalda: %w", err)
	}
	// A log directory, Kafka's or our own, is no data directory: ours has one per broker
	// below it.
	if _, err := os.Stat(filepath.Join(dir, "meta.properties")); err == nil {
		return fmt.Errorf("kalda: %s is itself a log directory (it holds meta.properties) and was left untouched: "+
			"give an empty directory, or one that an earlier run made", dir)
	}
	k.dir = dir
	host, portText, err := net.SplitHostPort(k.opts.Kafka)
	if err != nil {
		return fmt.Errorf("kalda: address %q: %w", k.opts.Kafka, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fmt.Errorf("kalda: address %q: the port is not a number", k.opts.Kafka)
	}
	var configs []*config.Config
	for i := range k.opts.Brokers {
		p := port
		if port != 0 {
			p += i
		}
		set := []string{
			"node.id=" + strconv.Itoa(i+1),
			"listeners=PLAINTEXT://" + net.JoinHostPort(host, strconv.Itoa(p)),
			"log.dirs=" + filepath.Join(dir, "broker-"+strconv.Itoa(i+1)),
			// Nobody develops with ten consumers that start at once: a first member need
			// not wait for others.
			"group.initial.rebalance.delay.ms=0",
		}
		http := ""
		if i == 0 {
			http = k.opts.HTTP
		}
		set = append(set, "kalda.http.listen="+http)
		for key, v := range k.opts.Config {
			set = append(set, key+"="+v)
		}
		c, warnings, err := config.Load(config.LoadOptions{Set: set})
		if err != nil {
			return err
		}
		if i == 0 {
			k.warn(warnings)
		}
		configs = append(configs, c)
	}
	return k.run(ctx, node.MetaOptions{
		Dir: filepath.Join(dir, "ensemble"), Cluster: configs[0].Broker().Cluster, SmallWAL: true, Logger: k.opts.Logger,
	}, configs)
}

// run opens the metadata and starts a broker for each configuration.
func (k *Kalda) run(ctx context.Context, m node.MetaOptions, configs []*config.Config) error {
	// The ensemble may live in a log directory: a foreign one is refused before anything
	// is written to it.
	for _, c := range configs {
		for _, dir := range c.Broker().LogDirs {
			if err := storage.CheckDir(vfs.OS{}, dir); err != nil {
				return err
			}
		}
	}
	var err error
	if k.meta, err = node.OpenMeta(ctx, m); err != nil {
		return err
	}
	for _, c := range configs {
		b, err := node.Start(ctx, node.Options{
			Config: c, Meta: k.meta, Peers: k.brokers, Logger: k.opts.Logger, OnFailure: k.fail,
		})
		if err != nil {
			return err
		}
		k.brokers = append(k.brokers, b)
	}
	return nil
}

func (k *Kalda) fail(err error) {
	select {
	case k.failed <- err:
	default:
		k.opts.Logger.Error("a part of the broker failed", "err", err)
	}
}

// Kafka are the addresses of the brokers, for clients' bootstrap lists.
func (k *Kalda) Kafka() []string {
	var out []string
	for _, b := range k.brokers {
		out = append(out, b.Kafka()...)
	}
	return out
}

// HTTP is the address of metrics and health, "" if there is none.
func (k *Kalda) HTTP() string {
	if len(k.brokers) == 0 {
		return ""
	}
	return k.brokers[0].HTTP()
}

// ClusterID is the cluster's id.
func (k *Kalda) ClusterID() string { return k.meta.Identity.ClusterID }

// DataDir is where the data is; of an ephemeral cluster until Close.
func (k *Kalda) DataDir() string { return k.dir }

// ReadyIn is how long Start took.
func (k *Kalda) ReadyIn() time.Duration { return k.ready }

// Failed yields the first failure that the cluster cannot mend by itself, such as the
// loss of its ensemble's disk. The caller should Close then.
func (k *Kalda) Failed() <-chan error { return k.failed }

// closeWait bounds what a stop waits for: the ensemble's answers.
const closeWait = 5 * time.Second

// Close stops all brokers in order (sockets, groups, logs synced and marked clean) and
// then the ensemble. It may be called again, which does nothing and returns the same.
func (k *Kalda) Close() error {
	k.close.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		var errs []error
		for i := len(k.brokers) - 1; i >= 0; i-- {
			errs = append(errs, k.brokers[i].Close(ctx))
		}
		if k.meta != nil {
			errs = append(errs, k.meta.Close())
		}
		if k.temp != "" {
			errs = append(errs, os.RemoveAll(k.temp))
		}
		k.err = errors.Join(errs...)
	})
	return k.err
}
