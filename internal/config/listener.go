package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Listener is one entry of listeners or advertised.listeners.
type Listener struct {
	// Name is the listener's name, for example PLAINTEXT. Upper case.
	Name string
	// Host is "" for every interface. IPv6 addresses have no brackets.
	Host string
	// Port may be 0 in listeners: any free port.
	Port int
}

// Addr returns host:port for net.Listen or net.Dial.
func (l Listener) Addr() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// String prints the listener as the config file has it.
func (l Listener) String() string { return l.Name + "://" + l.Addr() }

// ParseListeners reads NAME://host:port,... Names are unique. The host may be empty.
func ParseListeners(s string) ([]Listener, error) {
	var out []Listener
	for e := range strings.SplitSeq(s, ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		name, addr, ok := strings.Cut(e, "://")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not a listener: want NAME://host:port", e)
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("%q is not a listener: want NAME://host:port", e)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q: the port is not a number from 0 to 65535", e)
		}
		l := Listener{Name: strings.ToUpper(name), Host: host, Port: int(n)}
		if slices.ContainsFunc(out, func(o Listener) bool { return o.Name == l.Name }) {
			return nil, fmt.Errorf("listener name %s occurs twice", l.Name)
		}
		out = append(out, l)
	}
	return out, nil
}

func checkListeners(s string) error {
	_, err := ParseListeners(s)
	return err
}

// parseMap reads name:value,... with names in upper case.
func parseMap(s string) (map[string]string, error) {
	m := map[string]string{}
	for e := range strings.SplitSeq(s, ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		name, v, ok := strings.Cut(e, ":")
		if !ok || name == "" || v == "" {
			return nil, fmt.Errorf("%q is not NAME:PROTOCOL", e)
		}
		m[strings.ToUpper(strings.TrimSpace(name))] = strings.ToUpper(strings.TrimSpace(v))
	}
	return m, nil
}

func checkProtocolMap(s string) error {
	m, err := parseMap(s)
	for name, p := range m {
		if !slices.Contains([]string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}, p) {
			return fmt.Errorf("%s:%s is not a security protocol", name, p)
		}
	}
	return err
}

func checkThrottled(s string) error {
	if s == "" || s == "*" {
		return nil
	}
	for e := range strings.SplitSeq(s, ",") {
		p, b, ok := strings.Cut(e, ":")
		_, err1 := strconv.ParseUint(p, 10, 31)
		_, err2 := strconv.ParseUint(b, 10, 31)
		if !ok || err1 != nil || err2 != nil {
			return fmt.Errorf("%q is not PARTITION:BROKER, nor is the value *", e)
		}
	}
	return nil
}

func checkName(s string) error {
	if s == "" || len(s) > 100 {
		return errors.New("want 1 to 100 characters")
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.') {
			return fmt.Errorf("%q holds %q: want letters, digits, '-', '_' and '.'", s, r)
		}
	}
	return nil
}

func checkMetadata(s string) error {
	if s == "embedded" {
		return nil
	}
	rest, ok := strings.CutPrefix(s, "etcd://")
	if !ok {
		return fmt.Errorf("%q: want embedded or etcd://host:port,host:port/prefix", s)
	}
	hosts, _, _ := strings.Cut(rest, "/")
	for h := range strings.SplitSeq(hosts, ",") {
		if err := checkHostPort(h); err != nil || h == "" {
			return fmt.Errorf("%q: want embedded or etcd://host:port,host:port/prefix", s)
		}
	}
	return nil
}

func checkHostPort(s string) error {
	if s == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	return nil
}
