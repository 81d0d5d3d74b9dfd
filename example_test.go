package kalda_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda"
)

// A broker for the length of a test or of a program, on a free port.
func ExampleStart() {
	ctx := context.Background()
	k, err := kalda.Start(ctx, kalda.Options{Ephemeral: true, Kafka: "127.0.0.1:0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer k.Close()

	client, err := kgo.NewClient(kgo.SeedBrokers(k.Kafka()...), kgo.AllowAutoTopicCreation(),
		kgo.DefaultProduceTopic("greetings"), kgo.ConsumeTopics("greetings"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, kgo.StringRecord("hello")).FirstErr(); err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range client.PollFetches(ctx).Records() {
		fmt.Printf("offset %d: %s\n", r.Offset, r.Value)
	}
	// Output: offset 0: hello
}

// Three brokers with settings of their own, each at its own port.
func ExampleStart_brokers() {
	k, err := kalda.Start(context.Background(), kalda.Options{
		Brokers: 3, Ephemeral: true, Kafka: "127.0.0.1:0",
		Config: map[string]string{"num.partitions": "12", "log.retention.ms": "1h"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer k.Close()
	fmt.Println(len(k.Kafka()), "brokers")
	// Output: 3 brokers
}

// A node as its configuration file says, which Reload reads again.
func ExampleStartNode() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	k, err := kalda.StartNode(context.Background(), kalda.NodeOptions{
		// ConfigFile: "/etc/kalda/server.properties",
		Set: []string{
			"node.id=1", "listeners=PLAINTEXT://127.0.0.1:0", "kalda.http.listen=127.0.0.1:0",
			"log.dirs=" + filepath.Join(dir, "data"),
		},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer k.Close()
	fmt.Println(k.Reload(context.Background()))
	// Output: <nil>
}

// The example outside of the module compiles against it, runs and says what it should.
func TestEmbedExample(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "./...")
	cmd.Dir = filepath.Join("examples", "embed")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
