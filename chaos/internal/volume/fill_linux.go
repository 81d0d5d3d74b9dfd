package volume

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// Fill takes room until about leave bytes are free for everybody; with 0 until nothing is, not even
// what the file system keeps for root. Drain gives it back.
func (v *Volume) Fill(leave int64) (err error) {
	free, err := v.Free()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(v.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	size := st.Size()
	for step := max(free-leave, 0); step >= 4096; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, size, step); {
		case err == nil:
			if size += step; leave > 0 {
				return nil
			}
		case errors.Is(err, syscall.ENOSPC): // others took some meanwhile
			step /= 2
		case errors.Is(err, syscall.EINTR):
		default:
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
	return nil
}

// Drain gives back what Fill took.
func (v *Volume) Drain() error { return os.RemoveAll(v.filler()) }

func (v *Volume) filler() string { return filepath.Join(v.dir, "filler") }
