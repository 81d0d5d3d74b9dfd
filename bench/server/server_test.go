package server

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const readyLine = `echo starting; echo '{"ready":true,"kafka":["127.0.0.1:7"],"http":"x"}'; `

func TestCPUOfTheChildIsMeasured(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("read from /proc: Linux only")
	}
	p, err := Start(t.Context(), []string{"sh", "-c", readyLine + "while :; do :; done"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if p.Addr != "127.0.0.1:7" || p.Ready <= 0 {
		t.Errorf("%+v", p)
	}
	deadline := time.Now().Add(20 * time.Second)
	for cpu := 0.0; cpu < 0.05; {
		if cpu, err = p.CPU(); err != nil || time.Now().After(deadline) {
			t.Fatalf("a busy process used %v CPU-s: %v", cpu, err)
		}
	}
	if n, err := p.PeakMemory(); err != nil || n < 100<<10 {
		t.Errorf("peak memory %d: %v", n, err)
	}
}

func TestStopEndsTheChild(t *testing.T) {
	p, err := Start(t.Context(), []string{"sh", "-c", readyLine + "while :; do :; done"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	pid := p.cmd.Process.Pid
	p.Stop()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("the child is still there: %v", err)
	}
	p.Stop() // a second time does nothing
}

func TestStartFails(t *testing.T) {
	if _, err := Start(t.Context(), []string{"/does/not/exist"}, nil, nil); err == nil {
		t.Error("a missing program starts")
	}
	if _, err := Start(t.Context(), []string{"sh", "-c", "echo broken >&2"}, nil, nil); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a program that ends before it is ready: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, []string{"sh", "-c", "while :; do :; done"}, nil, nil); err == nil {
		t.Error("a program that is never ready starts")
	}
}

func TestKillAndMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("read from /proc: Linux only")
	}
	p, err := Start(t.Context(), []string{"sh", "-c", readyLine + "trap '' TERM; while :; do :; done"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.Memory()
	if err != nil || m.Resident < 100<<10 || m.Peak < m.Resident || m.Descriptors < 3 {
		t.Errorf("%+v: %v", m, err)
	}
	if p.HTTP != "x" {
		t.Errorf("HTTP address %q", p.HTTP)
	}
	p.Kill() // SIGTERM would be ignored
	if _, err := p.Memory(); err == nil {
		t.Error("the process lives")
	}
}
