// Package docs holds the pages that people read, and the tests that keep them true.
//
// The pages are Markdown: README.md is their table of contents. What they claim is tested
// from here, as far as a machine with only Go and a POSIX shell can:
//
//  1. Every command of concepts.md runs against a broker in this process, in the order of
//     the page, and prints what the page says (but for ids, addresses and durations).
//  2. concepts.ko.md has the same commands and outputs, and its own run.
//  3. Every link between pages of the repository leads somewhere, and every page is listed.
//
// A block that begins with ```console is run; lines that begin with "$ " are commands, the
// rest is what they print. ```console eventually is for commands that only look: they are
// asked again until they print it, because a group takes its time. Blocks without the word
// console are for the reader only.
//
// After a change of the program, `go test ./docs -run TestConcepts -rewrite` writes what it
// prints now into both editions; read that diff as code.
package docs
