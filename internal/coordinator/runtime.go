package coordinator

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// Options are the settings of a Runtime. The zero value of a field means the default.
type Options struct {
	// MaxInbox is how many calls may wait for one shard (16384); more are answered
	// COORDINATOR_NOT_AVAILABLE, which clients retry.
	MaxInbox int
	// MaxBatchBytes is about how large a batch of records may get before the next one
	// is begun (512 KiB). One record may be larger.
	MaxBatchBytes int
	// LoadBufferBytes is how much of the log one read may ask for while loading (1 MiB);
	// a longer batch takes as much as it needs.
	LoadBufferBytes int
	// MaxLoads is how many shards load at the same time (2): each holds a buffer.
	MaxLoads int
	// ReloadBackoff is the wait before a shard whose append failed loads again (100 ms);
	// it doubles up to MaxReloadBackoff (5 s) while appends keep failing.
	ReloadBackoff, MaxReloadBackoff time.Duration
	// Logger gets what operators should know; slog.Default if nil.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.MaxInbox == 0 {
		o.MaxInbox = 16384
	}
	if o.MaxBatchBytes == 0 {
		o.MaxBatchBytes = 512 << 10
	}
	if o.LoadBufferBytes == 0 {
		o.LoadBufferBytes = 1 << 20
	}
	if o.MaxLoads == 0 {
		o.MaxLoads = 2
	}
	if o.ReloadBackoff == 0 {
		o.ReloadBackoff = 100 * time.Millisecond
	}
	if o.MaxReloadBackoff == 0 {
		o.MaxReloadBackoff = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Runtime runs the shards of one kind of coordinator on one broker. All methods may be
// called from any goroutine.
type Runtime[C Call] struct {
	clock   model.Clock
	newCore func(partition int32) Core[C]
	opts    Options
	// loads holds a token for each shard that may load now.
	loads chan struct{}
	wait  sync.WaitGroup // the shards' goroutines

	mu struct {
		sync.Mutex
		closed bool
		shards map[int32]*shard[C]
	}
}

// New returns a Runtime that builds the core of each elected partition with newCore.
func New[C Call](clock model.Clock, newCore func(partition int32) Core[C], opts Options) *Runtime[C] {
	r := &Runtime[C]{clock: clock, newCore: newCore, opts: opts.withDefaults()}
	r.loads = make(chan struct{}, r.opts.MaxLoads)
	r.mu.shards = map[int32]*shard[C]{}
	return r
}

// Elect starts the shard of a partition that this broker leads at epoch. A shard of an
// older epoch ends; one of the same or a newer epoch stays and Elect does nothing.
func (r *Runtime[C]) Elect(partition int32, epoch model.LeaderEpoch, log Log) {
	r.mu.Lock()
	old := r.mu.shards[partition]
	if r.mu.closed || old != nil && old.epoch >= epoch {
		r.mu.Unlock()
		return
	}
	s := newShard(r, partition, epoch, log)
	r.mu.shards[partition] = s
	r.wait.Add(1)
	r.mu.Unlock()
	if old != nil {
		old.end()
	}
	go func() {
		defer r.wait.Done()
		s.run()
	}()
}

// Resign ends the shard of a partition if its epoch is not newer than epoch. It does not
// wait: the shard's calls are failed with NOT_COORDINATOR by its own goroutine.
func (r *Runtime[C]) Resign(partition int32, epoch model.LeaderEpoch) {
	r.mu.Lock()
	s := r.mu.shards[partition]
	if s == nil || s.epoch > epoch {
		r.mu.Unlock()
		return
	}
	delete(r.mu.shards, partition)
	r.mu.Unlock()
	s.end()
}

// Submit hands a call to the shard of a partition. The call is answered exactly once,
// perhaps before Submit returns: NOT_COORDINATOR when there is no shard,
// COORDINATOR_LOAD_IN_PROGRESS while it loads, COORDINATOR_NOT_AVAILABLE when too many
// calls wait.
func (r *Runtime[C]) Submit(partition int32, call C) { r.submit(partition, call, false) }

// Tell is Submit for what the broker itself has to say: a shard that loads takes it, too,
// and steps it first when it serves.
func (r *Runtime[C]) Tell(partition int32, call C) { r.submit(partition, call, true) }

func (r *Runtime[C]) submit(partition int32, call C, tell bool) {
	r.mu.Lock()
	s := r.mu.shards[partition]
	r.mu.Unlock()
	if s == nil {
		call.Fail(kerr.NotCoordinator)
		return
	}
	s.submit(call, tell)
}

// Led returns the partitions that have a shard here, sorted.
func (r *Runtime[C]) Led() []int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.mu.shards))
}

// Close ends all shards and returns when their goroutines are gone. Calls are failed
// with NOT_COORDINATOR. Elect does nothing after Close.
func (r *Runtime[C]) Close() {
	r.mu.Lock()
	r.mu.closed = true
	shards := r.mu.shards
	r.mu.shards = map[int32]*shard[C]{}
	r.mu.Unlock()
	for _, s := range shards {
		s.end()
	}
	r.wait.Wait()
}

// Countdown runs a function when a number of things are done, on the goroutine of the
// last of them.
type Countdown struct {
	left atomic.Int64
	then func()
}

// NewCountdown returns a Countdown of n, at least 1.
func NewCountdown(n int, then func()) *Countdown {
	c := &Countdown{then: then}
	c.left.Store(int64(n))
	return c
}

// Done takes one off. It may be called from any goroutine, n times in all.
func (c *Countdown) Done() {
	if c.left.Add(-1) == 0 {
		c.then()
	}
}
