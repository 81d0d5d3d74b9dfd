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

// TestFill: the room is taken as asked, all of it with 0, and comes back.
func TestFill(t *testing.T) {
	v := need.Volume(t, 64<<20)
	before, err := v.Free()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Fill(8 << 20); err != nil {
		t.Fatal(err)
	}
	if free, err := v.Free(); err != nil || free > 8<<20 || free < 7<<20 {
		t.Errorf("%d bytes are free, %v", free, err)
	}
	if err := v.Fill(0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Path(), "file"), make([]byte, 64<<10), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write on the full volume: %v", err)
	}
	if err := v.Drain(); err != nil {
		t.Fatal(err)
	}
	if free, err := v.Free(); err != nil || free < before-1<<20 {
		t.Errorf("%d bytes are free afterwards, %d before: %v", free, before, err)
	}
}
