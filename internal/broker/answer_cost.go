package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
)

// Answers that kmsg encodes are made whole before they are sent, and a few bytes can ask for
// very long ones: 20 for all partitions of a cluster. So each is announced to the server, which
// lets it wait while unread answers take what there is for them
// (kalda.queued.max.response.bytes). What it will take is estimated from the request and the
// image: the structs of the answer and its bytes, with what append leaves behind. A test
// compares the estimates with what is allocated.
const (
	// costAsked is the part of a request's own decoded size that its answer takes where it
	// has an entry for each of the request's.
	costAsked = 6
	// costTopic and costPartition are one topic and one partition of what describes topics.
	costTopic, costPartition = 400, 320
	// costConfigs is a resource of a DescribeConfigs answer or a created topic's
	// configuration, costConfigTexts what documentation and synonyms add.
	costConfigs, costConfigTexts = 16 << 10, 24 << 10
	// maxGroupsCost bounds what an answer about groups is taken for: how large it will be only
	// their shards know.
	maxGroupsCost = 64 << 20
	// manyCost is from where on it is worth to go through all topics for a better estimate.
	manyCost = 4 << 20
)

// answerCost is about how many bytes the answer to req will take, decoded is what req takes.
func (b *Broker) answerCost(req kmsg.Request, decoded int) int {
	n := costAsked * decoded
	switch req := req.(type) {
	case *kmsg.MetadataRequest:
		n += b.metadataCost(req)
	case *kmsg.DescribeTopicPartitionsRequest:
		n += b.o.MaxTopicPartitions * costPartition
		if len(req.Topics) == 0 {
			n += min(len(b.o.Image().Topics), b.o.MaxTopicPartitions) * costTopic
		}
	case *kmsg.DescribeLogDirsRequest:
		im := b.o.Image()
		if req.Topics == nil {
			n += imageCost(im)
			break
		}
		for i := range req.Topics {
			n += topicCost(im.Topics[req.Topics[i].Topic])
		}
	case *kmsg.DescribeConfigsRequest:
		each := costConfigs
		if req.IncludeDocumentation || req.IncludeSynonyms {
			each += costConfigTexts
		}
		n += len(req.Resources) * each
	case *kmsg.CreateTopicsRequest:
		if req.Version >= 5 {
			n += len(req.Topics) * costConfigs
		}
	case *kmsg.ListConfigResourcesRequest:
		n += len(b.o.Image().Topics) * costTopic
	case *kmsg.ListGroupsRequest:
		n += b.groupsCost(1, 4)
	case *kmsg.DescribeGroupsRequest:
		n += b.groupsCost(2, 1)
	case *kmsg.OffsetFetchRequest:
		all := req.Version < 8 && req.Topics == nil
		for i := range req.Groups {
			all = all || req.Groups[i].Topics == nil
		}
		if all {
			n += b.groupsCost(2, 1)
		}
	case *kmsg.JoinGroupRequest, *kmsg.SyncGroupRequest, *kmsg.OffsetCommitRequest:
		// Members must not wait for each other's answers, which a group's bound keeps small.
		return 0
	}
	return n
}

// groupsCost is a part of what all groups take.
func (b *Broker) groupsCost(times, part int64) int {
	if b.o.Groups == nil {
		return 0
	}
	return int(min(b.o.Groups.Bytes()*times/part, maxGroupsCost))
}

func (b *Broker) metadataCost(req *kmsg.MetadataRequest) int {
	im := b.o.Image()
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		return imageCost(im)
	}
	n := 0
	for i := range req.Topics {
		switch t := &req.Topics[i]; {
		case t.TopicID != (model.TopicID{}):
			n += topicCost(im.TopicsByID[t.TopicID])
		case t.Topic != nil:
			n += topicCost(im.Topics[*t.Topic])
		}
	}
	if n > manyCost {
		n = min(n, imageCost(im)) // each is told once, however often it is named
	}
	return n
}

func imageCost(im *meta.Image) int {
	n := 0
	for _, t := range im.Topics {
		n += topicCost(t)
	}
	return n
}

// topicCost is what is told of a topic; 0 for none.
func topicCost(t *meta.Topic) int {
	if t == nil {
		return 0
	}
	replicas := 0
	if len(t.Partitions) > 0 {
		replicas = len(t.Partitions[0].Replicas)
	}
	return costTopic + 2*len(t.Name) + len(t.Partitions)*(costPartition+40*replicas)
}
