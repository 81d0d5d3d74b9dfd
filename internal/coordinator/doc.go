// Package coordinator runs replayed shards: state machines whose state is what one
// partition of an internal topic holds. The group and transaction coordinators are such
// machines; this package owns what they share, which is everything but the rules.
//
//	Elect ---> loading ---> serving ---> ended        (one goroutine from Elect to the end)
//	             |             |           ^
//	             |             +-- Resign, |
//	             |                 leadership lost
//	             +<-- append failed
//
//	Submit --> inbox --> Core.Step --> records --> Log.Append --> replies wait --> Release
//	                        |                                        ^
//	                        +-- replies -----------------------------+ high watermark
//
// A turn of the shard's goroutine takes the whole inbox, steps the core once for each
// call, appends all records that came out in one go and lets the replies wait until the
// high watermark has passed them. So the cost of an append is shared by all that arrived
// while the previous one ran.
//
// Invariants:
//
//  1. A reply is released only when every record that the shard appended before it, or
//     with it, is committed in the epoch of this shard. Nothing that only this memory
//     knows is ever acknowledged, not even to a reader.
//  2. Every submitted call is answered exactly once: released by the core's answer, or
//     failed. After Resign returns no new call is accepted.
//  3. The core's state is the replay of the log plus the steps whose records are in the
//     log. When an append fails the state is thrown away and loaded again.
//  4. A shard serves only after it has replayed to the log end it was elected with and
//     that end is committed.
//
// The log is an interface, because the partition lives in package replica, which this
// package does not know; node binds the two. Submit may be called from any goroutine
// and never blocks. The core is called from the shard's goroutine only and needs no lock.
package coordinator
