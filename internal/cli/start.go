package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// drainTimeout bounds an orderly stop: longer than a client's request may be parked.
const drainTimeout = 30 * time.Second

// readyLine is what -o json prints when the nodes serve.
type readyLine struct {
	Ready   bool     `json:"ready"`
	Kafka   []string `json:"kafka"`
	HTTP    string   `json:"http"`
	ReadyMs int64    `json:"ready_ms"`
}

func (a *app) devCommand() *cobra.Command {
	r := StartRequest{Mode: ModeDev}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run brokers and ensemble in this terminal, for development",
		Long: `Run brokers and the ensemble in this process, reachable from this machine only.
The data stay in ./kalda-data and the next start finds them again.

Ctrl-C drains and stops; a second Ctrl-C stops at once.`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.IntVar(&r.Brokers, "brokers", 1, "`N` brokers")
	f.StringVar(&r.DataDir, "data", "kalda-data", "`DIR` of the data")
	f.BoolVar(&r.Ephemeral, "ephemeral", false, "keep no data after the stop")
	f.StringVar(&r.KafkaAddr, "kafka", "127.0.0.1:9092", "client `ADDR` of the first broker; the next take the following ports, port 0 picks free ones")
	f.StringVar(&r.HTTPAddr, "http", "127.0.0.1:8080", "`ADDR` of metrics and health; port 0 picks a free one")
	f.StringArrayVar(&r.Set, "set", nil, "broker configuration `KEY=VALUE`")
	level := logLevelFlag(cmd)
	out := readyFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if r.Brokers < 1 {
			return usage("--brokers %d: must be at least 1", r.Brokers)
		}
		if r.Ephemeral {
			if f.Changed("data") {
				return usage("--data and --ephemeral exclude each other")
			}
			r.DataDir = ""
		}
		for name, addr := range map[string]string{"kafka": r.KafkaAddr, "http": r.HTTPAddr} {
			if err := checkListen(addr); err != nil {
				return usage("--%s %s: %v", name, addr, err)
			}
		}
		return a.serve(cmd.Context(), r, *out, level.value)
	}
	return cmd
}

func (a *app) startCommand() *cobra.Command {
	r := StartRequest{Mode: ModeStart}
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run one node of a cluster",
		Long: `Run one node with the configuration of a file, the environment (KAFKA_LOG_DIRS, KALDA_...)
and --set, the later of which wins. --check says what a start would say, and starts nothing.

SIGTERM drains and stops; a second one stops at once. SIGHUP re-reads what can be re-read.`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVarP(&r.ConfigFile, "config", "c", "", "configuration `FILE`: kalda.yaml or server.properties")
	f.StringArrayVar(&r.Set, "set", nil, "configuration `KEY=VALUE`, stronger than file and environment")
	level := logLevelFlag(cmd)
	check := f.Bool("check", false, "only check the configuration")
	out := readyFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *check {
			return a.checkConfig(config.LoadOptions{File: r.ConfigFile, Env: a.Environ, Set: r.Set}, *out)
		}
		return a.serve(cmd.Context(), r, *out, level.value)
	}
	return cmd
}

func logLevelFlag(cmd *cobra.Command) *choice {
	c := &choice{value: "info", of: []string{"debug", "info", "warn", "error"}}
	if cmd.Name() == "dev" {
		c.value = "warn" // the terminal belongs to the person; info would bury the addresses
	}
	cmd.Flags().Var(c, "log-level", "how much to log to stderr")
	completeChoice(cmd, "log-level", c)
	return c
}

// readyFlag is -o of the servers: what they print when they serve.
func readyFlag(cmd *cobra.Command) *string {
	c := &choice{value: outText, of: []string{outText, outJSON}}
	cmd.Flags().VarP(c, "output", "o", "how to say that it is ready")
	completeChoice(cmd, "output", c)
	return &c.value
}

// checkListen checks host:port of an address to listen on.
func checkListen(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("want HOST:PORT")
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("port %q is not a port", port)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("dev listens on loopback only; use 'kalda start' to serve a network")
	}
	return nil
}

// logger writes text for people and JSON for machines.
func (a *app) logger(level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // one of the words of logLevelFlag
	o := &slog.HandlerOptions{Level: l}
	if a.StderrTTY {
		return slog.New(slog.NewTextHandler(a.Stderr, o))
	}
	o.ReplaceAttr = durationWithUnit
	return slog.New(slog.NewJSONHandler(a.Stderr, o))
}

// durationWithUnit writes a duration in JSON as in text: 1.5s, not a bare number of nanoseconds.
func durationWithUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// serve starts r, says so, and runs until a signal or until the nodes fail.
func (a *app) serve(ctx context.Context, r StartRequest, out, level string) error {
	r.Env = a.Environ
	r.Logger = a.logger(level)
	for _, kv := range r.Set {
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" {
			return usage("--set %s: want KEY=VALUE", kv)
		}
	}
	run, err := a.Start(ctx, r)
	if err != nil {
		return startFailure(err, r)
	}
	if err := a.sayReady(run, r, out); err != nil {
		_ = run.Close(ctx) // the write's error is the one to tell
		return err
	}
	ended := make(chan error, 1) // 1: the waiter never blocks, whether or not it is read
	go func() { ended <- run.Wait() }()
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("the node stopped by itself")
			}
			return err
		case <-a.reload:
			if err := run.Reload(); err != nil {
				r.Logger.Error("configuration not re-read", "err", err)
			}
		case <-ctx.Done():
			return a.drain(run, ended)
		}
	}
}

// drain stops in order; a second signal or drainTimeout stops at once.
func (a *app) drain(run Running, ended <-chan error) error {
	if a.StderrTTY {
		a.note("stopping (Ctrl-C again stops at once)")
	}
	ctx, cancel := context.WithTimeout(a.hard, drainTimeout)
	defer cancel()
	err := run.Close(ctx)
	<-ended
	if context.Cause(a.hard) != nil {
		return errInterrupted
	}
	return err
}

func (a *app) sayReady(run Running, r StartRequest, out string) error {
	if out == outJSON {
		line, err := json.Marshal(readyLine{Ready: true, Kafka: run.Kafka(), HTTP: run.HTTP(), ReadyMs: run.ReadyIn().Milliseconds()})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.Stdout, "%s\n", line)
		return err
	}
	var b strings.Builder
	kafka := run.Kafka()
	fmt.Fprintf(&b, "kalda is ready (%s)\n\n", humanDuration(run.ReadyIn()))
	fmt.Fprintf(&b, "  Kafka    %s\n", strings.Join(kafka, "  "))
	if h := run.HTTP(); h != "" {
		fmt.Fprintf(&b, "  HTTP     http://%s/metrics\n", h)
	}
	if d := run.DataDir(); d != "" && !r.Ephemeral {
		fmt.Fprintf(&b, "  data     %s\n", d)
	} else {
		fmt.Fprintf(&b, "  data     gone after the stop\n")
	}
	if r.Mode == ModeDev {
		at := ""
		if len(kafka) > 0 && kafka[0] != defaultBrokers {
			at = " -b " + kafka[0]
		}
		fmt.Fprintf(&b, "\nTry in a second terminal:\n")
		fmt.Fprintf(&b, "  echo hi | kalda produce%s hello\n", at)
		fmt.Fprintf(&b, "  kalda consume%s hello -o start\n", at)
	}
	_, err := a.Stdout.Write([]byte(b.String()))
	return err
}

// startFailure adds what to do to the usual reasons why a node does not start.
func startFailure(err error, r StartRequest) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		hint := "another program listens there; choose an address with --set listeners=PLAINTEXT://HOST:PORT"
		if r.Mode == ModeDev {
			hint = "another program listens there, perhaps another 'kalda dev'; choose addresses with --kafka 127.0.0.1:0 --http 127.0.0.1:0"
		}
		return &failure{what: err.Error(), hint: hint, err: err}
	}
	if errors.Is(err, kerr.InconsistentClusterID) {
		hint := "give log.dirs another directory, or start with the ensemble (kalda.metadata) and kalda.cluster that it belongs to"
		return &failure{what: strings.TrimPrefix(reason(err), ": "), hint: hint, err: err}
	}
	if errors.Is(err, vfs.ErrLocked) {
		hint := "stop the process that uses it, or give this one another log.dirs"
		if r.Mode == ModeDev {
			hint = "stop the other 'kalda dev', or choose another directory with --data or --ephemeral"
		}
		return &failure{what: "the data directory is in use: " + err.Error(), hint: hint, code: ExitFailed, err: err}
	}
	var damage *storage.CorruptError
	if errors.As(err, &damage) {
		hint := "put that file back from a backup; 'kalda log verify --data DIR' says whether others are damaged"
		return &failure{what: strings.TrimPrefix(reason(err), ": "), hint: hint, err: err}
	}
	if vfs.DiskFailed(err) {
		hint := "the disk or its file system failed: the kernel's log (dmesg) says more; what was acknowledged is looked for at the next start"
		return &failure{what: strings.TrimPrefix(reason(err), ": "), hint: hint, err: err}
	}
	if vfs.NoSpace(err) {
		hint := "the volume is full: make room on it and start again"
		return &failure{what: strings.TrimPrefix(reason(err), ": "), hint: hint, err: err}
	}
	if errors.Is(err, os.ErrPermission) {
		return &failure{what: err.Error(), hint: "check who owns the data directory", code: ExitDenied, err: err}
	}
	return err
}
