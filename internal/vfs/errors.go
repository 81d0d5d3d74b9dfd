package vfs

import (
	"errors"
	"io/fs"
	"syscall"
)

// SyncError marks the failure of a Sync, Datasync, SyncDir or SyncFS. Whatever its cause,
// nobody knows afterwards which bytes are on the disk, and the next sync may report
// success without having written them: it must not be tried again.
type SyncError struct {
	// Err is what the file system said.
	Err error
}

// Error prints the cause.
func (e *SyncError) Error() string { return "sync failed: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SyncError) Unwrap() error { return e.Err }

// Synced marks the error of a sync. No error stays none, and a name that is gone is no
// failed sync: it was deleted under a scheduled flush.
func Synced(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &SyncError{Err: err}
}

// NoSpace says that a write was refused because the volume, or what this user may have of
// it, is full. It passes by itself once there is room.
func NoSpace(err error) bool {
	var s *SyncError
	return !errors.As(err, &s) && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT))
}

// DiskFailed says that the disk below cannot be relied on any more: it reported an I/O
// error, it became read-only or went away, or a sync failed.
func DiskFailed(err error) bool {
	var s *SyncError
	if errors.As(err, &s) {
		return true
	}
	for _, e := range [...]error{syscall.EIO, syscall.EROFS, syscall.ENXIO, syscall.ENODEV, syscall.ESTALE,
		syscall.EBADMSG, syscall.ENOTCONN, syscall.ESHUTDOWN, damagedFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
