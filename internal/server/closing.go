package server

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

// CloseReason is the class of reasons for which a connection ended; metrics count by it.
type CloseReason uint8

const (
	// CloseByClient: the client disconnected.
	CloseByClient CloseReason = iota
	// CloseByHandler: the handler answered CloseConn.
	CloseByHandler
	// CloseBadFrame: a size that no request can have.
	CloseBadFrame
	// CloseBadHeader: a request header that cannot be read, or an unknown API key.
	CloseBadHeader
	// CloseHTTP: an HTTP request on the Kafka port.
	CloseHTTP
	// CloseTLS: a TLS handshake on a plaintext listener.
	CloseTLS
	// CloseIdle: nothing happened for connections.max.idle.ms.
	CloseIdle
	// CloseStalled: the client took no answer for longer than WriteStall.
	CloseStalled
	// CloseLimit: refused, a limit on connections was reached.
	CloseLimit
	// CloseNoRequest: no request came within the time for the first one.
	CloseNoRequest
	// CloseSlowRequest: a request began and did not come to its end fast enough.
	CloseSlowRequest
	// CloseShutdown: the server stopped.
	CloseShutdown

	closeReasons = iota
)

// String returns the metric label.
func (r CloseReason) String() string {
	return [...]string{
		"client", "handler", "bad_frame", "bad_header", "http", "tls", "idle", "stalled", "limit", "no_request", "slow_request", "shutdown",
	}[r]
}

// CloseReasons returns every reason.
func CloseReasons() []CloseReason {
	all := make([]CloseReason, closeReasons)
	for i := range all {
		all[i] = CloseReason(i)
	}
	return all
}

// closing says why a connection ends. Text is logged; it is "" where the reason is not
// worth a line (a client went away, the server stops).
type closing struct {
	reason CloseReason
	text   string
}

// counters are what Stats reads.
type counters struct {
	accepted, delayed, requests, bytesIn, bytesOut atomic.Uint64
	active                                         atomic.Int64
	closes                                         [closeReasons]atomic.Uint64
}

// Stats is a snapshot of a server's counters since its start.
type Stats struct {
	// Accepted counts connections that were admitted; Active are those open now.
	Accepted uint64
	Active   int64
	// Delayed counts connections that had to wait for max.connections or
	// max.connection.creation.rate.
	Delayed uint64
	// Requests counts requests given to the handler.
	Requests uint64
	// BytesIn and BytesOut count bytes read from and written to sockets.
	BytesIn, BytesOut uint64
	// Closes counts ended and refused connections by reason; index it with a CloseReason.
	Closes [closeReasons]uint64
}

// Stats returns the counters. They are counted once per drain, so requests that run
// now may be missing.
func (s *Server) Stats() Stats {
	st := Stats{
		Accepted: s.counts.accepted.Load(),
		Active:   s.counts.active.Load(),
		Delayed:  s.counts.delayed.Load(),
		Requests: s.counts.requests.Load(),
		BytesIn:  s.counts.bytesIn.Load(),
		BytesOut: s.counts.bytesOut.Load(),
	}
	for i := range st.Closes {
		st.Closes[i] = s.counts.closes[i].Load()
	}
	return st
}

const (
	// logEvery is how often one source address may fill a log line.
	logEvery = time.Minute
	// logSources bounds the memory of closeLog: about 100 bytes each. Sources beyond it
	// share one line per minute.
	logSources = 4096
)

// closeLog writes why connections were closed, one line per source and minute, so
// that a scanner or a broken client cannot fill the disk.
type closeLog struct {
	logger *slog.Logger
	clock  model.Clock

	mu struct {
		sync.Mutex
		sources map[string]*sourceLog
		swept   time.Duration // when old sources were last thrown out
	}
}

type sourceLog struct {
	at     time.Duration // of the last line
	hidden int           // closed since without a line
}

func newCloseLog(logger *slog.Logger, clock model.Clock) *closeLog {
	l := &closeLog{logger: logger, clock: clock}
	l.mu.sources = map[string]*sourceLog{}
	return l
}

// note logs a closing unless its source had its line already.
func (l *closeLog) note(source string, remote net.Addr, clientID string, why *closing) {
	l.line("connection closed", source, remote, clientID, why)
}

// line logs msg under the same rule.
func (l *closeLog) line(msg, source string, remote net.Addr, clientID string, why *closing) {
	if why.text == "" {
		return
	}
	now := l.clock.Boot()
	l.mu.Lock()
	entry := l.mu.sources[source]
	if entry == nil && len(l.mu.sources) >= logSources {
		l.sweepLocked(now)
		if len(l.mu.sources) >= logSources {
			source = "" // the shared one; so there are logSources+1 at most
			entry = l.mu.sources[source]
		}
	}
	if entry != nil && now-entry.at < logEvery {
		entry.hidden++
		l.mu.Unlock()
		return
	}
	if entry == nil {
		entry = new(sourceLog)
		l.mu.sources[source] = entry
	}
	hidden := entry.hidden
	entry.at, entry.hidden = now, 0
	l.mu.Unlock()
	l.logger.Warn(msg, "remote", text(remote), "client_id", clientID, "class", why.reason.String(),
		"reason", why.text, "not_logged", hidden)
}

// text is an address as people write it: a handler that writes JSON would print its fields.
func text(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// sweepLocked forgets sources that may log again, at most once a second because it
// looks at all of them.
func (l *closeLog) sweepLocked(now time.Duration) {
	if l.mu.swept != 0 && now-l.mu.swept < time.Second {
		return
	}
	l.mu.swept = now
	for name, e := range l.mu.sources {
		if now-e.at >= logEvery {
			delete(l.mu.sources, name)
		}
	}
}
