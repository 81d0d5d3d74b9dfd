package record

import (
	"encoding/binary"
	"math"
)

// DeleteHorizon is the time (ms since 1970) from which the tombstones or the marker of a
// compacted batch may go (KIP-534); false before the first compaction that met them.
func (b Batch) DeleteHorizon() (int64, bool) {
	return b.BaseTimestamp(), b.Attributes()&AttrDeleteHorizon != 0
}

// Selection is what Rewriter.Select found.
type Selection struct {
	// Records is how many the batch has, Kept how many of them stay.
	Records, Kept int
	// Tombstones: a record that stays has no value.
	Tombstones bool
}

// Rewriter writes batches anew without some of their records, for log compaction. Offsets
// do not change: the batch keeps its base offset and its last offset delta, whatever
// becomes of its records. Memory: the records of one batch, decompressed, twice. Not safe
// for concurrent use.
type Rewriter struct {
	r    *Reader
	comp Compressor
	rec  Record
	kept []uint64 // a bit for each record of the batch
	raw  []byte   // the records that stay, before compression

	batch   Batch
	records []byte // of batch, decompressed
	sel     Selection
	maxTs   int64 // the largest of those that stay
}

// NewRewriter returns a Rewriter that refuses batches whose records decompress to more
// than maxBytes; see NewReader.
func NewRewriter(maxBytes int) *Rewriter { return &Rewriter{r: NewReader(maxBytes)} }

// Select reads b, exactly one batch, and asks keep about each of its records, which are
// valid during the call only. b must not change before Append. Errors: those of Reader.
func (w *Rewriter) Select(b Batch, keep func(*Record) bool) (Selection, error) {
	w.batch, w.sel, w.maxTs = nil, Selection{}, math.MinInt64
	if err := w.r.Reset(b); err != nil {
		return Selection{}, err
	}
	w.records = w.r.rest
	clear(w.kept)
	for i := 0; ; i++ {
		more, err := w.r.Next(&w.rec)
		if err != nil {
			return Selection{}, err
		}
		if !more {
			break
		}
		w.sel.Records++
		if i/64 == len(w.kept) {
			w.kept = append(w.kept, 0)
		}
		if !keep(&w.rec) {
			continue
		}
		w.kept[i/64] |= 1 << (i % 64)
		w.sel.Kept++
		w.sel.Tombstones = w.sel.Tombstones || w.rec.Value == nil
		w.maxTs = max(w.maxTs, w.rec.Timestamp)
	}
	w.batch = b
	return w.sel, nil
}

// Append appends to dst the batch of the last Select with the records that stay, of which
// there must be one, in the batch's own codec, and returns dst grown. horizon >= 0 becomes
// the batch's delete horizon; below 0 the batch keeps the one it has. The base timestamp
// is the horizon or else that of the first record, the largest timestamp that of the
// records, unless the broker set it.
//
// Kafka: MemoryRecords.buildRetainedRecordsInto.
func (w *Rewriter) Append(dst []byte, horizon int64) ([]byte, error) {
	b := w.batch
	attrs, base := b.Attributes(), b.BaseTimestamp()
	newBase, fixed := base, attrs&AttrDeleteHorizon != 0
	if horizon >= 0 {
		newBase, fixed, attrs = horizon, true, attrs|AttrDeleteHorizon
	}
	w.raw = w.raw[:0]
	rest := w.records
	for i := range w.sel.Records {
		n, at := varint32(rest)
		rec := rest[at : at+int(n)]
		whole := rest[:at+int(n)]
		rest = rest[len(whole):]
		if w.kept[i/64]&(1<<(i%64)) == 0 {
			continue
		}
		delta, tw := binary.Varint(rec[1:])
		if !fixed { // the first that stays
			newBase, fixed = base+delta, true
		}
		if newBase == base {
			w.raw = append(w.raw, whole...)
			continue
		}
		delta += base - newBase
		w.raw = binary.AppendVarint(w.raw, int64(len(rec)-tw+varintLen(delta)))
		w.raw = append(w.raw, rec[0])
		w.raw = binary.AppendVarint(w.raw, delta)
		w.raw = append(w.raw, rec[1+tw:]...)
	}
	start := len(dst)
	out := append(dst, b[:HeaderLen]...)
	out, err := w.comp.Append(out, b.Codec(), w.raw)
	if err != nil {
		return dst, err
	}
	v := Batch(out[start:])
	if len(v) > math.MaxInt32 {
		return dst, tooLarge("a batch of %d bytes", len(v))
	}
	binary.BigEndian.PutUint32(v[8:], uint32(len(v)-LogOverhead))
	v.SetAttributes(attrs)
	binary.BigEndian.PutUint64(v[27:], uint64(newBase))
	if attrs&AttrLogAppendTime == 0 {
		v.SetMaxTimestamp(w.maxTs)
	}
	binary.BigEndian.PutUint32(v[57:], uint32(w.sel.Kept))
	v.Seal()
	return out, nil
}

// AppendEmpty appends to dst the header of b as a batch without records: what is left of
// one whose offsets or sequence numbers must not be forgotten.
//
// Kafka: DefaultRecordBatch.writeEmptyHeader.
func AppendEmpty(dst []byte, b Batch) []byte {
	start := len(dst)
	dst = append(dst, b[:HeaderLen]...)
	v := Batch(dst[start:])
	binary.BigEndian.PutUint32(v[8:], HeaderLen-LogOverhead)
	v.SetAttributes(b.Attributes() &^ (AttrCodecMask | AttrDeleteHorizon))
	noTime := NoTimestamp
	binary.BigEndian.PutUint64(v[27:], uint64(noTime))
	binary.BigEndian.PutUint32(v[57:], 0)
	v.Seal()
	return dst
}
