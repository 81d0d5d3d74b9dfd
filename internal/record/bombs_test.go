package record

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/kalda-io/kalda/kerr"
)

// stream compresses with a writer that does not know the size beforehand, as producers do.
func stream(t testing.TB, c Codec, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	switch c {
	case Gzip:
		w = gzip.NewWriter(&out)
	case LZ4:
		w = lz4.NewWriter(&out)
	case Zstd:
		z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		w = z
	case Snappy:
		out.Write(append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1))
		for part := range slices.Chunk(data, 32<<10) {
			b := s2.EncodeSnappy(nil, part)
			out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
			out.Write(b)
		}
		return out.Bytes()
	}
	for part := range slices.Chunk(data, 50<<10) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Whatever the ratio, streams without a size in front come back whole with a limit that
// just fits, and are too large with one that does not. (A decoder that is given too little
// room at first must not take that for damage.)
func TestStreamsOfEveryRatio(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300<<10)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, c := range []Codec{Gzip, Snappy, LZ4, Zstd} {
		var d decompressor
		for _, size := range []int{1, 100, 4 << 10, 5000, 128 << 10, 300 << 10, 1 << 20, 3 << 20} {
			for _, every := range []int{1, 3, 20, 1000, 1 << 30} { // bytes of noise among equal ones
				data := bytes.Repeat([]byte("record "), size/7+1)[:size]
				for i := 0; i < size; i += every {
					data[i] = noise[(i/every)%len(noise)]
				}
				packed := stream(t, c, data)
				out, err := d.append(nil, c, packed, size)
				if err != nil || !bytes.Equal(out, data) {
					t.Fatalf("%s: %d bytes in %d: %d, %v", c, size, len(packed), len(out), err)
				}
				if _, err = d.append(nil, c, packed, size-1); size > 1 && kerr.Of(err) != kerr.MessageTooLarge {
					t.Fatalf("%s: %d bytes in %d with a limit of one less: %v", c, size, len(packed), err)
				}
			}
		}
	}
}

// zstdFrame is a frame with that header and one block of zeros, repeated by RLE.
func zstdFrame(header []byte, zeros int, last bool) []byte {
	b := append([]byte{0x28, 0xb5, 0x2f, 0xfd}, header...)
	h := uint32(zeros)<<3 | 1<<1
	if last {
		h |= 1
	}
	return append(b, byte(h), byte(h>>8), byte(h>>16), 0)
}

// Bombs of all kinds: refused with the right error, whatever they claim, with memory that
// follows what is allowed and sent.
func TestBombs(t *testing.T) {
	zeros := make([]byte, 256<<20)
	half := zeros[:128<<20]
	gz := stream(t, Gzip, half)
	snappyRaw := func(claim uint64, rest ...byte) []byte { return append(binary.AppendUvarint(nil, claim), rest...) }
	lz4Frame := func(flags byte, extra []byte, blocks ...byte) []byte {
		desc := append([]byte{flags, 0x70}, extra...)
		return append(append(append(binary.LittleEndian.AppendUint32(nil, lz4Magic), desc...), lz4Checksum(desc)), blocks...)
	}
	for _, tc := range []struct {
		name  string
		codec Codec
		data  []byte
		want  *kerr.Error
	}{
		{"gzip", Gzip, stream(t, Gzip, zeros), kerr.MessageTooLarge},
		{"gzip, many members", Gzip, bytes.Repeat(stream(t, Gzip, zeros[:1<<20]), 200), kerr.MessageTooLarge},
		{"gzip within gzip", Gzip, stream(t, Gzip, gz), nil},
		{"gzip with a wrong size at the end", Gzip, append(bytes.Clone(gz[:len(gz)-4]), 1, 0, 0, 0), kerr.MessageTooLarge},
		{"gzip cut", Gzip, stream(t, Gzip, zeros[:1<<20])[:900], kerr.CorruptMessage},
		{"gzip header with an endless name", Gzip, append([]byte{0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255}, bytes.Repeat([]byte{'n'}, 1<<20)...), kerr.CorruptMessage},
		{"zstd", Zstd, stream(t, Zstd, zeros), kerr.MessageTooLarge},
		{"zstd, many frames", Zstd, bytes.Repeat(stream(t, Zstd, zeros[:1<<20]), 200), kerr.MessageTooLarge},
		{"zstd cut", Zstd, stream(t, Zstd, zeros[:1<<20])[:20], kerr.CorruptMessage},
		{"zstd that claims much and brings little", Zstd, zstdFrame([]byte{0xe0, 0, 0, 0x40, 0, 0, 0, 0, 0}, 100, true), kerr.CorruptMessage},
		{"zstd that claims more than the limit", Zstd, zstdFrame([]byte{0xe0, 0, 0, 0, 0, 1, 0, 0, 0}, 100, true), kerr.MessageTooLarge},
		{"zstd with a window of 2 GiB", Zstd, zstdFrame([]byte{0x00, 21 << 3}, 100, true), kerr.CorruptMessage},
		{"zstd with the largest window there is", Zstd, zstdFrame([]byte{0x00, 0xff}, 100, true), kerr.CorruptMessage},
		{"zstd with a window of 64 MiB and little in it", Zstd, zstdFrame([]byte{0x00, 16 << 3}, 100, true), nil},
		{"zstd with a dictionary that nobody has", Zstd, zstdFrame([]byte{0x21, 7, 100}, 100, true), kerr.CorruptMessage},
		{"zstd without its last block", Zstd, zstdFrame([]byte{0x00, 16 << 3}, 100, false), kerr.CorruptMessage},
		{"zstd, skippable frames only", Zstd, bytes.Repeat([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, 1000), nil},
		{"zstd, a skippable frame that claims 4 GiB", Zstd, []byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff}, kerr.CorruptMessage},
		{"lz4", LZ4, stream(t, LZ4, zeros), kerr.MessageTooLarge},
		{"lz4, many frames", LZ4, bytes.Repeat(stream(t, LZ4, zeros[:1<<20]), 200), kerr.MessageTooLarge},
		{"lz4 cut", LZ4, stream(t, LZ4, zeros[:1<<20])[:900], kerr.CorruptMessage},
		{"lz4 that claims 2^63 bytes", LZ4, lz4Frame(0x68, []byte{0, 0, 0, 0, 0, 0, 0, 0x80}, 1, 0, 0, 0x80, 'x', 0, 0, 0, 0), kerr.CorruptMessage},
		{"lz4 with a dictionary id", LZ4, lz4Frame(0x61, []byte{1, 2, 3, 4}, 1, 0, 0, 0x80, 'x', 0, 0, 0, 0), kerr.CorruptMessage},
		{"lz4 block that claims 2 GiB", LZ4, lz4Frame(0x60, nil, 0xff, 0xff, 0xff, 0x7f), kerr.CorruptMessage},
		{"lz4 legacy frame", LZ4, []byte{0x02, 0x21, 0x4c, 0x18, 0xff, 0xff, 0xff, 0x7f}, kerr.CorruptMessage},
		{"snappy", Snappy, s2.EncodeSnappy(nil, zeros), kerr.MessageTooLarge},
		{"snappy that claims 4 GiB", Snappy, snappyRaw(1<<32-1, 0), kerr.CorruptMessage},
		{"snappy that claims 2^63", Snappy, snappyRaw(1<<63, 0), kerr.CorruptMessage},
		{"snappy that claims more than its bytes can hold", Snappy, snappyRaw(7<<20, make([]byte, 200<<10)...), kerr.CorruptMessage},
		{"xerial", Snappy, stream(t, Snappy, zeros), kerr.MessageTooLarge},
		{"xerial, a chunk that claims 4 GiB", Snappy, append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff), kerr.CorruptMessage},
		{"xerial cut", Snappy, stream(t, Snappy, zeros[:1<<20])[:900], kerr.CorruptMessage},
		{"not what the codec says", Gzip, stream(t, Zstd, zeros[:1000]), kerr.CorruptMessage},
		{"nor here", Zstd, stream(t, LZ4, zeros[:1000]), kerr.CorruptMessage},
		{"nor here", LZ4, stream(t, Gzip, zeros[:1000]), kerr.CorruptMessage},
		{"nor here", Snappy, stream(t, Gzip, zeros[:1000]), kerr.CorruptMessage},
	} {
		const limit = 8 << 20
		var d decompressor
		_, _ = d.append(nil, tc.codec, stream(t, tc.codec, []byte("warm")), limit) // what a decoder has of its own
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := d.append(nil, tc.codec, tc.data, limit)
		runtime.ReadMemStats(&after)
		if (err == nil) != (tc.want == nil) || err != nil && kerr.Of(err) != tc.want {
			t.Errorf("%s %q: %v, want %v", tc.codec, tc.name, err, tc.want)
		}
		if err == nil && cap(out) > limit+1 {
			t.Errorf("%s %q: room for %d", tc.codec, tc.name, cap(out))
		}
		// All buffers on the way to the limit together; the largest counts at one time. Under the
		// race detector a sync.Pool drops what it likes, and the decoders have theirs.
		if n := after.TotalAlloc - before.TotalAlloc; n > 5*limit && !raceEnabled {
			t.Errorf("%s %q: %d bytes sent took %d, the limit is %d", tc.codec, tc.name, len(tc.data), n, limit)
		}
	}
}

// lz4Checksum makes the header checksum of an LZ4 frame: the second byte of xxHash32.
func lz4Checksum(b []byte) byte {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	h := uint32(p5) + uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		h += binary.LittleEndian.Uint32(b) * p3
		h = (h<<17 | h>>15) * p4
	}
	for _, x := range b {
		h += uint32(x) * p5
		h = (h<<11 | h>>21) * p1
	}
	h ^= h >> 15
	h *= p2
	h ^= h >> 13
	h *= p3
	h ^= h >> 16
	return byte(h >> 8)
}
