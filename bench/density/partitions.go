package density

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// perRequest is how many partitions one request creates or writes to.
const perRequest = 100

// restTime is how long a node is left alone until its logs gave up their files; the node
// looks for idle logs once a minute, and a log must be found so twice.
const restTime = 130 * time.Second

// Partitions measures a node with many partitions that nobody uses.
func Partitions(ctx context.Context, o Options) (figs []Figure, err error) {
	dir, remove, err := o.tempDir()
	if err != nil {
		return nil, err
	}
	defer remove()
	add := func(row, name, unit string, value, goal float64) {
		figs = append(figs, Figure{row, name, value, unit, goal})
	}
	n, err := o.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { n.Kill() }()
	add("none", "start to ready", "ms", millis(n.Ready), 0)
	base, err := o.measure(ctx, n, "none", &figs, nil)
	if err != nil {
		return nil, err
	}

	o.Log("creating %d partitions, %d per topic", o.Partitions, o.PerTopic)
	took, probes, err := o.fill(ctx, n)
	if err != nil {
		return nil, err
	}
	add("create", "time", "ms", millis(took), 0)
	add("create", "p99 of a produce meanwhile", "ms", millis(quantile(probes, 0.99)), 0)
	add("create", "longest produce meanwhile", "ms", millis(quantile(probes, 1)), 0)
	if _, err := o.measure(ctx, n, "created", &figs, &base); err != nil {
		return nil, err
	}

	if n, err = o.restart(ctx, n, dir, "never written", &figs); err != nil {
		return nil, err
	}
	if _, err := o.measure(ctx, n, "never written", &figs, &base); err != nil {
		return nil, err
	}
	for range 2 {
		took, size, err := n.scrape(ctx)
		if err != nil {
			return nil, err
		}
		add("never written", "scrape", "ms", millis(took), 0)
		add("never written", "scrape size", "MB", float64(size)/1e6, 0)
	}

	o.Log("writing to every partition")
	begun := time.Now()
	if err := o.writeAll(n); err != nil {
		return nil, err
	}
	add("written", "one record each", "ms", millis(time.Since(begun)), 0)
	if _, err := o.measure(ctx, n, "just written", &figs, &base); err != nil {
		return nil, err
	}
	o.Log("leaving the node alone for %v", restTime)
	select {
	case <-time.After(restTime):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if _, err := o.measure(ctx, n, "written, idle", &figs, &base); err != nil {
		return nil, err
	}
	if n, err = o.restart(ctx, n, dir, "written", &figs); err != nil {
		return nil, err
	}
	if _, err := o.measure(ctx, n, "written, restarted", &figs, &base); err != nil {
		return nil, err
	}
	n.Kill()
	again, err := o.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	n = again
	add("written", "kill -9: start to ready", "ms", millis(n.Ready), 0)
	return figs, nil
}

// goalHeap, goalReady are the goals of issue and README: 8 KiB and 5 s.
const (
	goalHeap  = 8 << 10
	goalReady = 5000
)

// restart stops the node cleanly and starts it again.
func (o *Options) restart(ctx context.Context, n *node, dir, row string, figs *[]Figure) (*node, error) {
	begun := time.Now()
	n.Stop()
	*figs = append(*figs, Figure{row, "clean stop", millis(time.Since(begun)), "ms", 0})
	again, err := o.start(ctx, dir)
	if err != nil {
		return n, err
	}
	*figs = append(*figs, Figure{row, "start to ready", millis(again.Ready), "ms", goalReady})
	o.Log("%s: ready in %v", row, again.Ready.Round(time.Millisecond))
	return again, nil
}

// held is what a node holds.
type held struct {
	heap, resident float64
}

// measure looks at heap, resident size and descriptors; per partition against base.
func (o *Options) measure(ctx context.Context, n *node, row string, figs *[]Figure, base *held) (held, error) {
	// The resident size first: forcing collections changes it.
	m, err := n.Memory()
	if err != nil {
		return held{}, err
	}
	heap, err := n.heap(ctx)
	if err != nil {
		return held{}, err
	}
	h := held{heap: heap, resident: float64(m.Resident)}
	*figs = append(*figs,
		Figure{row, "live heap", heap / 1e6, "MB", 0},
		Figure{row, "resident", h.resident / 1e6, "MB", 0},
		Figure{row, "descriptors", float64(m.Descriptors), "", 0})
	if base != nil {
		*figs = append(*figs,
			Figure{row, "live heap per partition", (h.heap - base.heap) / float64(o.Partitions), "B", goalHeap},
			Figure{row, "resident per partition", (h.resident - base.resident) / float64(o.Partitions), "B", 0})
	}
	o.Log("%s: live heap %.1f MB, resident %.1f MB, %d descriptors", row, heap/1e6, h.resident/1e6, m.Descriptors)
	return h, nil
}

func topic(i int) string { return fmt.Sprintf("density-%d", i) }

// fill creates all partitions, and meanwhile sends single records to another topic.
func (o *Options) fill(ctx context.Context, n *node) (time.Duration, []time.Duration, error) {
	admin, err := dial(n.Addr)
	if err != nil {
		return 0, nil, err
	}
	defer admin.Close()
	if err := admin.create([]string{"probe"}, 1); err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var probes []time.Duration
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() { probes, failed = probe(ctx, n.Addr) })
	begun := time.Now()
	err = o.createAll(admin)
	took := time.Since(begun)
	cancel()
	wg.Wait()
	if err == nil {
		err = failed
	}
	return took, probes, err
}

func (o *Options) createAll(c *conn) error {
	topics := o.topics()
	for len(topics) > 0 {
		k := min(len(topics), max(1, perRequest/o.PerTopic))
		if err := c.create(topics[:k], o.PerTopic); err != nil {
			return err
		}
		topics = topics[k:]
	}
	return nil
}

func (o *Options) topics() []string {
	names := make([]string, o.Partitions/o.PerTopic)
	for i := range names {
		names[i] = topic(i)
	}
	return names
}

// probe produces single records until ctx ends.
func probe(ctx context.Context, addr string) ([]time.Duration, error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	req := produceTo("probe", 0, 1, batch(1, 100))
	var took []time.Duration
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return took, nil
		case <-tick.C:
		}
		begun := time.Now()
		if err := c.produce(req); err != nil {
			return took, err
		}
		took = append(took, time.Since(begun))
	}
}

// writeAll appends one record to every partition.
func (o *Options) writeAll(n *node) error {
	c, err := dial(n.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	b := batch(1, 100)
	for _, name := range o.topics() {
		for from := 0; from < o.PerTopic; from += perRequest {
			if err := c.produce(produceTo(name, from, min(from+perRequest, o.PerTopic), b)); err != nil {
				return err
			}
		}
	}
	return nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// quantile returns the value that q of all do not exceed; it sorts them.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)]
}
