package storage

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
)

// cleanRule decides what stays of a batch in one cleaning round. It is Kafka's rule
// (LogCleaner.cleanInto, MemoryRecords.filterTo), pure: it must be asked about all batches
// from the beginning of the log on, in order, since it follows the transactions.
//
//   - Of a key the newest record stays. A record without a key goes. A record that the key
//     map does not reach (it was full, or the record is newer) stays.
//   - A record without a value, a tombstone, stays until its batch's delete horizon. The
//     first cleaning that meets it sets the horizon, so that a reader who began before it
//     was cleaned has delete.retention.ms to see it (KIP-534).
//   - The records of an aborted transaction go. The marker of a transaction stays as long as
//     a batch of it was met, and from then on until its own delete horizon.
//   - A batch of which no record stays goes, unless a producer's state is read from it, or
//     the round ends with it: then its header stays, so that sequence numbers and the log
//     end are what they were.
type cleanRule struct {
	keys *keyMap
	// mapped: keys knows of the records below it, and of no others. end is where the round
	// ends, a segment's base.
	mapped, end model.Offset
	// nowMs is ms since 1970, retentionMs is delete.retention.ms.
	nowMs, retentionMs int64
	// remembered are the last offsets of the batches that producers' states are read from.
	remembered map[model.Offset]bool
	// markerEpochs are the epochs of producers of which only a marker is known.
	markerEpochs map[model.ProducerID]model.ProducerEpoch
	txns         txnTrace
}

// Kinds of control records that end a transaction (ControlRecordType).
const (
	markerAbort  = 0
	markerCommit = 1
	markerOther  = -1
)

// markerKind reads the kind of a marker from its record's key: version and type, int16 each.
func markerKind(key []byte) int {
	if len(key) < 4 {
		return markerOther
	}
	if k := binary.BigEndian.Uint16(key[2:]); k <= markerCommit {
		return int(k)
	}
	return markerOther
}

// verdict is the rule's word on a batch as a whole.
type verdict struct {
	// discard: none of its records stays.
	discard bool
	// keepEmpty: its header stays even without records.
	keepEmpty bool
	// loose: it is a marker that nothing refers to any more.
	loose bool
}

// judge takes the next batch; kind is that of a control batch with a record.
func (r *cleanRule) judge(b record.Batch, kind int) verdict {
	var v verdict
	if b.IsControl() {
		v.loose = r.txns.ended(b, kind)
		horizon, set := b.DeleteHorizon()
		v.discard = v.loose && set && horizon <= r.nowMs
	} else {
		v.discard = r.txns.met(b)
	}
	v.keepEmpty = b.NextOffset() == r.end || b.ProducerID() >= 0 && r.remembers(b)
	return v
}

func (r *cleanRule) remembers(b record.Batch) bool {
	if b.IsControl() {
		epoch, known := r.markerEpochs[b.ProducerID()]
		return known && epoch == b.ProducerEpoch()
	}
	return r.remembered[b.LastOffset()]
}

// keeps says whether a record of a data batch stays that was not discarded as a whole.
func (r *cleanRule) keeps(b record.Batch, rec *record.Record) bool {
	switch {
	case rec.Offset >= r.mapped:
		return true
	case rec.Key == nil:
		return false
	case rec.Value == nil:
		if horizon, set := b.DeleteHorizon(); set && horizon <= r.nowMs {
			return false
		}
	}
	return rec.Offset >= r.keys.latest(rec.Key)
}

// horizon is the delete horizon for what is cleaned now.
func (r *cleanRule) horizon() int64 {
	if r.retentionMs > math.MaxInt64-r.nowMs {
		return math.MaxInt64
	}
	return r.nowMs + r.retentionMs
}

// remember takes what producers' states are read from.
func (r *cleanRule) remember(p *producers) {
	r.remembered = map[model.Offset]bool{}
	r.markerEpochs = map[model.ProducerID]model.ProducerEpoch{}
	for id, st := range p.byID {
		if st.n == 0 {
			r.markerEpochs[id] = st.epoch
		}
		for _, k := range st.batches[:st.n] {
			r.remembered[k.last] = true
		}
	}
}

// txnTrace follows the transactions through the log.
type txnTrace struct {
	// aborted are the aborted stretches of each producer, in order.
	aborted map[model.ProducerID][]abortedTxn
	// open are producers of which a batch was met since their last marker.
	open map[model.ProducerID]bool
}

// abortedTxn is a stretch in which all transactional batches of its producer are aborted:
// from behind its marker before up to the marker that aborts.
type abortedTxn struct {
	from, marker model.Offset
}

// met takes a data batch and says whether it was aborted.
func (t *txnTrace) met(b record.Batch) (aborted bool) {
	if !b.IsTransactional() {
		return false
	}
	if t.open == nil {
		t.open = map[model.ProducerID]bool{}
	}
	t.open[b.ProducerID()] = true
	return t.isAborted(b)
}

// ended takes a control batch and says whether nothing of its transaction was met. An
// empty one was cleaned before. Markers of a kind that we do not know stay.
func (t *txnTrace) ended(b record.Batch, kind int) (loose bool) {
	if b.NumRecords() == 0 {
		return true
	}
	if kind == markerOther {
		return false
	}
	loose = !t.open[b.ProducerID()]
	delete(t.open, b.ProducerID())
	return loose
}

func (t *txnTrace) isAborted(b record.Batch) bool {
	all := t.aborted[b.ProducerID()]
	i, _ := slices.BinarySearchFunc(all, b.BaseOffset(), func(a abortedTxn, o model.Offset) int {
		if a.marker < o {
			return -1
		}
		return 1
	})
	return i < len(all) && all[i].from <= b.BaseOffset()
}

// abortFinder gathers the aborted transactions of a log from its markers, in order.
type abortFinder struct {
	aborted map[model.ProducerID][]abortedTxn
	last    map[model.ProducerID]model.Offset // behind the latest marker
}

func (f *abortFinder) marker(b record.Batch, kind int) {
	if f.last == nil {
		f.aborted, f.last = map[model.ProducerID][]abortedTxn{}, map[model.ProducerID]model.Offset{}
	}
	id := b.ProducerID()
	if kind == markerAbort {
		f.aborted[id] = append(f.aborted[id], abortedTxn{f.last[id], b.BaseOffset()})
	}
	if kind != markerOther {
		f.last[id] = b.NextOffset()
	}
}

// batchCleaner applies a cleanRule to batches.
type batchCleaner struct {
	rule *cleanRule
	rw   *record.Rewriter
	// v and batch are what keep, asked about single records, is about.
	v     verdict
	batch record.Batch
	keep  func(*record.Record) bool
	// records and kept count.
	records, kept int64
}

func newBatchCleaner(rule *cleanRule) *batchCleaner {
	c := &batchCleaner{rule: rule, rw: record.NewRewriter(0)}
	c.keep = func(rec *record.Record) bool {
		switch {
		case c.v.discard:
			return false
		case c.batch.IsControl():
			return true
		}
		return c.rule.keeps(c.batch, rec)
	}
	return c
}

// clean appends what stays of b to dst. same says that this is b as it was.
func (c *batchCleaner) clean(dst []byte, b record.Batch) (out []byte, same bool, err error) {
	kind := markerOther
	if b.IsControl() {
		if kind, err = c.kindOf(b); err != nil {
			return dst, false, err
		}
	}
	c.batch, c.v = b, c.rule.judge(b, kind)
	if c.v.discard && !c.v.keepEmpty {
		c.records += int64(b.NumRecords())
		return dst, false, nil
	}
	sel, err := c.rw.Select(b, c.keep)
	if err != nil {
		return dst, false, err
	}
	c.records += int64(sel.Records)
	c.kept += int64(sel.Kept)
	_, has := b.DeleteHorizon()
	setHorizon := (sel.Tombstones || c.v.loose) && !has
	switch {
	case sel.Kept == 0 && !c.v.keepEmpty:
		return dst, false, nil
	case sel.Kept == 0 && sel.Records == 0:
		return append(dst, b...), true, nil
	case sel.Kept == 0:
		return record.AppendEmpty(dst, b), false, nil
	case sel.Kept == sel.Records && !setHorizon:
		return append(dst, b...), true, nil
	}
	horizon := int64(-1)
	if setHorizon {
		horizon = c.rule.horizon()
	}
	out, err = c.rw.Append(dst, horizon)
	return out, false, err
}

// kindOf reads the kind of a control batch.
func (c *batchCleaner) kindOf(b record.Batch) (int, error) {
	kind := markerOther
	_, err := c.rw.Select(b, func(rec *record.Record) bool {
		kind = markerKind(rec.Key)
		return true
	})
	return kind, err
}
