package broker

import (
	"encoding/json"
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// DescribeLogDirs (35): 0 to 5; sizes of the volume from v4 (KIP-827), cordoned
// directories from v5 (KIP-1066; none is ever cordoned here).
//
// Clients of ours are told each partition's directory too, how far it is compacted and what
// is damaged of it, in tagged fields.
func (b *Broker) describeLogDirs(p *wire.Pending, req *kmsg.DescribeLogDirsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	want := map[string]map[int32]bool{}
	for _, t := range req.Topics {
		m := map[int32]bool{}
		for _, p := range t.Partitions {
			m[p] = true
		}
		want[t.Topic] = m
	}
	type found struct {
		part  *replica.Partition
		stats replica.Stats
	}
	byDir := map[string]map[string][]found{}
	for _, part := range b.o.Replicas.Partitions() {
		if req.Topics != nil && !want[part.TP.Topic][part.TP.Partition] {
			continue
		}
		topics := byDir[part.Dir()]
		if topics == nil {
			topics = map[string][]found{}
			byDir[part.Dir()] = topics
		}
		topics[part.TP.Topic] = append(topics[part.TP.Topic], found{part, part.Stats()})
	}
	ours := strings.HasPrefix(p.Conn.SoftwareName, "kalda") && req.Version >= 2
	for _, d := range b.o.Replicas.Dirs() {
		rd := kmsg.NewDescribeLogDirsResponseDir()
		rd.Dir = d.Path
		if d.Offline != nil {
			rd.ErrorCode = kerr.KafkaStorageError.Code
		} else if s, err := d.Space(); err == nil {
			rd.TotalBytes, rd.UsableBytes = s.Total, s.Free
		}
		if ours && d.Room != replica.RoomEnough {
			rd.UnknownTags.Set(wire.TagDirectoryRoom, []byte(d.Room.String()))
		}
		names := make([]string, 0, len(byDir[d.Path]))
		for name := range byDir[d.Path] {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			rt := kmsg.NewDescribeLogDirsResponseDirTopic()
			rt.Topic = name
			parts := byDir[d.Path][name]
			sort.Slice(parts, func(i, j int) bool { return parts[i].part.TP.Partition < parts[j].part.TP.Partition })
			for _, f := range parts {
				rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
				rp.Partition, rp.Size = f.part.TP.Partition, f.stats.Bytes
				rp.OffsetLag = max(int64(f.stats.HighWatermark-f.stats.LogEnd), 0)
				if ours {
					rp.UnknownTags.Set(wire.TagPartitionDirectory, []byte(f.part.Path()))
					if b := compaction(f.part); b != nil {
						rp.UnknownTags.Set(wire.TagPartitionCompaction, b)
					}
					if b := damage(f.part); b != nil {
						rp.UnknownTags.Set(wire.TagPartitionDamage, b)
					}
				}
				rt.Partitions = append(rt.Partitions, rp)
				if f.stats.Offline != nil {
					rd.ErrorCode = kerr.KafkaStorageError.Code
				}
			}
			rd.Topics = append(rd.Topics, rt)
		}
		resp.Dirs = append(resp.Dirs, rd)
	}
	return resp
}

// damage is what a scrub found damaged of a partition, as JSON; nil for nothing.
func damage(p *replica.Partition) []byte {
	ds := p.Damage()
	if len(ds) == 0 {
		return nil
	}
	d := ds[0]
	b, err := json.Marshal(wire.PartitionDamage{
		Segments: len(ds), Base: int64(d.Base), Position: d.Position, FirstOffset: int64(d.First), NextOffset: int64(d.Next),
	})
	if err != nil {
		return nil // numbers: it does not fail
	}
	return b
}

// compaction is how far a partition is compacted, as JSON; nil where that means nothing.
func compaction(p *replica.Partition) []byte {
	c, compacted := p.Cleaning()
	if !compacted {
		return nil
	}
	w := wire.PartitionCompaction{DirtyBytes: c.DirtyBytes, TotalBytes: c.TotalBytes, CleanedMs: c.CleanedMs, Running: c.Running}
	if c.Uncleanable != nil {
		w.Uncleanable = c.Uncleanable.Error()
	}
	b, err := json.Marshal(w)
	if err != nil {
		return nil // numbers and a string: it does not fail
	}
	return b
}
