package density

import (
	"math"
	"slices"
	"time"
)

// sides collects pairs of rounds.
type sides struct {
	with, without []time.Duration
	ratios        []float64 // of the 99th percentiles, one for each pair
	// cpuWith and cpuWithout are seconds of the nodes' CPU time meanwhile.
	cpuWith, cpuWithout float64
}

func (s *sides) pair(with, without []time.Duration) {
	s.with, s.without = append(s.with, with...), append(s.without, without...)
	s.ratios = append(s.ratios, float64(quantile(with, 0.99))/float64(quantile(without, 0.99)))
}

func (s *sides) add(o sides) {
	s.with, s.without = append(s.with, o.with...), append(s.without, o.without...)
	s.ratios = append(s.ratios, o.ratios...)
	s.cpuWith, s.cpuWithout = s.cpuWith+o.cpuWith, s.cpuWithout+o.cpuWithout
}

// comparison is what pairs of rounds say together.
type comparison struct {
	// with and without are the 99th percentiles of all rounds of a side.
	with, without time.Duration
	// ratio is the median of the pairs' ratios; low and high hold the true median with a
	// probability of at least 95 %, whatever the distribution.
	ratio, low, high float64
}

func (s *sides) compare() comparison {
	c := comparison{with: quantile(s.with, 0.99), without: quantile(s.without, 0.99)}
	if len(s.ratios) == 0 {
		return c
	}
	sorted := slices.Sorted(slices.Values(s.ratios))
	n := len(sorted)
	c.ratio = (sorted[(n-1)/2] + sorted[n/2]) / 2
	k := outside(n)
	c.low, c.high = sorted[k], sorted[n-1-k]
	return c
}

// outside is how many of n sorted values may be left out at each end so that the rest still
// spans the true median with 95 %: each value lies above it or below it like a coin falls.
// Below six values it is none, and the probability is smaller.
func outside(n int) int {
	p := math.Pow(0.5, float64(n)) // that exactly k fall on one side, k=0
	sum := 0.0
	for k := 0; k < n/2; k++ {
		if sum += p; sum > 0.025 {
			return max(k-1, 0)
		}
		p *= float64(n-k) / float64(k+1)
	}
	return max(n/2-1, 0)
}
