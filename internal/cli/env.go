package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

// Mode says how the nodes of a StartRequest were asked for.
type Mode string

const (
	// ModeDev is `kalda dev`: everything in this process, loopback only.
	ModeDev Mode = "dev"
	// ModeStart is `kalda start`: one node of a real cluster.
	ModeStart Mode = "start"
)

// StartRequest is what `kalda dev` and `kalda start` ask of the product. Fields that do
// not belong to the mode are zero.
type StartRequest struct {
	// Mode says which command asked.
	Mode Mode
	// Brokers is the number of brokers (dev); at least 1.
	Brokers int
	// DataDir is where the data live (dev); "" with Ephemeral.
	DataDir string
	// Ephemeral keeps the data only as long as the process lives (dev).
	Ephemeral bool
	// KafkaAddr is the client address of the first broker (dev), host:port; the next
	// brokers take the following ports, port 0 picks free ones.
	KafkaAddr string
	// HTTPAddr is the address of console, API and metrics (dev), host:port.
	HTTPAddr string
	// ConfigFile is the file of `start -c`; "" means none.
	ConfigFile string
	// Set holds the --set key=value pairs in the order given; later ones win.
	Set []string
	// Env is the process's environment as KEY=VALUE; config reads KAFKA_* and KALDA_*.
	Env []string
	// Logger receives the nodes' log.
	Logger *slog.Logger
}

// Running is a started node or set of nodes.
type Running interface {
	// Kafka returns the client addresses, one for each broker, as host:port.
	Kafka() []string
	// HTTP returns the address of the HTTP listener, "" if there is none.
	HTTP() string
	// DataDir returns where the data live, "" if they are kept in memory only.
	DataDir() string
	// ReadyIn returns the time from the start to serving.
	ReadyIn() time.Duration
	// Wait blocks until the nodes are gone: nil after Close, else the error that ended them.
	Wait() error
	// Close drains and stops the nodes. When ctx ends first they stop at once.
	Close(ctx context.Context) error
	// Reload re-reads what can be re-read (SIGHUP).
	Reload() error
}

// StartFunc runs nodes inside this process and returns when they serve. cmd/kalda
// passes an adapter over kalda.Start.
type StartFunc func(ctx context.Context, r StartRequest) (Running, error)

// Env is the world around one run of the command line. Main fills it from the process;
// tests fill it by hand.
type Env struct {
	// Args are the arguments without the program's name.
	Args []string
	// Stdin, Stdout and Stderr are the three streams.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// StdinTTY, StdoutTTY and StderrTTY say which of them are terminals.
	StdinTTY, StdoutTTY, StderrTTY bool
	// Environ is the environment as KEY=VALUE.
	Environ []string
	// Signals delivers SIGINT, SIGTERM and SIGHUP; nil delivers none.
	Signals <-chan os.Signal
	// Start runs nodes in this process; without it dev and start are not offered.
	Start StartFunc
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Main runs the command line of this process and returns its exit code.
func Main(start StartFunc) int {
	// A reader that goes away (kalda consume ... | head) must not kill a member before it
	// left its group: with SIGPIPE delivered here, the write returns EPIPE instead.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	// Two: the polite signal and the impatient one.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	return Run(context.Background(), Env{
		Args:      os.Args[1:],
		Stdin:     os.Stdin,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		StdinTTY:  term.IsTerminal(int(os.Stdin.Fd())),
		StdoutTTY: term.IsTerminal(int(os.Stdout.Fd())),
		StderrTTY: term.IsTerminal(int(os.Stderr.Fd())),
		Environ:   os.Environ(),
		Signals:   signals,
		Start:     start,
	})
}

// lookup returns the value of an environment variable.
func (e *Env) lookup(name string) string {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		kv := e.Environ[i]
		if len(kv) > len(name) && kv[len(name)] == '=' && kv[:len(name)] == name {
			return kv[len(name)+1:]
		}
	}
	return ""
}
