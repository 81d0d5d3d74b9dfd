package client

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/kalda-io/kalda/interop/target"
)

// errLeft is what Next returns once the member is gone and its records are taken.
var errLeft = errors.New("the member has left")

// moduleVersion returns the version of a library that this program was built with. A test binary
// carries none, so there the module's go.mod is asked.
func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	root, err := target.Root()
	if err != nil {
		return "unknown"
	}
	text, err := os.ReadFile(filepath.Join(root, "interop", "go.mod"))
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == path {
			return f[1]
		}
	}
	return "unknown"
}

// inbox is the part that all members share: what the member owns and what it was given. Its methods
// may be called from any goroutine.
type inbox struct {
	mu         sync.Mutex
	owned      []int32 // ascending
	rebalances int
	revoked    int
	records    []Record        // delivered, not yet taken by Next
	next       map[int32]int64 // per partition the offset after the last record that Next returned
	err        error           // why nothing more will come
	changed    chan struct{}   // capacity 1: "look again"
}

func newInbox() *inbox {
	return &inbox{next: make(map[int32]int64), changed: make(chan struct{}, 1)}
}

func (b *inbox) wake() {
	select {
	case b.changed <- struct{}{}:
	default: // a waiter has been told already
	}
}

// assign replaces what the member owns after a rebalance.
func (b *inbox) assign(partitions []int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owned = slices.Sorted(slices.Values(partitions))
	b.rebalances++
}

// add takes an incremental assignment; an empty one counts as a rebalance too.
func (b *inbox) add(partitions []int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owned = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(b.owned), partitions...))))
	b.rebalances++
}

// hold marks one partition as owned, within a rebalance that has been counted.
func (b *inbox) hold(partition int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owned = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(b.owned), partition))))
}

// remove takes partitions away; it belongs to a rebalance whose end is an assign or add.
func (b *inbox) remove(partitions []int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.owned)
	b.owned = slices.DeleteFunc(slices.Clone(b.owned), func(p int32) bool { return slices.Contains(partitions, p) })
	b.revoked += before - len(b.owned)
}

func (b *inbox) deliver(r Record) {
	b.mu.Lock()
	b.records = append(b.records, r)
	b.mu.Unlock()
	b.wake()
}

func (b *inbox) fail(err error) {
	b.mu.Lock()
	if b.err == nil {
		b.err = err
	}
	b.mu.Unlock()
	b.wake()
}

// Assigned implements Member.
func (b *inbox) Assigned() Assignment {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Assignment{slices.Clone(b.owned), b.rebalances, b.revoked}
}

// Next implements Member. One goroutine at a time may wait in it.
func (b *inbox) Next(ctx context.Context) (Record, error) {
	for {
		b.mu.Lock()
		if len(b.records) > 0 {
			r := b.records[0]
			b.records = b.records[1:]
			b.next[r.Partition] = r.Offset + 1
			b.mu.Unlock()
			return r, nil
		}
		err := b.err
		b.mu.Unlock()
		if err != nil {
			return Record{}, err
		}
		select {
		case <-b.changed:
		case <-ctx.Done():
			return Record{}, ctx.Err()
		}
	}
}

// positions returns, for the partitions that are owned, where Next has got to.
func (b *inbox) positions() map[int32]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[int32]int64)
	for _, p := range b.owned {
		if o, ok := b.next[p]; ok {
			out[p] = o
		}
	}
	return out
}

// cutter is a dialer whose connections can be cut all at once, after which nothing can be dialed:
// to the broker, the client's machine has died.
type cutter struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// Dial implements the dialer that sarama asks for.
func (c *cutter) Dial(network, addr string) (net.Conn, error) {
	return c.DialContext(context.Background(), network, addr)
}

// DialContext implements the dialer that franz-go and kafka-go ask for.
func (c *cutter) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, net.ErrClosed
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

// Cut closes every connection with a reset and refuses new ones.
func (c *cutter) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for _, conn := range c.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a dead machine says no goodbye
		}
		_ = conn.Close() // it may be closed already
	}
}
