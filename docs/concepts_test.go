//go:build unix

package docs

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kalda-io/kalda"
	"github.com/kalda-io/kalda/internal/cli"
)

var rewrite = flag.Bool("rewrite", false, "write what the commands print into the pages")

// TestMain lets the shell of the test run this binary as `kalda`.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "kalda" {
		os.Exit(cli.Main(func(context.Context, cli.StartRequest) (cli.Running, error) {
			return nil, errors.New("a page starts its broker in a block that is not run")
		}))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// TestConcepts runs each edition of the page against a broker of its own. With -rewrite it
// runs the first one only and writes its outputs into all.
func TestConcepts(t *testing.T) {
	if *rewrite {
		_, blocks := read(t, editions()[0])
		runBlocks(t, editions()[0], blocks)
		for _, name := range editions() {
			page, own := read(t, name)
			if len(own) != len(blocks) {
				t.Fatalf("%s has %d console blocks, want %d", name, len(own), len(blocks))
			}
			for i := range own {
				own[i].commands = blocks[i].commands
			}
			if err := os.WriteFile(name, []byte(render(page, own)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	for _, name := range editions() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, blocks := read(t, name)
			runBlocks(t, name, blocks)
		})
	}
}

// runBlocks runs the commands of a page in their order and compares what they print;
// with -rewrite it keeps what they print instead.
func runBlocks(t *testing.T, name string, blocks []block) {
	brokers := startBroker(t)
	sh := startShell(t, brokers)
	tick := time.NewTicker(100 * time.Millisecond) // between two looks at what takes its time
	defer tick.Stop()
	for i := range blocks {
		for j := range blocks[i].commands {
			c := &blocks[i].commands[j]
			got := sh.run(t, c.text)
			// 20 s: three times the longest wait of the story, a session of 6 s.
			for end := time.Now().Add(20 * time.Second); blocks[i].eventually && !same(got, c.want) && time.Now().Before(end); <-tick.C {
				got = sh.run(t, c.text)
			}
			if *rewrite {
				c.want = strings.ReplaceAll(got, brokers, "127.0.0.1:9092")
			} else if !same(got, c.want) {
				t.Fatalf("%s:%d: $ %s\ngot:\n%s\nwant:\n%s", name, c.line, c.text, got, c.want)
			}
		}
	}
}

// startBroker runs what `kalda dev --ephemeral` runs and returns its address.
func startBroker(t *testing.T) string {
	t.Helper()
	o := kalda.Options{Ephemeral: true, Kafka: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
	if !*rewrite {
		// A new group waits three seconds, as the page says. To check it we need not.
		o.Config = map[string]string{"group.initial.rebalance.delay.ms": "0"}
	}
	k, err := kalda.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return strings.Join(k.Kafka(), ",")
}

// shell is one POSIX shell that runs commands in turn, as somebody would paste them.
type shell struct {
	in  io.Writer
	out *bufio.Reader
}

// startShell starts a shell in a directory of its own with `kalda` on its path. All of it,
// with what it left in the background, ends with the test.
func startShell(t *testing.T, brokers string) *shell {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "kalda")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "KALDA_BROKERS="+brokers, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group of its own, to end all of it at once
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w // as on a terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what has ended already need not be ended
		_ = cmd.Wait()                                      // killed, as told
		_ = out.Close()
	})
	return &shell{in: in, out: bufio.NewReader(out)}
}

// run runs one line and returns all that it prints. A line that takes longer than a minute
// fails the test.
func (s *shell) run(t *testing.T, line string) string {
	t.Helper()
	const mark = "-- done --"
	if _, err := fmt.Fprintf(s.in, "%s\necho '%s'\n", line, mark); err != nil {
		t.Fatal(err)
	}
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1) // 1: the goroutine ends also when nobody waits any more
	go func() {
		var b strings.Builder
		for {
			l, err := s.out.ReadString('\n')
			if err != nil || l == mark+"\n" {
				done <- result{b.String(), err}
				return
			}
			b.WriteString(l)
		}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			t.Fatalf("$ %s\n%s\nthe shell ended: %v", line, r.text, r.err)
		}
		return r.text
	case <-time.After(time.Minute):
		t.Fatalf("$ %s\nno end after a minute", line)
		return ""
	}
}
