package load

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kalda-io/kalda/chaos/history"
)

// ProduceIdempotent sends to the partitions of topic in turn, acks=all, until ctx ends, and then waits for
// all that is under way unless hard ends. It is one client for the whole run: retries are its own business.
func (c *Clients) ProduceIdempotent(ctx, hard context.Context, process, topic string) error {
	partitions := int(c.partitions(topic))
	cl, err := c.client(kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(time.Millisecond), kgo.ProducerBatchMaxBytes(batchBytes), kgo.MaxBufferedRecords(outstanding),
		// A gap in the sequences must end the run rather than be healed with a new producer id.
		kgo.StopProducerOnDataLossDetected())
	if err != nil {
		return err
	}
	defer cl.Close()
	// Not ctx: a record that is under way is not given up when the load ends, or its fate would be
	// unknown. The bound is for a node that never came back.
	life, cancel := lifetime(ctx, hard)
	defer cancel()
	tick := time.NewTicker(burstEvery)
	defer tick.Stop()
	var failed Workers
	for n := 0; ctx.Err() == nil; n++ {
		if n%burst == 0 {
			<-tick.C
		}
		value := process + "/" + strconv.Itoa(n)
		e := history.Event{Process: process, F: history.Send, Topic: topic, Partition: int32(n % partitions), Value: value, Invoke: c.log.Now()}
		rec := &kgo.Record{Partition: e.Partition, Key: []byte(value), Value: payload(value, n)}
		e.Sum = history.Sum(rec.Key, rec.Value)
		cl.Produce(life, rec, func(got *kgo.Record, err error) {
			e.Offset, e.Type = got.Offset, history.OK
			switch {
			case err == nil:
				c.Idempotent.Add(1)
			default:
				e.Offset, e.Type, e.Error = -1, history.Info, err.Error()
				failed.Run(func() error { return fmt.Errorf("%s: %s: %w", process, value, err) })
			}
			c.log.Add(e)
		})
		select {
		case <-failed.Failed():
			return failed.Wait()
		default:
		}
	}
	if err := cl.Flush(life); err != nil {
		return fmt.Errorf("%s: given up with %d records that have no answer: %w", process, cl.BufferedProduceRecords(), err)
	}
	return failed.Wait()
}
