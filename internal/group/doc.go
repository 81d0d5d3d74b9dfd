// Package group is the group coordinator: which members a consumer group has, who of
// them owns what, and how far the group has read. Its Shard is the core that package
// coordinator runs, one for each partition of __consumer_offsets.
//
//	                  first member joins
//	+-------+ -------------------------------> +--------------------+
//	| Empty |                                  | PreparingRebalance | <---+
//	+-------+ <------------------------------- +--------------------+     |
//	  ^   generation+1, nobody joined            |  all have joined, or   |  a member joins, leaves,
//	  |                                          |  rebalance timeout:    |  times out, changes its
//	  |                                          v  generation+1          |  subscription; the leader
//	  |                                        +---------------------+    |  joins again
//	  |  group deleted, or its                 | CompletingRebalance | ---+
//	  |  offsets expired                       +---------------------+    |
//	  v                                          |  the leader's SyncGroup|
//	(gone)                                       v  is in the log         |
//	                                           +--------+                 |
//	                                           | Stable | ----------------+
//	                                           +--------+
//
// Only Empty and Stable are written, as Kafka's GroupMetadata records, and offsets as
// its OffsetCommit records (docs/format/consumer-offsets.md), beside notes of ours on which
// topic a name with offsets stands for (topics.go). A coordinator that takes
// over in the middle of a rebalance starts from the last written generation; its members
// find out by UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION or REBALANCE_IN_PROGRESS and join
// again. The number of a generation that was never written may then be given once more;
// nobody owned anything in it, because assignments are answered from the log.
//
// Invariants (checkInvariants tests them after every step in tests):
//
//  1. A group's generation never falls.
//  2. In one generation every member gets one assignment and keeps it.
//  3. Every parked JoinGroup belongs to a member of a group in PreparingRebalance, every
//     parked SyncGroup to a member of a group in CompletingRebalance, at most one each.
//  4. Each instance id belongs to one member; a replaced one is fenced at once.
//  5. Every member of a group that is not Empty has a deadline.
//  6. Replaying the records gives the state that they were written from.
//
// Sketch of the hottest call, Heartbeat: two map lookups, one deadline moved in place
// without touching the timer heap, no record.
//
// Shard is called from one goroutine. Service is the door for package broker; it may be
// called from any goroutine. Authorization, topic ids, existence of topics and throttling
// stay in broker; sharding, the log and time stay in coordinator.
package group
