package cli

import (
	"context"
	"time"
)

// schedule says when each record of a benchmark is meant to be sent. With a rate it is an
// open loop: a record's time is fixed beforehand, and one that a slow server delays keeps
// it, so that the delay is seen in that record's latency and in those of all that queue
// behind it. A generator that waits for the server and counts from the real sending leaves
// them out ("coordinated omission").
type schedule struct {
	start time.Time
	// rate is in records per second over all clients; 0 sends as fast as they are taken.
	rate float64
	// records and duration end the load, whichever comes first; 0 is no bound.
	records  int64
	duration time.Duration
	// clients share the records: client c sends c, c+clients, c+2*clients and so on.
	clients int64
}

// overrun is how many times its duration a load may take before the rest is not sent: the
// server is then slower than the rate, and the figures say so without it.
const overrun = 2

// due returns how long after the start record i is meant to be sent.
func (s *schedule) due(i int64) time.Duration {
	return time.Duration(float64(i) / s.rate * float64(time.Second))
}

// planned is the number of records that the schedule holds, -1 when only time bounds it.
func (s *schedule) planned() int64 {
	if s.rate == 0 || s.duration == 0 {
		if s.records == 0 {
			return -1
		}
		return s.records
	}
	n := int64(s.duration.Seconds() * s.rate)
	for s.due(n) < s.duration { // the first record leaves at 0
		n++
	}
	if s.records > 0 {
		n = min(n, s.records)
	}
	return n
}

// drive sends the records of one client until the schedule or ctx ends. from is the time
// that the record's latency counts from: with a rate the intended one, else now.
func (s *schedule) drive(ctx context.Context, client int64, send func(i int64, from time.Time)) {
	planned := s.planned()
	for i := client; planned < 0 || i < planned; i += s.clients {
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		if s.rate == 0 {
			if s.duration > 0 && now.Sub(s.start) >= s.duration {
				return
			}
			send(i, now)
			continue
		}
		if s.duration > 0 && now.Sub(s.start) >= overrun*s.duration {
			return
		}
		from := s.start.Add(s.due(i))
		if wait := from.Sub(now); wait > 0 {
			if pause(ctx, wait) != nil {
				return
			}
		}
		send(i, from)
	}
}
