// Package vfs is the seam between the log and the disk. Three implementations stand
// behind one interface:
//
//	storage --> FS ---> OS        files of the operating system
//	              \---> Mem       files in memory, with clones "as after a power cut"
//	              \---> Faults    any other FS, with faults injected by rule
//
// What every implementation promises (the suite in suite_test.go holds them to it):
//
//  1. Bytes written are seen by every later read through any handle of the same file.
//  2. Only what Sync or Datasync covered is sure to survive a power cut. A write may be
//     kept in part; bytes that a file grew by may be kept as zeros.
//  3. A name that was created, removed or renamed is sure to survive a power cut only
//     after SyncDir of its directory. Rename within one directory is atomic: afterwards
//     either the old or the new state is found.
//  4. A file that is removed while handles are open stays readable through them.
//  5. Missing and existing names are reported so that errors.Is finds fs.ErrNotExist
//     and fs.ErrExist.
//
// An FS is safe for concurrent use. A File is safe for concurrent use except that Close
// must come after every other call has returned.
//
// Who calls it: storage, and whoever keeps files beside it. What it leaves to others:
// when to sync, retries (there are none here), and the meaning of names.
package vfs

import "io"

// File is an open file. Positions are explicit; there is no cursor.
type File interface {
	// ReadAt reads len(p) bytes from off; fewer only with an error, io.EOF at the end.
	io.ReaderAt
	// WriteAt writes len(p) bytes at off, growing the file as needed with zeros; fewer
	// only with an error.
	io.WriterAt
	// Truncate sets the size in bytes, cutting or growing with zeros.
	Truncate(size int64) error
	// Sync makes data and all metadata of the file durable, but not its name.
	Sync() error
	// Datasync makes the data durable and as much metadata as reading it back needs
	// (the size, not the times). Not the name either.
	Datasync() error
	// Size is the size in bytes.
	Size() (int64, error)
	// Close gives up the handle. It does not sync.
	Close() error
}

// Info describes a name.
type Info struct {
	// Size in bytes; 0 for directories.
	Size int64
	// IsDir tells directories from files.
	IsDir bool
	// ModifiedMs is when a file's content changed last, ms since 1970; 0 for directories.
	ModifiedMs int64
}

// Space is the room on a file system, in bytes.
type Space struct {
	// Total is the size of the file system.
	Total int64
	// Free is what this process may still use.
	Free int64
}

// FS is a file system. Names are paths with the operating system's separator; the
// memory implementation takes slashes.
type FS interface {
	// Create opens name for reading and writing, empty; what it held before is cut.
	Create(name string) (File, error)
	// Open opens an existing file for reading only.
	Open(name string) (File, error)
	// OpenReadWrite opens an existing file for reading and writing.
	OpenReadWrite(name string) (File, error)
	// Remove deletes a file or an empty directory.
	Remove(name string) error
	// RemoveAll deletes name and all below it; a missing name is no error.
	RemoveAll(name string) error
	// Rename moves a name within one directory, replacing what bears the new name.
	Rename(oldName, newName string) error
	// MkdirAll creates a directory and those above it; an existing one is no error.
	MkdirAll(name string) error
	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)
	// Stat describes a name.
	Stat(name string) (Info, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// SyncFS makes everything on the file system that holds dir durable: cheaper than
	// thousands of single syncs.
	SyncFS(dir string) error
	// Lock takes an exclusive lock that ends with Close of the result or with the
	// process. It does not wait: a held lock gives ErrLocked. The file is created.
	Lock(name string) (io.Closer, error)
	// Space reports the room on the file system that holds dir.
	Space(dir string) (Space, error)
	// DeviceID names the device that holds dir; it changes when the volume does.
	DeviceID(dir string) (string, error)
}

// lockError is ErrLocked's type: a constant, so that nobody can change it.
type lockError string

func (e lockError) Error() string { return string(e) }

// ErrLocked is returned by FS.Lock when somebody else holds the lock.
const ErrLocked = lockError("locked by another process")

// ReadFile reads a whole file of at most limit bytes; a larger one is an error.
func ReadFile(fs FS, name string, limit int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, &TooLargeError{Name: name, Size: size, Limit: limit}
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil // it shrank meanwhile; the reader's checksum judges what is left
	}
	return b[:n], err
}

// TooLargeError tells that a file is larger than its reader accepts.
type TooLargeError struct {
	// Name is the file's name.
	Name string
	// Size and Limit are in bytes.
	Size, Limit int64
}

// Error describes the file and the limit.
func (e *TooLargeError) Error() string {
	return e.Name + ": file is larger than any valid one"
}

// WriteFile replaces the content of name in one step: it writes name+".tmp" and renames
// it. With durable set the content is synced before the rename and the directory after
// it, so that a crash leaves the old or the new content, whole; without it a process
// kill leaves one or the other, a power cut may leave neither.
func WriteFile(fs FS, name string, b []byte, durable bool) error {
	tmp := name + ".tmp"
	f, err := fs.Create(tmp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil && durable {
		err = Synced(f.Sync())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if NoSpace(err) {
		_ = fs.Remove(tmp) // half a file takes room that others need
	}
	if err != nil {
		return err
	}
	if err := fs.Rename(tmp, name); err != nil {
		return err
	}
	if durable {
		return Synced(fs.SyncDir(dirOf(name)))
	}
	return nil
}
