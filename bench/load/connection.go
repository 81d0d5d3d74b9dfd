package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// answerTimeout ends a run against a broker that does not answer any more.
const answerTimeout = 30 * time.Second

// packBytes is up to how many bytes of requests go into one write.
const packBytes = 64 << 10

// connection is one of the M.
type connection struct {
	o      *Options
	nc     net.Conn
	frames [][]byte // one request per partition, in the order of this connection
	batch  int64    // bytes of the batch in each frame
	next   int      // index of the next frame
	sent   int32    // correlation ids
	// offsetAt is where the fetch offset lies in the one frame of a Fetch connection.
	offsetAt int

	in   []byte // read buffer
	r, w int    // in[r:w] is unread
	out  []byte
}

func connect(ctx context.Context, o *Options, index int) (*connection, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	c := &connection{o: o, nc: nc, in: make([]byte, 64<<10)}
	if !o.Fetch {
		records := batch(o.BatchRecords, o.RecordBytes, time.Now().UnixMilli())
		c.batch = int64(len(records))
		for p := range o.Partitions {
			for t := range o.Topics {
				c.frames = append(c.frames, produceFrame(topicName(o.Prefix, t), int32(p), o.Acks, records))
			}
		}
		c.next = index % len(c.frames)
	} else {
		n := index % (o.Topics * o.Partitions)
		frame, at := fetchFrame(topicName(o.Prefix, n%o.Topics), int32(n/o.Topics), o.FetchBytes)
		c.frames, c.offsetAt = [][]byte{frame}, at
	}
	return c, nil
}

// frame returns the next request, with its correlation id set.
func (c *connection) frame() []byte {
	f := c.frames[c.next]
	c.next = (c.next + 1) % len(c.frames)
	setCorrelation(f, c.sent)
	c.sent++
	return f
}

// send writes n requests, small ones side by side.
func (c *connection) send(n int) error {
	c.out = c.out[:0]
	for range n {
		f := c.frame()
		if len(c.out) > 0 && len(c.out)+len(f) > packBytes {
			if _, err := c.nc.Write(c.out); err != nil {
				return err
			}
			c.out = c.out[:0]
		}
		if len(f) > packBytes {
			if _, err := c.nc.Write(f); err != nil {
				return err
			}
			continue
		}
		c.out = append(c.out, f...)
	}
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	return err
}

// answer returns the next answer if it is in the buffer, without its size.
func (c *connection) answer() ([]byte, bool) {
	if c.w-c.r < 4 {
		return nil, false
	}
	size := int(binary.BigEndian.Uint32(c.in[c.r:]))
	if c.w-c.r < 4+size {
		return nil, false
	}
	a := c.in[c.r+4 : c.r+4+size]
	c.r += 4 + size
	return a, true
}

// fill reads what is there.
func (c *connection) fill() error {
	if c.r > 0 {
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	if c.w >= 4 {
		if size := int(binary.BigEndian.Uint32(c.in)); size < 0 || size > 1<<30 {
			return fmt.Errorf("an answer claims %d bytes", size)
		} else if 4+size > len(c.in) {
			c.in = append(slices.Clone(c.in[:c.w]), make([]byte, 4+size-c.w)...)
		}
	}
	n, err := c.nc.Read(c.in[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

func checkProduced(a []byte) error {
	code, err := producedCode(a)
	if err == nil && code != 0 {
		err = fmt.Errorf("produce: %w", kerr.ErrorForCode(code))
	}
	return err
}

func (c *connection) count(t *tally, n int64) {
	t.requests += n
	t.records += n * int64(c.o.BatchRecords)
	t.bytes += n * c.batch
}

// produce keeps Outstanding requests on their way. One goroutine does both directions:
// as many answers as one read brings, so many new requests leave with the next write. The
// answers out are few and small, so neither side can block the other for good.
func (c *connection) produce(b *budget, t *tally) error {
	if c.o.Acks == 0 {
		return c.produceUnanswered(b, t)
	}
	sentAt := make([]time.Time, c.o.Outstanding) // of request i at i%Outstanding
	free, next, answered := c.o.Outstanding, 0, 0
	var deadline time.Time
	for {
		now := time.Now()
		if n := b.take(free, int64(len(c.frames[c.next])), now); n > 0 {
			if deadline.Sub(now) < answerTimeout/2 {
				deadline = now.Add(answerTimeout)
				_ = c.nc.SetDeadline(deadline)
			}
			for range n {
				sentAt[next%len(sentAt)] = now
				next++
			}
			free -= n
			if err := c.send(n); err != nil {
				return err
			}
		}
		if answered == next {
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
		now = time.Now()
		n := 0
		for a, ok := c.answer(); ok; a, ok = c.answer() {
			if err := checkProduced(a); err != nil {
				return err
			}
			t.latency.record(int64(now.Sub(sentAt[answered%len(sentAt)])), 1)
			answered++
			n++
		}
		free += n
		c.count(t, int64(n))
	}
}

// produceUnanswered sends with acks=0. A request that is answered follows at the end, so
// that the run ends when the broker has taken everything.
func (c *connection) produceUnanswered(b *budget, t *tally) error {
	for {
		now := time.Now()
		_ = c.nc.SetDeadline(now.Add(answerTimeout))
		n := b.take(c.o.Outstanding, int64(len(c.frames[c.next])), now)
		if n == 0 {
			break
		}
		if err := c.send(n); err != nil {
			return err
		}
		c.count(t, int64(n))
	}
	records := batch(1, 0, time.Now().UnixMilli())
	last := produceFrame(topicName(c.o.Prefix, 0), 0, 1, records)
	setCorrelation(last, c.sent)
	if _, err := c.nc.Write(last); err != nil {
		return err
	}
	a, ok := c.answer()
	for ; !ok; a, ok = c.answer() {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return checkProduced(a)
}

// fetch reads the connection's partition again and again.
func (c *connection) fetch(b *budget, t *tally) error {
	frame, offset := c.frames[0], int64(0)
	for {
		now := time.Now()
		if b.take(1, 0, now) == 0 {
			return nil
		}
		_ = c.nc.SetDeadline(now.Add(answerTimeout))
		binary.BigEndian.PutUint64(frame[c.offsetAt:], uint64(offset))
		if err := c.send(1); err != nil {
			return err
		}
		a, ok := c.answer()
		for ; !ok; a, ok = c.answer() {
			if err := c.fill(); err != nil {
				return err
			}
		}
		records, code, err := fetched(a)
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("fetch at offset %d: %w", offset, kerr.ErrorForCode(code))
		}
		next, n, size := hop(records)
		t.latency.record(int64(time.Since(now)), 1)
		t.requests++
		if n == 0 {
			if offset == 0 {
				return fmt.Errorf("fetch: the partition holds no whole batch within %d bytes", c.o.FetchBytes)
			}
			offset = 0 // the end: once more from the start
			continue
		}
		t.records += n
		t.bytes += size
		offset = next
		if !b.noBytes && b.bytes.Add(-size) < 0 {
			return nil
		}
	}
}
