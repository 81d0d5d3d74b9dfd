package group

import (
	"encoding/binary"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// subscribedTopics reads the topics of a consumer's metadata, the part that all versions
// of the consumer protocol begin with. It stops at the first topic that each refuses and
// says whether the metadata could be read. Clients send these bytes, and each rebalance
// reads those of all members: nothing is allocated beyond the names.
func subscribedTopics(b []byte, each func(topic string) bool) bool {
	if len(b) < 6 || int16(binary.BigEndian.Uint16(b)) < 0 {
		return false
	}
	n := int32(binary.BigEndian.Uint32(b[2:]))
	b = b[6:]
	for ; n > 0; n-- {
		if len(b) < 2 {
			return false
		}
		size := int(int16(binary.BigEndian.Uint16(b)))
		if b = b[2:]; size < 0 || size > len(b) {
			return false
		}
		if !each(string(b[:size])) {
			return false
		}
		b = b[size:]
	}
	return true
}

// difference says how two subscriptions of one member differ.
type difference uint8

const (
	unknownDiffers difference = iota
	topicsDiffer
	ownedDiffer
)

// maxCompared is the longest metadata that is taken apart to explain a rebalance.
const maxCompared = 64 << 10

// compareSubscriptions finds out what a member changed when it joined again.
func compareSubscriptions(was, is []byte) difference {
	if len(was) > maxCompared || len(is) > maxCompared {
		return unknownDiffers
	}
	var a, b kmsg.ConsumerMemberMetadata
	if a.ReadFrom(was) != nil || b.ReadFrom(is) != nil {
		return unknownDiffers
	}
	slices.Sort(a.Topics)
	slices.Sort(b.Topics)
	switch {
	case !slices.Equal(a.Topics, b.Topics):
		return topicsDiffer
	case !slices.Equal(ownedPartitions(&a), ownedPartitions(&b)):
		return ownedDiffer
	}
	return unknownDiffers
}

type ownedPartition struct {
	topic     string
	partition int32
}

func ownedPartitions(m *kmsg.ConsumerMemberMetadata) []ownedPartition {
	var ps []ownedPartition
	for _, o := range m.OwnedPartitions {
		for _, p := range o.Partitions {
			ps = append(ps, ownedPartition{o.Topic, p})
		}
	}
	slices.SortFunc(ps, func(a, b ownedPartition) int {
		if a.topic != b.topic {
			if a.topic < b.topic {
				return -1
			}
			return 1
		}
		return int(a.partition) - int(b.partition)
	})
	return ps
}
