// Package wire speaks Kafka's framing: request headers, hand-written codecs of
// Produce and Fetch, glue over kmsg for all other APIs, and the Pending request that
// server and broker hand to each other.
//
//	frame      size int32 | header | body
//	request    api key int16, version int16, correlation id int32, client id (int16 string)
//	           and, where the version is flexible, tagged fields
//	response   correlation id int32 and, where flexible, tagged fields; never for ApiVersions
//
// Both directions of both messages are here: the broker decodes requests and encodes
// answers, the client and the follower do the opposite.
//
// Rules that callers rely on:
//
//  1. A message is decoded wholly before the caller sees any of it, so that nothing
//     happens for a request that does not parse. Bytes after the end are an error.
//  2. Decoded names, records and ids alias the frame; they live as long as its buffer.
//  3. A count on the wire never makes memory: what is allocated follows the elements
//     really present. Arrays end at 1,000,000 elements and tagged fields at 10,000, as
//     in Kafka 4.4. Unknown tagged fields are skipped, unsorted or repeated ones refused.
//  4. Requests that kmsg decodes are walked by CheckRequest first, because kmsg's decoders
//     trust counts. Use DecodeRequest.
//  5. Decoding into a used struct and encoding into a buffer with room allocate nothing
//     (error messages and endpoints in tagged fields, sent when something fails, excepted).
//
// What a request costs (small shared machine): 0.1 µs for the header, as much to decode a
// Produce of one partition, 40 ns for its answer.
//
// A parse error is INVALID_REQUEST, a version outside the codec's range
// UNSUPPORTED_VERSION; the server closes the connection for either.
package wire

// TagPartitionDirectory numbers the tagged field of a partition in DescribeLogDirs answers
// (v2 and later) to clients of ours: the path of its directory.
const TagPartitionDirectory = 10000

// TagDirectoryRoom numbers the tagged field of a directory in DescribeLogDirs answers that
// says, to our own tools, that its volume has little room (low) or too little for any
// record (none).
const TagDirectoryRoom = 10001

// TagPartitionCompaction numbers the tagged field of a compacted partition in
// DescribeLogDirs answers (v2 and later) to clients of ours: a PartitionCompaction as JSON.
const TagPartitionCompaction = 10002

// PartitionCompaction tells how far a partition is compacted.
type PartitionCompaction struct {
	// DirtyBytes are in segments with records that were not compacted yet, of TotalBytes.
	DirtyBytes int64 `json:"dirtyBytes"`
	TotalBytes int64 `json:"totalBytes"`
	// CleanedMs is when the last compaction began, ms since 1970; 0 for never.
	CleanedMs int64 `json:"cleanedMs,omitempty"`
	// Running: one is under way.
	Running bool `json:"running,omitempty"`
	// Uncleanable is why the partition is left alone.
	Uncleanable string `json:"uncleanable,omitempty"`
}

// TagPartitionDamage numbers the tagged field of a damaged partition in DescribeLogDirs
// answers (v2 and later) to clients of ours: a PartitionDamage as JSON.
const TagPartitionDamage = 10003

// PartitionDamage tells what is damaged on a broker's disk of a partition.
type PartitionDamage struct {
	// Segments are damaged. The rest is about the first of them.
	Segments int `json:"segments"`
	// Base is its base offset, Position the byte in its .log file where damage begins.
	Base     int64 `json:"base"`
	Position int64 `json:"position"`
	// FirstOffset to NextOffset, exclusive, cannot be read.
	FirstOffset int64 `json:"firstOffset"`
	NextOffset  int64 `json:"nextOffset"`
}
