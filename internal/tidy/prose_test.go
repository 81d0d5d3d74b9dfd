package tidy

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every package says what it is for, once, and in the usual words.
func TestPackageDocs(t *testing.T) {
	type pkg struct{ name, doc, first string }
	pkgs := map[string]*pkg{}
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		p := pkgs[f.pkg]
		if p == nil {
			p = &pkg{name: f.syntax.Name.Name, first: f.path}
			pkgs[f.pkg] = p
		}
		if f.syntax.Doc == nil || strings.TrimSpace(f.syntax.Doc.Text()) == "" {
			continue
		}
		if p.doc != "" {
			t.Errorf("%s: package %s has a second package doc", f.path, p.name)
		}
		p.doc = f.syntax.Doc.Text()
	}
	for dir, p := range pkgs {
		switch {
		case p.doc == "":
			t.Errorf("%s: package %s has no package doc", p.first, p.name)
		case p.name == "main" && !strings.HasPrefix(p.doc, "Command ") && !strings.HasPrefix(p.doc, "Program "):
			t.Errorf("%s: the doc of a command begins with its name: %q", dir, firstLine(p.doc))
		case p.name != "main" && !strings.HasPrefix(p.doc, "Package "+p.name+" "):
			t.Errorf("%s: the doc begins %q, want \"Package %s ...\"", dir, firstLine(p.doc), p.name)
		}
	}
}

func firstLine(s string) string {
	l, _, _ := strings.Cut(s, "\n")
	return l
}

// Every exported type, function, method, variable and constant has a comment; members of a
// group may share the group's.
func TestExportedNamesHaveComments(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || f.syntax.Name.Name == "main" {
			continue
		}
		for _, n := range uncommented(f) {
			t.Errorf("%s: exported %s has no comment", f.at(n), n.Name)
		}
	}
}

func uncommented(f *file) []*ast.Ident {
	var out []*ast.Ident
	for _, d := range f.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !wellKnown(d) {
				out = append(out, d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() && s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
						out = append(out, s.Name)
					}
				case *ast.ValueSpec:
					for _, n := range s.Names {
						if n.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
							out = append(out, n)
						}
					}
				}
			}
		}
	}
	return out
}

// wellKnown are methods whose name says it all, because a standard interface asks for them.
func wellKnown(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"String", "Error", "Unwrap", "Len", "Less", "Swap"}, d.Name.Name)
}

// exportedReceiver is false for methods of types that no other package can name.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	x := d.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.IsExported()
		default:
			return true
		}
	}
}

// Work that is left over lives in issues, not in the text.
func TestNoNotesOfWorkLeftOver(t *testing.T) {
	notes := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)
	walk(t, func(rel string, text func() []byte) {
		if !strings.HasSuffix(rel, ".go") && !strings.HasSuffix(rel, ".md") && !strings.HasSuffix(rel, ".txt") && !strings.HasSuffix(rel, ".sh") {
			return
		}
		for i, l := range strings.Split(string(text()), "\n") {
			if m := notes.FindString(l); m != "" {
				t.Errorf("%s:%d: %s", rel, i+1, m)
			}
		}
	})
}

func TestForm(t *testing.T) {
	for _, f := range sources(t) {
		if want, err := format.Source(f.text); err != nil || !bytes.Equal(want, f.text) {
			t.Errorf("%s: not in gofmt's form (%v)", f.path, err)
		}
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init functions are not used here", f.at(fn))
			}
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
				for _, s := range g.Specs {
					if n := s.(*ast.ImportSpec).Name; n != nil && n.Name == "." {
						t.Errorf("%s: dot imports are not used here", f.at(n))
					}
				}
			}
		}
	}
}
