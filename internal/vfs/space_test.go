package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A full disk takes what still fits and says so; room that was reserved is nobody else's.
func TestCapacity(t *testing.T) {
	m := NewMem()
	m.SetCapacity(1000)
	a := must(m.Create("/a"))(t)
	write(t, a, 0, bytes.Repeat([]byte("a"), 600))
	b := must(m.Create("/b"))(t)
	ok(t, Allocate(b, 300))
	if s := must(m.Space("/"))(t); s.Total != 1000 || s.Free != 100 {
		t.Fatalf("%+v", s)
	}
	n, err := a.WriteAt(bytes.Repeat([]byte("x"), 150), 600)
	if n != 100 || !NoSpace(err) || DiskFailed(err) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	write(t, a, 0, bytes.Repeat([]byte("y"), 700)) // in place there is always room
	write(t, b, 0, bytes.Repeat([]byte("b"), 300)) // and in what was reserved
	if n, err := b.WriteAt([]byte("b"), 300); n != 0 || !NoSpace(err) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if err := Allocate(b, 301); !NoSpace(err) {
		t.Fatal(err)
	}
	ok(t, b.Truncate(0))
	if s := must(m.Space("/"))(t); s.Free != 300 {
		t.Fatalf("%+v", s)
	}
	if err := WriteFile(m, "/c", make([]byte, 301), true); !NoSpace(err) {
		t.Fatal(err)
	}
	if s := must(m.Space("/"))(t); s.Free != 300 {
		t.Fatalf("half a file stays: %+v", s)
	}
}

// A full disk extends no file beyond its room; zeros that find none are no error of the write.
func TestExtendFull(t *testing.T) {
	m := NewMem()
	m.SetCapacity(1000)
	f := NewFaults(m)
	a := must(f.Create("/a"))(t)
	x := a.(Extender)
	if err := x.Extend(0, 1001); !NoSpace(err) {
		t.Fatal(err)
	}
	ok(t, a.Truncate(0))
	ok(t, x.Extend(0, 900))
	if s := must(m.Space("/"))(t); s.Free != 100 {
		t.Fatalf("%+v", s)
	}
	if n, err := x.WriteZeroed(make([]byte, 950), 0, 2000); n != 950 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := x.WriteZeroed(make([]byte, 100), 950, 2000); n != 50 || !NoSpace(err) {
		t.Fatal(n, err)
	}
	boom := errors.New("boom")
	f.Add(Rule{Op: OpAllocate, Times: 1, Err: boom})
	if err := x.Extend(1000, 1000); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	f.Add(Rule{Op: OpWriteAt, Times: 1, Short: 5, Err: boom})
	if n, err := x.WriteZeroed(make([]byte, 10), 0, 20); n != 5 || !errors.Is(err, boom) {
		t.Fatal(n, err)
	}
}

// testAllocate: room is taken and given back; the bytes that are there stay.
func testAllocate(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "f")
	f := must(fsys.Create(name))(t)
	write(t, f, 0, []byte("abc"))
	ok(t, Allocate(f, 1<<20))
	ok(t, Allocate(f, 1<<20))
	if got := must(f.Size())(t); got != 3 && got != 1<<20 {
		t.Fatalf("%d bytes", got)
	}
	got := make([]byte, 3)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "abc" {
		t.Fatalf("%q, %v", got, err)
	}
	ok(t, f.Sync())
	ok(t, DropCache(f))
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "abc" {
		t.Fatalf("%q, %v", got, err)
	}
	ok(t, f.Truncate(0))
	ok(t, f.Close())
}

// Where blocks cannot be reserved they are written, and not half of them.
func TestAllocateByWriting(t *testing.T) {
	m := NewMem()
	f := must(m.Create("/f"))(t)
	ok(t, allocateByWriting(f, 3<<20+5))
	if n := must(f.Size())(t); n != 3<<20+5 {
		t.Fatalf("%d bytes", n)
	}
	m.SetCapacity(4 << 20)
	if err := allocateByWriting(f, 5<<20); !NoSpace(err) {
		t.Fatal(err)
	}
	if n := must(f.Size())(t); n != 0 {
		t.Fatalf("%d bytes stay", n)
	}
}

// What an error says of the disk.
func TestErrorsOfADisk(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("x: %w", &fs.PathError{Op: "write", Path: "/f", Err: err}) }
	for _, c := range []struct {
		err          error
		full, failed bool
	}{
		{nil, false, false},
		{wrap(syscall.ENOSPC), true, false},
		{wrap(syscall.EDQUOT), true, false},
		{wrap(syscall.EIO), false, true},
		{wrap(syscall.EROFS), false, true},
		{wrap(syscall.ENOENT), false, false},
		{wrap(syscall.EMFILE), false, false},
		{Synced(wrap(syscall.ENOSPC)), false, true}, // what was not synced is lost
		{Synced(wrap(syscall.ENOENT)), false, false},
		{Synced(nil), false, false},
		{Synced(errors.New("anything")), false, true},
	} {
		if NoSpace(c.err) != c.full || DiskFailed(c.err) != c.failed {
			t.Errorf("%v: full %v, failed %v", c.err, NoSpace(c.err), DiskFailed(c.err))
		}
	}
}

// A rule may be about one directory, and a disk may lie about what it has synced.
func TestLyingDisk(t *testing.T) {
	m := NewMem()
	f := NewFaults(m)
	f.Add(Rule{Op: OpDatasync, Under: "/a", Lie: true})
	for _, dir := range []string{"/a", "/ab"} {
		ok(t, f.MkdirAll(dir))
		h := must(f.Create(dir + "/f"))(t)
		write(t, h, 0, []byte("x"))
		ok(t, h.Datasync())
		ok(t, f.SyncDir(dir))
	}
	ok(t, f.SyncDir("/"))
	c := m.CrashClone(0)
	if got := read(t, c, "/a/f") + "," + read(t, c, "/ab/f"); strings.Trim(got, "\x00") != ",x" {
		t.Fatalf("%q", got)
	}
}
