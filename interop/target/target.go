// Package target starts and ends the broker that the foreign clients talk to.
//
// A broker is always a child process that is started like
//
//	kalda dev --data DIR --kafka ADDR --http ADDR -o json
//
// and says on standard output, in one JSON line, when it serves and where. Two programs speak that
// way: the product's own binary, and cmd/kfakenode, which puts franz-go's fake cluster behind the
// same flags. The second is the oracle: a scenario that fails on both is a mistake in the scenario.
//
// Every child is ended by its own handle: SIGTERM first, SIGKILL after a bound, and always waited for.
//
// The environment chooses:
//
//	KALDA_INTEROP_TARGET  kalda (default) or kfake
//	KALDA_BIN             a kalda binary that is already built (otherwise it is built from the checkout)
package target

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Kind names the program behind a target.
type Kind string

// The programs that can be a target.
const (
	Kalda Kind = "kalda"
	Kfake Kind = "kfake"
)

// KindFromEnv reads KALDA_INTEROP_TARGET; unset means Kalda, an unknown value is an error.
func KindFromEnv() (Kind, error) {
	switch v := os.Getenv("KALDA_INTEROP_TARGET"); v {
	case "", string(Kalda):
		return Kalda, nil
	case string(Kfake):
		return Kfake, nil
	default:
		return "", fmt.Errorf("KALDA_INTEROP_TARGET=%q: want kalda or kfake", v)
	}
}

// Binary is a program that was built and can be started any number of times.
type Binary struct {
	Kind Kind
	Path string
}

// Build builds the program of kind into dir and returns it. KALDA_BIN, if set, is taken as it is
// for Kalda. The build needs the checkout around this module.
func Build(ctx context.Context, kind Kind, dir string) (Binary, error) {
	if kind == Kalda {
		if path := os.Getenv("KALDA_BIN"); path != "" {
			abs, err := filepath.Abs(path)
			if err != nil {
				return Binary{}, fmt.Errorf("KALDA_BIN: %w", err)
			}
			if _, err := os.Stat(abs); err != nil {
				return Binary{}, fmt.Errorf("KALDA_BIN: %w", err)
			}
			return Binary{Kind: kind, Path: abs}, nil
		}
	}
	root, err := Root()
	if err != nil {
		return Binary{}, err
	}
	module, pkg := root, "./cmd/kalda"
	if kind == Kfake {
		module, pkg = filepath.Join(root, "interop"), "./cmd/kfakenode"
	}
	out := filepath.Join(dir, string(kind)+"-under-test")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return Binary{}, fmt.Errorf("go build %s in %s: %w\n%s", pkg, module, err, text)
	}
	return Binary{Kind: kind, Path: out}, nil
}

// Root returns the directory of the product's module, found upward from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/kalda-io/kalda\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("the checkout of github.com/kalda-io/kalda was not found above the working directory")
		}
		dir = up
	}
}

// Options say how a node is started. The zero value starts an ephemeral node on free ports.
type Options struct {
	DataDir      string        // "" starts with --ephemeral
	Kafka        string        // listen address, default 127.0.0.1:0
	HTTP         string        // listen address, default 127.0.0.1:0
	ReadyTimeout time.Duration // default 30 s: a loaded machine, not the product's goal
	ExtraArgs    []string      // appended as they are
}

// Node is one running child. Its methods may be called from any goroutine.
type Node struct {
	Ready Ready

	cmd    *exec.Cmd
	stderr tail
	done   chan struct{} // closed when the child is gone and waited for
	err    error         // the child's end; read only after done
}

// Ready is the line that a node prints when it serves.
type Ready struct {
	Ready   bool     `json:"ready"`
	Kafka   []string `json:"kafka"`
	HTTP    string   `json:"http"`
	ReadyMS int64    `json:"ready_ms"`
}

// Start starts a node and returns when it has said that it is ready. A child that does not say so
// in time, or says something else, is killed and its last words are part of the error.
func Start(ctx context.Context, bin Binary, o Options) (*Node, error) {
	if o.Kafka == "" {
		o.Kafka = "127.0.0.1:0"
	}
	if o.HTTP == "" {
		o.HTTP = "127.0.0.1:0"
	}
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = 30 * time.Second
	}
	args := []string{"dev", "--kafka", o.Kafka, "--http", o.HTTP, "-o", "json"}
	if o.DataDir == "" {
		args = append(args, "--ephemeral")
	} else {
		args = append(args, "--data", o.DataDir)
	}
	n := &Node{cmd: exec.Command(bin.Path, append(args, o.ExtraArgs...)...), done: make(chan struct{})}
	n.cmd.Stderr = &n.stderr
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", bin.Path, err)
	}
	type first struct {
		line string
		err  error
	}
	said := make(chan first, 1) // room for the one answer, so that the reader never waits for us
	go func() {
		r := bufio.NewReader(stdout)
		line, err := r.ReadString('\n')
		said <- first{line, err}
		// Drain what else it says, or a chatty child would block on a full pipe.
		_, _ = r.WriteTo(&n.stderr)
		n.err = n.cmd.Wait()
		close(n.done)
	}()
	timer := time.NewTimer(o.ReadyTimeout)
	defer timer.Stop()
	var why error
	select {
	case f := <-said:
		if f.err != nil {
			why = fmt.Errorf("it ended before it was ready (%w)", f.err)
			break
		}
		if err := json.Unmarshal([]byte(f.line), &n.Ready); err != nil {
			why = fmt.Errorf("its first line is not the ready line: %q: %w", f.line, err)
		} else if !n.Ready.Ready || len(n.Ready.Kafka) == 0 {
			why = fmt.Errorf("its first line does not say ready with an address: %q", f.line)
		}
	case <-timer.C:
		why = fmt.Errorf("not ready within %v", o.ReadyTimeout)
	case <-ctx.Done():
		why = ctx.Err()
	}
	if why != nil {
		n.Kill()
		return nil, fmt.Errorf("%s %s: %w\n%s", bin.Path, strings.Join(args, " "), why, n.Log())
	}
	return n, nil
}

// StartAndKill starts a node and kills it with -9 after a while, ready or not, and waits until it is
// gone: a crash in the middle of a recovery.
func StartAndKill(ctx context.Context, bin Binary, o Options, after time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, after)
	defer cancel()
	n, err := Start(ctx, bin, o)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // Start has killed it
	}
	if err != nil {
		return err
	}
	defer n.Kill()
	select {
	case <-ctx.Done():
		return nil
	case <-n.Done():
		return fmt.Errorf("the node ended by itself\n%s", n.Log())
	}
}

// Kafka returns the first broker's address, host:port.
func (n *Node) Kafka() string { return n.Ready.Kafka[0] }

// PID returns the child's process id.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Done is closed when the child is gone.
func (n *Node) Done() <-chan struct{} { return n.done }

// Kill sends SIGKILL and waits until the child is gone. Killing a child that is gone does nothing.
func (n *Node) Kill() {
	_ = n.cmd.Process.Kill() // fails only when the child is gone already
	<-n.done
}

// Stop asks the child to end with SIGTERM and kills it after bound. It reports an unclean end:
// an exit code other than 0, or that the bound was needed.
func (n *Node) Stop(bound time.Duration) error {
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-n.done:
		if n.err != nil {
			return fmt.Errorf("the node ended with %w\n%s", n.err, n.Log())
		}
		return nil
	case <-timer.C:
		n.Kill()
		return fmt.Errorf("the node did not end within %v of SIGTERM\n%s", bound, n.Log())
	}
}

// Log returns the end of what the child wrote to standard error.
func (n *Node) Log() string { return n.stderr.String() }

// tailBytes bounds what is kept of a child's words: enough for a panic with its goroutines.
const tailBytes = 64 << 10

// tail is a writer that remembers the last tailBytes written.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailBytes {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-tailBytes:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.buf) > tailBytes {
		return string(t.buf[len(t.buf)-tailBytes:])
	}
	return string(t.buf)
}
