package load

import "math/bits"

// histogram counts durations in nanoseconds. 32 buckets per power of two keep the
// error of a quantile below about 3 %.
type histogram struct {
	counts [64 * subBuckets]int64
	n, max int64
}

const (
	subBits    = 5
	subBuckets = 1 << subBits
)

func bucketOf(v int64) int {
	if v < subBuckets {
		return int(max(v, 0))
	}
	shift := bits.Len64(uint64(v)) - 1 - subBits
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

// middleOf is the middle of a bucket.
func middleOf(i int) float64 {
	if i < subBuckets {
		return float64(i)
	}
	shift := i/subBuckets - 1
	low := int64(subBuckets+i%subBuckets) << shift
	return float64(low) + float64(int64(1)<<shift)/2
}

func (h *histogram) record(v, times int64) {
	h.counts[bucketOf(v)] += times
	h.n += times
	h.max = max(h.max, v)
}

func (h *histogram) add(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile returns the value below which q of all lie; 0 for an empty histogram.
func (h *histogram) quantile(q float64) float64 {
	want := int64(q * float64(h.n))
	for i, c := range h.counts {
		if want -= c; want < 0 {
			return min(middleOf(i), float64(h.max))
		}
	}
	return float64(h.max)
}
