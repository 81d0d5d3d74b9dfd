package ensemble

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/meta"
)

// writtenEnsemble returns the directory of an ensemble that took n writes and was closed.
func writtenEnsemble(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	e := openDir(t, dir)
	for i := range n {
		put := meta.Put(fmt.Sprintf("key-%d", i%500), make([]byte, 100))
		if _, err := e.Store().Txn(context.Background(), meta.Txn{Then: []meta.Op{put}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// changed returns a copy of the ensemble in dir in which one file is other bytes; nil
// removes it.
func changed(t *testing.T, dir, file string, b []byte) string {
	t.Helper()
	out := t.TempDir()
	if err := os.CopyFS(out, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(out, file)
	if b == nil {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// Files that were lost, cut or damaged are refused with their names: no panic of etcd's, and
// no start that waits for ever or passes over what is written next.
func TestDamagedFilesAreRefused(t *testing.T) {
	dir := writtenEnsemble(t, snapshotEntries+300)
	log := zapLogger(slog.New(slog.DiscardHandler))
	if err := checkData(dir, log); err != nil {
		t.Fatal(err)
	}
	const db = "member/snap/db"
	wals, err := filepath.Glob(filepath.Join(dir, "member/wal/*.wal"))
	if err != nil || len(wals) != 1 {
		t.Fatalf("%q, %v", wals, err)
	}
	wal := "member/wal/" + filepath.Base(wals[0])
	read := func(file string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good, entries := read(db), read(wal)
	used := len(entries)
	for entries[used-1] == 0 {
		used--
	}
	flipped := func(b []byte, at int) []byte {
		b = append([]byte(nil), b...)
		b[at] ^= 4
		return b
	}
	// In a record; between two of them there are a few bytes that nobody reads.
	inLog := used/2 + bytes.Index(entries[used/2:], []byte("key-"))
	root := rootPage(t, filepath.Join(dir, db))
	for _, c := range []struct {
		name, file string
		bytes      []byte
		says       string
	}{
		{"no log", wal, nil, "member/wal: there is no log in it"},
		{"empty log", wal, []byte{}, wal + ": it is empty"},
		{"log without its end", wal, entries[:used-20_000], "member/wal: the log ends at entry"},
		{"flipped log", wal, flipped(entries, inLog), "member/wal: "},
		{"flipped kind of page", db, flipped(good, root*os.Getpagesize()+8), db + ": page"},
		{"flipped element", db, flipped(good, root*os.Getpagesize()+boltHead+5), db + ": page"},
		{"cut database", db, good[:8*os.Getpagesize()], db + ": "},
		{"no database in it", db, make([]byte, len(good)), db + ": it is no database"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := changed(t, dir, c.file, c.bytes)
			e, err := Open(t.Context(), Options{Dir: bad, SmallWAL: true})
			if err == nil {
				_ = e.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), bad) {
				t.Errorf("the error is %v, want %q", err, c.says)
			}
		})
	}
	// Any flip is refused or lies in what nobody checks; none panics.
	rng := rand.New(rand.NewPCG(1, 1))
	refused := 0
	path := filepath.Join(t.TempDir(), "db")
	pages := len(good) / os.Getpagesize()
	for range 400 {
		at := rng.IntN(min(pages, 60))*os.Getpagesize() + rng.IntN(200)
		if err := os.WriteFile(path, flipped(good, at), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := checkDB(path); err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("byte %d: %v", at, err)
			}
			refused++
		}
	}
	if refused < 20 {
		t.Fatalf("%d of 400 flips refused", refused)
	}
}

// rootPage is the number of the database's root page.
func rootPage(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	root, err := (&boltFile{path: path, f: f, size: st.Size()}).meta()
	if err != nil {
		t.Fatal(err)
	}
	return int(root)
}
