package storage

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// TestScripts runs testdata/*.txt. Commands:
//
//	options [segment-bytes=N] [interval=N] [index-bytes=N] [age=DUR] [retention=DUR] [retention-bytes=N]
//	append [n=N] [ts=MS] [size=N] [pid=N epoch=N seq=N] [leader=E] [stage]
//	write | roll | sync | state | files | idle
//	read from=N [to=N] [max=N]
//	time ts=MS [to=N] | max-time [to=N]
//	delete-old now=MS [hw=N] | advance-start to=N | truncate to=N
//	start-epoch e=N | epoch-end e=N | expire now=MS
//	restart clean|kill|power
//
// and those of compaction (compactCommand).
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{t: t, mem: vfs.NewMem(), opts: Options{Delete: true, Retention: -1}}
		s.open("boot-1")
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			return s.run(td)
		})
	})
}

type script struct {
	t    *testing.T
	mem  *vfs.Mem
	d    *Dir
	l    *Log
	opts Options
	now  int64
}

func (s *script) open(boot string) Recovery {
	s.d = testDirBoot(s.t, s.mem, "/data", boot)
	var r Recovery
	s.l, r = testLog(s.t, s.d, s.opts)
	ok(s.t, s.d.SetBrokerEpoch(s.d.RunMeta().BrokerEpoch+1))
	return r
}

// arg reads a number, def if it is not given.
func arg(td *datadriven.TestData, key string, def int64) int64 {
	for _, a := range td.CmdArgs {
		if a.Key == key {
			var n int64
			if _, err := fmt.Sscan(a.Vals[0], &n); err != nil {
				panic(err)
			}
			return n
		}
	}
	return def
}

func (s *script) run(td *datadriven.TestData) string {
	l := s.l
	switch td.Cmd {
	case "options":
		return s.options(td)
	case "append":
		return s.append(td)
	case "write":
		return s.result(l.Write())
	case "roll":
		return s.result(l.Roll())
	case "sync":
		y, dirty := l.BeginSync()
		if !dirty {
			return "nothing to sync\n"
		}
		return s.result(l.EndSync(y, y.Run()))
	case "state":
		return s.state()
	case "files":
		names, err := s.mem.List(l.Path())
		ok(s.t, err)
		return strings.Join(names, "\n") + "\n"
	case "idle":
		l.Idle()
		return ""
	case "read":
		return s.read(td)
	case "time":
		return s.found(l.OffsetForTimestamp(arg(td, "ts", 0), model.Offset(arg(td, "to", int64(l.EndOffset())))))
	case "max-time":
		return s.found(l.MaxTimestamp(model.Offset(arg(td, "to", int64(l.EndOffset())))))
	case "delete-old":
		n, err := l.DeleteOld(arg(td, "now", 0), model.Offset(arg(td, "hw", int64(l.EndOffset()))))
		return fmt.Sprintf("deleted %d\n", n) + s.result(err)
	case "advance-start":
		return s.result(l.AdvanceStart(model.Offset(arg(td, "to", 0))))
	case "truncate":
		return s.result(l.TruncateTo(model.Offset(arg(td, "to", 0))))
	case "start-epoch":
		l.StartEpoch(model.LeaderEpoch(arg(td, "e", 0)))
		return fmt.Sprintf("epochs %v\n", l.Epochs())
	case "epoch-end":
		e, end := l.EpochEnd(model.LeaderEpoch(arg(td, "e", 0)))
		return fmt.Sprintf("epoch %d ends at %d\n", e, end)
	case "expire":
		return fmt.Sprintf("expired %d, left %d\n", l.ExpireProducers(arg(td, "now", 0)), l.Producers())
	case "restart":
		return s.restart(td)
	}
	return s.compactCommand(td)
}

func (s *script) result(err error) string {
	if err != nil {
		return err.Error() + "\n"
	}
	return fmt.Sprintf("start %d flushed %d end %d staged %d\n", s.l.StartOffset(), s.l.FlushedOffset(), s.l.EndOffset(), s.l.StagedEnd())
}

func (s *script) options(td *datadriven.TestData) string {
	for _, a := range td.CmdArgs {
		dur := func() time.Duration {
			d, err := time.ParseDuration(a.Vals[0])
			ok(s.t, err)
			return d
		}
		num := func() int64 { return arg(td, a.Key, 0) }
		switch a.Key {
		case "segment-bytes":
			s.opts.SegmentBytes = num()
		case "interval":
			s.opts.IndexIntervalBytes = int(num())
		case "index-bytes":
			s.opts.SegmentIndexBytes = int(num())
		case "age":
			s.opts.SegmentAge = dur()
		case "retention":
			s.opts.Retention = dur()
		case "retention-bytes":
			s.opts.RetentionBytes = num()
		}
	}
	s.l.SetOptions(s.opts)
	return ""
}

func (s *script) append(td *datadriven.TestData) string {
	s.now = arg(td, "ts", s.now)
	b := batchSpec{n: int(arg(td, "n", 1)), ts: s.now, size: int(arg(td, "size", 10)),
		pid: model.ProducerID(arg(td, "pid", 0)), epoch: model.ProducerEpoch(arg(td, "epoch", 0)), seq: int32(arg(td, "seq", 0))}.build(s.t)
	e := model.LeaderEpoch(arg(td, "leader", int64(max(0, s.l.LatestEpoch()))))
	res, err := s.l.Append(b, AppendArgs{Epoch: e, NowMs: s.now, Client: true})
	if err != nil {
		return err.Error() + "\n"
	}
	out := fmt.Sprintf("[%d, %d]", res.BaseOffset, res.LastOffset)
	if res.Duplicate {
		return out + " duplicate\n"
	}
	if td.HasArg("stage") {
		return out + " staged\n"
	}
	ok(s.t, s.l.Write())
	return fmt.Sprintf("%s %d bytes\n", out, len(b))
}

func (s *script) state() string {
	var b strings.Builder
	b.WriteString(s.result(nil))
	for i, seg := range s.l.segs {
		fmt.Fprintf(&b, "segment %d: %d bytes, ends at %d\n", seg.base, seg.size, s.l.endOf(i))
	}
	fmt.Fprintf(&b, "epochs %v, producers %d\n", s.l.Epochs(), s.l.Producers())
	return b.String()
}

func (s *script) read(td *datadriven.TestData) string {
	from := model.Offset(arg(td, "from", 0))
	v, err := s.l.Read(from, model.Offset(arg(td, "to", int64(s.l.EndOffset()))), int(arg(td, "max", 1<<20)), true)
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for data := readView(s.t, v); len(data) > 0; {
		batch := record.Batch(data)
		fmt.Fprintf(&b, "[%d, %d] epoch %d\n", batch.BaseOffset(), batch.LastOffset(), batch.LeaderEpoch())
		data = data[batch.Size():]
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func (s *script) found(r TimestampOffset, found bool, err error) string {
	switch {
	case err != nil:
		return err.Error() + "\n"
	case !found:
		return "none\n"
	}
	return fmt.Sprintf("offset %d timestamp %d epoch %d\n", r.Offset, r.Timestamp, r.Epoch)
}

func (s *script) restart(td *datadriven.TestData) string {
	boot := "boot-1"
	switch td.CmdArgs[0].Key {
	case "clean":
		ok(s.t, s.l.Close())
		ok(s.t, s.d.CloseClean([]CheckpointEntry{s.l.CleanEntry(s.l.EndOffset())}))
	case "kill":
		s.mem = s.mem.Clone()
	case "power":
		s.mem, boot = s.mem.CrashClone(0), "boot-2"
	}
	r := s.open(boot)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%v, clean %v, scanned %d, cut %d bytes, damaged %v\n", s.d.Class(), r.Clean, r.ScannedBatches, r.CutBytes, r.Damaged)
	b.WriteString(s.result(nil))
	return b.String()
}
