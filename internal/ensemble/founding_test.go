package ensemble

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/vfs"
)

func openDir(t *testing.T, dir string) *Ensemble {
	t.Helper()
	e, err := Open(t.Context(), Options{Dir: dir, SmallWAL: true})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What a start that never became ready left is begun anew; what was ready once is kept.
func TestFoundingCutOff(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"member/snap", "member/wal"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{foundingFile, "member/snap/db"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := openDir(t, dir)
	if _, err := os.Stat(filepath.Join(dir, foundingFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mark is there after the founding: %v", err)
	}
	if _, err := e.Store().Txn(context.Background(), meta.Txn{Then: []meta.Op{meta.Put("k", []byte("v"))}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openDir(t, dir)
	defer e.Close()
	if kv, _, err := e.Store().Get(context.Background(), "k"); err != nil || string(kv.Value) != "v" {
		t.Errorf("the second start has %q, %v", kv.Value, err)
	}
}

// A directory has one user at a time, and Close gives it back.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	e := openDir(t, dir)
	_, err := Open(t.Context(), Options{Dir: dir, SmallWAL: true})
	if !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the second user got %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openDir(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
}
