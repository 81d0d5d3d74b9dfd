package main

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// slackOf are the slacks of all threads of this process.
func slackOf(t *testing.T) (all []int) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		b, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if os.IsPermission(err) {
			t.Skip("who may not nice threads may not see their slack either")
		}
		if err != nil {
			continue // the thread is gone
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// All threads get the slack, the scheduler's monitor among them, unless somebody chose another.
func TestRelaxTimers(t *testing.T) {
	if os.Getenv("KALDA_TEST_SLACK") == "" {
		// In a process of its own, since a thread's slack is inherited.
		cmd := exec.Command(os.Args[0], "-test.run=^TestRelaxTimers$", "-test.v")
		cmd.Env = append(os.Environ(), "KALDA_TEST_SLACK=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if strings.Contains(string(out), "--- SKIP") {
			t.Skip("without CAP_SYS_NICE")
		}
		return
	}
	for _, n := range slackOf(t) {
		if n != int(defaultSlack) {
			t.Skipf("this process began with a slack of %d ns", n)
		}
	}
	before := runtime.GOMAXPROCS(1)
	relaxTimers()
	for _, n := range slackOf(t) {
		if n != int(defaultSlack) {
			t.Errorf("on one processor: a thread with a slack of %d ns", n)
		}
	}
	runtime.GOMAXPROCS(max(before, 2))
	relaxTimers()
	for _, n := range slackOf(t) {
		if n != int(timerSlack) {
			t.Errorf("a thread with a slack of %d ns", n)
		}
	}
	runtime.LockOSThread() // not given back: it ends with the process
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 77_000, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	relaxTimers()
	if n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || n != 77_000 {
		t.Errorf("a slack that was chosen became %d, %v", n, err)
	}
}
