package fillloop

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/chaos/internal/need"
	"github.com/kalda-io/kalda/interop/target"
)

// TestFillLoop fills the disk a few times. KALDA_FILL_ROUNDS (default 3) and KALDA_CHAOS_SEED change it.
func TestFillLoop(t *testing.T) {
	if kind, err := target.KindFromEnv(); err != nil || kind != target.Kalda {
		t.Skipf("only kalda promises this (target %q, %v)", kind, err)
	}
	rounds, seed := 3, uint64(time.Now().UnixNano())
	for name, set := range map[string]func(string) error{
		"KALDA_FILL_ROUNDS": func(s string) (err error) { rounds, err = strconv.Atoi(s); return err },
		"KALDA_CHAOS_SEED":  func(s string) (err error) { seed, err = strconv.ParseUint(s, 10, 64); return err },
	} {
		if s := os.Getenv(name); s != "" {
			if err := set(s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	bin, err := target.Build(t.Context(), target.Kalda, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	report, err := Run(t.Context(), Options{Bin: bin, Dir: t.TempDir(), Disk: need.Volume(t, DiskBytes), Seed: seed,
		Rounds: rounds, Policy: "commit", Out: logWriter{t}})
	t.Logf("seed %d: %d records acknowledged, %d of unknown fate, %d read at the end, refused in %d rounds, %d of them without any room, went on after %v at most",
		seed, report.OK, report.Unknown, report.Read, report.Refused, report.Full, report.Resumed)
	for _, v := range report.Violations {
		t.Error(v)
	}
	if err != nil {
		t.Error(err)
	}
	if report.Refused != rounds || report.OK == 0 || report.Unknown != 0 {
		t.Errorf("refused in %d rounds, want %d; %d records acknowledged, %d of unknown fate", report.Refused, rounds, report.OK, report.Unknown)
	}
}

// logWriter sends progress to the test's log.
type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
