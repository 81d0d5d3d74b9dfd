// Package density measures what many partitions and many connections cost one node:
// memory, descriptors, the time to open and the time to be ready after a stop and after
// a kill. The node is the built program, run as a child process on a directory of its
// own; everything goes over its sockets and /proc.
package density

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kalda-io/kalda/bench/server"
)

// Options say what to measure, and how much of it.
type Options struct {
	// Kalda is the program.
	Kalda string
	// Dir is where data directories are made; they are removed.
	Dir string
	// Partitions is the number for the rows of idle partitions, PerTopic how many of them
	// a topic has.
	Partitions, PerTopic int
	// Bytes are spread over LoadedPartitions for the rows of restarts after kill -9.
	Bytes            int64
	LoadedPartitions int
	// TailBytes are written just before one of the kills, and not synced by then.
	TailBytes int64
	// Idle and Active are numbers of connections; Rounds is how many pairs of rounds with
	// and without Idle there are, of RoundTime each.
	Idle, Active, Rounds int
	RoundTime            time.Duration
	// Rate is how many requests per second each active connection sends.
	Rate int
	// Holder is a command that calls Hold with two more arguments, address and number, on
	// its standard input and output.
	Holder []string
	// Log hears what goes on.
	Log func(format string, args ...any)
}

// Figure is one measured value.
type Figure struct {
	Row   string  `json:"row"`
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Goal is what the value must not exceed; 0 for none.
	Goal float64 `json:"goal,omitempty"`
}

// Missed says whether the figure is above its goal.
func (f Figure) Missed() bool { return f.Goal > 0 && f.Value > f.Goal }

// node is a running node on a directory.
type node struct{ *server.Process }

// start runs the node on a data directory.
func (o *Options) start(ctx context.Context, dir string, set ...string) (*node, error) {
	args := []string{o.Kalda, "dev", "-o", "json", "--log-level", "error", "--data", dir, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--set", "kalda.flush.policy=os"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	p, err := server.Start(ctx, args, nil, nil)
	if err != nil {
		return nil, err
	}
	return &node{p}, nil
}

// Names of the metrics that are read.
const (
	liveHeap = "go_gc_heap_live_bytes"
	cycles   = "go_gc_duration_seconds_count"
)

// get reads a page of the node's HTTP server.
func (n *node) get(ctx context.Context, path string, each func(line string)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	if each == nil {
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		each(lines.Text())
	}
	return lines.Err()
}

// metrics reads two numbers of a scrape.
func (n *node) metrics(ctx context.Context) (live, gcs float64, err error) {
	var bad error
	err = n.get(ctx, "/metrics", func(line string) {
		name, value, _ := strings.Cut(line, " ")
		to, ok := map[string]*float64{liveHeap: &live, cycles: &gcs}[name]
		if !ok {
			return
		}
		if *to, bad = strconv.ParseFloat(value, 64); bad != nil {
			bad = fmt.Errorf("metric %s: %w", name, bad)
		}
	})
	return live, gcs, errors.Join(err, bad)
}

const (
	// heapCycles is how many collections a measured heap must have seen.
	heapCycles = 6
	// heapRequests is how many small requests are sent between two looks at the heap.
	heapRequests = 3000
	heapTimeout  = 2 * time.Minute
)

// heap returns the live heap: what a garbage collection left. Collections are brought
// about by small requests whose garbage makes them due, and the smallest of several is
// taken, since what is allocated while one runs counts as live in it.
func (n *node) heap(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, heapTimeout)
	defer cancel()
	least, begin, last := 0.0, 0.0, -1.0
	for {
		live, gcs, err := n.metrics(ctx)
		if err != nil {
			return 0, err
		}
		switch {
		case last < 0:
			begin = gcs
		case gcs > last && (least == 0 || live < least):
			least = live
		}
		if last = gcs; gcs-begin >= heapCycles && least > 0 {
			return least, nil
		}
		for range heapRequests {
			if err := n.get(ctx, "/healthz", nil); err != nil {
				return 0, err
			}
		}
	}
}

// scrape returns the time of a scrape of /metrics and its size.
func (n *node) scrape(ctx context.Context) (time.Duration, int64, error) {
	begun := time.Now()
	var size int64
	err := n.get(ctx, "/metrics", func(line string) { size += int64(len(line)) + 1 })
	return time.Since(begun), size, err
}

// tempDir makes a data directory; the second result removes it.
func (o *Options) tempDir() (string, func(), error) {
	dir, err := os.MkdirTemp(o.Dir, "density-")
	if err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}
