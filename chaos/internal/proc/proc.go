// Package proc does to a running node what only its neighbours on the machine can do: it stops and
// continues the process, and reads what the node tells of itself over HTTP.
package proc

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kalda-io/kalda/interop/target"
)

// Pause stops the node with SIGSTOP and returns when all of it stands still.
func Pause(n *target.Node) error {
	if err := syscall.Kill(n.PID(), syscall.SIGSTOP); err != nil {
		return fmt.Errorf("SIGSTOP: %w", err)
	}
	return waitStopped(n.PID())
}

// Continue lets a paused node run again.
func Continue(n *target.Node) error {
	if err := syscall.Kill(n.PID(), syscall.SIGCONT); err != nil {
		return fmt.Errorf("SIGCONT: %w", err)
	}
	return nil
}

// Metrics are the samples of one scrape by their whole name, labels included as they are printed.
type Metrics map[string]float64

// Scrape reads the node's metrics.
func Scrape(ctx context.Context, n *target.Node) (Metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+strings.TrimPrefix(n.Ready.HTTP, "http://")+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	m := make(Metrics)
	for s := bufio.NewScanner(resp.Body); ; {
		if !s.Scan() {
			return m, s.Err()
		}
		at := strings.LastIndexByte(s.Text(), ' ')
		if at < 0 || strings.HasPrefix(s.Text(), "#") {
			continue
		}
		if v, err := strconv.ParseFloat(s.Text()[at+1:], 64); err == nil {
			m[s.Text()[:at]] = v
		}
	}
}
