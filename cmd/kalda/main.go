// Command kalda is the whole product in one binary: the node and the tools.
package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/kalda-io/kalda"
	"github.com/kalda-io/kalda/internal/cli"
)

func main() { os.Exit(cli.Main(start)) }

// start runs nodes for the command line.
func start(ctx context.Context, r cli.StartRequest) (cli.Running, error) {
	relaxTimers()
	var k *kalda.Kalda
	var err error
	if r.Mode == cli.ModeStart {
		k, err = kalda.StartNode(ctx, kalda.NodeOptions{ConfigFile: r.ConfigFile, Env: r.Env, Set: r.Set, Logger: r.Logger})
	} else {
		o := kalda.Options{
			Brokers: r.Brokers, DataDir: r.DataDir, Ephemeral: r.Ephemeral,
			Kafka: r.KafkaAddr, HTTP: r.HTTPAddr, Config: map[string]string{}, Logger: r.Logger,
		}
		for _, kv := range r.Set {
			key, value, _ := strings.Cut(kv, "=")
			o.Config[key] = value
		}
		k, err = kalda.Start(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	return &running{Kalda: k, closed: make(chan struct{})}, nil
}

// running adapts a cluster to what the command line waits for.
type running struct {
	*kalda.Kalda
	closed chan struct{}
}

// Wait implements cli.Running.
func (r *running) Wait() error {
	select {
	case err := <-r.Failed():
		return err
	case <-r.closed:
		return nil
	}
}

// Close implements cli.Running. When ctx ends first, as it does with a second signal,
// the stop is left unfinished: the process is about to end, and the next start recovers.
func (r *running) Close(ctx context.Context) error {
	defer close(r.closed)
	done := make(chan error, 1) // the goroutine ends even if nobody waits any more
	go func() { done <- r.Kalda.Close() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reloadWait bounds a reload, which is a matter of milliseconds.
const reloadWait = 10 * time.Second

// Reload implements cli.Running.
func (r *running) Reload() error {
	ctx, cancel := context.WithTimeout(context.Background(), reloadWait)
	defer cancel()
	return r.Kalda.Reload(ctx)
}
