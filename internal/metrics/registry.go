package metrics

import (
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
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
	// reg has the metrics of the Go runtime and of the process.
	reg *prometheus.Registry
	// rows are the table, index their places by name.
	rows  []tableRow
	index map[string]int

	mu struct {
		sync.Mutex
		snapshots []func(Emit)
		// sizes are how many bytes each family had in the latest scrape.
		sizes []int
	}
}

// tableRow is a row with its labels' places sorted by name, as they are shown.
type tableRow struct {
	row
	order []int
}

// New makes a registry with the metrics of the process, of the Go runtime and of the
// build. version is the product's.
func New(version string) *Registry {
	r := &Registry{reg: prometheus.NewRegistry(), index: map[string]int{}}
	for i, w := range table() {
		order := make([]int, len(w.labels))
		for k := range order {
			order[k] = k
		}
		slices.SortFunc(order, func(a, b int) int { return strings.Compare(w.labels[a], w.labels[b]) })
		r.rows = append(r.rows, tableRow{w, order})
		r.index[w.name] = i
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
// is left out, and log, if it is not nil, gets a line per scrape that says why.
func (r *Registry) Handler(log func(msg string)) http.Handler {
	o := promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, DisableCompression: true}
	if log != nil {
		o.ErrorLog = logFunc(log)
	}
	return &handler{r: r, log: log, slots: make(chan struct{}, maxScrapes), rest: promhttp.HandlerFor(r.reg, o)}
}

// handler serves scrapes.
type handler struct {
	r   *Registry
	log func(string)
	// slots has one element for each scrape under way.
	slots chan struct{}
	rest  http.Handler
}

type logFunc func(string)

// Println implements promhttp.Logger.
func (f logFunc) Println(v ...any) { f(fmt.Sprint(v...)) }
