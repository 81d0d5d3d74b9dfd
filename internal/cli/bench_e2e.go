package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

// A record of e2e begins with a stamp: 8 bytes that name the run, 8 with the number of the
// record (-1: before the clock started) and 8 with the nanoseconds from the start to the
// time at which it was meant to be sent; big-endian.
const stampSize = 24

func stamp(value []byte, run [8]byte, i int64, due time.Duration) {
	copy(value, run[:])
	binary.BigEndian.PutUint64(value[8:], uint64(i))
	binary.BigEndian.PutUint64(value[16:], uint64(due))
}

// readStamp reads a stamp; ok is false for a record of another run or producer.
func readStamp(value []byte, run [8]byte) (i int64, due time.Duration, ok bool) {
	if len(value) < stampSize || !bytes.Equal(value[:8], run[:]) {
		return 0, 0, false
	}
	return int64(binary.BigEndian.Uint64(value[8:])), time.Duration(binary.BigEndian.Uint64(value[16:])), true
}

// bitmap is a set of small numbers, one bit for each.
type bitmap []uint64

// add adds i and says whether it is new.
func (b *bitmap) add(i int64) bool {
	word, bit := int(i/64), uint64(1)<<(i%64)
	if word >= len(*b) {
		*b = append(*b, make([]uint64, word+1-len(*b))...)
	}
	if (*b)[word]&bit != 0 {
		return false
	}
	(*b)[word] |= bit
	return true
}

// without counts the members of b that are not in o.
func (b bitmap) without(o bitmap) int64 {
	var n int
	for w, v := range b {
		if w < len(o) {
			v &^= o[w]
		}
		n += bits.OnesCount64(v)
	}
	return int64(n)
}

// sequenceCheck compares the records that were acknowledged with those that came.
type sequenceCheck struct {
	clients int64
	mu      struct {
		sync.Mutex
		acked, got             bitmap
		last                   map[lane]int64
		acknowledged           int64
		duplicated, misordered int64
	}
}

// lane is a series of records that must come in order: those of one producer in one
// partition.
type lane struct {
	partition int32
	client    int64
}

func (c *sequenceCheck) acked(i int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.acked.add(i) {
		c.mu.acknowledged++
	}
}

// received books record i and says whether it came for the first time. A record that
// comes again is a duplicate and not also out of order.
func (c *sequenceCheck) received(partition int32, i int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.got.add(i) {
		c.mu.duplicated++
		return false
	}
	if c.mu.last == nil {
		c.mu.last = make(map[lane]int64)
	}
	l := lane{partition, i % c.clients}
	if last, ok := c.mu.last[l]; ok && i < last {
		c.mu.misordered++
		return true
	}
	c.mu.last[l] = i
	return true
}

// complete says whether all that was acknowledged came.
func (c *sequenceCheck) complete() bool { return c.result().Lost == 0 }

func (c *sequenceCheck) result() *benchCheck {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &benchCheck{
		Acknowledged: c.mu.acknowledged,
		Lost:         c.mu.acked.without(c.mu.got),
		Duplicated:   c.mu.duplicated,
		OutOfOrder:   c.mu.misordered,
	}
}

// verdict is an error when acknowledged records are lost.
func (c *benchCheck) verdict() error {
	if c == nil || c.Lost == 0 {
		return nil
	}
	return &failure{what: fmt.Sprintf("%s of %s lost", humanCount(c.Lost), plural(c.Acknowledged, "acknowledged record")), code: ExitFailed}
}

// errReadDone ends the reading of e2e when nothing more is to come.
var errReadDone = errors.New("all was read")

// measureE2E runs producers and a consumer together.
func (r *benchRun) measureE2E(ctx context.Context) error {
	s := r.spec
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	ps, err := r.openProducers(ctx, s.acks, s.clients)
	if err != nil {
		return err
	}
	defer closeAll(ps)
	bound, cancel := r.within(ctx)
	defer cancel()
	_, at, err := r.places(bound) // from the end: what is there already is not ours
	if err != nil {
		return err
	}
	c, _, err := r.openMeteredConsumer(bound, r.topic, at)
	if err != nil {
		return err
	}
	defer c.close()

	// The consumer is fetching for sure when the first records have come.
	v := newValues(s.size)
	value := func(i int64, due time.Duration) []byte {
		b := append([]byte(nil), v.at(max(i, 0))...)
		stamp(b, id, i, due)
		return b
	}
	if err := r.warm(bound, ps, value(-1, 0)); err != nil {
		return err
	}
	warm := 0
	err = r.read(bound, c, at, func() bool { return warm > 0 }, func(_ time.Duration, rec *consumedRecord) {
		if _, _, ok := readStamp(rec.value, id); ok {
			warm++
		}
	}, func() {})
	if err != nil {
		return failed(r.admin.explain(err), "read the first record of %s", r.topic)
	}
	if err := r.begin(bound); err != nil {
		return err
	}
	cancel()

	check := &sequenceCheck{clients: int64(s.clients)}
	var last time.Duration
	reading, stopReading := context.WithCancelCause(r.hard)
	defer stopReading(nil)
	// ends are set once the load is over: where the reading may stop.
	ends := make(chan map[model.TopicPartition]int64, 1)
	var until map[model.TopicPartition]int64
	var reader sync.WaitGroup
	var readErr error
	loading, stopLoading := context.WithCancelCause(ctx)
	defer stopLoading(nil)
	reader.Go(func() {
		readErr = r.read(reading, c, at, func() bool {
			select {
			case until = <-ends:
			default:
			}
			// Without acks the end that we know may be too early; only time tells then.
			return until != nil && reached(at, until) && (s.acks != "0" || check.complete())
		}, func(since time.Duration, rec *consumedRecord) {
			i, due, ok := readStamp(rec.value, id)
			if !ok || i < 0 {
				return
			}
			last = since
			if check.received(rec.partition, i) {
				r.latency.record(since - due)
				r.counted.Add(1)
			}
		}, func() {})
		if readErr != nil {
			stopLoading(readErr)
		}
	})
	l := &load{schedule: s.schedule(), ps: ps}
	l.start = r.start
	l.value = func(i int64, from time.Time) []byte { return value(i, from.Sub(r.start)) }
	l.acked = func(i int64, _ time.Time) { check.acked(i) }
	err = r.run(loading, l)

	// What was acknowledged must come; it gets as long as any other answer.
	drain, cancelDrain := r.within(r.hard)
	defer cancelDrain()
	stop := context.AfterFunc(drain, func() { stopReading(errReadDone) })
	defer stop()
	if _, e, placesErr := r.places(drain); placesErr == nil {
		ends <- e
	} else {
		stopReading(errReadDone)
		err = errors.Join(err, placesErr)
	}
	reader.Wait()
	if errors.Is(readErr, errReadDone) || errors.Is(readErr, context.Canceled) {
		readErr = nil
	}
	n := r.counted.Load()
	r.end(r.start.Add(last), n, n*int64(s.size))
	r.result.Check = check.result()
	r.result.Failed = r.sent.Load() - r.result.Check.Acknowledged
	r.unsent(ctx, l, err)
	if err != nil {
		return err
	}
	return readErr
}
