package record

import (
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
)

// Batches as franz-go v1.22.2 sent them: the records of goldenRecords, not idempotent.
const (
	goldenNone   = "00000000000000000000008effffffff023bd6aae50000000000020000018bcfe568000000018bcfe56805ffffffffffffffffffff00000000000000037c000000066b65796a7468652076616c75652c207468652076616c75652c207468652076616c75652c207468652076616c75652c207468652076616c75650024000a02010674776f040468310276046832011400050408646561640100"
	goldenSnappy = "00000000000000000000006affffffff026fdc44120002000000020000018bcfe568000000018bcfe56805ffffffffffffffffffff00000000000000035d4c7c000000066b65796a7468652076616c75652c20a60b00780024000a02010674776f040468310276046832011400050408646561640100"
	goldenLZ4    = "00000000000000000000007effffffff0260f2a8e50003000000020000018bcfe568000000018bcfe56805ffffffffffffffffffff000000000000000304224d186470b93a000000ff057c000000066b65796a7468652076616c75652c200b0017f0100024000a02010674776f040468310276046832011400050408646561640100000000008cb16646"
	goldenZstd   = "000000000000000000000079ffffffff02019641f10004000000020000018bcfe568000000018bcfe56805ffffffffffffffffffff000000000000000328b52ffd0400dd010034037c000000066b65796a7468652076616c75652c200024000a02010674776f04046831027604683201140005040864656164010001541203233a0097f02d"
	// goldenGzip is only a payload: two members, as written by Python's gzip module.
	goldenGzip = "1f8b0800000000000203ab61606060cb4eadcc2ac94855284bcc294dd551c0c60400b8d129ad280000001f8b0800000000000203d35128c94855284bcc294dd54130195418b89818d94acaf35958320c99ca58328c1845185859385252135318190055192c7d35000000"
)

func goldenRecords() []Record {
	return []Record{
		{Timestamp: testNow, Key: []byte("key"), Value: []byte("the value, the value, the value, the value, the value")},
		{Timestamp: testNow + 5, Value: []byte("two"), Headers: []Header{{Key: "h1", Value: []byte("v")}, {Key: "h2"}}},
		{Timestamp: testNow - 3, Key: []byte("dead")},
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readAll reads b with r and copies the records.
func readAll(r *Reader, b Batch) ([]Record, error) {
	if err := r.Reset(b); err != nil {
		return nil, err
	}
	var recs []Record
	for {
		var rec Record
		ok, err := r.Next(&rec)
		if !ok {
			return recs, err
		}
		recs = append(recs, clone(rec))
	}
}

// clone copies rec out of its batch and keeps nil apart from empty.
func clone(rec Record) Record {
	cp := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		return append([]byte{}, b...)
	}
	rec.Key, rec.Value = cp(rec.Key), cp(rec.Value)
	var hs []Header
	for _, h := range rec.Headers {
		hs = append(hs, Header{Key: string([]byte(h.Key)), Value: cp(h.Value)})
	}
	rec.Headers = hs
	return rec
}

// numbered returns recs with the offsets that a batch at base gives them.
func numbered(recs []Record, base model.Offset) []Record {
	for i := range recs {
		recs[i].Offset = base + model.Offset(i)
	}
	return recs
}

func TestGoldenBatches(t *testing.T) {
	gz, err := Build(nil, NewTemplate(), goldenRecords())
	if err != nil {
		t.Fatal(err)
	}
	gz = append(gz[:HeaderLen], unhex(t, goldenGzip)...)
	set32(8, len(gz)-LogOverhead)(gz)
	gz.SetAttributes(int16(Gzip))
	gz.Seal()
	r := NewReader(0)
	for _, tc := range []struct {
		name  string
		codec Codec
		b     Batch
	}{
		{"none", None, unhex(t, goldenNone)},
		{"gzip", Gzip, gz},
		{"snappy", Snappy, unhex(t, goldenSnappy)},
		{"lz4", LZ4, unhex(t, goldenLZ4)},
		{"zstd", Zstd, unhex(t, goldenZstd)},
	} {
		if err := Validate(tc.b, ValidateOptions{CheckRecords: true}); err != nil || tc.b.Codec() != tc.codec {
			t.Errorf("%s: codec %s, %v", tc.name, tc.b.Codec(), err)
		}
		recs, err := readAll(r, tc.b)
		if want := numbered(goldenRecords(), 0); err != nil || !reflect.DeepEqual(recs, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", tc.name, err, recs, want)
		}
	}
}

func TestBuildMakesTheBytesOfOthers(t *testing.T) {
	tp := NewTemplate()
	tp.LeaderEpoch, tp.BaseSequence = -1, 0 // as franz-go leaves them without idempotence
	b, err := Build(nil, tp, goldenRecords())
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(b); got != goldenNone {
		t.Errorf("got  %s\nwant %s", got, goldenNone)
	}
}

// TestHeaderMatchesKmsg compares each accessor with a second decoder.
func TestHeaderMatchesKmsg(t *testing.T) {
	tp := Template{BaseOffset: 1 << 40, LeaderEpoch: 9, Codec: LZ4, Attributes: AttrTransactional | AttrLogAppendTime,
		ProducerID: 1 << 50, ProducerEpoch: 300, BaseSequence: 70000}
	b, err := Build(nil, tp, goldenRecords())
	if err != nil {
		t.Fatal(err)
	}
	var k kmsg.RecordBatch
	if err := k.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	ours := []any{int64(b.BaseOffset()), b.Length(), int32(b.LeaderEpoch()), b.Magic(), int32(b.CRC()), b.Attributes(),
		b.LastOffsetDelta(), b.BaseTimestamp(), b.MaxTimestamp(), int64(b.ProducerID()), int16(b.ProducerEpoch()),
		b.BaseSequence(), b.NumRecords(), b.Payload()}
	theirs := []any{k.FirstOffset, k.Length, k.PartitionLeaderEpoch, k.Magic, k.CRC, k.Attributes,
		k.LastOffsetDelta, k.FirstTimestamp, k.MaxTimestamp, k.ProducerID, k.ProducerEpoch,
		k.FirstSequence, k.NumRecords, k.Records}
	if !reflect.DeepEqual(ours, theirs) {
		t.Errorf("got  %v\nwant %v", ours, theirs)
	}
	if !b.IsTransactional() || b.IsControl() || b.LastSequence() != 70002 || b.LastOffset() != 1<<40+2 {
		t.Error("derived fields are wrong")
	}
}

func TestSplit(t *testing.T) {
	a, b := build(t, None, testRecords()), build(t, Zstd, goldenRecords())
	buf := append(append([]byte(nil), a...), b...)
	first, rest, err := Split(buf)
	if err != nil || string(first) != string(a) || len(rest) != len(b) || cap(first) != len(first) {
		t.Fatalf("first: %d bytes, %d left, %v", len(first), len(rest), err)
	}
	second, rest, err := Split(rest)
	if err != nil || string(second) != string(b) || len(rest) != 0 {
		t.Fatalf("second: %d bytes, %d left, %v", len(second), len(rest), err)
	}
	if first, rest, err = Split(rest); first != nil || len(rest) != 0 || err != nil {
		t.Fatalf("end: %v %v %v", first, rest, err)
	}
	for n := 1; n < len(a); n++ {
		if _, rest, err := Split(buf[:n]); !errors.Is(err, ErrPartial) || len(rest) != n {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

// Message sets v0 as librdkafka 2.0.2 sent them to a broker of version 0.9: the messages of
// goldenMessages. The LZ4 frame has the wrong checksum in its header (KAFKA-3160).
const (
	goldenSetNone   = "0000000000000000000000378355d2240000000000026b310000002776616c7565206f6e652076616c7565206f6e652076616c7565206f6e652076616c7565206f6e65000000000000000100000024d9ec808c0000ffffffff0000001676322076616c7565206f6e652076616c7565206f6e65000000000000000200000010b643ca6a0000000000026b33ffffffff"
	goldenSetGzip   = "000000000000000000000060bf09e6260001ffffffff000000521f8b080000000000000363608003f3e6d04b2a601653b62190542f4bcc294d55c8cf4b55c0cb826a670462959b6f1a7a1818fe03019027566684473d13100b6c733e9505b5d218a40b0094cdc0a08f000000"
	goldenSetSnappy = "0000000000000000000000660c21c4250002ffffffff000000588f010000190110378355d224050f40026b310000002776616c7565206f6e6520720a0005335800000100000024d9ec808c0000ffffffff0000001676324e3a000d30500200000010b643ca6a0000000000026b33ffffffff"
	goldenSetLZ4    = "000000000000000000000077894e78af0003ffffffff0000006904224d1860401a5a0000001600010051378355d2240f00ff02026b310000002776616c7565206f6e65200a000a013300ff0800000100000024d9ec808c0000ffffffff0000001676323a0001002d00c20000000200000010b643ca6a0e00606b33ffffffff00000000"
)

// goldenConverted is goldenSetNone as a batch: its records are, byte for byte, what the same
// librdkafka puts into a batch of its own.
const goldenConverted = "0000000000000000000000870000000002963bd4d7000000000002ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff000000035e000000046b314e76616c7565206f6e652076616c7565206f6e652076616c7565206f6e652076616c7565206f6e650038000002012c76322076616c7565206f6e652076616c7565206f6e650010000004046b330100"

func goldenMessages() []Record {
	return []Record{
		{Timestamp: NoTimestamp, Key: []byte("k1"), Value: []byte("value one value one value one value one")},
		{Timestamp: NoTimestamp, Value: []byte("v2 value one value one")},
		{Timestamp: NoTimestamp, Key: []byte("k3")},
	}
}

func TestGoldenMessageSets(t *testing.T) {
	for codec, set := range map[Codec]string{None: goldenSetNone, Gzip: goldenSetGzip, Snappy: goldenSetSnappy, LZ4: goldenSetLZ4} {
		b, err := convert(unhex(t, set), Target{}, ValidateOptions{})
		if err != nil {
			t.Errorf("%s: %v", codec, err)
			continue
		}
		if b.Codec() != codec {
			t.Errorf("%s became %s", codec, b.Codec())
		}
		mustHold(t, codec.String(), b, goldenMessages())
	}
	b, err := convert(unhex(t, goldenSetNone), Target{}, ValidateOptions{})
	if err != nil || hex.EncodeToString(b) != goldenConverted {
		t.Errorf("the plain set became %x (%v), want %s", b, err, goldenConverted)
	}
}
