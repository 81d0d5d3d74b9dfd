// Package record reads, checks, stamps and builds record batches of format v2, the
// unit that producers send, logs store and consumers read.
package record
