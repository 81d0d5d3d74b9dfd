package config

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Type is the type of a key's value. The numbers are those of DescribeConfigs.
type Type int8

// The types, with the protocol's numbers (KIP-569).
const (
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3 // 32 bits
	Short    Type = 4 // 16 bits
	Long     Type = 5 // 64 bits
	Double   Type = 6
	List     Type = 7 // comma separated
	Class    Type = 8
	Password Type = 9
)

// String returns the type's name as the reference page prints it.
func (t Type) String() string {
	switch t {
	case Boolean:
		return "boolean"
	case String:
		return "string"
	case Int:
		return "int"
	case Short:
		return "short"
	case Long:
		return "long"
	case Double:
		return "double"
	case List:
		return "list"
	case Class:
		return "class"
	case Password:
		return "password"
	}
	return "unknown"
}

// Unit is what a plain number of a key counts. Values with a suffix are converted to it.
type Unit uint8

// The units of keys.
const (
	NoUnit Unit = iota
	Millis
	Seconds
	Minutes
	Hours
	Bytes
)

// String returns the unit's name, "" for none.
func (u Unit) String() string {
	return [...]string{"", "ms", "s", "min", "h", "bytes"}[u]
}

// millis is the length of a time unit in milliseconds; 0 for the others.
func (u Unit) millis() int64 {
	return [...]int64{0, 1, 1000, 60_000, 3_600_000, 0}[u]
}

// Update says how a broker key may change while the broker runs.
type Update uint8

// The ways to update. Topic and group keys are always dynamic.
const (
	ReadOnly    Update = iota // at start only
	PerBroker                 // dynamic, for one broker
	ClusterWide               // dynamic, for one broker or for all
)

// String returns Kafka's name of the update mode.
func (u Update) String() string {
	return [...]string{"read-only", "per-broker", "cluster-wide"}[u]
}

// Status says what kalda does with a key.
type Status uint8

const (
	// Honoured keys are read by some code.
	Honoured Status = iota
	// Ignored keys are accepted with one warning that says what does their job.
	Ignored
	// Refused keys would leave the cluster weaker than the operator believes, so any
	// value but the default stops the start until the feature is built.
	Refused
	// NotBuilt keys are ours and belong to a later version; setting one is an error.
	NotBuilt
)

// String returns the status as the reference page prints it.
func (s Status) String() string {
	return [...]string{"honoured", "ignored", "refused", "not in this version"}[s]
}

// Key is one row of the table.
type Key struct {
	// Name is the key's full name.
	Name string
	Type Type
	Unit Unit
	// Default is the canonical default; meaningless with Null.
	Default string
	// Null means that the key has no default: unset is a value of its own.
	Null bool
	// Valid restricts the values beyond their type.
	Valid Rule
	// Update is ReadOnly for topic and group keys, where it has no meaning.
	Update Update
	Status Status
	// Instead says, for a key that is not honoured, what does its job or why it is refused.
	Instead string
	// Doc is one line, without a final period.
	Doc string
	// Synonyms are the keys that stand in when this one is unset, most exact first. For a
	// broker key they are broker keys and the list does not repeat the key itself; for a
	// topic or group key they are broker keys.
	Synonyms []Synonym
	// Later are values that Kafka knows and this version refuses.
	Later []string
}

// Synonym is a broker key that stands in for another key.
type Synonym struct {
	Name string
	// Factor turns the synonym's number into the key's; 0 is the same as 1.
	Factor int64
}

// Sensitive says whether the value must not be shown.
func (k *Key) Sensitive() bool { return k.Type == Password }

// Rule restricts a key's values. The zero Rule allows everything of the type.
type Rule struct {
	// Lo and Hi are the inclusive bounds of numbers; HasLo and HasHi say which count.
	Lo, Hi       float64
	HasLo, HasHi bool
	// Extra is a number that is allowed outside the bounds.
	Extra    float64
	HasExtra bool
	// Values are the only strings (or list entries) allowed.
	Values []string
	// AnyCase compares Values without regard to case.
	AnyCase bool
	// NotEmpty refuses the empty string and the empty list.
	NotEmpty bool
	// Check, if not nil, tests the canonical text.
	Check func(string) error
}

func atLeast(lo float64) Rule           { return Rule{Lo: lo, HasLo: true} }
func between(lo, hi float64) Rule       { return Rule{Lo: lo, Hi: hi, HasLo: true, HasHi: true} }
func oneOf(values ...string) Rule       { return Rule{Values: values} }
func checked(f func(string) error) Rule { return Rule{Check: f} }
func freeSpace() Rule                   { return Rule{NotEmpty: true, Check: checkFreeSpace} }

// String describes the rule for the reference page; "" when there is none.
func (r Rule) String() string {
	num := func(f float64) string {
		if f == math.Trunc(f) && math.Abs(f) < 1e15 {
			return strconv.FormatInt(int64(f), 10)
		}
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	var parts []string
	switch {
	case r.HasLo && r.HasHi:
		parts = append(parts, num(r.Lo)+" to "+num(r.Hi))
	case r.HasLo:
		parts = append(parts, "at least "+num(r.Lo))
	case r.HasHi:
		parts = append(parts, "at most "+num(r.Hi))
	}
	if r.HasExtra {
		parts = append(parts, "or "+num(r.Extra))
	}
	if len(r.Values) > 0 {
		parts = append(parts, strings.Join(r.Values, ", "))
	}
	return strings.Join(parts, " ")
}

// match finds v among the allowed values and returns its canonical spelling.
func (r Rule) match(v string) (string, bool) {
	if len(r.Values) == 0 {
		return v, true
	}
	i := slices.IndexFunc(r.Values, func(w string) bool {
		return w == v || r.AnyCase && strings.EqualFold(w, v)
	})
	if i < 0 {
		return "", false
	}
	return r.Values[i], true
}
