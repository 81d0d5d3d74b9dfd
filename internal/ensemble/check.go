package ensemble

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.uber.org/zap"
)

// A directory whose files were damaged, cut or lost is refused with the file's name. etcd
// by itself panics in goroutines of its own where pages of its database are damaged; where
// the log is gone, or ends before what the database has applied, it waits for ever, or
// takes entries that it then passes over as applied. So both files are read before it is
// started. What is below a page's structure (the bytes of a value) nobody checks.

// checkData looks at the database and the log in the member's directory.
func checkData(dir string, log *zap.Logger) error {
	walDir, db := filepath.Join(dir, "member", "wal"), filepath.Join(dir, "member", "snap", "db")
	names, err := os.ReadDir(walDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	logs := 0
	for _, n := range names {
		if !strings.HasSuffix(n.Name(), ".wal") {
			continue
		}
		in, err := n.Info()
		if err != nil {
			return err
		}
		if in.Size() == 0 {
			return damaged(filepath.Join(walDir, n.Name()), "it is empty")
		}
		logs++
	}
	if logs == 0 {
		return damaged(walDir, "there is no log in it")
	}
	applied, err := checkDB(db)
	if err != nil {
		return err
	}
	last, err := lastEntry(walDir, log)
	if err != nil {
		return fmt.Errorf("%s: %w", walDir, err)
	}
	if last < applied {
		return damaged(walDir, fmt.Sprintf("the log ends at entry %d, and %s has applied entry %d: its end is lost", last, db, applied))
	}
	return nil
}

// damaged says what to do as well: nothing but a copy helps.
func damaged(path, what string) error {
	return fmt.Errorf("%s: %s. Put back a backup of the ensemble and the log directories", path, what)
}

// lastEntry is the index of the last entry in the log.
func lastEntry(walDir string, log *zap.Logger) (uint64, error) {
	snaps, err := wal.ValidSnapshotEntries(log, walDir)
	if err != nil {
		return 0, err
	}
	from := &walpb.Snapshot{}
	if len(snaps) > 0 {
		from = snaps[len(snaps)-1]
	}
	w, err := wal.OpenForRead(log, walDir, from)
	if err != nil {
		return 0, err
	}
	defer w.Close()
	_, _, entries, err := w.ReadAll()
	if err != nil {
		return 0, err
	}
	if len(entries) == 0 {
		return from.GetIndex(), nil
	}
	return entries[len(entries)-1].GetIndex(), nil
}
