// Command embed shows kalda inside a Go program: it starts two clusters in this process,
// writes to both with franz-go, and reads back what each has.
//
// To start your own program from it, copy this file and remove the replace line of go.mod.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// Port 0 picks a free port and Ephemeral a directory that Close removes, so any number
	// of clusters run side by side. Give DataDir to keep the data.
	for _, name := range []string{"north", "south"} {
		k, err := kalda.Start(ctx, kalda.Options{Ephemeral: true, Kafka: "127.0.0.1:0"})
		if err != nil {
			return err
		}
		defer k.Close()
		if err := talk(ctx, out, k, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// talk writes three records and reads them as a member of a group.
func talk(ctx context.Context, out io.Writer, k *kalda.Kalda, name string) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(k.Kafka()...),
		kgo.AllowAutoTopicCreation(),
		kgo.DefaultProduceTopic("greetings"),
		kgo.ConsumeTopics("greetings"),
		kgo.ConsumerGroup("readers"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for i := range 3 {
		record := kgo.StringRecord(fmt.Sprintf("hello %d from %s", i, name))
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			return err
		}
	}
	for got := 0; got < 3; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			fmt.Fprintf(out, "%s: offset %d: %s\n", name, r.Offset, r.Value)
			got++
		})
	}
	return client.CommitUncommittedOffsets(ctx)
}
