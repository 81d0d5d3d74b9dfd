package density

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// bufferTime is how long a connection keeps its large buffers, and a little more.
	bufferTime = 20 * time.Second
	goalConn   = 40 << 10
	goalP99    = 1.10
	// sliceTime is how long the load stays with one node: a few requests of each connection.
	sliceTime = 100 * time.Millisecond
	// settleTime lets a node see connections go, and collect them.
	settleTime = 3 * time.Second
)

// Connections measures what idle connections cost, in memory and for active ones.
//
// What a machine does beside the measurement changes a 99th percentile by far more than a
// tenth within seconds, so two nodes run side by side: one holds the idle connections, the
// other none. Slices of a tenth of a second of the same load alternate between them (A B,
// B A, A B, ...); the slices of RoundTime are a round of each, and two such rounds, which
// went through the same disturbances, give one ratio. Halfway the nodes change roles, so
// that what one of them is by chance cancels out. No round is dropped. Before that both
// are compared without idle connections, which shows what the method can tell apart. The
// CPU time of both nodes is compared as well: noise hardly touches it.
//
// (Tried before: rounds of five seconds on one node, opening and closing the connections in
// between; then alternating rounds of a second. Both left more noise than a tenth.)
//
// The idle connections are held by a process of their own: their cost on the client's side
// is not that of the load generator.
func Connections(ctx context.Context, o Options) (figs []Figure, err error) {
	var nodes [2]*node
	var loads [2]*load
	for i := range nodes {
		dir, remove, err := o.tempDir()
		if err != nil {
			return nil, err
		}
		defer remove()
		n, err := o.start(ctx, dir)
		if err != nil {
			return nil, err
		}
		defer n.Kill()
		nodes[i] = n
		if loads[i], err = o.dialActive(n); err != nil {
			return nil, err
		}
		defer loads[i].close()
		if _, err := loads[i].run(ctx, 2*o.RoundTime); err != nil { // warm
			return nil, err
		}
	}
	before, err := o.connMemory(ctx, nodes[0])
	if err != nil {
		return nil, err
	}
	null, err := o.pairs(ctx, nodes, loads, 0, o.Rounds/2)
	if err != nil {
		return nil, err
	}
	var idle sides
	for with := range nodes {
		h, err := o.hold(ctx, nodes[with])
		if err != nil {
			return nil, err
		}
		o.Log("node %d holds %d idle connections", with, o.Idle)
		if with == 0 {
			after, err := o.connMemory(ctx, nodes[0])
			if err != nil {
				h.letGo()
				return nil, err
			}
			per := func(a, b float64) float64 { return (a - b) / float64(o.Idle) }
			figs = append(figs,
				Figure{"idle connections", "live heap each", per(after.heap, before.heap), "B", 0},
				Figure{"idle connections", "resident each", per(after.resident, before.resident), "B", goalConn})
		} else if err := pause(ctx, bufferTime); err != nil {
			h.letGo()
			return nil, err
		}
		half, err := o.pairs(ctx, nodes, loads, with, (o.Rounds+1-with)/2)
		h.letGo()
		if err != nil {
			return nil, err
		}
		idle.add(half)
		if err := pause(ctx, settleTime); err != nil {
			return nil, err
		}
	}
	c, r := null.compare(), idle.compare()
	o.Log("no idle connections on either side: ratio %.3f, 95%% within %.3f to %.3f", c.ratio, c.low, c.high)
	o.Log("idle connections on one side: ratio %.3f, 95%% within %.3f to %.3f", r.ratio, r.low, r.high)
	return append(figs,
		Figure{"active connections", "p99 of all rounds without idle ones", millis(r.without), "ms", 0},
		Figure{"active connections", "p99 of all rounds with idle ones", millis(r.with), "ms", 0},
		Figure{"active connections", "p99 with over without, median of pairs", r.ratio, "", goalP99},
		Figure{"active connections", "- from (95 % of such medians)", r.low, "", 0},
		Figure{"active connections", "- to", r.high, "", 0},
		Figure{"active connections", "node's CPU with over without", idle.cpuWith / idle.cpuWithout, "", 0},
		Figure{"two nodes without idle ones", "node's CPU, one over the other", null.cpuWith / null.cpuWithout, "", 0},
		Figure{"two nodes without idle ones", "p99 of one over the other, median of pairs", c.ratio, "", 0},
		Figure{"two nodes without idle ones", "- from (95 % of such medians)", c.low, "", 0},
		Figure{"two nodes without idle ones", "- to", c.high, "", 0}), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pairs runs pairs of rounds; loads[with] counts as the side with the idle connections.
func (o *Options) pairs(ctx context.Context, nodes [2]*node, loads [2]*load, with, pairs int) (s sides, err error) {
	var began [2]float64
	for side, n := range nodes {
		if began[side], err = n.CPU(); err != nil {
			return s, err
		}
	}
	for i := range pairs {
		var got [2][]time.Duration
		for slice := range 2 * max(1, int(o.RoundTime/sliceTime)) {
			side := (slice + slice/2 + i) % 2 // A B, B A, A B: what drifts meets both alike
			took, err := loads[side].run(ctx, sliceTime)
			if err != nil {
				return s, err
			}
			got[side] = append(got[side], took...)
		}
		s.pair(got[with], got[1-with])
		o.Log("pair %d: p99 %v with, %v without", i+1, quantile(got[with], 0.99).Round(time.Microsecond),
			quantile(got[1-with], 0.99).Round(time.Microsecond))
	}
	for side, n := range nodes {
		used, err := n.CPU()
		if err != nil {
			return s, err
		}
		if side == with {
			s.cpuWith += used - began[side]
		} else {
			s.cpuWithout += used - began[side]
		}
	}
	return s, nil
}

// connMemory waits until connections gave their large buffers back, and measures.
func (o *Options) connMemory(ctx context.Context, n *node) (held, error) {
	if err := pause(ctx, bufferTime); err != nil {
		return held{}, err
	}
	m, err := n.Memory()
	if err != nil {
		return held{}, err
	}
	heap, err := n.heap(ctx)
	o.Log("live heap %.1f MB, resident %.1f MB, %d descriptors", heap/1e6, float64(m.Resident)/1e6, m.Descriptors)
	return held{heap: heap, resident: float64(m.Resident)}, err
}

// load is the active connections of one node. They stay open between the rounds.
type load struct {
	conns  []*conn
	frames [][]byte
	every  time.Duration
}

// dialActive makes the topic of the active connections and opens them.
func (o *Options) dialActive(n *node) (*load, error) {
	c, err := dial(n.Addr)
	if err != nil {
		return nil, err
	}
	err = c.create([]string{activeTopic}, o.Active)
	_ = c.Close()
	l := &load{every: time.Second / time.Duration(o.Rate)}
	for i := 0; i < o.Active && err == nil; i++ {
		if c, err = dial(n.Addr); err == nil {
			l.conns = append(l.conns, c)
			l.frames = append(l.frames, formatter.AppendRequest(nil, produceTo(activeTopic, i, i+1, batch(1, 100)), 1))
		}
	}
	if err != nil {
		l.close()
	}
	return l, err
}

func (l *load) close() {
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// run sends single records at the fixed rate over all connections for d and returns how
// long each took: from when it was sent, or from when it was due if the one before was not
// answered by then. (How late the generator woke up is no matter of the node's.)
func (l *load) run(ctx context.Context, d time.Duration) ([]time.Duration, error) {
	took := make([][]time.Duration, len(l.conns))
	g, ctx := errgroup.WithContext(ctx)
	begun := time.Now()
	for i, c := range l.conns {
		g.Go(func() error {
			mine := make([]time.Duration, 0, d/l.every+1)
			answered := begun
			for due := begun.Add(l.every * time.Duration(i) / time.Duration(len(l.conns))); due.Sub(begun) < d; due = due.Add(l.every) {
				from := due
				if answered.Before(due) {
					time.Sleep(time.Until(due))
					from = time.Now()
				}
				if err := c.exchange(l.frames[i]); err != nil {
					return err
				}
				answered = time.Now()
				if due.Sub(begun) > d/10 { // the rest is warm-up
					mine = append(mine, answered.Sub(from))
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
			took[i] = mine
			return nil
		})
	}
	err := g.Wait()
	var all []time.Duration
	for _, mine := range took {
		all = append(all, mine...)
	}
	return all, err
}
