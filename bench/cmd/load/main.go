// Command load sends one load to one broker and prints what it measured.
//
//	go run ./cmd/load -side kfake -connections 16 -outstanding 16 -seconds 3
//	go run ./cmd/load -addr 127.0.0.1:9092 -fetch            (no CPU figure: not our child)
//
// The broker is kalda or kfake, built and started for this run and stopped after it,
// or one that runs already (-addr).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/kalda-io/kalda/bench/load"
	"github.com/kalda-io/kalda/bench/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o load.Options
	var seconds float64
	var acks string
	var fetchBytes int
	side := flag.String("side", "kalda", "broker to start: kalda or kfake")
	durable := flag.Bool("durable", false, "acknowledge only what is on the disk")
	flag.StringVar(&o.Addr, "addr", "", "a broker that runs already, instead of -side")
	flag.StringVar(&o.Prefix, "prefix", "bench", "with -addr: topics are named PREFIX-0, PREFIX-1, ...; created, or with -fetch read")
	flag.BoolVar(&o.Fetch, "fetch", false, "read instead of producing")
	flag.BoolVar(&o.Client, "client", false, "produce through franz-go's client; requests are records")
	flag.IntVar(&o.Rate, "rate", 0, "with -client: records per second; 0: no limit")
	flag.IntVar(&o.Connections, "connections", 16, "connections")
	flag.IntVar(&o.Outstanding, "outstanding", 16, "requests outstanding per connection")
	flag.IntVar(&o.Topics, "topics", 1, "topics")
	flag.IntVar(&o.Partitions, "partitions", 12, "partitions per topic")
	flag.IntVar(&o.RecordBytes, "record", 100, "bytes of a record's value")
	flag.IntVar(&o.BatchRecords, "batch", 1, "records per request")
	flag.StringVar(&acks, "acks", "1", "0, 1 or all")
	flag.IntVar(&fetchBytes, "fetch-bytes", 1<<20, "most bytes per Fetch")
	flag.Float64Var(&seconds, "seconds", 3, "how long to send; 0: no limit")
	flag.Int64Var(&o.Requests, "requests", 0, "how many requests to send; 0: no limit")
	flag.Int64Var(&o.Bytes, "bytes", 1<<30, "how many bytes to send or read; 0: no limit")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	o.Time = time.Duration(seconds * float64(time.Second))
	o.FetchBytes = int32(fetchBytes)
	switch strings.ToLower(acks) {
	case "0":
	case "1":
		o.Acks = 1
	case "all", "-1":
		o.Acks = -1
	default:
		return fmt.Errorf("acks %q: want 0, 1 or all", acks)
	}
	var m measure.Measured
	var err error
	if o.Addr != "" {
		if !o.Fetch {
			if err := load.Prepare(ctx, o); err != nil {
				return err
			}
		}
		m.Result, err = load.Run(ctx, o)
	} else {
		m, err = started(ctx, *side, *durable, o)
	}
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(os.Stdout).Encode(m)
	}
	fmt.Printf("%d requests, %d records, %.1f MB in %.2f s: %.0f requests/s, %.1f MB/s\n",
		m.Requests, m.Records, float64(m.Bytes)/1e6, m.Seconds, m.RequestsPerSecond(), m.MBPerSecond())
	if o.Acks != 0 || o.Fetch {
		fmt.Printf("latency p50 %.0f us, p90 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n", m.P50, m.P90, m.P99, m.P999, m.Max)
	}
	if m.ServerCPU > 0 {
		fmt.Printf("broker: %.2f CPU-s, %.2f us per request, %.2f CPU-s/GB; peak %.0f MiB; ready after %.0f ms\n",
			m.ServerCPU, m.CPUPerRequest(), m.CPUPerGB(), float64(m.PeakMemory)/(1<<20), m.ReadyMillis)
	}
	fmt.Printf("this generator: %.2f CPU-s\n", m.ClientCPU)
	return nil
}

func started(ctx context.Context, name string, durable bool, o load.Options) (m measure.Measured, err error) {
	repo, err := measure.Repo()
	if err != nil {
		return m, err
	}
	dir, err := os.MkdirTemp("", "bench-bin-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	b := measure.Builder{Dir: dir, Repo: repo}
	var side func(bool) measure.Side
	switch name {
	case "kalda":
		side, err = b.Kalda(ctx)
	case "kfake":
		side, err = b.Kfake(ctx)
	default:
		err = errors.New("side " + name + ": want kalda or kfake")
	}
	if err != nil {
		return m, err
	}
	return measure.Run(ctx, side(durable), o)
}
