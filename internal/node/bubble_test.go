package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/server/memnet"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// world is everything around brokers, in memory: it outlives them, so that tests can
// stop, kill and restart.
type world struct {
	t    *testing.T
	disk *vfs.Mem
	// through, if set, is what the broker sees of disk.
	through func(*vfs.Mem) vfs.FS
	// log, if set, gets the log of brokers.
	log *slog.Logger
	// failed hears of failures instead of the test, if set.
	failed func(error)
	net    *memnet.Network
	store  *meta.Memory
	clock  model.Clock
	conns  conns
}

// bubble runs f in fake time with a fresh world.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		clock := model.SystemClock()
		w := newWorld(t, clock)
		defer w.store.Close()
		f(t, w)
	})
}

// newWorld returns a fresh world; its store is to be closed.
func newWorld(t *testing.T, clock model.Clock) *world {
	return &world{t: t, disk: vfs.NewMem(), net: memnet.New(1 << 20), store: meta.NewMemory(clock), clock: clock}
}

const brokerAddr = "127.0.0.1:9092"

// running is one broker with its metadata.
type running struct {
	*Broker
	w    *world
	meta *Meta
	life *life
}

// testConfig are the settings of every test.
func testConfig() []string {
	return []string{
		"node.id=1", "listeners=PLAINTEXT://" + brokerAddr, "log.dirs=/data", "kalda.http.listen=",
		"group.initial.rebalance.delay.ms=0",
	}
}

// start runs a broker with those settings beside the defaults of the tests.
func (w *world) start(set ...string) *running {
	w.t.Helper()
	cfg, _, err := config.Load(config.LoadOptions{Set: append(testConfig(), set...)})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(w.t.Output(), nil))
	}
	if w.log != nil {
		log = w.log
	}
	l := &life{Store: w.store}
	m, err := OpenMeta(ctx, MetaOptions{Store: l, Cluster: "test", Logger: log})
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := Start(ctx, Options{
		Config: cfg, Meta: m, FS: w.fs(), Listen: w.net.Listen, Clock: w.clock, Logger: log,
		OnFailure: func(err error) {
			switch {
			case l.over.Load():
			case w.failed != nil:
				w.failed(err)
			default:
				w.t.Errorf("the broker failed: %v", err)
			}
		},
	})
	if err != nil {
		w.t.Fatal(errors.Join(err, m.Close()))
	}
	return &running{b, w, m, l}
}

func (w *world) fs() vfs.FS {
	if w.through != nil {
		return w.through(w.disk)
	}
	return w.disk
}

// stop ends the broker in order.
func (r *running) stop() {
	r.w.t.Helper()
	if err := errors.Join(r.Close(context.Background()), r.meta.Close()); err != nil {
		r.w.t.Errorf("stop: %v", err)
	}
}

// client is franz-go on the world's network.
func (w *world) client(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(brokerAddr), kgo.Dialer(w.dialer), kgo.AllowAutoTopicCreation(),
		kgo.DisableClientMetrics(), kgo.WithDecompressor(decompressor{kgo.DefaultDecompressor()}),
	}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// decompressor closes its zstd decoders itself: franz-go leaves that to a finalizer, which
// runs outside of the bubble and may not touch what was made inside.
type decompressor struct{ kgo.Decompressor }

func (d decompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec != kgo.CodecZstd {
		return d.Decompressor.Decompress(src, codec)
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return z.DecodeAll(src, nil)
}

// create makes a topic and returns its id.
func (r *running) create(name string, partitions int32, conf map[string]string) model.TopicID {
	r.w.t.Helper()
	ctx := context.Background()
	res, rev, err := adminOf{r.Broker}.CreateTopics(ctx, []meta.NewTopic{{Name: name, Partitions: partitions, ReplicationFactor: -1, Config: conf}}, false)
	if err == nil {
		err = res[0].Err
	}
	if err == nil {
		err = r.replicas.WaitApplied(ctx, rev)
	}
	if err != nil {
		r.w.t.Fatal(err)
	}
	return res[0].ID
}

// wireConn speaks frames by hand, for what no client would do.
type wireConn struct {
	t    *testing.T
	c    net.Conn
	corr atomic.Int32
}

func (w *world) dial() *wireConn {
	w.t.Helper()
	c, err := w.net.Dial(context.Background(), "tcp", brokerAddr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return &wireConn{t: w.t, c: c}
}

// send writes one request and returns its correlation id.
func (c *wireConn) send(req kmsg.Request) int32 {
	c.t.Helper()
	corr, err := c.trySend(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return corr
}

// trySend is send on a connection that the broker may have closed.
func (c *wireConn) trySend(req kmsg.Request) (corr int32, err error) {
	corr = c.corr.Add(1)
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("by-hand"))
	_, err = c.c.Write(f.AppendRequest(nil, req, corr))
	return corr, err
}

// receive reads one answer into resp and returns its correlation id.
func (c *wireConn) receive(resp kmsg.Response) int32 {
	c.t.Helper()
	frame, err := readFrame(c.c)
	if err != nil {
		c.t.Fatal(err)
	}
	corr, body := cutHeader(frame, resp)
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatal(err)
	}
	return corr
}

// ask sends req and reads its answer.
func ask[R kmsg.Response](c *wireConn, req kmsg.Request) R {
	c.t.Helper()
	resp := req.ResponseKind()
	c.send(req)
	c.receive(resp)
	return resp.(R)
}

// code is the wire code of an error, for comparing with answers.
func code(err error) int16 { return kerr.Code(err) }
