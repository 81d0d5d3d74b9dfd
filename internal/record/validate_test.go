package record

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/kerr"
)

const testNow = 1_700_000_000_000

func testRecords() []Record {
	return []Record{
		{Timestamp: testNow, Key: []byte("k0"), Value: []byte("v0")},
		{Timestamp: testNow + 40, Value: []byte(strings.Repeat("value one ", 30))},
		{Timestamp: testNow - 7, Key: []byte{}, Headers: []Header{{Key: "h", Value: nil}, {Key: "", Value: []byte("x")}}},
	}
}

func build(t testing.TB, c Codec, recs []Record) Batch {
	t.Helper()
	tp := NewTemplate()
	tp.Codec = c
	b, err := Build(nil, tp, recs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func allCodecs() []Codec { return []Codec{None, Gzip, Snappy, LZ4, Zstd} }

func TestBuildIsValid(t *testing.T) {
	for _, c := range allCodecs() {
		b := build(t, c, testRecords())
		o := ValidateOptions{CheckRecords: true, MaxBatchBytes: len(b), RefuseZstd: c != Zstd,
			CheckTimestamps: true, Now: testNow, BeforeMs: 7, AfterMs: 40}
		if err := Validate(b, o); err != nil {
			t.Errorf("%s: %v", c, err)
		}
		if err := Check(b); err != nil {
			t.Errorf("%s: Check: %v", c, err)
		}
		if b.Codec() != c || b.NumRecords() != 3 || b.LastOffsetDelta() != 2 ||
			b.BaseTimestamp() != testNow || b.MaxTimestamp() != testNow+40 {
			t.Errorf("%s: header is wrong: % x", c, b[:HeaderLen])
		}
	}
}

func TestBuildAppendsAfterDst(t *testing.T) {
	for _, c := range allCodecs() {
		tp := NewTemplate()
		tp.Codec, tp.BaseOffset, tp.LeaderEpoch = c, 77, 5
		b, err := Build([]byte("before"), tp, testRecords())
		if err != nil {
			t.Fatal(err)
		}
		if b.Size() != len(b) || b.BaseOffset() != 77 || b.LeaderEpoch() != 5 || b.NextOffset() != 80 {
			t.Errorf("%s: header is wrong: % x", c, b[:HeaderLen])
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	if _, err := Build(nil, NewTemplate(), nil); !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("no records: %v", err)
	}
	tp := NewTemplate()
	tp.Codec = 6
	if _, err := Build(nil, tp, testRecords()); !errors.Is(err, kerr.UnsupportedCompressionType) {
		t.Errorf("unknown codec: %v", err)
	}
}

// set32 and the like change a header field under the CRC.
func set16(at int, v int) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint16(b[at:], uint16(v)) }
}
func set32(at int, v int) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint32(b[at:], uint32(v)) }
}
func set64(at int, v int64) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint64(b[at:], uint64(v)) }
}
func all(fs ...func(Batch)) func(Batch) {
	return func(b Batch) {
		for _, f := range fs {
			f(b)
		}
	}
}

func TestValidateHeader(t *testing.T) {
	const (
		lenAt, attrAt, lastAt, baseTSAt, maxTSAt, pidAt, epochAt, seqAt, countAt = 8, 21, 23, 27, 35, 43, 51, 53, 57
	)
	idempotent := all(set64(pidAt, 9), set16(epochAt, 0), set32(seqAt, 0))
	for _, tc := range []struct {
		name   string
		change func(Batch)
		opts   ValidateOptions
		want   *kerr.Error
	}{
		{"plain", func(Batch) {}, ValidateOptions{}, nil},
		{"idempotent", idempotent, ValidateOptions{}, nil},
		{"at the size limit", func(Batch) {}, ValidateOptions{MaxBatchBytes: 394}, nil},
		{"over the size limit", func(Batch) {}, ValidateOptions{MaxBatchBytes: 393}, kerr.MessageTooLarge},
		{"length short", set32(lenAt, 12), ValidateOptions{}, kerr.CorruptMessage},
		{"length one too large", set32(lenAt, 383), ValidateOptions{}, kerr.CorruptMessage},
		{"length negative", set32(lenAt, -1), ValidateOptions{}, kerr.CorruptMessage},
		{"length overflows", set32(lenAt, math.MaxInt32), ValidateOptions{}, kerr.CorruptMessage},
		{"base offset", set64(0, 1), ValidateOptions{}, kerr.InvalidRecord},
		{"magic 0", func(b Batch) { b[16] = 0 }, ValidateOptions{}, kerr.UnsupportedForMessageFormat},
		{"magic 1", func(b Batch) { b[16] = 1 }, ValidateOptions{}, kerr.UnsupportedForMessageFormat},
		{"magic 3", func(b Batch) { b[16] = 3 }, ValidateOptions{}, kerr.CorruptMessage},
		{"magic -1", func(b Batch) { b[16] = 0xff }, ValidateOptions{}, kerr.CorruptMessage},
		{"count 0", set32(countAt, 0), ValidateOptions{}, kerr.InvalidRecord},
		{"count and delta 0", all(set32(countAt, 0), set32(lastAt, -1)), ValidateOptions{}, kerr.InvalidRecord},
		{"count negative", set32(countAt, -3), ValidateOptions{}, kerr.InvalidRecord},
		{"count wraps", all(set32(countAt, math.MinInt32), set32(lastAt, math.MaxInt32)), ValidateOptions{}, kerr.InvalidRecord},
		{"last offset delta too large", set32(lastAt, 3), ValidateOptions{}, kerr.InvalidRecord},
		{"last offset delta negative", set32(lastAt, -1), ValidateOptions{}, kerr.InvalidRecord},
		{"more records than bytes", all(set32(countAt, 50), set32(lastAt, 49)), ValidateOptions{}, kerr.InvalidRecord},
		{"unknown codec", set16(attrAt, 5), ValidateOptions{}, kerr.InvalidRecord},
		{"zstd refused", set16(attrAt, 4), ValidateOptions{RefuseZstd: true}, kerr.UnsupportedCompressionType},
		{"control", set16(attrAt, AttrControl), ValidateOptions{}, kerr.InvalidRecord},
		{"control allowed", set16(attrAt, AttrControl), ValidateOptions{AllowControl: true}, nil},
		{"transactional", all(idempotent, set16(attrAt, AttrTransactional)), ValidateOptions{}, kerr.InvalidRecord},
		{"transactional allowed", all(idempotent, set16(attrAt, AttrTransactional)), ValidateOptions{AllowTransactional: true}, nil},
		{"transactional without id", set16(attrAt, AttrTransactional), ValidateOptions{AllowTransactional: true}, kerr.InvalidRecord},
		{"delete horizon", set16(attrAt, AttrDeleteHorizon), ValidateOptions{}, kerr.InvalidRecord},
		{"id without sequence", all(idempotent, set32(seqAt, -1)), ValidateOptions{}, kerr.InvalidRecord},
		{"id without epoch", all(idempotent, set16(epochAt, -1)), ValidateOptions{}, kerr.InvalidRecord},
		{"id -2", set64(pidAt, -2), ValidateOptions{}, kerr.InvalidRecord},
		{"epoch -2", set16(epochAt, -2), ValidateOptions{}, kerr.InvalidRecord},
		{"sequence -2", set32(seqAt, -2), ValidateOptions{}, kerr.InvalidRecord},
		{"log append time", set16(attrAt, AttrLogAppendTime), ValidateOptions{}, kerr.InvalidTimestamp},
		{"max timestamp before base", set64(maxTSAt, testNow-1), ValidateOptions{}, kerr.InvalidTimestamp},
		{"max timestamp unknown", set64(maxTSAt, -1), ValidateOptions{}, nil},
		{"base timestamp -2", set64(baseTSAt, -2), ValidateOptions{}, kerr.InvalidTimestamp},
		{"base too old", func(Batch) {}, ValidateOptions{CheckTimestamps: true, Now: testNow + 1, BeforeMs: 0, AfterMs: 1000}, kerr.InvalidTimestamp},
		{"max too new", func(Batch) {}, ValidateOptions{CheckTimestamps: true, Now: testNow, BeforeMs: 1000, AfterMs: 39}, kerr.InvalidTimestamp},
		{"no bound before", func(Batch) {}, ValidateOptions{CheckTimestamps: true, Now: testNow + 40, BeforeMs: math.MaxInt64}, nil},
		{"no bound after", set64(maxTSAt, math.MaxInt64), ValidateOptions{CheckTimestamps: true, Now: testNow, AfterMs: math.MaxInt64}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := build(t, None, testRecords())
			if len(b) != 394 {
				t.Fatalf("the limits above are wrong: the batch has %d bytes", len(b))
			}
			tc.change(b)
			b.Seal()
			if err := Validate(b, tc.opts); kerr.Of(err) != tc.want {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestValidateChecksum(t *testing.T) {
	good := build(t, None, testRecords())
	for at := range good {
		b := append(Batch(nil), good...)
		b[at] ^= 0x40
		// The epoch lies outside the CRC and a client's value means nothing: the only
		// bytes whose change goes unseen.
		if err := Validate(b, ValidateOptions{}); (err == nil) != (at >= 12 && at < 16) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
}

func TestValidateCut(t *testing.T) {
	good := build(t, None, testRecords())
	for n := range good {
		if err := Validate(good[:n], ValidateOptions{}); !errors.Is(err, kerr.CorruptMessage) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if err := Validate(append(good, 0), ValidateOptions{}); !errors.Is(err, kerr.CorruptMessage) {
		t.Errorf("a byte too many: %v", err)
	}
}

// rawBatch builds a batch of n records around payload, whatever that is.
func rawBatch(payload []byte, n int) Batch {
	b, err := Build(nil, NewTemplate(), []Record{{Timestamp: testNow}})
	if err != nil {
		panic(err)
	}
	b = append(b[:HeaderLen], payload...)
	set32(8, len(b)-LogOverhead)(b)
	set32(23, n-1)(b)
	set32(57, n)(b)
	b.Seal()
	return b
}

func TestValidateRecords(t *testing.T) {
	good := []byte{16, 0, 0, 0, 2, 'k', 2, 'v', 0}
	with := func(at int, v byte) []byte {
		p := append([]byte(nil), good...)
		p[at] = v
		return p
	}
	for _, tc := range []struct {
		name    string
		payload []byte
		n       int
		opts    ValidateOptions
		want    *kerr.Error
	}{
		{"good", good, 1, ValidateOptions{}, nil},
		{"record too short", with(0, 10), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"record too long", with(0, 18), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"record length negative", with(0, 1), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"record length not a varint", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1, ValidateOptions{}, kerr.InvalidRecord},
		{"offset delta", with(3, 2), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"key runs over", with(4, 60), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"key length -2", with(4, 3), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"value runs over", with(6, 60), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"header count over", with(8, 2), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"header count negative", with(8, 1), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"bytes after headers", []byte{18, 0, 0, 0, 2, 'k', 2, 'v', 0, 0}, 1, ValidateOptions{}, kerr.InvalidRecord},
		{"header without key", []byte{20, 0, 0, 0, 2, 'k', 2, 'v', 2, 1, 1}, 1, ValidateOptions{}, kerr.InvalidRecord},
		{"header", []byte{20, 0, 0, 0, 2, 'k', 2, 'v', 2, 0, 1}, 1, ValidateOptions{}, nil},
		{"bytes after the last record", append(with(0, 16), 0), 1, ValidateOptions{}, kerr.InvalidRecord},
		{"fewer records than counted", append(with(0, 16), 0, 0, 0, 0, 0, 0), 2, ValidateOptions{}, kerr.InvalidRecord},
		{"null key", []byte{14, 0, 0, 0, 1, 2, 'v', 0}, 1, ValidateOptions{}, nil},
		{"null key, compacted", []byte{14, 0, 0, 0, 1, 2, 'v', 0}, 1, ValidateOptions{RequireKeys: true}, kerr.InvalidRecord},
		{"time within", with(2, 20), 1, ValidateOptions{CheckTimestamps: true, Now: testNow, AfterMs: 10}, nil},
		{"time after", with(2, 22), 1, ValidateOptions{CheckTimestamps: true, Now: testNow, AfterMs: 10}, kerr.InvalidTimestamp},
		{"time before", with(2, 21), 1, ValidateOptions{CheckTimestamps: true, Now: testNow, BeforeMs: 10}, kerr.InvalidTimestamp},
		{"time wraps below", append(append([]byte{34, 0}, binary.AppendVarint(nil, math.MinInt64)...), 0, 2, 'k', 2, 'v', 0), 1,
			ValidateOptions{CheckTimestamps: true, Now: testNow, BeforeMs: 10, AfterMs: math.MaxInt64}, kerr.InvalidTimestamp},
		{"time overflows", append(append([]byte{34, 0}, binary.AppendVarint(nil, math.MaxInt64)...), 0, 2, 'k', 2, 'v', 0), 1,
			ValidateOptions{CheckTimestamps: true, Now: testNow, BeforeMs: math.MaxInt64, AfterMs: 10}, kerr.InvalidTimestamp},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := rawBatch(tc.payload, tc.n)
			// Without CheckRecords nothing of the payload is looked at.
			if err := Validate(b, ValidateOptions{}); err != nil {
				t.Errorf("header only: %v", err)
			}
			tc.opts.CheckRecords = true
			if err := Validate(b, tc.opts); kerr.Of(err) != tc.want {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestCheckAcceptsWhatCompactionLeaves(t *testing.T) {
	b := build(t, None, testRecords())
	b.SetBaseOffset(1000)
	b.SetLeaderEpoch(3)
	set32(23, 90)(b)
	b.SetAttributes(AttrDeleteHorizon | AttrTransactional)
	b.Seal()
	if err := Check(b); err != nil {
		t.Error(err)
	}
	set32(23, -1)(b)
	b.Seal()
	if err := Check(b); !errors.Is(err, kerr.CorruptMessage) {
		t.Errorf("negative last offset delta: %v", err)
	}
}

// Where the broker sets the time, any time of the producer's will do; but not the type.
func TestValidateUnderLogAppendTime(t *testing.T) {
	o := ValidateOptions{LogAppendTime: true, CheckTimestamps: true, CheckRecords: true, Now: testNow}
	for _, at := range []int{27, 35} {
		b := build(t, None, testRecords())
		binary.BigEndian.PutUint64(b[at:], uint64(1<<63+5))
		b.Seal()
		if err := Validate(b, o); err != nil {
			t.Errorf("time at byte %d: %v", at, err)
		}
		if err := Validate(b, ValidateOptions{}); !errors.Is(err, kerr.InvalidTimestamp) {
			t.Errorf("time at byte %d without LogAppendTime: %v", at, err)
		}
	}
	b := build(t, None, testRecords())
	b.StampLogAppendTime(testNow)
	if err := Validate(b, o); !errors.Is(err, kerr.InvalidTimestamp) {
		t.Errorf("timestamp type: %v", err)
	}
}

func TestStampLogAppendTime(t *testing.T) {
	b := build(t, None, testRecords())
	before := append(Batch(nil), b...)
	b.StampLogAppendTime(testNow + 999)
	if !b.CheckCRC() || b.MaxTimestamp() != testNow+999 || b.Attributes()&AttrLogAppendTime == 0 {
		t.Errorf("stamped header: % x", b[:HeaderLen])
	}
	if string(before.Payload()) != string(b.Payload()) || b.BaseTimestamp() != before.BaseTimestamp() {
		t.Error("records or base timestamp changed")
	}
}

func TestStampsOutsideCRC(t *testing.T) {
	b := build(t, None, testRecords())
	b.SetBaseOffset(1 << 40)
	b.SetLeaderEpoch(7)
	if !b.CheckCRC() {
		t.Error("base offset or epoch lie under the CRC")
	}
}

func TestLastSequenceWraps(t *testing.T) {
	b := build(t, None, testRecords())
	set32(53, math.MaxInt32-1)(b)
	if got := b.LastSequence(); got != 0 {
		t.Errorf("last sequence %d, want 0", got)
	}
}

func TestValidateAllocs(t *testing.T) {
	b := build(t, None, testRecords())
	o := ValidateOptions{MaxBatchBytes: 1 << 20, CheckRecords: true, CheckTimestamps: true,
		Now: testNow, BeforeMs: 1000, AfterMs: 1000}
	if n := testing.AllocsPerRun(100, func() {
		if Validate(b, o) != nil || Check(b) != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPlainRecord: what looks like a plain record but breaks one rule is left to the long way.
func TestPlainRecord(t *testing.T) {
	//            length, attributes, timestamp, offset delta, key, value, no headers
	good := []byte{16, 0, 5, 6, 2, 'k', 2, 'v', 0}
	rest := []byte{0, 0, 0, 0, 0, 0, 0, 0}
	if r, n := plainRecord(append(good, rest...), 3); n != len(good) || (r != plain{timestampDelta: -3}) {
		t.Fatalf("%+v of %d bytes", r, n)
	}
	null := []byte{12, 0, 5, 6, 1, 1, 0}
	if r, n := plainRecord(append(null, 1, 1, 1, 1, 1, 1, 1, 1, 1), 3); n != len(null) || !r.noKey {
		t.Fatalf("%+v of %d bytes", r, n)
	}
	for _, c := range []struct {
		name string
		rec  []byte
	}{
		{"negative length", []byte{17, 0, 5, 6, 2, 'k', 2, 'v', 0}},
		{"another offset", []byte{16, 0, 5, 8, 2, 'k', 2, 'v', 0}},
		{"negative key", []byte{14, 0, 5, 6, 3, 2, 'v', 0}},
		{"negative value", []byte{14, 0, 5, 6, 2, 'k', 3, 0}},
		{"headers", []byte{16, 0, 5, 6, 2, 'k', 2, 'v', 2}},
		{"too short", []byte{14, 0, 5, 6, 2, 'k', 2, 'v', 0}},
		{"too long", []byte{18, 0, 5, 6, 2, 'k', 2, 'v', 0}},
		{"key runs on", []byte{16, 0, 5, 6, 200, 'k', 2, 'v', 0}},
		{"length runs on", []byte{200, 0, 5, 6, 2, 'k', 2, 'v', 0}},
	} {
		if r, n := plainRecord(append(c.rec, rest...), 3); n != 0 {
			t.Errorf("%s: %+v of %d bytes", c.name, r, n)
		}
	}
	// What only the topic forbids.
	b := build(t, None, []Record{{Timestamp: testNow, Value: make([]byte, 50)}})
	if err := Validate(b, ValidateOptions{CheckRecords: true}); err != nil {
		t.Fatal(err)
	}
	if err := Validate(b, ValidateOptions{CheckRecords: true, RequireKeys: true}); err == nil {
		t.Error("a large record without a key passes")
	}
	late := build(t, None, []Record{{Timestamp: testNow, Value: make([]byte, 50)}, {Timestamp: testNow - 5000, Value: make([]byte, 50)}, {Timestamp: testNow, Value: make([]byte, 50)}})
	if err := Validate(late, ValidateOptions{CheckRecords: true, CheckTimestamps: true, Now: testNow, BeforeMs: 1000, AfterMs: 1000}); err == nil {
		t.Error("a large record that is too old passes")
	}
}
