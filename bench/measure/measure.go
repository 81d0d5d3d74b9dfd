// Package measure runs one load against one freshly started broker, and keeps the
// list of comparisons: what is compared (Rows) and with whom (Sides).
package measure

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kalda-io/kalda/bench/affinity"
	"github.com/kalda-io/kalda/bench/load"
	"github.com/kalda-io/kalda/bench/server"
)

// Side is a broker that can be started.
type Side struct {
	Name string
	// Args start it; {data} is replaced by an empty directory that is removed afterwards.
	Args []string
	// Env is added to the environment, as KEY=value.
	Env []string
	// Apart keeps broker and generator on processors of their own.
	Apart bool
}

// Measured is one run.
type Measured struct {
	load.Result
	// ReadyMillis is from the start of the process to its ready line.
	ReadyMillis float64 `json:"ready_ms"`
	// PeakMemory is the broker's largest resident size in bytes.
	PeakMemory int64 `json:"peak_memory"`
}

// warmUp is how long a run sends before it is measured: connections, topics and the
// broker's buffers are there then.
const warmUp = 300 * time.Millisecond

// preloadBytes is what a fetch run writes first.
const preloadBytes = 256 << 20

// Run starts the side, prepares topics, warms up, runs o, and stops the side.
func Run(ctx context.Context, side Side, o load.Options) (m Measured, err error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	args := make([]string, len(side.Args))
	for i, a := range side.Args {
		args[i] = strings.ReplaceAll(a, "{data}", dir)
	}
	var processors []int
	if side.Apart {
		if processors, o.Processors, err = affinity.Split(); err != nil {
			return m, err
		}
	}
	p, err := server.Start(ctx, args, side.Env, processors)
	if err != nil {
		return m, err
	}
	defer p.Stop()
	o.Addr, o.Prefix = p.Addr, "bench"
	if err := load.Prepare(ctx, o); err != nil {
		return m, fmt.Errorf("%s: %w", side.Name, err)
	}
	warm := o
	warm.Time, warm.Requests, warm.Bytes = warmUp, 0, 64<<20
	if o.Fetch {
		fill := o
		fill.Fetch, fill.Acks = false, 1
		fill.Connections, fill.Outstanding = 2, 2
		fill.Time, fill.Requests, fill.Bytes = time.Minute, 0, preloadBytes
		if _, err := load.Run(ctx, fill); err != nil {
			return m, fmt.Errorf("%s: preload: %w", side.Name, err)
		}
	}
	if _, err := load.Run(ctx, warm); err != nil {
		return m, fmt.Errorf("%s: warm-up: %w", side.Name, err)
	}
	before, err := p.CPU()
	if err != nil {
		return m, err
	}
	if m.Result, err = load.Run(ctx, o); err != nil {
		return m, fmt.Errorf("%s: %w", side.Name, err)
	}
	after, err := p.CPU()
	if err != nil {
		return m, err
	}
	m.ServerCPU = after - before
	m.ReadyMillis = float64(p.Ready.Microseconds()) / 1000
	m.PeakMemory, err = p.PeakMemory()
	return m, err
}
