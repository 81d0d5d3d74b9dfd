package record

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/kalda-io/kalda/kerr"
)

// FuzzDecompress: what was compressed comes back, the limit holds exactly, and bytes of
// any kind decompress to no more than it.
func FuzzDecompress(f *testing.F) {
	for _, c := range allCodecs() {
		f.Add(uint8(c), []byte("the value, the value, the value"), uint16(40))
	}
	for _, golden := range []string{goldenSnappy, goldenLZ4, goldenZstd} {
		b := Batch(unhex(f, golden))
		f.Add(uint8(b.Codec()), b.Payload(), uint16(200))
	}
	f.Add(uint8(Gzip), unhex(f, goldenGzip), uint16(500))
	f.Add(uint8(Snappy), append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 'x'), uint16(9))
	f.Fuzz(func(t *testing.T, codec uint8, data []byte, most uint16) {
		c, limit := Codec(codec%5), int(most)+1
		if c == None {
			return
		}
		var d decompressor
		out, err := d.append(nil, c, data, limit)
		if len(out) > limit || cap(out) > max(limit+1, firstOutput) {
			t.Fatalf("%d bytes, room for %d, limit %d", len(out), cap(out), limit)
		}
		if e := kerr.Of(err); err != nil && e != kerr.MessageTooLarge && e != kerr.CorruptMessage {
			t.Fatal(err)
		}
		packed, err := new(Compressor).Append(nil, c, data)
		if err != nil {
			t.Fatal(err)
		}
		if out, err = d.append(out, c, packed, len(data)+1); err != nil || !bytes.Equal(out, data) {
			t.Fatalf("%s: %d bytes became %d: %v", c, len(data), len(out), err)
		}
		if len(data) > 1 {
			if _, err = d.append(out, c, packed, len(data)-1); kerr.Of(err) != kerr.MessageTooLarge {
				t.Fatalf("%s: %d bytes with a limit of one less: %v", c, len(data), err)
			}
		}
	})
}

// FuzzVarint: the 32-bit varints of records agree with encoding/binary.
func FuzzVarint(f *testing.F) {
	for _, n := range []int64{0, -1, 63, -64, 64, 1<<31 - 1, -1 << 31, 1 << 31, 1<<63 - 1, -1 << 63} {
		f.Add(binary.AppendVarint(nil, n))
	}
	f.Add(bytes.Repeat([]byte{0x80}, 11))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x1f})
	f.Fuzz(func(t *testing.T, b []byte) {
		want, n := binary.Varint(b)
		small, w := varint32(b)
		good := n > 0 && n <= 5 && int64(int32(want)) == want
		if good != (w > 0) || good && (int64(small) != want || w != n) {
			t.Fatalf("%x: %d in %d bytes, encoding/binary says %d in %d", b, small, w, want, n)
		}
	})
}

// FuzzPlainRecord: what passes for a plain record is one by the whole set of rules, with the
// same size, time and key; and records of the plain kind do pass.
func FuzzPlainRecord(f *testing.F) {
	for _, delta := range []int32{0, 63, 64, 8191, 8192, 1 << 20} {
		f.Add([]byte("key"), bytes.Repeat([]byte("v"), int(delta%300)), int64(delta), delta, uint16(delta), byte(delta))
	}
	f.Add([]byte{}, []byte{}, int64(-1), int32(0), uint16(3), byte(0x80))
	f.Fuzz(func(t *testing.T, key, value []byte, ts int64, delta int32, at uint16, x byte) {
		if delta < 0 {
			delta = -(delta + 1)
		}
		if len(key) == 0 {
			key = nil
		}
		body := binary.AppendVarint([]byte{0}, ts)
		body = binary.AppendVarint(body, int64(delta))
		body = appendBytes(appendBytes(body, key), value)
		body = append(body, 0)
		rec := append(binary.AppendVarint(nil, int64(len(body))), body...)
		n := len(rec)
		p := append(rec, "what follows in the batch"...)
		r, got := plainRecord(p, delta)
		if ts < 1<<19 && ts >= -1<<19 && delta < 1<<20 && len(body) < 1<<20 && got != n {
			t.Fatalf("%x: a plain record of %d bytes counts as %d", rec, n, got)
		}
		if got != 0 && (r != plain{ts, key == nil} || got != n) {
			t.Fatalf("%x: %+v of %d bytes", rec, r, got)
		}
		p[int(at)%n] ^= x
		b := make(Batch, HeaderLen)
		for _, p := range [][]byte{p, p[:n], p[:n-1], p[:min(len(p), plainWindow)]} {
			r, got := plainRecord(p, delta)
			if got == 0 {
				continue
			}
			want, err := b.checkRecord(p, delta, &ValidateOptions{RequireKeys: !r.noKey})
			if err != nil || got != want {
				t.Fatalf("%x: %d bytes, but %d by the rules: %v", p, got, want, err)
			}
			var f fields
			_, w := varint32(p)
			if err := f.split(p[w:got]); err != nil || f.timestampDelta != r.timestampDelta || (f.key.n < 0) != r.noKey {
				t.Fatalf("%x: %+v, but %+v by the rules: %v", p, r, f, err)
			}
		}
	})
}
