package storage

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"math"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// keptBatches is how many batches per producer are remembered to recognise a repeat: the
// protocol lets an idempotent producer have five requests in flight.
const keptBatches = 5

// noTime marks a producer that was read back from the log, so that the time of its last
// append here is not known. It counts from the first ExpireProducers.
const noTime = math.MinInt64

// producerBatch is one remembered batch.
type producerBatch struct {
	lastSeq int32
	delta   int32 // last offset delta: how many records, less one
	last    model.Offset
	ts      int64
}

func (b producerBatch) firstSeq() int32 { return (b.lastSeq - b.delta) & math.MaxInt32 }

// producer is the state of one producer id. It is derived from the log alone.
type producer struct {
	epoch model.ProducerEpoch
	n     int8
	// batches holds the last n, oldest first.
	batches [keptBatches]producerBatch
	// seen is when it appended last, in ms of the caller's clock, or noTime.
	seen int64
	// txnFirst is the first offset of its open transaction, or -1.
	txnFirst model.Offset
}

// producers is the producer state of one log.
type producers struct {
	byID map[model.ProducerID]*producer
	// changed says that the state differs from the newest snapshot.
	changed bool
	// budget bounds them together with those of the directory's other logs, which knows of
	// counted; nil for none.
	budget  *producerBudget
	counted int
}

// nextSeq follows a sequence number; they wrap from 2^31-1 to 0.
func nextSeq(seq int32) int32 { return (seq + 1) & math.MaxInt32 }

// check judges a client's batch. dup is set if it was appended before.
func (p *producers) check(b record.Batch) (dup *producerBatch, err error) {
	st := p.byID[b.ProducerID()]
	if st == nil {
		return nil, nil // an unknown producer may start anywhere: its past may have been deleted
	}
	epoch, seq := b.ProducerEpoch(), b.BaseSequence()
	switch {
	case epoch < st.epoch:
		return nil, kerr.With(kerr.InvalidProducerEpoch, "producer %d has epoch %d, the batch %d", b.ProducerID(), st.epoch, epoch)
	case epoch > st.epoch:
		if seq != 0 {
			return nil, kerr.With(kerr.OutOfOrderSequenceNumber, "producer %d starts epoch %d with sequence %d", b.ProducerID(), epoch, seq)
		}
		return nil, nil
	}
	want := int32(0)
	for i := range st.batches[:st.n] {
		kept := &st.batches[i]
		if kept.firstSeq() == seq && kept.lastSeq == b.LastSequence() {
			return kept, nil
		}
		want = nextSeq(kept.lastSeq)
	}
	if seq != want {
		return nil, kerr.With(kerr.OutOfOrderSequenceNumber, "producer %d epoch %d sends sequence %d where %d is next", b.ProducerID(), epoch, seq, want)
	}
	return nil, nil
}

// producerUndo brings back one producer's state after a failed write.
type producerUndo struct {
	id    model.ProducerID
	known bool
	old   producer
}

// apply takes a batch that has its offsets into the state. now is noTime on replay.
func (p *producers) apply(b record.Batch, now int64) {
	id := b.ProducerID()
	if id < 0 {
		return
	}
	p.changed = true
	st := p.byID[id]
	if st == nil {
		if p.byID == nil {
			p.byID = map[model.ProducerID]*producer{}
		}
		p.makeRoom()
		st = &producer{epoch: b.ProducerEpoch(), txnFirst: -1}
		p.byID[id] = st
		p.recount()
	}
	if b.ProducerEpoch() != st.epoch {
		st.epoch, st.n = b.ProducerEpoch(), 0
	}
	st.seen = now
	if b.IsControl() {
		st.txnFirst = -1
		return
	}
	if b.IsTransactional() && st.txnFirst < 0 {
		st.txnFirst = b.BaseOffset()
	}
	if b.BaseSequence() < 0 {
		return
	}
	if st.n == keptBatches {
		copy(st.batches[:], st.batches[1:])
		st.n--
	}
	st.batches[st.n] = producerBatch{lastSeq: b.LastSequence(), delta: b.LastOffsetDelta(), last: b.LastOffset(), ts: b.MaxTimestamp()}
	st.n++
}

func (p *producers) undoFor(id model.ProducerID) producerUndo {
	if st := p.byID[id]; st != nil {
		return producerUndo{id: id, known: true, old: *st}
	}
	return producerUndo{id: id}
}

func (p *producers) undo(u *producerUndo) {
	if !u.known {
		delete(p.byID, u.id)
		p.recount()
		return
	}
	if st := p.byID[u.id]; st != nil { // else it was forgotten since, to make room
		*st = u.old
	}
}

// expire forgets producers that are silent for longer than maxAge ms and have no open
// transaction.
func (p *producers) expire(now, maxAge int64) (n int) {
	for id, st := range p.byID {
		switch {
		case st.seen == noTime:
			st.seen = now
		case st.txnFirst < 0 && now-st.seen > maxAge:
			delete(p.byID, id)
			p.changed = true
			n++
		}
	}
	p.recount()
	return n
}

// Format of .producers, ours, frozen; big endian. It holds what Kafka's snapshot cannot:
// five batches per producer.
//
//	| "KPRD" | version uint8 = 1 | offset int64 | epoch of the record before int32 |
//	| producers int32 | producer ... | CRC32C of all before |
//	producer: | id int64 | epoch int16 | first open txn offset int64 | seen ms int64 |
//	          | batches uint8 | { last seq int32 | delta int32 | last offset int64 | ts int64 } ... |
//
// The file's name is the offset: the state covers all batches below it.
const (
	producersMagic   = "KPRD"
	producersHeader  = 4 + 1 + 8 + 4 + 4
	producerLen      = 8 + 2 + 8 + 8 + 1
	producerBatchLen = 24
	// maxProducers bounds what is read from a snapshot file.
	maxProducersFile = 1 << 30
)

func (p *producers) encode(offset model.Offset, epoch model.LeaderEpoch) []byte {
	b := make([]byte, 0, producersHeader+len(p.byID)*(producerLen+keptBatches*producerBatchLen)+4)
	b = append(b, producersMagic...)
	b = append(b, 1)
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	b = binary.BigEndian.AppendUint32(b, uint32(epoch))
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.byID)))
	for _, id := range slices.Sorted(maps.Keys(p.byID)) {
		st := p.byID[id]
		b = binary.BigEndian.AppendUint64(b, uint64(id))
		b = binary.BigEndian.AppendUint16(b, uint16(st.epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(st.txnFirst))
		b = binary.BigEndian.AppendUint64(b, uint64(st.seen))
		b = append(b, byte(st.n))
		for _, k := range st.batches[:st.n] {
			b = binary.BigEndian.AppendUint32(b, uint32(k.lastSeq))
			b = binary.BigEndian.AppendUint32(b, uint32(k.delta))
			b = binary.BigEndian.AppendUint64(b, uint64(k.last))
			b = binary.BigEndian.AppendUint64(b, uint64(k.ts))
		}
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// decodeProducers undoes encode; epoch is that of the record before offset.
func decodeProducers(b []byte, offset model.Offset) (byID map[model.ProducerID]*producer, epoch model.LeaderEpoch, err error) {
	if len(b) < producersHeader+4 || string(b[:4]) != producersMagic || b[4] != 1 {
		return nil, 0, ErrFormat
	}
	body, tail := b[:len(b)-4], b[len(b)-4:]
	if crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(tail) {
		return nil, 0, ErrChecksum
	}
	if model.Offset(binary.BigEndian.Uint64(b[5:])) != offset {
		return nil, 0, ErrFormat
	}
	epoch = model.LeaderEpoch(binary.BigEndian.Uint32(b[13:]))
	n := int(binary.BigEndian.Uint32(b[17:]))
	rest := body[producersHeader:]
	if n > len(rest)/producerLen {
		return nil, 0, ErrFormat
	}
	byID = make(map[model.ProducerID]*producer, n)
	for range n {
		if len(rest) < producerLen {
			return nil, 0, ErrFormat
		}
		id := model.ProducerID(binary.BigEndian.Uint64(rest))
		st := &producer{
			epoch:    model.ProducerEpoch(binary.BigEndian.Uint16(rest[8:])),
			txnFirst: model.Offset(binary.BigEndian.Uint64(rest[10:])),
			seen:     int64(binary.BigEndian.Uint64(rest[18:])),
			n:        int8(rest[26]),
		}
		rest = rest[producerLen:]
		if st.n < 0 || st.n > keptBatches || len(rest) < int(st.n)*producerBatchLen || byID[id] != nil {
			return nil, 0, ErrFormat
		}
		for i := range st.batches[:st.n] {
			k := &st.batches[i]
			k.lastSeq = int32(binary.BigEndian.Uint32(rest))
			k.delta = int32(binary.BigEndian.Uint32(rest[4:]))
			k.last = model.Offset(binary.BigEndian.Uint64(rest[8:]))
			k.ts = int64(binary.BigEndian.Uint64(rest[16:]))
			rest = rest[producerBatchLen:]
			if k.lastSeq < 0 || k.delta < 0 || k.last < 0 || k.last >= offset {
				return nil, 0, ErrFormat
			}
		}
		byID[id] = st
	}
	if len(rest) != 0 {
		return nil, 0, ErrFormat
	}
	return byID, epoch, nil
}

// Format of .snapshot: Kafka's ProducerStateManager, version 1, frozen; big endian.
//
//	| version int16 = 1 | CRC32C of what follows | producers int32 | entry ... |
//	entry: | id int64 | epoch int16 | last seq int32 | last offset int64 | offset delta int32 |
//	       | timestamp int64 | coordinator epoch int32 | first open txn offset int64 |
const (
	snapshotHeader   = 2 + 4 + 4
	snapshotEntryLen = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
)

func (p *producers) encodeSnapshot() []byte {
	b := make([]byte, 6, snapshotHeader+len(p.byID)*snapshotEntryLen)
	binary.BigEndian.PutUint16(b, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.byID)))
	for _, id := range slices.Sorted(maps.Keys(p.byID)) {
		st := p.byID[id]
		k := producerBatch{lastSeq: -1, last: -1, ts: -1}
		if st.n > 0 {
			k = st.batches[st.n-1]
		}
		b = binary.BigEndian.AppendUint64(b, uint64(id))
		b = binary.BigEndian.AppendUint16(b, uint16(st.epoch))
		b = binary.BigEndian.AppendUint32(b, uint32(k.lastSeq))
		b = binary.BigEndian.AppendUint64(b, uint64(k.last))
		b = binary.BigEndian.AppendUint32(b, uint32(k.delta))
		b = binary.BigEndian.AppendUint64(b, uint64(k.ts))
		b = binary.BigEndian.AppendUint32(b, math.MaxUint32) // coordinator epoch -1: no marker carries one yet
		b = binary.BigEndian.AppendUint64(b, uint64(st.txnFirst))
	}
	binary.BigEndian.PutUint32(b[2:], crc32.Checksum(b[6:], castagnoli()))
	return b
}

func decodeSnapshot(b []byte) (map[model.ProducerID]*producer, error) {
	if len(b) < snapshotHeader || binary.BigEndian.Uint16(b) != 1 {
		return nil, ErrFormat
	}
	if crc32.Checksum(b[6:], castagnoli()) != binary.BigEndian.Uint32(b[2:]) {
		return nil, ErrChecksum
	}
	n, rest := int(binary.BigEndian.Uint32(b[6:])), b[snapshotHeader:]
	if len(rest)%snapshotEntryLen != 0 || n != len(rest)/snapshotEntryLen {
		return nil, ErrFormat
	}
	byID := make(map[model.ProducerID]*producer, n)
	for ; len(rest) > 0; rest = rest[snapshotEntryLen:] {
		st := &producer{
			epoch:    model.ProducerEpoch(binary.BigEndian.Uint16(rest[8:])),
			txnFirst: model.Offset(binary.BigEndian.Uint64(rest[38:])),
			seen:     noTime,
		}
		k := producerBatch{
			lastSeq: int32(binary.BigEndian.Uint32(rest[10:])), last: model.Offset(binary.BigEndian.Uint64(rest[14:])),
			delta: int32(binary.BigEndian.Uint32(rest[22:])), ts: int64(binary.BigEndian.Uint64(rest[26:])),
		}
		if k.lastSeq >= 0 && k.delta >= 0 && k.last >= 0 {
			st.batches[0], st.n = k, 1
		}
		byID[model.ProducerID(binary.BigEndian.Uint64(rest))] = st
	}
	return byID, nil
}
