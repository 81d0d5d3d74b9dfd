package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/internal/wire"
)

// streaming is a handler whose answers hold parts that a stream gives: "head", part 0,
// "middle", part 1, "tail". The byte at off of part i is i+off, cut to a byte.
type streaming struct {
	*scripted
	lens    [2]int
	failAt  int64 // a read of part 1 from here on fails; negative: none does
	largest atomic.Int64
	ended   atomic.Int64
	parked  bool
}

func (h *streaming) Handle(p *wire.Pending) wire.Outcome {
	if h.parked {
		p.Encode = h
		p.Complete()
		return wire.Parked
	}
	h.EncodeAnswer(p)
	return wire.Done
}

func (h *streaming) EncodeAnswer(p *wire.Pending) {
	p.Resp = append(p.Resp, "head"...)
	p.Parts = append(p.Parts, wire.Part{At: len(p.Resp), Len: h.lens[0]})
	p.Resp = append(p.Resp, "middle"...)
	p.Parts = append(p.Parts, wire.Part{At: len(p.Resp), Len: h.lens[1]})
	p.Resp = append(p.Resp, "tail"...)
	p.Stream = h
}

func (h *streaming) ReadStream(part int, b []byte, off int64) error {
	h.largest.Store(max(h.largest.Load(), int64(len(b))))
	for i := range b {
		b[i] = byte(part + int(off) + i)
	}
	if part == 1 && h.failAt >= 0 && off+int64(len(b)) > h.failAt {
		return errors.New("the disk is gone")
	}
	return nil
}

func (h *streaming) EndStream() { h.ended.Add(1) }

// body is what an answer of h must hold.
func (h *streaming) body() []byte {
	part := func(i int) []byte {
		b := make([]byte, h.lens[i])
		for j := range b {
			b[j] = byte(i + j)
		}
		return b
	}
	return bytes.Join([][]byte{[]byte("head"), part(0), []byte("middle"), part(1), []byte("tail")}, nil)
}

// readFrame reads one answer and returns what follows its correlation id.
func readFrame(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b[4:]
}

func streams(t *testing.T, h *streaming, o Options, f func(r *rig)) {
	h.scripted = newScripted()
	o.Handler = h
	pressed(t, o, 64<<10, f)
}

// Streamed answers arrive whole and in order, in pieces of a bounded size; their memory is
// counted while they are sent and given back.
func TestStreamedAnswers(t *testing.T) {
	for _, tc := range []struct {
		name    string
		lens    [2]int
		parked  bool
		budget  int64
		largest int64
	}{
		{"large", [2]int{3 << 20, 700_001}, false, 8 << 20, pieceBytes},
		{"parked", [2]int{3 << 20, 700_001}, true, 8 << 20, pieceBytes},
		{"a part of nothing", [2]int{0, 100_000}, false, 8 << 20, pieceBytes},
		{"memory is short", [2]int{1 << 20, 700_001}, false, pieceBytes - 1, packBytes},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &streaming{lens: tc.lens, parked: tc.parked, failAt: -1}
			out := NewOutputBudget(tc.budget)
			streams(t, h, Options{Answers: out}, func(r *rig) {
				c := r.dial()
				go func() {
					for id := range 3 {
						_, _ = c.Write(request("metadata", id, "x"))
					}
				}()
				synctest.Wait()
				if _, held := out.Stats(); tc.largest == pieceBytes && held != pieceBytes || held > tc.budget {
					t.Errorf("%d bytes held while it is sent", held)
				}
				for id := range 3 {
					if got, want := readFrame(t, c), h.body(); !bytes.Equal(got, want) {
						t.Errorf("answer %d: %d bytes, want %d", id, len(got), len(want))
					}
				}
				synctest.Wait()
				if h.ended.Load() != 3 || h.largest.Load() > tc.largest {
					t.Errorf("%d streams ended, %d bytes were read at a time", h.ended.Load(), h.largest.Load())
				}
				if _, held := out.Stats(); held != 0 {
					t.Errorf("%d bytes held in the end", held)
				}
				c.Close()
			})
		})
	}
}

// A request does not start while streams of earlier answers bring the connection beyond
// its bound, although they hold no memory.
func TestStreamsCountForTheBound(t *testing.T) {
	h := &streaming{lens: [2]int{1 << 20, 1 << 20}, failAt: -1}
	streams(t, h, Options{OutputBytes: 4 << 20}, func(r *rig) {
		c := r.dial()
		var all []byte
		for id := range 20 {
			all = append(all, request("metadata", id, "x")...)
		}
		_, _ = c.Write(all)
		synctest.Wait()
		if n := r.s.Stats().Requests; n > 4 {
			t.Errorf("%d requests were run, each with an answer of 2 MiB", n)
		}
		for range 20 {
			readFrame(t, c)
		}
		c.Close()
	})
}

// Each stream is ended exactly once, however its connection ends.
func TestStreamsEnd(t *testing.T) {
	for _, end := range []string{"client", "stalled", "stop", "damage"} {
		t.Run(end, func(t *testing.T) {
			h := &streaming{lens: [2]int{1 << 20, 1 << 20}, failAt: -1}
			if end == "damage" {
				h.failAt = 600_000
			}
			streams(t, h, Options{OutputBytes: 16 << 20}, func(r *rig) {
				c := r.dial()
				var all []byte
				for id := range 5 {
					all = append(all, request("metadata", id, "x")...)
				}
				_, _ = c.Write(all)
				synctest.Wait()
				switch end {
				case "client":
					c.Close()
				case "stalled":
					<-time.After(5 * time.Minute)
				case "stop":
					r.stop()
					r.stop = func() {}
				case "damage":
					_, err := io.Copy(io.Discard, c)
					if err != nil {
						t.Error(err)
					}
				}
				synctest.Wait()
				<-time.After(5 * time.Second)
				synctest.Wait()
				if got := h.ended.Load(); got != 5 {
					t.Errorf("%d of 5 streams ended", got)
				}
				if got := r.h.take(); end == "damage" && !strings.Contains(got, "an answer could not be read to its end: the disk is gone") {
					t.Errorf("the log says %q", got)
				}
				c.Close()
			})
		})
	}
}
