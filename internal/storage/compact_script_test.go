package storage

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
)

// compactCommand runs the commands of scripts about compaction:
//
//	put [ts=MS] [pid=N epoch=N seq=N] [txn] [codec=N]    records of one batch: k=v k =v
//	marker pid=N [epoch=N] commit|abort [ts=MS]
//	compact now=MS [retention=MS] [slots=N] [min-lag=MS] [stable=N]
//	clean-state now=MS [min-lag=MS] [max-lag=MS] [stable=N]
//	roll-overdue now=MS max-lag=MS
//	dump                                                 all batches with their records
func (s *script) compactCommand(td *datadriven.TestData) string {
	switch td.Cmd {
	case "put":
		return s.put(td)
	case "marker":
		return s.marker(td)
	case "compact":
		return s.compact(td)
	case "clean-state":
		st, err := s.l.CleanState(s.compactArgs(td))
		ok(s.t, err)
		return fmt.Sprintf("dirty from %d to %d: %d of %d bytes, ratio %.2f, overdue %v\n", st.FirstDirty, st.Uncleanable,
			st.DirtyBytes, st.DirtyBytes+st.CleanBytes, st.Ratio(), st.Overdue)
	case "roll-overdue":
		rolled, err := s.l.RollOverdue(arg(td, "now", 0), time.Duration(arg(td, "max-lag", 0))*time.Millisecond)
		ok(s.t, err)
		return fmt.Sprintf("rolled %v\n", rolled)
	case "dump":
		return s.dump()
	}
	return "unknown command\n"
}

func (s *script) put(td *datadriven.TestData) string {
	s.now = arg(td, "ts", s.now)
	tpl := record.NewTemplate()
	tpl.Codec = record.Codec(arg(td, "codec", 0))
	if td.HasArg("pid") {
		tpl.ProducerID, tpl.ProducerEpoch = model.ProducerID(arg(td, "pid", 0)), model.ProducerEpoch(arg(td, "epoch", 0))
		tpl.BaseSequence = int32(arg(td, "seq", 0))
	}
	if td.HasArg("txn") {
		tpl.Attributes |= record.AttrTransactional
	}
	b, err := record.Build(nil, tpl, kvRecords(s.now, strings.Fields(td.Input)...))
	ok(s.t, err)
	return s.appended(b)
}

func (s *script) appended(b record.Batch) string {
	res, err := s.l.Append(b, AppendArgs{Epoch: max(0, s.l.LatestEpoch()), NowMs: s.now, Client: !b.IsControl()})
	if err != nil {
		return err.Error() + "\n"
	}
	ok(s.t, s.l.Write())
	if res.Duplicate {
		return fmt.Sprintf("[%d, %d] duplicate\n", res.BaseOffset, res.LastOffset)
	}
	return fmt.Sprintf("[%d, %d]\n", res.BaseOffset, res.LastOffset)
}

// markerBatch is what a transaction coordinator writes: key version and type, value
// version and coordinator epoch.
func markerBatch(kind int, pid model.ProducerID, epoch model.ProducerEpoch, ts int64) (record.Batch, error) {
	tpl := record.NewTemplate()
	tpl.ProducerID, tpl.ProducerEpoch = pid, epoch
	tpl.Attributes = record.AttrTransactional | record.AttrControl
	key := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(kind))
	return record.Build(nil, tpl, []record.Record{{Timestamp: ts, Key: key, Value: make([]byte, 6)}})
}

func (s *script) marker(td *datadriven.TestData) string {
	s.now = arg(td, "ts", s.now)
	kind := markerCommit
	if td.HasArg("abort") {
		kind = markerAbort
	}
	b, err := markerBatch(kind, model.ProducerID(arg(td, "pid", 0)), model.ProducerEpoch(arg(td, "epoch", 0)), s.now)
	ok(s.t, err)
	return s.appended(b)
}

func (s *script) compactArgs(td *datadriven.TestData) CompactArgs {
	a := compactArgs(s.l, arg(td, "now", 0))
	a.DeleteRetention = time.Duration(arg(td, "retention", 1000)) * time.Millisecond
	a.MinLag = time.Duration(arg(td, "min-lag", 0)) * time.Millisecond
	a.MaxLag = time.Duration(arg(td, "max-lag", 0)) * time.Millisecond
	a.Stable = model.Offset(arg(td, "stable", int64(s.l.EndOffset())))
	a.MapBytes = arg(td, "map", a.MapBytes)
	return a
}

func (s *script) compact(td *datadriven.TestData) string {
	st := compact(s.t, s.l, s.compactArgs(td))
	if st == nil {
		return "nothing to clean\n"
	}
	out := fmt.Sprintf("clean up to %d: %d keys, %d of %d records stay, %d segments became %d\n",
		st.End, st.Keys, st.Kept, st.Records, st.Segments, st.Into)
	if st.Full {
		out += "the map was full\n"
	}
	return out
}

// dump prints every batch that readers see.
func (s *script) dump() string {
	var out strings.Builder
	r := record.NewReader(0)
	var rec record.Record
	for _, b := range readAll(s.t, s.l, s.l.StartOffset(), s.l.EndOffset(), 1<<20) {
		fmt.Fprintf(&out, "[%d, %d]", b.BaseOffset(), b.LastOffset())
		if b.ProducerID() >= 0 {
			fmt.Fprintf(&out, " producer %d/%d", b.ProducerID(), b.ProducerEpoch())
			if b.BaseSequence() >= 0 {
				fmt.Fprintf(&out, " seq %d-%d", b.BaseSequence(), b.LastSequence())
			}
		}
		if h, set := b.DeleteHorizon(); set {
			fmt.Fprintf(&out, " horizon %d", h)
		}
		if b.Codec() != record.None {
			fmt.Fprintf(&out, " %v", b.Codec())
		}
		fmt.Fprintf(&out, " max %d:", b.MaxTimestamp())
		ok(s.t, r.Reset(b))
		for {
			more, err := r.Next(&rec)
			ok(s.t, err)
			if !more {
				break
			}
			fmt.Fprintf(&out, " %d@%d ", rec.Offset, rec.Timestamp)
			switch {
			case b.IsControl():
				out.WriteString([]string{"ABORT", "COMMIT"}[markerKind(rec.Key)])
			case rec.Value == nil:
				fmt.Fprintf(&out, "%s", rec.Key)
			default:
				fmt.Fprintf(&out, "%s=%s", rec.Key, rec.Value)
			}
		}
		out.WriteByte('\n')
	}
	for i, seg := range s.l.segs {
		fmt.Fprintf(&out, "segment [%d, %d)\n", seg.base, s.l.endOf(i))
	}
	return out.String()
}
