// Package volume is a small file system of its own for a node's data: an ext4 in an image file, mounted
// through a loop device. It is there to be taken away:
//
//	Cut      the power fails: what was not synced is gone after the next Mount
//	Break    the disk dies: every call fails with EIO from now on
//	ReadOnly the kernel finds the file system damaged and forbids writing, EROFS
//	Fill     somebody else's file takes the room, down to nothing, until Drain
//
// Cut is the FS_IOC_SHUTDOWN call of Linux with NOLOGFLUSH, which stops the file system without writing
// what the caches hold: no journal commit, no data. The pages of the image file itself live in the host's
// cache and stay; only what ext4 had sent to its device counts as written.
//
// It needs Linux, root, mkfs.ext4, mount and a loop device. Probe tells whether all of that is there, by
// doing it.
package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Volume is one file system. It is not safe for concurrent use.
type Volume struct {
	image, dir string
	mounted    bool
}

// Probe makes a volume in dir, loses an unsynced file on it and removes it again. It returns why that
// does not work here, or nil. A host that keeps the file is no place for these proofs either.
func Probe(ctx context.Context, dir string) (err error) {
	v, err := Create(ctx, filepath.Join(dir, "probe"), 64<<20)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Remove(ctx)) }()
	for _, name := range []string{"synced", "unsynced"} {
		f, err := os.Create(filepath.Join(v.Path(), name))
		if err != nil {
			return err
		}
		_, err = f.WriteString(name)
		if err == nil && name == "synced" {
			err = f.Sync() // ext4 makes the name of a synced new file durable too
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if err := v.Cut(); err != nil {
		return err
	}
	if err := v.Remount(ctx); err != nil {
		return err
	}
	if text, err := os.ReadFile(filepath.Join(v.Path(), "synced")); err != nil || string(text) != "synced" {
		return fmt.Errorf("a power cut lost what was synced: %q, %w", text, err)
	}
	if _, err := os.Stat(filepath.Join(v.Path(), "unsynced")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("a power cut kept what was not synced (%w): nothing can be proven here", err)
	}
	return nil
}

// Create makes a file system of size bytes (a sparse file) below dir and mounts it.
func Create(ctx context.Context, dir string, size int64) (*Volume, error) {
	v := &Volume{image: filepath.Join(dir, "image.ext4"), dir: filepath.Join(dir, "mount")}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(v.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	if err := command(ctx, "mkfs.ext4", "-q", "-F", v.image); err != nil {
		return nil, err
	}
	if err := v.Mount(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// Path returns where the file system is mounted.
func (v *Volume) Path() string { return v.dir }

// Mount mounts the file system, which replays its journal.
func (v *Volume) Mount(ctx context.Context) error {
	if err := command(ctx, "mount", "-o", "loop,errors=remount-ro", v.image, v.dir); err != nil {
		return err
	}
	v.mounted = true
	return nil
}

// Unmount unmounts it. Nobody may have a file open.
func (v *Volume) Unmount(ctx context.Context) error {
	if err := command(ctx, "umount", v.dir); err != nil {
		return err
	}
	v.mounted = false
	return nil
}

// Remount unmounts and mounts, as a machine does that comes back.
func (v *Volume) Remount(ctx context.Context) error {
	if err := v.Unmount(ctx); err != nil {
		return err
	}
	return v.Mount(ctx)
}

// Cut takes the power away: what was not synced is lost, and every later call on the file system fails
// until Remount. Whoever uses it should be stopped before, so that nobody sees the failures.
func (v *Volume) Cut() error { return shutdown(v.dir, noLogFlush) }

// Break lets every later call on the file system fail with EIO until Remount; what was written before
// is still written out.
func (v *Volume) Break() error { return shutdown(v.dir, logFlush) }

// ReadOnly lets the file system find an error in itself. Mounted as it is, the kernel then forbids
// writing: EROFS, also for files that are open, until Remount.
func (v *Volume) ReadOnly() error {
	source, err := v.device()
	if err != nil {
		return err
	}
	return os.WriteFile("/sys/fs/ext4/"+filepath.Base(source)+"/trigger_fs_error", []byte("kalda test\n"), 0)
}

// device returns the loop device behind the mount.
func (v *Volume) device() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == v.dir {
			return fields[0], nil
		}
	}
	return "", fmt.Errorf("%s is not mounted", v.dir)
}

// Free returns the bytes that are free for everybody.
func (v *Volume) Free() (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(v.dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: v.dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Remove unmounts the file system, also one that is broken or busy, and deletes its image.
func (v *Volume) Remove(ctx context.Context) error {
	// The end of a test must not leave a mount behind.
	ctx = context.WithoutCancel(ctx)
	if v.mounted {
		if err := v.Unmount(ctx); err != nil {
			if lazy := command(ctx, "umount", "-l", v.dir); lazy != nil {
				return errors.Join(err, lazy)
			}
			v.mounted = false
		}
	}
	return os.RemoveAll(filepath.Dir(v.image))
}

// command runs a tool and makes its words part of the error.
func command(ctx context.Context, name string, args ...string) error {
	text, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(text))
	}
	return nil
}
