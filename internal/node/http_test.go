package node

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

// get asks the broker's HTTP address and returns status and body.
func (w *world) get(addr, path string) (int, string) {
	w.t.Helper()
	c, err := w.net.Dial(context.Background(), "tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Close = true
	if err := req.Write(c); err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// The probes follow the broker's state: alive all the time, ready only while it serves.
func TestHTTP(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start("kalda.http.listen=127.0.0.1:8080")
		defer b.stop()
		b.create("t", 1, nil)
		for _, c := range []struct {
			ready            bool
			health, readyErr int
		}{{true, 200, 200}, {false, 200, 503}, {true, 200, 200}} {
			b.ready.Store(c.ready) // false: as before the end of a start and from the begin of a stop
			if code, _ := w.get(b.HTTP(), "/healthz"); code != c.health {
				t.Errorf("ready %v: /healthz is %d", c.ready, code)
			}
			if code, body := w.get(b.HTTP(), "/readyz"); code != c.readyErr {
				t.Errorf("ready %v: /readyz is %d %s", c.ready, code, body)
			}
		}
		code, body := w.get(b.HTTP(), "/metrics")
		if code != 200 || !strings.Contains(body, `topic="t"`) {
			t.Errorf("/metrics is %d:\n%s", code, body)
		}
		if code, _ := w.get(b.HTTP(), "/nothing"); code != 404 {
			t.Errorf("/nothing is %d", code)
		}
	})
}
