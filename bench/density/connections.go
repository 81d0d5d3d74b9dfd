package density

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

const (
	// dialers open the idle connections.
	dialers = 16
	// bufferTime is how long a connection keeps its large buffers, and a little more.
	bufferTime = 20 * time.Second
	goalConn   = 40 << 10
	goalP99    = 1.10
)

// Connections measures what idle connections cost, in memory and for active ones.
func Connections(ctx context.Context, o Options) (figs []Figure, err error) {
	dir, remove, err := o.tempDir()
	if err != nil {
		return nil, err
	}
	defer remove()
	n, err := o.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { n.Kill() }()
	c, err := dial(n.Addr)
	if err != nil {
		return nil, err
	}
	err = c.create([]string{"active"}, o.Active)
	_ = c.Close()
	if err != nil {
		return nil, err
	}
	if _, err := o.active(ctx, n); err != nil { // warm
		return nil, err
	}
	before, err := o.connMemory(ctx, n)
	if err != nil {
		return nil, err
	}
	var with, without []time.Duration
	for round := range o.Rounds {
		p99, err := o.active(ctx, n)
		if err != nil {
			return nil, err
		}
		without = append(without, p99)
		idle, err := o.open(ctx, n)
		if err != nil {
			return nil, err
		}
		if round == 0 {
			o.Log("%d idle connections are open", len(idle))
			after, err := o.connMemory(ctx, n)
			if err != nil {
				return nil, err
			}
			per := func(a, b float64) float64 { return (a - b) / float64(o.Idle) }
			figs = append(figs,
				Figure{"idle connections", "live heap each", per(after.heap, before.heap), "B", 0},
				Figure{"idle connections", "resident each", per(after.resident, before.resident), "B", goalConn})
		}
		if p99, err = o.active(ctx, n); err != nil {
			return nil, err
		}
		with = append(with, p99)
		for _, c := range idle {
			_ = c.Close()
		}
		o.Log("round %d: p99 %v without, %v with", round+1, without[round], with[round])
		select {
		case <-time.After(2 * time.Second): // the node sees them go
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	ratios := make([]float64, len(with))
	for i := range with {
		ratios[i] = float64(with[i]) / float64(without[i])
	}
	slices.Sort(ratios)
	figs = append(figs,
		Figure{"active connections", "p99 without", millis(quantile(without, 0.5)), "ms", 0},
		Figure{"active connections", "p99 with idle ones", millis(quantile(with, 0.5)), "ms", 0},
		Figure{"active connections", "ratio, median of rounds", math.Round(ratios[len(ratios)/2]*1000) / 1000, "", goalP99})
	return figs, nil
}

// connMemory waits until connections gave their large buffers back, and measures.
func (o *Options) connMemory(ctx context.Context, n *node) (held, error) {
	select {
	case <-time.After(bufferTime):
	case <-ctx.Done():
		return held{}, ctx.Err()
	}
	m, err := n.Memory()
	if err != nil {
		return held{}, err
	}
	heap, err := n.heap(ctx)
	o.Log("live heap %.1f MB, resident %.1f MB, %d descriptors", heap/1e6, float64(m.Resident)/1e6, m.Descriptors)
	return held{heap: heap, resident: float64(m.Resident)}, err
}

// open opens the idle connections; each asks what every client asks first.
func (o *Options) open(ctx context.Context, n *node) ([]*conn, error) {
	all := make([]*conn, o.Idle)
	g, ctx := errgroup.WithContext(ctx)
	for d := range dialers {
		g.Go(func() error {
			for i := d; i < len(all); i += dialers {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				c, err := dial(n.Addr)
				if err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
				all[i] = c
				versions := kmsg.NewPtrApiVersionsRequest()
				versions.Version, versions.ClientSoftwareName, versions.ClientSoftwareVersion = 3, "bench", "1"
				if _, err := c.ask(versions); err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
				md := kmsg.NewPtrMetadataRequest()
				md.Version = 9
				t := kmsg.NewMetadataRequestTopic()
				t.Topic = kmsg.StringPtr("active")
				md.Topics = append(md.Topics, t)
				if _, err := c.ask(md); err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
				c.in, c.out = nil, nil
			}
			return nil
		})
	}
	return all, g.Wait()
}

// active sends single records at a fixed rate over the active connections and returns
// the 99th percentile, from when a request was due to its answer.
func (o *Options) active(ctx context.Context, n *node) (time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	g, ctx := errgroup.WithContext(ctx)
	every := time.Second / time.Duration(o.Rate)
	for i := range o.Active {
		g.Go(func() error {
			c, err := dial(n.Addr)
			if err != nil {
				return err
			}
			defer c.Close()
			frame := formatter.AppendRequest(nil, produceTo("active", i, i+1, batch(1, 100)), 1)
			var mine []time.Duration
			begun := time.Now().Add(every * time.Duration(i) / time.Duration(o.Active))
			for k := 0; ; k++ {
				due := begun.Add(every * time.Duration(k))
				if due.Sub(begun) > o.RoundTime {
					break
				}
				time.Sleep(time.Until(due))
				if err := c.exchange(frame); err != nil {
					return err
				}
				if due.Sub(begun) > o.RoundTime/10 { // the rest is warm-up
					mine = append(mine, time.Since(due))
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
			return nil
		})
	}
	err := g.Wait()
	return quantile(all, 0.99), err
}
