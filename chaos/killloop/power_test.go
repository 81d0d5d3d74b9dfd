package killloop

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/chaos/check"
	"github.com/kalda-io/kalda/chaos/internal/mutant"
	"github.com/kalda-io/kalda/chaos/internal/need"
	"github.com/kalda-io/kalda/interop/target"
)

// diskBytes is room for a run: the ensemble's files take 200 MiB before the first record.
const diskBytes = 4 << 30

// power runs rounds of power cuts with kalda.flush.policy=commit.
func power(t *testing.T, bin target.Binary, rounds int, seed uint64) (check.Report, error) {
	t.Helper()
	disk := need.Volume(t, diskBytes)
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		t.Log("without kcat's producers") // TestKillLoop tells, or fails
	}
	dir := os.Getenv("KALDA_CHAOS_DIR")
	if dir == "" {
		dir = t.TempDir()
	}
	o := Options{Bin: bin, Dir: dir + "/power", Seed: seed, Rounds: rounds, Policy: "commit", Kcat: kcat, Disk: disk, Out: logWriter{t}}
	report, err := Run(t.Context(), o)
	t.Logf("replay in chaos/: %s", Replay(o))
	t.Logf("%d records acknowledged, %d of unknown fate, %d read at the end, %d acknowledged commits, %d power cuts, duplicates %v",
		report.OK, report.Unknown, report.Read, report.Commits, report.Kills, report.Duplicates)
	return report, err
}

// TestPowerLoss cuts the power under a node whose topics say commit: nothing acknowledged may be lost.
// KALDA_POWERLOSS_ROUNDS (default 3) is the number of cuts.
func TestPowerLoss(t *testing.T) {
	if kind, err := target.KindFromEnv(); err != nil || kind != target.Kalda {
		t.Skipf("only kalda promises this (target %q, %v)", kind, err)
	}
	rounds, seed := 3, uint64(time.Now().UnixNano())
	if s := os.Getenv("KALDA_POWERLOSS_ROUNDS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatalf("KALDA_POWERLOSS_ROUNDS: %v", err)
		}
	}
	bin, err := target.Build(t.Context(), target.Kalda, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	report, err := power(t, bin, rounds, seed)
	for _, v := range report.Violations {
		t.Error(v)
	}
	if err != nil {
		t.Error(err)
	}
	if report.Kills != rounds || report.OK == 0 || report.Commits == 0 {
		t.Errorf("%d cuts, want %d; %d records and %d commits acknowledged", report.Kills, rounds, report.OK, report.Commits)
	}
}

// TestPowerLossIsSeen takes the syncs out of the product: the same proof must then find records lost, or
// it proves nothing.
func TestPowerLossIsSeen(t *testing.T) {
	if kind, err := target.KindFromEnv(); err != nil || kind != target.Kalda {
		t.Skipf("the mutant is one of kalda (target %q, %v)", kind, err)
	}
	bin, err := mutant.Build(t.Context(), t.TempDir(), mutant.NoDatasync())
	if err != nil {
		t.Fatal(err)
	}
	report, err := power(t, bin, 1, 1)
	lost := 0
	for _, v := range report.Violations {
		if strings.HasPrefix(v, "C1 lost") || strings.HasPrefix(v, "C3 changed") {
			lost++
		}
	}
	t.Logf("%d records lost or replaced and %d more violations; the run ended with: %.2000v", lost, len(report.Violations)+report.Hidden-lost, err)
	if lost == 0 {
		t.Errorf("nothing was synced and no loss of an acknowledged record was found: %q", report.Violations)
	}
}
