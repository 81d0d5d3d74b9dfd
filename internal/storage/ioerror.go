package storage

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/kalda-io/kalda/internal/vfs"
)

// The marker ioerror names log directories whose disk failed while they were in use. After
// an I/O error the kernel may take pages for written that the disk does not have, and a
// later process that finds them in memory would believe them. The directory that failed
// cannot be relied on to keep such a note, so every other directory of the broker has it,
// and so has the directory of an ensemble in the same process.

// IOError is what a marker says.
type IOError struct {
	// Dirs are the ids of the directories that failed; empty in a marker that speaks of
	// the directory it lies in.
	Dirs []string
	// What is the first error, for people.
	What string
}

// MarkIOError leaves the marker that the directories with those ids failed, beside what it
// says already. It need not be a log directory that it is left in.
func MarkIOError(fsys vfs.FS, path string, e IOError) error {
	old, err := ReadIOError(fsys, path)
	if err != nil && !isCorrupt(err) {
		return err
	}
	for _, id := range old.Dirs {
		if !slices.Contains(e.Dirs, id) {
			e.Dirs = append(e.Dirs, id)
		}
	}
	if old.What != "" {
		e.What = old.What
	}
	p := props{{"what", strings.ReplaceAll(e.What, "\n", " ")}, {"dirs", strings.Join(e.Dirs, ",")}}
	return storageError("write "+ioErrorFile, writeProps(fsys, path+string(pathSeparator)+ioErrorFile, p))
}

// ReadIOError reads the marker in a directory; none is no error. A damaged one is a
// CorruptError.
func ReadIOError(fsys vfs.FS, path string) (IOError, error) {
	p, err := readProps(fsys, path+string(pathSeparator)+ioErrorFile)
	if errors.Is(err, fs.ErrNotExist) {
		return IOError{}, nil
	}
	if err != nil {
		return IOError{}, storageError("read "+ioErrorFile, err)
	}
	e := IOError{What: p.get("what")}
	if s := p.get("dirs"); s != "" {
		e.Dirs = strings.Split(s, ",")
	}
	return e, nil
}

// ClearIOError removes the marker from a directory, once the tails of the directories that
// it names were read again from their disks, or fetched again.
func ClearIOError(fsys vfs.FS, path string) error {
	err := fsys.Remove(path + string(pathSeparator) + ioErrorFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = vfs.Synced(fsys.SyncDir(path))
	}
	return storageError("remove "+ioErrorFile, err)
}

// MarkIOError leaves the marker that the directories of e failed in this one.
func (d *Dir) MarkIOError(e IOError) error { return MarkIOError(d.fs, d.path, e) }

// ClearIOError removes the marker from this directory.
func (d *Dir) ClearIOError() error { return ClearIOError(d.fs, d.path) }

// Distrust makes the directory Suspect, whatever it left behind: another directory's
// marker names it, or the ensemble knows better. To be called before its logs are opened;
// they are then read from the disk and not from the kernel's memory.
func (d *Dir) Distrust() {
	d.class, d.reread = Suspect, true
	d.run.Lock()
	d.run.reported = false
	d.run.Unlock()
}

// ioErrorHere says that the directory's own marker speaks of it. One that cannot be read
// does.
func (d *Dir) ioErrorHere() bool {
	if _, err := d.fs.Stat(d.file(ioErrorFile)); err != nil {
		return false
	}
	e, err := ReadIOError(d.fs, d.path)
	return err != nil || len(e.Dirs) == 0 || slices.Contains(e.Dirs, d.id)
}
