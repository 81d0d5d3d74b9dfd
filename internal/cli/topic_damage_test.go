package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
)

// Damage that a broker tells of becomes a column and a line of `cluster health`; without
// any there is neither.
func TestTopicDamage(t *testing.T) {
	one := &wire.PartitionDamage{Segments: 1, FirstOffset: 10, NextOffset: 15}
	more := &wire.PartitionDamage{Segments: 3, FirstOffset: 7, NextOffset: 8}
	behind := &wire.PartitionDamage{Segments: 1, FirstOffset: 100, NextOffset: 100}
	row := func(n int32, ds ...*wire.PartitionDamage) partitionRow {
		r := partitionRow{Partition: n, Leader: 1}
		for i, d := range ds {
			r.Stored = append(r.Stored, storedJSON{Broker: int32(i), Damage: damageOf(d)})
		}
		return r
	}
	d := &topicDetail{Name: "t", Partitions: []partitionRow{row(0, one), row(1, nil, more), row(2, nil)}}
	var out strings.Builder
	if err := printTopic(&out, d, false); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	lines = lines[len(lines)-4:]
	for i, want := range []string{"STORED  DAMAGED", "  offsets 10 to 14", "  broker 1: offset 7, and in 2 segments more", "  -"} {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %d: %q, want %q at its end", i, lines[i], want)
		}
	}
	out.Reset()
	d.Partitions = d.Partitions[2:]
	if err := printTopic(&out, d, false); err != nil || strings.Contains(out.String(), "DAMAGED") {
		t.Errorf("%v: %s", err, out.String())
	}
	got := damagedPartitions(map[model.TopicPartition][]replicaSize{
		{Topic: "t", Partition: 1}: {{broker: 1}, {broker: 2, damage: one}},
		{Topic: "a", Partition: 0}: {{broker: 1, damage: more}},
		{Topic: "b", Partition: 3}: {{broker: 1, damage: behind}},
		{Topic: "x", Partition: 0}: {{broker: 1}},
	})
	if want := []string{"a-0 is damaged on the disk of broker 1: offset 7, and in 2 segments more", "b-3 is damaged on the disk of broker 1: bytes behind the last record, at offset 100", "t-1 is damaged on the disk of broker 2: offsets 10 to 14"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
