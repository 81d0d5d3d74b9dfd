package soak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/kalda-io/kalda/chaos/history"
	"github.com/kalda-io/kalda/chaos/internal/load"
	"github.com/kalda-io/kalda/chaos/internal/proc"
	"github.com/kalda-io/kalda/interop/target"
)

// lives is the load's time: the node is killed and started again until only Quiet is left. It leaves in node the one that
// runs, or the one that ended last.
func (r *run) lives(ctx context.Context, producers, readers *load.Workers, node **target.Node) error {
	for life := 0; ; life++ {
		born := time.Now()
		end := r.began.Add(r.Duration)
		killed := born.Add(r.KillEvery)
		last := killed.After(end.Add(-r.Quiet))
		acked := r.clients.Idempotent.Load()
		until := killed
		if last {
			until = end
		}
		if err := r.live(ctx, life, born, until, producers, readers, *node); err != nil {
			return fmt.Errorf("life %d: %w\n%s", life, err, (*node).Log())
		}
		if r.clients.Idempotent.Load() == acked {
			return fmt.Errorf("life %d: nothing was acknowledged in %v\n%s", life, time.Since(born), (*node).Log())
		}
		if last {
			return nil
		}
		// Not on the tick: a moment more, so that every kill hits something else.
		if err := load.Pause(ctx, time.Duration(r.random.IntN(1000))*time.Millisecond); err != nil {
			return err
		}
		(*node).Kill()
		r.result.Kills++
		r.before.rounds, r.before.removed = r.before.rounds+r.now.rounds, r.before.removed+r.now.removed
		r.now.rounds, r.now.removed = 0, 0
		r.log.Add(history.Event{Process: "chaos", F: history.Kill, Offset: -1, Invoke: r.log.Now(), Type: history.OK})
		if r.sabotage != nil {
			if err := r.sabotage(r.start.DataDir); err != nil {
				return err
			}
		}
		for r.random.IntN(4) == 0 { // and sometimes in the middle of the recovery
			r.result.Again++
			if err := target.StartAndKill(ctx, r.Bin, r.start, time.Duration(r.random.IntN(150))*time.Millisecond); err != nil {
				return fmt.Errorf("life %d: start after the kill: %w", life+1, err)
			}
		}
		began := time.Now()
		again, err := target.Start(ctx, r.Bin, r.start)
		if err != nil {
			return fmt.Errorf("life %d: start after the kill: %w", life+1, err)
		}
		*node = again
		took := time.Since(began)
		r.result.Slowest = max(r.result.Slowest, took.Seconds())
		if r.cost, err = started(ctx, *node, took); err != nil {
			return fmt.Errorf("life %d: %w", life+1, err)
		}
		r.log.Add(history.Event{Process: "chaos", F: history.Start, Offset: -1, Invoke: r.log.Now(), Type: history.OK})
	}
}

// live is one life from born to until: samples, and a mark at the age at which every life is looked at.
func (r *run) live(ctx context.Context, life int, born, until time.Time, producers, readers *load.Workers, node *target.Node) error {
	tick := time.NewTicker(r.SampleEvery)
	defer tick.Stop()
	line := time.NewTicker(r.LineEvery)
	defer line.Stop()
	mark := time.NewTimer(r.KillEvery - r.MarkBefore)
	defer mark.Stop()
	end := time.NewTimer(time.Until(until))
	defer end.Stop()
	var first proc.Metrics
	for {
		marked := false
		select {
		case <-end.C:
			r.line()
			return nil
		case <-line.C:
			r.line()
			continue
		case <-tick.C:
		case <-mark.C:
			marked = true
		case err := <-producers.Failed():
			return fmt.Errorf("a producer gave up: %w", err)
		case err := <-readers.Failed():
			return fmt.Errorf("a reader gave up: %w", err)
		case <-node.Done():
			return errors.New("the node ended by itself")
		case <-ctx.Done():
			return ctx.Err()
		}
		at := time.Now()
		used, m, err := r.take(ctx, node)
		if err != nil {
			return fmt.Errorf("sample: %w", err)
		}
		r.count(m)
		maps.Copy(used, r.cost)
		s := Sample{At: at.Sub(r.began), Life: life, Uptime: at.Sub(born), Mark: marked, Values: used}
		r.samples = append(r.samples, s)
		if err := r.out.Encode(s); err != nil {
			return err
		}
		if first == nil {
			first = m
		}
		const cpu, wall = "process_cpu_seconds_total", "process_start_time_seconds"
		if up := s.Uptime.Seconds(); first[wall] == m[wall] && up > 0 {
			r.result.CPUShare = m[cpu] / up
		}
	}
}

// count keeps what the cleaner says of this life.
func (r *run) count(m proc.Metrics) {
	r.now.rounds, r.now.removed = m["kalda_cleaner_rounds_total"], m["kalda_cleaner_removed_records_total"]
}

// line prints how far the run is.
func (r *run) line() {
	c := r.clients
	text := fmt.Sprintf("%v: %d kills (%d more during recovery), %d records acknowledged, %d handled by groups, %d commits, %d joins, %d topics deleted, %.0f cleaner rounds",
		time.Since(r.began).Round(time.Second), r.result.Kills, r.result.Again, c.Idempotent.Load(), c.Consumed.Load(), c.Commits.Load(), c.Joins.Load(),
		c.Deleted.Load(), r.before.rounds+r.now.rounds)
	if n := len(r.samples); n > 0 {
		const mib = 1 << 20
		v := r.samples[n-1].Values
		text += fmt.Sprintf("; rss %.0f MiB, heap %.1f MiB, %.0f goroutines, %.0f files, disk %.0f MiB, ensemble %.1f MiB, %.0f partitions",
			v[RSS]/mib, v[Heap]/mib, v[Goroutines], v[Files], v[Disk]/mib, v[Ensemble]/mib, v[Partitions])
	}
	fmt.Fprintln(r.Out, text)
}
