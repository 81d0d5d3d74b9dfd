package metrics

import (
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes bounds the scrapes under way at once; the others are answered 503. A scrape
// walks all partitions and groups, and two scrapers with one retry each are plenty.
const maxScrapes = 4

// Emit reports one value of a metric during a snapshot. name is a constant of this package
// and labels are its label values in the order of the table. A value for an unknown name,
// or with the wrong number of labels, shows up as a failed scrape.
type Emit func(name string, value float64, labels ...string)

// Registry holds the metrics of one node.
type Registry struct {
	reg   *prometheus.Registry
	descs map[string]desc

	mu struct {
		sync.Mutex
		snapshots []func(Emit)
	}
}

type desc struct {
	*prometheus.Desc
	kind   prometheus.ValueType
	labels int
}

// New makes a registry with the metrics of the process, of the Go runtime and of the
// build. version is the product's.
func New(version string) *Registry {
	r := &Registry{reg: prometheus.NewRegistry(), descs: map[string]desc{}}
	for _, w := range table() {
		t := prometheus.GaugeValue
		if w.kind == counter {
			t = prometheus.CounterValue
		}
		r.descs[w.name] = desc{prometheus.NewDesc(w.name, w.help, w.labels, nil), t, len(w.labels)}
	}
	r.Snapshot(func(emit Emit) { emit(BuildInfo, 1, version, runtime.Version()) })
	r.reg.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		// The full set of the runtime is over a hundred series; these tell of memory and pauses.
		collectors.NewGoCollector(
			collectors.WithGoCollectorMemStatsMetricsDisabled(),
			collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{
				Matcher: regexp.MustCompile(`^/(gc/heap/live:bytes|gc/heap/allocs:bytes|memory/classes/total:bytes|memory/classes/heap/released:bytes|sched/gomaxprocs:threads)$`),
			}),
		),
		snapshotCollector{r},
	)
	return r
}

// Snapshot adds a function that reports values at every scrape. It must be safe to call
// from several goroutines, must return soon, and must report each combination of name and
// labels at most once; no two functions may report the same one.
func (r *Registry) Snapshot(f func(Emit)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.snapshots = append(slices.Clip(r.mu.snapshots), f)
}

// Handler serves the metrics in Prometheus' text format. A value that cannot be collected
// is left out, and log, if it is not nil, gets one line per scrape that says why.
func (r *Registry) Handler(log func(msg string)) http.Handler {
	o := promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes}
	if log != nil {
		o.ErrorLog = logFunc(log)
	}
	return promhttp.HandlerFor(r.reg, o)
}

type logFunc func(string)

// Println implements promhttp.Logger.
func (f logFunc) Println(v ...any) { f(fmt.Sprint(v...)) }

// snapshotCollector calls the snapshot functions for a scrape.
type snapshotCollector struct{ r *Registry }

// Describe announces nothing: which series exist is known only when they are read.
func (c snapshotCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c snapshotCollector) Collect(ch chan<- prometheus.Metric) {
	c.r.mu.Lock()
	snapshots := c.r.mu.snapshots
	c.r.mu.Unlock()
	for _, f := range snapshots {
		f(func(name string, value float64, labels ...string) {
			d, ok := c.r.descs[name]
			if !ok || len(labels) != d.labels {
				err := fmt.Errorf("snapshot: %s with %d labels is not in the table", name, len(labels))
				ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
				return
			}
			m, err := prometheus.NewConstMetric(d.Desc, d.kind, value, labels...)
			if err != nil { // a label that is not UTF-8
				m = prometheus.NewInvalidMetric(d.Desc, err)
			}
			ch <- m
		})
	}
}
