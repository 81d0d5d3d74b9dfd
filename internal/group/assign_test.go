package group

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The client's side of a rebalance: real clients do this, not the coordinator.

// subscribe encodes a consumer's metadata; owned is like "t-0,t-1".
func subscribe(topics []string, owned string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version = 1
	m.Topics = topics
	for _, tp := range list(owned) {
		i := strings.LastIndexByte(tp, '-')
		p, _ := strconv.Atoi(tp[i+1:])
		m.OwnedPartitions = append(m.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: tp[:i], Partitions: []int32{int32(p)}})
	}
	return m.AppendTo(nil)
}

// rangeAssign gives each member a contiguous part of every topic it subscribes to.
func rangeAssign(members []kmsg.JoinGroupResponseMember, topics map[string]int32) []kmsg.SyncGroupRequestGroupAssignment {
	given := map[string]map[string][]int32{}
	for _, m := range members {
		given[m.MemberID] = map[string][]int32{}
	}
	for _, topic := range sortedKeys(topics) {
		var ids []string
		for _, m := range members {
			subscribedTopics(m.ProtocolMetadata, func(t string) bool {
				if t == topic {
					ids = append(ids, m.MemberID)
				}
				return true
			})
		}
		slices.Sort(ids)
		next, n := 0, int(topics[topic])
		for i, id := range ids {
			share := n / len(ids)
			if i < n%len(ids) {
				share++
			}
			for range share {
				given[id][topic] = append(given[id][topic], int32(next))
				next++
			}
		}
	}
	return encodeAssignment(members, given)
}

// cooperativeAssign is range, except that a partition that another member still owns is
// given to nobody yet: its owner has to give it up first and join again (KIP-429).
func cooperativeAssign(members []kmsg.JoinGroupResponseMember, topics map[string]int32) []kmsg.SyncGroupRequestGroupAssignment {
	owner := map[string]string{}
	for _, m := range members {
		var md kmsg.ConsumerMemberMetadata
		_ = md.ReadFrom(m.ProtocolMetadata)
		for _, o := range ownedPartitions(&md) {
			owner[fmt.Sprintf("%s-%d", o.topic, o.partition)] = m.MemberID
		}
	}
	given := map[string]map[string][]int32{}
	for _, a := range rangeAssign(members, topics) {
		given[a.MemberID] = map[string][]int32{}
		for _, tp := range list(assignmentText(a.MemberAssignment)) {
			if o := owner[tp]; o == "" || o == a.MemberID {
				i := strings.LastIndexByte(tp, '-')
				p, _ := strconv.Atoi(tp[i+1:])
				given[a.MemberID][tp[:i]] = append(given[a.MemberID][tp[:i]], int32(p))
			}
		}
	}
	return encodeAssignment(members, given)
}

func encodeAssignment(members []kmsg.JoinGroupResponseMember, given map[string]map[string][]int32) []kmsg.SyncGroupRequestGroupAssignment {
	var as []kmsg.SyncGroupRequestGroupAssignment
	for _, m := range members {
		a := kmsg.NewConsumerMemberAssignment()
		for _, t := range sortedKeys(given[m.MemberID]) {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: t, Partitions: given[m.MemberID][t]})
		}
		as = append(as, kmsg.SyncGroupRequestGroupAssignment{MemberID: m.MemberID, MemberAssignment: a.AppendTo(nil)})
	}
	return as
}

// assignmentText renders an assignment as "t-0,t-1"; "" is nothing.
func assignmentText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(b); err != nil {
		return "?"
	}
	var tps []string
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			tps = append(tps, fmt.Sprintf("%s-%d", t.Topic, p))
		}
	}
	return strings.Join(tps, ",")
}

func printf(w *strings.Builder, format string, args ...any) { fmt.Fprintf(w, format, args...) }

func deref(s *string) string {
	if s == nil {
		return "<dynamic>"
	}
	return *s
}
