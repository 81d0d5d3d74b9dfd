package record

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/kalda-io/kalda/kerr"
)

// compressed is a batch whose header says that p holds n records in codec c.
func compressed(c Codec, p []byte, n int) Batch {
	b := rawBatch(p, n)
	b.SetAttributes(int16(c))
	b.Seal()
	return b
}

func wholeCheck(b Batch) error { return Validate(b, ValidateOptions{CheckRecords: true}) }

// payloads are data of several kinds and sizes in every codec.
func payloads(t testing.TB) (plain [][]byte, packed map[Codec][][]byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 5<<20) // more than one block of any codec
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	plain = [][]byte{
		build(t, None, testRecords()).Payload(),
		build(t, None, []Record{{Timestamp: testNow, Value: []byte("v")}}).Payload(),
		bytes.Repeat([]byte("the value, "), 50_000),
		noise[:300], noise,
	}
	packed = map[Codec][][]byte{}
	var cp Compressor
	for _, c := range allCodecs()[1:] {
		for _, data := range plain {
			p, err := cp.Append(nil, c, data)
			if err != nil {
				t.Fatal(err)
			}
			packed[c] = append(packed[c], p)
		}
	}
	return plain, packed
}

// Compressed data pass under the name of their codec and under no other, and so do data that
// are not compressed.
func TestDataOfAnotherCodec(t *testing.T) {
	plain, packed := payloads(t)
	for _, says := range allCodecs()[1:] {
		for of, list := range packed {
			for i, p := range list {
				err := wholeCheck(compressed(says, p, 1))
				if of == says && err != nil {
					t.Errorf("%s, data %d: %v", says, i, err)
				}
				if of != says && kerr.Of(err) != kerr.CorruptMessage {
					t.Errorf("%s, data %d, called %s: %v", of, i, says, err)
				}
			}
		}
		for i, p := range plain {
			if err := wholeCheck(compressed(says, p, 1)); kerr.Of(err) != kerr.CorruptMessage {
				t.Errorf("uncompressed data %d, called %s: %v", i, says, err)
			}
		}
	}
}

// Cut data are refused wherever they are cut, as far as that shows in the frame: deflate and
// the elements of a long snappy block are not walked.
func TestCutCompressedData(t *testing.T) {
	_, packed := payloads(t)
	for c, list := range packed {
		for i, p := range list {
			step := max(1, len(p)/97)
			for n := 0; n < len(p); n += step {
				err := wholeCheck(compressed(c, p[:n], 1))
				deep := c == Gzip && n >= 19 || c == Snappy && len(p) > 100 && n > 64
				if !deep && kerr.Of(err) != kerr.CorruptMessage {
					t.Fatalf("%s, data %d: %d of %d bytes: %v", c, i, n, len(p), err)
				}
			}
		}
	}
}

// Each field of a frame that can be wrong.
func TestDamagedFrames(t *testing.T) {
	lz4 := func(flags, sizes byte, rest ...byte) []byte {
		p := binary.LittleEndian.AppendUint32(nil, lz4Magic)
		return append(append(p, flags, sizes, 0), rest...)
	}
	zstd := func(rest ...byte) []byte { return append([]byte{0x28, 0xb5, 0x2f, 0xfd}, rest...) }
	skip := []byte{0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'x', 'x'}
	// A raw last block of seven bytes, the least that one record takes.
	last := []byte{1 | 7<<3, 0, 0, 1, 2, 3, 4, 5, 6, 7}
	gz := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0}
	xerial := func(rest ...byte) []byte {
		return append(append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1), rest...)
	}
	for _, tc := range []struct {
		name string
		c    Codec
		p    []byte
		ok   bool
	}{
		{"gzip", Gzip, gz, true},
		{"gzip, not deflate", Gzip, append([]byte{0x1f, 0x8b, 7}, gz[3:]...), false},
		{"gzip, block of type 3", Gzip, append(append(bytes.Clone(gz[:10]), 7), gz[11:]...), false},
		{"gzip, a name comes first", Gzip, append(append(bytes.Clone(gz[:3]), 8), append(bytes.Clone(gz[4:10]), append([]byte{7, 0}, gz[10:]...)...)...), true},
		{"lz4", LZ4, lz4(0x60, 0x40, 1, 0, 0, 0x80, 'x', 0, 0, 0, 0), true},
		{"lz4, version 0", LZ4, lz4(0x20, 0x40, 0, 0, 0, 0), false},
		{"lz4, dictionary", LZ4, lz4(0x61, 0x40, 0, 0, 0, 0, 0, 0, 0, 0), false},
		{"lz4, block sizes of class 3", LZ4, lz4(0x60, 0x30, 0, 0, 0, 0), false},
		{"lz4, block over 64 KiB", LZ4, lz4(0x60, 0x40, append([]byte{1, 0, 1, 0}, make([]byte, 65537+4)...)...), false},
		{"lz4, size of content", LZ4, lz4(0x68, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), false},
		{"lz4, checksum of block", LZ4, lz4(0x70, 0x40, 1, 0, 0, 0x80, 'x', 1, 2, 3, 4, 0, 0, 0, 0), true},
		{"lz4, checksum of block lacks", LZ4, lz4(0x70, 0x40, 1, 0, 0, 0x80, 'x', 0, 0, 0, 0), false},
		{"lz4, checksum of content lacks", LZ4, lz4(0x64, 0x40, 0, 0, 0, 0), false},
		{"zstd", Zstd, zstd(append([]byte{0x20, 7}, last...)...), true},
		{"zstd behind a skipped frame", Zstd, append(bytes.Clone(skip), zstd(append([]byte{0x20, 7}, last...)...)...), true},
		{"zstd, skipped frame cut", Zstd, skip[:9], false},
		{"zstd, dictionary", Zstd, zstd(append([]byte{0x21, 9, 7}, last...)...), false},
		{"zstd, window of 256 MiB", Zstd, zstd(append([]byte{0, 18 << 3}, last...)...), false},
		{"zstd, window of 128 MiB", Zstd, zstd(append([]byte{0, 17 << 3}, last...)...), true},
		{"zstd, six bytes for a record", Zstd, zstd(append([]byte{0x20, 6}, last...)...), false},
		{"zstd, the record is in a second frame", Zstd, append(zstd(0x20, 0, 1, 0, 0), zstd(append([]byte{0x20, 7}, last...)...)...), true},
		{"zstd, block of type 3", Zstd, zstd(0x20, 7, 7, 0, 0), false},
		{"zstd, repeated byte", Zstd, zstd(0x20, 7, 3|7<<3, 0, 0, 'x'), true},
		{"zstd, repeated byte lacks", Zstd, zstd(0x20, 7, 3|7<<3, 0, 0), false},
		{"zstd, no last block", Zstd, zstd(append([]byte{0x20, 7, 7 << 3}, last[1:]...)...), false},
		{"zstd, checksum lacks", Zstd, zstd(append([]byte{0x24, 7}, last...)...), false},
		{"snappy", Snappy, []byte{7, 0, 'x', 1<<2 | 1, 1, 0, 'y'}, true},
		{"snappy, copy of nothing", Snappy, []byte{7, 1<<2 | 1, 1, 2 << 2, 'x', 'y', 'z'}, false},
		{"snappy, copy from before", Snappy, []byte{7, 0, 'x', 1<<2 | 1, 2, 0, 'y'}, false},
		{"snappy, copy of two bytes", Snappy, []byte{7, 0, 'x', 4<<2 | 2, 1, 0, 0, 'y'}, true},
		{"snappy, copy of four bytes", Snappy, []byte{7, 0, 'x', 4<<2 | 3, 1, 0, 0, 0, 0, 'y'}, true},
		{"snappy, copy far before", Snappy, []byte{7, 0, 'x', 4<<2 | 3, 1, 0, 0, 1, 0, 'y'}, false},
		{"snappy, longer than it says", Snappy, []byte{7, 0, 'x', 2<<2 | 1, 1, 0, 'y'}, false},
		{"snappy, literal over 2 GiB", Snappy, []byte{7, 63 << 2, 0, 0, 0, 0x80, 'x', 'y'}, false},
		{"snappy, literal of 4 GiB", Snappy, []byte{7, 63 << 2, 0xff, 0xff, 0xff, 0xff, 'x', 'y'}, false},
		{"snappy, copy from over 2 GiB before", Snappy, []byte{7, 0, 'x', 4<<2 | 3, 1, 0, 0, 0x80, 0, 'y'}, false},
		{"snappy, six bytes for a record", Snappy, []byte{6, 0, 'x', 0<<2 | 1, 1, 0, 'y'}, false},
		{"snappy of Java", Snappy, xerial(0, 0, 0, 9, 7, 6<<2, 1, 2, 3, 4, 5, 6, 7), true},
		{"snappy of Java, chunk cut", Snappy, xerial(0, 0, 0, 4, 1, 0, 'x'), false},
		{"snappy of Java, not snappy", Snappy, xerial(0, 0, 0, 3, 1, 5, 'x'), false},
		{"snappy of Java, two streams", Snappy, append(xerial(0, 0, 0, 5, 3, 2<<2, 1, 2, 3), xerial(0, 0, 0, 6, 4, 3<<2, 4, 5, 6, 7)...), true},
		{"snappy of Java, an empty chunk", Snappy, xerial(0, 0, 0, 1, 0, 0, 0, 0, 9, 7, 6<<2, 1, 2, 3, 4, 5, 6, 7), true},
		{"snappy of Java, six bytes for a record", Snappy, append(xerial(0, 0, 0, 5, 3, 2<<2, 1, 2, 3), xerial(0, 0, 0, 5, 3, 2<<2, 4, 5, 6)...), false},
		{"snappy of Java, nothing", Snappy, xerial(), false},
		{"snappy of Java, second stream cut", Snappy, append(xerial(0, 0, 0, 3, 1, 0, 'x'), xerial()[:12]...), false},
	} {
		err := wholeCheck(compressed(tc.c, tc.p, 1))
		if tc.ok && err != nil || !tc.ok && kerr.Of(err) != kerr.CorruptMessage {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// isSnappy says whether what kalda can read as snappy is that. The decoder of s2, which kalda
// reads with, also takes what only s2 has.
func isSnappy(p []byte) bool {
	if !bytes.HasPrefix(p, xerialMagic) {
		_, ok := plainSnappy(p)
		return ok
	}
	for len(p) > 0 {
		if bytes.HasPrefix(p, xerialMagic) {
			p = p[xerialHeaderLen:]
			continue
		}
		n := binary.BigEndian.Uint32(p)
		if _, ok := plainSnappy(p[4 : 4+n]); !ok {
			return false
		}
		p = p[4+n:]
	}
	return true
}

// plainSnappy decodes a raw block in the plainest way.
func plainSnappy(p []byte) (out []byte, ok bool) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > 1<<20 {
		return nil, false
	}
	p = p[w:]
	for len(p) > 0 {
		tag := p[0]
		size, header := int(tag>>2)+1, []int{1, 2, 3, 5}[tag&3]
		if tag&3 == 0 && size > 60 {
			header += size - 60
		}
		if len(p) < header {
			return nil, false
		}
		v := 0
		for i := header - 1; i > 0; i-- {
			v = v<<8 | int(p[i])
		}
		p = p[header:]
		switch {
		case tag&3 == 0:
			if header > 1 {
				size = v + 1
			}
			if size < 0 || size > len(p) {
				return nil, false
			}
			out, p = append(out, p[:size]...), p[size:]
			continue
		case tag&3 == 1:
			size, v = int(tag>>2&7)+4, v|int(tag>>5)<<8
		}
		if v <= 0 || v > len(out) {
			return nil, false
		}
		for range size {
			out = append(out, out[len(out)-v])
		}
	}
	return out, uint64(len(out)) == n
}

// FuzzCompressedFrame: what a decompressor can read is never refused.
func FuzzCompressedFrame(f *testing.F) {
	_, packed := payloads(f)
	for c, list := range packed {
		for _, p := range list {
			if len(p) < 8<<10 {
				f.Add(uint8(c), p, uint16(1))
				f.Add(uint8(c), append(bytes.Clone(p), p...), uint16(2)) // two frames
			}
		}
	}
	for _, golden := range []string{goldenSnappy, goldenLZ4, goldenZstd, goldenGzip} {
		b := Batch(unhex(f, golden))
		f.Add(uint8(b.Codec()), []byte(b.Payload()), uint16(b.NumRecords()))
	}
	f.Add(uint8(Snappy), append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 'x'), uint16(1))
	f.Fuzz(func(t *testing.T, codec uint8, p []byte, records uint16) {
		c := Codec(codec % 5)
		if c == None {
			return
		}
		n := max(1, int(records))
		err := compressed(c, p, n).checkCompressed()
		var d decompressor
		out, bad := d.append(nil, c, p, 1<<20)
		if err != nil && bad == nil && len(out) >= n*minRecordLen && (c != Snappy || isSnappy(p)) {
			t.Fatalf("%s: %x: refused (%v), but it gives %d bytes", c, p, err, len(out))
		}
	})
}
