package volume_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/kalda-io/kalda/chaos/internal/need"
	"github.com/kalda-io/kalda/chaos/internal/volume"
)

func TestProbe(t *testing.T) {
	need.Volume(t, 64<<20)
	if err := volume.Probe(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
}

// TestFailures: an open file meets the error that its name promises, and works again after Remount.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*volume.Volume) error
		want syscall.Errno
	}{{"Break", (*volume.Volume).Break, syscall.EIO}, {"ReadOnly", (*volume.Volume).ReadOnly, syscall.EROFS}} {
		t.Run(c.name, func(t *testing.T) {
			v := need.Volume(t, 64<<20)
			f, err := os.Create(filepath.Join(v.Path(), "file"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("before"); err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := c.do(v); err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteString("after")
			if !errors.Is(errors.Join(err, f.Sync()), c.want) {
				t.Errorf("write and sync give %v, want %v", err, c.want)
			}
			_ = f.Close()
			if err := v.Remount(t.Context()); err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(f.Name()); err != nil || string(text) != "before" {
				t.Errorf("afterwards the file holds %q, %v", text, err)
			}
			if err := os.WriteFile(f.Name(), nil, 0o644); err != nil {
				t.Error(err)
			}
		})
	}
}
