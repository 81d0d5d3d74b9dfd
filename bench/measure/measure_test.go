package measure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		v    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(tc.v); got != tc.want {
			t.Errorf("median %v is %v, want %v", tc.v, got, tc.want)
		}
	}
}

func TestRowsAreValid(t *testing.T) {
	var names []string
	for _, r := range Rows() {
		r.Load.Addr, r.Load.Time = "x:1", time.Second
		if err := r.Load.Validate(); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		if slices.Contains(names, r.Name) || r.Text == "" {
			t.Errorf("row %q twice or without a text", r.Name)
		}
		names = append(names, r.Name)
	}
}

// The whole way with a real child process, kfake on both sides: figures are there, the
// children and their directories are gone, the table and JSON hold the row.
func TestCompare(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("CPU time of a child is read from /proc: Linux only")
	}
	repo, err := Repo()
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	kfake, err := Builder{Dir: t.TempDir(), Repo: repo}.Kfake(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range Rows() {
		if row.Name != "durable" && row.Name != "pipelined" && (!row.Apart || runtime.NumCPU() < 2) {
			continue
		}
		c, err := Compare(t.Context(), row, kfake, kfake, true, 1, 100*time.Millisecond, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if c.Faster <= 0 || c.Ours.RequestsPerSecond <= 0 || c.Theirs.P99 <= 0 || c.Ours.PeakMemory <= 0 || c.Ours.ReadyMillis <= 0 {
			t.Errorf("%+v", c)
		}
		if want := map[bool]string{true: "commit", false: "os"}[row.Durable]; c.Policy != want {
			t.Errorf("%s: policy %s", row.Name, c.Policy)
		}
		lines := 3
		if !row.Durable {
			lines++
			if c.Commit == nil || c.Commit.RequestsPerSecond <= 0 {
				t.Errorf("%s: with commit: %+v", row.Name, c.Commit)
			}
		}
		var table bytes.Buffer
		if err := Table(&table, []Comparison{c}); err != nil || strings.Count(table.String(), "\n") != lines || !strings.Contains(table.String(), row.Name) {
			t.Errorf("table %q: %v", table.String(), err)
		}
		if _, err := json.Marshal(c); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if strings.HasPrefix(f.Name(), "bench-") {
			t.Errorf("%s was left behind", f.Name())
		}
	}
	// A side that cannot start says so, with what it printed.
	bad := Side{Name: "bad", Args: []string{"sh", "-c", "echo no way >&2; exit 3"}}
	o := Rows()[0].Load
	o.Time = time.Second
	if _, err := Run(t.Context(), bad, o); err == nil || !strings.Contains(err.Error(), "no way") {
		t.Errorf("a side that ends at once: %v", err)
	}
	// Apart, it has all processors but one.
	if runtime.NumCPU() > 1 {
		bad.Args[2] = "echo $(nproc) processors >&2; exit 3"
		bad.Apart = true
		want := fmt.Sprintf("%d processors", runtime.NumCPU()-1)
		if _, err := Run(t.Context(), bad, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s: %v", want, err)
		}
	}
}
