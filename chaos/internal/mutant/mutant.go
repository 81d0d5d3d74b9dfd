// Package mutant builds the product with one of its promises taken out, so that a proof can be seen to
// fail. The product's source is not touched and has no switch for it: single functions are replaced with
// `go build -overlay`. A function that is no longer there is an error, so that a mutant cannot quietly
// become the product.
package mutant

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kalda-io/kalda/interop/target"
)

// Change replaces the body of a function.
type Change struct {
	File string // from the root of the product's module
	Recv string // the receiver's type without a star, "" for a function
	Func string
	Body string // what stands between the braces
}

// NoDatasync returns the changes after which records reach the disk only when the kernel writes them by
// itself: fdatasync and syncfs report success and do nothing. Small files that are written once (whose
// directory this is) and names are still synced, and so is the ensemble: the node must come back, with
// less than it promised.
func NoDatasync() []Change {
	return []Change{
		// The use keeps the import.
		{File: "internal/vfs/os_linux.go", Func: "datasync", Body: "_ = unix.Fdatasync; return nil"},
		{File: "internal/vfs/os_linux.go", Func: "syncfs", Body: "return nil"},
	}
}

// Build builds the product with the changes into dir.
func Build(ctx context.Context, dir string, changes []Change) (target.Binary, error) {
	root, err := target.Root()
	if err != nil {
		return target.Binary{}, err
	}
	changed := make(map[string][]byte)
	for _, c := range changes {
		path := filepath.Join(root, c.File)
		source, ok := changed[path]
		if !ok {
			if source, err = os.ReadFile(path); err != nil {
				return target.Binary{}, err
			}
		}
		if changed[path], err = c.apply(source); err != nil {
			return target.Binary{}, err
		}
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for path, source := range changed {
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", len(overlay.Replace), filepath.Base(path)))
		if err := os.WriteFile(to, source, 0o644); err != nil {
			return target.Binary{}, err
		}
		overlay.Replace[path] = to
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return target.Binary{}, err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, text, 0o644); err != nil {
		return target.Binary{}, err
	}
	out := filepath.Join(dir, "kalda-mutant")
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", out, "./cmd/kalda")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return target.Binary{}, fmt.Errorf("build the mutant: %w\n%s", err, text)
	}
	return target.Binary{Kind: target.Kalda, Path: out}, nil
}

// apply returns the source with the change.
func (c Change) apply(source []byte) ([]byte, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, c.File, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != c.Func || receiver(f) != c.Recv || f.Body == nil {
			continue
		}
		open, end := files.Position(f.Body.Lbrace).Offset, files.Position(f.Body.Rbrace).Offset
		out := append(bytes.Clone(source[:open+1]), " "+c.Body+" "...)
		return append(out, source[end:]...), nil
	}
	return nil, fmt.Errorf("%s has no function %s.%s to replace", c.File, c.Recv, c.Func)
}

// receiver returns the name of the receiver's type, "" for a function.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return ""
	}
	t := f.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if name, ok := t.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}
