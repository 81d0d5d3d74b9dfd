package scenario

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kalda-io/kalda/interop/client"
)

// checkAcks demands that a fresh partition acknowledged records at 0, 1, 2 and so on.
func checkAcks(acks []client.Ack, n int, partition int32, from int64) error {
	if len(acks) != n {
		return fmt.Errorf("%d acknowledgements for %d records", len(acks), n)
	}
	for i, a := range acks {
		if want := (client.Ack{Partition: partition, Offset: from + int64(i)}); a != want {
			return fmt.Errorf("record %d was acknowledged at %v, want %v", i, a, want)
		}
	}
	return nil
}

// readBack reads a partition from its start through the client and through the observer and
// compares both with what was written.
func (e *Env) readBack(ctx context.Context, topic string, partition int32, want []client.Record) error {
	got, err := e.Observer.Read(ctx, topic, partition, client.Earliest, len(want))
	if err != nil {
		return fmt.Errorf("the observer reads %s-%d: %w", topic, partition, err)
	}
	if err := same("the observer", want, got, 0); err != nil {
		return err
	}
	got, err = e.Client.Read(ctx, topic, partition, client.Earliest, len(want))
	if err != nil {
		return fmt.Errorf("read %s-%d: %w", topic, partition, err)
	}
	if lossy, ok := e.Client.(client.Lossy); ok {
		want = slices.Clone(want)
		for i := range want {
			want[i] = lossy.AsRead(want[i])
		}
	}
	return same("the client", want, got, 0)
}

// roundTrip sends every shape of record and reads it back.
func roundTrip(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 2, nil)
	if err != nil {
		return err
	}
	recs := []client.Record{
		{Key: []byte("key"), Value: []byte("value")},
		{Value: []byte("no key")},
		{Key: []byte{}, Value: []byte("empty key")},
		{Key: []byte("empty value"), Value: []byte{}},
		{Key: []byte("null value")},
		{Key: []byte("k"), Value: []byte("one header"), Headers: []client.Header{{Key: "h", Value: []byte("x")}}},
		{Key: []byte("k"), Value: []byte("headers"), Headers: []client.Header{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte{}}, {Key: "a", Value: []byte("2")}}},
		{Key: []byte("\x00\x01\xff"), Value: []byte("line one\nline two\r\n\x00\xfe 한글")},
		{Key: []byte("large"), Value: bytes.Repeat([]byte("0123456789abcdef"), 900<<10/16)},
		{Key: []byte("key"), Value: []byte("last")},
	}
	for i := range recs {
		recs[i].Partition = 1
	}
	acks, err := e.Client.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, recs)
	if err != nil {
		return err
	}
	if err := checkAcks(acks, len(recs), 1, 0); err != nil {
		return err
	}
	if err := e.readBack(ctx, topic, 1, recs); err != nil {
		return err
	}
	end, err := e.Observer.Offset(ctx, topic, 0, client.Latest)
	if err == nil && end != 0 {
		err = fmt.Errorf("partition 0 got %d records that were meant for partition 1", end)
	}
	return err
}

// withAcks writes with one value of acks. With 0 nothing is promised, so the end is awaited.
func withAcks(acks client.Acks) func(context.Context, *Env) error {
	return func(ctx context.Context, e *Env) error {
		topic, err := e.topic(ctx, 1, nil)
		if err != nil {
			return err
		}
		const n = 100
		recs := numbered(0, 0, n)
		got, err := e.Client.Produce(ctx, topic, client.ProduceOptions{Acks: acks}, recs)
		if err != nil {
			return err
		}
		if acks == client.AcksNone {
			for i, a := range got {
				if a.Offset != -1 {
					return fmt.Errorf("record %d has offset %d although no answer was asked for", i, a.Offset)
				}
			}
			err = await(ctx, "all records arrive", 20*time.Second, func() (bool, string) {
				end, err := e.Observer.Offset(ctx, topic, 0, client.Latest)
				return end == n, fmt.Sprintf("log end %d, %v", end, err)
			})
		} else {
			err = checkAcks(got, n, 0, 0)
		}
		if err != nil {
			return err
		}
		return e.readBack(ctx, topic, 0, recs)
	}
}

// withCodec writes compressed batches and demands that they are compressed that way in the log.
func withCodec(codec client.Codec) func(context.Context, *Env) error {
	return func(ctx context.Context, e *Env) error {
		topic, err := e.topic(ctx, 1, nil)
		if err != nil {
			return err
		}
		recs := numbered(0, 0, 200)
		for i := range recs {
			recs[i].Value = append(recs[i].Value, bytes.Repeat([]byte(" compressible"), 40)...)
		}
		acks, err := e.Client.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll, Codec: codec}, recs)
		if err != nil {
			return err
		}
		if err := checkAcks(acks, len(recs), 0, 0); err != nil {
			return err
		}
		seen, err := e.Observer.Inspect(ctx, topic, 0, len(recs))
		if err != nil {
			return err
		}
		for i, s := range seen {
			if s.Codec != codec {
				return fmt.Errorf("offset %d lies in a batch with codec %s, want %s", i, s.Codec, codec)
			}
		}
		return e.readBack(ctx, topic, 0, recs)
	}
}

// idempotent writes with a producer id, several times over.
func idempotent(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, nil)
	if err != nil {
		return err
	}
	const runs, perRun = 3, 100
	var all []client.Record
	for i := range runs {
		recs := numbered(0, i*perRun, (i+1)*perRun)
		acks, err := e.Client.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll, Idempotent: true}, recs)
		if err != nil {
			return err
		}
		if err := checkAcks(acks, perRun, 0, int64(len(all))); err != nil {
			return err
		}
		all = append(all, recs...)
	}
	seen, err := e.Observer.Inspect(ctx, topic, 0, len(all))
	if err != nil {
		return err
	}
	for i, s := range seen {
		if s.ProducerID < 0 {
			return fmt.Errorf("offset %d has no producer id", i)
		}
	}
	return e.readBack(ctx, topic, 0, all)
}

// offsets looks offsets up before and after the log start moved.
func offsets(ctx context.Context, e *Env) error {
	topic, err := e.topic(ctx, 1, nil)
	if err != nil {
		return err
	}
	// Ten batches of one record, a second apart. The time lies in the past, because a broker may
	// refuse the future, and within the retention.
	base := time.Now().Add(-time.Hour).UnixMilli()
	for i, r := range numbered(0, 0, 10) {
		r.Timestamp = base + int64(i)*1000
		if _, err := e.Observer.Produce(ctx, topic, client.ProduceOptions{Acks: client.AcksAll}, []client.Record{r}); err != nil {
			return err
		}
	}
	check := func(what string, at, want int64) error {
		got, err := e.Client.Offset(ctx, topic, 0, at)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if got != want {
			return fmt.Errorf("%s: offset %d, want %d", what, got, want)
		}
		return nil
	}
	for _, c := range []struct {
		what     string
		at, want int64
	}{
		{"earliest", client.Earliest, 0},
		{"latest", client.Latest, 10},
		{"a time before all records", base - 1, 0},
		{"the exact time of record 3", base + 3000, 3},
		{"just after record 3", base + 3001, 4},
		{"the time of the last record", base + 9000, 9},
		{"a time after all records", base + 9001, -1},
	} {
		if err := check(c.what, c.at, c.want); err != nil {
			return err
		}
	}
	if err := e.Observer.DeleteRecords(ctx, topic, 0, 4); err != nil {
		return err
	}
	if err := check("earliest after records were deleted", client.Earliest, 4); err != nil {
		return err
	}
	return check("a time before the log start", base, 4)
}
