package cli

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A server that stands still for a second delays every record that was meant to leave in
// that second, and the percentiles tell: with latency from the real sending they would
// show one slow record of two thousand.
func TestStallShowsInPercentiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var intended, actual histogram
		s := &schedule{start: time.Now(), rate: 1000, duration: 2 * time.Second, clients: 1}
		s.drive(t.Context(), 0, func(i int64, from time.Time) {
			sent := time.Now()
			if i == 500 {
				<-time.After(time.Second) // inside the bubble: the server's stall
			}
			<-time.After(100 * time.Microsecond)
			intended.record(time.Since(from))
			actual.record(time.Since(sent))
		})
		if n := intended.n.Load(); n != 2000 {
			t.Fatalf("%d records sent, want 2000", n)
		}
		// 1000 records were due during the stall, and the queue takes a tenth of that time to
		// drain: more than half of all are late, at most by the whole second.
		if p := intended.quantile(0.5); p < 50*time.Millisecond {
			t.Errorf("p50 is %s: the stall does not show", p)
		}
		if p := intended.quantile(0.9); p < 700*time.Millisecond || p > time.Second {
			t.Errorf("p90 is %s, want about 0.8 s", p)
		}
		if p := actual.quantile(0.999); p > time.Millisecond {
			t.Errorf("from the real sending p99.9 is %s; the test would not tell both apart", p)
		}
	})
}

// Records leave at their times, shared between the clients, and none is left out.
func TestScheduleTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &schedule{start: time.Now(), rate: 3, records: 7, clients: 2}
		for client, want := range [][]int64{{0, 2, 4, 6}, {1, 3, 5}} {
			s.start = time.Now()
			var got []int64
			s.drive(t.Context(), int64(client), func(i int64, from time.Time) {
				got = append(got, i)
				if at := time.Since(s.start); at != s.due(i) || !from.Equal(s.start.Add(at)) {
					t.Errorf("record %d left at %s with %s, want %s", i, at, from.Sub(s.start), s.due(i))
				}
			})
			if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
				t.Errorf("client %d sent %v, want %v", client, got, want)
			}
		}
	})
}

// The time ends a load without a rate, the rate's records one with it; a server that is
// slower than the rate ends it after twice the time.
func TestScheduleEnds(t *testing.T) {
	for _, c := range []struct {
		name     string
		s        schedule
		each     time.Duration
		want     int64
		took     time.Duration
		cancelAt int64
	}{
		{"time without a rate", schedule{duration: time.Second, clients: 1}, 100 * time.Millisecond, 10, time.Second, -1},
		{"count without a rate", schedule{records: 5, duration: time.Second, clients: 1}, time.Millisecond, 5, 5 * time.Millisecond, -1},
		{"time with a rate", schedule{rate: 10, duration: time.Second, clients: 1}, 0, 10, 900 * time.Millisecond, -1},
		{"count with a rate", schedule{rate: 10, records: 3, duration: time.Second, clients: 1}, 0, 3, 200 * time.Millisecond, -1},
		{"slow server", schedule{rate: 1000, duration: time.Second, clients: 1}, 100 * time.Millisecond, 20, 2 * time.Second, -1},
		{"interrupted", schedule{rate: 10, duration: time.Second, clients: 1}, 0, 4, 300 * time.Millisecond, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c.s.start = time.Now()
				var n int64
				c.s.drive(ctx, 0, func(i int64, _ time.Time) {
					n++
					<-time.After(c.each) // inside the bubble
					if i == c.cancelAt {
						cancel()
					}
				})
				if took := time.Since(c.s.start); n != c.want || took != c.took {
					t.Errorf("%d records in %s, want %d in %s", n, took, c.want, c.took)
				}
			})
		})
	}
}
