package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"

	"github.com/kalda-io/kalda/internal/server/memnet"
	"github.com/kalda-io/kalda/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// API keys and versions of the requests in tests; none but ApiVersions is flexible.
var apis = map[string][2]int16{
	"produce": {0, 3}, "fetch": {1, 4}, "metadata": {3, 1}, "versions": {18, 3},
}

// request returns a frame. what tells the scripted handler what to do.
func request(api string, id int, what string) []byte {
	a := apis[api]
	b := binary.BigEndian.AppendUint32(nil, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(a[0]))
	b = binary.BigEndian.AppendUint16(b, uint16(a[1]))
	b = binary.BigEndian.AppendUint32(b, uint32(id))
	b = append(b, 0, 2, 'm', 'e')
	if api == "versions" {
		b = append(b, 0)
	}
	b = append(b, what...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// answers cuts a byte stream into answers and prints their ids; text is what the
// handler put behind the header.
func answers(b []byte) (ids []int, texts []string, rest []byte) {
	for len(b) >= 8 {
		size := int(binary.BigEndian.Uint32(b))
		if len(b) < 4+size {
			break
		}
		ids = append(ids, int(binary.BigEndian.Uint32(b[4:])))
		texts = append(texts, string(b[8:4+size]))
		b = b[4+size:]
	}
	return ids, texts, b
}

// scripted is a handler that does what each request's body says: done, park, encode
// (park, body appended when sent), early (complete before Handle returns), stage
// (parked until Flush), none, or close.
type scripted struct {
	mu     sync.Mutex
	events []string
	parked map[int]*wire.Pending
	staged []*wire.Pending
	pad    int // bytes added to each answer
}

// atOnce is a scripted handler that takes the Produce requests whose body is "take".
type atOnce struct {
	*scripted
	taken []int
}

func (h *atOnce) Take(_ *wire.Conn, hd *wire.Header, body []byte) bool {
	if string(body) != "take" {
		return false
	}
	h.note("take %d", hd.CorrelationID)
	h.taken = append(h.taken, int(hd.CorrelationID))
	return true
}

func (h *atOnce) Answer(_ *wire.Conn, out []byte) []byte {
	h.note("answer %v", h.taken)
	for _, id := range h.taken {
		start := len(out)
		out = append(wire.AppendResponseHeader(out, wire.KeyProduce, 3, int32(id)), make([]byte, h.pad)...)
		wire.FinishFrame(out[start:], 0)
	}
	h.taken = nil
	return out
}

func newScripted() *scripted { return &scripted{parked: map[int]*wire.Pending{}} }

func (h *scripted) note(format string, args ...any) {
	h.mu.Lock()
	h.events = append(h.events, fmt.Sprintf(format, args...))
	h.mu.Unlock()
}

func (h *scripted) take() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := strings.Join(h.events, "\n")
	h.events = nil
	if out == "" {
		return "nothing\n"
	}
	return out + "\n"
}

func (h *scripted) Handle(p *wire.Pending) wire.Outcome {
	id := int(p.CorrelationID)
	what := string(p.Body)
	h.note("run %d", id)
	answer := func() { p.Resp = append(p.Resp, make([]byte, h.pad)...) }
	switch what {
	case "done":
		answer()
		return wire.Done
	case "none":
		return wire.NoAnswer
	case "vain": // completes what it does not park
		p.Complete()
		return wire.NoAnswer
	case "vaindone":
		p.Complete()
		return wire.Done
	case "close":
		p.CloseReason = "scripted"
		return wire.CloseConn
	case "early":
		answer()
		p.Complete()
		return wire.Parked
	case "stage":
		h.mu.Lock()
		h.staged = append(h.staged, p)
		h.mu.Unlock()
		return wire.Parked
	case "encode":
		p.Encode = h
	}
	h.mu.Lock()
	h.parked[id] = p
	h.mu.Unlock()
	return wire.Parked
}

func (h *scripted) EncodeAnswer(p *wire.Pending) {
	h.note("encode %d", p.CorrelationID)
	p.Resp = append(p.Resp, "encoded"...)
	p.Resp = append(p.Resp, make([]byte, h.pad)...)
}

func (h *scripted) Flush(*wire.Conn) {
	h.note("flush")
	h.mu.Lock()
	staged := h.staged
	h.staged = nil
	h.mu.Unlock()
	for _, p := range staged {
		p.Complete()
	}
}

func (h *scripted) Cancel(p *wire.Pending) { h.note("cancel %d", p.CorrelationID) }
func (h *scripted) Closed(*wire.Conn)      { h.note("closed") }

// complete answers a parked request; with a reason it closes instead.
func (h *scripted) complete(id int, reason string) {
	h.mu.Lock()
	p := h.parked[id]
	delete(h.parked, id)
	h.mu.Unlock()
	p.CloseReason = reason
	p.Complete()
}

// tapped is a listener that notes every write of the server as one event.
type tapped struct {
	net.Listener
	note func(format string, args ...any)
}

type tappedConn struct {
	*memnet.Conn
	note func(format string, args ...any)
	rest []byte
}

func (l tapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tappedConn{Conn: c.(*memnet.Conn), note: l.note}, nil
}

func (c *tappedConn) Write(b []byte) (int, error) {
	var ids []int
	ids, _, c.rest = answers(append(c.rest, b...))
	c.note("write %v", ids)
	return c.Conn.Write(b)
}

// logTo is a slog handler that notes the lines.
type logTo struct {
	slog.Handler
	note func(format string, args ...any)
}

func (l logTo) Enabled(context.Context, slog.Level) bool { return true }

func (l logTo) Handle(_ context.Context, r slog.Record) error {
	line := "log " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "class", "reason", "not_logged":
			line += fmt.Sprintf(" %s=%q", a.Key, a.Value)
		}
		return true
	})
	l.note("%s", line)
	return nil
}

// rig is a server in a bubble with one scripted handler.
type rig struct {
	t    *testing.T
	h    *scripted
	s    *Server
	net  *memnet.Network
	addr string
	stop func()
}

func newRig(t *testing.T, o Options, buffer int) *rig { return newRigOf(t, newScripted(), o, buffer) }

// newRigOf is newRig with h, which o.Handler may wrap.
func newRigOf(t *testing.T, h *scripted, o Options, buffer int) *rig {
	r := &rig{t: t, h: h, net: memnet.New(buffer)}
	ln, err := r.net.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	r.stop = r.serve(o, tapped{ln, r.h.note})
	return r
}

// serve runs a server on ln and returns how to stop it.
func (r *rig) serve(o Options, ln net.Listener) (stop func()) {
	if o.Handler == nil {
		o.Handler = r.h
	}
	o.Logger = slog.New(logTo{slog.DiscardHandler, r.h.note})
	s, err := New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.s = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Serve: %v", err)
		}
	}
}

func (r *rig) dial() net.Conn {
	c, err := r.net.Dial(context.Background(), "tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// dialReading is dial for clients that only care when the connection ends: then they
// close their end, as real clients do.
func (r *rig) dialReading() net.Conn {
	c := r.dial()
	go func() {
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}()
	return c
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runScript(t, file) })
		})
	}
}

func runScript(t *testing.T, file string) {
	var r *rig
	var client net.Conn
	end := func() {
		if r != nil {
			client.Close()
			r.stop()
			r = nil
		}
	}
	defer end()
	datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "new": // [output=BYTES] [pending=N] [pad=BYTES] [atonce]
			end()
			var o Options
			pad := 0
			maybe(t, d, "output", &o.OutputBytes)
			maybe(t, d, "pending", &o.MaxPending)
			maybe(t, d, "pad", &pad)
			h := newScripted()
			h.pad = pad
			if o.Handler = h; d.HasArg("atonce") {
				o.Handler = &atOnce{scripted: h}
			}
			r = newRigOf(t, h, o, 0)
			client = r.dialReading()
			synctest.Wait()
			return ""
		case "send": // one line per request: ID API WHAT, or raw and a Go string literal; all in one write
			var b []byte
			for line := range strings.Lines(d.Input) {
				f := strings.Fields(line)
				if f[0] == "raw" {
					s, err := strconv.Unquote(strings.TrimSpace(strings.TrimPrefix(line, "raw")))
					if err != nil {
						t.Fatal(err)
					}
					b = append(b, s...)
					continue
				}
				id, err := strconv.Atoi(f[0])
				if err != nil {
					t.Fatal(err)
				}
				b = append(b, request(f[1], id, f[2])...)
			}
			if _, err := client.Write(b); err != nil {
				t.Fatal(err)
			}
		case "raw": // bytes as a Go string literal
			s, err := strconv.Unquote(strings.TrimSpace(d.Input))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Write([]byte(s)); err != nil {
				return "client: " + err.Error() + "\n"
			}
		case "complete": // ID... [reason=TEXT]; in one go, no other goroutine runs between
			reason := ""
			maybe(t, d, "reason", &reason)
			for _, a := range d.CmdArgs {
				if id, err := strconv.Atoi(a.Key); err == nil {
					r.h.complete(id, reason)
				}
			}
		case "disconnect":
			client.Close()
		case "reconnect":
			client.Close()
			synctest.Wait()
			client = r.dialReading()
		case "wait": // DURATION of fake time
			dur, err := time.ParseDuration(d.CmdArgs[0].Key)
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(dur)
		case "stop":
			r.stop()
			out := r.h.take()
			client.Close()
			r = nil
			return out
		default:
			t.Fatalf("unknown command %s", d.Cmd)
		}
		synctest.Wait()
		return r.h.take()
	})
}

func maybe(t *testing.T, d *datadriven.TestData, key string, dest any) {
	if d.HasArg(key) {
		d.ScanArgs(t, key, dest)
	}
}
