package load

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Prepare creates the topics of a run with one replica and waits until every
// partition has a leader.
func Prepare(ctx context.Context, o Options) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Addr), kgo.RetryTimeout(10*time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	create := kmsg.NewPtrCreateTopicsRequest()
	metadata := kmsg.NewPtrMetadataRequest()
	create.TimeoutMillis = 10000
	for i := range o.Topics {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = topicName(o.Prefix, i), int32(o.Partitions), 1
		create.Topics = append(create.Topics, t)
		m := kmsg.NewMetadataRequestTopic()
		m.Topic = kmsg.StringPtr(t.Topic)
		metadata.Topics = append(metadata.Topics, m)
	}
	created, err := create.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for _, t := range created.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("create topic %s: %w", t.Topic, err)
		}
	}
	for {
		answer, err := metadata.RequestWith(ctx, cl)
		if err != nil {
			return fmt.Errorf("metadata: %w", err)
		}
		led := 0
		for _, t := range answer.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 && p.Leader >= 0 {
					led++
				}
			}
		}
		if led == o.Topics*o.Partitions {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d partitions have a leader: %w", led, o.Topics*o.Partitions, ctx.Err())
		}
	}
}
