package affinity

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// What Do starts keeps to the processors, and the thread is free again afterwards.
func TestDo(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux")
	}
	before, err := allowed()
	if err != nil {
		t.Fatal(err)
	}
	one := before[len(before)-1:]
	err = Do(one, func() error {
		if now, err := allowed(); err != nil || len(now) != 1 || now[0] != one[0] {
			t.Errorf("on %v instead of %v: %v", now, one, err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=TestHelper", "-test.v")
		cmd.Env = append(os.Environ(), "AFFINITY_HELPER=1")
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), "processors: 1\n") {
			t.Errorf("the child: %s", out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if after, err := allowed(); err != nil || len(after) != len(before) {
		t.Errorf("afterwards on %v instead of %v: %v", after, before, err)
	}
	want := errors.New("its own")
	if err := Do(nil, func() error { return want }); err != want {
		t.Error(err)
	}
}

// TestHelper is the child of TestDo.
func TestHelper(t *testing.T) {
	if os.Getenv("AFFINITY_HELPER") == "" {
		t.Skip("for TestDo")
	}
	all, err := allowed()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("processors: %d\n", len(all))
}

func TestSplit(t *testing.T) {
	broker, generator, err := Split()
	if runtime.GOOS != "linux" || runtime.NumCPU() < 2 {
		if err == nil {
			t.Errorf("%v and %v", broker, generator)
		}
		return
	}
	if err != nil || len(generator) != 1 || len(broker) != runtime.NumCPU()-1 {
		t.Errorf("%v and %v: %v", broker, generator, err)
	}
}
