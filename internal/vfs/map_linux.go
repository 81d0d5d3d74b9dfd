package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Map implements Mapper. On Linux a shared mapping is the page cache itself, so reads see
// its bytes at once, the death of the process leaves them there, and fdatasync writes
// them: the kernel notes a page as dirty with the first store after each write-back.
func (f osFile) Map(off int64, n int) (Mapping, error) {
	page := int64(os.Getpagesize())
	start := off / page * page
	var b []byte
	err := ignoringEINTR(func() (err error) {
		b, err = unix.Mmap(int(f.Fd()), start, int(off-start)+n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	// All faults at once cost less than one by one. It is advice: kernels before 5.14 do not
	// know it, and what really fails will fail again at the store.
	_ = unix.Madvise(b, unix.MADV_POPULATE_WRITE)
	return &osMapping{name: f.Name(), b: b, start: start}, nil
}

// lineBytes is a line of the processor's cache.
const lineBytes = 64

// osMapping is a mapped stretch; b[0] is the byte at start.
type osMapping struct {
	name  string
	b     []byte
	start int64
}

// WriteAt implements Mapping. A page that cannot be had (the file was cut, the disk
// failed, a file system that copies on write is full) raises SIGBUS, which is an error here
// and not the end of the process.
func (m *osMapping) WriteAt(p []byte, off int64) (n int, err error) {
	at := off - m.start
	if at < 0 || at+int64(len(p)) > int64(len(m.b)) {
		return 0, &os.PathError{Op: "store", Path: m.name, Err: fs.ErrInvalid}
	}
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if r := recover(); r != nil {
			n, err = 0, m.faulted(r)
		}
	}()
	n = copy(m.b[at:], p)
	// The next store will be behind this one and as long. Zeros that were written ahead have left
	// the cache by then, and whatever the processor orders after a store waits for its line.
	if rest := m.b[at+int64(n):]; len(rest) > n+lineBytes {
		prefetch(unsafe.SliceData(rest), n+lineBytes)
	}
	return n, nil
}

// faulted turns the panic of a fault into an error; other panics go on.
func (m *osMapping) faulted(r any) error {
	var e interface {
		error
		Addr() uintptr
	}
	if err, ok := r.(error); !ok || !errors.As(err, &e) {
		panic(r)
	}
	return &os.PathError{Op: "store", Path: m.name, Err: fmt.Errorf("%w: %w", e, unix.EIO)}
}

// Close implements Mapping.
func (m *osMapping) Close() error {
	b := m.b
	m.b = nil
	if err := unix.Munmap(b); err != nil {
		return &os.PathError{Op: "munmap", Path: m.name, Err: err}
	}
	return nil
}
