// Package need says why a test cannot run here. A machine without root, loop devices or a tool skips the
// test with the reason; where KALDA_NO_SKIP=1 is set, as in CI, the reason is a failure.
package need

import (
	"os"
	"os/exec"
	"testing"

	"github.com/kalda-io/kalda/chaos/internal/volume"
)

// Volume makes a volume of size bytes that lives as long as the test.
func Volume(t *testing.T, size int64) *volume.Volume {
	t.Helper()
	v, err := volume.Create(t.Context(), t.TempDir(), size)
	if err != nil {
		miss(t, "there are no loop file systems here, or not for this user: "+err.Error())
	}
	t.Cleanup(func() {
		if err := v.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return v
}

// Tool returns the path of a program that the Debian package pkg installs.
func Tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		miss(t, name+" is not installed; install it with `apt-get install "+pkg+"`")
	}
	return path
}

func miss(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("KALDA_NO_SKIP") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}
