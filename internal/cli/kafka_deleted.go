package cli

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// suspectUnknown takes note of the topics that a poll found unknown.
func (c *consumer) suspectUnknown(fs kgo.Fetches) {
	fs.EachError(func(t string, _ int32, err error) {
		if k := protocolError(convert(err)); t != "" && (k == kerr.UnknownTopicID || k == kerr.UnknownTopicOrPartition) {
			c.suspects[t] = true
		}
	})
}

// fate is what became of a topic.
type fate int

const (
	alive     fate = iota
	deleted        // there is none of this name
	recreated      // there is another one of this name
)

// lookUp asks for the fate of the topic that had this name and id.
func (c *client) lookUp(ctx context.Context, topic, id string) (fate, error) {
	req := kmsg.NewPtrMetadataRequest() // kadm may answer with what it heard before
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c.cl)
	if err != nil {
		return alive, c.explain(err)
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		switch err := errorOf(t.ErrorCode, nil); {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			return deleted, nil
		case err != nil:
			return alive, err
		case id != "" && model.TopicID(t.TopicID).String() != id:
			return recreated, nil
		}
	}
	return alive, nil
}

// drop ends the reading of a topic. It must not be called between poll and release: it makes
// the group rebalance.
func (c *consumer) drop(topic string) {
	delete(c.suspects, topic)
	c.cl.PurgeTopicsFromClient(topic)
}
