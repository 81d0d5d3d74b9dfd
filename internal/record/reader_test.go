package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"pgregory.net/rapid"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

func TestSplitRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(Batch)
		want   *kerr.Error
	}{
		{"magic 0", func(b Batch) { b[16] = 0 }, kerr.UnsupportedForMessageFormat},
		{"magic 1", func(b Batch) { b[16] = 1 }, kerr.UnsupportedForMessageFormat},
		{"magic 9", func(b Batch) { b[16] = 9 }, kerr.CorruptMessage},
		{"length 0", set32(8, 0), kerr.CorruptMessage},
		{"length negative", set32(8, -5), kerr.CorruptMessage},
		{"length too small", set32(8, HeaderLen-LogOverhead-1), kerr.CorruptMessage},
	} {
		b := build(t, None, testRecords())
		tc.change(b)
		if _, rest, err := Split(b); kerr.Of(err) != tc.want || errors.Is(err, ErrPartial) || len(rest) != len(b) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if !errors.Is(ErrPartial, kerr.CorruptMessage) || !errors.Is(ErrPartial, io.ErrUnexpectedEOF) {
		t.Error("ErrPartial lost its kinds")
	}
}

// TestRoundTrip builds random batches with each codec and reads them with one Reader.
func TestRoundTrip(t *testing.T) {
	r := NewReader(0)
	c := new(Compressor)
	field := rapid.Custom(func(t *rapid.T) []byte {
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return []byte{}
		case 2:
			return rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "bytes")
		}
		return bytes.Repeat([]byte("ab"), rapid.IntRange(1, 40_000).Draw(t, "repeat"))
	})
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "records")
		recs := make([]Record, n)
		for i := range recs {
			recs[i] = Record{Timestamp: rapid.Int64Range(0, 1<<45).Draw(t, "ts"), Key: field.Draw(t, "key"), Value: field.Draw(t, "value")}
			for range rapid.IntRange(0, 3).Draw(t, "headers") {
				recs[i].Headers = append(recs[i].Headers, Header{Key: rapid.String().Draw(t, "hkey"), Value: field.Draw(t, "hvalue")})
			}
		}
		tp := NewTemplate()
		tp.Codec = Codec(rapid.IntRange(0, 4).Draw(t, "codec"))
		b, err := c.Build(nil, tp, recs)
		if err != nil {
			t.Fatal(err)
		}
		o := ValidateOptions{CheckRecords: true}
		if err := Validate(b, o); err != nil {
			t.Fatal(err)
		}
		b.SetBaseOffset(500)
		got, err := readAll(r, b)
		if err != nil {
			t.Fatal(err)
		}
		if want := numbered(recs, 500); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s:\n got %+v\nwant %+v", tp.Codec, got, want)
		}
	})
}

func TestReaderLogAppendTime(t *testing.T) {
	b := build(t, None, testRecords())
	b.StampLogAppendTime(123456)
	recs, err := readAll(NewReader(0), b)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range recs {
		if rec.Timestamp != 123456 {
			t.Errorf("offset %d has the timestamp %d", rec.Offset, rec.Timestamp)
		}
	}
}

func TestReaderReadsCompactedBatches(t *testing.T) {
	b := rawBatch([]byte{14, 0, 0, 6, 1, 2, 'v', 0, 14, 0, 0, 80, 1, 2, 'w', 0}, 2)
	set32(23, 90)(b)
	recs, err := readAll(NewReader(0), b)
	if err != nil || len(recs) != 2 || recs[0].Offset != 3 || recs[1].Offset != 40 {
		t.Errorf("%+v, %v", recs, err)
	}
	empty := rawBatch(nil, 0) // what is left of a batch whose records are all gone
	set32(23, 4)(empty)
	if recs, err := readAll(NewReader(0), empty); err != nil || len(recs) != 0 {
		t.Errorf("empty batch: %+v, %v", recs, err)
	}
}

func TestReaderRefuses(t *testing.T) {
	good := []byte{14, 0, 0, 0, 1, 2, 'v', 0}
	with := func(at int, v byte) []byte {
		p := append([]byte(nil), good...)
		p[at] = v
		return p
	}
	for _, tc := range []struct {
		name    string
		payload []byte
		n       int
		want    *kerr.Error
	}{
		{"good", good, 1, nil},
		{"count too large for the bytes", good, 2, kerr.InvalidRecord},
		{"count negative", good, -1, kerr.InvalidRecord},
		{"bytes after the last record", append(with(0, 14), 1), 1, kerr.InvalidRecord},
		{"offset beyond the batch", with(3, 2), 1, kerr.InvalidRecord},
		{"offset negative", with(3, 1), 1, kerr.InvalidRecord},
		{"offset twice", append(with(0, 14), good...), 2, kerr.InvalidRecord},
		{"length runs over", with(0, 16), 1, kerr.InvalidRecord},
		{"length negative", with(0, 3), 1, kerr.InvalidRecord},
		{"value runs over", with(5, 8), 1, kerr.InvalidRecord},
		{"header runs over", with(7, 2), 1, kerr.InvalidRecord},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := NewReader(0)
			_, err := readAll(r, rawBatch(tc.payload, tc.n))
			if kerr.Of(err) != tc.want {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			var rec Record
			if ok, again := r.Next(&rec); ok || again != err {
				t.Errorf("the error did not stay: %v, %v", ok, again)
			}
		})
	}
	r := NewReader(0)
	if err := r.Reset(make(Batch, 5)); !errors.Is(err, kerr.CorruptMessage) {
		t.Errorf("too short: %v", err)
	}
	unknown := build(t, None, testRecords())
	unknown.SetAttributes(7)
	if err := r.Reset(unknown); !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("unknown codec: %v", err)
	}
}

func TestReaderRefusesTooManyHeaders(t *testing.T) {
	body := append([]byte{0, 0, 0, 1, 1}, binary.AppendVarint(nil, maxHeaders+1)...)
	body = append(body, make([]byte, 2*(maxHeaders+1))...)
	b := rawBatch(append(binary.AppendVarint(nil, int64(len(body))), body...), 1)
	if _, err := readAll(NewReader(0), b); !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("Reader: %v", err)
	}
	if err := Validate(b, ValidateOptions{CheckRecords: true}); !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("Validate: %v", err)
	}
}

// compressedBatch puts payload behind the header of a batch of n records.
func compressedBatch(c Codec, payload []byte, n int) Batch {
	b := rawBatch(payload, n)
	b.SetAttributes(int16(c))
	b.Seal()
	return b
}

// rawRecords is the uncompressed payload of recs.
func rawRecords(t testing.TB, recs []Record) []byte { return build(t, None, recs).Payload() }

func TestReaderFramings(t *testing.T) {
	recs := goldenRecords()
	raw := rawRecords(t, recs)
	a, z := raw[:30], raw[30:]
	chunk := func(p []byte) []byte {
		s := s2.EncodeSnappy(nil, p)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
	}
	xerial := append(append([]byte(nil), xerialMagic...), 0, 0, 0, 1, 0, 0, 0, 1)
	enc := func(c Codec, p []byte) []byte {
		out, err := new(Compressor).Append(nil, c, p)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	linked := func(p []byte) []byte {
		var out bytes.Buffer
		w := lz4.NewWriter(&out)
		if err := w.Apply(lz4.ChecksumOption(false), lz4.BlockChecksumOption(true), lz4.SizeOption(uint64(len(p)))); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	var zs bytes.Buffer // streaming: no content size in the header, a large window
	zw, err := zstd.NewWriter(&zs, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{a, z} {
		if _, err := zw.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := zw.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		codec   Codec
		payload []byte
	}{
		{"snappy xerial", Snappy, cat(xerial, chunk(raw))},
		{"snappy xerial, two chunks", Snappy, cat(xerial, chunk(a), chunk(z))},
		{"snappy xerial, two streams", Snappy, cat(xerial, chunk(a), xerial, chunk(z))},
		{"gzip, two members", Gzip, cat(enc(Gzip, a), enc(Gzip, z))},
		{"lz4, two frames", LZ4, cat(enc(LZ4, a), enc(LZ4, z))},
		{"lz4 with size and block checksums", LZ4, linked(raw)},
		{"zstd, two frames", Zstd, cat(enc(Zstd, a), enc(Zstd, z))},
		{"zstd stream with a large window", Zstd, zs.Bytes()},
	} {
		got, err := readAll(NewReader(len(raw)), compressedBatch(tc.codec, tc.payload, len(recs)))
		if want := numbered(goldenRecords(), 0); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", tc.name, err, got, want)
		}
		// The limit counts the whole output, not that of a part.
		_, err = readAll(NewReader(len(raw)-1), compressedBatch(tc.codec, tc.payload, len(recs)))
		if !errors.Is(err, kerr.MessageTooLarge) {
			t.Errorf("%s, a byte over the limit: %v", tc.name, err)
		}
	}
}

func cat(ps ...[]byte) []byte { return bytes.Join(ps, nil) }

func TestReaderLimitIsExact(t *testing.T) {
	recs := []Record{{Timestamp: testNow, Value: []byte(strings.Repeat("0123456789", 30_000))}}
	n := len(rawRecords(t, recs))
	for _, c := range allCodecs()[1:] {
		b := build(t, c, recs)
		if _, err := readAll(NewReader(n), b); err != nil {
			t.Errorf("%s at the limit: %v", c, err)
		}
		if _, err := readAll(NewReader(n-1), b); !errors.Is(err, kerr.MessageTooLarge) {
			t.Errorf("%s over the limit: %v", c, err)
		}
	}
}

// TestReaderBombs reads payloads that expand to 64 MiB and more with a limit of 1 MiB and
// counts what was allocated on the way.
func TestReaderBombs(t *testing.T) {
	zeros := make([]byte, 64<<20)
	enc := func(c Codec, p []byte) []byte {
		out, err := new(Compressor).Append(nil, c, p)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	zstdClaim := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0} // says 4 GiB, has nothing
	for _, tc := range []struct {
		name    string
		codec   Codec
		payload []byte
		want    *kerr.Error
	}{
		{"gzip", Gzip, enc(Gzip, zeros), kerr.MessageTooLarge},
		{"gzip members", Gzip, bytes.Repeat(enc(Gzip, zeros[:100<<10]), 100), kerr.MessageTooLarge},
		{"snappy", Snappy, enc(Snappy, zeros), kerr.MessageTooLarge},
		{"snappy claim", Snappy, append(binary.AppendUvarint(nil, 1<<31), 0, 0), kerr.CorruptMessage},
		{"lz4", LZ4, enc(LZ4, zeros), kerr.MessageTooLarge},
		{"lz4 frames", LZ4, bytes.Repeat(enc(LZ4, zeros[:100<<10]), 100), kerr.MessageTooLarge},
		{"zstd", Zstd, enc(Zstd, zeros), kerr.MessageTooLarge},
		{"zstd frames", Zstd, bytes.Repeat(enc(Zstd, zeros[:100<<10]), 100), kerr.MessageTooLarge},
		{"zstd claim", Zstd, zstdClaim, kerr.MessageTooLarge},
		{"zstd window", Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xf0, 1, 0, 0}, kerr.CorruptMessage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := compressedBatch(tc.codec, tc.payload, 1)
			r := NewReader(1 << 20)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := readAll(r, b)
			runtime.ReadMemStats(&after)
			if kerr.Of(err) != tc.want {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			// LZ4 frames may ask for blocks of 4 MiB; the rest is a small multiple of the limit.
			if n := after.TotalAlloc - before.TotalAlloc; n > 12<<20 {
				t.Errorf("%d bytes allocated for a limit of 1 MiB", n)
			}
		})
	}
}

func TestReaderRefusesDamage(t *testing.T) {
	recs := []Record{{Timestamp: testNow, Value: []byte(strings.Repeat("some text that repeats ", 100))}}
	for _, c := range allCodecs()[1:] {
		good := build(t, c, recs)
		for n := HeaderLen; n < len(good); n++ {
			b := compressedBatch(c, good[HeaderLen:n], 1)
			if _, err := readAll(NewReader(0), b); err == nil && !sameRecords(recs, b) {
				t.Errorf("%s cut to %d of %d bytes: no error", c, n, len(good))
			}
		}
		for other := range allCodecs() {
			b := compressedBatch(Codec(other), good.Payload(), 1)
			if _, err := readAll(NewReader(0), b); Codec(other) != c && err == nil {
				t.Errorf("%s read as %s: no error", c, Codec(other))
			}
		}
	}
}

// sameRecords allows a cut that took only a checksum's end: the data is all there.
func sameRecords(recs []Record, b Batch) bool {
	got, err := readAll(NewReader(0), b)
	return err == nil && reflect.DeepEqual(got, numbered(append([]Record(nil), recs...), 0))
}

// TestReaderKeepsBatchesApart: an LZ4 frame with linked blocks that copies from before its
// own start must not see what the Reader decompressed earlier.
func TestReaderKeepsBatchesApart(t *testing.T) {
	r := NewReader(0)
	secret := bytes.Repeat([]byte("secret! "), 4096)
	lz := func(blocks ...[]byte) []byte {
		// Version 1, linked blocks, no checksums, 64 KiB blocks, header checksum of these two bytes.
		f := []byte{0x04, 0x22, 0x4d, 0x18, 0x40, 0x40, 0xc0}
		for _, b := range blocks {
			f = append(binary.LittleEndian.AppendUint32(f, uint32(len(b))), b...)
		}
		return append(f, 0, 0, 0, 0)
	}
	literal := func(p []byte) []byte { // one sequence of literals
		b := []byte{0xf0}
		n := len(p) - 15
		for ; n >= 255; n -= 255 {
			b = append(b, 255)
		}
		return append(append(b, byte(n)), p...)
	}
	out, err := r.dec.append(nil, LZ4, lz(literal(secret)), 1<<20)
	if err != nil || !bytes.Equal(out, secret) {
		t.Fatalf("the frame of this test is wrong: %v", err)
	}
	copyBack := []byte{0x0f, 0x08, 0x00, 200, 0x50, 'a', 'b', 'c', 'd', 'e'} // match at distance 8, then five literals
	out, err = r.dec.append(nil, LZ4, lz(copyBack), 1<<20)
	if err == nil || bytes.Contains(out, []byte("secret")) {
		t.Errorf("a match before the frame's start gave %q, %v", out, err)
	}
}

func TestReaderAllocs(t *testing.T) {
	b := build(t, None, testRecords())
	sn := build(t, Snappy, testRecords())
	zs := build(t, Zstd, testRecords())
	r := NewReader(0)
	var rec Record
	var sum model.Offset
	if n := testing.AllocsPerRun(100, func() {
		for _, b := range []Batch{b, sn, zs} {
			if r.Reset(b) != nil {
				t.Fatal("refused")
			}
			for ok, _ := r.Next(&rec); ok; ok, _ = r.Next(&rec) {
				sum += rec.Offset
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if sum == 0 {
		t.Error("nothing was read")
	}
}

func FuzzValidate(f *testing.F) {
	for _, c := range allCodecs() {
		f.Add([]byte(build(f, c, testRecords())))
	}
	f.Add([]byte(rawBatch([]byte{20, 0, 0, 0, 2, 'k', 2, 'v', 2, 0, 1}, 1)))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= HeaderLen {
			Batch(p).Seal() // so that most inputs get past the checksum
		}
		o := ValidateOptions{CheckRecords: true}
		if Validate(p, o) != nil {
			return
		}
		b := Batch(p)
		if Check(b) != nil {
			t.Fatal("Check refuses what Validate accepts")
		}
		if first, rest, err := Split(p); err != nil || len(rest) != 0 || len(first) != len(p) {
			t.Fatalf("Split does not return what Validate accepts: %v", err)
		}
		recs, err := readAll(NewReader(1<<20), b)
		if b.Codec() != None {
			return
		}
		if err != nil || len(recs) != int(b.NumRecords()) {
			t.Fatalf("Reader finds %d records, %v", len(recs), err)
		}
	})
}

func FuzzReader(f *testing.F) {
	for _, c := range allCodecs() {
		f.Add(uint8(c), int32(3), []byte(build(f, c, testRecords()).Payload()))
	}
	f.Fuzz(func(t *testing.T, codec uint8, n int32, payload []byte) {
		b := compressedBatch(Codec(codec&7), payload, int(n))
		const limit = 1 << 18
		r := NewReader(limit)
		recs, err := readAll(r, b)
		if cap(r.out) > limit+1 {
			t.Fatalf("a buffer of %d bytes for a limit of %d", cap(r.out), limit)
		}
		if err != nil && kerr.Of(err) == kerr.UnknownServerError {
			t.Fatalf("an error without a kind: %v", err)
		}
		if err == nil && len(recs) != int(n) {
			t.Fatalf("%d records of %d and no error", len(recs), n)
		}
	})
}
