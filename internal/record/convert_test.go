package record

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// oldMessage is a message of format v0 or v1 as the protocol's own definition has it.
type oldMessage struct {
	magic, attributes int8
	offset, timestamp int64
	key, value        []byte
}

// encode appends the message with its size and checksum.
func (m oldMessage) encode(dst []byte) []byte {
	start := len(dst)
	if m.magic == 0 {
		v := kmsg.MessageV0{Offset: m.offset, Attributes: m.attributes, Key: m.key, Value: m.value}
		dst = v.AppendTo(dst)
	} else {
		v := kmsg.MessageV1{Offset: m.offset, Magic: m.magic, Attributes: m.attributes, Timestamp: m.timestamp, Key: m.key, Value: m.value}
		dst = v.AppendTo(dst)
	}
	return sealMessage(dst, start)
}

// sealMessage sets size and checksum of the message that begins at start.
func sealMessage(dst []byte, start int) []byte {
	m := dst[start:]
	binary.BigEndian.PutUint32(m[8:], uint32(len(m)-12))
	binary.BigEndian.PutUint32(m[12:], crc32.ChecksumIEEE(m[16:]))
	return dst
}

func oldSet(ms ...oldMessage) (set []byte) {
	for _, m := range ms {
		set = m.encode(set)
	}
	return set
}

// threeMessages have times, a null and an empty field each.
func threeMessages(magic int8) []oldMessage {
	return []oldMessage{
		{magic: magic, offset: 0, timestamp: testNow, key: []byte("k0"), value: []byte("v0")},
		{magic: magic, offset: 1, timestamp: testNow + 40, key: nil, value: []byte(strings.Repeat("value one ", 300))},
		{magic: magic, offset: 2, timestamp: testNow - 7, key: []byte{}, value: nil},
	}
}

// wantRecords are threeMessages as records.
func wantRecords(magic int8) (want []Record) {
	for _, m := range threeMessages(magic) {
		if magic == 0 {
			m.timestamp = NoTimestamp
		}
		want = append(want, Record{Timestamp: m.timestamp, Key: m.key, Value: m.value})
	}
	return want
}

// wrap is the wrapper of set; codec compresses it.
func wrap(t testing.TB, magic int8, codec Codec, offset int64, set []byte) []byte {
	t.Helper()
	z, err := new(Compressor).Append(nil, codec, set)
	if err != nil {
		t.Fatal(err)
	}
	return oldMessage{magic: magic, attributes: int8(codec), offset: offset, timestamp: testNow + 40, value: z}.encode(nil)
}

// xerial frames set as Java's snappy stream does, in two chunks.
func xerial(set []byte) []byte {
	out := append(slices.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for _, part := range [][]byte{set[:len(set)/2], set[len(set)/2:]} {
		z := s2.EncodeSnappy(nil, part)
		out = binary.BigEndian.AppendUint32(out, uint32(len(z)))
		out = append(out, z...)
	}
	return out
}

// oldLZ4 is a frame as clients wrote it before KAFKA-3160: the checksum of the descriptor
// is taken over the magic as well. size adds the size of the content to it.
func oldLZ4(t testing.TB, set []byte, size bool) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := lz4.NewWriter(&buf)
	o := []lz4.Option{lz4.BlockSizeOption(lz4.Block64Kb)}
	if size {
		o = append(o, lz4.SizeOption(uint64(len(set))))
	}
	if err := w.Apply(o...); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(set); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := buf.Bytes()
	end := 6
	if size {
		end = 14
	}
	right := b[end]
	b[end] = byte(xxh32Short(b[:end]) >> 8)
	if end < 10 && b[end] == right {
		t.Fatal("the broken checksum is the right one")
	}
	if end > 10 {
		b[end] = ^right
	}
	return b
}

func convert(b []byte, t Target, v ValidateOptions) (Batch, error) {
	return new(Converter).Convert(b, t, v)
}

// mustHold fails unless b is a sound batch with those records, offsets 0, 1, 2...
func mustHold(t *testing.T, name string, b Batch, want []Record) {
	t.Helper()
	if err := Validate(b, ValidateOptions{CheckRecords: true}); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	got, err := readAll(NewReader(0), b)
	if err != nil || len(got) != len(want) {
		t.Errorf("%s: %d records, %v", name, len(got), err)
		return
	}
	for i := range got {
		w := want[i]
		if int(got[i].Offset) != i || got[i].Timestamp != w.Timestamp || !reflect.DeepEqual(got[i].Key, w.Key) || !reflect.DeepEqual(got[i].Value, w.Value) || len(got[i].Headers) != len(w.Headers) {
			t.Errorf("%s: record %d is %+v, want %+v", name, i, got[i], w)
		}
	}
}

// Message sets of both formats, plain and in every codec and framing that producers of
// their time had, become one batch with the same records and codec.
func TestConvertMessageSets(t *testing.T) {
	for magic := int8(0); magic <= 1; magic++ {
		plain := oldSet(threeMessages(magic)...)
		sets := map[string]struct {
			set   []byte
			codec Codec
		}{
			"plain":         {plain, None},
			"gzip":          {wrap(t, magic, Gzip, 2, plain), Gzip},
			"snappy":        {wrap(t, magic, Snappy, 2, plain), Snappy},
			"lz4":           {wrap(t, magic, LZ4, 2, plain), LZ4},
			"xerial snappy": {oldMessage{magic: magic, attributes: 2, value: xerial(plain)}.encode(nil), Snappy},
		}
		if magic == 0 {
			for _, size := range []bool{false, true} {
				sets["old lz4 "+map[bool]string{true: "with size"}[size]] = struct {
					set   []byte
					codec Codec
				}{oldMessage{magic: 0, attributes: 3, value: oldLZ4(t, plain, size)}.encode(nil), LZ4}
			}
		}
		for name, s := range sets {
			in := slices.Clone(s.set)
			b, err := convert(s.set, Target{}, ValidateOptions{})
			if err != nil {
				t.Errorf("magic %d, %s: %v", magic, name, err)
				continue
			}
			mustHold(t, name, b, wantRecords(magic))
			if b.Codec() != s.codec || b.ProducerID() != -1 || b.ProducerEpoch() != -1 || b.BaseSequence() != -1 || b.Attributes()&^AttrCodecMask != 0 {
				t.Errorf("magic %d, %s: header % x", magic, name, b[:HeaderLen])
			}
			base, last := int64(testNow), int64(testNow+40)
			if magic == 0 {
				base, last = NoTimestamp, NoTimestamp
			}
			if b.BaseTimestamp() != base || b.MaxTimestamp() != last {
				t.Errorf("magic %d, %s: times %d to %d", magic, name, b.BaseTimestamp(), b.MaxTimestamp())
			}
			if !bytes.Equal(in, s.set) {
				t.Errorf("magic %d, %s: the input was changed", magic, name)
			}
		}
	}
}

// Offsets within the set are the producer's business: the batch is numbered from 0.
func TestConvertNumbersAnew(t *testing.T) {
	for magic := int8(0); magic <= 1; magic++ {
		ms := threeMessages(magic)
		ms[0].offset, ms[1].offset, ms[2].offset = 1000, 7, 7
		set := oldSet(ms...)
		for _, s := range [][]byte{set, wrap(t, magic, Gzip, 0, set), wrap(t, magic, Gzip, 7, set), wrap(t, magic, Gzip, 900, set)} {
			b, err := convert(s, Target{}, ValidateOptions{})
			if err != nil {
				t.Fatal(magic, err)
			}
			mustHold(t, "numbered", b, wantRecords(magic))
		}
	}
}

// Every source codec into every target codec, keeping all else.
func TestRecompress(t *testing.T) {
	c := new(Converter)
	for _, from := range allCodecs() {
		for _, to := range allCodecs() {
			tp := NewTemplate()
			tp.Codec, tp.ProducerID, tp.ProducerEpoch, tp.BaseSequence = from, 77, 3, math.MaxInt32-1
			src, err := Build(nil, tp, testRecords())
			if err != nil {
				t.Fatal(err)
			}
			in := slices.Clone(src)
			b, err := c.Convert(src, Target{Recompress: true, Codec: to}, ValidateOptions{})
			if err != nil {
				t.Fatal(from, to, err)
			}
			name := from.String() + " to " + to.String()
			mustHold(t, name, b, testRecords())
			if b.Codec() != to {
				t.Errorf("%s: codec %s", name, b.Codec())
			}
			for _, part := range [][2]int{{12, 17}, {23, HeaderLen}} {
				if !bytes.Equal(b[part[0]:part[1]], in[part[0]:part[1]]) {
					t.Errorf("%s: header % x, was % x", name, b[:HeaderLen], in[:HeaderLen])
				}
			}
			if !bytes.Equal(in, src) {
				t.Errorf("%s: the input was changed", name)
			}
		}
	}
	// A message set goes to the topic's codec too.
	for _, to := range allCodecs() {
		for _, s := range [][]byte{oldSet(threeMessages(1)...), wrap(t, 1, Gzip, 2, oldSet(threeMessages(1)...))} {
			b, err := c.Convert(s, Target{Recompress: true, Codec: to}, ValidateOptions{})
			if err != nil || b.Codec() != to {
				t.Fatal(to, err)
			}
			mustHold(t, "set to "+to.String(), b, wantRecords(1))
		}
	}
}

// A level changes what the codec makes of the records, and the next batch's level counts.
func TestRecompressLevels(t *testing.T) {
	recs := make([]Record, 400)
	for i := range recs {
		recs[i] = Record{Timestamp: testNow, Value: bytes.Repeat([]byte{byte(i), byte(i * i), byte(i / 3)}, i%90+1)}
	}
	src := build(t, None, recs)
	c := new(Converter)
	size := func(codec Codec, l Levels) int {
		b, err := c.Convert(src, Target{Recompress: true, Codec: codec, Levels: l}, ValidateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, codec.String(), b, recs)
		return len(b)
	}
	for _, tc := range []struct {
		codec     Codec
		low, high Levels
	}{
		{Gzip, Levels{Gzip: 1}, Levels{Gzip: 9}},
		{LZ4, Levels{}, Levels{LZ4: 17}},
		{Zstd, Levels{Zstd: 1}, Levels{Zstd: 19}},
	} {
		low, high := size(tc.codec, tc.low), size(tc.codec, tc.high)
		if low <= high {
			t.Errorf("%s: %d bytes at the low level, %d at the high", tc.codec, low, high)
		}
		if again := size(tc.codec, tc.low); again != low {
			t.Errorf("%s: %d bytes at the low level again, was %d", tc.codec, again, low)
		}
	}
	if a, b := size(LZ4, Levels{}), size(LZ4, Levels{LZ4: 9}); a != b {
		t.Errorf("lz4: level 9 is not the default: %d and %d bytes", a, b)
	}
	if a, b := size(Gzip, Levels{}), size(Gzip, Levels{Gzip: -1}); a != b {
		t.Errorf("gzip: level -1 is not the default: %d and %d bytes", a, b)
	}
	if a, b := size(Zstd, Levels{}), size(Zstd, Levels{Zstd: 3}); a != b {
		t.Errorf("zstd: level 3 is not the default: %d and %d bytes", a, b)
	}
}

// Under LogAppendTime every record has the broker's time, and what the producer says of time
// does not matter.
func TestConvertLogAppendTime(t *testing.T) {
	v := ValidateOptions{LogAppendTime: true, CheckTimestamps: true, Now: testNow + 1e9, BeforeMs: 1, AfterMs: 1}
	for name, b := range map[string][]byte{
		"v0": oldSet(threeMessages(0)...), "v1": oldSet(threeMessages(1)...), "v1 gzip": wrap(t, 1, Gzip, 2, oldSet(threeMessages(1)...)),
		"v2": build(t, None, testRecords()), "v2 lz4": build(t, LZ4, testRecords()),
	} {
		out, err := convert(b, Target{Recompress: true, Codec: Snappy}, v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		recs, err := readAll(NewReader(0), out)
		if err != nil || !out.CheckCRC() || out.MaxTimestamp() != v.Now || out.Attributes() != AttrLogAppendTime|int16(Snappy) {
			t.Errorf("%s: %v, header % x", name, err, out[:HeaderLen])
		}
		for _, r := range recs {
			if r.Timestamp != v.Now {
				t.Errorf("%s: a record has the time %d", name, r.Timestamp)
			}
		}
		v.LogAppendTime = false
		if _, err := convert(b, Target{Recompress: true, Codec: Snappy}, v); (kerr.Of(err) == kerr.InvalidTimestamp) == (name == "v0") {
			t.Errorf("%s: bounds of time without LogAppendTime: %v", name, err)
		}
		v.LogAppendTime = true
	}
}

func TestConvertRefuses(t *testing.T) {
	plain := oldSet(threeMessages(1)...)
	edit := func(set []byte, at int, v byte, seal bool) []byte {
		s := slices.Clone(set)
		if s[at] = v; seal {
			sealMessage(s, 0)
		}
		return s
	}
	one := func(m oldMessage) []byte { return m.encode(nil) }
	ms := threeMessages(1)
	bomb := oldMessage{magic: 1, value: make([]byte, 3<<20)}.encode(nil)
	size := func(n uint32) []byte {
		s := slices.Clone(plain)
		binary.BigEndian.PutUint32(s[8:], n)
		return s
	}
	field := func(n uint32) []byte { // of the first key
		s := ms[0].encode(nil)
		binary.BigEndian.PutUint32(s[26:], n)
		return sealMessage(s, 0)
	}
	short := append(make([]byte, 26), 0, 0) // magic 1, too short for a timestamp
	short[16] = 1
	for _, tc := range []struct {
		name string
		set  []byte
		v    ValidateOptions
		want *kerr.Error
	}{
		{"checksum", edit(plain, 30, 9, false), ValidateOptions{}, kerr.CorruptMessage},
		{"checksum of the second", edit(plain, len(one(ms[0]))+40, 9, false), ValidateOptions{}, kerr.CorruptMessage},
		{"cut", plain[:len(plain)-1], ValidateOptions{}, kerr.CorruptMessage},
		{"cut in a header", plain[:len(one(ms[0]))+9], ValidateOptions{}, kerr.CorruptMessage},
		{"cut before the key", plain[:20], ValidateOptions{}, kerr.CorruptMessage},
		{"size negative", size(1 << 31), ValidateOptions{}, kerr.CorruptMessage},
		{"size absurd", size(math.MaxInt32), ValidateOptions{}, kerr.CorruptMessage},
		{"size too small", size(13), ValidateOptions{}, kerr.CorruptMessage},
		{"size 0", size(0), ValidateOptions{}, kerr.CorruptMessage},
		{"too short for v1", sealMessage(short, 0), ValidateOptions{}, kerr.InvalidRecord},
		{"key negative", field(0xfffffffe), ValidateOptions{}, kerr.InvalidRecord},
		{"key absurd", field(math.MaxInt32), ValidateOptions{}, kerr.InvalidRecord},
		{"key too long", field(3), ValidateOptions{}, kerr.InvalidRecord},
		{"bytes after the value", sealMessage(append(ms[0].encode(nil), 1), 0), ValidateOptions{}, kerr.InvalidRecord},
		{"v0 after v1", oldSet(ms[0], threeMessages(0)[1]), ValidateOptions{}, kerr.InvalidRecord},
		{"v1 after v0", oldSet(threeMessages(0)[1], ms[0]), ValidateOptions{}, kerr.InvalidRecord},
		{"v2 after v1", append(slices.Clone(plain), build(t, None, testRecords())...), ValidateOptions{}, kerr.InvalidRecord},
		{"unknown magic after v1", append(slices.Clone(plain), edit(plain, 16, 7, true)...), ValidateOptions{}, kerr.CorruptMessage},
		{"v0 in v1", wrap(t, 1, Gzip, 2, oldSet(threeMessages(0)...)), ValidateOptions{}, kerr.InvalidRecord},
		{"v1 in v0", wrap(t, 0, Gzip, 2, plain), ValidateOptions{}, kerr.InvalidRecord},
		{"v2 in v1", wrap(t, 1, Gzip, 2, build(t, None, testRecords())), ValidateOptions{}, kerr.InvalidRecord},
		{"two wrappers", append(wrap(t, 1, Gzip, 2, plain), wrap(t, 1, Gzip, 2, plain)...), ValidateOptions{}, kerr.InvalidRecord},
		{"wrapper then message", append(wrap(t, 1, Gzip, 2, plain), plain...), ValidateOptions{}, kerr.InvalidRecord},
		{"message then wrapper", append(slices.Clone(plain), wrap(t, 1, Gzip, 2, plain)...), ValidateOptions{}, kerr.InvalidRecord},
		{"wrapper in wrapper", wrap(t, 1, Gzip, 0, wrap(t, 1, Gzip, 2, plain)), ValidateOptions{}, kerr.InvalidRecord},
		{"empty wrapper", wrap(t, 1, Gzip, 0, nil), ValidateOptions{}, kerr.InvalidRecord},
		{"null wrapper", one(oldMessage{magic: 1, attributes: 1}), ValidateOptions{}, kerr.InvalidRecord},
		{"cut in a wrapper", wrap(t, 1, Gzip, 2, plain[:len(plain)-1]), ValidateOptions{}, kerr.CorruptMessage},
		{"checksum in a wrapper", wrap(t, 1, Gzip, 2, edit(plain, 30, 9, false)), ValidateOptions{}, kerr.CorruptMessage},
		{"wrapper's offset below its last", wrap(t, 1, Gzip, 1, plain), ValidateOptions{}, kerr.InvalidRecord},
		{"zstd", wrap(t, 1, Zstd, 2, plain), ValidateOptions{}, kerr.InvalidRecord},
		{"codec 5", one(oldMessage{magic: 1, attributes: 5, value: plain}), ValidateOptions{}, kerr.InvalidRecord},
		{"not gzip", one(oldMessage{magic: 1, attributes: 1, value: plain}), ValidateOptions{}, kerr.CorruptMessage},
		{"old lz4 in v1", one(oldMessage{magic: 1, attributes: 3, value: oldLZ4(t, plain, false)}), ValidateOptions{}, kerr.CorruptMessage},
		{"lz4 cut", one(oldMessage{magic: 0, attributes: 3, value: []byte{4, 0x22, 0x4d, 0x18, 0x6c}}), ValidateOptions{}, kerr.CorruptMessage},
		{"lz4 empty", one(oldMessage{magic: 0, attributes: 3, value: []byte{}}), ValidateOptions{}, kerr.CorruptMessage},
		{"bomb", wrap(t, 1, Gzip, 0, bomb), ValidateOptions{}, kerr.MessageTooLarge},
		{"message too large", plain, ValidateOptions{MaxBatchBytes: len(one(ms[1])) - 1}, kerr.MessageTooLarge},
		{"batch too large", plain, ValidateOptions{MaxBatchBytes: len(one(ms[1]))}, kerr.MessageTooLarge},
		{"timestamp type", one(oldMessage{magic: 1, attributes: 8}), ValidateOptions{}, kerr.InvalidTimestamp},
		{"timestamp type of a wrapper", one(oldMessage{magic: 1, attributes: 9, value: plain}), ValidateOptions{}, kerr.InvalidTimestamp},
		{"timestamp -2", one(oldMessage{magic: 1, timestamp: -2}), ValidateOptions{}, kerr.InvalidTimestamp},
		{"timestamp too old", plain, ValidateOptions{CheckTimestamps: true, Now: testNow, BeforeMs: 6, AfterMs: 40}, kerr.InvalidTimestamp},
		{"timestamp too new", plain, ValidateOptions{CheckTimestamps: true, Now: testNow, BeforeMs: 7, AfterMs: 39}, kerr.InvalidTimestamp},
		{"no key", plain, ValidateOptions{RequireKeys: true}, kerr.InvalidRecord},
	} {
		_, err := convert(tc.set, Target{MaxDecompressed: 2 << 20}, tc.v)
		if kerr.Of(err) != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	// What stands at the bounds passes.
	v := ValidateOptions{CheckTimestamps: true, Now: testNow, BeforeMs: 7, AfterMs: 40}
	b, err := convert(plain, Target{}, v)
	if err != nil {
		t.Fatal(err)
	}
	v.MaxBatchBytes = max(len(b), len(one(ms[1])))
	if _, err := convert(plain, Target{}, v); err != nil {
		t.Error(err)
	}
	// A message that compresses well may be larger than what is sent and stored.
	if _, err := convert(wrap(t, 1, Gzip, 0, bomb), Target{}, ValidateOptions{MaxBatchBytes: 10_000}); err != nil {
		t.Error(err)
	}
	// The timestamp of v0 does not exist, nor does its type bit.
	if _, err := convert(one(oldMessage{magic: 0, attributes: 8}), Target{}, v); err != nil {
		t.Error(err)
	}
}

// Batches that are taken apart are looked at whole, whatever their codec.
func TestRecompressRefuses(t *testing.T) {
	bad := func(c Codec, payload []byte, n int) []byte {
		z, err := new(Compressor).Append(nil, c, payload)
		if err != nil {
			t.Fatal(err)
		}
		return compressedBatch(c, z, n)
	}
	record := []byte{20, 0, 0, 0, 2, 'k', 2, 'v', 2, 0, 3}
	crc := build(t, Gzip, testRecords())
	crc[30]++
	for _, tc := range []struct {
		name string
		b    []byte
		v    ValidateOptions
		want *kerr.Error
	}{
		{"record", bad(Gzip, record, 1), ValidateOptions{}, kerr.InvalidRecord},
		{"count", bad(Snappy, build(t, None, testRecords()).Payload(), 2), ValidateOptions{}, kerr.InvalidRecord},
		{"huge count", bad(LZ4, build(t, None, testRecords()).Payload(), math.MaxInt32), ValidateOptions{}, kerr.InvalidRecord},
		{"checksum", crc, ValidateOptions{}, kerr.CorruptMessage},
		{"not compressed", compressedBatch(Gzip, []byte("nonsense"), 1), ValidateOptions{}, kerr.CorruptMessage},
		{"bomb", build(t, Gzip, []Record{{Timestamp: testNow, Value: make([]byte, 3<<20)}}), ValidateOptions{}, kerr.MessageTooLarge},
		{"larger than the bound", build(t, Gzip, []Record{{Timestamp: testNow, Value: make([]byte, 1<<20)}}), ValidateOptions{MaxBatchBytes: 1 << 20}, kerr.MessageTooLarge},
		{"as sent larger than the bound", build(t, None, testRecords()), ValidateOptions{MaxBatchBytes: 100}, kerr.MessageTooLarge},
		{"record's time", build(t, Gzip, testRecords()), ValidateOptions{CheckTimestamps: true, Now: testNow, BeforeMs: 6, AfterMs: 40}, kerr.InvalidTimestamp},
		{"no key", build(t, Gzip, testRecords()), ValidateOptions{RequireKeys: true}, kerr.InvalidRecord},
		{"short", []byte("short"), ValidateOptions{}, kerr.CorruptMessage},
		{"zstd of old", build(t, Zstd, testRecords()), ValidateOptions{RefuseZstd: true}, kerr.UnsupportedCompressionType},
	} {
		if _, err := convert(tc.b, Target{Recompress: true, MaxDecompressed: 2 << 20}, tc.v); kerr.Of(err) != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// What could not be stored is not unpacked whole.
func TestConvertStopsAtTheBound(t *testing.T) {
	const bound = 1 << 20
	huge := make([]byte, 32<<20)
	var set []byte
	for range 32 {
		set = oldMessage{magic: 1, value: huge[:1<<20-100]}.encode(set)
	}
	for name, b := range map[string][]byte{
		"batch": build(t, Gzip, []Record{{Timestamp: testNow, Value: huge}}), "set": wrap(t, 1, Gzip, 0, set),
	} {
		c := new(Converter)
		if _, err := c.Convert(b, Target{Recompress: true}, ValidateOptions{MaxBatchBytes: bound}); kerr.Of(err) != kerr.MessageTooLarge {
			t.Errorf("%s: %v", name, err)
		}
		if name == "batch" && cap(c.plain) > bound+1 || cap(c.out) > 4*bound {
			t.Errorf("%s: %d bytes unpacked, %d made of them", name, cap(c.plain), cap(c.out))
		}
	}
}

func TestTargetTakes(t *testing.T) {
	v1, gz, plain := oldSet(threeMessages(1)...), build(t, Gzip, testRecords()), build(t, None, testRecords())
	for _, tc := range []struct {
		name string
		t    Target
		b    []byte
		want bool
	}{
		{"producer, set", Target{}, v1, false},
		{"producer, gzip", Target{}, gz, true},
		{"producer, plain", Target{}, plain, true},
		{"gzip, gzip", Target{Recompress: true, Codec: Gzip}, gz, true},
		{"gzip, plain", Target{Recompress: true, Codec: Gzip}, plain, false},
		{"none, gzip", Target{Recompress: true}, gz, false},
		{"none, plain", Target{Recompress: true}, plain, true},
		{"gzip, set", Target{Recompress: true, Codec: Gzip}, wrap(t, 1, Gzip, 0, v1), false},
		{"gzip, short", Target{Recompress: true, Codec: Gzip}, plain[:40], true},
		{"gzip, shorter", Target{Recompress: true, Codec: Gzip}, plain[:10], true},
	} {
		if got := tc.t.Takes(tc.b); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// After a batch of unusual size Shrink gives its memory back.
func TestConverterShrinks(t *testing.T) {
	c := new(Converter)
	big := build(t, None, []Record{{Timestamp: testNow, Value: make([]byte, 2*keptBuffer)}})
	for _, codec := range []Codec{Gzip, None} {
		z := build(t, codec, []Record{{Timestamp: testNow, Value: make([]byte, 2*keptBuffer)}})
		for _, to := range allCodecs() {
			if _, err := c.Convert(z, Target{Recompress: true, Codec: to}, ValidateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	set := oldMessage{value: big}.encode(nil)
	if _, err := c.Convert(set, Target{Recompress: true, Codec: Gzip}, ValidateOptions{}); err != nil {
		t.Fatal(err)
	}
	if cap(c.plain) <= keptBuffer || cap(c.records) <= keptBuffer || cap(c.out) <= keptBuffer {
		t.Fatal("the test's batches are too small")
	}
	c.Shrink()
	if cap(c.plain) > keptBuffer || cap(c.records) > keptBuffer || cap(c.out) > keptBuffer || c.comp.out.Cap() > keptBuffer {
		t.Errorf("%d, %d, %d and %d bytes are kept", cap(c.plain), cap(c.records), cap(c.out), c.comp.out.Cap())
	}
	if _, err := c.Convert(set, Target{Recompress: true, Codec: Gzip}, ValidateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// FuzzConvert: whatever the bytes, no panic, no unbounded memory, and what comes out is a
// batch that Validate takes whole.
func FuzzConvert(f *testing.F) {
	for magic := int8(0); magic <= 1; magic++ {
		plain := oldSet(threeMessages(magic)...)
		f.Add(plain, uint8(0))
		for _, c := range []Codec{Gzip, Snappy, LZ4} {
			f.Add(wrap(f, magic, c, 2, plain), uint8(c)+8)
			f.Add(wrap(f, magic, c, 0, wrap(f, magic, c, 2, plain)), uint8(0))
		}
		f.Add(oldMessage{magic: magic, attributes: 2, value: xerial(plain)}.encode(nil), uint8(4+8))
	}
	f.Add(oldMessage{attributes: 3, value: oldLZ4(f, oldSet(threeMessages(0)...), true)}.encode(nil), uint8(0))
	for _, c := range allCodecs() {
		f.Add([]byte(build(f, c, testRecords())), uint8(8|(c+1)%5))
	}
	for _, set := range []string{goldenSetNone, goldenSetGzip, goldenSetSnappy, goldenSetLZ4} {
		f.Add(unhex(f, set), uint8(0))
	}
	c := new(Converter)
	f.Fuzz(func(t *testing.T, p []byte, how uint8) {
		const limit = 1 << 18
		switch { // so that most inputs get past the checksum
		case len(p) >= 26 && (p[16] == 0 || p[16] == 1):
			p = slices.Clone(p)
			for rest := p; len(rest) >= 26; {
				n := int64(int32(binary.BigEndian.Uint32(rest[8:]))) + 12
				if n < 26 || n > int64(len(rest)) {
					break
				}
				binary.BigEndian.PutUint32(rest[12:], crc32.ChecksumIEEE(rest[16:n]))
				rest = rest[n:]
			}
		case len(p) >= HeaderLen:
			p = slices.Clone(p)
			Batch(p).Seal()
		}
		target := Target{Codec: Codec(how % 5), Recompress: how&8 != 0, MaxDecompressed: limit}
		v := ValidateOptions{LogAppendTime: how&16 != 0, Now: testNow}
		b, err := c.Convert(p, target, v)
		if cap(c.plain) > limit+1 {
			t.Fatalf("a buffer of %d bytes for a limit of %d", cap(c.plain), limit)
		}
		if err != nil {
			if kerr.Of(err) == kerr.UnknownServerError {
				t.Fatalf("an error without a kind: %v", err)
			}
			return
		}
		if target.Recompress && b.Codec() != target.Codec {
			t.Fatalf("codec %s, want %s", b.Codec(), target.Codec)
		}
		if err := Check(b); err != nil {
			t.Fatal(err)
		}
		recs, err := readAll(NewReader(0), b)
		if err != nil || len(recs) != int(b.NumRecords()) || len(recs) == 0 {
			t.Fatalf("%d records of %d: %v", len(recs), b.NumRecords(), err)
		}
	})
}

func BenchmarkConvert(b *testing.B) {
	run := func(name string, src []byte, t Target) {
		b.Run(name, func(b *testing.B) {
			c := new(Converter)
			b.SetBytes(int64(len(benchBatch(b, None, 2500))))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Convert(src, t, ValidateOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, c := range allCodecs() {
		run("none to "+c.String(), benchBatch(b, None, 2500), Target{Recompress: true, Codec: c})
		if c != None {
			run(c.String()+" to none", benchBatch(b, c, 2500), Target{Recompress: true})
		}
	}
	recs, err := readAll(NewReader(0), benchBatch(b, None, 2500))
	if err != nil {
		b.Fatal(err)
	}
	var set []byte
	for _, r := range recs {
		set = oldMessage{magic: 1, timestamp: r.Timestamp, key: r.Key, value: r.Value}.encode(set)
	}
	run("v1", set, Target{})
	run("v1 gzip", wrap(b, 1, Gzip, 0, set), Target{})
}
