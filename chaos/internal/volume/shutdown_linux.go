package volume

import (
	"os"
	"syscall"
	"unsafe"
)

// The flags of FS_IOC_SHUTDOWN.
const (
	logFlush   = 1 // the journal and the data of its transactions are written first
	noLogFlush = 2 // nothing is written any more
)

// fsIocShutdown is _IOR('X', 125, __u32), the same number for ext4, xfs and f2fs.
const fsIocShutdown = 2<<30 | 4<<16 | 'X'<<8 | 125

func shutdown(dir string, flag uint32) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.Fd(), fsIocShutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		return &os.PathError{Op: "shut down the file system", Path: dir, Err: errno}
	}
	return nil
}
