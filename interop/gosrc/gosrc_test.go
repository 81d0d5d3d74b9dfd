package gosrc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestPartitionIsKafkas compares with franz-go's implementation, which is known to agree with Java.
func TestPartitionIsKafkas(t *testing.T) {
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for i := range 2000 {
		key := []byte(strings.Repeat("ä", i%9) + fmt.Sprint(i))
		if got, want := Partition(key, 12), theirs.Partition(&kgo.Record{Key: key}, 12); got != want {
			t.Fatalf("key %q goes to partition %d, franz-go says %d", key, got, want)
		}
	}
}

// TestBatchBytes compares with the encoding of the protocol library.
func TestBatchBytes(t *testing.T) {
	for _, n := range []int{0, 1, 50, 63, 64, 127, 128, 8191, 8192, 1048500, 1048570, 2 << 20} {
		key, value := []byte("some/path.go"), make([]byte, n)
		r := kmsg.Record{Key: key, Value: value}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // its own length of 0 took one byte
		record := r.AppendTo(nil)
		batch := kmsg.RecordBatch{Magic: 2, Records: record}
		if got, want := BatchBytes(key, value), len(batch.AppendTo(nil)); got != want {
			t.Errorf("value of %d bytes: %d, want %d", n, got, want)
		}
	}
}

// TestWalk has a directory named like a file, a file without a last newline, an empty line and one
// with a carriage return.
func TestWalk(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"b.go": "one\n\nthree\r\nlast", "x.go/in.go": "in\n", "x.go/readme.md": "no", "empty.go": ""} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	walk := func(limit int) string {
		var b bytes.Buffer
		if err := Walk(root, limit, func(path string, n int, line []byte) error {
			_, err := fmt.Fprintf(&b, "%s:%d:%q ", path, n, line)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got, want := walk(0), `b.go:1:"one" b.go:2:"" b.go:3:"three\r" b.go:4:"last" x.go/in.go:1:"in" `; got != want {
		t.Errorf("walk:\n%s\nwant\n%s", got, want)
	}
	if got, want := walk(2), `b.go:1:"one" b.go:2:"" `; got != want {
		t.Errorf("limited walk:\n%s\nwant\n%s", got, want)
	}
	if err := os.WriteFile(filepath.Join(root, "a\x1fb.go"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Walk(root, 0, func(string, int, []byte) error { return nil }); err == nil {
		t.Error("a path with the separator was taken")
	}
}

// TestCompareFinds plants every kind of difference that the big run must catch.
func TestCompareFinds(t *testing.T) {
	const n = 3000
	build := func(change func(i int) (key, value string, times int)) Topic {
		topic := make(Topic, 2)
		for i := range n {
			key, value, times := change(i)
			for range times {
				topic[i%2].Add([]byte(key), []byte(value))
			}
		}
		return topic
	}
	plain := func(i int) (string, string, int) { return fmt.Sprint("k", i), fmt.Sprint("v", i), 1 }
	want := build(plain)
	if err := want.Compare(build(plain)); err != nil {
		t.Fatalf("the same records differ: %v", err)
	}
	for name, c := range map[string]struct {
		change func(int) (string, string, int)
		says   string
	}{
		"lost": {func(i int) (string, string, int) {
			k, v, _ := plain(i)
			return k, v, map[bool]int{true: 0, false: 1}[i == 2998]
		}, "has 1499 records, want 1500"},
		"duplicated": {func(i int) (string, string, int) {
			k, v, _ := plain(i)
			return k, v, map[bool]int{true: 2, false: 1}[i == 10]
		}, "differs between records 0 and 1024"},
		"changed": {func(i int) (string, string, int) {
			k, v, times := plain(i)
			return k, strings.Replace(v, "v2999", "v2998", 1), times
		}, "differs after record 1024"},
		"byte moved from value to key": {func(i int) (string, string, int) {
			if i == 0 {
				return "k0v", "0", 1
			}
			return plain(i)
		}, "differs between records 0 and 1024"},
	} {
		if err := want.Compare(build(c.change)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	// Reordered: the multiset is right, the order is not.
	err := want.Compare(build(func(i int) (string, string, int) {
		if i == 100 || i == 102 {
			return plain(202 - i)
		}
		return plain(i)
	}))
	if err == nil || !strings.Contains(err.Error(), "partition 0 differs") || strings.Contains(err.Error(), "multiset") {
		t.Errorf("reordered: %v", err)
	}
	// In the wrong partition: every order differs, the multiset is right.
	swapped := build(plain)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	if err := want.Compare(swapped); err == nil || strings.Contains(err.Error(), "multiset") {
		t.Errorf("partitions swapped: %v", err)
	}
}
