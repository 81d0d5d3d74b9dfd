package cli

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

// parseMillis reads a time as Kafka writes it, in milliseconds, or with a unit: 500ms, 2h, 7d.
func parseMillis(s string) (time.Duration, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/int64(time.Millisecond) {
			return 0, fmt.Errorf("%s is out of range", s)
		}
		return time.Duration(n) * time.Millisecond, nil
	}
	return parseDuration(s)
}

// parseDuration is time.ParseDuration with days and weeks; never negative.
func parseDuration(s string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is no duration (want 500ms, 30s, 15m, 2h, 7d, 2w)", s)
	var total time.Duration
	rest := s
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if i <= 0 {
			return 0, wrong
		}
		j := strings.IndexAny(rest[i:], "0123456789.")
		if j < 0 {
			j = len(rest) - i
		}
		var unit time.Duration
		switch rest[i : i+j] {
		case "ms":
			unit = time.Millisecond
		case "s":
			unit = time.Second
		case "m":
			unit = time.Minute
		case "h":
			unit = time.Hour
		case "d":
			unit = 24 * time.Hour
		case "w":
			unit = 7 * 24 * time.Hour
		default:
			return 0, wrong
		}
		n, err := strconv.ParseFloat(rest[:i], 64)
		if err != nil || n*float64(unit) > float64(math.MaxInt64-total) {
			return 0, wrong
		}
		total += time.Duration(n * float64(unit))
		rest = rest[i+j:]
	}
	if s == "" {
		return 0, wrong
	}
	return total, nil
}

// parseSize reads bytes: a plain number or with a unit (KiB, MiB, GiB; KB, MB, GB are
// powers of ten); at most what the protocol can carry.
func parseSize(s string) (int32, error) {
	i := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if i < 0 {
		i = len(s)
	}
	unit := 1.0
	switch strings.ToLower(strings.TrimSpace(s[i:])) {
	case "", "b":
	case "k", "kib":
		unit = 1 << 10
	case "m", "mib":
		unit = 1 << 20
	case "g", "gib":
		unit = 1 << 30
	case "kb":
		unit = 1e3
	case "mb":
		unit = 1e6
	case "gb":
		unit = 1e9
	default:
		return 0, fmt.Errorf("%q is no size (want 1048576, 512KiB, 2MiB)", s)
	}
	n, err := strconv.ParseFloat(s[:i], 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no size (want 1048576, 512KiB, 2MiB)", s)
	}
	if n*unit > math.MaxInt32 {
		return 0, fmt.Errorf("%s is too much; the protocol carries at most 2147483647 bytes", s)
	}
	return int32(n * unit), nil
}

// parseTime reads a point in time: milliseconds since 1970, RFC 3339, a date, a date and
// time of day in the local zone, or a duration before now (-15m, 15m).
func parseTime(s string, now time.Time) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return time.UnixMilli(n), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if d, err := parseDuration(strings.TrimPrefix(s, "-")); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time (want 2026-01-31T12:00:00Z, 2026-01-31, milliseconds since 1970, or -15m)", s)
}

// startKind says how a startSpec is meant.
type startKind int

const (
	startDefault startKind = iota // nothing was asked for
	startFirst                    // the first record that is still there
	startEnd                      // what comes from now on
	startOffset                   // at an offset
	startBack                     // so many records before the end
	startTime                     // the first record at or after a time
)

// startSpec is a place in a log as the user names it.
type startSpec struct {
	kind startKind
	n    int64     // startOffset, startBack
	at   time.Time // startTime
}

// parseStart reads start|end|N|-N|@time.
func parseStart(s string, now time.Time) (startSpec, error) {
	switch s {
	case "start", "beginning", "earliest":
		return startSpec{kind: startFirst}, nil
	case "end", "latest":
		return startSpec{kind: startEnd}, nil
	}
	if at, ok := strings.CutPrefix(s, "@"); ok {
		t, err := parseTime(at, now)
		return startSpec{kind: startTime, at: t}, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil || n == math.MinInt64:
		return startSpec{}, fmt.Errorf("%q is no place in a log (want start, end, an offset N, -N before the end, or @TIME)", s)
	case n < 0:
		return startSpec{kind: startBack, n: -n}, nil
	}
	return startSpec{kind: startOffset, n: n}, nil
}

// parsePartitions reads a list of partitions: 0,2,5-7.
func parsePartitions(s string) ([]int32, error) {
	wrong := fmt.Errorf("%q is no list of partitions (want 0,2,5-7)", s)
	// 100,000 is far above what a topic has; the bound keeps a typing error from filling memory.
	const most = 100_000
	seen := make(map[int32]bool)
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		lo, err := strconv.ParseInt(from, 10, 32)
		if err != nil || lo < 0 {
			return nil, wrong
		}
		hi := lo
		if isRange {
			if hi, err = strconv.ParseInt(to, 10, 32); err != nil || hi < lo || hi-lo > most {
				return nil, wrong
			}
		}
		for p := lo; p <= hi; p++ {
			seen[int32(p)] = true
		}
	}
	list := make([]int32, 0, len(seen))
	for p := range seen {
		list = append(list, p)
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list, nil
}

// parseTopicPartition reads TOPIC:PARTITION.
func parseTopicPartition(s string) (topic string, partition int32, err error) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return "", 0, fmt.Errorf("%q: want TOPIC:PARTITION", s)
	}
	p, err := strconv.ParseInt(s[i+1:], 10, 32)
	if err != nil || p < 0 {
		return "", 0, fmt.Errorf("%q: %q is no partition", s, s[i+1:])
	}
	return s[:i], int32(p), nil
}

// unescape reads \n \t \r \0 \\ \xHH in what a user typed.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", errors.New(`ends in a single \`)
		}
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", errors.New(`\x wants two hexadecimal digits`)
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", errors.New(`\x wants two hexadecimal digits`)
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			return "", fmt.Errorf(`unknown escape \%c (there are \n \t \r \0 \\ \xHH)`, s[i])
		}
	}
	return b.String(), nil
}

// nearest returns the name that is closest to s, "" if none is close.
func nearest(s string, names []string) string {
	best, bestAt := "", len(s)/3+1
	for _, n := range names {
		if d := editDistance(s, n); d <= bestAt && (best == "" || d < bestAt) {
			best, bestAt = n, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions and replacements between a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(row[j]+1, row[j-1]+1, diagonal+cost)
			diagonal, row[j] = row[j], d
		}
	}
	return row[len(b)]
}
