package interop

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/interop/client"
	"github.com/kalda-io/kalda/interop/gosrc"
	"github.com/kalda-io/kalda/interop/target"
)

// goSource is one big run.
type goSource struct {
	root       string
	limit      int // lines; 0 is all
	partitions int
	node       *target.Node
	observer   *client.Franz
	kcat       *client.Kcat
	kalda      string // "" where there is no kalda binary

	lines int64           // of the input, oversize included
	bytes int64           // of their values
	want  gosrc.Topic     // all but the oversize
	over  []oversize      // in the order of the input
	isBig map[string]bool // paths that have oversize lines, to look at few lines only
}

// oversize is a line that the default message.max.bytes refuses.
type oversize struct {
	path   string
	number int   // of the line in its file, from 1
	at     int64 // of the line in the whole input, from 1
	value  []byte
}

// defaultMaxBytes is Kafka's default of message.max.bytes.
const defaultMaxBytes = 1048588

// TestGoSource is the big run: every line of every .go file under GOROOT through every client. The
// environment sets its size: KALDA_GOSRC_LINES (default all; 50,000 with -short). It logs how long
// each part took.
func TestGoSource(t *testing.T) {
	g := &goSource{root: runtime.GOROOT(), partitions: 12}
	if testing.Short() {
		g.limit = 50_000
	}
	if s := os.Getenv("KALDA_GOSRC_LINES"); s != "" {
		var err error
		if g.limit, err = strconv.Atoi(s); err != nil {
			t.Fatalf("KALDA_GOSRC_LINES: %v", err)
		}
	}
	var missing *client.Missing
	var err error
	data := t.TempDir()
	if g.node, err = target.Start(t.Context(), fixture.bin, target.Options{DataDir: data}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // whichever node runs by then; see writeWhileKilled
		if err := g.node.Stop(30 * time.Second); err != nil {
			t.Error(err)
		}
	})
	g.observer = client.NewFranz(g.node.Kafka())
	if g.kcat, err = client.NewKcat(g.node.Kafka()); errors.As(err, &missing) {
		skipMissing(t, missing)
	} else if err != nil {
		t.Fatal(err)
	}
	if g.kalda = kaldaPath(); g.kalda == "" {
		skipMissing(t, &client.Missing{Program: "kalda (the target is kfake)", Install: "go build -o kalda ./cmd/kalda && export KALDA_BIN=$PWD/kalda"})
	}
	step := func(name string, do func(context.Context) error) {
		t.Helper()
		began := time.Now()
		if err := do(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Logf("%-60s %6.1f s", name, time.Since(began).Seconds())
	}

	step("count the input", g.count)
	t.Logf("%d lines, %d bytes, in %d partitions; %d lines are larger than message.max.bytes:", g.lines, g.bytes, g.partitions, len(g.over))
	for _, o := range g.over {
		t.Logf("  %s:%d, %d bytes", o.path, o.number, len(o.value))
	}
	if g.limit == 0 && len(g.over) == 0 {
		t.Error("the whole tree has no line over the limit: the refusal was not tried")
	}
	step("create topics", func(ctx context.Context) error {
		return errors.Join(g.observer.CreateTopic(ctx, "a", g.partitions, nil), g.observer.CreateTopic(ctx, "b", g.partitions, nil),
			g.observer.CreateTopic(ctx, "killed", g.partitions, nil),
			g.observer.CreateTopic(ctx, "big", g.partitions, map[string]string{"max.message.bytes": strconv.Itoa(2 << 20)}))
	})
	step("kcat writes topic a", g.kcatWrites)
	step("kcat's oversize lines are refused", g.kcatRefused)
	step("kalda produce writes topic b, names what is refused", g.kaldaWrites)
	step("the topic with max.message.bytes=2MiB takes them", g.bigTopic)

	readers := append(gosrc.LibraryReaders(), gosrc.KcatReader(g.kcat.Path()), gosrc.KaldaReader(g.kalda))
	for _, r := range readers {
		for _, topic := range []string{"a", "b"} {
			for i := range 2 {
				group := fmt.Sprintf("%s-%s-%d", strings.ReplaceAll(r.Name, " ", "-"), topic, i)
				step(fmt.Sprintf("%s reads topic %s in group %s", r.Name, topic, group), func(ctx context.Context) error {
					return g.read(ctx, r, topic, group, g.want)
				})
			}
		}
		if r.Alone {
			step(r.Name+" reads topic a without a group", func(ctx context.Context) error {
				return g.read(ctx, r, "a", "", g.want)
			})
		}
	}

	var acked gosrc.Topic
	step("second pass: write while the node is killed with -9", func(ctx context.Context) (err error) {
		acked, err = g.writeWhileKilled(ctx, data)
		return err
	})
	for _, r := range readers {
		if !r.Alone {
			continue
		}
		for topic, want := range map[string]gosrc.Topic{"a": g.want, "b": g.want, "killed": acked} {
			step(fmt.Sprintf("after the kill %s reads topic %s", r.Name, topic), func(ctx context.Context) error {
				return g.read(ctx, r, topic, "", want)
			})
		}
	}
}

// kaldaPath returns the kalda binary whose commands are tried, "" if there is none.
func kaldaPath() string {
	if fixture.bin.Kind == target.Kalda {
		return fixture.bin.Path
	}
	return os.Getenv("KALDA_BIN")
}

func (g *goSource) count(context.Context) error {
	g.want = make(gosrc.Topic, g.partitions)
	g.isBig = make(map[string]bool)
	return gosrc.Walk(g.root, g.limit, func(path string, number int, line []byte) error {
		g.lines++
		g.bytes += int64(len(line))
		key := []byte(path)
		if gosrc.BatchBytes(key, line) > defaultMaxBytes {
			g.over = append(g.over, oversize{path, number, g.lines, bytes.Clone(line)})
			g.isBig[path] = true
			return nil
		}
		g.want[gosrc.Partition(key, g.partitions)].Add(key, line)
		return nil
	})
}

// skipOversize leaves out what does not fit.
func (g *goSource) skipOversize(path string, line []byte) bool {
	return g.isBig[path] && gosrc.BatchBytes([]byte(path), line) > defaultMaxBytes
}

// feed runs a program with the stream on its standard input and returns its standard error.
func (g *goSource) feed(ctx context.Context, skip func(string, []byte) bool, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	var words bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &words
	if err := cmd.Start(); err != nil {
		return "", err
	}
	feedErr := errors.Join(gosrc.WriteStream(stdin, g.root, g.limit, skip), stdin.Close())
	if err := cmd.Wait(); err != nil {
		return words.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(words.String())) // a broken pipe follows from it
	}
	return words.String(), feedErr
}

// kcatArgs are those of a producer whose client-side limits are above the broker's.
func (g *goSource) kcatArgs(topic string) []string {
	return []string{"-q", "-b", g.node.Kafka(), "-P", "-t", topic, "-K", `\x1f`, "-X", "topic.partitioner=murmur2_random",
		"-X", "message.max.bytes=2097152", "-X", "linger.ms=20"}
}

func (g *goSource) kcatWrites(ctx context.Context) error {
	_, err := g.feed(ctx, g.skipOversize, g.kcat.Path(), g.kcatArgs("a")...)
	return err
}

// kcatOne sends one record by a kcat of its own.
func (g *goSource) kcatOne(ctx context.Context, topic string, o oversize) (string, error) {
	cmd := exec.CommandContext(ctx, g.kcat.Path(), slices.Replace(g.kcatArgs(topic), 0, 1, "-E")...) // not -q: it must say why
	cmd.Stdin = io.MultiReader(strings.NewReader(o.path), strings.NewReader(string(gosrc.KeySeparator)), bytes.NewReader(o.value), strings.NewReader("\n"))
	words, err := cmd.CombinedOutput()
	return string(words), err
}

// kcatRefused sends each oversize line alone, because kcat's report of a failure names no line.
func (g *goSource) kcatRefused(ctx context.Context) error {
	for _, o := range g.over {
		words, err := g.kcatOne(ctx, "a", o)
		if err == nil || !strings.Contains(words, "Broker: Message size too large") {
			return fmt.Errorf("%s:%d of %d bytes was not refused as too large: %v: %s", o.path, o.number, len(o.value), err, words)
		}
	}
	return nil
}

// kaldaWrites streams everything, and demands that exactly the oversize lines are named.
func (g *goSource) kaldaWrites(ctx context.Context) error {
	words, err := g.feed(ctx, func(string, []byte) bool { return false }, g.kalda, "produce", "b", "-b", g.node.Kafka(), "-k", `\x1f`)
	if (err == nil) != (len(g.over) == 0) {
		return fmt.Errorf("%d lines are too large, but the end was: %v: %s", len(g.over), err, words)
	}
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return err
	}
	if n := strings.Count(words, "not sent"); n != len(g.over) {
		return fmt.Errorf("%d lines were named as not sent, want %d: %s", n, len(g.over), words)
	}
	for _, o := range g.over {
		named := false
		for line := range strings.Lines(words) {
			named = named || strings.Contains(line, fmt.Sprintf("line %d ", o.at)) && strings.Contains(line, "(MESSAGE_TOO_LARGE)")
		}
		if !named {
			return fmt.Errorf("line %d (%s:%d) was not named with MESSAGE_TOO_LARGE: %s", o.at, o.path, o.number, words)
		}
	}
	return nil
}

// bigTopic writes the oversize lines by kcat and by kalda and compares what arrived.
func (g *goSource) bigTopic(ctx context.Context) error {
	want := make(gosrc.Topic, g.partitions)
	for _, o := range g.over {
		if words, err := g.kcatOne(ctx, "big", o); err != nil {
			return fmt.Errorf("kcat: %s:%d: %w: %s", o.path, o.number, err, words)
		}
		cmd := exec.CommandContext(ctx, g.kalda, "produce", "big", "-b", g.node.Kafka(), "-k", `\x1f`)
		cmd.Stdin = strings.NewReader(o.path + string(gosrc.KeySeparator) + string(o.value) + "\n")
		if words, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("kalda: %s:%d: %w: %s", o.path, o.number, err, words)
		}
		for range 2 {
			want[gosrc.Partition([]byte(o.path), g.partitions)].Add([]byte(o.path), o.value)
		}
	}
	return g.read(ctx, gosrc.LibraryReaders()[0], "big", "", want)
}

// read reads a topic and compares; a group must have committed the end of every partition.
func (g *goSource) read(ctx context.Context, r gosrc.Reader, topic, group string, want gosrc.Topic) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	got, err := r.Read(ctx, gosrc.Source{Addr: g.node.Kafka(), Topic: topic, Group: group, Partitions: g.partitions, Total: want.Records()})
	if err != nil {
		return err
	}
	if err := want.Compare(got); err != nil {
		return err
	}
	for p := range want {
		end, err := g.observer.Offset(ctx, topic, int32(p), client.Latest)
		if err != nil {
			return err
		}
		if end != want[p].Count {
			return fmt.Errorf("partition %d ends at %d, want %d", p, end, want[p].Count)
		}
		if group == "" || end == 0 {
			continue
		}
		committed, err := g.observer.Committed(ctx, group, topic, int32(p))
		if err != nil {
			return err
		}
		if committed != end {
			return fmt.Errorf("partition %d: committed %d, want the end %d", p, committed, end)
		}
	}
	return nil
}

// writeWhileKilled writes the input to topic killed with an idempotent producer and kills the node
// once half of the lines are acknowledged. It starts the node again on its data and address, and
// returns the digests of what was acknowledged, which in the end is every line.
func (g *goSource) writeWhileKilled(ctx context.Context, data string) (gosrc.Topic, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.node.Kafka()), kgo.DefaultProduceTopic("killed"), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(50_000))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var (
		acked    = make(gosrc.Topic, g.partitions)
		mu       sync.Mutex
		firstErr error
		count    atomic.Int64
		half     = make(chan struct{})
		restart  = make(chan error, 1) // the one answer
		halfway  = max(g.want.Records()/2, 1)
	)
	address := g.node.Kafka()
	dying := g.node
	go func() {
		select {
		case <-half:
		case <-ctx.Done():
			restart <- ctx.Err()
			return
		}
		dying.Kill()
		n, err := target.Start(ctx, fixture.bin, target.Options{DataDir: data, Kafka: address, ReadyTimeout: 2 * time.Minute})
		if err == nil {
			g.node = n // read again only after the answer
		}
		restart <- err
	}()
	produce := gosrc.Walk(g.root, g.limit, func(path string, _ int, line []byte) error {
		if g.skipOversize(path, line) {
			return nil
		}
		cl.Produce(ctx, &kgo.Record{Key: []byte(path), Value: bytes.Clone(line)}, func(r *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				firstErr = cmp.Or(firstErr, err)
				return
			case r.Offset != acked[r.Partition].Count:
				firstErr = cmp.Or(firstErr, fmt.Errorf("partition %d: record %d was acknowledged at offset %d", r.Partition, acked[r.Partition].Count, r.Offset))
			}
			acked[r.Partition].Add(r.Key, r.Value)
			if count.Add(1) == halfway {
				close(half)
			}
		})
		return nil
	})
	flush := cl.Flush(ctx)
	if err := <-restart; err != nil {
		return nil, fmt.Errorf("restart after kill -9: %w", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if err := errors.Join(produce, flush, firstErr); err != nil {
		return nil, err
	}
	return acked, g.want.Compare(acked)
}
