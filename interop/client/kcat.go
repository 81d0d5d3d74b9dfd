package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Kcat is kcat, and so librdkafka, as a child process.
type Kcat struct {
	noAdmin
	addr, path, version string
}

// The separators of a stream to kcat: ASCII's own, which no text holds. A record that holds one is
// refused by Produce rather than torn.
const (
	recordSeparator = "\x1e"
	keySeparator    = "\x1f"
)

// NewKcat returns kcat bound to a broker, or a Missing error.
func NewKcat(addr string) (*Kcat, error) {
	path, err := exec.LookPath("kcat")
	if err != nil {
		return nil, &Missing{Program: "kcat", Install: "apt-get install kcat"}
	}
	k := &Kcat{noAdmin: noAdmin{"kcat has no such admin command"}, addr: addr, path: path}
	out, err := exec.Command(path, "-V").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("kcat -V: %w", err)
	}
	if m := regexp.MustCompile(`Version (\S+) .*librdkafka (\S+)`).FindSubmatch(out); m != nil {
		k.version = fmt.Sprintf("%s (librdkafka %s)", m[1], m[2])
	}
	return k, nil
}

// Name implements Client.
func (k *Kcat) Name() string { return "kcat" }

// Version implements Client.
func (k *Kcat) Version() string { return k.version }

// Path returns the program's path, for tests that drive it themselves.
func (k *Kcat) Path() string { return k.path }

// run runs kcat to its end. An exit code other than 0 is an error with kcat's words.
func (k *Kcat) run(ctx context.Context, stdin io.Reader, args ...string) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, k.path, append([]string{"-b", k.addr}, args...)...)
	cmd.Stdin = stdin
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return out.Bytes(), words.Bytes(), fmt.Errorf("kcat %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(words.Bytes()))
	}
	return out.Bytes(), words.Bytes(), nil
}

var kcatDelivered = regexp.MustCompile(`Message delivered to partition (\d+) \(offset (-?\d+)\)`)

// Produce implements Client. Headers, the partition and the meaning of an empty value are options
// of a whole kcat run, so that records which differ in them are sent by one run after the other.
// kcat's delivery reports name no record: they are answers only where all records of a run go to
// one partition, in which librdkafka reports in order.
func (k *Kcat) Produce(ctx context.Context, topic string, o ProduceOptions, recs []Record) ([]Ack, error) {
	if o.Old == Kafka010 {
		return nil, unsupported("librdkafka asks a broker of 0.10 for its versions, and then sends what they allow")
	}
	var acks []Ack
	known := true
	for len(recs) > 0 {
		n := 1
		for n < len(recs) && sameRun(recs[0], recs[n]) {
			n++
		}
		got, err := k.produceRun(ctx, topic, o, recs[:n])
		if err != nil {
			return nil, err
		}
		known = known && (recs[0].Partition != AnyPartition || n == 1)
		acks = append(acks, got...)
		recs = recs[n:]
	}
	if !known {
		return nil, nil
	}
	return acks, nil
}

func sameRun(a, b Record) bool {
	return a.Partition == b.Partition && (a.Value == nil) == (b.Value == nil) && len(a.Value) < 1<<16 && len(b.Value) < 1<<16 &&
		slices.EqualFunc(a.Headers, b.Headers, func(x, y Header) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) })
}

func (k *Kcat) produceRun(ctx context.Context, topic string, o ProduceOptions, recs []Record) ([]Ack, error) {
	args := []string{"-P", "-t", topic, "-vv", "-D", `\x1e`, "-K", `\x1f`, "-X", "acks=" + strconv.Itoa(int(o.Acks)),
		"-X", "topic.partitioner=murmur2_random", "-X", "linger.ms=1", "-X", "message.max.bytes=2097152"}
	if o.Codec != "" {
		args = append(args, "-z", string(o.Codec))
	}
	if o.Old != "" {
		args = append(args, "-X", "broker.version.fallback=0.9.0.1", "-X", "api.version.request=false")
	}
	if o.Idempotent {
		args = append(args, "-X", "enable.idempotence=true")
	}
	if p := recs[0].Partition; p != AnyPartition {
		args = append(args, "-p", strconv.Itoa(int(p)))
	}
	for _, h := range recs[0].Headers {
		args = append(args, "-H", h.Key+"="+string(h.Value))
	}
	if recs[0].Value == nil {
		args = append(args, "-Z") // empty means null in this run
	}
	var in bytes.Buffer
	for _, r := range recs {
		if bytes.Contains(r.Key, []byte(keySeparator)) || bytes.Contains(r.Key, []byte(recordSeparator)) || bytes.Contains(r.Value, []byte(recordSeparator)) {
			return nil, unsupported("kcat separates by bytes; this record holds one of them")
		}
		if r.Key == nil && len(r.Value) == 0 {
			return nil, unsupported("kcat skips a line that is empty")
		}
		if r.Key != nil {
			in.Write(r.Key)
			in.WriteString(keySeparator)
		}
		in.Write(r.Value)
		in.WriteString(recordSeparator)
	}
	_, words, err := k.run(ctx, &in, args...)
	if err != nil {
		return nil, err
	}
	var acks []Ack
	for _, m := range kcatDelivered.FindAllSubmatch(words, -1) {
		p, err1 := strconv.ParseInt(string(m[1]), 10, 32)
		offset, err2 := strconv.ParseInt(string(m[2]), 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		if o.Acks == AcksNone {
			offset = -1
		}
		acks = append(acks, Ack{int32(p), offset})
	}
	if len(acks) != len(recs) {
		return nil, fmt.Errorf("kcat reported %d deliveries for %d records: %s", len(acks), len(recs), words)
	}
	return acks, nil
}

// kcatFormat prints a record so that any bytes can be read back: lengths first, -1 for null.
const kcatFormat = `%p %o %T %K %S\n%k%s%h\n`

// readKcat reads one record that kcatFormat printed.
func readKcat(r *bufio.Reader) (Record, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return Record{}, err
	}
	var rec Record
	var keyLen, valueLen int
	if _, err := fmt.Sscanf(line, "%d %d %d %d %d\n", &rec.Partition, &rec.Offset, &rec.Timestamp, &keyLen, &valueLen); err != nil {
		return Record{}, fmt.Errorf("kcat printed %q: %w", line, err)
	}
	for _, part := range []struct {
		n  int
		to *[]byte
	}{{keyLen, &rec.Key}, {valueLen, &rec.Value}} {
		if part.n < 0 {
			continue
		}
		*part.to = make([]byte, part.n)
		if _, err := io.ReadFull(r, *part.to); err != nil {
			return Record{}, fmt.Errorf("kcat's output is cut: %w", err)
		}
	}
	headers, err := r.ReadString('\n')
	if err != nil {
		return Record{}, fmt.Errorf("kcat's output is cut: %w", err)
	}
	if headers = strings.TrimSuffix(headers, "\n"); headers != "" {
		for _, h := range strings.Split(headers, ",") {
			key, value, _ := strings.Cut(h, "=")
			rec.Headers = append(rec.Headers, Header{key, []byte(value)})
		}
	}
	return rec, nil
}

// Read implements Client.
func (k *Kcat) Read(ctx context.Context, topic string, partition int32, from int64, n int) ([]Record, error) {
	if n == 0 {
		return nil, nil
	}
	start := strconv.FormatInt(from, 10)
	if from == Earliest {
		start = "beginning"
	}
	out, _, err := k.run(ctx, nil, "-C", "-q", "-t", topic, "-p", strconv.Itoa(int(partition)), "-o", start, "-c", strconv.Itoa(n),
		"-X", "fetch.wait.max.ms=200", "-f", kcatFormat)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(bytes.NewReader(out))
	var recs []Record
	for {
		rec, err := readKcat(r)
		if err == io.EOF {
			return recs, nil
		}
		if err != nil {
			return recs, err
		}
		recs = append(recs, rec)
	}
}

var kcatOffset = regexp.MustCompile(`offset (-?\d+)`)

// Offset implements Client.
func (k *Kcat) Offset(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	out, _, err := k.run(ctx, nil, "-Q", "-t", fmt.Sprintf("%s:%d:%d", topic, partition, at))
	if err != nil {
		return 0, err
	}
	m := kcatOffset.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("kcat -Q printed %q", out)
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}

// Partitions implements Admin.
func (k *Kcat) Partitions(ctx context.Context, topic string) (int, error) {
	out, _, err := k.run(ctx, nil, "-L", "-J", "-t", topic, "-X", "allow.auto.create.topics=false")
	if err != nil {
		return 0, err
	}
	var listed struct {
		Topics []struct {
			Topic      string            `json:"topic"`
			Partitions []json.RawMessage `json:"partitions"`
		} `json:"topics"`
	}
	if err := json.Unmarshal(out, &listed); err != nil {
		return 0, fmt.Errorf("kcat -L printed %q: %w", out, err)
	}
	for _, t := range listed.Topics {
		if t.Topic == topic {
			return len(t.Partitions), nil
		}
	}
	return 0, nil
}

// kcatMember is one kcat -G process.
type kcatMember struct {
	*inbox
	cmd  *exec.Cmd
	done sync.WaitGroup // the readers of its output
	wait sync.Once
	err  error
}

// Join implements Client. kcat stores an offset when it has printed the record and commits at an
// interval and when it leaves.
func (k *Kcat) Join(_ context.Context, o GroupOptions) (Member, error) {
	assignor := "range"
	if o.Cooperative {
		assignor = "cooperative-sticky"
	}
	args := []string{"-b", k.addr, "-G", o.Group, "-u", "-f", kcatFormat,
		"-X", "partition.assignment.strategy=" + assignor, "-X", "auto.offset.reset=earliest",
		"-X", "session.timeout.ms=" + strconv.FormatInt(o.session().Milliseconds(), 10),
		"-X", "heartbeat.interval.ms=" + strconv.FormatInt(heartbeatEvery.Milliseconds(), 10),
		"-X", "fetch.wait.max.ms=200", "-X", "topic.metadata.refresh.interval.ms=1000"}
	if o.InstanceID != "" {
		args = append(args, "-X", "group.instance.id="+o.InstanceID)
	}
	m := &kcatMember{inbox: newInbox(), cmd: exec.Command(k.path, append(args, o.Topic)...)}
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := m.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	m.done.Go(func() {
		r := bufio.NewReader(stdout)
		for {
			rec, err := readKcat(r)
			if err != nil {
				m.fail(errLeft)
				return
			}
			m.deliver(rec)
		}
	})
	m.done.Go(func() {
		s := bufio.NewScanner(stderr)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			m.heard(s.Text())
		}
	})
	return m, nil
}

var (
	kcatRebalance = regexp.MustCompile(`^% Group \S+ rebalanced.*?(incremental assignment|incremental revoke|assigned|revoked)\b.*: (.*)$`)
	kcatPartition = regexp.MustCompile(`\[(\d+)\]`)
)

// heard follows what kcat says about rebalances on standard error.
func (m *kcatMember) heard(line string) {
	match := kcatRebalance.FindStringSubmatch(line)
	if match == nil {
		return
	}
	var partitions []int32
	for _, p := range kcatPartition.FindAllStringSubmatch(match[2], -1) {
		n, err := strconv.ParseInt(p[1], 10, 32)
		if err != nil {
			m.fail(err)
			return
		}
		partitions = append(partitions, int32(n))
	}
	switch match[1] {
	case "assigned":
		m.assign(partitions)
	case "incremental assignment":
		m.add(partitions)
	default:
		m.remove(partitions)
	}
}

// Commit implements Member: kcat commits by itself, the last time when it leaves.
func (m *kcatMember) Commit(context.Context) error { return nil }

// end waits until the child and the readers of its output are gone.
func (m *kcatMember) end() error {
	m.wait.Do(func() {
		m.done.Wait() // Wait closes the pipes, so they must be read to the end before
		m.err = m.cmd.Wait()
	})
	return m.err
}

// kcatLeaveBound is how long a kcat may take to leave its group.
const kcatLeaveBound = 15 * time.Second

// Leave implements Member.
func (m *kcatMember) Leave(context.Context) error {
	_ = m.cmd.Process.Signal(syscall.SIGTERM) // fails only when it is gone
	kill := time.AfterFunc(kcatLeaveBound, func() { _ = m.cmd.Process.Kill() })
	defer kill.Stop()
	return m.end()
}

// Crash implements Member.
func (m *kcatMember) Crash() {
	_ = m.cmd.Process.Kill() // fails only when it is gone
	_ = m.end()              // "signal: killed" is what was asked for
}
