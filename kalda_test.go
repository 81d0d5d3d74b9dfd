package kalda_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/kalda-io/kalda"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet are options of a cluster on free ports that says nothing.
func quiet(o kalda.Options) kalda.Options {
	if o.Kafka == "" {
		o.Kafka = "127.0.0.1:0"
	}
	o.Logger = slog.New(slog.DiscardHandler)
	return o
}

// start runs a cluster until the test ends.
func start(t *testing.T, o kalda.Options) *kalda.Kalda {
	t.Helper()
	k, err := kalda.Start(t.Context(), quiet(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return k
}

func client(t *testing.T, seeds []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seeds...), kgo.DisableClientMetrics()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// produce writes values to topic, record i to partition i modulo partitions.
func produce(t *testing.T, k *kalda.Kalda, topic string, partitions int, values ...string) {
	t.Helper()
	c := client(t, k.Kafka(), kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer c.Close()
	var rs []*kgo.Record
	for i, v := range values {
		rs = append(rs, &kgo.Record{Partition: int32(i % partitions), Value: []byte(v)})
	}
	if err := c.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// consume reads n records from the start of topic and returns how often each value came.
func consume(t *testing.T, k *kalda.Kalda, topic string, n int) map[string]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := client(t, k.Kafka(), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	got := map[string]int{}
	for have := 0; have < n; {
		fs := c.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { got[string(r.Value)]++; have++ })
	}
	return got
}

// Clusters in one process know nothing of each other.
func TestTwoClusters(t *testing.T) {
	a, b := start(t, kalda.Options{Ephemeral: true}), start(t, kalda.Options{Ephemeral: true})
	if a.ClusterID() == b.ClusterID() {
		t.Errorf("both have the id %s", a.ClusterID())
	}
	produce(t, a, "t", 1, "of a")
	produce(t, b, "t", 1, "of b")
	if got := consume(t, a, "t", 1); got["of a"] != 1 {
		t.Errorf("a has %v", got)
	}
	if got := consume(t, b, "t", 1); got["of b"] != 1 {
		t.Errorf("b has %v", got)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := consume(t, b, "t", 1); got["of b"] != 1 {
		t.Errorf("after a closed b has %v", got)
	}
}

// Close may come again and from several goroutines, and takes the ephemeral data along.
func TestCloseTwice(t *testing.T) {
	k := start(t, kalda.Options{Ephemeral: true})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(k.DataDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", k.DataDir(), err)
	}
}

// A busy port is named, for clients and for HTTP, and the failed start leaves nothing
// running (see TestMain) or locked: the next one takes the same directory.
func TestBusyPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	busy := ln.Addr().String()
	dir := t.TempDir()
	for _, o := range []kalda.Options{{Kafka: busy}, {HTTP: busy}} {
		o.DataDir = dir
		k, err := kalda.Start(t.Context(), quiet(o))
		if err == nil {
			k.Close()
			t.Fatal("two listen on one port")
		}
		if !strings.Contains(err.Error(), busy) {
			t.Errorf("the error does not name %s: %v", busy, err)
		}
		var op *net.OpError
		if !errors.As(err, &op) {
			t.Errorf("no *net.OpError in %v", err)
		}
	}
	start(t, kalda.Options{DataDir: dir})
}

// A directory in use is said to be, at once and with what to do, and its user runs on.
func TestLockedDirectory(t *testing.T) {
	dir := t.TempDir()
	first := start(t, kalda.Options{DataDir: dir})
	produce(t, first, "t", 1, "x")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	k, err := kalda.Start(ctx, quiet(kalda.Options{DataDir: dir}))
	if err == nil {
		k.Close()
		t.Fatal("two clusters in one directory")
	}
	if !errors.Is(err, kalda.ErrLocked) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another") {
		t.Errorf("the error is not clear: %v", err)
	}
	if got := consume(t, first, "t", 1); got["x"] != 1 {
		t.Errorf("the first has %v", got)
	}
}

// A log directory of Apache Kafka is refused as it is: not a file more, not a byte less.
func TestForeignDirectory(t *testing.T) {
	for name, content := range map[string]string{
		"meta.properties":                   "#\nversion=1\ncluster.id=abc\nnode.id=1\n",
		"orders-0/00000000000000000000.log": "records",
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		before := tree(t, dir)
		k, err := kalda.StartNode(t.Context(), kalda.NodeOptions{
			Set:    []string{"node.id=1", "listeners=PLAINTEXT://127.0.0.1:0", "kalda.http.listen=", "log.dirs=" + dir},
			Logger: slog.New(slog.DiscardHandler),
		})
		if err == nil {
			k.Close()
			t.Fatalf("%s: started", name)
		}
		if !strings.Contains(err.Error(), "left untouched") {
			t.Errorf("%s: the error is not the refusal: %v", name, err)
		}
		if after := tree(t, dir); after != before {
			t.Errorf("%s: was\n%s\nis\n%s", name, before, after)
		}
	}
}

// tree is all paths below dir, with the content of files.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			fmt.Fprintln(&b, path)
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %d bytes, sha256 %x\n", path, len(content), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A start that is called off ends soon, and leaves nothing.
func TestCancelledStart(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if k, err := kalda.Start(ctx, quiet(kalda.Options{DataDir: dir})); err == nil {
		k.Close()
		t.Fatal("started")
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("the error does not say why: %v", err)
	}
	for _, after := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		if k, err := kalda.Start(ctx, quiet(kalda.Options{DataDir: dir})); err == nil {
			k.Close() // it was quick
		}
		cancel()
	}
	start(t, kalda.Options{DataDir: dir})
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]kalda.Options{
		"brokers":   {Brokers: -1, Ephemeral: true},
		"both":      {Ephemeral: true, DataDir: t.TempDir()},
		"address":   {Kafka: "127.0.0.1", Ephemeral: true},
		"port name": {Kafka: "127.0.0.1:kafka", Ephemeral: true},
		"config":    {Ephemeral: true, Config: map[string]string{"num.partition": "3"}},
	} {
		if k, err := kalda.Start(t.Context(), quiet(o)); err == nil {
			k.Close()
			t.Errorf("%s: started", name)
		}
	}
}

// Three brokers share the partitions evenly, any of them takes admin calls, and a restart
// finds everything again.
func TestThreeBrokers(t *testing.T) {
	dir := t.TempDir()
	var values []string
	for i := range 120 {
		values = append(values, fmt.Sprint("v", i))
	}
	check := func(k *kalda.Kalda) {
		t.Helper()
		for i, addr := range k.Kafka() {
			adm := kadm.NewClient(client(t, []string{addr}))
			topics, err := adm.ListTopics(t.Context(), "t")
			if err != nil {
				t.Fatal(err)
			}
			leads := map[int32]int{}
			for _, p := range topics["t"].Partitions {
				leads[p.Leader]++
			}
			if len(leads) != 3 || leads[1] != 4 || leads[2] != 4 || leads[3] != 4 {
				t.Errorf("broker %d says that leaders are %v, want 4 partitions each", i+1, leads)
			}
		}
		got := consume(t, k, "t", len(values))
		for _, v := range values {
			if got[v] != 1 {
				t.Errorf("%s came %d times", v, got[v])
			}
		}
	}
	k, err := kalda.Start(t.Context(), quiet(kalda.Options{Brokers: 3, DataDir: dir}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	if len(k.Kafka()) != 3 {
		t.Fatalf("addresses %v", k.Kafka())
	}
	// Each broker by itself takes the calls, whichever is the controller.
	for i, addr := range k.Kafka() {
		adm := kadm.NewClient(client(t, []string{addr}))
		name := fmt.Sprint("by-", i+1)
		if r, err := adm.CreateTopic(t.Context(), 3, 1, nil, name); err != nil {
			t.Fatalf("create by broker %d: %v (%v)", i+1, err, r.Err)
		}
		if _, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("1000")}}, name); err != nil {
			t.Fatal(err)
		}
		if r, err := adm.DeleteTopics(t.Context(), name); err != nil || r[name].Err != nil {
			t.Fatalf("delete by broker %d: %v, %v", i+1, err, r)
		}
	}
	adm := kadm.NewClient(client(t, k.Kafka()))
	if _, err := adm.CreateTopic(t.Context(), 12, -1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce(t, k, "t", 12, values...)
	check(k)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	check(start(t, kalda.Options{Brokers: 3, DataDir: dir}))
}

// A node that was not closed is found by the next start with what it had acknowledged:
// the directory is copied while it runs, as if the process had died at that moment.
func TestStartAfterCrash(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	k := start(t, kalda.Options{DataDir: dir})
	produce(t, k, "t", 1, "a", "b", "c")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := start(t, kalda.Options{DataDir: copied})
	if got := consume(t, again, "t", 3); len(got) != 3 {
		t.Errorf("after the crash: %v", got)
	}
	produce(t, again, "t", 1, "d")
	if got := consume(t, again, "t", 4); got["d"] != 1 {
		t.Errorf("after another record: %v", got)
	}
}

// lines is a log handler's writer that tests read.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// StartNode reads its file again on Reload.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "server.properties")
	write := func(more string) {
		t.Helper()
		text := "node.id=7\nlisteners=PLAINTEXT://127.0.0.1:0\nkalda.http.listen=\nlog.dirs=" + filepath.Join(dir, "data") + "\n" + more
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log.retention.ms=1000\n")
	var out lines
	k, err := kalda.StartNode(t.Context(), kalda.NodeOptions{ConfigFile: file, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	adm := kadm.NewClient(client(t, k.Kafka()))
	value := func(key string) string {
		t.Helper()
		cs, err := adm.DescribeBrokerConfigs(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cs[0].Configs {
			if c.Key == key {
				return c.MaybeValue()
			}
		}
		t.Fatalf("no %s", key)
		return ""
	}
	write("log.retention.ms=2000\nnum.partitions=5\n")
	out.take()
	if err := k.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := value("log.retention.ms"); got != "2000" {
		t.Errorf("log.retention.ms is %s", got)
	}
	if got := value("num.partitions"); got != "1" {
		t.Errorf("num.partitions is %s without a restart", got)
	}
	if said := out.take(); strings.Count(said, "wait for a restart") != 1 || !strings.Contains(said, "num.partitions") || strings.Contains(said, "retention") {
		t.Errorf("the log says %q", said)
	}
	write("log.retention.ms=3000\nnum.partitons=5\n")
	if err := k.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "num.partitions") {
		t.Errorf("a file with a mistake: %v", err)
	}
	if got := value("log.retention.ms"); got != "2000" {
		t.Errorf("log.retention.ms is %s after a file with a mistake", got)
	}
}
