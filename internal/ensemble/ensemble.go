// Package ensemble reaches the ensemble, which is etcd, and shows it as a meta.Store. It
// is the only package that imports etcd.
//
//	embedded   a one-member etcd inside this process: files under one directory, no
//	           listener and no socket; calls go straight into its server
//	external   somebody's etcd, through its gRPC client: etcd://a:2379,b:2379/prefix
//
// Invariants:
//
//  1. Reads are linearizable, in both modes.
//  2. A transaction without an answer is meta.ErrUnknownOutcome; every other error means
//     that it was not applied. Transactions are never sent twice by this package.
//  3. Close ends every goroutine that Open started.
//
// The embedded server's raft ticks every 10 ms and elects itself within 100 ms, so a
// single node is ready in about a tenth of a second. etcd logs through zap; here that
// becomes slog, warnings and worse only.
package ensemble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kalda-io/kalda/internal/meta"
)

// Options say where the ensemble is. Either Dir or URL is set.
type Options struct {
	// Dir is the directory of an embedded one-member ensemble; it is made if absent. One
	// process at a time may have it open.
	Dir string
	// URL is an external ensemble: etcd://host:port[,host:port...][/prefix].
	URL string
	// Log gets etcd's warnings and errors; nil drops them.
	Log *slog.Logger
	// SmallWAL makes etcd preallocate 8 MiB of log at a time instead of 64 MB, for
	// development and tests. etcd keeps that size in a variable of the whole process, so
	// the first embedded ensemble that a process opens decides for all.
	SmallWAL bool
	// DialTimeout bounds the first contact with an external ensemble; default 5 s.
	DialTimeout time.Duration
}

// Ensemble is an open ensemble.
type Ensemble struct {
	store    *store
	prefix   string
	embedded *embedded // nil when external
}

// Open starts the embedded ensemble or connects to the external one, and returns when
// it answers. ctx bounds only the opening.
func Open(ctx context.Context, opts Options) (*Ensemble, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.DialTimeout <= 0 {
		opts.DialTimeout = 5 * time.Second
	}
	switch {
	case opts.Dir != "" && opts.URL != "":
		return nil, errors.New("ensemble: both a directory and a URL are given; want one")
	case opts.Dir != "":
		return openEmbedded(ctx, opts)
	case opts.URL != "":
		return openExternal(ctx, opts)
	}
	return nil, errors.New("ensemble: neither a directory nor a URL is given")
}

// Store returns the ensemble as a meta.Store. It lives until Close.
func (e *Ensemble) Store() meta.Store { return e.store }

// Prefix is the path of the external ensemble's URL, "" when there is none: the root under which
// clusters keep their keys (meta.NewKeys).
func (e *Ensemble) Prefix() string { return e.prefix }

// Exclusive says that only this process can reach the ensemble. Whatever an exclusive
// ensemble holds under a lease when it is opened belongs to a process that is gone.
func (e *Ensemble) Exclusive() bool { return e.embedded != nil }

// Done is closed when an embedded ensemble ends: by itself, which means that
// its disk failed (its log says how), or by Close; nil when external.
func (e *Ensemble) Done() <-chan struct{} {
	if e.embedded == nil {
		return nil
	}
	return e.embedded.server.StopNotify()
}

// Close ends the connection, and the server if it is embedded. Calls that are under way
// end with an error.
func (e *Ensemble) Close() error {
	err := e.store.client.Close()
	if e.embedded != nil {
		e.embedded.close()
	}
	if errors.Is(err, context.Canceled) {
		err = nil // how a client without a connection reports a regular end
	}
	return err
}

// ParseURL splits etcd://host:port[,host:port...][/prefix]. A host without a port gets
// etcd's client port 2379.
func ParseURL(s string) (endpoints []string, prefix string, err error) {
	rest, ok := strings.CutPrefix(s, "etcd://")
	if !ok {
		return nil, "", fmt.Errorf("ensemble: %q: want etcd://host:port[,host:port...][/prefix]", s)
	}
	hosts, prefix, _ := strings.Cut(rest, "/")
	for h := range strings.SplitSeq(hosts, ",") {
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			host, port = strings.Trim(h, "[]"), "2379"
		}
		if host == "" || port == "" || strings.ContainsAny(host, " \t@?#") {
			return nil, "", fmt.Errorf("ensemble: %q: %q is not a host and port", s, h)
		}
		endpoints = append(endpoints, net.JoinHostPort(host, port))
	}
	return endpoints, strings.Trim(prefix, "/"), nil
}

// openExternal connects and refuses servers that lack fixes which the protocol needs.
func openExternal(ctx context.Context, opts Options) (*Ensemble, error) {
	endpoints, prefix, err := ParseURL(opts.URL)
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          opts.DialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		Logger:               zapLogger(opts.Log),
	})
	if err != nil {
		return nil, fmt.Errorf("ensemble %s: %w", opts.URL, err)
	}
	e := &Ensemble{store: &store{client: client, requireLeader: true}, prefix: prefix}
	if err := checkVersions(ctx, client, endpoints, opts); err != nil {
		e.Close()
		return nil, fmt.Errorf("ensemble %s: %w", opts.URL, err)
	}
	return e, nil
}

// checkVersions asks every endpoint. At least one must answer, and none that answers may
// be too old: the client may use any of them.
func checkVersions(ctx context.Context, client *clientv3.Client, endpoints []string, opts Options) error {
	var answered int
	var failed error
	for _, ep := range endpoints {
		ctx, cancel := context.WithTimeout(ctx, opts.DialTimeout)
		st, err := client.Status(ctx, ep)
		cancel()
		if err != nil {
			failed = fmt.Errorf("%s does not answer: %w", ep, err)
			opts.Log.Warn("ensemble member does not answer", "endpoint", ep, "error", err)
			continue
		}
		answered++
		if err := checkVersion(st.Version); err != nil {
			return fmt.Errorf("%s: %w", ep, err)
		}
	}
	if answered == 0 {
		return failed
	}
	return nil
}

// checkVersion refuses etcd servers that lose watch events or go back in revisions
// (etcd issues 13766, 14370, 15220, 15247, 17529, 17780, 18089, 19179): the last of the
// fixes is in 3.5.18; 3.6 and later have had all from the start.
func checkVersion(v string) error {
	var major, minor, patch int
	if _, err := fmt.Sscanf(v, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return fmt.Errorf("etcd version %q cannot be read: %w", v, err)
	}
	switch {
	case major == 3 && minor == 5 && patch >= 18, major == 3 && minor > 5, major > 3:
		return nil
	}
	return fmt.Errorf("etcd %s can lose watch events; kalda needs 3.5.18 or later", v)
}
