package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSignals ends the real process: one SIGTERM drains, and two in a row, as a process
// group's killer sends them, end it as well instead of leaving it hanging.
func TestSignals(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "kalda")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, signals := range map[string]int{"one": 1, "two": 2, "three": 3} {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				cmd := exec.Command(bin, "dev", "--ephemeral", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "-o", "json")
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				// A hanging process is killed, and the test fails by its exit state.
				guard := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
				line, err := bufio.NewReader(out).ReadString('\n')
				if err != nil || !strings.Contains(line, `"ready":true`) {
					t.Errorf("ready line %q: %v", line, err)
				}
				for range signals {
					_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone after the first
				}
				err = cmd.Wait()
				guard.Stop()
				if cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
					t.Fatalf("%d signals: killed because it did not end: %v", signals, err)
				}
				if signals == 1 && err != nil {
					t.Errorf("an orderly stop ends with %v", err)
				}
			}
		})
	}
}
