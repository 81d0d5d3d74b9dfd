package tidy

import (
	"fmt"
	"strings"
	"testing"
)

// rooms gives each directory its level; a directory below a room belongs to it. A package
// imports only rooms of lower levels.
func rooms() map[string]int {
	return map[string]int{
		"kerr": -1,

		"internal/model":   0,
		"internal/vfs":     0,
		"internal/metrics": 0,
		"internal/config":  0,
		"internal/wheel":   0,
		"internal/tidy":    0,

		"internal/record": 1,
		"internal/wire":   1,
		"internal/auth":   1,
		"internal/quota":  1,
		"internal/isr":    1,
		"internal/meta":   1,

		"internal/storage":     2,
		"internal/rpc":         2,
		"internal/ensemble":    2,
		"internal/controller":  2,
		"internal/coordinator": 2,
		"internal/server":      2,

		"internal/replica": 3,
		"internal/group":   3,
		"internal/txn":     3,

		"internal/broker":  4,
		"internal/console": 4,
		"internal/cli":     4,
		"client":           4,

		"internal/node": 5,
		"internal/sim":  6,

		".":         7, // the public package: kalda.Start
		"kaldatest": 8,
		"cmd":       8,
		"docs":      8,
		"examples":  8,
		"tools":     8,
	}
}

// sideways are the imports allowed between rooms of one level, each with its reason.
func sideways() map[[2]string]string {
	return map[[2]string]string{
		{"internal/wire", "internal/record"}: "Produce and Fetch carry record batches",
		{"internal/wheel", "internal/model"}: "the wheel's time is a model.Clock",
	}
}

// roomOf finds the room of a directory; "" if it has none.
func roomOf(dir string) string {
	all := rooms()
	for d := dir; ; {
		if _, ok := all[d]; ok {
			return d
		}
		i := strings.LastIndexByte(d, '/')
		if i < 0 {
			return ""
		}
		d = d[:i]
	}
}

// checkArrow says what is wrong with an import of one directory of the module by another.
func checkArrow(from, to string) error {
	a, b := roomOf(from), roomOf(to)
	switch {
	case a == "":
		return fmt.Errorf("%s has no level; give it one in internal/tidy", from)
	case b == "":
		return fmt.Errorf("%s has no level; give it one in internal/tidy", to)
	case a == b:
		return nil
	case rooms()[b] < rooms()[a]:
		return nil
	case sideways()[[2]string{a, b}] != "":
		return nil
	}
	return fmt.Errorf("%s (level %d) imports %s (level %d): arrows point down", from, rooms()[a], to, rooms()[b])
}

func TestArrows(t *testing.T) {
	for _, f := range sources(t) {
		if roomOf(f.pkg) == "" {
			t.Errorf("%s: %s has no level; give it one in internal/tidy", f.path, f.pkg)
		}
		if f.test { // a test may put together what it needs
			continue
		}
		for _, p := range f.imports() {
			if p != module && !strings.HasPrefix(p, module+"/") {
				continue
			}
			to := strings.TrimPrefix(strings.TrimPrefix(p, module), "/")
			if to == "" {
				to = "."
			}
			if err := checkArrow(f.pkg, to); err != nil {
				t.Errorf("%s: %v", f.path, err)
			}
		}
	}
}

// The rule itself: what it lets pass and what it stops.
func TestCheckArrow(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"internal/storage", "internal/record", true},
		{"internal/record", "internal/storage", false},
		{"internal/record", "kerr", true},
		{"kerr", "internal/model", false},
		{"internal/wire", "internal/record", true},
		{"internal/record", "internal/wire", false},
		{"internal/server", "internal/broker", false},
		{"internal/broker", "internal/server", true},
		{"internal/coordinator", "internal/replica", false},
		{"internal/server/memnet", "internal/wheel", true},
		{"internal/config/gendoc", "internal/config", true},
		{"internal/cli", "internal/node", false},
		{"cmd/kalda", ".", true},
		{"cmd/kalda", "internal/cli", true},
		{".", "internal/node", true},
		{"internal/node", ".", false},
		{"internal/util", "kerr", false},
	} {
		if err := checkArrow(c.from, c.to); (err == nil) != c.ok {
			t.Errorf("%s -> %s: %v", c.from, c.to, err)
		}
	}
}
