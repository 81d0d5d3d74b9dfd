package density

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// loadedTopics share the partitions of the restart rows.
	loadedTopics = 10
	// writers and batchRecords: 256 KiB batches, like a producer's full ones.
	writers      = 4
	batchRecords = 256
	recordBytes  = 1010 // about 1 KiB with its frame
	// syncedWait is two rounds of the background flush. A slow disk may need longer.
	syncedWait = 11 * time.Second
	goalServed = 3000
)

// Restarts measures how soon a node serves again that was killed with data.
func Restarts(ctx context.Context, o Options) (figs []Figure, err error) {
	dir, remove, err := o.tempDir()
	if err != nil {
		return nil, err
	}
	defer remove()
	o.PerTopic = o.LoadedPartitions / loadedTopics
	o.Partitions = o.PerTopic * loadedTopics
	n, err := o.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { n.Kill() }()
	c, err := dial(n.Addr)
	if err != nil {
		return nil, err
	}
	err = o.createAll(c)
	_ = c.Close()
	if err != nil {
		return nil, err
	}
	// Small first batches, for the fetches afterwards.
	if err := o.writeAll(n); err != nil {
		return nil, err
	}
	o.Log("writing %.1f GB into %d partitions", float64(o.Bytes)/1e9, o.Partitions)
	took, err := o.load(ctx, n, o.Bytes)
	if err != nil {
		return nil, err
	}
	figs = append(figs, Figure{"load", "written", float64(o.Bytes) / 1e9, "GB", 0}, Figure{"load", "time", millis(took), "ms", 0})
	for _, r := range []struct {
		row  string
		tail int64
		cold bool
	}{
		{"kill -9, 11 s after the load", 0, false},
		{"kill -9, unsynced tail", o.TailBytes, false},
		{"kill -9, unsynced tail, cold cache", o.TailBytes, true},
	} {
		// The background flush has begun at least two rounds since.
		select {
		case <-time.After(syncedWait):
		case <-ctx.Done():
			return figs, ctx.Err()
		}
		if r.tail > 0 {
			took, err := o.load(ctx, n, r.tail)
			if err != nil {
				return figs, err
			}
			figs = append(figs, Figure{r.row, "tail", float64(r.tail) / 1e6, "MB", 0}, Figure{r.row, "tail written in", millis(took), "ms", 0})
		}
		n.Kill()
		if r.cold {
			syscall.Sync()
			if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1\n"), 0); err != nil {
				o.Log("%s left out: %v", r.row, err)
				continue
			}
		}
		begun := time.Now()
		if n, err = o.replace(ctx, n, dir); err != nil {
			return figs, err
		}
		if err := o.serveAll(ctx, n); err != nil {
			return figs, err
		}
		served := time.Since(begun)
		o.Log("%s: ready in %v, all served in %v", r.row, n.Ready.Round(time.Millisecond), served.Round(time.Millisecond))
		figs = append(figs,
			Figure{r.row, "start to ready", millis(n.Ready), "ms", 0},
			Figure{r.row, "start to a fetch and a produce in every partition", millis(served), "ms", goalServed})
	}
	return figs, nil
}

// replace starts a node in the place of one that ended.
func (o *Options) replace(ctx context.Context, old *node, dir string) (*node, error) {
	n, err := o.start(ctx, dir)
	if err != nil {
		return old, err
	}
	return n, nil
}

// load writes that many bytes, evenly over all partitions.
func (o *Options) load(ctx context.Context, n *node, bytes int64) (time.Duration, error) {
	b := batch(batchRecords, recordBytes)
	if per := bytes / int64(o.Partitions); per < int64(len(b)) {
		b = batch(max(1, int(per)/(recordBytes+14)), recordBytes)
	}
	rounds := int(max(1, bytes/int64(o.Partitions)/int64(len(b))))
	begun := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error {
			c, err := dial(n.Addr)
			if err != nil {
				return err
			}
			defer c.Close()
			const group = 4 // partitions per request: 1 MiB
			for r := range rounds {
				at := 0
				for i, name := range o.topics() {
					for from := 0; from < o.PerTopic; from += group {
						if at++; (at+i+r)%writers != w {
							continue
						}
						if ctx.Err() != nil {
							return ctx.Err()
						}
						if err := c.produce(produceTo(name, from, min(from+group, o.PerTopic), b)); err != nil {
							return err
						}
					}
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return time.Since(begun), err
}

// serveAll reads from and writes to every partition.
func (o *Options) serveAll(ctx context.Context, n *node) error {
	b := batch(1, 100)
	g, _ := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error {
			c, err := dial(n.Addr)
			if err != nil {
				return err
			}
			defer c.Close()
			for i, name := range o.topics() {
				if i%writers != w {
					continue
				}
				if err := c.fetch(name, 0, o.PerTopic, 4096); err != nil {
					return err
				}
				if err := c.produce(produceTo(name, 0, o.PerTopic, b)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}
