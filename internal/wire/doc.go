// Package wire speaks Kafka's framing: request headers, hand-written codecs of
// Produce and Fetch, glue over kmsg for all other APIs, and the Pending request that
// server and broker hand to each other.
package wire
