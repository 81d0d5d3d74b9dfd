package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	franzerr "github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/kerr"
)

// client is a connection to one cluster. It exists only after one broker has answered.
type client struct {
	cl    *kgo.Client
	adm   *kadm.Client
	dials *dialLog
}

// dialLog remembers the last failed dial of each address, so that a timeout can say
// which address it was that nobody answered at.
type dialLog struct {
	mu struct {
		sync.Mutex
		failed map[string]error
	}
}

func (d *dialLog) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	addr := net.JoinHostPort(meta.Host, fmt.Sprint(meta.Port))
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.mu.failed, addr)
		return
	}
	if d.mu.failed == nil {
		d.mu.failed = make(map[string]error)
	}
	d.mu.failed[addr] = err
}

// last returns one address that could not be dialled and why.
func (d *dialLog) last() (addr string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for a, e := range d.mu.failed {
		if addr == "" || a < addr {
			addr, err = a, e
		}
	}
	return addr, err
}

// open connects to the cluster. ctx bounds the connecting only.
func (a *app) open(ctx context.Context, opts ...kgo.Opt) (*client, error) {
	props, err := parseProperties(a.props)
	if err != nil {
		return nil, err
	}
	c := &client{dials: &dialLog{}}
	all := []kgo.Opt{
		kgo.SeedBrokers(a.brokers...),
		kgo.ClientID("kalda-cli"),
		// The name makes kalda's brokers add what only they know; see docs/format.
		kgo.SoftwareNameAndVersion("kalda-cli", softwareVersion()),
		kgo.RetryTimeout(a.timeout),
		kgo.WithHooks(c.dials),
		kgo.DisableClientMetrics(),
	}
	all = append(all, opts...)
	all = append(all, props.opts...) // -X has the last word
	if c.cl, err = kgo.NewClient(all...); err != nil {
		return nil, usage("%v", err)
	}
	c.adm = kadm.NewClient(c.cl)
	c.adm.SetTimeoutMillis(int32(min(a.timeout.Milliseconds(), 1<<30)))
	if err := c.cl.Ping(ctx); err != nil {
		c.cl.Close()
		return nil, a.cannotReach(err)
	}
	return c, nil
}

// softwareVersion is the version in the form that ApiVersions allows (KIP-511):
// letters, digits, dots and dashes, beginning and ending with a letter or digit.
func softwareVersion() string {
	v := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '-':
			return r
		}
		return '-'
	}, buildVersion().Version)
	if v = strings.Trim(v, ".-"); v == "" {
		return "dev"
	}
	return v
}

func (c *client) close() { c.cl.Close() }

// errUnreachable marks errors of the way to a broker; it is never shown.
var errUnreachable = errors.New("unreachable")

// isUnreachable says whether err is about the way to a broker, not about its answer.
func isUnreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var to interface{ Timeout() bool }
	return errors.Is(err, errUnreachable) || errors.As(err, &op) || errors.As(err, &dns) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, kgo.ErrClientClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || (errors.As(err, &to) && to.Timeout())
}

// cannotReach explains why no broker answered.
func (a *app) cannotReach(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if k := protocolError(convert(err)); k != nil {
		return failed(convert(err), "connect to %s", strings.Join(a.brokers, ","))
	}
	f := &failure{
		what: "cannot reach " + strings.Join(a.brokers, ",") + ": " + dialReason(err),
		hint: "'kalda doctor' finds out where the way ends",
		code: ExitUnreachable,
		err:  errors.Join(errUnreachable, err),
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		f.hint = "nothing listens there; 'kalda dev' starts a broker, -b HOST:PORT or KALDA_BROKERS names another one"
	}
	return f
}

// dialReason says in few words what a failed dial or a lost connection means.
func dialReason(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return "no address for the name " + dns.Name
		}
		return "looking up the name " + dns.Name + ": " + dns.Err
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection was closed before an answer came; is this a Kafka listener, and without TLS?"
	}
	return err.Error()
}

// explain turns an error of a call into the one to show: franz-go's protocol errors
// become kalda's, and a timeout names the address that could not be dialled.
func (c *client) explain(err error) error {
	if err == nil {
		return nil
	}
	// A question that goes to several brokers: the first failure stands for the others.
	var shards *kadm.ShardErrors
	if errors.As(err, &shards) && len(shards.Errs) > 0 {
		err = shards.Errs[0].Err
	}
	err = convert(err)
	if protocolError(err) != nil {
		return err
	}
	// franz-go does not export this error, so its text has to do.
	if strings.HasPrefix(err.Error(), "broker is too old") {
		return kerr.With(kerr.UnsupportedVersion, "this cluster does not offer it")
	}
	if isUnreachable(err) || errors.Is(err, context.DeadlineExceeded) {
		if addr, dial := c.dials.last(); dial != nil {
			return &failure{
				what: "cannot reach the broker at " + addr + ": " + dialReason(dial),
				hint: "the cluster advertises that address; 'kalda doctor' checks each one from here",
				code: ExitUnreachable,
				err:  errors.Join(errUnreachable, err),
			}
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return &failure{what: "no answer in time", hint: "--timeout gives it longer; 'kalda doctor' finds out where the way ends", code: ExitUnreachable, err: err}
		}
	}
	return err
}

// convert replaces a protocol error of franz-go by kalda's with the same code.
func convert(err error) error {
	var f *franzerr.Error
	if err == nil || !errors.As(err, &f) {
		return err
	}
	k, ok := kerr.ForCode(f.Code)
	if !ok {
		return err
	}
	return k
}

// convertWith is convert with the message that the broker added, if it did.
func convertWith(err error, message string) error {
	err = convert(err)
	if k := protocolError(err); k != nil && message != "" && message != k.Name {
		return kerr.With(k, "%s", message)
	}
	return err
}
