package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// coreRooms are the rooms that hold a protocol, and the files in them that are its shell.
// Every other file of theirs is held to the rules of a core, a new one from its first day.
func coreRooms() map[string][]string {
	return map[string][]string{
		"internal/isr":        nil,
		"internal/controller": {"admin.go", "controller.go", "local.go", "registrar.go", "term.go"},
		"internal/group":      {"service.go"},
		"internal/txn":        {"service.go"},
	}
}

// isCore says whether a file is held to the rules of a core.
func isCore(f *file) bool {
	shells, room := coreRooms()[f.pkg]
	return !f.test && (f.marked() || room && !slices.Contains(shells, path.Base(f.path)))
}

// coreRefuses says why a core may not import a package; "" if it may.
func coreRefuses(imp string) string {
	switch first, _, _ := strings.Cut(imp, "/"); {
	case imp == "sync" || imp == "sync/atomic":
		return "a core has no locks"
	case first == "os" || imp == "io/fs" || imp == "io/ioutil" || imp == "path/filepath" || imp == "syscall":
		return "a core touches no files"
	case first == "net":
		return "a core touches no sockets"
	case imp == "math/rand" || imp == "math/rand/v2" || imp == "crypto/rand":
		return "chance comes into a core as an argument"
	case imp == "log" || imp == "log/slog":
		return "a core says what must happen and logs nothing"
	}
	return ""
}

// clockCalls are the functions of package time that read the clock or start a timer.
func clockCalls() []string {
	return []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}
}

func TestCores(t *testing.T) {
	n := 0
	for _, f := range sources(t) {
		if !isCore(f) {
			continue
		}
		n++
		for _, bad := range coreFaults(f) {
			t.Error(bad)
		}
	}
	t.Logf("%d files are cores", n)
}

// coreFaults lists what a core's file may not have.
func coreFaults(f *file) []string {
	var out []string
	for _, i := range f.imports() {
		if why := coreRefuses(i); why != "" {
			out = append(out, fmt.Sprintf("%s imports %s: %s", f.path, i, why))
		}
	}
	timeName := "" // under which the file knows package time
	for _, i := range f.syntax.Imports {
		if i.Path.Value == `"time"` {
			timeName = "time"
			if i.Name != nil {
				timeName = i.Name.Name
			}
		}
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, f.at(n)+": a core starts no goroutine")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && timeName != "" && x.Name == timeName && slices.Contains(clockCalls(), n.Sel.Name) {
				out = append(out, fmt.Sprintf("%s: time.%s: a core reads no clock; the time is an argument", f.at(n), n.Sel.Name))
			}
		}
		return true
	})
	return out
}

// The rule itself.
func TestCoreFaults(t *testing.T) {
	for _, c := range []struct {
		src  string
		want int
	}{
		{`package x; import "time"; func f(d time.Duration, now time.Time) time.Time { return now.Add(d) }`, 0},
		{`package x; import "time"; var t = time.Now()`, 1},
		{`package x; import clock "time"; var t = clock.Now`, 1},
		{`package x; import "sync"; var m sync.Mutex`, 1},
		{`package x; import ("net/netip"; "os/exec")`, 2},
		{`package x; func f() { go f() }`, 1},
	} {
		fset := token.NewFileSet()
		syntax, err := parser.ParseFile(fset, "x.go", c.src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if got := coreFaults(&file{path: "x.go", syntax: syntax, fset: fset}); len(got) != c.want {
			t.Errorf("%s: %q, want %d", c.src, got, c.want)
		}
	}
}

func TestIsCore(t *testing.T) {
	empty := &ast.File{}
	for _, c := range []struct {
		path string
		test bool
		want bool
	}{
		{"internal/isr/isr.go", false, true},
		{"internal/isr/isr_test.go", true, false},
		{"internal/controller/plan.go", false, true},
		{"internal/controller/term.go", false, false},
		{"internal/group/new.go", false, true},
		{"internal/group/service.go", false, false},
		{"internal/storage/log.go", false, false},
	} {
		if got := isCore(&file{path: c.path, pkg: path.Dir(c.path), test: c.test, syntax: empty}); got != c.want {
			t.Errorf("%s: %v", c.path, got)
		}
	}
}

// Marks are found, and only as a line of their own.
func TestMarked(t *testing.T) {
	for src, want := range map[string]bool{
		"package x\n\n//kalda:core\n":             true,
		"//kalda:core\n\npackage x\n":             true,
		"package x\n\n// see //kalda:core now\n":  false,
		"package x\n\nvar s = \"//kalda:core\"\n": false,
	} {
		fset := token.NewFileSet()
		syntax, err := parser.ParseFile(fset, "x.go", src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&file{syntax: syntax, fset: fset}).marked(); got != want {
			t.Errorf("%q: %v", src, got)
		}
	}
}
