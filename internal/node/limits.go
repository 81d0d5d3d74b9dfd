package node

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kalda-io/kalda/internal/config"
	"github.com/kalda-io/kalda/internal/metrics"
	"github.com/kalda-io/kalda/internal/server"
)

// clientLimits bound what the clients of all listeners take together.
type clientLimits struct {
	requests    *server.Budget
	answers     *server.OutputBudget
	connections *server.ConnLimits
	// files is how many files the process may open.
	files int
}

const (
	// budgetShare is which part of the memory requests may hold, and answers as much; the
	// rest is for everything else and for the page cache.
	budgetShare = 8
	// minBudget is the least that makes sense: a few requests of common size.
	minBudget = 32 << 20
)

func (b *Broker) newClientLimits() clientLimits {
	opts := b.opts.Load()
	size := func(set int64) int64 {
		if set >= 0 {
			return max(set, 1)
		}
		return max(memoryLimit()/budgetShare, minBudget)
	}
	l := clientLimits{
		requests:    server.NewBudget(size(opts.QueuedRequestBytes)),
		answers:     server.NewOutputBudget(size(opts.QueuedResponseBytes)),
		connections: server.NewConnLimits(b.o.Clock),
	}
	l.files = fileLimit()
	l.connections.Set(connOptions(opts, l.files))
	return l
}

// connOptions are the limits on connections for a process that may open so many files.
// Logs need files, too, and one that cannot open them takes partitions offline.
func connOptions(o *config.BrokerOptions, files int) server.ConnOptions {
	c := server.ConnOptions{
		Max: o.MaxConnections, MaxListener: o.ListenerMaxConnections,
		PerIP: o.MaxConnectionsPerIP, Overrides: config.PerIP(o.MaxConnectionsOverrides),
		Rate: o.ConnectionRate, RateListener: o.ListenerConnectionRate,
	}
	if most := files / 4 * 3; c.Max > most {
		c.Max, c.MaxKey = most, fmt.Sprintf("three quarters of the files that the process may open (ulimit -n %d)", files)
	}
	return c
}

const (
	// otherFiles is what the ensemble, HTTP connections and files of a moment may take.
	otherFiles = 256
	// minLogFiles is what logs may keep open in any case.
	minLogFiles = 16
)

// logFiles is how many files the logs of this broker may keep open now: what the process
// may open, less the clients' connections; a broker beside others takes a part.
func (b *Broker) logFiles() int {
	return logFiles(b.limits.files, b.limits.connections.Open()) / (1 + len(b.o.Peers))
}

func logFiles(files, connections int) int {
	return max(files-connections-min(otherFiles, files/8), minLogFiles)
}

// fileLimit is how many files the process may open.
func fileLimit() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || r.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(r.Cur)
}

// memoryLimit is how many bytes the process may use: what GOMEMLIMIT says, the limit of
// its container, or the memory of the machine, whichever is least.
func memoryLimit() int64 {
	limit := debug.SetMemoryLimit(-1)
	for _, f := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if data, err := os.ReadFile(f); err == nil {
			if n, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64); err == nil && n > 0 {
				limit = min(limit, n)
			}
		}
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		if n := memTotal(data); n > 0 {
			limit = min(limit, n)
		}
	}
	if limit == math.MaxInt64 { // nobody says
		return budgetShare * minBudget
	}
	return limit
}

// memTotal reads the line MemTotal of /proc/meminfo, 0 if there is none.
func memTotal(meminfo []byte) int64 {
	for line := range bytes.Lines(meminfo) {
		f := bytes.Fields(line)
		if len(f) == 3 && string(f[0]) == "MemTotal:" {
			n, err := strconv.ParseInt(string(f[1]), 10, 64)
			if err == nil && n < math.MaxInt64>>10 {
				return n << 10
			}
		}
	}
	return 0
}

// serverOptions are those of the i-th listener.
func (b *Broker) serverOptions(i int) server.Options {
	opts := b.opts.Load()
	return server.Options{
		Handler:         b.handler,
		Clock:           b.o.Clock,
		Logger:          b.log,
		Listener:        opts.Listeners[i].Name,
		MaxRequestBytes: opts.SocketRequestMaxBytes,
		FirstFrameBytes: opts.FirstRequestMaxBytes,
		Serves:          b.handler.Serves,
		OutputBytes:     opts.ResponseMaxBytes,
		Requests:        b.limits.requests,
		Answers:         b.limits.answers,
		Connections:     b.limits.connections,
		IdleTimeout:     opts.ConnectionsMaxIdle,
		WriteStall:      opts.ResponseStall,
		FirstRequest:    opts.FirstRequestTime,
		RequestStall:    opts.RequestStall,
	}
}

// snapshotLimits reports what clients take of the limits.
func (b *Broker) snapshotLimits(emit metrics.Emit) {
	r := b.limits.requests.Stats()
	emit(metrics.RequestMemoryBytes, float64(r.Held))
	emit(metrics.RequestMemoryLimitBytes, float64(r.Limit))
	emit(metrics.RequestMemoryWaiting, float64(r.Waiting))
	emit(metrics.RequestMemoryWaitsTotal, float64(r.Waits))
	emit(metrics.LogOpenFiles, float64(b.files.Open()))
	emit(metrics.LogOpenFilesLimit, float64(b.logFiles()))
	limit, held := b.limits.answers.Stats()
	emit(metrics.ResponseMemoryBytes, float64(held))
	emit(metrics.ResponseMemoryLimitBytes, float64(limit))
	waiting, waits := b.limits.answers.Waits()
	emit(metrics.ResponseMemoryWaiting, float64(waiting))
	emit(metrics.ResponseMemoryWaitsTotal, float64(waits))
}
