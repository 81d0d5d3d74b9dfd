package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/kalda-io/kalda/kerr"
)

// FuzzDecodeRequest: whatever the bytes, CheckRequest bounds what kmsg takes, errors have
// a kind, and what was decoded encodes to bytes that decode to the same.
func FuzzDecodeRequest(f *testing.F) {
	forEachRequest(func(_ string, key, version int16) {
		f.Add(key, version, randomRequest(key, version, 7).AppendTo(nil))
	})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		asked := -1
		req, err := DecodeRequest(key, version, body, func(n int) error { asked = n; return nil })
		if asked > MaxDecoded+len(body) || req != nil && asked < len(body) {
			t.Fatalf("%d bytes of memory for a body of %d", asked, len(body))
		}
		if err != nil {
			if e := kerr.Of(err); e != kerr.InvalidRequest && e != kerr.UnsupportedVersion {
				t.Fatal(err)
			}
			return
		}
		once := req.AppendTo(nil)
		again, err := DecodeRequest(key, version, once, nil)
		if err != nil {
			t.Fatalf("what was decoded is refused once it is encoded: %v", err)
		}
		if twice := again.AppendTo(nil); !bytes.Equal(once, twice) {
			t.Fatalf("encoded twice:\n%x\n%x", once, twice)
		}
	})
}

// FuzzUvarint: the decoder agrees with encoding/binary on everything of at most five
// bytes and 32 bits, and takes nothing else.
func FuzzUvarint(f *testing.F) {
	for _, n := range []uint64{0, 127, 128, 1<<14 - 1, 1 << 14, 1<<28 - 1, 1 << 28, 1<<32 - 1, 1 << 32, 1<<35 - 1, 1 << 35, 1<<64 - 1} {
		f.Add(binary.AppendUvarint(nil, n))
	}
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x00, 1})
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x00})
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := decoder{b: b}
		got := d.uvarint()
		want, n := binary.Uvarint(b)
		good := n > 0 && n <= 5 && want <= 1<<32-1
		switch {
		case good != (d.fail == ""):
			t.Fatalf("%x: %q, encoding/binary says %d, %d", b, d.fail, want, n)
		case good && (uint64(got) != want || len(d.b) != len(b)-n):
			t.Fatalf("%x: %d with %d bytes left, want %d with %d", b, got, len(d.b), want, len(b)-n)
		}
	})
}
