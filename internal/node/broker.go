package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/broker"
	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/controller"
	"github.com/kalda-io/kalda/internal/coordinator"
	"github.com/kalda-io/kalda/internal/group"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/server"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/internal/wheel"
)

// Options configure one broker.
type Options struct {
	// Config is the broker's configuration. Required.
	Config *config.Config
	// Meta is the cluster's metadata. Required.
	Meta *Meta
	// Peers are the controllers of the other brokers in this process, started before.
	Peers []*Broker
	// FS is the disk; nil is the operating system's.
	FS vfs.FS
	// Listen binds a listener; nil is one of TCP.
	Listen func(addr string) (net.Listener, error)
	// Clock is the time; zero is the system's.
	Clock  model.Clock
	Logger *slog.Logger
	// OnFailure hears of failures that the broker cannot mend by itself; it must not
	// block. nil logs them.
	OnFailure func(error)
}

// Broker is one running broker.
type Broker struct {
	o   Options
	id  model.BrokerID
	log *slog.Logger
	// config is o.Config until Reload; opts is config with the dynamic configs of the
	// latest image.
	config  atomic.Pointer[config.Config]
	opts    atomic.Pointer[config.BrokerOptions]
	reloads chan reload   // for the goroutine that applies images
	closing chan struct{} // closed when Close begins

	dirs        []*storage.Dir
	dead        []replica.DeadDir // those of log.dirs whose disk failed at the start
	files       *storage.Files    // those that the logs keep open
	listeners   []net.Listener
	httpLn      net.Listener
	incarnation string
	former      map[string]bool                      // incarnations of this broker that are proven dead
	registrar   atomic.Pointer[controller.Registrar] // nil before register
	controller  *controller.Controller
	peers       atomic.Pointer[controller.Local]
	replicas    *replica.Manager
	groups      *group.Service
	wheel       *wheel.Wheel
	handler     *broker.Broker
	limits      clientLimits
	servers     []*server.Server
	ready       atomic.Bool

	stages []stage // what runs, in start order
}

// Start runs a broker and returns when it serves. ctx bounds the start only.
func Start(ctx context.Context, o Options) (*Broker, error) {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Listen == nil {
		o.Listen = listenTCP
	}
	if o.Clock.Boot == nil {
		o.Clock = model.SystemClock()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	opts := o.Config.Broker()
	b := &Broker{o: o, files: &storage.Files{}, id: model.BrokerID(opts.NodeID), log: o.Logger.With("broker", opts.NodeID), reloads: make(chan reload), closing: make(chan struct{})}
	b.config.Store(o.Config)
	b.opts.Store(&opts)
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.abort())
	}
	return b, nil
}

func (b *Broker) start(ctx context.Context) error {
	if err := b.openDirs(); err != nil {
		return err
	}
	if err := b.checkRollback(); err != nil {
		return err
	}
	if err := b.checkDirs(ctx); err != nil {
		return err
	}
	if err := b.listen(); err != nil {
		return err
	}
	b.build()
	b.run("partitions", b.replicas.Run)
	b.run("timers", func(ctx context.Context) error { b.wheel.Run(ctx); return nil })
	// Every log is opened and recovered before the broker registers: the classes of its
	// directories are part of the registration.
	im := b.o.Meta.Publisher.Image()
	if err := b.checkAlone(im); err != nil {
		return err
	}
	b.replicas.Apply(im)
	if err := b.replicas.RemoveStale(im); err != nil {
		return err
	}
	if err := b.register(ctx); err != nil {
		return err
	}
	b.run("registration", b.registrar.Load().Run)
	b.run("controller", b.controller.Run)
	b.run("image", b.follow, b.rememberRevision)
	b.registrar.Load().SetWant(meta.WantRunning)
	if err := b.awaitActive(ctx); err != nil {
		return err
	}
	b.serve()
	b.ready.Store(true)
	return nil
}

func (b *Broker) listen() error {
	opts := b.opts.Load()
	for _, l := range opts.Listeners {
		ln, err := b.o.Listen(l.Addr())
		if err != nil {
			return fmt.Errorf("listener %s: %w", l, err)
		}
		b.listeners = append(b.listeners, ln)
	}
	if opts.HTTPListen != "" {
		ln, err := b.o.Listen(opts.HTTPListen)
		if err != nil {
			return fmt.Errorf("kalda.http.listen=%s: %w", opts.HTTPListen, err)
		}
		b.httpLn = ln
	}
	return nil
}

// build makes the rooms and ties them together; nothing runs yet.
func (b *Broker) build() {
	opts := b.opts.Load()
	b.limits = b.newClientLimits()
	b.files.SetLimit(b.logFiles)
	b.wheel = wheel.New(b.o.Clock)
	b.replicas = replica.New(replica.Options{
		Self:              b.pair,
		Dirs:              b.dirs,
		Files:             b.files,
		Settings:          topicSettings(b.config.Load, b.id),
		Roles:             groupRoles{b},
		RetentionInterval: func() time.Duration { return b.opts.Load().RetentionCheckInterval },
		Cleaner:           func() replica.CleanerSettings { return cleanerSettings(b.opts.Load().Cleaner) },
		Scrub: func() replica.ScrubSettings {
			o := b.opts.Load()
			return replica.ScrubSettings{BytesPerSecond: float64(o.ScrubBytesPerSecond), Interval: o.ScrubInterval}
		},
		OnFailure: func(tp model.TopicPartition, err error) {
			b.log.Error("partition offline", "partition", tp.String(), "err", err)
		},
		OnDirFailure: b.dirFailed,
		DeadDirs:     b.dead,
		Marks:        b.marks,
		Clock:        b.o.Clock,
		Logger:       b.log,
	})
	g := opts.Group
	b.groups = group.NewService(b.o.Clock, b.offsetsPartitions, group.Options{
		MinSessionTimeout:      g.MinSessionTimeout,
		MaxSessionTimeout:      g.MaxSessionTimeout,
		InitialRebalanceDelay:  g.InitialRebalanceDelay,
		MaxSize:                g.MaxSize,
		MaxMetadataBytes:       g.OffsetMetadataMaxBytes,
		MaxMemberBytes:         g.MaxMemberBytes,
		MaxGroupBytes:          g.MaxGroupBytes,
		MaxTotalBytes:          g.MaxTotalBytes,
		OffsetsRetention:       g.OffsetsRetention,
		RetentionCheckInterval: g.OffsetsRetentionCheckInterval,
		TopicPartitions:        b.topicPartitions,
		TopicID:                b.topicID,
		Admit:                  b.admitOffsets,
	}, coordinator.Options{LoadBufferBytes: g.OffsetsLoadBufferBytes, Logger: b.log})
	b.controller = controller.New(controller.Options{
		Store: b.o.Meta.Store, Keys: b.o.Meta.Keys, Clock: b.o.Clock, Log: b.log,
		Broker: b.id, Incarnation: b.incarnation, Owns: b.owns,
		Rules: b.controllerRules(),
	})
	local := controller.Local{b.controller}
	b.peers.Store(&local)
	for _, p := range b.o.Peers {
		local = append(local, p.controller)
		theirs := append(append(controller.Local(nil), *p.peers.Load()...), b.controller)
		p.peers.Store(&theirs)
	}
	b.peers.Store(&local)
	b.handler = broker.New(broker.Options{
		NodeID:      b.id,
		Image:       b.o.Meta.Publisher.Image,
		WaitApplied: b.replicas.WaitApplied,
		Admin:       adminOf{b},
		AllocateProducerIDs: func(ctx context.Context) (model.ProducerID, int64, error) {
			const block = 1000
			first, err := meta.AllocateProducerIDs(ctx, b.o.Meta.Store, b.o.Meta.Keys, block)
			return first, block, err
		},
		Replicas:                 b.replicas,
		Groups:                   b.groups,
		Advertised:               len(opts.Advertised) > 0,
		AutoCreateTopics:         func() bool { return b.opts.Load().AutoCreateTopics },
		DeleteTopics:             func() bool { return b.opts.Load().DeleteTopics },
		OffsetsPartitions:        g.OffsetsTopicPartitions,
		OffsetsSegmentBytes:      g.OffsetsTopicSegmentBytes,
		OffsetsReplicationFactor: g.OffsetsTopicReplicationFactor,
		FetchMaxBytes:            opts.FetchMaxBytes,
		FetchSessions:            opts.FetchSessionSlots,
		FetchSessionBytes:        opts.FetchSessionBytes,
		MaxTopicPartitions:       opts.MaxRequestPartitions,
		Configs:                  describer{b},
		Wheel:                    b.wheel,
		Clock:                    b.o.Clock,
		Logger:                   b.log,
	})
}

// follow applies every image.
func (b *Broker) follow(ctx context.Context) error {
	var last *meta.Image
	for {
		im, changed := b.o.Meta.Publisher.Current()
		b.apply(last, im)
		last = im
		select {
		case <-changed:
		case r := <-b.reloads:
			r.restart <- b.takeConfig(im, r.next)
		case <-b.o.Meta.Failed():
			return b.o.Meta.Err()
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *Broker) apply(last, im *meta.Image) {
	b.recordEpoch()
	d := dynamic(im, b.id)
	if last == nil || changedConfig(last.BrokerConfigs[""], d.Default) || changedConfig(last.BrokerConfigs[brokerName(b.id)], d.Broker) {
		b.refresh(im)
	}
	b.replicas.Apply(im)
	if last == nil {
		return
	}
	var gone []string
	for name, t := range last.Topics {
		if now := im.Topics[name]; now == nil || now.ID != t.ID {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		b.groups.TopicsDeleted(gone)
	}
}

func changedConfig(a, b map[string]string) bool {
	if len(a) != len(b) {
		return true
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return true
		}
	}
	return false
}

// serve begins to accept.
func (b *Broker) serve() {
	var fs []func(context.Context) error
	for i, ln := range b.listeners {
		s, err := server.New(b.serverOptions(i))
		if err != nil {
			b.fail(err)
			continue
		}
		b.servers = append(b.servers, s)
		fs = append(fs, func(ctx context.Context) error { return s.Serve(ctx, ln) })
	}
	if b.httpLn != nil {
		h := httpServer(b.readiness, b.readyText, b.metricsHandler())
		fs = append(fs, func(ctx context.Context) error { return serveHTTP(ctx, h, b.httpLn) })
	}
	b.run("sockets", fs...)
}

// readiness is nil while the broker serves.
func (b *Broker) readiness() error {
	if !b.ready.Load() {
		return errors.New("starting or stopping")
	}
	return nil
}

// Kafka are the addresses of the client listeners.
func (b *Broker) Kafka() []string {
	out := make([]string, len(b.listeners))
	for i, ln := range b.listeners {
		out[i] = ln.Addr().String()
	}
	return out
}

// HTTP is the address of metrics and health, "" without.
func (b *Broker) HTTP() string {
	if b.httpLn == nil {
		return ""
	}
	return b.httpLn.Addr().String()
}

// Close stops the broker in order: sockets, coordinators, registration, logs. ctx bounds
// what waits for the ensemble.
func (b *Broker) Close(ctx context.Context) error {
	b.ready.Store(false)
	close(b.closing)
	b.stop("sockets")
	b.groups.Close()
	b.handler.Close()
	b.stop("registration")
	err := b.registrar.Load().Close(ctx)
	b.stop("partitions")
	return errors.Join(err, b.replicas.Close())
}

// abort ends a start that failed.
func (b *Broker) abort() error {
	for len(b.stages) > 0 {
		b.stop("")
	}
	for _, ln := range append(b.listeners, b.httpLn) {
		if ln != nil {
			_ = ln.Close()
		}
	}
	if b.groups != nil {
		b.groups.Close()
	}
	if b.handler != nil {
		b.handler.Close()
	}
	if r := b.registrar.Load(); r != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = r.Close(ctx)
	}
	if b.replicas != nil {
		return b.replicas.Close()
	}
	var errs []error
	for _, d := range b.dirs {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

func (b *Broker) offsetsPartitions() int32 { return b.topicPartitions(meta.OffsetsTopic) }

func (b *Broker) topicPartitions(name string) int32 {
	t := b.o.Meta.Publisher.Image().Topics[name]
	if t == nil {
		return 0
	}
	return int32(len(t.Partitions))
}

// topicID is the id of a topic, zero when there is none.
func (b *Broker) topicID(name string) model.TopicID {
	t := b.o.Meta.Publisher.Image().Topics[name]
	if t == nil {
		return model.TopicID{}
	}
	return t.ID
}

// groupRoles starts and ends the shards of the group coordinator.
type groupRoles struct{ b *Broker }

// Leads implements replica.RoleListener.
func (r groupRoles) Leads(p *replica.Partition, epoch model.LeaderEpoch) {
	if p.TP.Topic == meta.OffsetsTopic {
		r.b.groups.Elect(p.TP.Partition, epoch, p.At(epoch))
	}
}

// Resigns implements replica.RoleListener.
func (r groupRoles) Resigns(tp model.TopicPartition, epoch model.LeaderEpoch) {
	if tp.Topic == meta.OffsetsTopic {
		r.b.groups.Resign(tp.Partition, epoch)
	}
}
