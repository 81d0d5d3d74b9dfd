package cli

import (
	"fmt"
	"io"
	"time"
)

// benchResult is what a benchmark prints. The field names are a contract: they stay, and
// each figure has its unit in its name.
type benchResult struct {
	Mode        string `json:"mode"`
	ClusterID   string `json:"cluster_id"`
	Topic       string `json:"topic"`
	Temporary   bool   `json:"temporary"`
	Partitions  int    `json:"partitions"`
	FlushPolicy string `json:"flush_policy"` // commit, os or unknown
	Acks        string `json:"acks,omitempty"`
	Compression string `json:"compression,omitempty"`
	Clients     int    `json:"clients,omitempty"`
	RecordSize  int    `json:"record_size_bytes,omitempty"` // of a value
	// TargetRate is the rate that was asked for; 0: as fast as it goes.
	TargetRate float64 `json:"target_records_per_second,omitempty"`
	Records    int64   `json:"records"`
	Bytes      int64   `json:"bytes"` // of the values
	Seconds    float64 `json:"seconds"`
	Rate       float64 `json:"records_per_second"`
	Megabytes  float64 `json:"megabytes_per_second"` // of 10^6 bytes
	// NotSent are records that were due but never sent: the server was slower than the rate.
	NotSent int64 `json:"not_sent_records,omitempty"`
	// Failed are records that were sent and not acknowledged.
	Failed      int64         `json:"failed_records,omitempty"`
	LatencyFrom string        `json:"latency_from,omitempty"`
	Latency     *benchLatency `json:"latency,omitempty"`
	Fetch       *benchFetch   `json:"fetch,omitempty"`
	Check       *benchCheck   `json:"check,omitempty"`
	ClientCPU   float64       `json:"client_cpu_seconds"`
	BrokerCPU   *float64      `json:"broker_cpu_seconds"` // null: not seen
	BrokerCPUOf string        `json:"broker_cpu_of,omitempty"`
	NotSeen     string        `json:"broker_cpu_not_seen,omitempty"`
	Interrupted bool          `json:"interrupted,omitempty"`
}

// benchLatency holds percentiles in microseconds.
type benchLatency struct {
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p99_9_us"`
	Max  float64 `json:"max_us"`
}

// benchFetch says how large the answers to fetches were, as they crossed the network.
type benchFetch struct {
	Fetches int64   `json:"fetches"`
	Mean    float64 `json:"mean_bytes"`
	Largest int64   `json:"largest_bytes"`
}

// benchCheck compares what was acknowledged with what was received.
type benchCheck struct {
	Acknowledged int64 `json:"acknowledged_records"`
	Lost         int64 `json:"lost_records"`
	Duplicated   int64 `json:"duplicated_records"`
	OutOfOrder   int64 `json:"out_of_order_records"`
}

// What latency counts from.
const (
	fromIntended = "intended_send"
	fromHandOver = "hand_over"
)

func latencyOf(h *histogram) *benchLatency {
	if h.n.Load() == 0 {
		return nil
	}
	us := func(q float64) float64 { return float64(h.quantile(q).Nanoseconds()) / 1e3 }
	return &benchLatency{us(0.5), us(0.9), us(0.99), us(0.999), us(1)}
}

// text prints the result for people, within 80 columns for names of usual length.
func (r *benchResult) text(w io.Writer, _ bool) error {
	var err error
	line := func(head, format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, "%-12s%s\n", head, fmt.Sprintf(format, args...))
		}
	}
	kind := ""
	if r.Temporary {
		kind = "temporary, "
	}
	line("topic", "%s (%s%s)", r.Topic, kind, plural(int64(r.Partitions), "partition"))
	line("policy", "%s", r.policy())
	took := time.Duration(r.Seconds * float64(time.Second))
	target := ""
	if r.TargetRate > 0 {
		target = fmt.Sprintf(", %s/s asked for", humanFigure(r.TargetRate))
	}
	line("records", "%s in %s%s", humanCount(r.Records), humanLatency(took), target)
	line("rate", "%s records/s, %s MB/s", humanFigure(r.Rate), humanFigure(r.Megabytes))
	if r.NotSent > 0 {
		line("not sent", "%s: it is slower than the rate", plural(r.NotSent, "record"))
	}
	if r.Failed > 0 {
		line("failed", "%s", plural(r.Failed, "record"))
	}
	if l := r.Latency; l != nil {
		us := func(v float64) string { return humanLatency(time.Duration(v * 1e3)) }
		line("latency", "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", us(l.P50), us(l.P90), us(l.P99), us(l.P999), us(l.Max))
		line("", "%s", r.counts())
	}
	if f := r.Fetch; f != nil {
		line("fetches", "%s, mean %s, largest %s", humanCount(f.Fetches), humanSize(int64(f.Mean)), humanSize(f.Largest))
	}
	if c := r.Check; c != nil {
		line("check", "%s acknowledged, %s lost, %s duplicated, %s out of order",
			humanCount(c.Acknowledged), humanCount(c.Lost), humanCount(c.Duplicated), humanCount(c.OutOfOrder))
	}
	line("own CPU", "%s", r.cpu(r.ClientCPU))
	if r.BrokerCPU != nil {
		line("broker CPU", "%s", r.cpu(*r.BrokerCPU))
		line("", "(%s)", r.BrokerCPUOf)
	} else {
		line("broker CPU", "not seen: %s", r.NotSeen)
	}
	if r.Interrupted {
		line("note", "interrupted: the figures are of the time until then")
	}
	return err
}

// policy says in one line when a record counts as written.
func (r *benchResult) policy() string {
	s := r.FlushPolicy
	switch r.FlushPolicy {
	case "commit":
		s += " (on the disk before the answer)"
	case "os":
		s += " (with the system before the answer)"
	}
	if r.Acks != "" {
		s += ", acks " + r.Acks
	}
	if r.Compression != "" && r.Compression != "none" {
		s += ", " + r.Compression
	}
	return s
}

// counts says what latency is the time of.
func (r *benchResult) counts() string {
	to := "acknowledgement"
	switch {
	case r.Check != nil:
		to = "receipt"
	case r.Acks == "0":
		to = "writing to the socket"
	}
	if r.LatencyFrom == fromIntended {
		return "from the intended send time to " + to
	}
	return "from hand-over to " + to + ", with the wait in the full buffer"
}

// cpu is processor time with what it means for a million records and a gigabyte.
func (r *benchResult) cpu(seconds float64) string {
	s := humanFigure(seconds) + " s"
	if r.Records > 0 && r.Bytes > 0 {
		s += fmt.Sprintf(", %s s per million records, %s s per GB",
			humanFigure(seconds/float64(r.Records)*1e6), humanFigure(seconds/float64(r.Bytes)*1e9))
	}
	return s
}

// humanFigure prints a measured number with three digits that matter.
func humanFigure(v float64) string {
	switch {
	case v >= 100:
		return humanCount(int64(v + 0.5))
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// humanLatency prints a short duration with three digits that matter: 870 us, 1.25 ms.
func humanLatency(d time.Duration) string {
	v := float64(d.Nanoseconds())
	switch {
	case d < time.Millisecond:
		return humanFigure(v/1e3) + " us"
	case d < time.Second:
		return humanFigure(v/1e6) + " ms"
	}
	return humanFigure(v/1e9) + " s"
}
