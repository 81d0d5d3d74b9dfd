package cli

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Buckets follow each other without a gap, and each holds its largest value.
func TestHistogramBuckets(t *testing.T) {
	var h histogram
	for i := range h.counts {
		if top := topOf(i); top >= 0 && bucketOf(top) != i {
			t.Fatalf("bucket %d ends at %d, which is in bucket %d", i, top, bucketOf(top))
		}
		if top := topOf(i); i+1 < len(h.counts) && bucketOf(top+1) != i+1 {
			t.Fatalf("%d follows bucket %d but is in bucket %d", top+1, i, bucketOf(top+1))
		}
	}
	if i := bucketOf(math.MaxInt64); i != len(h.counts)-1 {
		t.Errorf("the longest duration is in bucket %d of %d", i, len(h.counts))
	}
}

// Quantiles are those of the sorted values, at most 0.8 % above, never below.
func TestHistogramQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 10, 1000, 100_000} {
		var h histogram
		var all []time.Duration
		for range n {
			d := time.Duration(math.Exp(rng.Float64() * 24)) // 1 ns to 26 s
			all = append(all, d)
			h.record(d)
		}
		slices.Sort(all)
		for _, q := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
			want := all[max(int(math.Ceil(q*float64(n)-1e-6))-1, 0)]
			got := h.quantile(q)
			if got < want || float64(got) > float64(want)*1.008+1 {
				t.Errorf("%d values, quantile %v: %d, want %d", n, q, got, want)
			}
		}
	}
	var h histogram
	if d := h.quantile(0.99); d != 0 {
		t.Errorf("empty: %s", d)
	}
	h.record(-time.Second)
	if d := h.quantile(1); d != 0 || h.n.Load() != 1 {
		t.Errorf("a duration below zero: %s of %d", d, h.n.Load())
	}
}
