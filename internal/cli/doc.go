// Package cli is the command line of kalda: it reads arguments, calls a node or a
// cluster, prints what came back, and turns every failure into one line, a hint and an
// exit code.
//
//	argv --> root command --> dev, start          --> StartFunc (a node in this process)
//	                     \--> topic, group, ...   --> client (kafka*.go) --> any Kafka broker
//	                                  |
//	                                  v
//	                      printer: text | wide | json | yaml on stdout
//	                      failure: "error: WHAT (NAME)" and "hint: ..." on stderr, exit code
//
// Rules that hold in every command:
//
//  1. Results go to stdout and everything else (errors, hints, notes, progress) to stderr,
//     so that a pipe carries results only.
//  2. A command that prints takes -o text|wide|json|yaml, and json and yaml show the same
//     tree. consume is the one exception: there -o is the offset and the long --output says
//     the format.
//  3. Exit codes are those of the Exit constants and of nothing else.
//  4. The first SIGINT or SIGTERM ends a command in order (drain, commit, leave the group),
//     the second one at once. A server that drained ends with 0, everything else with 130.
//  5. Nothing is registered before it works; help lists only what can be used.
//
// Only the files kafka*.go import franz-go; they give the rest of the package types of
// their own, so that kalda's own client can take its place there. How a node is started
// comes in as a StartFunc: the package imports neither node nor the root package.
package cli
