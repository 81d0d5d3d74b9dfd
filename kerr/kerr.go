// Package kerr is the vocabulary of the protocol's errors: code, name, whether a retry
// can help, what happened and what to do. Any layer of kalda returns these errors
// (wrapped with what it did); only the broker turns them into codes on the wire.
//
//	if errors.Is(err, kerr.NotLeaderOrFollower) { ... }
//	code := kerr.Code(err)
package kerr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is one error of the Kafka protocol. The values in this package are the only
// ones; compare with errors.Is.
type Error struct {
	// Code is the number on the wire.
	Code int16
	// Name is Kafka's name, such as NOT_LEADER_OR_FOLLOWER.
	Name string
	// Retriable says that the same request may succeed later.
	Retriable bool
	// Text says in a few words what happened.
	Text string
	// Hint says what to do; "" when there is nothing to say.
	Hint string
}

// Error returns the text and the name.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Name
	}
	return e.Text + " (" + e.Name + ")"
}

func define(code int16, name string, retriable bool, text, hint string) *Error {
	return &Error{Code: code, Name: name, Retriable: retriable, Text: text, Hint: hint}
}

// detailed is a protocol error with a message of its own for the client.
type detailed struct {
	kind *Error
	msg  string
}

func (d *detailed) Error() string { return d.msg + " (" + d.kind.Name + ")" }
func (d *detailed) Unwrap() error { return d.kind }

// With returns an error of kind whose message, sent to clients where the protocol has
// a place for it, is the formatted text.
func With(kind *Error, format string, args ...any) error {
	return &detailed{kind: kind, msg: fmt.Sprintf(format, args...)}
}

// Of returns the protocol error in err's chain; UnknownServerError if there is none
// and err is not nil; nil for nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return UnknownServerError
}

// Code returns the wire code of err: 0 for nil, UNKNOWN_SERVER_ERROR (-1) for an error
// that holds no protocol error.
func Code(err error) int16 {
	if e := Of(err); e != nil {
		return e.Code
	}
	return 0
}

// maxMessage is the longest text that Message returns, in bytes. Details quote what clients
// sent, whose strings may be as long as a string of the protocol can be.
const maxMessage = 1000

// Message returns the text for the protocol's error message fields: the detail given to
// With where there is one, else the error's text, cut to 1000 bytes. nil for nil.
func Message(err error) *string {
	if err == nil {
		return nil
	}
	var d *detailed
	var s string
	switch {
	case errors.As(err, &d):
		s = d.msg
	default:
		s = Of(err).Text
		if s == "" {
			s = err.Error()
		}
	}
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "..."
	}
	return &s
}

// ForCode returns the error of a code; nil for 0. A code that is not in the table
// gives UnknownServerError and false.
func ForCode(code int16) (*Error, bool) {
	if code == 0 {
		return nil, true
	}
	if i := int(code) - firstCode; i >= 0 && i < len(byCode) {
		return byCode[i], true
	}
	return UnknownServerError, false
}

// All returns every error of the table in the order of codes.
func All() []*Error {
	return slices.DeleteFunc(slices.Clone(byCode[:]), func(e *Error) bool { return e == nil })
}
