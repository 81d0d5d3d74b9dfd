package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func write(t *testing.T, f File, off int64, b []byte) {
	t.Helper()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// read returns a file's content, "<none>" if there is no such name.
func read(t *testing.T, fsys FS, name string) string {
	t.Helper()
	b, err := ReadFile(fsys, name, 1<<30)
	if errors.Is(err, fs.ErrNotExist) {
		return "<none>"
	}
	ok(t, err)
	return string(b)
}

// TestCrashKeepsOnlySynced: with seed 0 a power cut takes all that was not synced.
func TestCrashKeepsOnlySynced(t *testing.T) {
	m := NewMem()
	f := must(m.Create("/a"))(t)
	write(t, f, 0, []byte("first"))
	if got := read(t, m.CrashClone(0), "/a"); got != "<none>" {
		t.Fatalf("a name without SyncDir survived: %q", got)
	}
	ok(t, m.SyncDir("/"))
	if got := read(t, m.CrashClone(0), "/a"); got != "" {
		t.Fatalf("data without Sync survived: %q", got)
	}
	ok(t, f.Datasync())
	write(t, f, 0, []byte("FIRST and more"))
	if got := read(t, m.CrashClone(0), "/a"); got != "first" {
		t.Fatalf("after the sync: %q", got)
	}
	ok(t, f.Truncate(2))
	if got := read(t, m.CrashClone(0), "/a"); got != "first" {
		t.Fatalf("an unsynced cut: %q", got)
	}
	ok(t, f.Sync())
	if got := read(t, m.CrashClone(0), "/a"); got != "FI" {
		t.Fatalf("a synced cut: %q", got)
	}
	ok(t, m.Rename("/a", "/b"))
	if got := read(t, m.CrashClone(0), "/a"); got != "FI" {
		t.Fatalf("an unsynced rename: %q", got)
	}
	ok(t, m.SyncDir("/"))
	ok(t, m.Remove("/b"))
	if got := read(t, m.CrashClone(0), "/b"); got != "FI" {
		t.Fatalf("an unsynced removal: %q", got)
	}
	if got := read(t, m.Clone(), "/b"); got != "<none>" {
		t.Fatalf("Clone is not as written: %q", got)
	}
}

// TestCrashCloneIsApart: neither side of a clone sees the other's later writes.
func TestCrashCloneIsApart(t *testing.T) {
	m := NewMem()
	f := must(m.Create("/a"))(t)
	write(t, f, 0, []byte("one"))
	must(m.Lock("/lock"))(t)
	ok(t, m.SyncFS("/"))
	for _, c := range []*Mem{m.Clone(), m.CrashClone(0), m.CrashClone(7)} {
		must(c.Lock("/lock"))(t)
		g := must(c.OpenReadWrite("/a"))(t)
		write(t, g, 0, []byte("two"))
	}
	write(t, f, 0, []byte("six"))
	if got := read(t, m, "/a"); got != "six" {
		t.Fatalf("original reads %q", got)
	}
}

// TestCrashSeeded: with seeds every sector is old, new or zero; over many seeds each of
// the outcomes occurs; one seed always gives the same.
func TestCrashSeeded(t *testing.T) {
	m := NewMem()
	f := must(m.Create("/a"))(t)
	write(t, f, 0, bytes.Repeat([]byte{'o'}, 4*sectorSize))
	ok(t, m.SyncFS("/"))
	write(t, f, 2*sectorSize, bytes.Repeat([]byte{'n'}, 6*sectorSize))
	must(m.Create("/b"))(t)
	must(m.Create("/c"))(t)
	seen := map[string]bool{}
	for seed := uint64(1); seed <= 300; seed++ {
		c := m.CrashClone(seed)
		got := read(t, c, "/a")
		if again := read(t, m.CrashClone(seed), "/a"); again != got {
			t.Fatalf("seed %d: two different copies", seed)
		}
		if got[:2*sectorSize] != string(bytes.Repeat([]byte{'o'}, 2*sectorSize)) {
			t.Fatalf("seed %d: a synced sector changed", seed)
		}
		if len(got) < 4*sectorSize || len(got) > 8*sectorSize {
			t.Fatalf("seed %d: size %d", seed, len(got))
		}
		for at := 2 * sectorSize; at < len(got); at += sectorSize {
			end := min(at+sectorSize, len(got))
			kind := got[at]
			for i := at; i < end; i++ {
				if got[i] != kind {
					t.Fatalf("seed %d: a sector at %d is torn", seed, at)
				}
			}
			if at < 4*sectorSize && kind == 0 || at >= 4*sectorSize && kind == 'o' {
				t.Fatalf("seed %d: sector at %d reads %q", seed, at, kind)
			}
			seen[fmt.Sprintf("%q %v", kind, at < 4*sectorSize)] = true
		}
		b, cName := read(t, c, "/b") != "<none>", read(t, c, "/c") != "<none>"
		if cName && !b {
			t.Fatalf("seed %d: names kept out of order", seed)
		}
		seen[fmt.Sprint("names ", b, cName)] = true
	}
	for _, want := range []string{`'o' true`, `'n' true`, `'n' false`, `'\x00' false`,
		"names false false", "names true false", "names true true"} {
		if !seen[want] {
			t.Errorf("never seen in 300 seeds: %s", want)
		}
	}
}

func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	fsys := NewFaults(NewMem())
	f := must(fsys.Create("/a.log"))(t)
	var hooked []string
	fsys.Add(Rule{Op: OpWriteAt, Path: "*.log", Skip: 1, Times: 1, Short: 2, Err: boom,
		Hook: func(op Op, name string) { hooked = append(hooked, string(op)+" "+name) }})
	write(t, f, 0, []byte("aaaa"))
	if n, err := f.WriteAt([]byte("bbbb"), 4); n != 2 || !errors.Is(err, boom) {
		t.Fatalf("short write: %d, %v", n, err)
	}
	if got := read(t, fsys, "/a.log"); got != "aaaabb" {
		t.Fatalf("after a short write: %q", got)
	}
	write(t, f, 4, []byte("cccc"))
	if len(hooked) != 1 || hooked[0] != "write /a.log" {
		t.Fatalf("hooks %q", hooked)
	}
	fsys.Add(Rule{Err: boom})
	_, e1 := fsys.Create("/x")
	_, e2 := fsys.Open("/a.log")
	_, e3 := fsys.List("/")
	_, e4 := fsys.Stat("/")
	_, e5 := f.Size()
	_, e6 := f.ReadAt(make([]byte, 1), 0)
	_, e7 := fsys.OpenReadWrite("/a.log")
	for i, err := range []error{e1, e2, e3, e4, e5, e6, e7, fsys.Remove("/a.log"), fsys.RemoveAll("/a.log"),
		fsys.Rename("/a.log", "/b"), fsys.MkdirAll("/d"), fsys.SyncDir("/"), fsys.SyncFS("/"),
		f.Truncate(0), f.Sync(), f.Datasync(), f.Close()} {
		if !errors.Is(err, boom) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	fsys.Clear()
	if got := read(t, fsys, "/a.log"); got != "aaaacccc" {
		t.Fatalf("a failed call changed the file: %q", got)
	}
}

// TestMappedStoresNeedASync: a store survives the process at once, a power cut only after
// a sync; faults by rule hit stores as they hit writes.
func TestMappedStoresNeedASync(t *testing.T) {
	m := NewMem()
	faults := NewFaults(m)
	f := must(faults.Create("/a"))(t)
	_ = must(f.WriteAt(make([]byte, 2000), 0))(t)
	ok(t, f.Sync())
	ok(t, m.SyncDir("/"))
	mapped := must(f.(Mapper).Map(0, 2000))(t)
	_ = must(mapped.WriteAt([]byte("stored"), 500))(t)
	at := func(fsys FS) string {
		c := must(fsys.Open("/a"))(t)
		b := make([]byte, 6)
		_ = must(c.ReadAt(b, 500))(t)
		return string(b)
	}
	if got := at(m.Clone()); got != "stored" {
		t.Errorf("after the death of the process: %q", got)
	}
	if got := at(m.CrashClone(0)); got != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("after a power cut: %q", got)
	}
	ok(t, f.Datasync())
	if got := at(m.CrashClone(0)); got != "stored" {
		t.Errorf("after a sync and a power cut: %q", got)
	}
	boom := errors.New("boom")
	faults.Add(Rule{Op: OpWriteAt, Times: 1, Short: 2, Err: boom})
	if n, err := mapped.WriteAt([]byte("xyz"), 500); n != 2 || err != boom || at(m) != "xyored" {
		t.Errorf("%d, %v, %q", n, err, at(m))
	}
	faults.Add(Rule{Op: OpMap, Err: boom})
	if _, err := f.(Mapper).Map(0, 1); err != boom {
		t.Errorf("map: %v", err)
	}
	ok(t, mapped.Close())
	if mapped.Close() == nil {
		t.Error("closed twice")
	}
}
