package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/kalda-io/kalda/chaos/history"
)

var delivery = regexp.MustCompile(`Message delivered to partition (\d+) \(offset (-?\d+)\)|Delivery failed for message: (.*)`)

// ProduceKcat feeds one kcat (its path) with lines for one partition until ctx ends, closes its input and
// waits for it to finish.
//
// An acknowledgement is a delivery report, which kcat -vv prints with partition and offset but
// without the message. The n-th report is the n-th line, because there is one partition, one request
// in flight (so a retry cannot overtake), no bound on retries (so nothing expires out of turn), and
// librdkafka reports a partition's batches in their order. Were this reading wrong, values and
// offsets would be paired wrongly and the checkers would report changed records: it can only err on
// the loud side.
func (c *Clients) ProduceKcat(ctx, hard context.Context, kcat, process, topic string, partition int32) error {
	life, cancel := lifetime(ctx, hard)
	defer cancel()
	cmd := exec.CommandContext(life, kcat, "-P", "-E", "-vv", "-b", c.addr, "-t", topic, "-p", strconv.Itoa(int(partition)), "-K", `\x1f`,
		"-X", "acks=all", "-X", "enable.idempotence=false", "-X", "max.in.flight.requests.per.connection=1",
		"-X", "message.send.max.retries=2147483647", "-X", "message.timeout.ms=0", "-X", "linger.ms=1", "-X", "batch.size="+strconv.Itoa(batchBytes),
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
				lastWord = "delivery failed: " + m[3]
			} else if offset, err := strconv.ParseInt(m[2], 10, 64); err != nil || m[1] != strconv.Itoa(int(partition)) {
				readErr = fmt.Errorf("unexpected report: %s", s.Text())
				break
			} else {
				e.Offset = offset
				c.Plain.Add(1)
			}
			c.log.Add(e)
		}
		readErr = errors.Join(readErr, s.Err())
		for s.Scan() { // to the end in any case, or kcat would block
		}
	})
	gone := make(chan struct{})
	go func() { reader.Wait(); close(gone) }() // ends with the child: its standard error closes

	tick := time.NewTicker(BurstEvery)
	defer tick.Stop()
	// kcat serves its reports only while it is given lines, so the feed must not wait for them.
	feed := func() error {
		out := bufio.NewWriter(stdin)
		for n := 0; ctx.Err() == nil; n++ {
			value := process + "/" + strconv.Itoa(n)
			e := history.Event{Process: process, F: history.Send, Topic: topic, Partition: partition, Value: value, Invoke: c.log.Now()}
			body := payload(value, n)
			e.Sum = history.Sum([]byte(value), body)
			mu.Lock()
			sent = append(sent, e)
			mu.Unlock()
			fmt.Fprintf(out, "%s\x1f%s\n", value, body) // Flush tells its error
			if n%Burst != Burst-1 {
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
		c.log.Add(e)
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
