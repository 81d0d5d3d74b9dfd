package measure

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kalda-io/kalda/bench/load"
)

// Row is one comparison.
type Row struct {
	// Name is short; Text says what is sent.
	Name, Text string
	// Durable rows acknowledge what is on the disk: kalda.flush.policy=commit here, fsync
	// there. Others acknowledge once the operating system has it (kalda) or memory (kfake).
	Durable bool
	// Apart rows keep broker and generator on processors of their own; else they share all.
	Apart bool
	Load  load.Options
}

const (
	kib = 1 << 10
	// bigRunBytes ends runs with large batches: a broker that keeps its log in memory has
	// to hold all of it.
	bigRunBytes = 1 << 30
)

// Rows returns all comparisons.
func Rows() []Row {
	produce := func(conns, outstanding, topics, partitions, recordBytes, batchRecords int, acks int16) load.Options {
		return load.Options{
			Connections: conns, Outstanding: outstanding, Topics: topics, Partitions: partitions,
			RecordBytes: recordBytes, BatchRecords: batchRecords, Acks: acks, Bytes: bigRunBytes,
		}
	}
	client := produce(1, 1, 1, 12, 100, 1, 1)
	client.Client = true
	paced := client
	paced.Rate = 10000
	fetch := produce(4, 1, 1, 12, kib, 200, 1)
	fetch.Fetch, fetch.FetchBytes, fetch.Bytes = true, 1<<20, 0
	return []Row{
		{
			Name: "pipelined", Text: "Produce, 1 record of 100 B per request, 16 connections x 16 outstanding, 12 partitions, acks=1",
			Load: produce(16, 16, 1, 12, 100, 1, 1),
		},
		{
			Name: "pipelined-all", Text: "the same with acks=all",
			Load: produce(16, 16, 1, 12, 100, 1, -1),
		},
		{
			Name: "pipelined-apart", Text: "pipelined, with a processor for the generator alone and the others for the broker",
			Apart: true,
			Load:  produce(16, 16, 1, 12, 100, 1, 1),
		},
		{
			Name: "in-turn", Text: "Produce, 1 record of 100 B per request, 16 connections x 1 outstanding, 12 partitions, acks=1",
			Load: produce(16, 1, 1, 12, 100, 1, 1),
		},
		{
			Name: "large", Text: "Produce, batches of 250 records of 1 KiB, 4 connections x 4 outstanding, 12 partitions, acks=1",
			Load: produce(4, 4, 1, 12, kib, 250, 1),
		},
		{
			Name: "fetch", Text: "Fetch of 1 MiB, records of 1 KiB in batches of 200, hot, 4 connections, 12 partitions",
			Load: fetch,
		},
		{
			Name: "client", Text: "Produce with franz-go's client, records of 100 B (requests here are records), linger 0, 12 partitions, acks=1",
			Load: client,
		},
		{
			Name: "paced", Text: "the same with 10,000 records/s: latency",
			Load: paced,
		},
		{
			Name: "durable", Text: "Produce, 1 record of 100 B per request, 64 connections x 1 outstanding, 64 partitions, acks=1, on the disk",
			Durable: true,
			Load:    produce(64, 1, 1, 64, 100, 1, 1),
		},
	}
}

// Builder builds the programs under test.
type Builder struct {
	// Dir takes the programs.
	Dir string
	// Repo is the root of kalda's repository.
	Repo string
}

// Kalda builds kalda and returns how to start it.
func (b Builder) Kalda(ctx context.Context) (func(durable bool) Side, error) {
	bin := filepath.Join(b.Dir, "kalda")
	if err := goBuild(ctx, b.Repo, bin, "./cmd/kalda"); err != nil {
		return nil, err
	}
	return KaldaAt("kalda", bin), nil
}

// KaldaAt returns how to start a kalda that is built already.
func KaldaAt(name, bin string) func(durable bool) Side {
	return func(durable bool) Side {
		policy := "os"
		if durable {
			policy = "commit"
		}
		return Side{Name: name, Args: []string{
			bin, "dev", "--data", "{data}", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0",
			"--set", "kalda.flush.policy=" + policy, "-o", "json",
		}}
	}
}

// Kfake builds the kfake server of this module and returns how to start it.
func (b Builder) Kfake(ctx context.Context) (func(durable bool) Side, error) {
	bin := filepath.Join(b.Dir, "kfake")
	if err := goBuild(ctx, filepath.Join(b.Repo, "bench"), bin, "./cmd/kfake"); err != nil {
		return nil, err
	}
	return func(durable bool) Side {
		s := Side{Name: "kfake", Args: []string{bin}}
		if durable {
			s.Args = append(s.Args, "-data", "{data}", "-sync")
		}
		return s
	}, nil
}

func goBuild(ctx context.Context, dir, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s in %s: %w\n%s", pkg, dir, err, text)
	}
	return nil
}

// Repo finds the root of kalda's repository from the directory of this module or any
// directory inside it.
func Repo() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "bench", "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("not inside kalda's repository")
		}
		dir = up
	}
}
