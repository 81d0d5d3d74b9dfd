package group

import (
	"encoding/binary"
	"fmt"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
)

// Offsets are kept under the names of topics, as Kafka keeps them, and a name may come to
// stand for another topic: deleted and created again while no coordinator lived that would
// have seen it. The shard therefore writes down once per topic name which topic it stands
// for, before the first offset of it, in a record of its own kind (docs/format/consumer-offsets.md).
// Kafka's readers pass over keys of a version that they do not know. When the shard is
// loaded, offsets under a name that stands for another topic now are taken back.

const (
	// topicKey is the version of the key of such a record: "K" and 1. Kafka numbers its kinds
	// upwards from 0. Frozen.
	topicKey = 0x4b01
	// topicValue is the version of its value.
	topicValue = 1
	// topicValueLen is the length of a value: version and topic id.
	topicValueLen = 2 + 16
)

func topicRecordKey(topic string) []byte {
	b := binary.BigEndian.AppendUint16(nil, topicKey)
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	return append(b, topic...)
}

// writeTopic notes which topic the offsets under a name are of.
func (s *Shard) writeTopic(topic string, id model.TopicID) {
	v := binary.BigEndian.AppendUint16(make([]byte, 0, topicValueLen), topicValue)
	s.append(topicRecordKey(topic), append(v, id[:]...))
	s.topicIDs[topic] = id
}

func (s *Shard) replayTopic(r *record.Record) error {
	k := r.Key[2:]
	if len(k) < 2 || int(binary.BigEndian.Uint16(k)) != len(k)-2 {
		return errKey
	}
	topic := string(k[2:])
	switch {
	case r.Value == nil:
		delete(s.topicIDs, topic)
		return nil
	case len(r.Value) < topicValueLen || binary.BigEndian.Uint16(r.Value) != topicValue:
		return fmt.Errorf("id of topic %s: the value is cut short or of another version", topic)
	}
	s.topicIDs[topic] = model.TopicID(r.Value[2:topicValueLen])
	return nil
}

// knowTopic prepares for a commit under a name; false when no topic has it any more.
func (s *Shard) knowTopic(topic string) bool {
	if s.opts.TopicID == nil {
		return true
	}
	id := s.opts.TopicID(topic)
	if id == (model.TopicID{}) {
		return false
	}
	known, ok := s.topicIDs[topic]
	if ok && known == id {
		return true
	}
	if ok {
		s.forgetTopic(topic)
	}
	s.writeTopic(topic, id)
	return true
}

// isSame says whether the offsets under a name are those of the topic that has it now.
func (s *Shard) isSame(topic string) bool {
	id := s.opts.TopicID(topic)
	known, ok := s.topicIDs[topic]
	return id != (model.TopicID{}) && (!ok || known == id)
}

// settleTopics takes back, after a load, the offsets of topics that are gone, and notes the
// topics of offsets that were written before there were such notes.
func (s *Shard) settleTopics() {
	if s.opts.TopicID == nil {
		return
	}
	used := map[string]bool{}
	for _, g := range s.groups {
		for t := range g.offsets {
			used[t] = true
		}
	}
	for _, t := range sortedKeys(used) {
		if !s.isSame(t) {
			s.forgetTopic(t)
			delete(used, t)
			continue
		}
		if _, ok := s.topicIDs[t]; !ok {
			s.writeTopic(t, s.opts.TopicID(t))
		}
	}
	for _, t := range sortedKeys(s.topicIDs) {
		if !used[t] {
			s.forgetTopic(t)
		}
	}
}

// forgetTopics removes what groups committed to topics that were deleted. One that was
// created again, and committed to since, is not meant.
func (s *Shard) forgetTopics(e topicsDeleted) {
	for _, t := range e.topics {
		if s.opts.TopicID != nil {
			if _, ok := s.topicIDs[t]; ok && s.isSame(t) {
				continue
			}
		}
		s.forgetTopic(t)
	}
}

// forgetTopic removes what groups committed under a name, and what the name stood for.
func (s *Shard) forgetTopic(topic string) {
	for _, id := range sortedKeys(s.groups) {
		g := s.groups[id]
		if g.offsets[topic] == nil {
			continue
		}
		for _, p := range sortedKeys(g.offsets[topic]) {
			s.writeOffsetTombstone(g, topic, p)
			g.forgetOffset(topic, p)
		}
		s.account(g)
		if g.isVoid() && g != s.committing {
			s.drop(g)
		}
	}
	if _, ok := s.topicIDs[topic]; ok {
		s.append(topicRecordKey(topic), nil)
		delete(s.topicIDs, topic)
	}
}
