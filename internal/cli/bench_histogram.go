package cli

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// benchSubBits makes 128 buckets of each power of two: a quantile is at most 0.8 % off.
const (
	benchSubBits    = 7
	benchSubBuckets = 1 << benchSubBits
)

// histogram counts durations in about 58 KiB, however many and however long they are.
// Recording and reading may go on at the same time.
type histogram struct {
	counts [(64 - benchSubBits) * benchSubBuckets]atomic.Int64
	n, max atomic.Int64
}

// bucketOf is the bucket of v nanoseconds.
func bucketOf(v int64) int {
	if v < benchSubBuckets {
		return int(max(v, 0))
	}
	shift := bits.Len64(uint64(v)) - 1 - benchSubBits
	return shift*benchSubBuckets + int(v>>shift)
}

// topOf is the largest value of a bucket: a quantile rather says too much than too little.
func topOf(i int) int64 {
	if i < 2*benchSubBuckets {
		return int64(i)
	}
	shift := i/benchSubBuckets - 1
	return (int64(benchSubBuckets+i%benchSubBuckets)+1)<<shift - 1
}

// record counts one duration; one below zero counts as zero.
func (h *histogram) record(d time.Duration) {
	v := max(int64(d), 0)
	h.counts[bucketOf(v)].Add(1)
	h.n.Add(1)
	for {
		top := h.max.Load()
		if v <= top || h.max.CompareAndSwap(top, v) {
			return
		}
	}
}

// quantile returns the smallest duration that at least q of all do not exceed, 0 for an
// empty histogram.
func (h *histogram) quantile(q float64) time.Duration {
	n := h.n.Load()
	// The share is counted from the top: 1-q of n is small where exactness matters.
	above := int64(float64(n)*(1-q) + 1e-6)
	top := h.max.Load()
	var seen int64
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen > 0 && seen >= n-above {
			return time.Duration(min(topOf(i), top))
		}
	}
	return time.Duration(top)
}
