package main

import (
	"bufio"
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kalda-io/kalda"
	"github.com/kalda-io/kalda/internal/cli"
)

// goSourceLines is how many lines go through here; all three million of them go through
// every client in interop/.
const goSourceLines = 50_000

// Real input through our own tools: lines of the Go source tree, key = path, value =
// line. What is read equals what was written, per partition in order and over all as a
// multiset; with and without a group; after a kill; and lines that are too long are
// refused by name and left out, while a topic that allows them takes them.
func TestGoSource(t *testing.T) {
	dir := t.TempDir()
	o := kalda.Options{DataDir: dir, Kafka: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
	k, err := kalda.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	input := goSource(t, goSourceLines)
	// One line that no default topic takes, as zzipdata.go has one.
	long := "long.go\x1f" + strings.Repeat("x", 1_100_000)
	all := strings.Join(input, "\n") + "\n" + long + "\n"

	run := func(k *kalda.Kalda, stdin string, args ...string) (out, errs string, code int) {
		t.Helper()
		var o, e bytes.Buffer
		code = cli.Run(context.Background(), cli.Env{
			Args: args, Stdin: strings.NewReader(stdin), Stdout: &o, Stderr: &e,
			Environ: []string{"KALDA_BROKERS=" + strings.Join(k.Kafka(), ",")},
		})
		return o.String(), e.String(), code
	}
	must := func(k *kalda.Kalda, args ...string) string {
		t.Helper()
		out, errs, code := run(k, "", args...)
		if code != 0 {
			t.Fatalf("kalda %s: exit code %d: %s", strings.Join(args, " "), code, errs)
		}
		return out
	}
	must(k, "topic", "create", "source", "--partitions", "7")
	must(k, "topic", "create", "long", "--partitions", "3", "--config", "max.message.bytes=2MiB")

	_, errs, code := run(k, all, "produce", "source", "-k", "\x1f")
	if code != 1 || !strings.Contains(errs, "MESSAGE_TOO_LARGE") || !strings.Contains(errs, "50001") {
		t.Fatalf("the long line must be refused by name and line number: code %d, %s", code, errs)
	}
	if _, errs, code := run(k, long+"\n", "produce", "long", "-k", "\x1f"); code != 0 {
		t.Fatalf("a topic with max.message.bytes=2MiB: %s", errs)
	}
	if got := must(k, "consume", "long", "-o", "start", "-e", "-f", "%k\x1f%v\n"); got != long+"\n" {
		t.Fatalf("the long line came back with %d bytes, want %d", len(got), len(long)+1)
	}

	plain := must(k, "consume", "source", "-o", "start", "-e", "-f", "%p\x1f%k\x1f%v\n")
	compareSource(t, "without a group", input, plain)
	grouped := must(k, "consume", "source", "-g", "readers", "-o", "start", "-e", "-f", "%p\x1f%k\x1f%v\n")
	compareSource(t, "in a group", input, grouped)
	if got := must(k, "consume", "source", "-g", "readers", "-e", "-f", "%v\n"); got != "" {
		t.Fatalf("the group reads again what it committed: %d bytes", len(got))
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k2, err := kalda.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := k2.Close(); err != nil {
			t.Error(err)
		}
	}()
	again := must(k2, "consume", "source", "-g", "others", "-o", "start", "-e", "-f", "%p\x1f%k\x1f%v\n")
	compareSource(t, "another group after a restart", input, again)
}

// goSource returns that many lines of the tree under GOROOT as key, separator, value.
func goSource(t *testing.T, limit int) []string {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(goroot)), "src")
	var lines []string
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) != ".go" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		rel, _ := filepath.Rel(root, path)
		s := bufio.NewScanner(f)
		s.Buffer(nil, 4<<20)
		for s.Scan() {
			if len(s.Bytes()) > 1_000_000 {
				continue
			}
			if lines = append(lines, rel+"\x1f"+s.Text()); len(lines) == limit {
				return fs.SkipAll
			}
		}
		return s.Err()
	})
	if err != nil || len(lines) == 0 {
		t.Fatalf("%d lines: %v", len(lines), err)
	}
	return lines
}

// compareSource holds what was read against the input: a file's lines lie in one
// partition, in order, and nothing is missing or too much.
func compareSource(t *testing.T, name string, input []string, got string) {
	t.Helper()
	byKey := map[string][]string{}
	partition := map[string]string{}
	n := 0
	for line := range strings.Lines(got) {
		p, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\x1f")
		key, value, _ := strings.Cut(rest, "\x1f")
		if was, ok := partition[key]; ok && was != p {
			t.Fatalf("%s: key %s lies in partitions %s and %s", name, key, was, p)
		}
		partition[key] = p
		byKey[key] = append(byKey[key], value)
		n++
	}
	if n != len(input) {
		t.Fatalf("%s: %d records, want %d", name, n, len(input))
	}
	for i, line := range input {
		key, value, _ := strings.Cut(line, "\x1f")
		if len(byKey[key]) == 0 || byKey[key][0] != value {
			t.Fatalf("%s: line %d of the input, of %s, is not next in its partition", name, i, key)
		}
		byKey[key] = byKey[key][1:]
	}
}
