//go:build !linux

package server

import "net"

// plain is for Linux only.
type plain struct{ net.Conn }

func newPlain(net.Conn) *plain { return nil }
