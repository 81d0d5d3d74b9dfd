package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/vfs"
)

// life is the metadata as one life of a broker reaches it: not at all once it is over, so
// that what the dying process still does in an orderly way changes nothing.
type life struct {
	meta.Store
	over atomic.Bool
}

var errOver = errors.New("the process is dead")

func (l *life) Txn(ctx context.Context, t meta.Txn) (meta.TxnResult, error) {
	if l.over.Load() {
		return meta.TxnResult{}, errOver
	}
	return l.Store.Txn(ctx, t)
}

func (l *life) KeepAlive(ctx context.Context, id meta.LeaseID) error {
	if l.over.Load() {
		return errOver
	}
	return l.Store.KeepAlive(ctx, id)
}

func (l *life) Revoke(ctx context.Context, id meta.LeaseID) error {
	if l.over.Load() {
		return errOver
	}
	return l.Store.Revoke(ctx, id)
}

// conns are the connections of the world's clients.
type conns struct {
	mu  sync.Mutex
	all []*cutConn
	// down: the broker is dead and its listener not closed yet; nobody gets through.
	down bool
}

// cutConn is a client's connection; once it is cut the client hears nothing more.
type cutConn struct {
	net.Conn
	cut atomic.Bool
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.cut.Load() {
		return 0, net.ErrClosed
	}
	return n, err
}

func (w *world) dialer(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := w.net.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	cc := &cutConn{Conn: c}
	w.conns.mu.Lock()
	defer w.conns.mu.Unlock()
	if w.conns.down {
		_ = c.Close()
		return nil, syscall.ECONNREFUSED
	}
	w.conns.all = append(w.conns.all, cc)
	return cc, nil
}

// cut ends every connection, and lets none in until the next start; answers on their way
// are lost.
func (c *conns) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	for _, cc := range c.all {
		cc.cut.Store(true)
		_ = cc.Close()
	}
	c.all = nil
}

// crash ends the broker without a word. What its disk holds at this moment, as after sees
// it, is the world's disk from now on. No client gets an answer that was given later.
func (r *running) crash(after func(*vfs.Mem) *vfs.Mem) {
	r.w.t.Helper()
	r.w.conns.cut()
	r.life.over.Store(true)
	r.w.disk = after(r.w.disk)
	// The goroutines must end, which is what the dead process's own disk sees.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.Close(ctx)
	r.w.conns.mu.Lock()
	r.w.conns.down = false
	r.w.conns.mu.Unlock()
	if err := r.meta.Close(); err != nil {
		r.w.t.Error(err)
	}
}

// processDies leaves what was written, powerFails only what was synced and some of the rest.
func processDies(m *vfs.Mem) *vfs.Mem { return m.Clone() }

func powerFails(seed uint64) func(*vfs.Mem) *vfs.Mem {
	return func(m *vfs.Mem) *vfs.Mem { return m.CrashClone(seed) }
}

// Under load, killed again and again, every acknowledged record is there at its
// offset: after the death of the process under either flush policy, after a power cut
// under commit.
func TestKillUnderLoad(t *testing.T) {
	for _, policy := range []string{"os", "commit"} {
		for _, how := range []string{"kill", "power"} {
			if policy == "os" && how == "power" {
				continue // os promises nothing there
			}
			for seed := range uint64(4) {
				t.Run(fmt.Sprint(policy, "/", how, "/", seed), func(t *testing.T) {
					after := processDies
					if how == "power" {
						after = powerFails(seed)
					}
					bubble(t, func(t *testing.T, w *world) { killUnderLoad(t, w, policy, after) })
				})
			}
		}
	}
}

func killUnderLoad(t *testing.T, w *world, policy string, after func(*vfs.Mem) *vfs.Mem) {
	const (
		partitions = 3
		perLife    = 60
		kills      = 4
	)
	b := w.start()
	b.create("t", partitions, map[string]string{"kalda.flush.policy": policy, "segment.bytes": "4096"})
	type place struct {
		partition int32
		offset    int64
	}
	acked := map[place]string{}
	var mu sync.Mutex
	for life := range kills {
		progress := make(chan struct{}, partitions*perLife)
		var wg sync.WaitGroup
		for i := range int32(partitions) {
			wg.Go(func() {
				c, err := w.dialer(context.Background(), "tcp", brokerAddr)
				if err != nil {
					return // killed before it came to that
				}
				defer c.Close()
				for n := range perLife {
					v := fmt.Sprint("v", life, "-", i, "-", n, strings.Repeat("x", n))
					req := produceRequest(9, "t", -1, batchOf(t, v))
					req.Topics[0].Partitions[0].Partition = i
					if _, err := c.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, int32(n))); err != nil {
						return // killed
					}
					frame, err := readFrame(c)
					if err != nil {
						return // killed
					}
					resp := req.ResponseKind().(*kmsg.ProduceResponse)
					_, body := cutHeader(frame, resp)
					if err := resp.ReadFrom(body); err != nil {
						t.Error(err)
						return
					}
					p := resp.Topics[0].Partitions[0]
					if p.ErrorCode != 0 {
						return // it is on its way down
					}
					mu.Lock()
					acked[place{i, p.BaseOffset}] = v
					mu.Unlock()
					progress <- struct{}{}
				}
			})
		}
		for range partitions * perLife / 2 {
			<-progress
		}
		b.crash(after)
		wg.Wait()
		b = w.start()
	}
	defer b.stop()
	c := w.client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	// Records that were not acknowledged may be there too.
	var stored int64
	for i := range int32(partitions) {
		p, err := b.replicas.Lookup([]byte("t"), i)
		if err != nil {
			t.Fatal(err)
		}
		stored += int64(p.Stats().LogEnd)
	}
	if len(acked) < kills*partitions*perLife/2 {
		t.Fatalf("only %d records were acknowledged", len(acked))
	}
	for n := int64(0); n < stored; {
		fs := c.PollFetches(context.Background())
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			n++
			at := place{r.Partition, r.Offset}
			if want, ok := acked[at]; ok && want != string(r.Value) {
				t.Errorf("partition %d offset %d holds %.20q, acknowledged was %.20q", r.Partition, r.Offset, r.Value, want)
			}
			delete(acked, at)
		})
	}
	for at, v := range acked {
		t.Errorf("%.20q was acknowledged at %+v and is gone", v, at)
	}
}
