package config

import (
	"fmt"
	"strings"
)

// SourceKind is a place that values come from; the numbers are the order of strength.
type SourceKind uint8

// The sources, weakest first.
const (
	FromDefault SourceKind = iota
	FromFile
	FromEnv
	FromSet
	FromDynamicDefault // dynamic, for all brokers
	FromDynamicBroker  // dynamic, for one broker
	FromResource       // set on the topic or group itself
)

// Source says where a value was found.
type Source struct {
	Kind SourceKind
	// File, Line and Column (both from 1) are set with FromFile.
	File         string
	Line, Column int
	// Name is the variable of FromEnv and the argument of FromSet, up to the "=".
	Name string
}

// String prints the source: file:line:column, "environment NAME", "--set NAME", ...
func (s Source) String() string {
	switch s.Kind {
	case FromFile:
		return fmt.Sprintf("%s:%d:%d", s.File, s.Line, s.Column)
	case FromEnv:
		return "environment " + s.Name
	case FromSet:
		return "--set " + s.Name
	case FromDynamicDefault:
		return "dynamic, all brokers"
	case FromDynamicBroker:
		return "dynamic, this broker"
	case FromResource:
		return "set on the resource"
	}
	return "default"
}

// Warning is something that an operator should know and that does not stop the start.
type Warning struct {
	// Keys are the keys that it is about.
	Keys []string
	At   Source
	Text string
}

// String prints place and text.
func (w Warning) String() string {
	if w.At.Kind == FromDefault {
		return w.Text
	}
	return w.At.String() + ": " + w.Text
}

// Error is one mistake in the configuration.
type Error struct {
	// Key is the key as it was written; "" for a mistake in the file's form.
	Key string
	At  Source
	// Text says what is wrong.
	Text string
	// Nearest is the known key that Key may have meant; "" if there is none.
	Nearest string
}

// Error prints the place, the mistake and the nearest name.
func (e *Error) Error() string {
	var b strings.Builder
	if e.At.Kind != FromDefault {
		b.WriteString(e.At.String() + ": ")
	}
	b.WriteString(e.Text)
	if e.Nearest != "" {
		fmt.Fprintf(&b, "; did you mean %s?", e.Nearest)
	}
	return b.String()
}

// setting is a key and value as written somewhere, before any check.
type setting struct {
	key, value string
	at         Source
}
