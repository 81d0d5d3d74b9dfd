package killloop

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/interop/target"
)

// TestKillLoop runs a few rounds for each flush policy. KALDA_CHAOS_ROUNDS (default 3) and
// KALDA_CHAOS_SEED change it; KALDA_CHAOS_DIR keeps data and histories. Without kcat it runs with
// franz-go alone, or fails with KALDA_NO_SKIP=1.
func TestKillLoop(t *testing.T) {
	rounds, seed := 3, uint64(time.Now().UnixNano())
	var err error
	if s := os.Getenv("KALDA_CHAOS_ROUNDS"); s != "" {
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatalf("KALDA_CHAOS_ROUNDS: %v", err)
		}
	}
	if s := os.Getenv("KALDA_CHAOS_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("KALDA_CHAOS_SEED: %v", err)
		}
	}
	kind, err := target.KindFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := target.Build(t.Context(), kind, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		if os.Getenv("KALDA_NO_SKIP") == "1" {
			t.Fatal("kcat is not installed; install it with `apt-get install kcat`")
		}
		t.Log("kcat is not installed: its producers are left out; install it with `apt-get install kcat`")
	}
	for _, policy := range []string{"os", "commit"} {
		t.Run(policy, func(t *testing.T) {
			dir := os.Getenv("KALDA_CHAOS_DIR")
			if dir == "" {
				dir = t.TempDir()
			}
			o := Options{Bin: bin, Dir: dir + "/" + policy, Seed: seed, Rounds: rounds, Policy: policy, Kcat: kcat, Out: logWriter{t}}
			report, err := Run(t.Context(), o)
			t.Logf("%d acknowledged, %d of unknown fate, %d records read at the end, %d kills, duplicates %v",
				report.OK, report.Unknown, report.Read, report.Kills, report.Duplicates)
			for _, v := range report.Violations {
				t.Error(v)
			}
			if report.Hidden > 0 {
				t.Errorf("and %d more", report.Hidden)
			}
			if err != nil {
				t.Error(err)
			}
			if report.Kills != rounds {
				t.Errorf("%d kills, want %d", report.Kills, rounds)
			}
			if t.Failed() {
				t.Logf("seed %d; replay in chaos/: %s", seed, Replay(o))
			}
		})
	}
}

// TestLossIsCaught cuts acknowledged records off the logs of the dead node, as a disk would that
// lied about a sync: the loop must end in a failure, whichever of its rules sees it first.
func TestLossIsCaught(t *testing.T) {
	kind, err := target.KindFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := target.Build(t.Context(), kind, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const cut = 2000 // bytes: several records, less than a run has written
	o := Options{Bin: bin, Dir: t.TempDir(), Seed: 1, Rounds: 1, Policy: "os", Out: logWriter{t}}
	o.sabotage = func(dataDir string) error {
		damaged := 0
		err := filepath.WalkDir(dataDir, func(path string, d fs.DirEntry, err error) error {
			// The first segment of a partition, in Kafka's file names and in kfake's.
			if name := filepath.Base(path); err != nil || name != "00000000000000000000.log" && name != "0.dat" {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			// Behind the records of a busy log there are zeros.
			size := len(bytes.TrimRight(b, "\x00"))
			if size <= cut {
				return nil
			}
			damaged++
			return os.Truncate(path, int64(size-cut))
		})
		if err == nil && damaged == 0 {
			err = errors.New("no log was found to damage")
		}
		return err
	}
	report, err := Run(t.Context(), o)
	t.Logf("run: %v; violations: %q", err, report.Violations)
	if err == nil && len(report.Violations) == 0 {
		t.Error("acknowledged records were cut off and nothing was noticed")
	}
	if err != nil && strings.Contains(err.Error(), "no log was found") {
		t.Error(err)
	}
}

// logWriter sends progress to the test's log.
type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
