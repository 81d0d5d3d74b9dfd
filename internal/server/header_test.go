package server

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every API and version: what kmsg writes is what we read.
func TestHeaderAgainstKmsg(t *testing.T) {
	h := newHeaders()
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			if key == 7 && v == 0 {
				continue // ControlledShutdown v0 has no client id; no version of ours
			}
			req.SetVersion(v)
			frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("me")).AppendRequest(nil, req, 77)[4:]
			hd, body, err := h.parse(frame)
			if err != nil {
				t.Fatalf("key %d v%d: %v", key, v, err)
			}
			if hd.key != key || hd.version != v || hd.correlationID != 77 || string(hd.clientID) != "me" {
				t.Fatalf("key %d v%d: %+v", key, v, hd)
			}
			if !bytes.Equal(body, req.AppendTo(nil)) {
				t.Fatalf("key %d v%d: body begins at the wrong place", key, v)
			}
			want := 4 + 4
			if req.IsFlexible() && key != 18 {
				want++
			}
			if got := appendResponseHeader(nil, &hd); len(got) != want {
				t.Fatalf("key %d v%d: answer's header of %d bytes, want %d", key, v, len(got), want)
			}
		}
	}
}

// A header that is cut anywhere, or wrong anywhere, is an error and never a panic.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("\x00\x12\x00\x03\x00\x00\x00\x01\x00\x02me\x00"))
	f.Add([]byte("\x00\x12\x00\x03\x00\x00\x00\x01\x00\x02me\x01\x05\x02ab"))
	f.Add([]byte("\x00\x12\x00\x03\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\x0f\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x03\x00\x00\x00\x01\x80\x00"))
	h := newHeaders()
	f.Fuzz(func(t *testing.T, frame []byte) {
		hd, body, err := h.parse(frame)
		if err != nil {
			return
		}
		if len(body)+len(hd.clientID)+minFrameBytes > len(frame) {
			t.Fatalf("%d bytes of body from a frame of %d", len(body), len(frame))
		}
	})
}

func TestHeaderCutAtEveryByte(t *testing.T) {
	h := newHeaders()
	whole := []byte("\x00\x12\x00\x03\x00\x00\x00\x01\x00\x02me\x02\x05\x02ab\x06\x00")
	if _, body, err := h.parse(whole); err != nil || len(body) != 0 {
		t.Fatalf("the whole header: %v, body of %d bytes", err, len(body))
	}
	for n := range whole {
		if _, _, err := h.parse(whole[:n]); err == nil {
			t.Errorf("cut to %d bytes it is accepted", n)
		}
	}
	for name, bad := range map[string]string{
		"negative version":   "\x00\x03\xff\xff\x00\x00\x00\x01\x00\x00",
		"negative key":       "\xff\xff\x00\x00\x00\x00\x00\x01\x00\x00",
		"client id -2":       "\x00\x03\x00\x01\x00\x00\x00\x01\xff\xfe",
		"client id no UTF-8": "\x00\x03\x00\x01\x00\x00\x00\x01\x00\x01\xff",
		"huge tag count":     "\x00\x12\x00\x03\x00\x00\x00\x01\x00\x00\xff\xff\xff\xff\x0f",
		"huge tag size":      "\x00\x12\x00\x03\x00\x00\x00\x01\x00\x00\x01\x00\xff\xff\xff\xff\x0f",
		"overlong varint":    "\x00\x12\x00\x03\x00\x00\x00\x01\x00\x00\x80\x80\x80\x80\x80\x00",
	} {
		if _, _, err := h.parse([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
