// Package record reads, checks, stamps and builds record batches of format v2, the
// unit that producers send, logs store and consumers read.
//
//	producer's bytes --Validate--> SetBaseOffset, SetLeaderEpoch --> log, followers, consumers
//	                   (whole,      (in place, outside the CRC)        (the same bytes)
//	                    no copy)
//
//	buffer --Split--> Batch --Reader--> Record          Record --Build--> Batch
//
//	message set v0/v1, or a batch in another codec --Converter--> Batch   (a copy, off the fast path)
//
// Rules that callers rely on:
//
//  1. A Batch is only a view. Accessors trust the length, so bytes from outside go
//     through Split, Check or Validate first.
//  2. Validate sees everything that can be seen without decompressing: a batch that it
//     lets pass has one length, one magic, a right checksum and a count that matches its
//     offsets. It allocates nothing unless it refuses.
//  3. Reader never panics and never uses more memory than a small multiple of its limit,
//     whatever the bytes are. Nor does Converter.
//  4. What lies outside the CRC (base offset, length, leader epoch) may be stamped in
//     place; changing anything else needs Seal.
//
// Errors are those of package kerr, so that the broker can answer with their code.
//
// Cost, measured on a small shared machine: the checksum takes 0.05 to 0.1 CPU-seconds per
// GB and is nearly all of Validate; CheckRecords adds about 20 ns per record.
//
// Message sets of magic 0 and 1 are read by Converter alone; everything else recognises and
// refuses them. The package knows nothing of
// files, offsets' assignment or transactions; packages storage and txn do.
package record
