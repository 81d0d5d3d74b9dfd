package killloop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/chaos/history"
)

// finalReaders are the processes that read everything in the end; they differ in isolation level.
var finalReaders = []string{"final-uncommitted", "final-committed"}

// The load comes in bursts, so that a batch has several records: burst records of each producer
// every burstEvery. The rate keeps the history of 200 rounds within memory.
const (
	burst      = 10
	burstEvery = 10 * time.Millisecond
	// metadataMinAge lets franz-go look for the node soon after a restart; its default of 5 s would
	// be most of a round.
	metadataMinAge = 100 * time.Millisecond
)

// lifetime returns a context that ends drainBound after ctx, or with hard.
func lifetime(ctx, hard context.Context) (context.Context, context.CancelFunc) {
	life, cancel := context.WithCancel(hard)
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(drainBound, cancel)
		context.AfterFunc(life, func() { timer.Stop() })
	})
	return life, func() { stop(); cancel() }
}

// payload returns the bytes of a record. The name of the value comes first; what follows depends on
// it and varies in length, so that batches do not all look alike.
func payload(value string, n int) []byte {
	return []byte(value + " " + strings.Repeat(strconv.Itoa(n)+".", n%97))
}

// valueOf returns the name of the value in a payload.
func valueOf(payload []byte) string {
	name, _, _ := strings.Cut(string(payload), " ")
	return name
}

// idempotentProducer sends until ctx ends, and then waits for all that is under way unless hard ends. It is one
// client for the whole run: retries are its own business.
func (r *run) idempotentProducer(ctx, hard context.Context, process string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.DefaultProduceTopic(idempotentTopic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(outstanding), kgo.MetadataMinAge(metadataMinAge), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		// A gap in the sequences must end the run rather than be healed with a new producer id.
		kgo.StopProducerOnDataLossDetected())
	if err != nil {
		return err
	}
	defer cl.Close()
	// Not ctx: a record that is under way is not given up when the load ends, or its fate would be
	// unknown. The bound is for a node that never came back.
	life, cancel := lifetime(ctx, hard)
	defer cancel()
	tick := time.NewTicker(burstEvery)
	defer tick.Stop()
	var failed group
	for n := 0; ctx.Err() == nil; n++ {
		if n%burst == 0 {
			<-tick.C
		}
		value := process + "/" + strconv.Itoa(n)
		e := history.Event{Process: process, F: history.Send, Topic: idempotentTopic, Partition: int32(n % partitions), Value: value, Invoke: r.log.Now()}
		rec := &kgo.Record{Partition: e.Partition, Key: []byte(value), Value: payload(value, n)}
		e.Sum = history.Sum(rec.Key, rec.Value)
		cl.Produce(life, rec, func(got *kgo.Record, err error) {
			e.Offset, e.Type = got.Offset, history.OK
			switch {
			case err == nil:
				r.acked[0].Add(1)
			default:
				e.Offset, e.Type, e.Error = -1, history.Info, err.Error()
				failed.run(func() error { return fmt.Errorf("%s: %s: %w", process, value, err) })
			}
			r.log.Add(e)
		})
		select {
		case err := <-failed.failed():
			return errors.Join(err, failed.wait())
		default:
		}
	}
	if err := cl.Flush(life); err != nil {
		return fmt.Errorf("%s: given up with %d records that have no answer: %w", process, cl.BufferedProduceRecords(), err)
	}
	return failed.wait()
}

var delivery = regexp.MustCompile(`Message delivered to partition (\d+) \(offset (-?\d+)\)|Delivery failed for message: (.*)`)

// kcatProducer feeds one kcat with lines for one partition until ctx ends, closes its input and
// waits for it to finish.
//
// An acknowledgement is a delivery report, which kcat -vv prints with partition and offset but
// without the message. The n-th report is the n-th line, because there is one partition, one request
// in flight (so a retry cannot overtake), no bound on retries (so nothing expires out of turn), and
// librdkafka reports a partition's batches in their order. Were this reading wrong, values and
// offsets would be paired wrongly and the checkers would report changed records: it can only err on
// the loud side.
func (r *run) kcatProducer(ctx, hard context.Context, process string, partition int32) error {
	life, cancel := lifetime(ctx, hard)
	defer cancel()
	cmd := exec.CommandContext(life, r.Kcat, "-P", "-E", "-vv", "-b", r.addr, "-t", plainTopic, "-p", strconv.Itoa(int(partition)), "-K", `\x1f`,
		"-X", "acks=all", "-X", "enable.idempotence=false", "-X", "max.in.flight.requests.per.connection=1",
		"-X", "message.send.max.retries=2147483647", "-X", "message.timeout.ms=0", "-X", "linger.ms=1",
		"-X", "queue.buffering.max.messages="+strconv.Itoa(outstanding), // kcat stops reading when it has so many
		"-X", "retry.backoff.ms=20", "-X", "reconnect.backoff.ms=20", "-X", "reconnect.backoff.max.ms=100", "-X", "socket.timeout.ms=10000")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var (
		mu       sync.Mutex
		sent     []history.Event // without a report yet, in their order
		reader   sync.WaitGroup
		readErr  error
		lastWord string
	)
	reader.Go(func() {
		s := bufio.NewScanner(stderr)
		for s.Scan() {
			m := delivery.FindStringSubmatch(s.Text())
			if m == nil {
				lastWord = s.Text()
				continue
			}
			mu.Lock()
			if len(sent) == 0 {
				mu.Unlock()
				readErr = fmt.Errorf("a report without a line: %s", s.Text())
				break
			}
			e := sent[0]
			sent = sent[1:]
			mu.Unlock()
			e.Type, e.Offset = history.OK, -1
			if m[3] != "" {
				// Kept as unknown: a request may have been carried out before it failed.
				e.Type, e.Error = history.Info, m[3]
			} else if offset, err := strconv.ParseInt(m[2], 10, 64); err != nil || m[1] != strconv.Itoa(int(partition)) {
				readErr = fmt.Errorf("unexpected report: %s", s.Text())
				break
			} else {
				e.Offset = offset
				r.acked[1].Add(1)
			}
			r.log.Add(e)
		}
		readErr = errors.Join(readErr, s.Err())
		for s.Scan() { // to the end in any case, or kcat would block
		}
	})
	gone := make(chan struct{})
	go func() { reader.Wait(); close(gone) }() // ends with the child: its standard error closes

	tick := time.NewTicker(burstEvery)
	defer tick.Stop()
	// kcat serves its reports only while it is given lines, so the feed must not wait for them.
	feed := func() error {
		out := bufio.NewWriter(stdin)
		for n := 0; ctx.Err() == nil; n++ {
			value := process + "/" + strconv.Itoa(n)
			e := history.Event{Process: process, F: history.Send, Topic: plainTopic, Partition: partition, Value: value, Invoke: r.log.Now()}
			body := payload(value, n)
			e.Sum = history.Sum([]byte(value), body)
			mu.Lock()
			sent = append(sent, e)
			mu.Unlock()
			fmt.Fprintf(out, "%s\x1f%s\n", value, body) // Flush tells its error
			if n%burst != burst-1 {
				continue
			}
			if err := out.Flush(); err != nil {
				return err
			}
			select {
			case <-tick.C:
			case <-gone:
				return errors.New("kcat ended by itself")
			}
		}
		return out.Flush()
	}
	feedErr := errors.Join(feed(), stdin.Close())
	<-gone // the pipe must be read to its end before Wait closes it
	err = cmd.Wait()
	inTime := life.Err() == nil
	mu.Lock()
	defer mu.Unlock()
	for _, e := range sent {
		e.Offset, e.Type, e.Error = -1, history.Info, "no report"
		r.log.Add(e)
	}
	switch {
	case !inTime:
		return fmt.Errorf("%s: given up with %d lines that have no report: %s", process, len(sent), lastWord)
	case err != nil:
		return fmt.Errorf("%s: %w: %s", process, errors.Join(err, readErr), lastWord)
	case len(sent) > 0:
		return fmt.Errorf("%s ended with %d lines without a report: %s", process, len(sent), lastWord)
	}
	return errors.Join(readErr, feedErr)
}

// reader opens every partition of both topics from the start.
func (r *run) reader(opts ...kgo.Opt) (*kgo.Client, error) {
	from := make(map[string]map[int32]kgo.Offset)
	for _, topic := range []string{idempotentTopic, plainTopic} {
		from[topic] = make(map[int32]kgo.Offset)
		for p := range int32(partitions) {
			from[topic][p] = kgo.NewOffset().AtStart()
		}
	}
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(r.addr), kgo.ConsumePartitions(from), kgo.FetchMaxWait(100 * time.Millisecond), kgo.MetadataMinAge(metadataMinAge),
		// An offset out of range is a lost tail: it must show, not be skipped.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond })}, opts...)...)
}

// seen records one record that a reader was given.
func (r *run) seen(process string, rec *kgo.Record) {
	now := r.log.Now()
	r.log.Add(history.Event{Process: process, F: history.Poll, Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset,
		Value: valueOf(rec.Value), Sum: history.Sum(rec.Key, rec.Value), Invoke: now, Complete: now, Type: history.OK})
}

// poll reads along during the kills until ctx ends.
func (r *run) poll(ctx context.Context) error {
	cl, err := r.reader()
	if err != nil {
		return err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			// While the node is down anything may fail and is tried again; these two say that what
			// was readable is gone.
			var lost *kgo.ErrDataLoss
			if errors.Is(e.Err, kerr.OffsetOutOfRange) || errors.As(e.Err, &lost) {
				return fmt.Errorf("poller: %s-%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		fetches.EachRecord(func(rec *kgo.Record) { r.seen("poller", rec) })
	}
	return nil
}

// readAll reads every partition from its start to its end, which it asks for first: nobody writes
// any more.
func (r *run) readAll(ctx context.Context, process string) error {
	level := kgo.ReadUncommitted()
	if process == "final-committed" {
		level = kgo.ReadCommitted()
	}
	ctx, cancel := context.WithTimeout(ctx, drainBound)
	defer cancel()
	cl, err := r.reader(kgo.FetchIsolationLevel(level))
	if err != nil {
		return err
	}
	defer cl.Close()
	ends, err := endOffsets(ctx, cl)
	if err != nil {
		return err
	}
	left := int64(0)
	for _, end := range ends {
		left += end.Offset
	}
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			return fmt.Errorf("%s: %s-%d: %w (%d records left)", process, e.Topic, e.Partition, e.Err, left)
		}
		fetches.EachRecord(func(rec *kgo.Record) { r.seen(process, rec); left-- })
	}
	for _, end := range ends {
		r.log.Add(history.Event{Process: process, F: history.End, Topic: end.Topic, Partition: end.Partition, Offset: end.Offset,
			Invoke: r.log.Now(), Type: history.OK})
	}
	return nil
}
