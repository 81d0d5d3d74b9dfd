package soak

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Resource is what a node must not use more and more of.
type Resource string

// The resources.
const (
	RSS        Resource = "resident bytes"
	Heap       Resource = "live heap bytes"
	Goroutines Resource = "goroutines"
	Files      Resource = "open files"
	Disk       Resource = "disk bytes"       // of the data directory, without records of topics that grow and what is counted in files
	Journal    Resource = "journal files"    // each grows to 32 MiB and is then used again
	Ensemble   Resource = "ensemble bytes"   // the database of the metadata
	Entries    Resource = "ensemble logs"    // files of its raft log
	Partitions Resource = "partitions' dirs" // on disk
	Start      Resource = "seconds to start" // the life that the sample is of
	StartCPU   Resource = "CPU s to start"
)

// Sample is what a node uses at one moment.
type Sample struct {
	At     time.Duration        `json:"at"`     // since the run began
	Life   int                  `json:"life"`   // counts the starts
	Uptime time.Duration        `json:"uptime"` // of this life
	Mark   bool                 `json:"mark"`   // taken at the uptime at which every life is looked at
	Values map[Resource]float64 `json:"values"`
}

// Tolerance says how much more of a resource is still flat: Slack, and Share of what there was.
type Tolerance struct {
	Share float64
	Slack float64
}

// Tolerances returns what the soak allows. They are above what healthy runs of half an hour show (README.md has the
// figures) and far below what a leak would make of as many requests, topics, members and records: something like one
// goroutine or one file for each topic or member is hundreds.
func Tolerances() map[Resource]Tolerance {
	const mib = 1 << 20
	return map[Resource]Tolerance{
		RSS: {0.10, 12 * mib}, // the heap's garbage comes and goes between two collections
		// Of every deleted topic the metadata keep some 500 bytes for 30 days: 2.5 MiB for the 5000 of half an hour.
		Heap:       {0.10, 3 * mib},
		Goroutines: {0.05, 12}, // three for each member of a group that is just there
		Files:      {0.05, 24}, // and segments that are read, compacted and deleted
		Disk:       {0.10, 12 * mib},
		Journal:    {0, 1.5}, // the one in use, the one before, and at a start what the life before had in use
		Ensemble:   {0.10, 2 * mib},
		Partitions: {0.05, 8},
		Entries:    {0, 5.5}, // etcd keeps five
		// The promise is to serve within 3 s. What else uses the disk shows here most; the CPU time is the node's own, and
		// reading the ensemble's logs takes some 20 ms for each MiB.
		Start:    {0, 3},
		StartCPU: {0, 0.5},
	}
}

const (
	// warmUp is how much of a life is not looked at for its slope: caches fill, members come back.
	warmUp = 90 * time.Second
	// minSamples is how many samples a slope needs, and minLives how many lives a comparison of thirds.
	minSamples, minLives = 12, 6
)

// Trend is what became of one resource.
type Trend struct {
	Resource Resource `json:"resource"`
	Over     string   `json:"over"`    // the lives, or one life
	Samples  int      `json:"samples"` //
	First    float64  `json:"first"`   // the level at the beginning
	Growth   float64  `json:"growth"`  // from there to the end
	Allowed  float64  `json:"allowed"` //
	Min      float64  `json:"min"`     //
	Max      float64  `json:"max"`     //
}

// Leaks tells whether the growth is more than is allowed.
func (t Trend) Leaks() bool { return t.Growth > t.Allowed }

func (t Trend) String() string {
	return fmt.Sprintf("%s over %s: %.0f and %+.0f, allowed %+.0f", t.Resource, t.Over, t.First, t.Growth, t.Allowed)
}

// Judge compares the samples. It looks twice:
//
//   - Over all lives, at the uptime of the marks: the median of the last third of the lives against the median of the
//     first third. Every start begins with an empty process, so this finds what comes back from the disk: files,
//     metadata, state that is loaded.
//   - Within each life that is long enough, without its warmUp: the median of the slopes between all pairs of samples
//     (Theil and Sen; a third of the samples may be anything), times the time between the first and the last.
//     This finds what a process gathers.
//
// Too few samples are not judged, and have no trend; nor has a resource that a sample does not have.
func Judge(samples []Sample, tolerances map[Resource]Tolerance) []Trend {
	var trends []Trend
	var marks []Sample
	lives := make(map[int][]Sample)
	for _, s := range samples {
		if s.Mark {
			marks = append(marks, s)
		}
		if s.Uptime >= warmUp {
			lives[s.Life] = append(lives[s.Life], s)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(tolerances)) {
		if slices.ContainsFunc(samples, func(s Sample) bool { _, ok := s.Values[r]; return !ok }) {
			continue
		}
		if len(marks) >= minLives {
			third := len(marks) / 3
			first, last := median(values(marks[:third], r)), median(values(marks[len(marks)-third:], r))
			trends = append(trends, trend(r, fmt.Sprintf("%d lives", len(marks)), marks, first, last-first, tolerances[r]))
		}
		for _, life := range slices.Sorted(maps.Keys(lives)) {
			list := lives[life]
			if len(list) < minSamples {
				continue
			}
			span := list[len(list)-1].Uptime - list[0].Uptime
			growth := slope(list, r) * span.Seconds()
			// The level where the line begins, not the first sample, which is as noisy as any.
			first := median(values(list, r)) - growth/2
			trends = append(trends, trend(r, fmt.Sprintf("%v of life %d", span.Round(time.Second), life), list, first, growth, tolerances[r]))
		}
	}
	return trends
}

func trend(r Resource, over string, list []Sample, first, growth float64, t Tolerance) Trend {
	all := values(list, r)
	return Trend{Resource: r, Over: over, Samples: len(list), First: first, Growth: growth, Allowed: t.Slack + t.Share*first,
		Min: slices.Min(all), Max: slices.Max(all)}
}

// slope returns the median of the slopes between all pairs, per second.
func slope(list []Sample, r Resource) float64 {
	var slopes []float64
	for i, a := range list {
		for _, b := range list[i+1:] {
			if d := (b.Uptime - a.Uptime).Seconds(); d > 0 {
				slopes = append(slopes, (b.Values[r]-a.Values[r])/d)
			}
		}
	}
	return median(slopes)
}

func values(list []Sample, r Resource) []float64 {
	out := make([]float64, len(list))
	for i, s := range list {
		out[i] = s.Values[r]
	}
	return out
}

// median sorts its argument.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.SortFunc(list, func(a, b float64) int { return cmp.Compare(a, b) })
	n := len(list)
	return (list[n/2] + list[(n-1)/2]) / 2
}
