package scenario

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/kalda-io/kalda/interop/client"
)

// oldProducer writes message sets, as a client does that takes the broker for an old one, and reads
// record batches. Format 0 has no times.
func oldProducer(v client.BrokerVersion, codec client.Codec) func(context.Context, *Env) error {
	return func(ctx context.Context, e *Env) error {
		topic, err := e.topic(ctx, 1, nil)
		if err != nil {
			return err
		}
		recs := numbered(0, 0, 200)
		for i := range recs {
			recs[i].Value = append(recs[i].Value, bytes.Repeat([]byte(" compressible"), 40)...)
		}
		recs[100].Value = nil
		before := time.Now().UnixMilli()
		acks, err := e.Client.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll, Codec: codec, Old: v}, recs)
		if err != nil {
			return err
		}
		if err := checkAcks(acks, len(recs), 0, 0); err != nil {
			return err
		}
		// A set that does not become smaller is sent as it is, so the codec is certain of the first.
		seen, err := e.Observer.Inspect(ctx, topic, 0, 1)
		if err != nil {
			return err
		}
		if seen[0].Codec != codec {
			return fmt.Errorf("the first batch has the codec %s, want %s", seen[0].Codec, codec)
		}
		got, err := e.Observer.Read(ctx, topic, 0, client.Earliest, len(recs))
		if err != nil {
			return err
		}
		for _, r := range got {
			if has := r.Timestamp >= before; has != (v == client.Kafka010) || !has && r.Timestamp != -1 {
				return fmt.Errorf("record %d from a producer for %s has the time %d", r.Offset, v, r.Timestamp)
			}
		}
		return e.readBack(ctx, topic, 0, recs)
	}
}

// topicCodec has the broker compress what the client sends in another codec, and changes that on
// the way.
func topicCodec(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, nil)
	if err != nil {
		return err
	}
	var all []client.Record
	for _, want := range []client.Codec{client.Zstd, client.Snappy, client.LZ4, client.Gzip, client.None} {
		value := string(want)
		if want == client.None {
			value = "uncompressed"
		}
		if err := e.Observer.SetTopicConfig(ctx, topic, "compression.type", value); err != nil {
			return err
		}
		// The change is there when what the observer writes shows it.
		err := await(ctx, "compression.type="+value, 20*time.Second, func() (bool, string) {
			recs := numbered(0, len(all), len(all)+1)
			if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, recs); err != nil {
				return false, err.Error()
			}
			all = append(all, recs...)
			seen, err := e.Observer.Inspect(ctx, topic, 0, len(all))
			if err != nil {
				return false, err.Error()
			}
			return seen[len(all)-1].Codec == want, fmt.Sprintf("codec %s", seen[len(all)-1].Codec)
		})
		if err != nil {
			return err
		}
		for _, sent := range []client.Codec{client.None, client.Gzip} {
			recs := numbered(0, len(all), len(all)+20)
			acks, err := e.Client.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll, Codec: sent}, recs)
			if err != nil {
				return err
			}
			if err := checkAcks(acks, len(recs), 0, int64(len(all))); err != nil {
				return err
			}
			all = append(all, recs...)
			seen, err := e.Observer.Inspect(ctx, topic, 0, len(all))
			if err != nil {
				return err
			}
			for i := len(all) - len(recs); i < len(all); i++ {
				if seen[i].Codec != want {
					return fmt.Errorf("offset %d was sent in %s and lies in %s, want %s", i, sent, seen[i].Codec, want)
				}
			}
		}
	}
	return e.readBack(ctx, topic, 0, all)
}

// brokersTime has the broker set the time, which every reader tells, and by which offsets are found.
func brokersTime(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	if err != nil {
		return err
	}
	old := numbered(0, 0, 1)
	old[0].Timestamp = time.Now().Add(-time.Hour).UnixMilli()
	before := time.Now().UnixMilli()
	if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, old); err != nil {
		return err
	}
	recs := numbered(0, 1, 11)
	acks, err := e.Client.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll, Codec: client.Gzip}, recs)
	if err != nil {
		return err
	}
	if err := checkAcks(acks, len(recs), 0, 1); err != nil {
		return err
	}
	after := time.Now().UnixMilli()
	check := func(who string, c client.Client) error {
		got, err := c.Read(ctx, topic, 0, client.Earliest, 11)
		if err != nil {
			return fmt.Errorf("%s reads: %w", who, err)
		}
		for _, r := range got {
			if r.Timestamp < before || r.Timestamp > after {
				return fmt.Errorf("%s: record %d has the time %d, appended between %d and %d", who, r.Offset, r.Timestamp, before, after)
			}
		}
		return nil
	}
	if err := check("the observer", e.Observer); err != nil {
		return err
	}
	at, err := e.Client.Offset(ctx, topic, 0, before-1)
	switch {
	case err != nil:
		return err
	case at != 0:
		return fmt.Errorf("offset %d was the first after %d, want 0", at, before-1)
	}
	if c, ok := e.Client.(client.Timeless); ok {
		return &client.Unsupported{Reason: c.NoAppendTime()}
	}
	return check("the client", e.Client)
}
