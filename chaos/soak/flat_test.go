package soak

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// healthy is a run of 20 lives of a minute and one of ten: every value goes up and down by a few per cent around a
// level that is lower while a process is young, and every fifteenth value is far off.
func healthy() []Sample {
	random := rand.New(rand.NewPCG(1, 2))
	levels := map[Resource]float64{RSS: 90 << 20, Heap: 14 << 20, Goroutines: 130, Files: 70, Disk: 90 << 20, Journal: 2, Ensemble: 1 << 20, Partitions: 62, Start: 0.3, StartCPU: 0.1, Entries: 3}
	var out []Sample
	at, n := time.Duration(0), 0
	add := func(life int, uptime time.Duration, mark bool) {
		s := Sample{At: at + uptime, Life: life, Uptime: uptime, Mark: mark, Values: make(map[Resource]float64)}
		for _, r := range slices.Sorted(maps.Keys(levels)) {
			young := 1 - 0.4/(1+uptime.Seconds()/10)
			s.Values[r] = levels[r] * young * (0.97 + 0.06*random.Float64())
			if n++; n%15 == 0 {
				s.Values[r] *= 1.5
			}
		}
		out = append(out, s)
	}
	const mark = 57 * time.Second
	for life := range 21 {
		length := time.Minute
		if life == 20 {
			length = 10 * time.Minute
		}
		for up := 10 * time.Second; up < length; up += 10 * time.Second {
			if up > mark && up-10*time.Second < mark {
				add(life, mark, true)
			}
			add(life, up, false)
		}
		if length == time.Minute {
			add(life, mark, true)
		}
		at += length
	}
	return out
}

func leaking(t *testing.T, samples []Sample) []string {
	t.Helper()
	trends := Judge(samples, Tolerances())
	if want := 2 * len(Tolerances()); len(trends) != want {
		t.Fatalf("%d trends, want %d: each resource over the lives and within the long one", len(trends), want)
	}
	var out []string
	for _, trend := range trends {
		if trend.Leaks() {
			out = append(out, trend.String())
		}
	}
	return out
}

func TestFlatPasses(t *testing.T) {
	if bad := leaking(t, healthy()); len(bad) > 0 {
		t.Errorf("a healthy run leaks: %q", bad)
	}
}

// TestLeaksFail adds a leak of each resource: one that a life gathers and the next does not have, and one that comes
// back with every start, as what is on disk does.
func TestLeaksFail(t *testing.T) {
	perSecond := map[Resource]float64{RSS: 80 << 10, Heap: 10 << 10, Goroutines: 0.1, Files: 0.1, Disk: 60 << 10, Journal: 0.01, Ensemble: 8 << 10, Partitions: 0.1, Start: 0.01, StartCPU: 0.002, Entries: 0.02}
	for r, rate := range perSecond {
		for _, c := range []struct {
			over string
			age  func(Sample) time.Duration
		}{
			{"of life 20", func(s Sample) time.Duration { return s.Uptime }},
			{"lives", func(s Sample) time.Duration { return s.At }},
		} {
			samples := healthy()
			for _, s := range samples {
				s.Values[r] += rate * c.age(s).Seconds()
			}
			found := false
			for _, bad := range leaking(t, samples) {
				if !strings.HasPrefix(bad, string(r)+" ") {
					t.Errorf("%s leaks, and %s is blamed", r, bad)
				}
				found = found || strings.Contains(bad, c.over)
			}
			if !found {
				t.Errorf("a leak of %g %s a second (%s) was not found", rate, r, c.over)
			}
		}
	}
}

// TestWhatIsMissingIsNotJudged: samples of an older run lack what was not measured then.
func TestWhatIsMissingIsNotJudged(t *testing.T) {
	samples := healthy()
	delete(samples[7].Values, Heap)
	for _, trend := range Judge(samples, Tolerances()) {
		if trend.Resource == Heap {
			t.Errorf("judged %v", trend)
		}
	}
}

// TestFewSamplesAreNotJudged: three samples prove nothing, and say nothing.
func TestFewSamplesAreNotJudged(t *testing.T) {
	if trends := Judge(healthy()[:10], Tolerances()); len(trends) != 0 {
		t.Errorf("judged %v", trends)
	}
}

// A long run without samples, or without some resource in them, does not pass for a flat one.
func TestLongRunsAreJudged(t *testing.T) {
	for seconds, want := range map[float64]int{60: 0, 1800: len(Tolerances())} {
		res := Result{Seconds: seconds}
		res.judge(nil, nil)
		unjudged := 0
		for _, p := range res.Problems {
			if strings.Contains(p, "was not judged") {
				unjudged++
			}
		}
		if unjudged != want || res.Passed {
			t.Errorf("after %v s: %d resources were not judged, want %d; passed: %v", seconds, unjudged, want, res.Passed)
		}
	}
}
