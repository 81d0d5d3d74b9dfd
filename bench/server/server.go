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

	"github.com/kalda-io/kalda/bench/affinity"
)

const (
	readyTimeout = 60 * time.Second
	// stopTimeout is enough for a broker that flushes its file system and marks ten
	// thousand logs clean on a slow disk.
	stopTimeout = 30 * time.Second
)

// Process is a running broker.
type Process struct {
	// Addr is where it serves Kafka's protocol.
	Addr string
	// HTTP is where it serves metrics, "" if it does not.
	HTTP string
	// Ready is how long it took from the start of the process to its ready line.
	Ready time.Duration

	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan struct{}
}

// Start runs argv with env added to the environment, on those processors (nil: any), and
// waits for its ready line.
func Start(ctx context.Context, argv, env []string, processors []int) (*Process, error) {
	p := &Process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := affinity.Do(processors, p.cmd.Start); err != nil {
		return nil, err
	}
	type serves struct {
		Ready bool
		Kafka []string
		HTTP  string
	}
	ready := make(chan serves, 1)
	go func() {
		defer close(p.done)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadBytes('\n')
			var r serves
			if json.Unmarshal(line, &r) == nil && r.Ready && len(r.Kafka) > 0 {
				ready <- r
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
	case r := <-ready:
		p.Addr, p.HTTP = r.Kafka[0], r.HTTP
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

// Kill ends the process at once, as kill -9 does, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Memory is what a process holds.
type Memory struct {
	// Resident is the resident size, Peak the largest so far, in bytes; of Resident, File
	// is memory that maps files (the program itself, mostly).
	Resident, Peak, File int64
	// Descriptors is the number of open files and sockets.
	Descriptors int
}

// Memory returns what the process holds now (Linux).
func (p *Process) Memory() (Memory, error) {
	var m Memory
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(b)) {
		name, v, _ := strings.Cut(line, ":")
		to, ok := map[string]*int64{"VmRSS": &m.Resident, "VmHWM": &m.Peak, "RssFile": &m.File}[name]
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
		if err != nil {
			return m, err
		}
		*to = kb << 10
	}
	if m.Resident == 0 {
		return m, errors.New("no VmRSS")
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	m.Descriptors = len(files)
	return m, err
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
	m, err := p.Memory()
	return m.Peak, err
}
