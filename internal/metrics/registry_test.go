package metrics

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
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
	a := r.API("Produce")
	a.Done(2*time.Millisecond, 100, 50, false)
	a.Done(3*time.Millisecond, 10, 5, true)
	hw := 7.0
	r.Snapshot(func(emit Emit) {
		emit(PartitionHighWatermark, hw, "a", "0")
		emit(TopicRecordsInTotal, 12, "a")
	})
	r.Snapshot(func(emit Emit) { emit(Ready, 1) })
	body, logged := scrape(t, r)
	for _, line := range []string{
		`kalda_requests_total{api="Produce"} 2`,
		`kalda_request_errors_total{api="Produce"} 1`,
		`kalda_request_bytes_total{api="Produce"} 110`,
		`kalda_response_bytes_total{api="Produce"} 55`,
		`kalda_request_seconds_count{api="Produce"} 2`,
		`kalda_request_seconds_bucket{api="Produce",le="0.0025"} 1`,
		`kalda_request_seconds_bucket{api="Produce",le="0.005"} 2`,
		`kalda_partition_high_watermark{partition="0",topic="a"} 7`,
		`# TYPE kalda_topic_records_in_total counter`,
		`# TYPE kalda_partition_high_watermark gauge`,
		`kalda_topic_records_in_total{topic="a"} 12`,
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
	wantLine(t, body, `kalda_partition_high_watermark{partition="0",topic="a"} 8`)
}

// A wrong snapshot costs its own values only, and somebody is told.
func TestWrongSnapshot(t *testing.T) {
	for name, bad := range map[string]func(Emit){
		"unknown name":  func(emit Emit) { emit("kalda_nonsense", 1) },
		"labels":        func(emit Emit) { emit(PartitionHighWatermark, 1, "a") },
		"not UTF-8":     func(emit Emit) { emit(TopicRecordsInTotal, 1, "\xff") },
		"given twice":   func(emit Emit) { emit(Ready, 1); emit(Ready, 0) },
		"handle metric": func(emit Emit) { emit(RequestsTotal, 1, "x") },
	} {
		t.Run(name, func(t *testing.T) {
			r := New("v1")
			r.Snapshot(bad)
			r.Snapshot(func(emit Emit) { emit(LeaderPartitions, 3) })
			body, logged := scrape(t, r)
			wantLine(t, body, "kalda_leader_partitions 3")
			if len(logged) == 0 {
				t.Error("nothing was logged")
			}
		})
	}
}

// Two nodes in one process do not share numbers.
func TestRegistriesAreSeparate(t *testing.T) {
	a, b := New("v1"), New("v1")
	a.API("Fetch").Done(0, 1, 1, false)
	body, _ := scrape(t, b)
	if strings.Contains(body, "Fetch") {
		t.Error("a request of one registry shows in the other")
	}
}

func TestConcurrentScrapes(t *testing.T) {
	r := New("v1")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { r.Snapshot(func(emit Emit) { emit(LogDirSizeBytes, 1, fmt.Sprint(i)) }) })
		wg.Go(func() {
			for range 20 {
				r.API("Fetch").Done(time.Microsecond, 1, 1, false)
				if _, err := r.reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestDoneDoesNotAllocate(t *testing.T) {
	a := New("v1").API("Produce")
	if n := testing.AllocsPerRun(100, func() { a.Done(time.Millisecond, 10, 10, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
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
