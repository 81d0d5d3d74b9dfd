// Package metrics names what kalda measures and serves it to Prometheus.
//
// The numbers already stand in the state of some room (offsets, sizes, connections), so a
// snapshot function reads them when somebody scrapes, and nothing is paid between scrapes.
//
// Every metric is a row of the table in names.go: its name, kind, labels and help. Names
// follow Prometheus: kalda_ in front, base units (seconds, bytes), and _total at the end of
// counters.
//
// A Registry holds everything; there are no package variables, so that several nodes run
// in one process. It starts no goroutine and is safe for concurrent use.
package metrics
