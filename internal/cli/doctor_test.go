package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fakeCluster runs a cluster of one broker whose metadata names brokers instead of its own.
func fakeCluster(t *testing.T, id string, brokers ...brokerInfo) (addr string) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(id))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if len(brokers) > 0 {
		c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			resp := req.ResponseKind().(*kmsg.MetadataResponse)
			resp.ClusterID = kmsg.StringPtr(id)
			for _, b := range brokers {
				rb := kmsg.NewMetadataResponseBroker()
				rb.NodeID, rb.Host, rb.Port = b.ID, b.Host, b.Port
				resp.Brokers = append(resp.Brokers, rb)
			}
			return resp, nil, true
		})
	}
	return c.ListenAddrs()[0]
}

func brokerAt(t *testing.T, id int32, addr string) brokerInfo {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	b := brokerInfo{ID: id, Host: host}
	if _, err := fmt.Sscan(port, &b.Port); err != nil {
		t.Fatal(err)
	}
	return b
}

// answering listens and sends the same bytes to whoever writes something.
func answering(t *testing.T, answer string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1024)
			_, _ = conn.Read(b) // whatever it is, the answer is the same
			_, _ = conn.Write([]byte(answer))
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func examine(t *testing.T, seeds ...string) (code int, text string) {
	t.Helper()
	d := &doctor{now: time.Now}
	code = d.examine(context.Background(), seeds)
	var b bytes.Buffer
	if err := d.print(&b); err != nil {
		t.Fatal(err)
	}
	return code, b.String()
}

func TestDoctorFindsTheAdvertisedAddressThatFails(t *testing.T) {
	other := fakeCluster(t, "other")
	good := fakeCluster(t, "mine")
	for _, c := range []struct {
		name string
		bad  brokerInfo
		want []string
	}{
		{"refused", brokerInfo{ID: 7, Host: "127.0.0.1", Port: 1}, []string{"broker 7 at 127.0.0.1:1", "FAIL  connection  connection refused", "set advertised.listeners of broker 7"}},
		{"name", brokerInfo{ID: 8, Host: "kafka.invalid", Port: 9092}, []string{"FAIL  name        no address for the name kafka.invalid", "broker 8 advertises it: add the name to DNS or /etc/hosts"}},
		{"container", brokerInfo{ID: 9, Host: "0a1b2c3d4e5f", Port: 9092}, []string{"FAIL  name", "looks like a container's"}},
		{"stranger", brokerAt(t, 3, other), []string{"FAIL  cluster     the broker there belongs to another cluster (other)"}},
	} {
		seed := fakeCluster(t, "mine", c.bad, brokerAt(t, 0, good))
		code, text := examine(t, seed)
		if code != ExitUnhealthy {
			t.Errorf("%s: code %d, want 6\n%s", c.name, code, text)
		}
		for _, w := range c.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in\n%s", c.name, w, text)
			}
		}
		if strings.Count(text, "FAIL") != 1 || !strings.Contains(text, "broker 0 at "+good) {
			t.Errorf("%s: want one failure, and the good broker looked at\n%s", c.name, text)
		}
	}
}

func TestDoctorNamesOtherProtocols(t *testing.T) {
	for _, c := range []struct{ answer, want string }{
		{"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP"},
		{"\x15\x03\x03\x00\x02\x02\x46rest", "it wants TLS"},
		{"", "closed the connection without an answer"},
		{"\x00\x00\x00\x06\x00\x00\x00\x63\x00\x00", "an answer to request 99 instead of 1"},
	} {
		code, text := examine(t, answering(t, c.answer))
		if code != ExitUnreachable || !strings.Contains(text, "FAIL  protocol") || !strings.Contains(text, c.want) {
			t.Errorf("%q: code %d, want 5 and %q\n%s", c.answer, code, c.want, text)
		}
	}
}

// A port that takes connections and answers nothing is not called a firewall: a web server,
// which waits for the end of a line, is recognised.
func TestDoctorNamesSilentPorts(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"web server": {func(conn net.Conn) {
			if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
				_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			}
		}, "it speaks HTTP"},
		"nobody": {func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }, "it takes the connection and does not answer"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				c.serve(conn)
				conn.Close()
			}
		}()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		_, err = (&probe{conn: conn}).apiVersions(ctx)
		cancel()
		conn.Close()
		l.Close()
		<-done
		if err == nil || err.Error() != c.want && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if hint := remedy(err, l.Addr().String(), advertisedBy{}); hint == "" || strings.Contains(hint, "firewall") {
			t.Errorf("%s: hint %q", name, hint)
		}
	}
}

func TestDoctorSeesTwoClusters(t *testing.T) {
	code, text := examine(t, fakeCluster(t, "a"), fakeCluster(t, "b"))
	if code != ExitUnhealthy || !strings.Contains(text, "another cluster (b)") {
		t.Errorf("code %d\n%s", code, text)
	}
}

func TestJudge(t *testing.T) {
	info := &clusterInfo{controller: 1, brokers: []brokerInfo{{ID: 1}, {ID: 2}}, topics: []topicInfo{{name: "t", partitions: []partitionInfo{
		{n: 0, leader: 1, replicas: []int32{1, 2}, isr: []int32{1, 2}},
	}}}}
	if r := judge(info); !r.Healthy || r.Partitions != 1 || r.Brokers != 2 {
		t.Errorf("%+v", r)
	}
	info.controller = -1
	info.topics[0].partitions = append(info.topics[0].partitions,
		partitionInfo{n: 1, leader: -1, replicas: []int32{1, 2}},
		partitionInfo{n: 2, leader: 2, replicas: []int32{1, 2}, isr: []int32{2}},
		partitionInfo{n: 3, leader: 2, replicas: []int32{2}, isr: []int32{2}, offline: []int32{2}},
	)
	want := []string{"the cluster has no controller", "t-1 has no leader (replicas 1,2)", "t-2: 1 of 2 replicas in sync, not 1", "t-3: replicas offline on 2"}
	if r := judge(info); r.Healthy || strings.Join(r.Problems, "|") != strings.Join(want, "|") {
		t.Errorf("%q", r.Problems)
	}
}
