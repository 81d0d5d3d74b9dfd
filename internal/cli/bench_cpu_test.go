package cli

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The process behind a listener is found, and its time is the one that the system tells
// the process itself.
func TestBrokerCPUIsThatOfTheListener(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: only Linux has /proc, where listeners are found")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := int32(ln.Addr().(*net.TCPAddr).Port)
	b := brokerInfo{ID: 1, Host: "127.0.0.1", Port: port}
	cpu, err := findBrokerCPU(t.Context(), []brokerInfo{b, b}) // one process counts once
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(cpu.of, fmt.Sprintf(", pid %d", os.Getpid())) || strings.Contains(cpu.of, ";") {
		t.Errorf("found %q, want pid %d once", cpu.of, os.Getpid())
	}
	for end := ownCPU() + 50*time.Millisecond; ownCPU() < end; { // something to tell
	}
	before := ownCPU()
	got, err := cpu.read(t.Context())
	if after := ownCPU(); err != nil || got < before-30*time.Millisecond || got > after+30*time.Millisecond {
		t.Errorf("%s (%v), want %s to %s", got, err, before, after)
	}
	if _, err := findBrokerCPU(t.Context(), []brokerInfo{b, {ID: 2, Host: "192.0.2.1", Port: port}}); err == nil || err.Error() != "broker 2: 192.0.2.1 is another machine" {
		t.Errorf("a broker elsewhere: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := findBrokerCPU(t.Context(), []brokerInfo{b}); err == nil {
		t.Error("found a process where nobody listens")
	}
}

// A socket bound to the address goes before one bound to all; connections do not count.
func TestListeningInodes(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	line := func(addr, state, inode string) string {
		return "   0: " + addr + " 00000000:0000 " + state + " 00000000:00000000 00:00000000 00000000     0        0 " + inode + " 1 0000 100 0 0 10 0\n"
	}
	any, exact, conn := line("00000000:2384", "0A", "1"), line("0100007F:2384", "0A", "2"), line("0100007F:2384", "01", "3")
	six, mapped := line("00000000000000000000000001000000:2384", "0A", "4"), line("0000000000000000FFFF00000100007F:2384", "0A", "5")
	for _, c := range []struct{ table, ip, want string }{
		{head + any + exact + conn, "127.0.0.1", "[2]"},
		{head + any + conn, "127.0.0.1", "[1]"},
		{head + conn, "127.0.0.1", "[]"},
		{head + exact, "127.0.0.2", "[]"},
		{head + six, "::1", "[4]"},
		{head + mapped, "127.0.0.1", "[5]"},
	} {
		if got := fmt.Sprint(listeningInodes([]byte(c.table), []netip.Addr{netip.MustParseAddr(c.ip)}, 9092)); got != c.want {
			t.Errorf("%s: %s, want %s", c.ip, got, c.want)
		}
	}
	if got := listeningInodes([]byte(exact), []netip.Addr{netip.MustParseAddr("127.0.0.1")}, 9093); len(got) > 0 {
		t.Errorf("another port: %v", got)
	}
}

// A page of metrics gives the process's time; one without it is an error, not zero.
func TestMetricsCPU(t *testing.T) {
	page := "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.25\n"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			fmt.Fprint(w, page)
			return
		}
		http.NotFound(w, r)
	}))
	defer srv.Close()
	if d, err := metricsCPU(srv.URL + "/metrics").read(t.Context()); err != nil || d != 1250*time.Millisecond {
		t.Errorf("%s, %v", d, err)
	}
	if _, err := metricsCPU(srv.URL).read(t.Context()); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("not found: %v", err)
	}
	page = "up 1\n"
	if _, err := metricsCPU(srv.URL + "/metrics").read(t.Context()); err == nil || !strings.Contains(err.Error(), "has no process_cpu_seconds_total") {
		t.Errorf("without the metric: %v", err)
	}
}
