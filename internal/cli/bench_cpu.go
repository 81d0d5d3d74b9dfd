package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ownCPU is the processor time of this process so far, user and system.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // the one possible error is a pointer outside of the process
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// brokerCPU reads the processor time of the cluster's brokers. It exists only where that
// time is known to be theirs.
type brokerCPU struct {
	// of says whose time it is: "kalda, pid 42" or the address of metrics.
	of   string
	read func(ctx context.Context) (time.Duration, error)
}

// findBrokerCPU looks for the processes that listen at the brokers' addresses. When one
// of them is not on this machine, or may not be seen, the error says which and why.
func findBrokerCPU(ctx context.Context, brokers []brokerInfo) (*brokerCPU, error) {
	var pids []int
	var names []string
	for _, b := range brokers {
		pid, name, err := listenerProcess(ctx, b.Host, b.Port)
		if err != nil {
			return nil, fmt.Errorf("broker %d: %w", b.ID, err)
		}
		if !slices.Contains(pids, pid) { // one process may be several brokers
			pids = append(pids, pid)
			names = append(names, fmt.Sprintf("%s, pid %d", name, pid))
		}
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("the cluster names no broker")
	}
	return &brokerCPU{of: strings.Join(names, "; "), read: func(context.Context) (time.Duration, error) {
		var sum time.Duration
		for _, pid := range pids {
			t, err := processCPU(pid)
			if err != nil {
				return 0, err
			}
			sum += t
		}
		return sum, nil
	}}, nil
}

// forwards says whether a program of this name passes connections on instead of serving
// them: its time is not the broker's.
func forwards(name string) bool {
	switch name {
	case "docker-proxy", "rootlessport", "rootlesskit", "slirp4netns", "pasta", "pasta.avx2", "passt", "ssh", "sshd", "kubectl",
		"socat", "haproxy", "nginx", "envoy":
		return true
	}
	return false
}

// listenerProcess finds the process that listens at an address of this machine.
func listenerProcess(ctx context.Context, host string, port int32) (pid int, name string, err error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return 0, "", fmt.Errorf("no address for %s", host)
	}
	inodes := make(map[string]bool)
	for _, ip := range ips {
		if !isLocal(ip.Unmap()) {
			return 0, "", fmt.Errorf("%s is another machine", host)
		}
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue // no IPv6, or a system without /proc: then nothing is found below
		}
		for _, inode := range listeningInodes(text, ips, uint16(port)) {
			inodes["socket:["+inode+"]"] = true
		}
	}
	if len(inodes) == 0 {
		return 0, "", fmt.Errorf("no listener on port %d of this machine can be seen", port)
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, "", err
	}
	for _, fd := range fds {
		// Processes of other users do not show their files, and some end meanwhile.
		if link, err := os.Readlink(fd); err != nil || !inodes[link] {
			continue
		}
		n, err := strconv.Atoi(strings.Split(fd, "/")[2])
		if err != nil {
			return 0, "", err
		}
		if pid != 0 && pid != n {
			return 0, "", fmt.Errorf("several processes share port %d", port)
		}
		pid = n
	}
	if pid == 0 {
		return 0, "", fmt.Errorf("its process belongs to another user")
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return 0, "", err
	}
	if name = strings.TrimSpace(string(comm)); forwards(name) {
		return 0, "", fmt.Errorf("%s forwards port %d to it", name, port)
	}
	return pid, name, nil
}

// isLocal says whether an address is one of this machine's.
func isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == ip
	})
}

// listeningInodes reads a table of /proc/net and returns the sockets that take
// connections to one of ips: those bound to it, or else those bound to every address.
func listeningInodes(table []byte, ips []netip.Addr, port uint16) []string {
	var exact, any []string
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != "0A" { // TCP_LISTEN
			continue
		}
		addr, p, ok := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(p, 16, 16); !ok || err != nil || uint16(n) != port {
			continue
		}
		ip, ok := kernelIP(addr)
		switch {
		case !ok:
		case ip.IsUnspecified():
			any = append(any, f[9])
		case slices.ContainsFunc(ips, func(want netip.Addr) bool { return want.Unmap() == ip }):
			exact = append(exact, f[9])
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return any
}

// kernelIP reads an address as /proc/net/tcp writes it on a little-endian machine: words
// of 32 bits, each with its bytes reversed.
func kernelIP(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b)%4 != 0 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	ip, ok := netip.AddrFromSlice(b)
	return ip.Unmap(), ok
}

// processCPU is the processor time of a process, in steps of 10 ms (Linux's USER_HZ is
// 100 for every program that can ask).
func processCPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, ok := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ") // a name may hold anything
	f := strings.Fields(after)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%d/stat: times %q and %q", pid, f[11], f[12])
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// maxMetricsPage bounds a page of metrics.
const maxMetricsPage = 64 << 20

// metricsCPU reads the processor time from a page of Prometheus metrics, as kalda's
// /metrics and every usual exporter have it.
func metricsCPU(url string) *brokerCPU {
	return &brokerCPU{of: url, read: func(ctx context.Context) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, usage("--metrics-url: %v", err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, failed(err, "read metrics")
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("read metrics: %s answers %s", url, resp.Status)
		}
		lines := bufio.NewScanner(io.LimitReader(resp.Body, maxMetricsPage))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			name, value, ok := strings.Cut(lines.Text(), " ")
			if !ok || name != "process_cpu_seconds_total" {
				continue
			}
			s, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			if err != nil {
				return 0, failed(err, "read metrics")
			}
			return time.Duration(s * float64(time.Second)), nil
		}
		if err := lines.Err(); err != nil {
			return 0, failed(err, "read metrics")
		}
		return 0, fmt.Errorf("read metrics: %s has no process_cpu_seconds_total", url)
	}}
}
