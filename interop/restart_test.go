package interop

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/kalda-io/kalda/interop/client"
	"github.com/kalda-io/kalda/interop/target"
)

// idempotentBatch returns a batch of one record by a producer id, with a sequence.
func idempotentBatch(id int64, epoch int16, sequence int32, value string) []byte {
	r := kmsg.Record{Value: []byte(value)}
	r.Length = int32(len(r.AppendTo(nil)) - 1) // its own length of 0 took one byte
	b := kmsg.RecordBatch{Magic: 2, PartitionLeaderEpoch: -1, ProducerID: id, ProducerEpoch: epoch, FirstSequence: sequence, NumRecords: 1,
		FirstTimestamp: time.Now().UnixMilli(), Records: r.AppendTo(nil)}
	b.MaxTimestamp = b.FirstTimestamp
	raw := b.AppendTo(nil)
	const afterLength, crcAt, afterCRC = 12, 17, 21
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-afterLength))
	binary.BigEndian.PutUint32(raw[crcAt:], crc32.Checksum(raw[afterCRC:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// TestRetryAfterKill sends an idempotent batch, kills the node with -9, and sends the same batch to
// the node that came back, as a producer does whose answer was lost. The retry must be answered with
// the offset of the first, in time although nothing else is written to the partition, and must
// not be there twice. Then the sequence goes on.
func TestRetryAfterKill(t *testing.T) {
	if fixture.bin.Kind == target.Kfake {
		t.Skip("kfake forgets its producers' sequences when it is killed")
	}
	for _, policy := range []string{"os", "commit"} {
		t.Run(policy, func(t *testing.T) {
			o := target.Options{DataDir: t.TempDir()}
			node, err := target.Start(t.Context(), fixture.bin, o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { // whichever node runs by then
				if err := node.Stop(20 * time.Second); err != nil {
					t.Error(err)
				}
			}()
			o.Kafka = node.Kafka()
			observer := client.NewFranz(o.Kafka)
			if err := observer.CreateTopic(t.Context(), "t", 1, map[string]string{"kalda.flush.policy": policy}); err != nil {
				t.Fatal(err)
			}
			cl, err := kgo.NewClient(kgo.SeedBrokers(o.Kafka), kgo.MaxVersions(kversion.V3_0_0())) // topics by name
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			id, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(t.Context(), cl)
			if err != nil {
				t.Fatal(err)
			}
			produce := func(sequence int32, wantOffset int64) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				req := kmsg.NewPtrProduceRequest()
				req.Acks, req.TimeoutMillis = -1, 5000
				topic := kmsg.NewProduceRequestTopic()
				topic.Topic = "t"
				partition := kmsg.NewProduceRequestTopicPartition()
				partition.Records = idempotentBatch(id.ProducerID, id.ProducerEpoch, sequence, "value")
				topic.Partitions = append(topic.Partitions, partition)
				req.Topics = append(req.Topics, topic)
				resp, err := req.RequestWith(ctx, cl)
				if err != nil {
					t.Fatalf("sequence %d: %v", sequence, err)
				}
				p := resp.Topics[0].Partitions[0]
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					t.Fatalf("sequence %d: %v", sequence, err)
				}
				if p.BaseOffset != wantOffset {
					t.Fatalf("sequence %d was answered with offset %d, want %d", sequence, p.BaseOffset, wantOffset)
				}
			}
			produce(0, 0)
			produce(1, 1)
			node.Kill()
			again, err := target.Start(t.Context(), fixture.bin, o)
			if err != nil {
				t.Fatal(err)
			}
			node = again
			produce(1, 1) // the retry
			produce(2, 2)
			end, err := observer.Offset(t.Context(), "t", 0, client.Latest)
			if err != nil {
				t.Fatal(err)
			}
			if end != 3 {
				t.Errorf("the log ends at %d, want 3", end)
			}
		})
	}
}
