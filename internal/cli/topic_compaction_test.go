package cli

import (
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/wire"
)

// What a broker of ours tells of compaction becomes two columns; without it there are none.
func TestTopicCompaction(t *testing.T) {
	const at = 1767225610000
	row := func(n int32, cs ...*wire.PartitionCompaction) partitionRow {
		r := partitionRow{Partition: n, Leader: 1}
		for i, c := range cs {
			r.Stored = append(r.Stored, storedJSON{Broker: int32(i), Compaction: compactionOf(c)})
		}
		return r
	}
	d := &topicDetail{Name: "t", Partitions: []partitionRow{
		row(0, &wire.PartitionCompaction{}, &wire.PartitionCompaction{DirtyBytes: 25, TotalBytes: 100, CleanedMs: at}),
		row(1, &wire.PartitionCompaction{DirtyBytes: 1, TotalBytes: 1, CleanedMs: at, Running: true}),
		row(2, &wire.PartitionCompaction{CleanedMs: at, Uncleanable: "damaged"}),
		row(3, nil),
		row(4, &wire.PartitionCompaction{}),
	}}
	var out strings.Builder
	if err := printTopic(&out, d, false); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	lines = lines[len(lines)-6:]
	for i, want := range []string{"STORED  DIRTY  COMPACTED", " 25%  2026-01-01T00:00:10Z", "100%  now", "  0%  cannot be: damaged", "   -  -", "  0%  never"} {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %d: %q, want %q at its end", i, lines[i], want)
		}
	}
	out.Reset()
	d.Partitions = d.Partitions[3:4]
	if err := printTopic(&out, d, false); err != nil || strings.Contains(out.String(), "COMPACTED") {
		t.Errorf("%v: %s", err, out.String())
	}
}
