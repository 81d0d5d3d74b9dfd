package tidy

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// libraries are the modules that the product may import and where: a pattern for the
// file's path (path.Match), or "" for everywhere.
func libraries() map[string]string {
	return map[string]string{
		"github.com/twmb/franz-go/pkg/kmsg":   "",
		"github.com/twmb/franz-go/pkg/kbin":   "internal/wire/*.go",
		"github.com/twmb/franz-go":            "internal/cli/kafka*.go", // the client, until ours exists
		"github.com/twmb/franz-go/pkg/kadm":   "internal/cli/kafka*.go",
		"go.etcd.io":                          "internal/ensemble/*.go",
		"go.uber.org/zap":                     "internal/ensemble/*.go",
		"github.com/klauspost/compress":       "internal/record/*.go",
		"github.com/pierrec/lz4":              "internal/record/*.go",
		"github.com/spf13/cobra":              "internal/cli/*.go",
		"github.com/spf13/pflag":              "internal/cli/*.go",
		"go.yaml.in/yaml/v3":                  "",
		"github.com/magiconair/properties":    "internal/config/*.go",
		"github.com/prometheus/client_golang": "internal/metrics/*.go",
		"github.com/prometheus/client_model":  "internal/metrics/*.go",
		"github.com/xdg-go/scram":             "internal/auth/*.go",
		"github.com/golang-jwt/jwt":           "internal/auth/*.go",
		"golang.org/x/sys":                    "",
		"golang.org/x/sync":                   "",
		"golang.org/x/time":                   "",
		"golang.org/x/term":                   "internal/cli/*.go",
	}
}

// libraryOf finds the longest entry of libraries that imp belongs to.
func libraryOf(imp string) (lib, where string, ok bool) {
	for l, w := range libraries() {
		if (imp == l || strings.HasPrefix(imp, l+"/")) && len(l) > len(lib) {
			lib, where, ok = l, w, true
		}
	}
	return lib, where, ok
}

func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

func TestLibraries(t *testing.T) {
	for _, f := range sources(t) {
		for _, imp := range f.imports() {
			if standard(imp) || imp == module || strings.HasPrefix(imp, module+"/") {
				continue
			}
			// Tests may use any library, but etcd stays behind its one door.
			if f.test && (!strings.HasPrefix(imp, "go.etcd.io/") || roomOf(f.pkg) == "internal/ensemble") {
				continue
			}
			if bad := checkLibrary(f.path, imp); bad != "" {
				t.Errorf("%s imports %s: %s", f.path, imp, bad)
			}
		}
	}
}

func checkLibrary(file, imp string) string {
	_, where, ok := libraryOf(imp)
	if !ok {
		return "not among the libraries of the product; add it to internal/tidy with its reason in the commit"
	}
	if where == "" {
		return ""
	}
	if ok, _ := path.Match(where, file); !ok {
		return "only for " + where
	}
	return ""
}

func TestCheckLibrary(t *testing.T) {
	for _, c := range []struct {
		file, imp string
		ok        bool
	}{
		{"internal/cli/kafka.go", "github.com/twmb/franz-go/pkg/kgo", true},
		{"internal/cli/kafka_admin.go", "github.com/twmb/franz-go/pkg/kadm", true},
		{"internal/cli/topic.go", "github.com/twmb/franz-go/pkg/kgo", false},
		{"internal/broker/fetch.go", "github.com/twmb/franz-go/pkg/kmsg", true},
		{"internal/broker/fetch.go", "github.com/twmb/franz-go/pkg/kgo", false},
		{"internal/ensemble/etcd.go", "go.etcd.io/etcd/client/v3", true},
		{"internal/node/node.go", "go.etcd.io/etcd/client/v3", false},
		{"internal/node/node.go", "github.com/example/thing", false},
	} {
		if bad := checkLibrary(c.file, c.imp); (bad == "") != c.ok {
			t.Errorf("%s imports %s: %q", c.file, c.imp, bad)
		}
	}
}

// The binary holds nothing of what only tests, benchmarks and foreign clients use.
func TestBinaryDependencies(t *testing.T) {
	top := root(t)
	if _, err := os.Stat(filepath.Join(top, "cmd/kalda")); err != nil {
		t.Skip("cmd/kalda does not exist yet")
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/kalda")
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOPROXY=off")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, errs.String())
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, module+"/cmd/kalda") {
		t.Fatalf("go list answered %d packages without cmd/kalda", len(deps))
	}
	forbidden := append(nestedRequires(t, top),
		"github.com/twmb/franz-go/pkg/kfake", "github.com/cockroachdb/datadriven", "github.com/rogpeppe/go-internal",
		"pgregory.net/rapid", "go.uber.org/goleak", "github.com/spf13/viper", "github.com/knadh/koanf", "testing")
	for _, d := range deps {
		for _, no := range forbidden {
			if _, _, product := libraryOf(no); !product && (d == no || strings.HasPrefix(d, no+"/")) {
				t.Errorf("cmd/kalda depends on %s", d)
			}
		}
		if strings.HasPrefix(d, module+"/internal/tidy") || strings.HasSuffix(d, "/memnet") || strings.HasSuffix(d, "/storetest") {
			t.Errorf("cmd/kalda depends on the test helper %s", d)
		}
	}
}

// nestedRequires are the direct requirements of the modules below the root (interop,
// bench, chaos, tools and the like).
func nestedRequires(t *testing.T, top string) []string {
	t.Helper()
	mods, err := filepath.Glob(filepath.Join(top, "*", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	deep, _ := filepath.Glob(filepath.Join(top, "*", "*", "go.mod"))
	line := regexp.MustCompile(`(?m)^(?:require )?\s*([\w./-]+\.[\w./-]+) v\S+$`) // "// indirect" does not match
	var out []string
	for _, m := range append(mods, deep...) {
		b, err := os.ReadFile(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range line.FindAllStringSubmatch(string(b), -1) {
			if r[1] != module {
				out = append(out, r[1])
			}
		}
	}
	return out
}
