package vfs

import (
	"errors"
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

// allocate reserves blocks and keeps the size: a copy of the directory stays small.
func (f osFile) allocate(size int64) error {
	if size <= 0 {
		return nil
	}
	err := ignoringEINTR(func() error { return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size) })
	switch err {
	case nil:
		return nil
	case unix.EOPNOTSUPP, unix.ENOSYS:
		return allocateByWriting(f, size)
	}
	_ = f.Truncate(0) // some file systems keep what they got
	return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
}

// dropCache asks the kernel to forget the clean pages of the file.
func (f osFile) dropCache() error {
	err := ignoringEINTR(func() error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) })
	if err != nil {
		return &os.PathError{Op: "fadvise", Path: f.Name(), Err: err}
	}
	return nil
}

// readFresh drops the pages around the read. FADV_RANDOM keeps the kernel from reading
// ahead, which would bring in what the next call has to drop. All of it is advice: a file
// system that knows none is read as ever.
func (f osFile) readFresh(p []byte, off int64) (int, error) {
	advise := func(off, n int64, advice int) {
		_ = ignoringEINTR(func() error { return unix.Fadvise(int(f.Fd()), off, n, advice) })
	}
	advise(0, 0, unix.FADV_RANDOM)
	advise(off, int64(len(p)), unix.FADV_DONTNEED)
	n, err := f.ReadAt(p, off)
	advise(off, int64(len(p)), unix.FADV_DONTNEED)
	return n, err
}

// Extend implements Extender with fallocate(2).
func (f osFile) Extend(from, to int64) error {
	err := ignoringEINTR(func() error { return unix.Fallocate(int(f.Fd()), 0, from, to-from) })
	switch err {
	case nil:
		return nil
	case unix.EOPNOTSUPP, unix.ENOSYS:
		return errors.ErrUnsupported
	}
	return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
}

// zeros is never written to. It stays in the processor's cache while it is written over and over.
var zeros [64 << 10]byte

// WriteZeroed implements Extender with one system call.
func (f osFile) WriteZeroed(p []byte, off, end int64) (int, error) {
	var parts [8][]byte
	parts[0] = p
	n := 1
	for at := off + int64(len(p)); at < end && n < len(parts); n++ {
		parts[n] = zeros[:min(int64(len(zeros)), end-at)]
		at += int64(len(parts[n]))
	}
	wrote, err := unix.Pwritev(int(f.Fd()), parts[:n], off)
	if wrote = max(wrote, 0); wrote >= len(p) {
		return len(p), nil
	}
	// What is missing is written by itself: that meets the error, if there is one.
	if err != nil {
		wrote = 0
	}
	more, err := f.WriteAt(p[wrote:], off+int64(wrote))
	return wrote + more, err
}
