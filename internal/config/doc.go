// Package config is the one table of every configuration key, and all that follows from
// it: reading files, environment and flags, checking values, typed options for the rooms,
// answers to DescribeConfigs, and the reference page docs/config.md.
//
//	default < file < environment < --set < dynamic cluster-wide < dynamic per broker < topic
//
// Keys keep Kafka's names; ours start with "kalda.". Each key is honoured (some code reads
// it), ignored (one warning says what does its job here), refused (silence would weaken
// security), or not built yet (setting it is an error that says so). A name that is not in
// the table stops the start with its place and the nearest name.
//
// Invariants:
//
//  1. A key is honoured only if it is bound to a field of BrokerOptions or TopicOptions;
//     a test fails if no code outside this package reads that field.
//  2. Every value in a Config passed its key's check and is canonical: a plain number in
//     the key's own unit, a list without blanks. Units (7d, 512MiB) exist only at the door.
//  3. Every value knows where it came from.
//  4. A Config is immutable; a reload makes a new one.
//
// Any room may import this package; only node, cli and the broker's admin calls hold a
// whole Config, the others receive typed options.
package config

//go:generate go run ./gendoc ../../docs/config.md
