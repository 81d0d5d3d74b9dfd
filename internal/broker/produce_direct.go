package broker

import (
	"sync"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/internal/wire"
)

// The Produce requests that clients send by the million hold one batch for one partition, and
// where neither the disk nor another replica is waited for, their answers are there when the
// batches are written. Take and Answer serve these without a Pending: what is kept of each
// between the two is a hundred bytes in memory that all connections share, each partition is
// locked once for all its batches of a drain, and the answers are encoded side by side.
// Whatever is not quite like that goes through Handle, so there is one place that refuses.

// directs are the requests that were taken in a drain, in their order.
type directs struct {
	batches []replica.Direct
	asks    []directAsk // of each batch
	parts   []directPart
}

// directAsk is what the answer needs of a request.
type directAsk struct {
	version     int16
	correlation int32
	topic       wire.ProduceTopic
	index       int32
}

// directPart is a partition and its batches: first and last of a list linked by Next.
type directPart struct {
	part        *replica.Partition
	first, last int32
}

// retryAtOnce is for how many drains a connection's requests are not looked at after one whose
// ack has to wait: under kalda.flush.policy=commit that are all.
const retryAtOnce = 64

var directPool = sync.Pool{New: func() any { return new(directs) }}

// Take implements wire.AtOnce.
func (b *Broker) Take(c *wire.Conn, hd *wire.Header, body []byte) bool {
	cs := connStateOf(c)
	if cs.direct == nil && cs.notAtOnce > 0 {
		cs.notAtOnce--
		return false
	}
	req := &cs.req
	if !req.DecodeSmall(hd.Version, body) || req.Acks != 1 && req.Acks != -1 || cs.lost.Load() != nil {
		return false
	}
	t := &req.Topics[0]
	q := &t.Partitions[0]
	part, err := b.partition(hd.Version, t, q.Index)
	if err != nil || meta.IsInternal(part.TP.Topic) {
		return false
	}
	if !part.AtOnce(req.Acks) {
		cs.notAtOnce = retryAtOnce
		return false
	}
	if _, err := checkForm(hd.Version, q.Records, part.TP); err != nil {
		return false
	}
	if cs.nowMs == 0 {
		cs.nowMs = b.nowMs()
	}
	if !part.Takes(q.Records, cs.nowMs, req.Acks) {
		return false
	}
	d := cs.direct
	if d == nil {
		d = directPool.Get().(*directs)
		cs.direct = d
	}
	i := int32(len(d.batches))
	d.batches = append(d.batches, replica.Direct{Records: q.Records, NowMs: cs.nowMs, Acks: req.Acks, Next: -1})
	d.asks = append(d.asks, directAsk{
		version: hd.Version, correlation: hd.CorrelationID, index: q.Index,
		topic: wire.ProduceTopic{Name: t.Name, ID: t.ID},
	})
	for k := range d.parts {
		if p := &d.parts[k]; p.part == part {
			d.batches[p.last].Next = i
			p.last = i
			return true
		}
	}
	d.parts = append(d.parts, directPart{part, i, i})
	return true
}

// Answer implements wire.AtOnce.
func (b *Broker) Answer(c *wire.Conn, out []byte) []byte {
	cs := connStateOf(c)
	d := cs.direct
	cs.direct, cs.nowMs = nil, 0
	cs.req.Trim()
	for i := range d.parts {
		p := &d.parts[i]
		p.part.AppendAll(d.batches, p.first)
	}
	replica.Wait(d.batches)
	for i := range d.batches {
		out = b.appendDirect(out, c, &d.asks[i], &d.batches[i])
	}
	clear(d.batches)
	clear(d.asks)
	clear(d.parts)
	d.batches, d.asks, d.parts = d.batches[:0], d.asks[:0], d.parts[:0]
	directPool.Put(d)
	return out
}

// appendDirect appends one answer, as produce would shape it.
func (b *Broker) appendDirect(out []byte, c *wire.Conn, a *directAsk, d *replica.Direct) []byte {
	start := len(out)
	out = wire.AppendResponseHeader(out, wire.KeyProduce, a.version, a.correlation)
	out = wire.AppendProduceStart(out, a.version, 1)
	out = wire.AppendProduceTopic(out, a.version, a.topic.Name, a.topic.ID, 1)
	if d.Err != nil {
		out = b.appendProduceError(out, a.version, &a.topic, a.index, d.Err)
	} else {
		out, _ = appendProduced(out, a.version, a.index, &d.At)
	}
	out = wire.AppendProduceTopicEnd(out, a.version)
	out = b.endProduceResponse(out, c, a.version, d.Err)
	wire.FinishFrame(out[start:], 0)
	return out
}

// appendProduced answers one partition whose batch is in the log, or will be.
func appendProduced(out []byte, version int16, index int32, at *replica.Appended) (_ []byte, patchAt int) {
	r := wire.NewProducedPartition(index, 0)
	r.BaseOffset, r.LogStartOffset, r.LogAppendTime = int64(at.BaseOffset), int64(at.LogStart), at.LogAppendTime
	return wire.AppendProduced(out, version, &r)
}

// partition finds what a Produce names.
func (b *Broker) partition(version int16, t *wire.ProduceTopic, index int32) (*replica.Partition, error) {
	if version >= 13 {
		return b.o.Replicas.LookupID(t.ID, index)
	}
	return b.o.Replicas.Lookup(t.Name, index)
}
