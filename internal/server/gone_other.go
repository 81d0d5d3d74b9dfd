//go:build !linux

package server

import "net"

// peerGone says that the client of nc cannot send the missing bytes any more, where that
// can be known without reading. Elsewhere the connection ends when it reads again.
func peerGone(nc net.Conn, missing int) bool {
	m, ok := nc.(interface{ PeerGone(missing int) bool })
	return ok && m.PeerGone(missing)
}
