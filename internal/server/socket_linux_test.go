package server

import (
	"net"
	"testing"
)

// A wrapped socket is read and written through its wrapper.
func TestPlainOnlyForSockets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if newPlain(nc) == nil {
		t.Error("a TCP connection is not taken for a socket")
	}
	if newPlain(struct{ *net.TCPConn }{nc.(*net.TCPConn)}) != nil {
		t.Error("a wrapper is gone round")
	}
}
