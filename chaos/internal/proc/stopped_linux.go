package proc

import (
	"fmt"
	"syscall"
	"unsafe"
)

// waitid's arguments, from <sys/wait.h>.
const (
	pPID     = 1
	wStopped = 2
	wExited  = 4
	wNoWait  = 0x01000000
)

// waitStopped waits until a child has stopped, or has ended, and leaves the news to be read again: the
// child's end is somebody else's to collect.
func waitStopped(pid int) error {
	var info [128]byte // siginfo_t
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), uintptr(unsafe.Pointer(&info)), wStopped|wExited|wNoWait, 0, 0)
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return fmt.Errorf("wait for process %d to stop: %w", pid, errno)
		}
	}
}
