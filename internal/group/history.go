package group

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TagRebalances is the number of the tagged field in the groups of DescribeGroups v5 and
// later that holds the rebalance history; docs/format/kalda-tags.md describes it.
const TagRebalances = 10000

const (
	// historyLength is how many rebalances a group remembers.
	historyLength = 16
	// maxReasons is how many reasons one rebalance remembers.
	maxReasons = 8
)

// Rebalance is one entry of a group's history.
type Rebalance struct {
	// StartedMs and EndedMs are ms since 1970; EndedMs is 0 while it goes on.
	StartedMs int64 `json:"startedMs"`
	EndedMs   int64 `json:"endedMs,omitempty"`
	// Generation is the one that it led to; 0 while it goes on.
	Generation int32 `json:"generation,omitempty"`
	// Members is how many members that generation has.
	Members int `json:"members"`
	// Reasons say in the order of events why; More is how many were left out.
	Reasons []string `json:"reasons"`
	More    int      `json:"more,omitempty"`
}

// DecodeRebalances reads the value of the tagged field TagRebalances, oldest first.
func DecodeRebalances(b []byte) ([]Rebalance, error) {
	var rs []Rebalance
	if err := json.Unmarshal(b, &rs); err != nil {
		return nil, fmt.Errorf("rebalance history: %w", err)
	}
	return rs, nil
}

// history is what a group remembers of its rebalances, in memory only: it begins anew
// when the coordinator moves.
type history struct {
	past []Rebalance
	// open is the one that goes on, nil when there is none.
	open *Rebalance
	// bytes is what the reasons take.
	bytes int
}

// because adds a reason to the rebalance that goes on, or opens one.
func (h *history) because(nowMs int64, why string) {
	if h.open == nil {
		h.open = &Rebalance{StartedMs: nowMs}
	}
	if len(h.open.Reasons) == maxReasons {
		h.open.More++
		return
	}
	why = cutText(why, maxReasonBytes)
	h.bytes += len(why)
	h.open.Reasons = append(h.open.Reasons, why)
}

// settle closes the rebalance that goes on.
func (h *history) settle(nowMs int64, generation int32, members int) {
	if h.open == nil {
		return
	}
	h.open.EndedMs, h.open.Generation, h.open.Members = nowMs, generation, members
	if len(h.past) == historyLength {
		for _, why := range h.past[0].Reasons {
			h.bytes -= len(why)
		}
		h.past = slices.Delete(h.past, 0, 1)
	}
	h.past = append(h.past, *h.open)
	h.open = nil
}

// encode renders the history, oldest first, the open one last.
func (h *history) encode() []byte {
	all := slices.Clone(h.past)
	if h.open != nil {
		all = append(all, *h.open)
	}
	if all == nil {
		all = []Rebalance{}
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err) // plain strings and numbers
	}
	return b
}

// measureTopics remembers how large the group's topics are in this generation.
func (s *Shard) measureTopics(g *group) {
	g.sizes = make(map[string]int32, len(g.subscribed))
	for t := range g.subscribed {
		g.sizes[t] = s.opts.TopicPartitions(t)
	}
}

// rejoinReason finds out why a member that is in the group joins again.
func (s *Shard) rejoinReason(g *group, m *member, req *kmsg.JoinGroupRequest) string {
	for _, t := range sortedKeys(g.sizes) {
		switch was, is := g.sizes[t], s.opts.TopicPartitions(t); {
		case is > was && was > 0:
			return fmt.Sprintf("topic %s grew from %d to %d partitions", t, was, is)
		case is > was:
			return fmt.Sprintf("topic %s was created", t)
		case is < was:
			return fmt.Sprintf("topic %s was deleted", t)
		}
	}
	if m.matches(req.Protocols) { // only a leader of a stable group gets here
		return withReason(m.name()+": the leader rejoined", req.Reason)
	}
	for i := range req.Protocols {
		if g.protocolType == consumerProtocol && req.Protocols[i].Name == g.protocol {
			switch compareSubscriptions(m.metadata(g.protocol), req.Protocols[i].Metadata) {
			case topicsDiffer:
				return withReason(m.name()+": rejoined with new subscription", req.Reason)
			case ownedDiffer:
				return withReason(m.name()+": rejoined after its partitions changed", req.Reason)
			}
		}
	}
	return withReason(m.name()+": rejoined with new metadata", req.Reason)
}
