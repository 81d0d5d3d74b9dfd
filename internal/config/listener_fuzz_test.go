package config

import (
	"strings"
	"testing"
)

// FuzzListeners: a list of listeners that is taken prints as one that means the same, and
// so do the counts of addresses and the map of protocols.
func FuzzListeners(f *testing.F) {
	for _, s := range []string{
		"PLAINTEXT://:9092", "a://[::1]:0, B://host:65535", "PLAINTEXT://h:9092,plaintext://h:1", "x://h:65536", "://h:1", "A://h", "A://[::1%eth0]:1",
		"10.0.0.1:5,[::1]:7", "::1:5", "PLAINTEXT:PLAINTEXT,b:SSL", "a:b:c", ",,",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ls, err := ParseListeners(s); err == nil {
			var parts []string
			for _, l := range ls {
				if l.Name == "" || l.Port < 0 || l.Port > 65535 {
					t.Fatalf("%+v", l)
				}
				parts = append(parts, l.String())
			}
			again, err := ParseListeners(strings.Join(parts, ","))
			if err != nil || len(again) != len(ls) {
				t.Fatalf("%q prints as %q: %v", s, parts, err)
			}
			for i := range ls {
				if ls[i] != again[i] {
					t.Fatalf("%+v became %+v", ls[i], again[i])
				}
			}
		}
		if m, err := parsePerIP(s); err == nil {
			for addr, n := range m {
				if n < 0 || addr == "" {
					t.Fatalf("%q: %d", addr, n)
				}
			}
		}
		_, _ = parseMap(s)
	})
}
