package group

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What things take in memory beside the bytes that clients send: the structs, their keys in
// maps, their timers. They are estimates on the safe side, for the bounds below.
const (
	groupBytes  = 1024
	memberBytes = 512
	offsetBytes = 128
	topicBytes  = 256
	// pendingBytes is for an id that was handed out, which is part of it.
	pendingBytes = 512
)

const (
	// maxIDBytes bounds group ids and instance ids. Each offset's key repeats the group's
	// id, and a member's id begins with the instance's.
	maxIDBytes = 1024
	// maxClientIDBytes is how much of a client id goes into its member id.
	maxClientIDBytes = 255
	// maxSubscribed is how many topics of a group's subscriptions are taken apart. A name of
	// one byte takes three in a member's metadata and two hundred times that in our maps.
	maxSubscribed = 20_000
	// maxReasonBytes bounds one reason in the rebalance history.
	maxReasonBytes = 512
)

// size is what a group takes.
func (g *group) size() int {
	return groupBytes + 2*len(g.id) + g.bytes + len(g.pending)*pendingBytes + g.offsetBytes + g.history.bytes
}

// account tells the budget of what g has become.
func (s *Shard) account(g *group) {
	if s.groups[g.id] != g {
		return // dropped
	}
	n := g.size()
	s.opts.budget.take(n - g.counted)
	g.counted = n
}

// unaccount takes g out of the budget.
func (s *Shard) unaccount(g *group) {
	s.opts.budget.take(-g.counted)
	g.counted = 0
}

// room says whether the broker's groups may grow by n bytes.
func (s *Shard) room(n int) bool { return n <= 0 || s.opts.budget.has(n) }

// because adds a reason to the group's rebalance, or begins one.
func (s *Shard) because(g *group, why string) {
	g.history.because(s.nowMs(), why)
	s.account(g)
}

// settle closes the group's rebalance.
func (s *Shard) settle(g *group, members int) {
	g.history.settle(s.nowMs(), g.generation, members)
	s.account(g)
}

// offsetSize is what one committed offset takes.
func offsetSize(o committed) int { return offsetBytes + len(o.metadata) }

// topicSize is what a topic with offsets takes beside them.
func topicSize(topic string) int { return topicBytes + len(topic) }

// offsetGrowth is by how much the group grows when the offset is set.
func (g *group) offsetGrowth(topic string, partition int32, o committed) int {
	ps, ok := g.offsets[topic]
	n := offsetSize(o)
	if !ok {
		n += topicSize(topic)
	}
	if old, ok := ps[partition]; ok {
		n -= offsetSize(old)
	}
	return n
}

// idPrefix is what of a client id stands at the beginning of its member id. Records and old
// versions of the protocol have room for strings of 32 KiB only, and client ids may have that
// length themselves.
func idPrefix(clientID string) string { return cutText(clientID, maxClientIDBytes) }

// cutText cuts a string to n bytes, and not within a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// partitionKey names a partition in one request.
type partitionKey struct {
	topic     string
	partition int32
}

// repeated finds the partitions that a commit names more than once; nil for none.
func repeated(req *kmsg.OffsetCommitRequest) map[partitionKey]bool {
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	if n < 2 {
		return nil
	}
	seen := make(map[partitionKey]bool, n)
	var twice map[partitionKey]bool
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			k := partitionKey{req.Topics[i].Topic, req.Topics[i].Partitions[j].Partition}
			if seen[k] {
				if twice == nil {
					twice = map[partitionKey]bool{}
				}
				twice[k] = true
			}
			seen[k] = true
		}
	}
	return twice
}
