package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync skips the inode's times, which fsync would write as well.
func datasync(f *os.File) error {
	return ignoringEINTR(func() error { return unix.Fdatasync(int(f.Fd())) })
}

// syncfs reports write errors since Linux 5.8.
func syncfs(d *os.File) error {
	return ignoringEINTR(func() error { return unix.Syncfs(int(d.Fd())) })
}
