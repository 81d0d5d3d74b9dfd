package vfs

import (
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resident is how many pages of the file are in memory.
func resident(t *testing.T, f File, size int) (n int) {
	t.Helper()
	m := must(unix.Mmap(int(f.(osFile).Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED))(t)
	defer func() { ok(t, unix.Munmap(m)) }()
	vec := make([]byte, (size+4095)/4096)
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&vec[0]))); e != 0 {
		t.Fatal(e)
	}
	for _, v := range vec {
		n += int(v & 1)
	}
	return n
}

// A fresh read leaves nothing of what it read in memory, and the rest of the file alone.
func TestReadFreshLeavesNothing(t *testing.T) {
	const size = 1 << 20
	f := must(OS{}.Create(filepath.Join(t.TempDir(), "f")))(t)
	must(f.WriteAt(make([]byte, size), 0))(t)
	ok(t, f.Sync())
	ok(t, DropCache(f))
	if resident(t, f, size) != 0 {
		t.Skip("the temporary directory lies in memory, or its file system drops nothing")
	}
	p := make([]byte, size/4)
	must(ReadFresh(f, p, 0))(t)
	if n := resident(t, f, size); n != 0 {
		t.Errorf("%d pages after a fresh read", n)
	}
	must(f.ReadAt(make([]byte, size), 0))(t)
	must(ReadFresh(f, p, 0))(t)
	if n := resident(t, f, size); n == 0 || n > 3*size/4/4096 {
		t.Errorf("%d pages after a fresh read of a quarter", n)
	}
	ok(t, f.Close())
}
