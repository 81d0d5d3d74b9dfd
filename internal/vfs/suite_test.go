package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestSuite holds every implementation to the promises of the package doc.
func TestSuite(t *testing.T) {
	for _, impl := range []struct {
		name string
		make func(t *testing.T) (FS, string)
	}{
		{"os", func(t *testing.T) (FS, string) { return OS{}, t.TempDir() }},
		{"mem", func(*testing.T) (FS, string) { return NewMem(), "/" }},
		{"faults", func(*testing.T) (FS, string) { return NewFaults(NewMem()), "/" }},
	} {
		t.Run(impl.name, func(t *testing.T) {
			for _, c := range []struct {
				name string
				run  func(t *testing.T, fsys FS, dir string)
			}{
				{"ReadWrite", testReadWrite},
				{"Truncate", testTruncate},
				{"Names", testNames},
				{"OpenAfterRemove", testOpenAfterRemove},
				{"Lock", testLock},
				{"Syncs", testSyncs},
				{"WholeFiles", testWholeFiles},
				{"Map", testMap},
				{"Allocate", testAllocate},
				{"Modified", testModified},
				{"ReadFresh", testReadFresh},
				{"Extend", testExtend},
			} {
				t.Run(c.name, func(t *testing.T) {
					fsys, dir := impl.make(t)
					c.run(t, fsys, dir)
				})
			}
		})
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, f File) string {
	t.Helper()
	size := must(f.Size())(t)
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); int64(n) != size || err != nil && err != io.EOF {
		t.Fatalf("read %d of %d bytes: %v", n, size, err)
	}
	return string(b)
}

func testReadWrite(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "a")
	f := must(fsys.Create(name))(t)
	if n, err := f.WriteAt([]byte("hello"), 3); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if got := content(t, f); got != "\x00\x00\x00hello" {
		t.Fatalf("a hole must read as zeros: %q", got)
	}
	must(f.WriteAt([]byte("HE"), 3))(t)
	other := must(fsys.Open(name))(t)
	if got := content(t, other); got != "\x00\x00\x00HEllo" {
		t.Fatalf("a second handle reads %q", got)
	}
	b := make([]byte, 8)
	if n, err := other.ReadAt(b, 5); n != 3 || err != io.EOF {
		t.Fatalf("read across the end: %d, %v", n, err)
	}
	if n, err := other.ReadAt(b, 100); n != 0 || err != io.EOF {
		t.Fatalf("read behind the end: %d, %v", n, err)
	}
	if _, err := other.WriteAt([]byte("x"), 0); err == nil {
		t.Fatal("a handle opened for reading wrote")
	}
	if _, err := f.ReadAt(b, -1); err == nil {
		t.Fatal("a negative position was read")
	}
	rw := must(fsys.OpenReadWrite(name))(t)
	must(rw.WriteAt([]byte("!"), 8))(t)
	if got := content(t, f); got != "\x00\x00\x00HEllo!" {
		t.Fatalf("content %q", got)
	}
	again := must(fsys.Create(name))(t)
	if size := must(f.Size())(t); size != 0 {
		t.Fatalf("Create left %d bytes", size)
	}
	for _, f := range []File{f, other, rw, again} {
		ok(t, f.Close())
	}
	if err := f.Close(); err == nil {
		t.Fatal("second Close gave no error")
	}
	if _, err := f.ReadAt(b, 0); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("read after Close: %v", err)
	}
}

func testTruncate(t *testing.T, fsys FS, dir string) {
	f := must(fsys.Create(filepath.Join(dir, "a")))(t)
	defer f.Close()
	must(f.WriteAt([]byte("0123456789"), 0))(t)
	ok(t, f.Truncate(4))
	ok(t, f.Truncate(8))
	if got := content(t, f); got != "0123\x00\x00\x00\x00" {
		t.Fatalf("cut bytes came back: %q", got)
	}
	ok(t, f.Truncate(2))
	must(f.WriteAt([]byte("z"), 5))(t)
	if got := content(t, f); got != "01\x00\x00\x00z" {
		t.Fatalf("content %q", got)
	}
}

func testNames(t *testing.T, fsys FS, dir string) {
	sub := filepath.Join(dir, "x", "y")
	ok(t, fsys.MkdirAll(sub))
	ok(t, fsys.MkdirAll(sub))
	for _, name := range []string{"b", "a", "c"} {
		f := must(fsys.Create(filepath.Join(sub, name)))(t)
		must(f.WriteAt([]byte(name), 0))(t)
		ok(t, f.Close())
	}
	if got := must(fsys.List(sub))(t); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("list %q", got)
	}
	ok(t, fsys.Rename(filepath.Join(sub, "a"), filepath.Join(sub, "c")))
	if got := must(fsys.List(sub))(t); !slices.Equal(got, []string{"b", "c"}) {
		t.Fatalf("list after rename %q", got)
	}
	if got := string(must(ReadFile(fsys, filepath.Join(sub, "c"), 10))(t)); got != "a" {
		t.Fatalf("rename kept %q", got)
	}
	if in := must(fsys.Stat(filepath.Join(sub, "c")))(t); in.Size != 1 || in.IsDir {
		t.Fatalf("stat file %+v", in)
	}
	if in := must(fsys.Stat(sub))(t); in != (Info{IsDir: true}) {
		t.Fatalf("stat dir %+v", in)
	}
	missing := filepath.Join(sub, "nope")
	_, errOpen := fsys.Open(missing)
	_, errRW := fsys.OpenReadWrite(missing)
	_, errStat := fsys.Stat(missing)
	_, errList := fsys.List(missing)
	_, errCreate := fsys.Create(filepath.Join(missing, "z"))
	for i, err := range []error{errOpen, errRW, errStat, errList, errCreate,
		fsys.Remove(missing), fsys.Rename(missing, filepath.Join(sub, "q")), fsys.SyncDir(missing)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("missing name, call %d: %v", i, err)
		}
	}
	ok(t, fsys.RemoveAll(missing))
	if err := fsys.Remove(sub); err == nil {
		t.Fatal("removed a directory that is not empty")
	}
	ok(t, fsys.Remove(filepath.Join(sub, "b")))
	ok(t, fsys.RemoveAll(filepath.Join(dir, "x")))
	if _, err := fsys.Stat(sub); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("RemoveAll left %v", err)
	}
}

func testOpenAfterRemove(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "a")
	f := must(fsys.Create(name))(t)
	must(f.WriteAt([]byte("still here"), 0))(t)
	ok(t, fsys.Remove(name))
	g := must(fsys.Create(name))(t)
	if got := content(t, f); got != "still here" {
		t.Fatalf("removed file reads %q", got)
	}
	ok(t, f.Datasync())
	ok(t, f.Close())
	ok(t, g.Close())
}

func testLock(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "lock")
	l := must(fsys.Lock(name))(t)
	if _, err := fsys.Lock(name); !errors.Is(err, ErrLocked) {
		t.Fatalf("second lock: %v", err)
	}
	ok(t, l.Close())
	ok(t, must(fsys.Lock(name))(t).Close())
}

func testSyncs(t *testing.T, fsys FS, dir string) {
	f := must(fsys.Create(filepath.Join(dir, "a")))(t)
	defer f.Close()
	must(f.WriteAt([]byte("a"), 0))(t)
	ok(t, f.Sync())
	ok(t, f.Datasync())
	ok(t, fsys.SyncDir(dir))
	ok(t, fsys.SyncFS(dir))
	if s := must(fsys.Space(dir))(t); s.Total <= 0 || s.Free <= 0 || s.Free > s.Total {
		t.Fatalf("space %+v", s)
	}
	if id := must(fsys.DeviceID(dir))(t); id == "" {
		t.Fatal("no device id")
	}
}

func testWholeFiles(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "a")
	ok(t, WriteFile(fsys, name, []byte("one"), true))
	ok(t, WriteFile(fsys, name, []byte("second"), false))
	if got := must(ReadFile(fsys, name, 6))(t); !bytes.Equal(got, []byte("second")) {
		t.Fatalf("content %q", got)
	}
	var large *TooLargeError
	if _, err := ReadFile(fsys, name, 5); !errors.As(err, &large) || large.Size != 6 {
		t.Fatalf("a file over the limit: %v", err)
	}
	if got := must(fsys.List(dir))(t); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("WriteFile left %q", got)
	}
}

// testMap: bytes stored through a mapping are the file's at once, by every handle, and
// after Close; what lies outside of the mapping or the file is an error.
func testMap(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "a")
	f := must(fsys.Create(name))(t)
	defer f.Close()
	mf, supported := f.(Mapper)
	if !supported {
		t.Skip("no mappings here")
	}
	const size, off, n = 40_000, 9_001, 20_000 // neither begins nor ends with a page
	_ = must(f.WriteAt(bytes.Repeat([]byte{'.'}, size), 0))(t)
	if _, err := mf.Map(size-10, 11); err == nil && !isOS(fsys) {
		t.Error("mapped beyond the end of the file")
	}
	m, err := mf.Map(off, n)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	ok(t, err)
	want := bytes.Repeat([]byte{'.'}, size)
	for i, at := range []int64{off, off + 5000, off + n - 7} {
		b := []byte{'a' + byte(i), 'b', 'c', 'd', 'e', 'f', 'g'}
		copy(want[at:], b)
		if k, err := m.WriteAt(b, at); k != len(b) || err != nil {
			t.Fatal(k, err)
		}
	}
	for _, at := range []int64{0, off - 8192, off + n + 8192, size} {
		if _, err := m.WriteAt([]byte("x"), at); err == nil {
			t.Errorf("stored at %d, outside of [%d, %d)", at, off, off+n)
		}
	}
	other := must(fsys.Open(name))(t)
	defer other.Close()
	if content(t, f) != string(want) || content(t, other) != string(want) {
		t.Error("a handle does not see what was stored")
	}
	_ = must(f.WriteAt([]byte("written"), off+100))(t) // beside the mapping, over its bytes
	copy(want[off+100:], "written")
	_ = must(m.WriteAt([]byte("S"), off+101))(t)
	want[off+101] = 'S'
	ok(t, f.Datasync())
	ok(t, m.Close())
	if content(t, f) != string(want) {
		t.Error("stores and writes do not mix")
	}
	// A file that somebody cut takes no store, and nobody dies of it.
	m = must(mf.Map(off, n))(t)
	ok(t, f.Truncate(100))
	if _, err := m.WriteAt(make([]byte, 3000), off+8000); err == nil {
		t.Error("stored into what was cut off")
	}
	ok(t, m.Close())
}

// testExtend: what a file is extended by reads as zeros, and writes with zeros behind them
// leave what they say, whether the file reached that far or not.
func testExtend(t *testing.T, fsys FS, dir string) {
	f := must(fsys.Create(filepath.Join(dir, "a")))(t)
	defer f.Close()
	x, supported := f.(Extender)
	if !supported {
		t.Skip("files are not extended here")
	}
	write(t, f, 0, []byte("abc"))
	err := x.Extend(3, 300_000)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	ok(t, err)
	want := append([]byte("abc"), make([]byte, 300_000-3)...)
	if content(t, f) != string(want) {
		t.Fatal("an extended file is not what it was, and zeros behind it")
	}
	for _, c := range []struct {
		n        int
		off, end int64
	}{{5000, 3, 200_000}, {7, 100, 110}, {70_000, 250_000, 600_000}, {10, 600_000, 600_010}, {3, 600_005, 600_000}} {
		p := bytes.Repeat([]byte{'x'}, c.n)
		if n, err := x.WriteZeroed(p, c.off, c.end); n != c.n || err != nil {
			t.Fatal(n, err)
		}
		if more := int(max(c.off+int64(c.n), c.end)) - len(want); more > 0 {
			want = append(want, make([]byte, more)...)
		}
		clear(want[c.off:max(c.off, c.end)])
		copy(want[c.off:], p)
	}
	if content(t, f) != string(want) {
		t.Fatal("writes with zeros behind them did not leave both")
	}
	ok(t, f.Datasync())
	ok(t, f.Truncate(3))
	if content(t, f) != "abc" {
		t.Fatal("the zeros do not go")
	}
}

func isOS(fsys FS) bool { _, is := fsys.(OS); return is }

// A file tells when it was written last, whatever it is called since; reading and opening
// it changes nothing.
func testModified(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "a")
	before := time.Now().Add(-time.Second).UnixMilli() // clocks of file systems tick coarsely
	f := must(fsys.Create(name))(t)
	must(f.WriteAt([]byte("x"), 0))(t)
	ok(t, f.Close())
	ok(t, fsys.Rename(name, name+"2"))
	first := must(fsys.Stat(name + "2"))(t).ModifiedMs
	if first < before || first > time.Now().Add(time.Second).UnixMilli() {
		t.Errorf("written at %d, was begun at %d", first, before)
	}
	f = must(fsys.OpenReadWrite(name + "2"))(t)
	content(t, f)
	ok(t, f.Close())
	if again := must(fsys.Stat(name + "2"))(t).ModifiedMs; again != first {
		t.Errorf("%d, and %d after reading", first, again)
	}
	if m := must(fsys.Stat(dir))(t).ModifiedMs; m != 0 {
		t.Errorf("a directory was written at %d", m)
	}
}

// A fresh read gives what any other does, what was not synced yet included.
func testReadFresh(t *testing.T, fsys FS, dir string) {
	f := must(fsys.Create(filepath.Join(dir, "f")))(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	must(f.WriteAt(want, 0))(t)
	for range 2 {
		got := make([]byte, 8192)
		if n, err := ReadFresh(f, got, 4096); err != nil || n != len(got) || !bytes.Equal(got, want[4096:4096+8192]) {
			t.Fatal(n, err)
		}
		if n, err := ReadFresh(f, got, 12288); err != io.EOF || n != 16000-12288 || !bytes.Equal(got[:n], want[12288:]) {
			t.Fatal(n, err)
		}
		ok(t, f.Sync())
	}
	ok(t, f.Close())
}
