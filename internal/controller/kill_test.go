package controller_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/ensemble"
	"github.com/kalda-io/kalda/internal/meta"
)

// childDir tells a copy of this test binary to be the victim of TestRealKill.
const childDir = "KALDA_TEST_KILL_DIR"

func openDir(t *testing.T, dir string) *ensemble.Ensemble {
	t.Helper()
	e, err := ensemble.Open(t.Context(), ensemble.Options{Dir: dir, SmallWAL: true, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A whole process with an embedded ensemble dies by kill -9. The next one on the same directory
// leads the same partitions well before any lease of the dead one could have ended.
func TestRealKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		c := newCluster(t, openDir(t, dir).Store())
		c.start(1, "b1-a")
		c.active(1)
		fmt.Println("made", c.create("t", 3).ID)
		<-t.Context().Done() // never: the parent kills this process
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRealKill$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var made string
	for lines := bufio.NewScanner(out); made == "" && lines.Scan(); {
		made, _ = strings.CutPrefix(lines.Text(), "made ")
		if made == lines.Text() {
			made = ""
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it should be
	if made == "" {
		t.Fatal("the child made no topic")
	}
	start := time.Now()
	e := openDir(t, dir)
	defer e.Close()
	if !e.Exclusive() {
		t.Error("an embedded ensemble is not exclusive")
	}
	c := newCluster(t, e.Store())
	n := c.start(1, "b1-b")
	im := c.until("the new life leads everything", func(im *meta.Image) bool {
		tp := im.Topics["t"]
		if tp == nil || tp.ID.String() != made {
			return false
		}
		for _, ps := range tp.Partitions {
			if ps.Leader != n.reg.Pair() || len(ps.LastKnown) != 0 {
				return false
			}
		}
		return true
	})
	// The leases had nearly 4 s to go.
	if took := time.Since(start); took > 2500*time.Millisecond {
		t.Errorf("leading after %v: a lease was waited for", took)
	} else {
		t.Logf("leading after %v", took)
	}
	if im.Topics["t"].Partitions[0].LeaderEpoch != 1 {
		t.Errorf("leader epoch %d, want 1", im.Topics["t"].Partitions[0].LeaderEpoch)
	}
	c.close()
}
