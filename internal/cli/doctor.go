package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// check is one step on the way to a broker.
type check struct {
	// Target is whom it is about: "start address 127.0.0.1:9092", "broker 3 at b3:9092".
	Target string `json:"target"`
	// Step is name, connection, protocol, metadata or cluster.
	Step   string  `json:"step"`
	OK     bool    `json:"ok"`
	Warn   bool    `json:"warning,omitempty"`
	Detail string  `json:"detail"`
	Hint   string  `json:"hint,omitempty"`
	Millis float64 `json:"ms"`
}

// doctorReport is the answer of `doctor`.
type doctorReport struct {
	OK     bool    `json:"ok"`
	Checks []check `json:"checks"`
}

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what of a cluster this machine cannot reach, and why",
		Long: `Walk the way of a client: look up the name, connect, speak the protocol, ask for the
brokers, and then reach every broker at the address that it advertises. The exit code is 5
when no start address works and 6 when a broker cannot be reached.`,
		Args: noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := a.within(cmd.Context())
		defer cancel()
		d := &doctor{now: a.Now}
		code := d.examine(ctx, a.brokers)
		if err := context.Cause(cmd.Context()); err != nil {
			return err
		}
		r := doctorReport{OK: code == ExitOK, Checks: d.checks}
		if err := printResult(a.Stdout, *out, r, func(w io.Writer, _ bool) error { return d.print(w) }); err != nil {
			return err
		}
		switch code {
		case ExitUnreachable:
			return &failure{what: "no start address leads to a cluster", code: code}
		case ExitUnhealthy:
			return &failure{what: "this machine cannot use every broker of the cluster", code: code}
		}
		return nil
	}
	return cmd
}

// doctor collects what it finds.
type doctor struct {
	checks []check
	now    func() time.Time
}

// examine walks from the start addresses to every advertised one and returns an exit code.
func (d *doctor) examine(ctx context.Context, seeds []string) int {
	var brokers []brokerInfo
	cluster, from := "", ""
	for _, seed := range seeds {
		id, list, ok := d.walk(ctx, "start address "+seed, seed, "", advertisedBy{})
		if !ok {
			continue
		}
		if from != "" && id != cluster {
			d.add(check{Target: "start address " + seed, Step: "cluster", Detail: fmt.Sprintf("another cluster (%s) than at %s (%s)", id, from, cluster), Hint: "name only addresses of one cluster"})
		}
		if from == "" {
			cluster, from, brokers = id, seed, list
		}
	}
	if from == "" {
		return ExitUnreachable
	}
	for _, b := range brokers {
		addr := hostPort(b.Host, b.Port)
		d.walk(ctx, fmt.Sprintf("broker %d at %s", b.ID, addr), addr, cluster, advertisedBy{id: b.ID, seed: from, known: true})
	}
	for _, c := range d.checks {
		if !c.OK && !c.Warn {
			return ExitUnhealthy
		}
	}
	return ExitOK
}

// advertisedBy says whose address is looked at and where we heard of it.
type advertisedBy struct {
	id    int32
	seed  string
	known bool // false: it is a start address, which the user typed
}

func (d *doctor) add(c check) { d.checks = append(d.checks, c) }

// step runs fn, times it and books its outcome.
func (d *doctor) step(target, step string, by advertisedBy, addr string, fn func() (string, error)) bool {
	began := d.now()
	detail, err := fn()
	c := check{Target: target, Step: step, OK: err == nil, Detail: detail, Millis: float64(d.now().Sub(began).Microseconds()) / 1000}
	if err != nil {
		c.Detail = dialReason(err)
		if k := protocolError(err); k != nil {
			c.Detail = plain(k) + " (" + k.Name + ")"
		}
		c.Hint = remedy(err, addr, by)
	}
	d.add(c)
	return c.OK
}

// walk goes the way to one address. cluster is the id that must be found there; "" when
// it is not known yet.
func (d *doctor) walk(ctx context.Context, target, addr, cluster string, by advertisedBy) (id string, brokers []brokerInfo, ok bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		d.add(check{Target: target, Step: "name", Detail: err.Error(), Hint: "want HOST:PORT"})
		return "", nil, false
	}
	var addrs []string
	if !d.step(target, "name", by, addr, func() (string, error) {
		bound, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		var err error
		addrs, err = net.DefaultResolver.LookupHost(bound, host)
		return strings.Join(addrs, ", "), err
	}) {
		return "", nil, false
	}
	if by.known && onlyHere(addrs) && !onlyHereHost(by.seed) {
		d.add(check{
			Target: target, Step: "name", Warn: true,
			Detail: host + " means this machine itself, wherever it is asked",
			Hint:   fmt.Sprintf("set advertised.listeners of broker %d to an address that other machines reach", by.id),
		})
	}
	var conn net.Conn
	if !d.step(target, "connection", by, addr, func() (string, error) {
		var err error
		for _, ip := range addrs { // the first that answers, as clients do
			bound, cancel := context.WithTimeout(ctx, dialTimeout)
			conn, err = (&net.Dialer{}).DialContext(bound, "tcp", net.JoinHostPort(ip, port))
			cancel()
			if err == nil {
				return "to " + conn.RemoteAddr().String(), nil
			}
		}
		return "", err
	}) {
		return "", nil, false
	}
	defer conn.Close()
	bound, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	p := &probe{conn: conn}
	if !d.step(target, "protocol", by, addr, func() (string, error) {
		n, err := p.apiVersions(bound)
		return fmt.Sprintf("%d kinds of requests", n), err
	}) {
		return "", nil, false
	}
	if !d.step(target, "metadata", by, addr, func() (string, error) {
		var controller int32
		var err error
		if id, controller, brokers, err = p.metadata(bound); err != nil {
			return "", err
		}
		if len(brokers) == 0 {
			return "", errors.New("it names no broker")
		}
		text := fmt.Sprintf("cluster %s, %s", id, plural(int64(len(brokers)), "broker"))
		if controller >= 0 {
			text += fmt.Sprintf(", controller %d", controller)
		}
		return text, nil
	}) {
		return "", nil, false
	}
	if cluster != "" && id != cluster {
		d.add(check{Target: target, Step: "cluster", Detail: fmt.Sprintf("the broker there belongs to another cluster (%s)", id), Hint: fmt.Sprintf("the address of broker %d leads to somebody else; correct its advertised.listeners", by.id)})
		return id, brokers, false
	}
	return id, brokers, true
}

// onlyHere says whether all of the addresses are loopback ones.
func onlyHere(addrs []string) bool {
	for _, a := range addrs {
		if ip := net.ParseIP(a); ip == nil || !ip.IsLoopback() {
			return false
		}
	}
	return len(addrs) > 0
}

// onlyHereHost is onlyHere for the host of an address as it was typed.
func onlyHereHost(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "localhost" || onlyHere([]string{host}))
}

// remedy says what to do about a step that failed.
func remedy(err error, addr string, by advertisedBy) string {
	whose := "the address"
	setting := ""
	if by.known {
		whose = fmt.Sprintf("broker %d advertises it", by.id)
		setting = fmt.Sprintf("; otherwise set advertised.listeners of broker %d to an address that this machine reaches", by.id)
	}
	host, port, _ := net.SplitHostPort(addr)
	var other *errNotKafka
	var dns *net.DNSError
	switch {
	case errors.As(err, &other):
		return other.hint
	case errors.As(err, &dns) && looksLikeContainer(host):
		return "the name looks like a container's; " + whose + ": publish the port and set advertised.listeners to the host's name"
	case errors.As(err, &dns):
		return whose + ": add the name to DNS or /etc/hosts" + setting
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the machine answers but nothing listens on port " + port + ": the broker is down, or a container's port is not published" + setting
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "nobody answers: a firewall or security group that drops packets, or a wrong address" + setting
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "this machine has no route there: a VPN, or an address of a private network" + setting
	}
	return ""
}

// looksLikeContainer recognises the 12 hexadecimal digits that Docker gives as a host name.
func looksLikeContainer(host string) bool {
	if len(host) != 12 {
		return false
	}
	_, err := strconv.ParseUint(host, 16, 64)
	return err == nil
}

// print shows the checks, grouped by target.
func (d *doctor) print(w io.Writer) error {
	var b strings.Builder
	last := ""
	for _, c := range d.checks {
		if c.Target != last {
			if last != "" {
				b.WriteByte('\n')
			}
			last = c.Target
			fmt.Fprintln(&b, c.Target)
		}
		mark := "ok"
		switch {
		case c.Warn:
			mark = "warn"
		case !c.OK:
			mark = "FAIL"
		}
		fmt.Fprintf(&b, "  %-4s  %-10s  %s", mark, c.Step, c.Detail)
		if c.OK && c.Step != "name" {
			fmt.Fprintf(&b, " (%.1f ms)", c.Millis)
		}
		b.WriteByte('\n')
		if c.Hint != "" {
			fmt.Fprintf(&b, "                    hint: %s\n", c.Hint)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// hostPort joins host and port, with brackets where they are needed.
func hostPort(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
