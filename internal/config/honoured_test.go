package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A key is honoured only if code outside this package reads the field that carries it. A
// field counts as read where its name is selected in a directory that imports this package.
func TestHonouredKeysAreRead(t *testing.T) {
	read := selectedNames(t, "../..")
	var unread []string
	check := func(key, field string) {
		if name := field[strings.LastIndexByte(field, '.')+1:]; !read[name] {
			unread = append(unread, key+" (config."+field+")")
		}
	}
	for _, b := range brokerBindings() {
		if !brokerTable.byName[b.key].fixed() {
			check(b.key, "BrokerOptions."+b.field)
		}
	}
	for _, b := range topicBindings() {
		if !topicTable.byName[b.key].fixed() {
			check("topic "+b.key, "TopicOptions."+b.field)
		}
	}
	for key, field := range listenerKeys() {
		check(key, field)
	}
	slices.Sort(unread)
	for _, u := range unread {
		t.Errorf("%s is marked honoured and no code reads it", u)
	}
}

// fixed says that a key can have one value only, which needs no reader.
func (k *Key) fixed() bool { return len(k.Valid.Values) == len(k.Later)+1 }

// selectedNames are the names x.Name that stand outside of assignments' left sides in the
// product's code, in directories that import this package.
func selectedNames(t *testing.T, root string) map[string]bool {
	type dir struct {
		imports bool
		names   map[string]bool
	}
	dirs := map[string]*dir{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			own, _ := filepath.Glob(filepath.Join(path, "go.mod"))
			self, _ := filepath.Abs(path)
			here, _ := filepath.Abs(".")
			if path != root && (len(own) > 0 || self == here || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		e := dirs[filepath.Dir(path)]
		if e == nil {
			e = &dir{names: map[string]bool{}}
			dirs[filepath.Dir(path)] = e
		}
		for _, i := range f.Imports {
			e.imports = e.imports || i.Path.Value == `"github.com/kalda-io/kalda/internal/config"`
		}
		written := map[ast.Node]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, l := range n.Lhs {
					written[l] = true
				}
			case *ast.SelectorExpr:
				if !written[n] {
					e.names[n.Sel.Name] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, d := range dirs {
		if d.imports {
			for n := range d.names {
				all[n] = true
			}
		}
	}
	return all
}
