// Package load is the clients of the runs: producers of two kinds, readers, a committer of group offsets,
// and a maker of topics. They write all they do and see to a history and judge nothing.
//
//   - franz-go, idempotent: nothing acknowledged is lost, and nothing is there twice, however often
//     its batches had to be sent again.
//   - kcat, not idempotent: nothing acknowledged is lost; a batch that was sent again may be there twice.
//   - a committer, whose acknowledged commits are never behind what a later fetch returns.
//   - a newcomer that creates topics and writes their first records: what is young is on disk as well.
//   - an idempotent producer of few keys, values and tombstones, for a compacted topic.
//   - a maker of topics that are written, read to their end and deleted.
//   - groups whose members come and go, and commit what they have handled.
//
// Every worker is a method that blocks until its context ends. It takes a second context, hard: a
// producer that is told to end still waits for the answers that it is owed, up to a bound, unless hard
// ends too.
package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/chaos/history"
)

// Clients are the clients of one run. Their methods may run at the same time.
type Clients struct {
	// Idempotent and Plain count the acknowledged records of the two kinds of producers, Commits the
	// acknowledged commits, Topics the topics that the newcomer made.
	Idempotent, Plain, Commits, Topics atomic.Int64
	// Deleted counts the topics that were made and deleted again, Consumed what groups have handled, Joins
	// and Leaves their members' coming and going.
	Deleted, Consumed, Joins, Leaves atomic.Int64

	addr string
	log  *history.Log
	mu   struct {
		sync.Mutex
		partitions map[string]int32 // of every topic that was created
	}
}

// New returns clients of the node at addr that write to log.
func New(addr string, log *history.Log) *Clients {
	c := &Clients{addr: addr, log: log}
	c.mu.partitions = make(map[string]int32)
	return c
}

// Note enters a topic that another door created.
func (c *Clients) Note(topic string, partitions int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.partitions[topic] = partitions
}

// forget removes a topic that is to be deleted.
func (c *Clients) forget(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.partitions, topic)
}

func (c *Clients) partitions(topic string) int32 { return c.topics()[topic] }

func (c *Clients) topics() map[string]int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.mu.partitions)
}

// CreateTopic creates a topic, again and again until it is there: while the node is down an answer may
// be missing.
func (c *Clients) CreateTopic(ctx context.Context, topic string, partitions int32, configs map[string]*string) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		_, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, -1, configs, topic)
		var refused *kerr.Error
		switch {
		case err == nil || errors.Is(err, kerr.TopicAlreadyExists):
			c.Note(topic, partitions)
			return nil
		case ctx.Err() != nil, errors.As(err, &refused) && !refused.Retriable:
			return fmt.Errorf("create %s: %w", topic, err)
		}
		if err := Pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("create %s: %w", topic, err)
		}
	}
}

// client returns a client that looks for the node soon after a restart.
func (c *Clients) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.addr), kgo.MetadataMinAge(metadataMinAge),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond })}, opts...)...)
}

// Pause waits for d, or for the end of ctx, which is an error.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The load comes in bursts, so that a batch has several records: Burst records of each producer
// every BurstEvery where nobody says otherwise. The rate keeps the history of 200 rounds within memory.
const (
	Burst      = 10
	BurstEvery = 10 * time.Millisecond
)

const (
	// metadataMinAge lets franz-go look for the node soon after a restart; its default of 5 s would
	// be most of a round.
	metadataMinAge = 100 * time.Millisecond
	// batchBytes bounds a batch, so that a run's segments can be small: a batch must fit into one.
	batchBytes = 32 << 10
	// outstanding bounds what a producer has sent without an answer.
	outstanding = 1500
	// drainBound is how long a worker may take to finish after it was told to end.
	drainBound = 2 * time.Minute
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

// nameHeader names the value of a record that has none, a tombstone.
const nameHeader = "name"

// valueOf returns the name of a record's value.
func valueOf(rec *kgo.Record) string {
	for _, h := range rec.Headers {
		if h.Key == nameHeader {
			return string(h.Value)
		}
	}
	name, _, _ := strings.Cut(string(rec.Value), " ")
	return name
}
