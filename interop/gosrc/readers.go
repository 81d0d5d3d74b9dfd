package gosrc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Source says what a reader reads: a topic whose partitions begin at offset 0 and hold Total records
// together. Group is the consumer group, "" for a reader without one.
type Source struct {
	Addr, Topic, Group string
	Partitions         int
	Total              int64
}

// Reader reads a whole topic through one client. It ends when it has Total records; it commits what
// it read where it has a group.
type Reader struct {
	Name string
	// Alone says that the reader can also read without a group.
	Alone bool
	Read  func(context.Context, Source) (Topic, error)
}

// LibraryReaders lists the readers that need no program.
func LibraryReaders() []Reader {
	return []Reader{{"franz-go", true, readFranz}, {"sarama", false, readSarama}, {"kafka-go", false, readKafkaGo}}
}

// KcatReader reads through the kcat at path.
func KcatReader(path string) Reader {
	return Reader{"kcat", true, func(ctx context.Context, s Source) (Topic, error) {
		format := []string{"-q", "-b", s.Addr, "-f", `%p\x1f%o\x1f%k\x1f%s\n`, "-X", "auto.offset.reset=earliest"}
		args := append(format, "-C", "-t", s.Topic, "-o", "beginning", "-e")
		if s.Group != "" {
			args = append(format, "-G", s.Group, "-c", strconv.FormatInt(s.Total, 10), s.Topic)
		}
		return readProgram(ctx, s, path, args...)
	}}
}

// KaldaReader reads through the kalda at path.
func KaldaReader(path string) Reader {
	return Reader{"kalda consume", true, func(ctx context.Context, s Source) (Topic, error) {
		args := []string{"consume", s.Topic, "-b", s.Addr, "-o", "start", "-e", "-f", `%p\x1f%o\x1f%k\x1f%v\n`}
		if s.Group != "" {
			args = append(args, "-g", s.Group)
		}
		return readProgram(ctx, s, path, args...)
	}}
}

// collector folds records into digests. Different partitions may be added to by different
// goroutines at once.
type collector struct {
	topic Topic
	next  []int64
	total atomic.Int64
}

func newCollector(partitions int) *collector {
	return &collector{topic: make(Topic, partitions), next: make([]int64, partitions)}
}

// add takes the next record of a partition. A gap or a repetition is an error at once: the readers
// here are alone in their group and nobody kills them.
func (c *collector) add(partition int32, offset int64, key, value []byte) error {
	if int(partition) >= len(c.next) {
		return fmt.Errorf("a record of partition %d of %d", partition, len(c.next))
	}
	if offset != c.next[partition] {
		return fmt.Errorf("partition %d: offset %d after %d", partition, offset, c.next[partition]-1)
	}
	c.next[partition]++
	c.topic[partition].Add(key, value)
	c.total.Add(1)
	return nil
}

func readFranz(ctx context.Context, s Source) (Topic, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(s.Addr), kgo.ConsumeTopics(s.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(16 << 20)}
	if s.Group != "" {
		opts = append(opts, kgo.ConsumerGroup(s.Group), kgo.DisableAutoCommit())
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	c := newCollector(s.Partitions)
	for c.total.Load() < s.Total {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			return c.topic, fmt.Errorf("after %d records: %s-%d: %w", c.total.Load(), e.Topic, e.Partition, e.Err)
		}
		var bad error
		fetches.EachRecord(func(r *kgo.Record) {
			if bad == nil {
				bad = c.add(r.Partition, r.Offset, r.Key, r.Value)
			}
		})
		if bad != nil {
			return c.topic, bad
		}
	}
	if s.Group != "" {
		err = cl.CommitUncommittedOffsets(ctx)
	}
	return c.topic, err
}

// saramaHandler is what sarama calls for each partition.
type saramaHandler struct {
	c     *collector
	total int64
	stop  context.CancelCauseFunc
}

var errComplete = errors.New("all records are there")

func (h *saramaHandler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h *saramaHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h *saramaHandler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		if err := h.c.add(m.Partition, m.Offset, m.Key, m.Value); err != nil {
			h.stop(err)
			return err
		}
		s.MarkMessage(m, "") // committed when the session ends
		if h.c.total.Load() == h.total {
			h.stop(errComplete)
		}
	}
	return nil
}

func readSarama(ctx context.Context, s Source) (Topic, error) {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.MaxVersion
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	g, err := sarama.NewConsumerGroup([]string{s.Addr}, s.Group, cfg)
	if err != nil {
		return nil, err
	}
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	h := &saramaHandler{c: newCollector(s.Partitions), total: s.Total, stop: stop}
	for inner.Err() == nil {
		if err := g.Consume(inner, []string{s.Topic}, h); err != nil && inner.Err() == nil {
			return h.c.topic, errors.Join(err, g.Close())
		}
	}
	err = g.Close()
	if cause := context.Cause(inner); !errors.Is(cause, errComplete) {
		err = fmt.Errorf("after %d records: %w", h.c.total.Load(), cause)
	}
	return h.c.topic, err
}

func readKafkaGo(ctx context.Context, s Source) (Topic, error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{s.Addr}, GroupID: s.Group, Topic: s.Topic, StartOffset: kafka.FirstOffset,
		MinBytes: 1, MaxBytes: 16 << 20, QueueCapacity: 1000, CommitInterval: time.Second, MaxWait: 500 * time.Millisecond})
	c := newCollector(s.Partitions)
	for c.total.Load() < s.Total {
		m, err := r.ReadMessage(ctx)
		if err == nil {
			err = c.add(int32(m.Partition), m.Offset, m.Key, m.Value)
		}
		if err != nil {
			return c.topic, errors.Join(fmt.Errorf("after %d records: %w", c.total.Load(), err), r.Close())
		}
	}
	return c.topic, r.Close() // commits what the interval has not yet
}

// readProgram folds what a program prints, one record a line: partition, offset, key, value.
func readProgram(ctx context.Context, s Source, path string, args ...string) (Topic, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var words bytes.Buffer
	cmd.Stderr = &words
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := newCollector(s.Partitions)
	bad := c.lines(bufio.NewReaderSize(stdout, 4<<20))
	if bad != nil {
		_ = cmd.Process.Kill() // it may still be printing; Wait tells the rest
	}
	if err := cmd.Wait(); err != nil && bad == nil {
		bad = fmt.Errorf("%w: %s", err, strings.TrimSpace(words.String()))
	}
	if bad == nil && c.total.Load() != s.Total {
		bad = fmt.Errorf("it ended after %d of %d records: %s", c.total.Load(), s.Total, strings.TrimSpace(words.String()))
	}
	return c.topic, bad
}

// lines reads to the end of r, whose buffer must hold the longest line.
func (c *collector) lines(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d records: %w (%d bytes of a line)", c.total.Load(), err, len(line))
		}
		partText, rest, ok1 := bytes.Cut(line[:len(line)-1], []byte{KeySeparator})
		offsetText, rest, ok2 := bytes.Cut(rest, []byte{KeySeparator})
		key, value, ok3 := bytes.Cut(rest, []byte{KeySeparator})
		p, err1 := strconv.ParseInt(string(partText), 10, 32)
		o, err2 := strconv.ParseInt(string(offsetText), 10, 64)
		if !ok1 || !ok2 || !ok3 || err1 != nil || err2 != nil {
			return fmt.Errorf("after %d records: not a record: %.100q", c.total.Load(), line)
		}
		if err := c.add(int32(p), o, key, value); err != nil {
			return err
		}
	}
}
