package vfs

import (
	"errors"
	"syscall"
)

// NoDescriptors says whether an error of opening means that the process, or the system,
// has no file descriptor left. It passes once others close theirs.
func NoDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
