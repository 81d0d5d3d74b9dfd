// Command kfake serves franz-go's fake Kafka cluster, a broker in memory written in Go,
// as the other side of comparisons. It prints the same ready line as `kalda dev`.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

func main() {
	port := flag.Int("port", 0, "port to listen on; 0 picks a free one")
	data := flag.String("data", "", "directory to keep the log in; none: memory only")
	sync := flag.Bool("sync", false, "with -data: fsync what is written")
	flag.Parse()
	begun := time.Now()
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.Ports(*port)}
	if *data != "" {
		opts = append(opts, kfake.DataDir(*data))
	}
	if *sync {
		opts = append(opts, kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	defer cluster.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"ready": true, "kafka": cluster.ListenAddrs(), "ready_ms": time.Since(begun).Milliseconds(),
	})
	<-stop
}
