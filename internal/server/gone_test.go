package server

import (
	"net"
	"runtime"
	"testing"
	"time"
)

// On a real socket: a client that closed is gone once what it sent is not enough; one that
// only sends slowly is not, and nothing is read on the way.
func TestPeerGoneOnLoopback(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := client.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if peerGone(nc, 1000) || peerGone(nc, 0) {
		t.Error("gone while it is open")
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for !peerGone(nc, 101) && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if !peerGone(nc, 101) || !peerGone(nc, 0) {
		t.Error("not gone although it sends no more")
	}
	if peerGone(nc, 100) {
		t.Error("gone although all that is missing is on its way")
	}
	if n, err := nc.Read(make([]byte, 200)); n != 100 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	client.Close()
}
