package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kfake"
)

// TestMain lets the scripts in testdata run this test binary as `kalda`.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kalda": func() { os.Exit(Main(startFake)) },
	})
}

// TestScripts runs the client commands against a fake cluster, one for each script, or
// against `kalda dev` of the binary that KALDA_TEST_BINARY names.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			brokers := ""
			if bin := os.Getenv("KALDA_TEST_BINARY"); bin != "" {
				addr, err := startBinary(e, bin)
				if err != nil {
					return err
				}
				brokers = addr
			} else {
				c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1),
					kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
				if err != nil {
					return err
				}
				e.Defer(c.Close)
				brokers = strings.Join(c.ListenAddrs(), ",")
			}
			e.Setenv("KALDA_BROKERS", brokers)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     scriptCode,
			"waitout":  scriptWaitout,
			"waitfile": scriptWaitfile,
			"lines":    scriptLines,
			"big":      scriptBig,
		},
	})
}

// startBinary runs a node for one script and returns its address.
func startBinary(e *testscript.Env, bin string) (addr string, err error) {
	cmd := exec.Command(bin, "dev", "--ephemeral", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "-o", "json",
		"--set", "group.initial.rebalance.delay.ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	e.Defer(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // how it ends is the business of other tests
	})
	var ready struct{ Kafka []string }
	if err := json.NewDecoder(out).Decode(&ready); err != nil || len(ready.Kafka) == 0 {
		return "", fmt.Errorf("%s did not become ready: %v", bin, err)
	}
	return strings.Join(ready.Kafka, ","), nil
}

// scriptCode runs a command and wants an exit code: code 2 kalda topic.
func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// scriptWaitout runs a command again and again until its stdout has a text:
// waitout TEXT command args...
func scriptWaitout(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitout TEXT command args...")
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		// A failure is one of the states on the way; what counts is the text.
		_ = ts.Exec(args[1], args[2:]...)
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
	}
	ts.Fatalf("%q did not come", args[0])
}

// scriptWaitfile waits until a file that a background command writes has a text.
func scriptWaitfile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfile FILE TEXT")
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		// Until the command has opened it there is no file.
		b, _ := os.ReadFile(ts.MkAbs(args[0]))
		if strings.Contains(string(b), args[1]) {
			return
		}
	}
	ts.Fatalf("%q did not come", args[1])
}

// scriptLines writes a file of numbered lines: lines FILE N.
func scriptLines(ts *testscript.TestScript, neg bool, args []string) {
	var n int
	if _, err := fmt.Sscan(args[1], &n); neg || err != nil {
		ts.Fatalf("usage: lines FILE N")
	}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d:line %d\n", i%17, i)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o600))
}

// scriptBig writes three lines, the middle one of N bytes: big FILE N.
func scriptBig(ts *testscript.TestScript, neg bool, args []string) {
	var n int
	if _, err := fmt.Sscan(args[1], &n); neg || err != nil {
		ts.Fatalf("usage: big FILE N")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("before\n"+strings.Repeat("x", n)+"\nafter\n"), 0o600))
}

// fakeRunning is a node that only says that it runs.
type fakeRunning struct {
	r    StartRequest
	done chan struct{}
	fail chan error
	// slow keeps Close waiting until its context ends.
	slow    bool
	reloads chan struct{}
}

func (f *fakeRunning) Kafka() []string {
	var l []string
	for i := range max(1, f.r.Brokers) {
		l = append(l, fmt.Sprintf("127.0.0.1:%d", 9092+i))
	}
	return l
}
func (f *fakeRunning) HTTP() string           { return f.r.HTTPAddr }
func (f *fakeRunning) DataDir() string        { return f.r.DataDir }
func (f *fakeRunning) ReadyIn() time.Duration { return 42 * time.Millisecond }
func (f *fakeRunning) Reload() error {
	f.reloads <- struct{}{}
	return nil
}
func (f *fakeRunning) Wait() error {
	select {
	case <-f.done:
		return nil
	case err := <-f.fail:
		return err
	}
}
func (f *fakeRunning) Close(ctx context.Context) error {
	if f.slow {
		<-ctx.Done()
	}
	close(f.done)
	return nil
}

func newFake(r StartRequest) *fakeRunning {
	return &fakeRunning{r: r, done: make(chan struct{}), fail: make(chan error, 1), reloads: make(chan struct{}, 1)}
}

func startFake(_ context.Context, r StartRequest) (Running, error) { return newFake(r), nil }
