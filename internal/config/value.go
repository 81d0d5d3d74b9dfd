package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Value is one checked value of a key.
type Value struct {
	// Text is canonical: what DescribeConfigs answers. "" with Null.
	Text string
	// Null means that the key is unset and has no default.
	Null bool

	unit Unit
	num  int64
	frac float64
	flag bool
	list []string
}

// Bool returns a Boolean's value.
func (v Value) Bool() bool { return v.flag }

// Int64 returns the number of a Short, Int or Long in the key's unit.
func (v Value) Int64() int64 { return v.num }

// Int returns Int64 as an int.
func (v Value) Int() int { return int(v.num) }

// Int32 returns Int64 as an int32; the type's check made sure that it fits Ints.
func (v Value) Int32() int32 { return int32(v.num) }

// Float returns a Double's value.
func (v Value) Float() float64 { return v.frac }

// List returns a copy of the entries.
func (v Value) List() []string { return slices.Clone(v.list) }

// Duration returns a number with a time unit as a duration. Negative numbers, which keys
// use for "no limit", stay negative (-1 in the key's unit); numbers too large for a
// Duration become the longest one, some 292 years.
func (v Value) Duration() time.Duration {
	per := v.unit.millis() * int64(time.Millisecond)
	if per == 0 || v.num > math.MaxInt64/per {
		return math.MaxInt64
	}
	if v.num < 0 {
		return time.Duration(max(v.num, -1<<20)) * time.Duration(per)
	}
	return time.Duration(v.num * per)
}

// scaled is v as a value of a key with another unit.
func (v Value) scaled(k *Key, factor int64) Value {
	if factor > 1 && v.num > 0 {
		if v.num > math.MaxInt64/factor {
			v.num = math.MaxInt64
		} else {
			v.num *= factor
		}
		v.Text = strconv.FormatInt(v.num, 10)
	}
	v.unit = k.Unit
	return v
}

// Parse checks raw against the key's type and rule and makes it canonical. Blanks around
// it are dropped. Durations and sizes may carry a suffix; the result is a plain number in
// the key's own unit. The error does not repeat the key's name, and never shows the value
// of a password.
func (k *Key) Parse(raw string) (Value, error) {
	v, err := k.parse(raw)
	if err != nil && k.Sensitive() {
		return Value{}, errors.New("the value is not valid")
	}
	return v, err
}

func (k *Key) parse(raw string) (Value, error) {
	s := strings.TrimSpace(raw)
	v := Value{unit: k.Unit}
	switch k.Type {
	case Boolean:
		switch strings.ToLower(s) {
		case "true":
			v.flag = true
		case "false":
		default:
			return Value{}, fmt.Errorf("%q is not a boolean: want true or false", s)
		}
		v.Text = strconv.FormatBool(v.flag)
	case Short, Int, Long:
		n, err := parseNumber(s, k.Unit)
		if err != nil {
			return Value{}, err
		}
		bits := map[Type]int{Short: 16, Int: 32, Long: 64}[k.Type]
		if lim := int64(math.MaxInt64) >> (64 - bits); n > lim || n < -lim-1 {
			return Value{}, fmt.Errorf("%q is out of range: %s allows %d to %d", s, k.Type, -lim-1, lim)
		}
		if err := k.Valid.number(s, float64(n)); err != nil {
			return Value{}, err
		}
		v.num, v.Text = n, strconv.FormatInt(n, 10)
	case Double:
		f, err := parseFraction(s, k.Unit)
		if err != nil {
			return Value{}, err
		}
		if err := k.Valid.number(s, f); err != nil {
			return Value{}, err
		}
		v.frac, v.Text = f, strconv.FormatFloat(f, 'g', -1, 64)
	case List:
		for e := range strings.SplitSeq(s, ",") {
			e = strings.TrimSpace(e)
			if e == "" {
				continue
			}
			c, ok := k.Valid.match(e)
			if !ok {
				return Value{}, fmt.Errorf("%q is not one of %s", e, strings.Join(k.Valid.Values, ", "))
			}
			if !slices.Contains(v.list, c) {
				v.list = append(v.list, c)
			}
		}
		v.Text = strings.Join(v.list, ",")
	default:
		c, ok := k.Valid.match(s)
		if !ok {
			return Value{}, fmt.Errorf("%q is not one of %s", s, strings.Join(k.Valid.Values, ", "))
		}
		v.Text = c
	}
	if k.Valid.NotEmpty && v.Text == "" {
		return Value{}, errors.New("the value is empty")
	}
	if k.Valid.Check != nil {
		if err := k.Valid.Check(v.Text); err != nil {
			return Value{}, err
		}
	}
	return v, nil
}

// checkLater says whether v holds something that this version cannot do.
func (k *Key) checkLater(v Value) error {
	for _, l := range k.Later {
		if v.Text == l || slices.Contains(v.list, l) {
			return fmt.Errorf("%s=%s is not available in this version", k.Name, l)
		}
	}
	return nil
}

func (r Rule) number(shown string, f float64) error {
	if r.HasExtra && f == r.Extra {
		return nil
	}
	if r.HasLo && f < r.Lo || r.HasHi && f > r.Hi {
		return fmt.Errorf("%q is out of range: want %s", shown, r)
	}
	return nil
}

// suffix is a unit that values may carry, as a multiple of a millisecond or a byte.
type suffix struct {
	name string
	mult int64
}

// timeSuffixes and sizeSuffixes are the units of values. Single letters for sizes are left
// out: k and M mean 1000 to some readers and 1024 to others.
func timeSuffixes() []suffix {
	return []suffix{{"ms", 1}, {"s", 1000}, {"m", 60_000}, {"min", 60_000}, {"h", 3_600_000}, {"d", 86_400_000}, {"w", 7 * 86_400_000}}
}

func sizeSuffixes() []suffix {
	return []suffix{{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}}
}

func (u Unit) suffixes() []suffix {
	switch u {
	case NoUnit:
		return nil
	case Bytes:
		return sizeSuffixes()
	}
	return timeSuffixes()
}

// parseNumber reads a whole number, with a suffix where the unit has any.
func parseNumber(s string, u Unit) (int64, error) {
	digits := strings.TrimRightFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		if errors.Is(err, strconv.ErrRange) {
			return 0, fmt.Errorf("%q is out of range", s)
		}
		return 0, fmt.Errorf("%q is not a number%s", s, u.example())
	}
	name := strings.TrimSpace(s[len(digits):])
	if name == "" {
		return n, nil
	}
	i := slices.IndexFunc(u.suffixes(), func(x suffix) bool { return x.name == name })
	if i < 0 {
		return 0, fmt.Errorf("%q is not a number%s", s, u.example())
	}
	mult := u.suffixes()[i].mult
	if n > math.MaxInt64/mult || n < math.MinInt64/mult {
		return 0, fmt.Errorf("%q is out of range", s)
	}
	n *= mult
	if per := u.millis(); per > 1 {
		if n%per != 0 {
			return 0, fmt.Errorf("%q is not a whole number of %s, the unit of this key", s, u)
		}
		n /= per
	}
	return n, nil
}

func parseFraction(s string, u Unit) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && u != NoUnit {
		var n int64
		n, err = parseNumber(s, u)
		f = float64(n)
	}
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%q is not a number%s", s, u.example())
	}
	return f, nil
}

func (u Unit) example() string {
	switch u {
	case NoUnit:
		return ""
	case Bytes:
		return " of bytes: want one like 1048576 or 1MiB"
	}
	return " of " + u.String() + ": want one like 1000 or 30s, 15m, 12h, 7d"
}
