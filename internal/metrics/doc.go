// Package metrics names what kalda measures and serves it to Prometheus.
//
// There are two ways for a number to get in. What happens often and would be costly to
// look up afterwards (requests) is counted as it happens, through handles that are taken
// once: counting then is a few atomic additions and no allocation. All else (offsets, lag,
// sizes, members) already stands in some room's state; a snapshot function reads it when
// somebody scrapes, and nothing is paid between scrapes.
//
// Every metric is a row of the table in names.go: its name, kind, labels and help. Names
// follow Prometheus: kalda_ in front, base units (seconds, bytes) and _total of counters
// at the end.
//
// A Registry holds everything; there are no package variables, so that several nodes run
// in one process. It starts no goroutine and is safe for concurrent use.
package metrics
