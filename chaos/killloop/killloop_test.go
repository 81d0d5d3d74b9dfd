package killloop

import (
	"fmt"
	"os"
	"os/exec"
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
			report, err := Run(t.Context(), Options{Bin: bin, Dir: dir + "/" + policy, Seed: seed, Rounds: rounds, Policy: policy, Kcat: kcat, Out: logWriter{t}})
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
				t.Logf("seed %d; replay in chaos/: %s", seed, Replay(policy, rounds, seed))
			}
		})
	}
}

// logWriter sends progress to the test's log.
type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func TestPayloadNamesItsValue(t *testing.T) {
	seen := make(map[string]bool)
	for n := range 300 {
		value := fmt.Sprint("p/", n)
		body := payload(value, n)
		if got := valueOf(body); got != value {
			t.Fatalf("payload %q names %q, want %q", body, got, value)
		}
		if seen[string(body)] {
			t.Fatalf("payload %q was there before", body)
		}
		seen[string(body)] = true
	}
}
