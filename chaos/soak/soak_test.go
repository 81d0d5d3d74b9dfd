package soak

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/interop/target"
)

// build returns the node's binary.
func build(t *testing.T) target.Binary {
	t.Helper()
	kind, err := target.KindFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if kind != target.Kalda {
		t.Skipf("KALDA_INTEROP_TARGET=%s has neither a cleaner nor metrics", kind)
	}
	bin, err := target.Build(t.Context(), kind, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// TestSoak is the soak in short: all of its load, at least two kills, and equal data. Its samples are too few to be
// judged; that they are taken and complete is looked at. KALDA_CHAOS_SEED and KALDA_CHAOS_DIR are the command's -seed and
// -dir.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed, dir := uint64(time.Now().UnixNano()), t.TempDir()
	if s := os.Getenv("KALDA_CHAOS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("KALDA_CHAOS_SEED: %v", err)
		}
	}
	if d := os.Getenv("KALDA_CHAOS_DIR"); d != "" {
		dir = filepath.Join(d, "soak")
	}
	o := Options{Bin: build(t), Dir: dir, Seed: seed, Duration: 36 * time.Second, KillEvery: 10 * time.Second, Quiet: 12 * time.Second,
		SampleEvery: 2 * time.Second, Rate: 1000, Out: t.Output()}
	result, err := Run(t.Context(), o)
	result.Print(t.Output())
	if err != nil {
		t.Error(err)
	}
	if !result.Passed {
		t.Error("the soak has failed")
	}
	if result.Kills < 2 {
		t.Errorf("%d kills, want at least 2", result.Kills)
	}
	if t.Failed() {
		t.Fatalf("seed %d; replay in chaos/: %s", seed, Replay(o))
	}
	marks, err := readSamples(dir)
	if err != nil {
		t.Fatal(err)
	}
	marks = slices.DeleteFunc(marks, func(s Sample) bool { return !s.Mark })
	if len(marks) != result.Kills+1 {
		t.Errorf("%d marks, want one in each of %d lives", len(marks), result.Kills+1)
	}
	for _, s := range marks {
		for r := range Tolerances() {
			if s.Values[r] <= 0 {
				t.Errorf("life %d: %s are %v", s.Life, r, s.Values[r])
			}
		}
	}
	t.Run("a record less", func(t *testing.T) { drops(t, dir) })
}

// drops takes one line of each kind out of the history of a run that has passed: it must not pass then.
func drops(t *testing.T, dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		fits []string
		says string
	}{
		{"a send", []string{`"process":"producer-os"`, `"f":"send"`}, "C5 phantom"},
		{"a record of a topic that grows", []string{`"process":"final-committed"`, `"f":"poll"`, `"topic":"commit"`}, "C1 lost"},
		{"a record that retention left", []string{`"process":"final-uncommitted"`, `"f":"poll"`, `"topic":"retention"`}, "C1 lost"},
		{"a record that compaction left", []string{`"process":"final-uncommitted"`, `"f":"poll"`, `"topic":"compact"`, `"key":"fence"`}, "C11 compacted"},
		{"a record of a topic that was deleted", []string{`"process":"churn-reader"`, `"f":"poll"`}, "C1 lost"},
		{"a record that a group handled", []string{`"process":"readers"`, `"f":"consume"`}, "C12 consumed"},
	} {
		// Handled twice is as good as once, so a line is taken that is the only one of its value.
		var less bytes.Buffer
		dropped := ""
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			line := s.Text()
			if dropped == "" && !slices.ContainsFunc(c.fits, func(part string) bool { return !strings.Contains(line, part) }) {
				dropped = line
				continue
			}
			less.WriteString(line + "\n")
		}
		if dropped == "" {
			t.Errorf("%s: the history has no line with %q", c.name, c.fits)
			continue
		}
		result := judgeText(t, dir, less.Bytes())
		if result.Passed || !slices.ContainsFunc(result.Report.Violations, func(v string) bool { return strings.Contains(v, c.says) }) {
			t.Errorf("%s: without %s no %q in %q", c.name, dropped, c.says, result.Report.Violations)
		}
	}
}

// judgeText judges a history with the samples of a run.
func judgeText(t *testing.T, dir string, text []byte) Result {
	t.Helper()
	other := t.TempDir()
	for _, name := range []string{"samples.jsonl", "result.json"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(other, name), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(other, "history.jsonl"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	result, err := JudgeDir(other)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// TestLossIsCaught takes the first segment out of the logs of the dead node, as far as they still have it: the
// topics that grow do. The soak must end in a failure, whoever sees it first.
func TestLossIsCaught(t *testing.T) {
	t.Parallel()
	taken := 0
	o := Options{Bin: build(t), Dir: t.TempDir(), Seed: 1, Duration: 15 * time.Second, KillEvery: 7 * time.Second, Quiet: 4 * time.Second, Rate: 1000,
		Out: t.Output(), settle: 10 * time.Second}
	o.sabotage = func(dataDir string) error {
		logs, err := filepath.Glob(filepath.Join(dataDir, "broker-*", "parts", "*", "00000000000000000000.log"))
		for _, path := range logs {
			err = errors.Join(err, os.Remove(path))
			taken++
		}
		return err
	}
	result, err := Run(t.Context(), o)
	t.Logf("%d segments were taken; run: %v; problems %q; violations %q", taken, err, result.Problems, result.Report.Violations)
	if taken == 0 {
		t.Fatal("no log had a segment to take")
	}
	if err == nil && result.Passed {
		t.Error("segments were taken away and nothing was noticed")
	}
}

// TestIdleNodeIsCaught: a node that neither compacts nor deletes keeps all data, and must not pass.
func TestIdleNodeIsCaught(t *testing.T) {
	t.Parallel()
	o := Options{Bin: build(t), Dir: t.TempDir(), Seed: 1, Duration: 12 * time.Second, KillEvery: 5 * time.Second, Quiet: 4 * time.Second, Rate: 2000,
		MarkBefore: time.Second, Out: t.Output(), settle: 5 * time.Second,
		extra: []string{"--set", "log.cleaner.enable=false", "--set", "log.retention.check.interval.ms=3600000"}}
	result, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if result.Passed {
		t.Error("passed")
	}
	for _, says := range []string{"the cleaner did 0 rounds", "retention deleted nothing", "are not compacted"} {
		if !slices.ContainsFunc(result.Problems, func(p string) bool { return strings.Contains(p, says) }) {
			t.Errorf("no %q in %q", says, result.Problems)
		}
	}
	if !slices.ContainsFunc(result.Report.Violations, func(v string) bool { return strings.HasPrefix(v, "C11 compacted") }) {
		t.Errorf("no C11 in %q", result.Report.Violations)
	}
}
