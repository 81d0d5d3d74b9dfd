package metrics

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

func scrape(t *testing.T, r *Registry) (body string, logged []string) {
	t.Helper()
	var mu sync.Mutex
	w := httptest.NewRecorder()
	r.Handler(func(s string) {
		mu.Lock()
		defer mu.Unlock()
		logged = append(logged, s)
	}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String(), logged
}

func wantLine(t *testing.T, body, line string) {
	t.Helper()
	if !slices.Contains(strings.Split(body, "\n"), line) {
		t.Errorf("no line %q in\n%s", line, body)
	}
}

func TestScrape(t *testing.T) {
	r := New("v1")
	hw := 7.0
	r.Snapshot(func(emit Emit) {
		emit(PartitionHighWatermarkOffset, hw, "a", "0")
		emit(ConnectionsClosedTotal, 12, "PLAINTEXT", "idle")
	})
	r.Snapshot(func(emit Emit) { emit(Ready, 1) })
	body, logged := scrape(t, r)
	for _, line := range []string{
		`kalda_partition_high_watermark_offset{partition="0",topic="a"} 7`,
		`# TYPE kalda_connections_closed_total counter`,
		`# TYPE kalda_partition_high_watermark_offset gauge`,
		`kalda_connections_closed_total{listener="PLAINTEXT",reason="idle"} 12`,
		`kalda_ready 1`,
	} {
		wantLine(t, body, line)
	}
	for _, part := range []string{`kalda_build_info{go_version="go`, `version="v1"} 1`, "go_goroutines ", "go_gc_heap_live_bytes "} {
		if !strings.Contains(body, part) {
			t.Errorf("no %q", part)
		}
	}
	if len(logged) > 0 {
		t.Errorf("logged %q", logged)
	}
	// Values are read at the scrape, not kept.
	hw = 8
	body, _ = scrape(t, r)
	wantLine(t, body, `kalda_partition_high_watermark_offset{partition="0",topic="a"} 8`)
}

// A wrong snapshot costs its own values only, and somebody is told.
func TestWrongSnapshot(t *testing.T) {
	for name, bad := range map[string]func(Emit){
		"unknown name": func(emit Emit) { emit("kalda_nonsense", 1) },
		"labels":       func(emit Emit) { emit(PartitionLeader, 1, "a") },
		"not UTF-8":    func(emit Emit) { emit(RequestsTotal, 1, "\xff") },
		"given twice":  func(emit Emit) { emit(Ready, 1); emit(Ready, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := New("v1")
			r.Snapshot(bad)
			r.Snapshot(func(emit Emit) { emit(Topics, 3) })
			body, logged := scrape(t, r)
			wantLine(t, body, "kalda_topics 3")
			if len(logged) == 0 {
				t.Error("nothing was logged")
			}
		})
	}
}

// Two nodes in one process do not share numbers.
func TestRegistriesAreSeparate(t *testing.T) {
	a, b := New("v1"), New("v1")
	a.Snapshot(func(emit Emit) { emit(Ready, 1) })
	body, _ := scrape(t, b)
	if strings.Contains(body, Ready) {
		t.Error("a value of one registry shows in the other")
	}
}

func TestConcurrentScrapes(t *testing.T) {
	r := New("v1")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { r.Snapshot(func(emit Emit) { emit(Connections, 1, fmt.Sprint(i)) }) })
		wg.Go(func() {
			for range 20 {
				if p := r.collect(); len(p.errs) > 0 {
					t.Error(p.errs)
				}
			}
		})
	}
	wg.Wait()
}

// The table keeps to Prometheus' conventions.
func TestNames(t *testing.T) {
	form := regexp.MustCompile(`^kalda_[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	for _, w := range table() {
		if !form.MatchString(w.name) || seen[w.name] {
			t.Errorf("name %s", w.name)
		}
		seen[w.name] = true
		if (w.kind == counter) != strings.HasSuffix(w.name, "_total") {
			t.Errorf("%s: _total is for counters", w.name)
		}
		if strings.Contains(w.name, "_ms") || strings.Contains(w.name, "milli") {
			t.Errorf("%s: want base units", w.name)
		}
		if !strings.HasSuffix(w.help, ".") {
			t.Errorf("%s: help %q", w.name, w.help)
		}
	}
}
