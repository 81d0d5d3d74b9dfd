package cli

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The hashes are those of Kafka's own test (UtilsTest.testMurmur2); the partition is the
// hash without its sign bit, modulo the number of partitions.
func TestMurmur2Partitions(t *testing.T) {
	for key, hash := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		for _, n := range []int{1, 2, 3, 7, 12, 100} {
			want := int(uint32(hash)&0x7fffffff) % n
			p := partitionerFor("murmur2", -1).ForTopic("t")
			if got := p.Partition(&kgo.Record{Key: []byte(key)}, n); got != want {
				t.Errorf("key %q of %d partitions: %d, want %d", key, n, got, want)
			}
		}
	}
}

func TestParseStart(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for in, want := range map[string]startSpec{
		"start":                      {kind: startFirst},
		"end":                        {kind: startEnd},
		"0":                          {kind: startOffset},
		"42":                         {kind: startOffset, n: 42},
		"-3":                         {kind: startBack, n: 3},
		"@1700000000123":             {kind: startTime, at: time.UnixMilli(1700000000123)},
		"@2026-01-31":                {kind: startTime, at: at("2026-01-31T00:00:00Z")},
		"@2026-01-31T10:20":          {kind: startTime, at: at("2026-01-31T10:20:00Z")},
		"@2026-01-31 10:20:30":       {kind: startTime, at: at("2026-01-31T10:20:30Z")},
		"@2026-01-31T10:20:30.5Z":    {kind: startTime, at: at("2026-01-31T10:20:30.5Z")},
		"@2026-01-31T10:20:30+09:00": {kind: startTime, at: at("2026-01-31T01:20:30Z")},
		"@-15m":                      {kind: startTime, at: now.Add(-15 * time.Minute)},
		"@1d12h":                     {kind: startTime, at: now.Add(-36 * time.Hour)},
	} {
		got, err := parseStart(in, now)
		if err != nil || got.kind != want.kind || got.n != want.n || !got.at.Equal(want.at) {
			t.Errorf("%s: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "@", "@soon", "1.5", "@5x", "-9223372036854775808"} {
		if got, err := parseStart(in, now); err == nil {
			t.Errorf("%q was taken as %+v", in, got)
		}
	}
}

func TestParseDurationAndSize(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1500": 1500 * time.Millisecond, "500ms": 500 * time.Millisecond, "7d": 168 * time.Hour,
		"2w": 336 * time.Hour, "1h30m": 90 * time.Minute, "1.5s": 1500 * time.Millisecond, "0": 0,
	} {
		if got, err := parseMillis(in); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-1", "5 parsecs", "ms", "1m1", "99999999999999999999d", "9223372036854775807"} {
		if got, err := parseMillis(in); err == nil {
			t.Errorf("%q was taken as %v", in, got)
		}
	}
	for in, want := range map[string]int32{
		"1048576": 1 << 20, "2MiB": 2 << 20, "1.5k": 1536, "3MB": 3_000_000, "0": 0, "2147483647": 1<<31 - 1,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "MiB", "1PiB", "2GiB", "-1", "1 furlong"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q was taken as %v", in, got)
		}
	}
}

func TestParsePartitions(t *testing.T) {
	for in, want := range map[string]string{"0": "0", "3,1,1": "1,3", "0,2,5-7": "0,2,5,6,7", "4-4": "4"} {
		if got, err := parsePartitions(in); err != nil || ints(got) != want {
			t.Errorf("%s: %v, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "a", "-1", "7-5", "1,,2", "0-2000000000", "1-"} {
		if got, err := parsePartitions(in); err == nil {
			t.Errorf("%q was taken as %v", in, got)
		}
	}
}

func TestFormat(t *testing.T) {
	r := &consumedRecord{
		topic: "t", partition: 3, offset: 99, timestamp: time.UnixMilli(1700000000123),
		key: []byte("k"), value: []byte("v%t"), headers: []header{{"a", []byte("1")}, {"b", nil}},
	}
	for in, want := range map[string]string{
		`%v\n`:               "v%t\n",
		`%t-%p@%o %T\t%k=%v`: "t-3@99 1700000000123\tk=v%t",
		`%h`:                 "a=1,b=",
		`100%%\x00\\`:        "100%\x00\\",
		``:                   "",
		`plain`:              "plain",
	} {
		f, err := parseFormat(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := string(f.append(nil, r)); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{`%`, `%x`, `\q`, `%v\`, `\x1`} {
		if _, err := parseFormat(in); err == nil {
			t.Errorf("%s was taken", in)
		}
	}
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("y", 70_000)
	in := bufio.NewReaderSize(strings.NewReader("a\n\n"+long+"\n"+long+long+"\nlast"), 16)
	for _, want := range []struct {
		line string
		size int
		err  error
	}{{"a", 1, nil}, {"", 0, nil}, {long, 70_000, nil}, {"", 140_000, nil}, {"last", 4, io.EOF}, {"", 0, io.EOF}} {
		line, size, err := readLine(in, 100_000)
		if string(line) != want.line || size != want.size || err != want.err {
			t.Errorf("got %d bytes, size %d, %v; want %d, %d, %v", len(line), size, err, len(want.line), want.size, want.err)
		}
		if (line == nil) != (size > 100_000) && size > 0 {
			t.Errorf("size %d: kept %v", size, line != nil)
		}
	}
}

func TestTable(t *testing.T) {
	tab := table{cols: []column{{head: "NAME"}, {head: "N", right: true}, {head: "ID", wide: true}, {head: "LAST"}}}
	tab.add("ä", "1", "x", "")
	tab.add("longer", "1000", "y", "z")
	var b strings.Builder
	if err := tab.write(&b, false); err != nil {
		t.Fatal(err)
	}
	if want := "NAME       N  LAST\nä          1\nlonger  1000  z\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	if err := tab.write(&b, true); err != nil {
		t.Fatal(err)
	}
	if want := "NAME       N  ID  LAST\nä          1  x\nlonger  1000  y   z\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestHumanForms(t *testing.T) {
	for in, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1 MiB", 5 << 30: "5 GiB", -1: "?"} {
		if got := humanSize(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 340 * time.Millisecond: "340ms", 1200 * time.Millisecond: "1.2s", 3 * time.Second: "3s",
		59 * time.Second: "59s", 185 * time.Second: "3m5s", 2 * time.Hour: "2h", 99 * time.Hour: "4d3h",
	} {
		if got := humanDuration(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 3000000: "3,000,000", -1234: "-1,234"} {
		if got := humanCount(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"linger.ms", "batch.size", "client.id"}
	for in, want := range map[string]string{"lingr.ms": "linger.ms", "client_id": "client.id", "zzz": ""} {
		if got := nearest(in, names); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
