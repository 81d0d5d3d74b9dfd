package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/wire"
)

// damageJSON tells what of one replica of a partition is damaged on its broker's disk: so
// many segments, and of the first of them which offsets cannot be read.
type damageJSON struct {
	Segments    int   `json:"segments"`
	Base        int64 `json:"segment_base_offset"`
	Position    int64 `json:"position"`
	FirstOffset int64 `json:"first_offset"`
	NextOffset  int64 `json:"next_offset"`
}

func damageOf(d *wire.PartitionDamage) *damageJSON {
	if d == nil {
		return nil
	}
	j := damageJSON(*d)
	return &j
}

// String names the offsets. There are none if the file has more bytes than it was closed with.
func (d *damageJSON) String() string {
	s := fmt.Sprintf("offsets %d to %d", d.FirstOffset, d.NextOffset-1)
	switch d.NextOffset - d.FirstOffset {
	case 0:
		s = fmt.Sprintf("bytes behind the last record, at offset %d", d.NextOffset)
	case 1:
		s = fmt.Sprintf("offset %d", d.FirstOffset)
	}
	if d.Segments > 1 {
		s += fmt.Sprintf(", and in %s more", plural(int64(d.Segments-1), "segment"))
	}
	return s
}

// damaged says whether any broker told of damage in the topic.
func (d *topicDetail) damaged() bool {
	return slices.ContainsFunc(d.Partitions, func(p partitionRow) bool { return p.damageCell() != "-" })
}

// damageCell is the column DAMAGED, with the broker where there are several replicas.
func (p *partitionRow) damageCell() string {
	var out []string
	for _, s := range p.Stored {
		switch {
		case s.Damage == nil:
		case len(p.Stored) > 1:
			out = append(out, fmt.Sprintf("broker %d: %v", s.Broker, s.Damage))
		default:
			out = append(out, s.Damage.String())
		}
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, "; ")
}

// damagedPartitions are the lines of `cluster health` about damage, in order.
func damagedPartitions(stored map[model.TopicPartition][]replicaSize) []string {
	var out []string
	for tp, replicas := range stored {
		for _, r := range replicas {
			if r.damage != nil {
				out = append(out, fmt.Sprintf("%s is damaged on the disk of broker %d: %v", tp, r.broker, damageOf(r.damage)))
			}
		}
	}
	slices.Sort(out)
	return out
}
