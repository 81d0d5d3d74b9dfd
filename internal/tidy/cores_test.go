package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

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
