package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// TestFlexibleFrom compares the table with kmsg for every key and version.
func TestFlexibleFrom(t *testing.T) {
	if got, want := len(flexibleFrom), int(kmsg.MaxKey)+1; got != want {
		t.Fatalf("the table has %d keys, kmsg %d", got, want)
	}
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		for v := range req.MaxVersion() + 1 {
			req.SetVersion(v)
			if got, want := IsFlexible(key, v), req.IsFlexible(); got != want {
				t.Errorf("%s version %d: flexible %v, kmsg says %v", kmsg.NameForKey(key), v, got, want)
			}
			resp := req.ResponseKind()
			want := resp.IsFlexible() && key != KeyAPIVersions
			if got := responseFlexible(key, v); got != want {
				t.Errorf("%s answer version %d: flexible header %v, want %v", kmsg.NameForKey(key), v, got, want)
			}
		}
	}
	for _, key := range []int16{-1, -32768, int16(len(flexibleFrom)), 32767} {
		if IsFlexible(key, 32767) || ResponseHeaderLen(key, 0) != 8 {
			t.Errorf("key %d is treated as flexible", key)
		}
	}
	if IsFlexible(17, 32767) {
		t.Error("SASLHandshake is never flexible")
	}
}

// TestParseHeaderOfKmsg parses what franz-go writes for every key and version.
func TestParseHeaderOfKmsg(t *testing.T) {
	for _, client := range []string{"", "a client", "클라이언트"} {
		f := kmsg.NewRequestFormatter(kmsg.FormatterClientID(client))
		for key := range int16(kmsg.MaxKey + 1) {
			req := kmsg.RequestForKey(key)
			for v := range req.MaxVersion() + 1 {
				if key == 7 && v == 0 {
					continue // ControlledShutdown v0, gone since Kafka 4.0, has no client id
				}
				req.SetVersion(v)
				frame := f.AppendRequest(nil, req, 77)
				h, body, err := ParseHeader(frame[4:])
				if err != nil || h.Key != key || h.Version != v || h.CorrelationID != 77 ||
					string(h.ClientID) != client || h.ClientID == nil || !bytes.Equal(body, req.AppendTo(nil)) {
					t.Fatalf("%s version %d: %+v, body % x, %v", kmsg.NameForKey(key), v, h, body, err)
				}
				ours := append(AppendRequestHeader(nil, key, v, 77, []byte(client)), body...)
				FinishFrame(ours, 0)
				if !bytes.Equal(ours, frame) {
					t.Fatalf("%s version %d: header\n% x, want\n% x", kmsg.NameForKey(key), v, ours, frame)
				}
			}
		}
	}
}

func header(key, version int16, rest ...byte) []byte {
	b := appendInt32(appendInt16(appendInt16(nil, key), version), 5)
	return append(b, rest...)
}

func TestParseHeader(t *testing.T) {
	for _, tc := range []struct {
		name  string
		frame []byte
		want  *kerr.Error
	}{
		{"null client", header(0, 0, 0xff, 0xff), nil},
		{"empty client", header(0, 0, 0, 0), nil},
		{"client", header(0, 0, 0, 1, 'x'), nil},
		{"client cut", header(0, 0, 0, 2, 'x'), kerr.InvalidRequest},
		{"client length -2", header(0, 0, 0xff, 0xfe), kerr.InvalidRequest},
		{"client not UTF-8", header(0, 0, 0, 1, 0xff), kerr.InvalidRequest},
		{"unknown tags", header(0, 9, 0, 0, 2, 3, 1, 9, 200, 1, 0), nil},
		{"tags missing", header(0, 9, 0, 0), kerr.InvalidRequest},
		{"tag twice", header(0, 9, 0, 0, 2, 3, 0, 3, 0), kerr.InvalidRequest},
		{"tags unsorted", header(0, 9, 0, 0, 2, 3, 0, 2, 0), kerr.InvalidRequest},
		{"tag runs over", header(0, 9, 0, 0, 1, 3, 5, 0), kerr.InvalidRequest},
		{"tag count beyond the bytes", header(0, 9, 0, 0, 9, 3, 0), kerr.InvalidRequest},
		{"tag count not a varint", header(0, 9, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), kerr.InvalidRequest},
		{"tag count over 32 bits", header(0, 9, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x1f), kerr.InvalidRequest},
		{"tag count of zero and a bit beyond the 32nd", header(0, 9, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10), kerr.InvalidRequest},
		{"long form of a varint", header(0, 9, 0, 0, 0x80, 0x80, 0x00), nil},
		{"key unknown", header(int16(len(flexibleFrom)), 0, 0, 0), kerr.UnsupportedVersion},
		{"key negative", header(-1, 0, 0, 0), kerr.UnsupportedVersion},
		{"version negative", header(0, -1, 0, 0), kerr.UnsupportedVersion},
		{"future ApiVersions", header(18, 99, 0, 0, 0), nil},
		{"negative ApiVersions", header(18, -1, 0, 0), nil},
		{"empty", nil, kerr.InvalidRequest},
	} {
		h, _, err := ParseHeader(tc.frame)
		if kerr.Of(err) != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
		if len(tc.frame) >= 8 && h.CorrelationID != 5 {
			t.Errorf("%s: correlation id %d", tc.name, h.CorrelationID)
		}
	}
	whole := header(0, 9, 0, 3, 'a', 'b', 'c', 1, 7, 2, 1, 2)
	for n := range whole {
		if _, _, err := ParseHeader(whole[:n]); !errors.Is(err, kerr.InvalidRequest) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestTooManyTags(t *testing.T) {
	tags := func(n int) []byte {
		b := binary.AppendUvarint(header(0, 9, 0, 0), uint64(n))
		for i := range n {
			b = append(binary.AppendUvarint(b, uint64(i)), 0)
		}
		return b
	}
	if _, body, err := ParseHeader(tags(maxTags)); err != nil || len(body) != 0 {
		t.Errorf("%d tags: %v", maxTags, err)
	}
	if _, _, err := ParseHeader(tags(maxTags + 1)); !errors.Is(err, kerr.InvalidRequest) {
		t.Errorf("%d tags: %v", maxTags+1, err)
	}
}

func TestResponseHeader(t *testing.T) {
	for _, tc := range []struct {
		key, version int16
		want         []byte
	}{
		{0, 8, []byte{0, 0, 0, 6, 0, 0, 1, 2, 'o', 'k'}},
		{0, 9, []byte{0, 0, 0, 7, 0, 0, 1, 2, 0, 'o', 'k'}},
		{18, 4, []byte{0, 0, 0, 6, 0, 0, 1, 2, 'o', 'k'}},
	} {
		b := AppendResponseHeader(nil, tc.key, tc.version, 258)
		if len(b) != ResponseHeaderLen(tc.key, tc.version) {
			t.Errorf("key %d version %d: length %d", tc.key, tc.version, len(b))
		}
		b = append(b, "ok"...)
		FinishFrame(b, 0)
		if !bytes.Equal(b, tc.want) {
			t.Errorf("key %d version %d: % x, want % x", tc.key, tc.version, b, tc.want)
		}
		id, body, err := ParseResponseHeader(b[4:], tc.key, tc.version)
		if err != nil || id != 258 || string(body) != "ok" {
			t.Errorf("key %d version %d: parsed %d %q %v", tc.key, tc.version, id, body, err)
		}
		if _, _, err := ParseResponseHeader(b[4:7], tc.key, tc.version); !errors.Is(err, kerr.InvalidRequest) {
			t.Errorf("cut: %v", err)
		}
	}
}

func TestHeaderAllocs(t *testing.T) {
	frame := header(0, 9, 0, 3, 'a', 'b', 'c', 1, 7, 2, 1, 2)
	var buf []byte
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := ParseHeader(frame); err != nil {
			t.Fatal(err)
		}
		buf = AppendResponseHeader(buf[:0], 0, 9, 1)
		FinishFrame(buf, 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(header(0, 9, 0, 3, 'a', 'b', 'c', 1, 7, 2, 1, 2))
	f.Add(header(18, 99, 0, 0, 0))
	f.Add(header(3, 1, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, body, err := ParseHeader(frame)
		if err != nil {
			if e := kerr.Of(err); e != kerr.InvalidRequest && e != kerr.UnsupportedVersion {
				t.Fatal(err)
			}
			return
		}
		// kbin, the decoder under kmsg, must see the same.
		b := kbin.Reader{Src: frame}
		key, version, id, client := b.Int16(), b.Int16(), b.Int32(), b.NullableString()
		if IsFlexible(key, version) {
			kmsg.SkipTags(&b)
		}
		if !b.Ok() || key != h.Key || version != h.Version || id != h.CorrelationID ||
			(client == nil) != (h.ClientID == nil) || client != nil && *client != string(h.ClientID) || !bytes.Equal(b.Src, body) {
			t.Fatalf("% x: %+v, body % x; kmsg: %d %d %d %v % x", frame, h, body, key, version, id, client, b.Src)
		}
	})
}
