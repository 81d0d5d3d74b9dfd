package storage

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
)

// TestGolden keeps every file format as it was released: the bytes in testdata/golden
// must not change (add a version instead), and must read back as what they were made of.
func TestGolden(t *testing.T) {
	p := producers{}
	add := func(id model.ProducerID, epoch model.ProducerEpoch, base model.Offset, seq int32, now int64) {
		tpl := record.NewTemplate()
		tpl.BaseOffset, tpl.ProducerID, tpl.ProducerEpoch, tpl.BaseSequence = base, id, epoch, seq
		b, err := record.Build(nil, tpl, []record.Record{{Timestamp: 1000 + int64(base)}, {Timestamp: 1001 + int64(base)}})
		ok(t, err)
		p.apply(b, now)
	}
	add(7, 1, 10, 0, 5000)
	add(7, 1, 12, 2, 5001)
	add(9, 0, 14, 40, noTime)
	s := sums{chain: 0x01020304, batches: 5, marks: []mark{{1 << 20, 0xaabbccdd}}, indexSize: 8, indexCRC: 1, timeSize: 12, timeCRC: 2}
	s.seal(1<<20 + 77)
	c := CheckpointEntry{Partition: part, RecoveryPoint: 100, LogStart: 7, HighWatermark: 90, segmentBase: 50, position: 4096,
		chain: 0xdeadbeef, batches: 12, maxTs: 1234, maxTsOffset: 88, noProducers: true}
	epochs := epochCache{entries: []EpochStart{{1, 0}, {5, 4711}}}
	files := map[string][]byte{
		"producers": p.encode(16, 3), "snapshot": p.encodeSnapshot(), "sums": s.encode(10), "epochs": epochs.encode(),
		"checkpoints": appendCheckpoint(appendCheckpoint([]byte(checkpointMagic), &c, false), &CheckpointEntry{}, true),
		"props":       props{{"cluster.id", "c1"}, {"node.id", "7"}}.encode(),
		"index":       appendOffsetEntry(nil, 100, 109, 4097), "timeindex": appendTimeEntry(nil, 100, 1_700_000_000_000, 109),
	}
	datadriven.RunTest(t, "testdata/golden", func(t *testing.T, td *datadriven.TestData) string {
		b := files[td.Cmd]
		if td.Cmd == "epochs" || td.Cmd == "props" {
			return string(b)
		}
		var out strings.Builder
		for line := range slices.Chunk(b, 32) {
			out.WriteString(hex.EncodeToString(line) + "\n")
		}
		return out.String()
	})

	byID, epoch, err := decodeProducers(files["producers"], 16)
	if err != nil || epoch != 3 || len(byID) != 2 || *byID[7] != *p.byID[7] || *byID[9] != *p.byID[9] {
		t.Errorf("producers: %+v, %d, %v", byID, epoch, err)
	}
	snap, err := decodeSnapshot(files["snapshot"])
	if err != nil || len(snap) != 2 || snap[7].epoch != 1 || snap[7].batches[0] != p.byID[7].batches[1] {
		t.Errorf("snapshot: %+v, %v", snap, err)
	}
	if got, err := decodeSums(files["sums"], 10); err != nil || fmt.Sprint(got.marks, got.size, got.chain) != fmt.Sprint(s.marks, s.size, s.chain) {
		t.Errorf("sums: %+v, %v", got, err)
	}
	entries, records, damaged, err := decodeCheckpoints(files["checkpoints"])
	if err != nil || records != 2 || damaged != 0 || entries[part] != c {
		t.Errorf("checkpoints: %+v, %d, %d, %v", entries, records, damaged, err)
	}
}
