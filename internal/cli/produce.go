package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kalda-io/kalda/kerr"
)

func (a *app) produceCommand() *cobra.Command {
	var keySep, zero string
	var headers []string
	s := produceSpec{partition: -1}
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Send each line of stdin as a record",
		Long: `Send each line of stdin as a record, also the empty ones. The topic is created on first
use where the broker allows it.

  seq 10 | kalda produce numbers
  printf 'ann\thello\n' | kalda produce chat -k '\t' -v

Lines that the topic refuses (too large) are named on stderr and the others go on; the
exit code is then 1.`,
		Args: wantArgs(false, "TOPIC"),
	}
	f := cmd.Flags()
	f.StringVarP(&keySep, "key-separator", "k", "", "`SEP` that parts key and value in a line, for example ':' or '\\t'; lines without it have no key")
	f.StringVar(&zero, "null", "", "a value equal to `TEXT` is sent as null (in a compacted topic: delete the key)")
	f.StringArrayVarP(&headers, "header", "H", nil, "header `KEY=VALUE` on every record")
	f.Int32VarP(&s.partition, "partition", "p", -1, "send everything to partition `N`")
	partitioner := &choice{value: "murmur2", of: []string{"murmur2", "round-robin", "sticky"}}
	f.Var(partitioner, "partitioner", "who chooses: the key as in Kafka (sticky without one), each in turn, or a batch at a time")
	acks := &choice{value: "all", of: []string{"0", "1", "all"}}
	f.Var(acksChoice{acks}, "acks", "who has a record before it counts as sent: nobody, the leader, all in-sync replicas")
	codec := &choice{value: "none", of: []string{"none", "gzip", "snappy", "lz4", "zstd"}}
	f.VarP(codec, "compress", "z", "compression of the batches")
	verbose := f.BoolP("verbose", "v", false, "print topic-partition@offset of each record")
	for name, c := range map[string]*choice{"partitioner": partitioner, "acks": acks, "compress": codec} {
		completeChoice(cmd, name, c)
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s.topic, s.partitioner, s.acks, s.codec = args[0], partitioner.value, acks.value, codec.value
		s.linger = 5 * time.Millisecond
		if f.Changed("partition") && s.partition < 0 {
			return usage("-p %d: no partition", s.partition)
		}
		if f.Changed("partition") && f.Changed("partitioner") {
			return usage("-p and --partitioner exclude each other")
		}
		sep, err := unescape(keySep)
		if err != nil {
			return usage("-k %s: %v", keySep, err)
		}
		for _, h := range headers {
			k, v, ok := strings.Cut(h, "=")
			if !ok {
				return usage("-H %s: want key=value", h)
			}
			s.headers = append(s.headers, header{Key: k, Value: []byte(v)})
		}
		run := &produceRun{app: a, topic: s.topic, sep: []byte(sep), format: *out, verbose: *verbose, unknownOffset: s.acks == "0"}
		if f.Changed("null") {
			run.null = []byte(zero)
		}
		return run.run(cmd.Context(), s)
	}
	return cmd
}

// acksChoice takes Kafka's other name for all.
type acksChoice struct{ *choice }

func (c acksChoice) Set(s string) error {
	if s == "-1" {
		s = "all"
	}
	return c.choice.Set(s)
}

// namedRefusals bounds how many refused lines are named one by one; the rest is counted.
const namedRefusals = 100

// produceRun is one run of produce.
type produceRun struct {
	*app
	topic         string
	sep           []byte // nil: no keys
	null          []byte // nil: no null values
	format        string
	verbose       bool
	unknownOffset bool

	lines int64 // read so far; owned by the reading goroutine

	mu struct {
		sync.Mutex
		bytes   int64 // of the lines sent
		out     *bufio.Writer
		outErr  error
		sent    int64
		refused map[string]int64 // by error name
		named   int
		fatal   error // the first error that the next record would meet as well
		failed  int64 // records lost to fatal errors
	}
	// stop ends the reading; called on a fatal error.
	stop context.CancelCauseFunc
}

func (r *produceRun) run(ctx context.Context, s produceSpec) error {
	began := time.Now()
	bound, cancel := r.within(ctx)
	p, err := r.openProducer(bound, s)
	cancel()
	if err != nil {
		return err
	}
	defer p.close()
	r.mu.out = bufio.NewWriterSize(r.Stdout, 64<<10)
	r.mu.refused = make(map[string]int64)

	// A signal ends the reading, and what was read still goes out; a fatal error ends both.
	reading, stopReading := context.WithCancelCause(ctx)
	sending, stopSending := context.WithCancelCause(r.hard)
	r.stop = func(err error) { stopReading(err); stopSending(err) }
	defer r.stop(nil)
	if r.StdinTTY && r.StderrTTY {
		r.note("each line is a record; Ctrl-D ends")
	}
	progress := r.progress(func() string {
		r.mu.Lock()
		defer r.mu.Unlock()
		return fmt.Sprintf("%s sent", plural(r.mu.sent, "record"))
	})
	// The reader has a goroutine of its own because a read from a terminal or a pipe
	// cannot be interrupted: after a signal it is left behind, and the process ends.
	done := make(chan error, 1) // 1: it may end after nobody waits any more
	go func() { done <- r.read(reading, sending, p) }()
	var readErr error
	select {
	case readErr = <-done:
	case <-reading.Done():
		select { // if it is not stuck in a read, it ends now
		case <-done:
		case <-time.After(readerGrace):
		}
	}
	interrupted := ctx.Err() != nil
	flushErr := p.flush(r.hard)
	progress.stop()
	if flushErr != nil { // the second signal
		return errInterrupted
	}
	if err := r.finish(time.Since(began)); err != nil {
		return err
	}
	switch {
	case interrupted:
		return errInterrupted
	case readErr != nil && !errors.Is(readErr, context.Canceled):
		return failed(readErr, "read stdin")
	}
	return nil
}

// readerGrace is how long a reader that is not stuck may need to see that it has to end.
const readerGrace = 100 * time.Millisecond

// read sends stdin line by line until its end or until ctx ends; records are queued under
// sending.
func (r *produceRun) read(ctx, sending context.Context, p *producer) error {
	in := bufio.NewReaderSize(r.Stdin, 1<<20)
	limit := p.limit()
	var arena []byte // lines are copied into large pieces: one allocation for many
	const piece = 1 << 20
	for {
		line, size, err := readLine(in, limit)
		if err != nil && (err != io.EOF || size == 0) {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.lines++
		n := r.lines
		if line == nil && size > limit {
			r.record(n, size, -1, -1, kerr.With(kerr.MessageTooLarge, "%s is larger than the limit of %s", humanSize(int64(size)), humanSize(int64(limit))))
		} else {
			if len(line) > cap(arena)-len(arena) {
				arena = make([]byte, 0, max(piece, len(line)))
			}
			at := len(arena)
			arena = append(arena, line...)
			var key []byte
			value := arena[at:len(arena):len(arena)]
			if len(r.sep) > 0 {
				if k, v, ok := bytes.Cut(value, r.sep); ok {
					key, value = k[:len(k):len(k)], v
				}
			}
			if r.null != nil && bytes.Equal(value, r.null) {
				value = nil
			}
			p.send(sending, key, value, func(partition int32, offset int64, err error) {
				r.record(n, size, partition, offset, err)
				if r.verbose && p.waiting.Load() == 1 { // the last one under way: nothing follows soon
					r.flushOut()
				}
			})
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readLine reads up to the next newline, which it leaves out. A line of more than limit
// bytes is read but not kept: it comes back as nil with its size. io.EOF with a size
// above zero is a last line without a newline. The line is valid until the next read.
func readLine(in *bufio.Reader, limit int) (line []byte, size int, err error) {
	var long []byte // the pieces of a line that is longer than the reader's buffer
	for {
		part, err := in.ReadSlice('\n')
		part = bytes.TrimSuffix(part, []byte{'\n'})
		size += len(part)
		more := err == bufio.ErrBufferFull
		switch {
		case size > limit:
			long = nil
			if !more {
				return nil, size, err
			}
		case more:
			long = append(long, part...)
		case long != nil:
			return append(long, part...), size, err
		default:
			return part, size, err
		}
	}
}

// record books the outcome of line n.
func (r *produceRun) record(n int64, size int, partition int32, offset int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.mu.sent++
		r.mu.bytes += int64(size)
		if r.verbose && r.mu.outErr == nil {
			r.mu.outErr = r.printRecord(partition, offset)
			if r.mu.outErr != nil {
				r.stop(r.mu.outErr)
			}
		}
	case refusesOneRecord(err):
		k := protocolError(err)
		r.mu.refused[k.Name]++
		if r.mu.named++; r.mu.named <= namedRefusals {
			fmt.Fprintf(r.Stderr, "error: line %d not sent%s (%s)\n", n, reason(err), k.Name)
		}
	default:
		r.mu.failed++
		if r.mu.fatal == nil && !errors.Is(err, context.Canceled) {
			r.mu.fatal = err
			r.stop(err)
		}
	}
}

// refusesOneRecord says whether err is about the record itself, so that the next one may
// well go through.
func refusesOneRecord(err error) bool {
	for _, k := range []*kerr.Error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.CorruptMessage} {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// printRecord writes where a record went.
func (r *produceRun) printRecord(partition int32, offset int64) error {
	if r.format == outJSON || r.format == outYAML {
		line, err := json.Marshal(struct {
			Topic     string `json:"topic"`
			Partition int32  `json:"partition"`
			Offset    int64  `json:"offset"`
		}{r.topic, partition, offset})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.mu.out, "%s\n", line)
		return err
	}
	at := fmt.Sprint(offset)
	if r.unknownOffset {
		at = "?" // acks=0: nobody told
	}
	_, err := fmt.Fprintf(r.mu.out, "%s-%d@%s\n", r.topic, partition, at)
	return err
}

func (r *produceRun) flushOut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.mu.out.Flush(); err != nil && r.mu.outErr == nil {
		r.mu.outErr = err
		r.stop(err)
	}
}

// produceSummary is what -o json prints at the end.
type produceSummary struct {
	Topic   string           `json:"topic"`
	Sent    int64            `json:"sent"`
	Bytes   int64            `json:"bytes"`
	Refused map[string]int64 `json:"refused,omitempty"`
	Failed  int64            `json:"failed,omitempty"`
	Seconds float64          `json:"seconds"`
}

// finish prints the summary and returns the error of the whole run.
func (r *produceRun) finish(took time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.mu.outErr, r.mu.out.Flush()); err != nil {
		return err
	}
	if r.format == outJSON || r.format == outYAML {
		s := produceSummary{Topic: r.topic, Sent: r.mu.sent, Bytes: r.mu.bytes, Refused: r.mu.refused, Failed: r.mu.failed, Seconds: took.Seconds()}
		print := writeYAML
		if r.format == outJSON {
			print = func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) } // one line, as the records
		}
		if err := print(r.Stdout, s); err != nil {
			return err
		}
	}
	var refused int64
	var names []string
	for name, n := range r.mu.refused {
		refused += n
		names = append(names, name)
	}
	if more := r.mu.named - namedRefusals; more > 0 {
		r.note("error: %s more not sent", plural(int64(more), "line"))
	}
	if r.mu.fatal != nil {
		return failed(r.mu.fatal, "%s sent, %s not sent", plural(r.mu.sent, "record"), humanCount(r.mu.failed+refused))
	}
	if refused > 0 {
		f := &failure{what: fmt.Sprintf("%s sent, %s refused", plural(r.mu.sent, "record"), humanCount(refused)), code: ExitFailed}
		if len(names) == 1 {
			f.err = namedError(names[0])
		}
		return f
	}
	return nil
}

// namedError returns the protocol error of a name.
func namedError(name string) error {
	for _, k := range kerr.All() {
		if k.Name == name {
			return k
		}
	}
	return nil
}
