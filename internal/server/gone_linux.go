package server

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerGone says that the client of nc cannot send the missing bytes any more: the
// connection broke, or the client closed it with fewer bytes on the way. It reads nothing.
func peerGone(nc net.Conn, missing int) bool {
	if m, ok := nc.(interface{ PeerGone(missing int) bool }); ok {
		return m.PeerGone(missing)
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(fds, 0); err != nil || n == 0 {
			return
		}
		if fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
			gone = true
			return
		}
		waiting, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		gone = err == nil && (missing == 0 || waiting < missing)
	})
	return err != nil || gone
}
