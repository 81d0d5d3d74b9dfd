// Package server starts the broker under test as a child process, measures its CPU
// time and ends it by its own handle.
//
// A program under test prints one line of JSON when it serves, as `kalda dev -o json`
// does: {"ready":true,"kafka":["127.0.0.1:9092"],...}.
package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 5 * time.Second
)

// Process is a running broker.
type Process struct {
	// Addr is where it serves Kafka's protocol.
	Addr string
	// Ready is how long it took from the start of the process to its ready line.
	Ready time.Duration

	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan struct{}
}

// Start runs argv with env added to the environment and waits for its ready line.
func Start(ctx context.Context, argv, env []string) (*Process, error) {
	p := &Process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	go func() {
		defer close(p.done)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadBytes('\n')
			var r struct {
				Ready bool
				Kafka []string
			}
			if json.Unmarshal(line, &r) == nil && r.Ready && len(r.Kafka) > 0 {
				ready <- r.Kafka[0]
				break
			}
			if err != nil {
				break
			}
		}
		_, _ = io.Copy(io.Discard, lines)
		_ = p.cmd.Wait()
	}()
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	select {
	case p.Addr = <-ready:
		p.Ready = time.Since(begun)
		return p, nil
	case <-p.done:
		err = errors.New("it ended")
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = fmt.Errorf("it was not ready within %v", readyTimeout)
	}
	p.Stop()
	return nil, fmt.Errorf("start %s: %w\n%s", strings.Join(argv, " "), err, p.stderr.Bytes())
}

// Stop asks the process to end, kills it if it does not, and waits until it is gone.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(stopTimeout):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// CPU returns the user and system time that the process has used, in seconds, with a
// resolution of 10 ms (Linux).
func (p *Process) CPU() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold blanks; utime and stime are the 12th and 13th
	// field behind it, in ticks of 1/100 s.
	_, rest, ok := bytes.Cut(b, []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("cannot read /proc/%d/stat", p.cmd.Process.Pid)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return float64(user+system) / 100, errors.Join(err1, err2)
}

// PeakMemory returns the largest resident size so far, in bytes (Linux).
func (p *Process) PeakMemory() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmHWM")
}
