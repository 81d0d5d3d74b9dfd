package server

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// FuzzStream takes what a client may send through everything that comes before the
// broker: frames, headers, and the decoders of bodies. The corpus holds what real clients
// sent.
func FuzzStream(f *testing.F) {
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID("fuzz"))
	var all []byte
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		req.SetVersion(req.MaxVersion())
		all = format.AppendRequest(all, req, int32(key))
	}
	f.Add(all)
	f.Add([]byte("\x00\x00\x00\x0b\x00\x12\x00\x03\x00\x00\x00\x01\x00\x00\x00")) // an empty client id
	f.Add([]byte("\x00\x00\x00\x0c\x00\x12\x7f\xff\x00\x00\x00\x01\xff\xff\x01\x02"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		fr := testFrames(1 << 20)
		got, _ := feed(&fr, stream, func() int { return 0 }, func(int) {})
		for _, frame := range got {
			was := bytes.Clone(frame)
			h, body, err := wire.ParseHeader(frame)
			if err != nil {
				wantKind(t, err)
				continue
			}
			switch h.Key {
			case wire.KeyProduce:
				var r wire.ProduceRequest
				if err = r.Decode(h.Version, body); err == nil {
					r.AppendTo(nil)
				}
			case wire.KeyFetch:
				var r wire.FetchRequest
				if err = r.Decode(h.Version, body); err == nil {
					r.AppendTo(nil)
				}
			default:
				_, err = wire.DecodeRequest(h.Key, h.Version, body, nil)
			}
			if err != nil {
				wantKind(t, err)
			}
			if !bytes.Equal(frame, was) {
				t.Fatal("decoding changed the frame")
			}
		}
	})
}

func wantKind(t *testing.T, err error) {
	t.Helper()
	if e := kerr.Of(err); e != kerr.InvalidRequest && e != kerr.UnsupportedVersion {
		t.Fatal(err)
	}
}
