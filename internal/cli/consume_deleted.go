package cli

import (
	"context"
	"maps"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// A topic can be deleted while it is read. Fetches then fail with an error that also comes,
// for a moment, when a topic is new, and the client tries it again for ever; a member that
// was given a partition of it hears nothing at all. And the client never takes another topic
// of the same name for the one it had. So at such an error and after each rebalance the
// metadata are asked, and a topic that is gone is dropped: the others are read on.

// dropDeleted drops the topics that are gone and says so. With nothing left to read it
// returns an error.
func (r *consumeRun) dropDeleted(ctx context.Context) error {
	if _, changes := r.c.assignment(); changes != r.looked {
		r.looked = changes
		for tp := range r.at {
			r.c.suspects[tp.Topic] = true
		}
	}
	now := r.Now()
	if len(r.c.suspects) == 0 || now.Before(r.nextLook) {
		return nil
	}
	r.nextLook = now.Add(pollWait)
	for _, topic := range slices.Sorted(maps.Keys(r.c.suspects)) {
		bound, cancel := r.within(ctx)
		became, err := r.c.lookUp(bound, topic, r.ids[topic])
		cancel()
		if err != nil {
			return nil // asked again after nextLook
		}
		if became == alive {
			delete(r.c.suspects, topic)
			continue
		}
		r.c.drop(topic)
		ofTopic := func(tp model.TopicPartition, _ int64) bool { return tp.Topic == topic }
		maps.DeleteFunc(r.at, ofTopic)
		maps.DeleteFunc(r.ends, ofTopic)
		switch {
		case len(r.at) > 0 && became == deleted:
			r.note("note: topic %s was deleted; the others are read on", topic)
		case len(r.at) > 0:
			r.note("note: topic %s was deleted and created again; the others are read on, and the new one once the command is run again", topic)
		case became == deleted:
			return &failure{what: "topic " + topic + " was deleted", err: kerr.UnknownTopicOrPartition}
		default:
			return &failure{what: "topic " + topic + " was deleted and created again", hint: "run the command again to read the new one", err: kerr.UnknownTopicID}
		}
	}
	return nil
}
