package config

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseValues(t *testing.T) {
	for _, c := range []struct {
		typ  Type
		unit Unit
		in   string
		want string // "!" and a part of the error
	}{
		{Long, Millis, "7d", "604800000"},
		{Long, Millis, " 90 s ", "90000"},
		{Long, Millis, "15m", "900000"},
		{Long, Millis, "2w", "1209600000"},
		{Long, Millis, "-1", "-1"},
		{Long, Millis, "5", "5"},
		{Int, Hours, "7d", "168"},
		{Int, Minutes, "2h", "120"},
		{Int, Hours, "30m", "!not a whole number of h"},
		{Int, Seconds, "1500ms", "!not a whole number of s"},
		{Int, Bytes, "512MiB", "536870912"},
		{Long, Bytes, "2GB", "2000000000"},
		{Int, Bytes, "2GiB", "!out of range"},
		{Long, Bytes, "9999999TiB", "!out of range"},
		{Long, Bytes, "1k", "!not a number of bytes"},
		{Long, Bytes, "7d", "!not a number of bytes"},
		{Long, Millis, "1GiB", "!not a number of ms"},
		{Long, Millis, "", "!not a number"},
		{Long, Millis, "ms", "!not a number"},
		{Long, NoUnit, "5s", "!not a number"},
		{Long, NoUnit, "9223372036854775807", "9223372036854775807"},
		{Long, NoUnit, "9223372036854775808", "!out of range"},
		{Int, NoUnit, "2147483648", "!out of range"},
		{Int, NoUnit, "-2147483648", "-2147483648"},
		{Short, NoUnit, "32768", "!out of range"},
		{Double, NoUnit, "0.50", "0.5"},
		{Double, NoUnit, "NaN", "!not a number"},
		{Double, Bytes, "1MiB", "1.048576e+06"},
		{Boolean, NoUnit, "TRUE", "true"},
		{Boolean, NoUnit, "1", "!not a boolean"},
		{List, NoUnit, " a, b ,,a", "a,b"},
		{String, NoUnit, " x y ", "x y"},
	} {
		v, err := (&Key{Type: c.typ, Unit: c.unit}).Parse(c.in)
		if want, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %q: %v, want %q", c.typ, c.in, err, want)
			}
		} else if err != nil || v.Text != c.want {
			t.Errorf("%s %q: %q %v, want %q", c.typ, c.in, v.Text, err, c.want)
		}
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		k  Key
		in string
		ok bool
	}{
		{Key{Type: Int, Valid: between(1, 9)}, "1", true},
		{Key{Type: Int, Valid: between(1, 9)}, "9", true},
		{Key{Type: Int, Valid: between(1, 9)}, "10", false},
		{Key{Type: Int, Valid: between(1, 9)}, "0", false},
		{Key{Type: Int, Valid: Rule{Lo: 1, HasLo: true, Extra: -1, HasExtra: true}}, "-1", true},
		{Key{Type: Int, Valid: Rule{Lo: 1, HasLo: true, Extra: -1, HasExtra: true}}, "-2", false},
		{Key{Type: Double, Valid: between(0, 1)}, "1.01", false},
		{Key{Type: String, Valid: oneOf("a", "b")}, "b", true},
		{Key{Type: String, Valid: oneOf("a", "b")}, "B", false},
		{Key{Type: String, Valid: Rule{Values: []string{"a"}, AnyCase: true}}, "A", true},
		{Key{Type: List, Valid: oneOf("a", "b")}, "b,a", true},
		{Key{Type: List, Valid: oneOf("a", "b")}, "a,c", false},
		{Key{Type: List, Valid: Rule{NotEmpty: true}}, ",", false},
	} {
		if _, err := c.k.Parse(c.in); (err == nil) != c.ok {
			t.Errorf("%s with %s: %v", c.in, c.k.Valid, err)
		}
	}
}

// A password never shows up in a message.
func TestPasswordIsNotShown(t *testing.T) {
	k := Key{Type: Password, Valid: oneOf("a")}
	if _, err := k.Parse("secret"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	_, _, err := Load(LoadOptions{Set: []string{"ssl.key.password=secret"}})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		unit Unit
		n    int64
		want time.Duration
	}{
		{Millis, 5, 5 * time.Millisecond},
		{Hours, 168, 168 * time.Hour},
		{Millis, -1, -time.Millisecond},
		{Millis, math.MaxInt64, math.MaxInt64},
		{Minutes, math.MaxInt64 / 2, math.MaxInt64},
		{NoUnit, 1, math.MaxInt64},
	} {
		if got := (Value{unit: c.unit, num: c.n}).Duration(); got != c.want {
			t.Errorf("%d %s: %v, want %v", c.n, c.unit, got, c.want)
		}
	}
	if (Value{unit: Hours, num: math.MinInt64}).Duration() >= 0 {
		t.Error("a negative number became positive")
	}
}
