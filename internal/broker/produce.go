package broker

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/wire"
	"github.com/kalda-io/kalda/kerr"
)

// Produce (0): 0 to 13. v3 brings format v2 and transactional ids, v8 error messages
// (KIP-467), v9 the flexible form, v10 the present leader (KIP-951), v13 topic ids.
// Versions 0 to 2 carry message sets, which become one record
// batch per partition.
//
// The answer is encoded when the batches are staged, with the offsets that they will
// have; what fails later is patched in before it is sent. An ack of the request's last
// partition completes it, which may be while Handle still runs. Nothing is allocated per
// request or record once a connection is warm.

// connState is what the broker keeps for a connection.
type connState struct {
	// req is decoded into again and again.
	req wire.ProduceRequest
	// nowMs is the calendar time of the drain, read once; 0 between drains.
	nowMs int64
	// touched are the partitions with batches that this drain staged.
	touched []*replica.Partition
	// started are the requests of this drain that wait for an ack.
	started  []startedProduce
	fetchReq wire.FetchRequest
	// unpacking is of the request at hand.
	unpacking replica.Unpacking
	// direct are the requests that Take took since the last Answer; nil for none.
	direct *directs
	// notAtOnce is for how many drains Take need not look at requests.
	notAtOnce int
	// lost is why a batch that was taken with acks=0 is not in the log.
	lost atomic.Pointer[error]
}

// Acked implements replica.Waiter for batches with acks=0, of which only failures matter.
func (cs *connState) Acked(_ int32, _ uint32, err error) {
	if err != nil {
		cs.lost.CompareAndSwap(nil, &err)
	}
}

// lostReason is why the connection is to be closed after a failure with acks=0; "" for none.
// Nobody awaits an answer that could carry the error, so closing is the only way to be heard,
// as in Kafka. A failure that comes later than the write (kalda.flush.policy=commit) closes
// the connection with its next request.
func (cs *connState) lostReason() string {
	err := cs.lost.Load()
	if err == nil {
		return ""
	}
	return fmt.Sprintf("a Produce with acks=0 failed: %v", *err)
}

type startedProduce struct {
	ps       *produceState
	gen      uint32
	deadline time.Duration // Clock.Boot
}

func connStateOf(c *wire.Conn) *connState {
	cs, _ := c.State.(*connState)
	if cs == nil {
		cs = &connState{}
		c.State = cs
	}
	return cs
}

func (b *Broker) produce(p *wire.Pending) wire.Outcome {
	cs := connStateOf(p.Conn)
	if why := cs.lostReason(); why != "" {
		p.CloseReason = why
		return wire.CloseConn
	}
	req := &cs.req
	if err := req.Decode(p.Version, p.Body); err != nil {
		p.CloseReason = fmt.Sprintf("Produce version %d cannot be parsed: %v", p.Version, err)
		return wire.CloseConn
	}
	n := 0
	for ti := range req.Topics {
		n += len(req.Topics[ti].Partitions)
	}
	ps := b.beginProduce(p, n)
	refuse := b.refuseProduce(req)
	if cs.nowMs == 0 {
		cs.nowMs = b.nowMs()
	}
	now := cs.nowMs
	cs.unpacking = replica.Unpacking{}
	var failed error
	var w replica.Waiter = ps
	if req.Acks == 0 {
		w = cs
		ps.forget() // nothing is to be completed
	}
	slot := int32(-1)
	out := wire.AppendProduceStart(p.Resp, p.Version, len(req.Topics))
	for ti := range req.Topics {
		t := &req.Topics[ti]
		out = wire.AppendProduceTopic(out, p.Version, t.Name, t.ID, len(t.Partitions))
		for pi := range t.Partitions {
			q := &t.Partitions[pi]
			slot++
			var at replica.Appended
			err := refuse
			if err == nil {
				at, err = b.append(cs, req, t, q, now, replica.Ack{
					Acks: req.Acks, W: w, Slot: slot, Gen: ps.gen, RefuseZstd: p.Version < 7 && p.Version >= 3,
					Unpacking: &cs.unpacking,
				})
			}
			if err != nil {
				failed = err
				ps.Acked(slot, ps.gen, nil) // its answer is encoded
				out = b.appendProduceError(out, p.Version, t, q.Index, err)
				continue
			}
			if at.BaseOffset == model.NoOffset {
				ps.Acked(slot, ps.gen, nil) // nothing to append, so no ack will come
			}
			out, ps.slots[slot].patchAt = appendProduced(out, p.Version, q.Index, &at)
		}
		out = wire.AppendProduceTopicEnd(out, p.Version)
	}
	p.Resp = b.endProduceResponse(out, p.Conn, p.Version, failed)
	req.Trim()
	if req.Acks == 0 {
		if failed != nil {
			// The client awaits no answer; closing is the only way to be heard.
			p.CloseReason = fmt.Sprintf("a Produce with acks=0 failed: %v", failed)
			return wire.CloseConn
		}
		return wire.NoAnswer
	}
	if n == 0 {
		return wire.Done
	}
	cs.started = append(cs.started, startedProduce{ps, ps.gen, p.Arrived + time.Duration(max(req.TimeoutMillis, 0))*time.Millisecond})
	return wire.Parked
}

// refuseProduce is why the whole request is refused, nil if it is not.
func (b *Broker) refuseProduce(req *wire.ProduceRequest) error {
	switch {
	case req.Acks < -1 || req.Acks > 1:
		return kerr.InvalidRequiredAcks
	case req.TransactionalID != nil:
		return kerr.With(kerr.TransactionalIDAuthorizationFailed, "transactions are not available in this version")
	}
	return nil
}

// append stages one batch.
func (b *Broker) append(cs *connState, req *wire.ProduceRequest, t *wire.ProduceTopic, q *wire.ProducePartition, now int64, a replica.Ack) (replica.Appended, error) {
	part, err := b.partition(req.Version, t, q.Index)
	if err != nil {
		return replica.Appended{}, err
	}
	if meta.IsInternal(part.TP.Topic) {
		return replica.Appended{}, kerr.With(kerr.InvalidTopicException, "topic %s is internal and written by its coordinator only", part.TP.Topic)
	}
	if empty, err := checkForm(req.Version, q.Records, part.TP); err != nil || empty {
		return replica.Appended{BaseOffset: model.NoOffset, LogStart: model.NoOffset, LogAppendTime: record.NoTimestamp}, err
	}
	at, err := part.Append(q.Records, now, a)
	if err == nil {
		cs.touch(part)
	}
	return at, err
}

func (cs *connState) touch(p *replica.Partition) {
	for _, q := range cs.touched {
		if q == p {
			return
		}
	}
	cs.touched = append(cs.touched, p)
}

// appendProduceError answers one partition with an error, and where the version has a
// place for it with the reason and the present leader.
func (b *Broker) appendProduceError(out []byte, version int16, t *wire.ProduceTopic, index int32, err error) []byte {
	r := wire.NewProducedPartition(index, kerr.Code(err))
	r.ErrorMessage = kerr.Message(err)
	if bad := (*record.RecordError)(nil); errors.As(err, &bad) {
		r.RecordErrors = []wire.RecordError{{Index: bad.Index, Message: r.ErrorMessage}}
	}
	if kerr.Of(err) == kerr.NotLeaderOrFollower {
		if id, epoch, ok := b.presentLeader(t.Name, t.ID, index); ok {
			r.CurrentLeader = wire.Leader{Set: true, ID: int32(id), Epoch: int32(epoch)}
		}
	}
	out, _ = wire.AppendProduced(out, version, &r)
	return out
}

// presentLeader is the leader that the image knows.
func (b *Broker) presentLeader(name []byte, id model.TopicID, index int32) (model.BrokerID, model.LeaderEpoch, bool) {
	im := b.o.Image()
	t := im.TopicsByID[id]
	if t == nil {
		t = im.Topics[string(name)]
	}
	if t == nil || index < 0 || int(index) >= len(t.Partitions) {
		return 0, 0, false
	}
	st := t.Partitions[index]
	l := b.leader(im, st)
	return l, st.LeaderEpoch, l != model.NoBroker
}

// endProduceResponse closes the answer; after a leadership error it tells where the
// other brokers are, so that the client need not ask (KIP-951).
func (b *Broker) endProduceResponse(out []byte, c *wire.Conn, version int16, failed error) []byte {
	var nodes []wire.NodeEndpoint
	if failed != nil && version >= 10 && kerr.Of(failed) == kerr.NotLeaderOrFollower {
		nodes = b.nodeEndpoints(c)
	}
	return wire.AppendProduceEnd(out, version, 0, nodes)
}

// nodeEndpoints are all live brokers.
func (b *Broker) nodeEndpoints(c *wire.Conn) []wire.NodeEndpoint {
	im := b.o.Image()
	var out []wire.NodeEndpoint
	for _, id := range im.BrokerIDs() {
		br := im.Brokers[id]
		if host, port, ok := b.endpoint(c, im, br); ok && br.Status != meta.BrokerFenced {
			out = append(out, wire.NodeEndpoint{ID: int32(id), Host: host, Port: port, Rack: rack(br)})
		}
	}
	return out
}

// Flush implements wire.Handler: it writes what the drain staged. Acks that need
// nothing more come while Write runs.
func (b *Broker) Flush(c *wire.Conn) {
	cs, _ := c.State.(*connState)
	if cs == nil {
		return
	}
	cs.nowMs = 0
	for i, p := range cs.touched {
		p.Write()
		cs.touched[i] = nil
	}
	cs.touched = cs.touched[:0]
	for i, s := range cs.started {
		if s.ps.waits(s.gen) {
			s.ps.arm(s.gen, s.deadline)
		}
		cs.started[i] = startedProduce{}
	}
	cs.started = cs.started[:0]
	if cs.lost.Load() != nil {
		c.CloseReason = cs.lostReason()
	}
}
