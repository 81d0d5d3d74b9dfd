package metrics

import (
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// A scrape of ten thousand partitions takes a few buffers of the answer's size, not
// something for each line.
func TestScrapeOfManyPartitionsAllocatesLittle(t *testing.T) {
	const partitions = 10_000
	labels := make([][]string, partitions)
	for i := range labels {
		labels[i] = []string{fmt.Sprint("topic-", i/10), fmt.Sprint(i % 10)}
	}
	r := New("v1")
	r.Snapshot(func(emit Emit) {
		for i, l := range labels {
			emit(PartitionLogEndOffset, float64(i), l...)
			emit(PartitionSizeBytes, float64(100*i), l...)
		}
	})
	var size int
	scrape := func() {
		p := r.collect()
		if err := p.writeTo(io.Discard); err != nil || len(p.errs) > 0 {
			t.Fatal(err, p.errs)
		}
		size = 0
		for _, f := range p.families {
			size += len(f.buf)
		}
	}
	scrape() // the first does not know the sizes
	if n := testing.AllocsPerRun(3, scrape); n > 500 {
		t.Errorf("%v allocations for a scrape of %d partitions", n, partitions)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	scrape()
	runtime.ReadMemStats(&after)
	bytes := int64(after.TotalAlloc - before.TotalAlloc)
	if size < 2*partitions*len(PartitionLogEndOffset) || bytes > 3*int64(size) {
		t.Errorf("%d bytes allocated for an answer of %d", bytes, size)
	}
}

func TestForm(t *testing.T) {
	r := New("v1")
	r.Snapshot(func(emit Emit) {
		emit(PartitionLeader, 1, "a\\b\"c\nd", "0")
		emit(PartitionLeader, 2.5, "é", "1")
		emit(PartitionLogEndOffset, 1e15, "a", "0")
		emit(PartitionLogEndOffset, math.NaN(), "a", "1")
		emit(PartitionLogEndOffset, math.Inf(1), "a", "2")
		emit(PartitionLogEndOffset, math.Inf(-1), "a", "3")
		emit(PartitionLogEndOffset, -3, "a", "4")
	})
	body, logged := scrape(t, r)
	if len(logged) > 0 {
		t.Errorf("logged %q", logged)
	}
	for _, line := range []string{
		`kalda_partition_leader{partition="0",topic="a\\b\"c\nd"} 1`,
		`kalda_partition_leader{partition="1",topic="é"} 2.5`,
		`kalda_partition_log_end_offset{partition="0",topic="a"} 1000000000000000`,
		`kalda_partition_log_end_offset{partition="1",topic="a"} NaN`,
		`kalda_partition_log_end_offset{partition="2",topic="a"} +Inf`,
		`kalda_partition_log_end_offset{partition="3",topic="a"} -Inf`,
		`kalda_partition_log_end_offset{partition="4",topic="a"} -3`,
		`# HELP kalda_partition_leader 1 if this broker leads the partition.`,
	} {
		wantLine(t, body, line)
	}
	// A metric's lines stand together, and each metric is announced once.
	seen := map[string]bool{}
	last := ""
	for line := range strings.Lines(body) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ = strings.Cut(name, " ")
			if seen[name] {
				t.Errorf("%s comes twice", name)
			}
			seen[name], last = true, name
		} else if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, last) {
			t.Errorf("%q stands under %s", line, last)
		}
	}
}

// Lines that repeat the labels of an earlier one go, and only they.
func TestRepeatedLabels(t *testing.T) {
	r := New("v1")
	r.Snapshot(func(emit Emit) {
		for i := range 3 {
			emit(PartitionLeader, float64(i), "a", "0")
			emit(PartitionLeader, float64(i), "a", fmt.Sprint(i+1))
		}
		emit(PartitionLeader, 8, "x", "yz")
		emit(PartitionLeader, 9, "xy", "z") // other labels, though joined they are the same
	})
	body, logged := scrape(t, r)
	if len(logged) != 1 || !strings.Contains(logged[0], "given twice") {
		t.Errorf("logged %q", logged)
	}
	if n := strings.Count(body, PartitionLeader+"{"); n != 6 {
		t.Errorf("%d lines, want 6 in\n%s", n, body)
	}
	wantLine(t, body, `kalda_partition_leader{partition="0",topic="a"} 0`)
}

func TestCompressedScrape(t *testing.T) {
	r := New("v1")
	r.Snapshot(func(emit Emit) { emit(Topics, 3) })
	w := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "/metrics", nil)
	req.Header.Set("Accept-Encoding", "gzip")
	r.Handler(nil).ServeHTTP(w, req)
	if w.Header().Get("Content-Encoding") != "gzip" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("headers %v", w.Header())
	}
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	wantLine(t, string(body), "kalda_topics 3")
	if !strings.Contains(string(body), "go_goroutines ") {
		t.Error("the runtime's metrics are missing")
	}
}

// More scrapes at once than are allowed are told to come again.
func TestScrapesAtOnceAreBounded(t *testing.T) {
	r := New("v1")
	begun, end := make(chan struct{}), make(chan struct{})
	r.Snapshot(func(Emit) { begun <- struct{}{}; <-end })
	h := r.Handler(nil)
	get := func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Code
	}
	var wg sync.WaitGroup
	for range maxScrapes {
		wg.Go(func() {
			if code := get(); code != http.StatusOK {
				t.Errorf("status %d", code)
			}
		})
		<-begun
	}
	if code := get(); code != http.StatusServiceUnavailable {
		t.Errorf("status %d for one scrape too many", code)
	}
	close(end)
	wg.Wait()
}
