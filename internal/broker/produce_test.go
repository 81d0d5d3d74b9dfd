package broker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// produced handles one Produce and returns its answer once it is complete.
func (b *bench) produced(t *testing.T, version int16, done func(q *completed)) []kmsg.ProduceResponseTopicPartition {
	t.Helper()
	p := &wire.Pending{Conn: b.conn, Key: 0, Version: version, Body: b.produceBody(version, 2), Arrived: b.b.o.Clock.Boot()}
	var q completed
	p.Bind(&q)
	if got := b.b.Handle(p); got != wire.Parked {
		t.Fatal(got, p.CloseReason)
	}
	b.b.Flush(b.conn)
	if done != nil {
		done(&q)
	}
	if q.n.Load() != 1 {
		t.Fatalf("completed %d times", q.n.Load())
	}
	if p.Encode != nil {
		p.Encode.EncodeAnswer(p)
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = version
	if err := resp.ReadFrom(p.Resp); err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].Partitions
}

// The answer is encoded before the write; a write that fails is told all the same, with
// no offset, in every version.
func TestFailedWriteIsAnswered(t *testing.T) {
	for version := int16(3); version <= 13; version++ {
		faults := vfs.NewFaults(vfs.NewMem())
		b := newBenchOn(t, faults, "topic", 2, 1)
		faults.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Times: 1, Err: errors.New("no space")})
		ps := b.produced(t, version, nil)
		if ps[0].ErrorCode != kerr.KafkaStorageError.Code || ps[0].BaseOffset != -1 {
			t.Errorf("version %d: the failed partition is answered with code %d at offset %d", version, ps[0].ErrorCode, ps[0].BaseOffset)
		}
		if ps[1].ErrorCode != 0 || ps[1].BaseOffset != 0 {
			t.Errorf("version %d: the other partition is answered with code %d at offset %d", version, ps[1].ErrorCode, ps[1].BaseOffset)
		}
		if version >= 5 && ps[0].LogStartOffset != -1 {
			t.Errorf("version %d: log start %d of a failed append", version, ps[0].LogStartOffset)
		}
	}
}

// acks=all that no second replica answers is REQUEST_TIMED_OUT after the request's own
// timeout, to the millisecond.
func TestProduceTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchOn(t, vfs.NewMem(), "topic", 2, 2)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { b.b.o.Wheel.Run(ctx); close(ended) }()
		began := time.Now()
		ps := b.produced(t, 9, func(q *completed) {
			for synctest.Wait(); q.n.Load() == 0; synctest.Wait() {
				<-time.After(time.Millisecond)
			}
		})
		if took := time.Since(began); took != time.Second {
			t.Errorf("answered after %v, want the request's 1 s", took)
		}
		for _, p := range ps {
			if p.ErrorCode != kerr.RequestTimedOut.Code || p.BaseOffset != -1 {
				t.Errorf("code %d at offset %d", p.ErrorCode, p.BaseOffset)
			}
		}
		cancel()
		<-ended
	})
}

// Nobody but its coordinator writes an internal topic.
func TestInternalTopicRefusesClients(t *testing.T) {
	b := newBenchOn(t, vfs.NewMem(), "__consumer_offsets", 2, 1)
	for _, p := range b.produced(t, 9, nil) {
		if p.ErrorCode != kerr.InvalidTopicException.Code {
			t.Errorf("code %d", p.ErrorCode)
		}
	}
	part, err := b.b.o.Replicas.Lookup([]byte("__consumer_offsets"), 0)
	if err != nil || part.Stats().LogEnd != 0 {
		t.Errorf("the batch is in the log (%v)", err)
	}
}
