package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// lockedBuffer is a stream that tests read while a command writes; wrote gets a token
// for each write.
type lockedBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{}
}

func newLockedBuffer() *lockedBuffer { return &lockedBuffer{wrote: make(chan struct{}, 1000)} }

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrote <- struct{}{}
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// server is a running dev or start command over a fake node.
type server struct {
	out, errs *lockedBuffer
	signals   chan os.Signal
	fake      chan *fakeRunning
	code      chan int
}

func serve(t *testing.T, prepare func(*fakeRunning), args ...string) *server {
	t.Helper()
	s := &server{newLockedBuffer(), newLockedBuffer(), make(chan os.Signal, 4), make(chan *fakeRunning, 1), make(chan int, 1)}
	go func() {
		s.code <- Run(context.Background(), Env{
			Args: args, Stdin: strings.NewReader(""), Stdout: s.out, Stderr: s.errs, Signals: s.signals,
			Environ: []string{"KAFKA_LOG_RETENTION_MS=1"},
			Start: func(_ context.Context, r StartRequest) (Running, error) {
				f := newFake(r)
				if prepare != nil {
					prepare(f)
				}
				s.fake <- f
				return f, nil
			},
		})
	}()
	return s
}

func TestDevSaysItIsReadyAndDrains(t *testing.T) {
	s := serve(t, nil, "dev", "--brokers", "2", "--data", "/d")
	<-s.out.wrote
	r := (<-s.fake).r
	if r.Mode != ModeDev || r.Brokers != 2 || r.DataDir != "/d" || r.Ephemeral || r.KafkaAddr != "127.0.0.1:9092" ||
		r.HTTPAddr != "127.0.0.1:8080" || len(r.Env) != 1 || r.Logger == nil {
		t.Errorf("request %+v", r)
	}
	want := `kalda is ready (42ms)

  Kafka    127.0.0.1:9092  127.0.0.1:9093
  HTTP     http://127.0.0.1:8080/metrics
  data     /d

Try in a second terminal:
  echo hi | kalda produce hello
  kalda consume hello -o start
`
	if got := s.out.String(); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	s.signals <- syscall.SIGTERM
	if code := <-s.code; code != ExitOK {
		t.Errorf("exit code %d after a drain, want 0", code)
	}
}

func TestDevReadyLine(t *testing.T) {
	s := serve(t, nil, "dev", "--ephemeral", "-o", "json")
	<-s.out.wrote
	if r := (<-s.fake).r; !r.Ephemeral || r.DataDir != "" {
		t.Errorf("request %+v", r)
	}
	want := `{"ready":true,"kafka":["127.0.0.1:9092"],"http":"127.0.0.1:8080","ready_ms":42}` + "\n"
	if got := s.out.String(); got != want {
		t.Errorf("printed %s want %s", got, want)
	}
	s.signals <- os.Interrupt
	if code := <-s.code; code != ExitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	s := serve(t, func(f *fakeRunning) { f.slow = true }, "dev")
	<-s.out.wrote
	s.signals <- os.Interrupt
	s.signals <- os.Interrupt
	if code := <-s.code; code != ExitInterrupted {
		t.Errorf("exit code %d, want 130", code)
	}
}

func TestReloadOnHangup(t *testing.T) {
	s := serve(t, nil, "start", "-c", "kalda.yaml", "--set", "node.id=3", "--set", "log.dirs=/x")
	<-s.out.wrote
	f := <-s.fake
	if f.r.Mode != ModeStart || f.r.ConfigFile != "kalda.yaml" || strings.Join(f.r.Set, " ") != "node.id=3 log.dirs=/x" {
		t.Errorf("request %+v", f.r)
	}
	s.signals <- syscall.SIGHUP
	<-f.reloads
	s.signals <- syscall.SIGTERM
	if code := <-s.code; code != ExitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestNodeThatFailsLater(t *testing.T) {
	s := serve(t, nil, "dev")
	<-s.out.wrote
	(<-s.fake).fail <- errors.New("fsync /d: input/output error")
	if code := <-s.code; code != ExitFailed {
		t.Errorf("exit code %d", code)
	}
	if got := s.errs.String(); got != "error: fsync /d: input/output error\n" {
		t.Errorf("stderr %q", got)
	}
}

// A directory that cannot be had is told with what a person at a server can do about it.
func TestStartFailureHints(t *testing.T) {
	for _, c := range []struct {
		err  error
		mode Mode
		want string
	}{
		{kerr.With(kerr.InconsistentClusterID, "log directory /d belongs to cluster a, this node to b"), ModeStart,
			"error: log directory /d belongs to cluster a, this node to b (INCONSISTENT_CLUSTER_ID)\nhint: give log.dirs another directory,"},
		{fmt.Errorf("lock /d: %w", vfs.ErrLocked), ModeStart, "error: the data directory is in use: lock /d: locked by another process\nhint: stop the process"},
		{fmt.Errorf("lock /d: %w", vfs.ErrLocked), ModeDev, "--ephemeral\n"},
	} {
		var b strings.Builder
		code := report(&b, startFailure(c.err, StartRequest{Mode: c.mode}))
		if code != ExitFailed || !strings.Contains(b.String(), c.want) {
			t.Errorf("code %d, printed %q, want %q", code, b.String(), c.want)
		}
	}
}

// Both forms of the log say a duration with its unit, in a group as well.
func TestLoggedDurations(t *testing.T) {
	for want, terminal := range map[string]bool{
		`took=1.5s why.wait=2m0s bytes=3`:                true,
		`"took":"1.5s","why":{"wait":"2m0s"},"bytes":3}`: false,
	} {
		var b bytes.Buffer
		a := &app{Env: Env{Stderr: &b, StderrTTY: terminal}}
		a.logger("info").Info("done", "took", 1500*time.Millisecond, slog.Group("why", "wait", 2*time.Minute), "bytes", 3)
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s: want %s", b.String(), want)
		}
	}
}

func TestServerFlagsAreChecked(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"dev --brokers 0", "error: --brokers 0: must be at least 1"},
		{"dev --ephemeral --data x", "error: --data and --ephemeral exclude each other"},
		{"dev --kafka 0.0.0.0:9092", "error: --kafka 0.0.0.0:9092: dev listens on loopback only"},
		{"dev --http 8080", "error: --http 8080: want HOST:PORT"},
		{"dev --kafka 127.0.0.1:99999", `error: --kafka 127.0.0.1:99999: port "99999" is not a port`},
		{"dev extra", `error: unexpected argument "extra"`},
		{"start --set log.dirs", "error: --set log.dirs: want KEY=VALUE"},
		{"dev -o yaml", "want one of text, json"},
	} {
		s := serve(t, nil, strings.Fields(c.args)...)
		if code := <-s.code; code != ExitUsage {
			t.Errorf("%s: exit code %d, want 2", c.args, code)
		}
		if got := s.errs.String(); !strings.Contains(got, c.want) {
			t.Errorf("%s: stderr %q, want %q", c.args, got, c.want)
		}
	}
}

// In this version there is one factor that works, and the hint names it.
func TestReplicationFactorHint(t *testing.T) {
	var b strings.Builder
	report(&b, kerr.With(kerr.InvalidReplicationFactor, "factor 3 is not possible"))
	if want := "hint: leave the replication factor out or give 1"; !strings.Contains(b.String(), want) {
		t.Errorf("printed %q, want %q", b.String(), want)
	}
}
