package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ofListeners says that a broker key may also be set for single listeners, with
// listener.name.NAME. in front.
func ofListeners(key string) bool {
	return slices.Contains([]string{"max.connections", "max.connection.creation.rate"}, key)
}

// listenerKey is the full name of a key of one listener.
func listenerKey(listener, key string) string {
	return "listener.name." + strings.ToUpper(listener) + "." + key
}

// perListener returns the values of a number by listener name; nil if no listener has
// its own.
func (c *Config) perListener(key string) map[string]int {
	var out map[string]int
	for name, e := range c.listener {
		rest := strings.TrimPrefix(name, "listener.name.")
		if l, ok := strings.CutSuffix(rest, "."+key); ok {
			if out == nil {
				out = map[string]int{}
			}
			out[l] = e.val.Int()
		}
	}
	return out
}

// parsePerIP reads address:count,... with IPv6 addresses bare or in brackets.
func parsePerIP(s string) (map[string]int, error) {
	var out map[string]int
	for e := range strings.SplitSeq(s, ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		i := strings.LastIndexByte(e, ':')
		if i < 0 {
			return nil, fmt.Errorf("%q is not address:count", e)
		}
		host := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(e[:i]), "["), "]")
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return nil, fmt.Errorf("%q is not an IP address; host names are not looked up", host)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(e[i+1:]), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%q: the count is not a number from 0 to 2147483647", e)
		}
		if out == nil {
			out = map[string]int{}
		}
		out[addr.Unmap().String()] = int(n)
	}
	return out, nil
}

// PerIP returns the counts of a checked BrokerOptions.MaxConnectionsOverrides by address,
// in the form in which connections report theirs.
func PerIP(overrides string) map[string]int {
	m, _ := parsePerIP(overrides)
	return m
}

func checkPerIP(s string) error {
	_, err := parsePerIP(s)
	return err
}
