// Command kfakenode puts franz-go's fake cluster behind the flags and the ready line of
// `kalda dev`, so that the clients' scenarios can be tried on a second implementation.
//
// With --data it keeps its state in a directory, through the page cache like Kafka's default, and
// so also survives kill -9. It promises nothing about power cuts.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	start := time.Now()
	if len(args) > 0 && args[0] == "dev" {
		args = args[1:]
	}
	flags := flag.NewFlagSet("kfakenode", flag.ContinueOnError)
	data := flags.String("data", "", "data directory")
	_ = flags.Bool("ephemeral", false, "keep nothing (the default without --data)")
	kafka := flags.String("kafka", "127.0.0.1:0", "Kafka listen address")
	_ = flags.String("http", "", "accepted for kalda's sake; the fake serves no HTTP")
	_ = flags.String("o", "json", "accepted for kalda's sake; the ready line is always JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	_, portText, err := net.SplitHostPort(*kafka)
	if err != nil {
		return fmt.Errorf("--kafka: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fmt.Errorf("--kafka: %w", err)
	}
	signals := make(chan os.Signal, 1) // one signal is enough to end it
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)

	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.Ports(port), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1)}
	if *data != "" {
		opts = append(opts, kfake.DataDir(*data))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return err
	}
	defer cluster.Close()
	ready := map[string]any{"ready": true, "kafka": cluster.ListenAddrs(), "http": "", "ready_ms": time.Since(start).Milliseconds()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	<-signals
	return nil
}
