package cli

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
)

// A place becomes an offset inside the log, and without a place a reader begins at the end.
func TestResolve(t *testing.T) {
	tp := model.TopicPartition{Topic: "t", Partition: 0}
	log := map[model.TopicPartition]span{tp: {start: 10, end: 30}}
	for _, c := range []struct {
		place startSpec
		want  int64
		moved bool
	}{
		{startSpec{}, 30, false},
		{startSpec{kind: startEnd}, 30, false},
		{startSpec{kind: startFirst}, 10, false},
		{startSpec{kind: startOffset, n: 15}, 15, false},
		{startSpec{kind: startOffset, n: 30}, 30, false},
		{startSpec{kind: startOffset, n: 3}, 10, true},
		{startSpec{kind: startOffset, n: 31}, 30, true},
		{startSpec{kind: startBack, n: 5}, 25, false},
		{startSpec{kind: startBack, n: 500}, 10, false},
	} {
		moved := false
		at, err := (&client{}).resolve(context.Background(), consumeSpec{start: c.place}, log, func(model.TopicPartition, int64, int64) { moved = true })
		if err != nil || at[tp] != c.want || moved != c.moved {
			t.Errorf("%+v: %d (moved %v), %v; want %d (%v)", c.place, at[tp], moved, err, c.want, c.moved)
		}
	}
}

// docs/cli.md lists every client property.
func TestPropertiesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range clientProperties() {
		if row := "| `" + name + "` | " + p.doc + " |"; !strings.Contains(string(page), row) {
			t.Errorf("docs/cli.md lacks %s", row)
		}
	}
}

func TestProperties(t *testing.T) {
	for _, pair := range []string{
		"client.id=a", "client.rack=b", "group.instance.id=c", "session.timeout.ms=10s", "heartbeat.interval.ms=1000",
		"max.poll.interval.ms=5m", "fetch.max.wait.ms=100", "fetch.min.bytes=1", "fetch.max.bytes=1MiB", "max.partition.fetch.bytes=2MiB",
		"linger.ms=5", "delivery.timeout.ms=2m", "request.timeout.ms=30000", "metadata.max.age.ms=1m", "max.request.size=2MiB",
		"auto.commit.interval.ms=1s", "enable.auto.commit=false", "isolation.level=read_committed",
		"partition.assignment.strategy=range,cooperative-sticky", "security.protocol=PLAINTEXT",
	} {
		if _, err := parseProperties([]string{pair}); err != nil {
			t.Errorf("%s: %v", pair, err)
		}
	}
	for _, pair := range []string{"linger.ms=soon", "fetch.max.bytes=-1", "isolation.level=dirty", "security.protocol=SSL", "partition.assignment.strategy=fair", "enable.auto.commit=2", "nonsense=1", "x"} {
		if _, err := parseProperties([]string{pair}); exitCode(err) != ExitUsage {
			t.Errorf("%s: %v", pair, err)
		}
	}
}
