// Package storage is the partition log: append-only segment files with their indexes,
// recovery, retention, truncation, the state of idempotent producers and the leader-epoch
// cache. It is synchronous. It starts no goroutine and reads no clock; times come as
// arguments. Its owner decides when to write, to sync and to clean.
//
//	<dir>/                         one Dir
//	  lock meta.properties run.meta clean checkpoints scrub
//	  journal/<n>.journal          small durable writes of all logs
//	  parts/<topic id>-<n>/        one Log
//	    00000000000000000000.log .index .timeindex .sums      a closed segment
//	    00000000000000004711.log .index .timeindex            the active segment
//	    00000000000000004711.producers .snapshot              producers at that offset
//	    leader-epoch-checkpoint
//	    cleaned                                               how far it is compacted
//
//	log start       flushed           end          staged end
//	    |--- synced ----|--- written ---|--- in memory ---|
//	    [======== readers see =========)
//
// A batch on its way: Append gives it offsets and an epoch and stages it; Write puts all
// that is staged into the file with one write; a Sync makes it durable. Cost of a small
// batch: one copy and, per Write, one pwrite, or in a busy log (tail.go) a second copy; no
// allocation. Of a read: one or two small
// preads to find the boundaries, none for a consumer that keeps up with the log end; the
// data itself is read by View, outside the owner's lock.
//
// Invariants:
//
//  1. start <= end <= staged end, and flushed <= end. Ends are exclusive: the offset of the
//     next record.
//  2. Base offsets grow from batch to batch and leader epochs never fall. Gaps between
//     offsets are legal (compaction leaves them).
//  3. Readers see only whole batches below end: what a process kill cannot take back.
//  4. Everything below FlushedOffset survives a power cut. It moves only after fdatasync
//     of every file that holds the bytes and fsync of every directory that holds a name, or
//     of the Journal that holds the bytes once more.
//  5. A failed write leaves no trace: the file is cut back to the last good batch (and the
//     cut is synced), and the producers' state is what it was. A failed sync is final: the
//     log refuses everything until it is opened again.
//  6. A clean marker never coexists with a later change: removing it is durable first.
//  7. The .log files alone are the truth. Indexes, sums, epochs and snapshots are rebuilt
//     from them, checked before they are believed, and never believed beyond the
//     recovery point.
//  8. The log start and a lowered recovery point are durable before a byte is removed.
//  9. A segment file lives until its last View and Sync let go of it, whatever roll,
//     retention, truncation or Close do meanwhile.
//  10. What a scrub found damaged in a closed segment is not read: a view ends before it.
//     Nothing else of the segment is refused, and the file is not changed.
//
// Who may call what: a Log belongs to one owner (replica.Partition) that serialises its
// calls; View.ReadAt, View.Release, Sync.Run, Compaction.Run and Scrub.Run need no lock. A
// Dir is safe for concurrent use. Left to others: validity of batches (record.Validate),
// the high watermark, who leads, when time has come to sync, to clean, to scrub or to
// close idle files.
package storage
