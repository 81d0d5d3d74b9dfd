package record

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
)

// show prints a batch's fields that compaction may touch, and its records.
func show(t testing.TB, b Batch) string {
	t.Helper()
	if err := Check(b); err != nil {
		t.Fatal(err)
	}
	h, set := b.DeleteHorizon()
	if !set {
		h = -1
	}
	out := fmt.Sprintf("[%d, %d] epoch %d attrs %#x producer %d/%d seq %d count %d max %d horizon %d:", b.BaseOffset(), b.LastOffset(), b.LeaderEpoch(),
		b.Attributes(), b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.NumRecords(), b.MaxTimestamp(), h)
	r := NewReader(0)
	if err := r.Reset(b); err != nil {
		t.Fatal(err)
	}
	var rec Record
	for {
		more, err := r.Next(&rec)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return out
		}
		out += fmt.Sprintf(" %d@%d %q=%q %v", rec.Offset, rec.Timestamp, rec.Key, rec.Value, rec.Headers)
	}
}

// TestRewrite: what stays keeps offset, time, key, value and headers; the batch keeps its
// offsets, epoch, producer and codec.
func TestRewrite(t *testing.T) {
	recs := []Record{
		{Timestamp: 5000, Key: []byte("a"), Value: []byte("1")},
		{Timestamp: 4000, Key: []byte("b"), Headers: []Header{{"h", nil}, {"i", []byte("x")}}},
		{Timestamp: 4500, Key: []byte("c"), Value: bytes.Repeat([]byte("3"), 300)},
	}
	for _, codec := range []Codec{None, Gzip, Snappy, LZ4, Zstd} {
		tpl := Template{BaseOffset: 100, LeaderEpoch: 3, Codec: codec, Attributes: AttrTransactional, ProducerID: 9, ProducerEpoch: 2, BaseSequence: 40}
		b, err := Build(nil, tpl, recs)
		if err != nil {
			t.Fatal(err)
		}
		b.SetBaseOffset(100)
		whole := bytes.Clone(b)
		w := NewRewriter(0)
		for _, c := range []struct {
			keep    string
			horizon int64
			sel     Selection
			want    string
		}{
			{"bc", -1, Selection{3, 2, true}, fmt.Sprintf("[100, 102] epoch 3 attrs %#x producer 9/2 seq 40 count 2 max 4500 horizon -1: "+
				`101@4000 "b"="" [{h []} {i [120]}] 102@4500 "c"=%q []`, 0x10|int(codec), recs[2].Value)},
			{"a", -1, Selection{3, 1, false}, fmt.Sprintf("[100, 102] epoch 3 attrs %#x producer 9/2 seq 40 count 1 max 5000 horizon -1: "+
				`100@5000 "a"="1" []`, 0x10|int(codec))},
			{"ab", 77_000_000_000, Selection{3, 2, true}, fmt.Sprintf("[100, 102] epoch 3 attrs %#x producer 9/2 seq 40 count 2 max 5000 horizon 77000000000: "+
				`100@5000 "a"="1" [] 101@4000 "b"="" [{h []} {i [120]}]`, 0x50|int(codec))},
			{"b", math.MaxInt64, Selection{3, 1, true}, fmt.Sprintf("[100, 102] epoch 3 attrs %#x producer 9/2 seq 40 count 1 max 4000 horizon %d: "+
				`101@4000 "b"="" [{h []} {i [120]}]`, 0x50|int(codec), int64(math.MaxInt64))},
		} {
			sel, err := w.Select(b, func(r *Record) bool { return bytes.Contains([]byte(c.keep), r.Key) })
			if err != nil || sel != c.sel {
				t.Fatalf("%v, keep %s: %+v, %v", codec, c.keep, sel, err)
			}
			out, err := w.Append([]byte("before"), c.horizon)
			if err != nil || string(out[:6]) != "before" {
				t.Fatal(err)
			}
			got := Batch(out[6:])
			if s := show(t, got); s != c.want {
				t.Errorf("%v, keep %s:\n got %s\nwant %s", codec, c.keep, s, c.want)
			}
			if !bytes.Equal(b, whole) {
				t.Fatal("the source changed")
			}
			if c.horizon >= 0 { // a later round keeps the horizon
				sel, err := w.Select(bytes.Clone(got), func(r *Record) bool { return r.Key[0] == 'b' })
				if err != nil || sel.Kept != 1 {
					t.Fatal(sel, err)
				}
				out, err := w.Append(nil, -1)
				if err != nil {
					t.Fatal(err)
				}
				if h, set := Batch(out).DeleteHorizon(); !set || h != c.horizon || Batch(out).MaxTimestamp() != 4000 {
					t.Fatalf("cleaned again: %s", show(t, out))
				}
			}
		}
		empty := Batch(AppendEmpty(nil, b))
		if s, want := show(t, empty), "[100, 102] epoch 3 attrs 0x10 producer 9/2 seq 40 count 0 max 5000 horizon -1:"; s != want {
			t.Errorf("%v empty:\n got %s\nwant %s", codec, s, want)
		}
		dated := slices.Clone(b)
		dated.SetAttributes(b.Attributes() | AttrDeleteHorizon)
		if s := show(t, AppendEmpty(nil, dated)); s != show(t, empty) {
			t.Errorf("%v emptied after its horizon was set: %s", codec, s)
		}
		if sel, err := w.Select(empty, nil); err != nil || sel != (Selection{}) {
			t.Errorf("an empty batch: %+v, %v", sel, err)
		}
	}
}

// TestRewriteLogAppendTime: the broker's time stays that of all records.
func TestRewriteLogAppendTime(t *testing.T) {
	b, err := Build(nil, NewTemplate(), []Record{{Timestamp: 1, Key: []byte("a")}, {Timestamp: 2, Key: []byte("b")}})
	if err != nil {
		t.Fatal(err)
	}
	b.StampLogAppendTime(777)
	w := NewRewriter(0)
	if _, err := w.Select(b, func(r *Record) bool { return r.Key[0] == 'b' }); err != nil {
		t.Fatal(err)
	}
	for _, horizon := range []int64{-1, 5} {
		out, err := w.Append(nil, horizon)
		if err != nil {
			t.Fatal(err)
		}
		r := NewReader(0)
		if err := r.Reset(out); err != nil {
			t.Fatal(err)
		}
		var rec Record
		if _, err := r.Next(&rec); err != nil || rec.Timestamp != 777 || Batch(out).MaxTimestamp() != 777 {
			t.Fatalf("horizon %d: %+v, %v", horizon, rec, err)
		}
	}
}

// FuzzRewrite gives Select any payload under a right frame: it refuses, or what it writes
// reads back as exactly the records that were to stay.
func FuzzRewrite(f *testing.F) {
	recs := []Record{{Timestamp: 1, Key: []byte("k"), Value: []byte("v")}, {Timestamp: 3, Key: []byte("l")}, {Timestamp: 2, Headers: []Header{{"h", []byte("w")}}}}
	for codec := None; codec <= Zstd; codec++ {
		tpl := NewTemplate()
		tpl.Codec = codec
		b, err := Build(nil, tpl, recs)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b), uint64(5), int64(-1))
		f.Add([]byte(b), uint64(6), int64(99))
	}
	w, r := NewRewriter(1<<20), NewReader(1<<20)
	f.Fuzz(func(t *testing.T, in []byte, mask uint64, horizon int64) {
		if len(in) < HeaderLen {
			return
		}
		b := Batch(bytes.Clone(in))
		b[8], b[9], b[10], b[11], b[16] = byte((len(b)-LogOverhead)>>24), byte((len(b)-LogOverhead)>>16), byte((len(b)-LogOverhead)>>8), byte(len(b)-LogOverhead), Magic
		b.Seal()
		type kept struct {
			off            model.Offset
			ts             int64
			key, value, hs string
			noKey, noValue bool
		}
		flat := func(rec *Record) kept {
			return kept{rec.Offset, rec.Timestamp, string(rec.Key), string(rec.Value), fmt.Sprintf("%q", rec.Headers), rec.Key == nil, rec.Value == nil}
		}
		var want []kept
		i := 0
		sel, err := w.Select(b, func(rec *Record) bool {
			keep := mask>>(i%64)&1 == 1
			i++
			if keep {
				want = append(want, flat(rec))
			}
			return keep
		})
		if err != nil || sel.Kept == 0 {
			return
		}
		out, err := w.Append(nil, max(horizon, -1))
		if err != nil {
			t.Fatal(err)
		}
		got := Batch(out)
		if err := Check(got); err != nil {
			t.Fatal(err)
		}
		if got.BaseOffset() != b.BaseOffset() || got.LastOffset() != b.LastOffset() || got.ProducerID() != b.ProducerID() || got.BaseSequence() != b.BaseSequence() {
			t.Fatal("the header changed")
		}
		if err := r.Reset(got); err != nil {
			t.Fatal(err)
		}
		var rec Record
		for n := 0; ; n++ {
			more, err := r.Next(&rec)
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				if n != len(want) {
					t.Fatalf("%d records, %d were to stay", n, len(want))
				}
				return
			}
			if flat(&rec) != want[n] {
				t.Fatalf("record %d: %+v, want %+v", n, flat(&rec), want[n])
			}
		}
	})
}
