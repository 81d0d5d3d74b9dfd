package group

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/record"
)

// Versions of Kafka's keys in __consumer_offsets; the first two bytes of a key. Frozen.
const (
	offsetKeyMax   = 1 // 0 and 1 are OffsetCommit keys
	groupKey       = 2
	offsetKeyWrite = 1
	// groupValue and offsetValue are the versions that Kafka 2.1 to 4.4 write and read.
	groupValue  = 3
	offsetValue = 3
	// offsetValueExpire is the one version that has an expiry of its own.
	offsetValueExpire = 1
	// maxValue is the highest version of a value that is read. The next one begins the
	// flexible encoding, of which nothing is in use, and in which four bytes can ask the
	// decoder for four billion tagged fields.
	maxValue = 3
)

// committed is one committed offset.
type committed struct {
	offset      int64
	leaderEpoch int32
	metadata    string
	// commitMs is when it was committed and expireMs when the client wants it to expire,
	// -1 if it did not say; ms since 1970.
	commitMs, expireMs int64
}

// writeGroup appends the group as it stands, which is Empty or Stable.
func (s *Shard) writeGroup(g *group) {
	k := kmsg.GroupMetadataKey{Version: groupKey, Group: g.id}
	v := kmsg.NewGroupMetadataValue()
	v.Version = groupValue
	v.ProtocolType = g.protocolType
	v.Generation = g.generation
	v.CurrentStateTimestamp = g.stateSince
	if g.protocol != "" {
		v.Protocol = kmsg.StringPtr(g.protocol)
	}
	if g.leader != nil {
		v.Leader = kmsg.StringPtr(g.leader.id)
	}
	for _, m := range g.members {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID = m.id
		vm.InstanceID = m.instance
		vm.ClientID = m.clientID
		vm.ClientHost = m.host
		vm.RebalanceTimeoutMillis = int32(m.rebalanceTimeout / time.Millisecond)
		vm.SessionTimeoutMillis = int32(m.sessionTimeout / time.Millisecond)
		vm.Subscription = m.metadata(g.protocol)
		vm.Assignment = m.assignment
		v.Members = append(v.Members, vm)
	}
	g.written = true
	s.append(k.AppendTo(nil), v.AppendTo(nil))
}

func (s *Shard) writeGroupTombstone(g *group) {
	k := kmsg.GroupMetadataKey{Version: groupKey, Group: g.id}
	s.append(k.AppendTo(nil), nil)
}

func (s *Shard) writeOffset(g *group, topic string, partition int32, o committed) {
	v := kmsg.NewOffsetCommitValue()
	v.Version = offsetValue
	if o.expireMs >= 0 {
		v.Version = offsetValueExpire
		v.ExpireTimestamp = o.expireMs
	}
	v.Offset = o.offset
	v.LeaderEpoch = o.leaderEpoch
	v.Metadata = o.metadata
	v.CommitTimestamp = o.commitMs
	s.append(offsetKey(g.id, topic, partition), v.AppendTo(nil))
}

func (s *Shard) writeOffsetTombstone(g *group, topic string, partition int32) {
	s.append(offsetKey(g.id, topic, partition), nil)
}

func offsetKey(group, topic string, partition int32) []byte {
	k := kmsg.OffsetCommitKey{Version: offsetKeyWrite, Group: group, Topic: topic, Partition: partition}
	return k.AppendTo(nil)
}

// errKey is the error for a record that has no key of a kind we know.
var errKey = errors.New("the key is cut short or null")

// checkValue refuses values of versions that this code does not know.
func checkValue(b []byte) error {
	if len(b) < 2 {
		return errors.New("the value is cut short")
	}
	if v := int16(binary.BigEndian.Uint16(b)); v < 0 || v > maxValue {
		return fmt.Errorf("the value has version %d", v)
	}
	return nil
}

// Replay implements coordinator.Core. Records of kinds that later versions add are
// passed over, as Kafka does.
func (s *Shard) Replay(r *record.Record) error {
	if len(r.Key) < 2 {
		return errKey
	}
	switch version := int16(binary.BigEndian.Uint16(r.Key)); {
	case version >= 0 && version <= offsetKeyMax:
		return s.replayOffset(r)
	case version == groupKey:
		return s.replayGroup(r)
	case version == topicKey:
		return s.replayTopic(r)
	}
	return nil
}

func (s *Shard) replayOffset(r *record.Record) error {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("offset commit key: %w", err)
	}
	g := s.groups[k.Group]
	if r.Value == nil {
		if g != nil {
			g.forgetOffset(k.Topic, k.Partition)
			if g.isVoid() {
				s.drop(g)
			}
		}
		return nil
	}
	var v kmsg.OffsetCommitValue
	if err := checkValue(r.Value); err != nil {
		return fmt.Errorf("offset of group %s: %w", k.Group, err)
	}
	if err := v.ReadFrom(r.Value); err != nil {
		return fmt.Errorf("offset of group %s: %w", k.Group, err)
	}
	o := committed{offset: v.Offset, leaderEpoch: -1, metadata: v.Metadata, commitMs: v.CommitTimestamp, expireMs: -1}
	if v.Version >= 3 {
		o.leaderEpoch = v.LeaderEpoch
	}
	if v.Version == offsetValueExpire && v.ExpireTimestamp >= 0 {
		o.expireMs = v.ExpireTimestamp
	}
	if g == nil {
		g = newGroup(k.Group, r.Timestamp)
		s.install(g)
	}
	g.setOffset(k.Topic, k.Partition, o)
	return nil
}

func (s *Shard) replayGroup(r *record.Record) error {
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("group key: %w", err)
	}
	old := s.groups[k.Group]
	if r.Value == nil {
		if old != nil {
			s.drop(old)
			if len(old.offsets) > 0 { // an offset was committed after the group's end
				g := newGroup(k.Group, r.Timestamp)
				g.offsets, g.offsetBytes = old.offsets, old.offsetBytes
				s.install(g)
			}
		}
		return nil
	}
	var v kmsg.GroupMetadataValue
	if err := checkValue(r.Value); err != nil {
		return fmt.Errorf("group %s: %w", k.Group, err)
	}
	if err := v.ReadFrom(r.Value); err != nil {
		return fmt.Errorf("group %s: %w", k.Group, err)
	}
	g := newGroup(k.Group, v.CurrentStateTimestamp)
	if v.Version < 2 {
		g.stateSince = -1
	}
	g.written = true
	g.generation = v.Generation
	g.protocolType = v.ProtocolType
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	for i := range v.Members {
		s.replayMember(g, &v.Members[i], v.Version)
	}
	if len(g.members) > 0 {
		g.state = stable
		if v.Leader != nil && g.byID[*v.Leader] != nil {
			g.leader = g.byID[*v.Leader]
		}
	} else {
		g.protocol = ""
	}
	g.readSubscriptions()
	s.measureTopics(g)
	if old != nil {
		g.offsets, g.offsetBytes = old.offsets, old.offsetBytes
		s.drop(old)
	}
	s.install(g)
	return nil
}

// replayMember takes one member of a GroupMetadata record in. What cannot be (an id or
// an instance twice, an impossible timeout) is mended, not refused: the record is what
// the log has, and the next rebalance writes a better one.
func (s *Shard) replayMember(g *group, v *kmsg.GroupMetadataValueMember, version int16) {
	if g.byID[v.MemberID] != nil || v.InstanceID != nil && g.static[*v.InstanceID] != nil {
		return
	}
	m := &member{
		id: v.MemberID, instance: v.InstanceID, clientID: v.ClientID, host: v.ClientHost,
		sessionTimeout:   time.Duration(v.SessionTimeoutMillis) * time.Millisecond,
		rebalanceTimeout: time.Duration(v.RebalanceTimeoutMillis) * time.Millisecond,
		// The bytes are the replay buffer's.
		protocols: []protocol{{g.protocol, bytes.Clone(v.Subscription)}},
	}
	m.sessionTimeout = min(max(m.sessionTimeout, s.opts.MinSessionTimeout), s.opts.MaxSessionTimeout)
	if version < 1 || m.rebalanceTimeout < 0 {
		m.rebalanceTimeout = m.sessionTimeout
	}
	m.bytes = memberBytes + len(m.id) + len(m.clientID) + len(m.host) + len(g.protocol) + len(v.Subscription)
	if m.instance != nil {
		m.bytes += len(*m.instance)
	}
	g.add(m, g.protocolType)
	g.setAssignment(m, bytes.Clone(v.Assignment))
}

func (g *group) setOffset(topic string, partition int32, o committed) {
	g.offsetBytes += g.offsetGrowth(topic, partition, o)
	if g.offsets == nil {
		g.offsets = map[string]map[int32]committed{}
	}
	ps := g.offsets[topic]
	if ps == nil {
		ps = map[int32]committed{}
		g.offsets[topic] = ps
	}
	ps[partition] = o
}

func (g *group) forgetOffset(topic string, partition int32) {
	ps := g.offsets[topic]
	old, ok := ps[partition]
	if !ok {
		return
	}
	g.offsetBytes -= offsetSize(old)
	delete(ps, partition)
	if len(ps) == 0 {
		g.offsetBytes -= topicSize(topic)
		delete(g.offsets, topic)
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
