package record

import (
	"strconv"
	"testing"
)

// benchBatch has n records of 100 bytes.
func benchBatch(b *testing.B, c Codec, n int) Batch {
	recs := make([]Record, n)
	for i := range recs {
		v := []byte(strconv.Itoa(i*7919) + " is the value of one of the records that this benchmark is made of, some of which differ")
		recs[i] = Record{Timestamp: testNow, Key: []byte("k"), Value: v}
	}
	return build(b, c, recs)
}

func BenchmarkValidate(b *testing.B) {
	for _, n := range []int{1, 2500} {
		batch := benchBatch(b, None, n)
		for name, o := range map[string]ValidateOptions{"header": {}, "records": {CheckRecords: true}} {
			b.Run(strconv.Itoa(n)+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				for b.Loop() {
					if err := Validate(batch, o); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// The walk of a compressed batch's frame, without the checksum.
func BenchmarkCheckCompressed(b *testing.B) {
	for _, c := range allCodecs()[1:] {
		batch := benchBatch(b, c, 2500)
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := batch.checkCompressed(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReader(b *testing.B) {
	for _, c := range allCodecs() {
		batch := benchBatch(b, c, 2500)
		b.Run(c.String(), func(b *testing.B) {
			r := NewReader(0)
			var rec Record
			b.SetBytes(int64(len(benchBatch(b, None, 2500))))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Reset(batch); err != nil {
					b.Fatal(err)
				}
				for ok, err := r.Next(&rec); ok || err != nil; ok, err = r.Next(&rec) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
