package soak

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kalda-io/kalda/chaos/internal/load"
	"github.com/kalda-io/kalda/chaos/internal/proc"
	"github.com/kalda-io/kalda/interop/target"
)

const (
	// scrapes is how often the node is asked for one sample, and scrapeEvery the time between: the least of each value
	// counts, which leaves what a request or a collection of garbage uses for a moment out.
	scrapes     = 3
	scrapeEvery = 300 * time.Millisecond
)

// take asks the node and its directory what they use now.
func (r *run) take(ctx context.Context, node *target.Node) (map[Resource]float64, proc.Metrics, error) {
	least := make(map[Resource]float64)
	var last proc.Metrics
	for i := range scrapes {
		if i > 0 {
			if err := load.Pause(ctx, scrapeEvery); err != nil {
				return nil, nil, err
			}
		}
		m, err := proc.Scrape(ctx, node)
		if err != nil {
			return nil, nil, err
		}
		last = m
		for resource, name := range map[Resource]string{RSS: "process_resident_memory_bytes", Heap: "go_gc_heap_live_bytes",
			Goroutines: "go_goroutines", Files: "process_open_fds"} {
			v, ok := m[name]
			if !ok {
				return nil, nil, fmt.Errorf("the node has no metric %s", name)
			}
			if was, ok := least[resource]; !ok || v < was {
				least[resource] = v
			}
		}
	}
	used, err := diskUse(r.start.DataDir)
	if err != nil {
		return nil, nil, err
	}
	// Records that nothing deletes are no leak.
	for _, topic := range growing() {
		for _, size := range ofTopic(last, "kalda_partition_size_bytes", topic) {
			used.bytes -= size
		}
	}
	least[Disk], least[Journal], least[Partitions] = used.bytes, used.journal, used.partitions
	least[Ensemble], least[Entries] = used.ensemble, used.entries
	return least, last, nil
}

// use is what a data directory holds.
type use struct{ bytes, journal, ensemble, entries, partitions float64 }

// diskUse walks through the directory of a node that runs: what vanishes meanwhile is not counted.
func diskUse(dir string) (use, error) {
	var u use
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			if filepath.Base(filepath.Dir(path)) == "parts" {
				u.partitions++
			}
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case strings.HasSuffix(path, ".journal"):
			u.journal++
			return nil
		case filepath.Base(filepath.Dir(path)) == "wal":
			if strings.HasSuffix(path, ".wal") { // the others are prepared for later
				u.entries++
			}
			return nil
		}
		u.bytes += allocated(info)
		if strings.HasSuffix(path, filepath.Join("member", "snap", "db")) {
			u.ensemble = float64(info.Size())
		}
		return nil
	})
	return u, err
}

// started returns what a node that has just become ready has cost.
func started(ctx context.Context, node *target.Node, took time.Duration) (map[Resource]float64, error) {
	m, err := proc.Scrape(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("after the start: %w", err)
	}
	return map[Resource]float64{Start: took.Seconds(), StartCPU: m["process_cpu_seconds_total"]}, nil
}

// ofTopic returns what a metric says of each partition of a topic.
func ofTopic(m proc.Metrics, metric, topic string) []float64 {
	var out []float64
	for name, v := range m {
		if strings.HasPrefix(name, metric+"{") && strings.Contains(name, `topic="`+topic+`"`) {
			out = append(out, v)
		}
	}
	return out
}

// allocated returns the bytes that a file's blocks take: files grow ahead of what is written to them.
func allocated(info os.FileInfo) float64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return float64(st.Blocks) * 512
	}
	return float64(info.Size())
}
