package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/kalda-io/kalda"

// file is one Go file of the module.
type file struct {
	// path is relative to the module's root, with slashes.
	path   string
	pkg    string // directory, "." for the root
	test   bool
	text   []byte
	syntax *ast.File
	fset   *token.FileSet
}

// imports are the import paths of the file.
func (f *file) imports() []string {
	var out []string
	for _, i := range f.syntax.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		out = append(out, p)
	}
	return out
}

// at is the place of a node for messages.
func (f *file) at(n ast.Node) string {
	return f.path + ":" + strconv.Itoa(f.fset.Position(n.Pos()).Line)
}

// marked says whether the file has the comment line //kalda:core.
func (f *file) marked() bool {
	for _, g := range f.syntax.Comments {
		for _, c := range g.List {
			if strings.TrimSpace(c.Text) == "//kalda:core" {
				return true
			}
		}
	}
	return false
}

// root finds the module's directory from the test's.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatalf("no go.mod above the test: %v", err)
	return ""
}

// walk calls visit for every file of the module's tree that matters: nested modules,
// testdata and hidden directories are left out.
func walk(t *testing.T, visit func(rel string, text func() []byte)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p == top {
				return nil
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil || name == "testdata" || name == "kalda-data" || strings.HasPrefix(name, ".") {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(rel), func() []byte {
			b, err := os.ReadFile(p)
			if err != nil {
				t.Error(err)
			}
			return b
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sources parses every Go file of the module.
func sources(t *testing.T) []*file {
	t.Helper()
	var out []*file
	walk(t, func(rel string, text func() []byte) {
		if !strings.HasSuffix(rel, ".go") {
			return
		}
		f := &file{path: rel, pkg: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), text: text(), fset: token.NewFileSet()}
		var err error
		if f.syntax, err = parser.ParseFile(f.fset, rel, f.text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			t.Error(err)
			return
		}
		out = append(out, f)
	})
	if !slices.ContainsFunc(out, func(f *file) bool { return f.pkg == "internal/tidy" }) {
		t.Fatal("the walk does not find this package")
	}
	return out
}
