// Package interop runs foreign Kafka clients against the broker and prints what works: see
// README.md for the commands, package scenario for what is asked, package client for who is asked.
package interop
