package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kalda-io/kalda/kerr"
)

// The exit codes of every command.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitDenied      = 4
	ExitUnreachable = 5 // also: timed out
	ExitUnhealthy   = 6
	ExitInterrupted = 130
)

// failure is an error that knows how it is shown. Commands return one when they know
// more than the error they got; every other error is shown by what kerr says about it.
type failure struct {
	what string // without the protocol's name, which comes from err
	hint string // "" when kerr's hint, if any, is the best one
	code int    // 0: by the error
	err  error  // may be nil
}

func (f *failure) Error() string {
	if f.what != "" {
		return f.what
	}
	return f.err.Error()
}
func (f *failure) Unwrap() error { return f.err }

// errInterrupted is the cause of a context that ended by a signal.
var errInterrupted = errors.New("interrupted")

// errReported is returned by a command that has already said what went wrong.
type errReported struct{ code int }

func (e errReported) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func usage(format string, args ...any) error {
	return &failure{what: fmt.Sprintf(format, args...), code: ExitUsage}
}

// failed wraps err with what was done; a nil err stays nil.
func failed(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &failure{what: fmt.Sprintf(format, args...) + reason(err), err: err}
}

// reason is the part of a message that tells the error itself; a protocol error's name
// is left to report, which puts it at the end of the line.
func reason(err error) string {
	text := err.Error()
	if k := protocolError(err); k != nil {
		text = strings.TrimSuffix(text, "("+k.Name+")")
		text = strings.ReplaceAll(text, " ("+k.Name+")", "") // of errors within errors
		text = strings.TrimSpace(strings.ReplaceAll(text, k.Name, ""))
		if text == "" || strings.HasSuffix(text, ":") {
			text += " " + plain(k)
		}
	}
	return ": " + strings.TrimSpace(text)
}

// plain is a protocol error in words: its text, or its name as a sentence.
func plain(k *kerr.Error) string {
	if k.Text != "" {
		return k.Text
	}
	return strings.ReplaceAll(strings.ToLower(k.Name), "_", " ")
}

// protocolError returns the protocol's error in err, nil if there is none.
func protocolError(err error) *kerr.Error {
	var k *kerr.Error
	if errors.As(err, &k) {
		return k
	}
	return nil
}

// exitCode says how the process ends after err.
func exitCode(err error) int {
	var f *failure
	var r errReported
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &r):
		return r.code
	case errors.As(err, &f) && f.code != 0:
		return f.code
	case errors.Is(err, errInterrupted):
		return ExitInterrupted
	}
	if k := protocolError(err); k != nil {
		return protocolExit(k)
	}
	if isUnreachable(err) || errors.Is(err, context.DeadlineExceeded) {
		return ExitUnreachable
	}
	return ExitFailed
}

// protocolExit maps an error of the protocol to an exit code.
func protocolExit(k *kerr.Error) int {
	switch k.Name {
	case "UNKNOWN_TOPIC_OR_PARTITION", "UNKNOWN_TOPIC_ID", "GROUP_ID_NOT_FOUND", "RESOURCE_NOT_FOUND",
		"UNKNOWN_MEMBER_ID", "TRANSACTIONAL_ID_NOT_FOUND", "LOG_DIR_NOT_FOUND":
		return ExitNotFound
	case "REQUEST_TIMED_OUT", "NETWORK_EXCEPTION", "BROKER_NOT_AVAILABLE", "COORDINATOR_NOT_AVAILABLE",
		"LEADER_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS":
		return ExitUnreachable
	}
	if strings.HasSuffix(k.Name, "_AUTHORIZATION_FAILED") || strings.HasSuffix(k.Name, "_AUTHENTICATION_FAILED") {
		return ExitDenied
	}
	return ExitFailed
}

// hints for errors where the command line knows what to type next.
func commandHint(k *kerr.Error) string {
	switch k.Name {
	case "GROUP_ID_NOT_FOUND":
		return "'kalda group list' shows what there is"
	case "NON_EMPTY_GROUP":
		return "stop its members first; 'kalda group describe' names them"
	case "INCONSISTENT_GROUP_PROTOCOL":
		return "the group's members use another assignor; choose it with -X partition.assignment.strategy=range"
	case "MESSAGE_TOO_LARGE":
		return "'kalda topic alter TOPIC --set max.message.bytes=2MiB' raises the limit"
	}
	return k.Hint
}

// report writes err to w in the form of every command and returns the exit code.
func report(w io.Writer, err error) int {
	code := exitCode(err)
	var r errReported
	if err == nil || errors.As(err, &r) || (code == ExitInterrupted && errors.Is(err, errInterrupted)) {
		return code
	}
	var f *failure
	what, hint := "", ""
	if errors.As(err, &f) {
		what, hint = f.Error(), f.hint
	} else {
		what = strings.TrimPrefix(reason(err), ": ")
	}
	if k := protocolError(err); k != nil {
		what = strings.TrimSuffix(what, " ("+k.Name+")") + " (" + k.Name + ")"
		if hint == "" {
			hint = commandHint(k)
		}
	}
	fmt.Fprintf(w, "error: %s\n", what)
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	return code
}
