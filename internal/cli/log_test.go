package cli

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// writeSegment writes a segment of batches with ten records each, whose values have 50
// bytes, and returns its path.
func writeSegment(t *testing.T, dir string, base model.Offset, batches int) string {
	t.Helper()
	var b []byte
	for i := range batches {
		recs := make([]record.Record, 10)
		for j := range recs {
			recs[j] = record.Record{Timestamp: 1_700_000_000_000 + int64(i*10+j), Value: []byte(strings.Repeat("v", 50))}
		}
		one, err := record.Build(nil, record.NewTemplate(), recs)
		if err != nil {
			t.Fatal(err)
		}
		one.SetBaseOffset(base + model.Offset(i*10))
		b = append(b, one...)
	}
	path := filepath.Join(dir, fmt.Sprintf("%020d.log", base))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeSums writes the .sums of a closed segment, with a mark at each of those batches
// (docs/format/segment.md).
func writeSums(t *testing.T, path string, marks ...int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	base, err := segmentBase(path)
	if err != nil {
		t.Fatal(err)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	var list []byte
	chain, pos, n := uint32(0), 0, 0
	mark := func() {
		list = binary.BigEndian.AppendUint64(list, uint64(pos))
		list = binary.BigEndian.AppendUint32(list, chain)
	}
	for ; pos < len(b); n++ {
		if slices.Contains(marks, n) {
			mark()
		}
		chain = crc32.Update(chain, table, b[pos:pos+21])
		pos += record.Batch(b[pos:]).Size()
	}
	mark()
	out := append([]byte("KSUM"), 1)
	for _, v := range []uint64{uint64(base), uint64(len(b)), uint64(n), 0} {
		out = binary.BigEndian.AppendUint64(out, v)
	}
	out = append(out, make([]byte, 4+8+4)...) // the indexes, which verify looks at itself
	out = binary.BigEndian.AppendUint32(out, uint32(len(list)/12))
	out = append(out, list...)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(out, table))
	if err := os.WriteFile(strings.TrimSuffix(path, "log")+"sums", out, 0o600); err != nil {
		t.Fatal(err)
	}
}

// kalda runs a command line in this process.
func kalda(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e strings.Builder
	code = Run(context.Background(), Env{Args: args, Stdin: strings.NewReader(""), Stdout: &o, Stderr: &e})
	return code, o.String(), e.String()
}

func change(t *testing.T, path string, fn func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fn(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLogVerify(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, first, last string)
		code   int
		want   string
	}{
		{"sound", func(*testing.T, string, string) {}, ExitOK, "1 log, 2 segments, 40 batches, 400 records"},
		{"one bit", func(t *testing.T, first, _ string) {
			change(t, first, func(b []byte) []byte { b[len(b)/2+100] ^= 1; return b })
		}, ExitUnhealthy, "that are no batch"},
		{"torn tail", func(t *testing.T, _, last string) {
			change(t, last, func(b []byte) []byte { return b[:len(b)-3] })
		}, ExitOK, "the next start cuts it"},
		{"zero tail", func(t *testing.T, _, last string) {
			change(t, last, func(b []byte) []byte { return append(b, make([]byte, 5000)...) })
		}, ExitOK, "5,000 bytes that are no batch"},
		{"torn in the middle", func(t *testing.T, first, _ string) {
			change(t, first, func(b []byte) []byte { return b[:len(b)-3] })
		}, ExitUnhealthy, "that are no batch"},
		{"offsets run back", func(t *testing.T, first, _ string) {
			change(t, first, func(b []byte) []byte {
				size := record.Batch(b).Size()
				record.Batch(b[size:]).SetBaseOffset(3) // lies outside the checksum
				return b
			})
		}, ExitUnhealthy, "a batch begins at offset 3, below 10"},
		{"index", func(t *testing.T, first, _ string) {
			change(t, strings.TrimSuffix(first, "log")+"index", func(b []byte) []byte {
				binary.BigEndian.PutUint32(b[4:], 7)
				return b
			})
		}, ExitUnhealthy, "points at no batch"},
		{"index too long", func(t *testing.T, first, _ string) {
			change(t, strings.TrimSuffix(first, "log")+"index", func(b []byte) []byte {
				b = binary.BigEndian.AppendUint32(b, 5000)
				return binary.BigEndian.AppendUint32(b, 1<<30)
			})
		}, ExitUnhealthy, "lies behind the end of the log"},
		{"time index", func(t *testing.T, first, _ string) {
			change(t, strings.TrimSuffix(first, "log")+"timeindex", func(b []byte) []byte { b[7] ^= 1; return b })
		}, ExitUnhealthy, "fits no batch"},
		{"epoch of a closed segment", func(t *testing.T, first, _ string) {
			// Batches 12 and 13 are in the second of three stretches; an epoch that grows is in order.
			change(t, first, func(b []byte) []byte { b[12*batchSize(b)+15] ^= 1; b[13*batchSize(b)+15] ^= 1; return b })
		}, ExitUnhealthy, ".log at %d*10: batch headers differ from what was appended\n1 log"},
		{"two stretches of a closed segment", func(t *testing.T, first, _ string) {
			change(t, first, func(b []byte) []byte { b[15] ^= 1; b[29*batchSize(b)+15] ^= 1; return b })
		}, ExitUnhealthy, ".log at %d*20: batch headers differ"},
		{"a closed segment is short by a batch", func(t *testing.T, first, _ string) {
			change(t, first, func(b []byte) []byte { return b[:29*batchSize(b)] })
		}, ExitUnhealthy, "bytes, %d*30 when it was closed"},
		{"sums", func(t *testing.T, first, _ string) {
			change(t, strings.TrimSuffix(first, "log")+"sums", func(b []byte) []byte { b[60] ^= 1; return b })
		}, ExitUnhealthy, ".sums at 0: checksum does not fit; the node makes it anew"},
		{"a segment between is gone", func(t *testing.T, first, _ string) {
			for _, base := range []string{"00000000000000000200", "00000000000000000900"} { // and what a crash leaves
				if err := os.WriteFile(filepath.Join(filepath.Dir(first), base+".sums"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, ExitUnhealthy, "00000000000000000200.log at 0: the file is gone, with its records\n1 log, 2 segments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			first := writeSegment(t, dir, 0, 30)
			last := writeSegment(t, dir, 300, 10)
			if code, _, errs := kalda(t, "log", "index-rebuild", dir); code != ExitOK {
				t.Fatal(errs)
			}
			writeSums(t, first, 10, 20)
			b, err := os.ReadFile(first)
			if err != nil {
				t.Fatal(err)
			}
			// Positions are given in batches, which are all of one size.
			want := regexp.MustCompile(`%d\*\d+`).ReplaceAllStringFunc(c.want, func(s string) string {
				n, err := strconv.Atoi(s[len("%d*"):])
				if err != nil {
					t.Fatal(err)
				}
				return strconv.Itoa(n * batchSize(b))
			})
			c.damage(t, first, last)
			code, out, errs := kalda(t, "log", "verify", dir)
			if code != c.code || !strings.Contains(out, want) {
				t.Errorf("code %d, want %d and %q\n%s%s", code, c.code, want, out, errs)
			}
		})
	}
}

// batchSize is the size of the first batch of a segment.
func batchSize(segment []byte) int { return record.Batch(segment).Size() }

func TestLogIndexRebuild(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "parts", "2c9dc19cf88d4fffba25a7a6dd031c72-0")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := writeSegment(t, dir, 100, 30)
	size := int64(0)
	if _, err := scanLog(path, func(b record.Batch, pos int64) error { size = int64(b.Size()); return nil }); err != nil {
		t.Fatal(err)
	}

	lock, err := vfs.OS{}.Lock(filepath.Join(root, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errs := kalda(t, "log", "index-rebuild", dir); code != ExitFailed || !strings.Contains(errs, "a node that runs holds") {
		t.Errorf("beside a running node: code %d, %s", code, errs)
	}
	lock.Close()

	if code, _, errs := kalda(t, "log", "index-rebuild", "--interval", fmt.Sprint(2*size), dir); code != ExitOK {
		t.Fatal(errs)
	}
	// An entry comes with the batch after which more than the interval has passed: with two
	// batches to an interval, each third one.
	index, err := readIndex(strings.TrimSuffix(path, "log") + "index")
	if err != nil || len(index) != 9 || index[0] != (indexEntry{139, 3 * size}) || index[1] != (indexEntry{169, 6 * size}) {
		t.Errorf("%v, %v", index, err)
	}
	times, err := readTimeIndex(strings.TrimSuffix(path, "log") + "timeindex")
	if err != nil || len(times) != 10 || times[0] != (timeEntry{1_700_000_000_039, 139}) || times[9] != (timeEntry{1_700_000_000_299, 399}) {
		t.Errorf("%v, %v", times, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if code, out, errs := kalda(t, "log", "verify", "--data", root); code != ExitOK {
		t.Errorf("%s%s", out, errs)
	}
}

func TestLogDump(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "broker-1", "parts", "2c9dc19cf88d4fffba25a7a6dd031c72-0")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := writeSegment(t, dir, 0, 3)
	code, out, errs := kalda(t, "log", "dump", dir)
	if code != ExitOK || strings.Count(out, "\n") != 4 || !strings.Contains(out, "offset 10..19  10 records  epoch 0  none  2023-11-14T22:13:20.019Z  position ") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	// The id of the topic stands for its name, with no broker anywhere.
	code, out, errs = kalda(t, "log", "dump", "2c9dc19cf88d4fffba25a7a6dd031c72:0", "--data", root, "--records", "-o", "json")
	if code != ExitOK || strings.Count(out, "\n") != 30 || !strings.Contains(out, `{"file":"00000000000000000000.log","offset":29,"timestamp":"2023-11-14T22:13:20.029Z","key":null,"value":"vvv`) {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if code, _, errs = kalda(t, "log", "dump", "t:0", "--data", root, "-b", "127.0.0.1:1"); code != ExitUnreachable || !strings.Contains(errs, "is known only to a broker") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs = kalda(t, "log", "dump", dir+"/none.log"); code != ExitNotFound {
		t.Errorf("%d %s", code, errs)
	}
	change(t, path, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	if code, out, _ = kalda(t, "log", "dump", path); code != ExitUnhealthy || !strings.Contains(out, "that are no batch") {
		t.Errorf("%d %s", code, out)
	}
}
