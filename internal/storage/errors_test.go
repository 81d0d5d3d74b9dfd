package storage

import (
	"errors"
	"fmt"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// TestEveryDiskErrorOnce runs one history again and again, each time with the next one of
// its disk operations failing. Whatever fails, and whatever the log answers: nothing that
// was flushed is lost in a power cut, nothing that was written is lost in a kill, a log
// that did not declare itself failed goes on, and a new opening serves what was written.
func TestEveryDiskErrorOnce(t *testing.T) {
	for _, mapAfter := range []int{-1, 1, 3} {
		t.Run(fmt.Sprintf("map after %d", mapAfter), func(t *testing.T) { everyDiskErrorOnce(t, mapAfter, -1) })
	}
	t.Run("extend", func(t *testing.T) { everyDiskErrorOnce(t, -1, 1) })
	t.Run("extend and map", func(t *testing.T) { everyDiskErrorOnce(t, 2, 1) })
}

func everyDiskErrorOnce(t *testing.T, mapAfter int, extendAfter int64) {
	failed, went := 0, 0
	for k := 0; ; k++ {
		w := newWorld(t, 5, vfs.Rule{})
		w.opts.MapAfter, w.opts.ExtendAfter = mapAfter, extendAfter
		w.l.SetOptions(w.opts)
		w.what = fmt.Sprintf("disk operation %d", k)
		w.disk.Clear()
		hit := ""
		w.disk.Add(vfs.Rule{Skip: k, Times: 1, Err: errDisk, Short: 40, Hook: func(op vfs.Op, name string) {
			hit = fmt.Sprintf("%s %s", op, name)
		}})
		err := w.history()
		if hit == "" {
			w.must(err)
			break
		}
		w.what = fmt.Sprintf("disk operation %d: %s failed with %v", k, hit, err)
		if err != nil && !errors.Is(err, errDisk) {
			w.fatalf("another error")
		}
		w.disk.Clear()
		w.wrote()
		certain := w.l.EndOffset()
		w.written = append(w.written, w.staged...) // a failed write may have left some of it
		for _, b := range w.written {
			w.end = max(w.end, b.NextOffset())
		}
		flushed := min(w.l.FlushedOffset(), certain)
		w.checkCrash("kill", w.mem.Clone(), certain)
		for seed := range uint64(4) {
			w.checkCrash("power cut", w.mem.CrashClone(seed), flushed)
		}
		if w.l.Failed() != nil {
			failed++
			continue
		}
		went++
		w.end, w.staged = w.l.EndOffset(), nil
		w.dropBehind()
		w.compare("after the error", w.l)
		w.append()
		w.write()
		doSync(t, w.l)
		w.flushed = w.l.FlushedOffset()
		w.compare("going on", w.l)
		if w.flushed != w.end {
			w.fatalf("flushed %d of %d", w.flushed, w.end)
		}
		w.checkCrash("power cut", w.mem.CrashClone(0), w.end)
	}
	if failed < 5 || went < 20 {
		t.Fatalf("%d failed for good, %d went on: the test does not test", failed, went)
	}
	t.Logf("%d failed for good, %d went on", failed, went)
}

// history uses everything once; the first error ends it.
func (w *world) history() error {
	add := func(n int) error {
		for range n {
			b := batchSpec{n: 2, ts: w.now, size: 100, pid: 1, seq: w.seqs[1]}.build(w.t)
			w.now += 10
			if _, err := w.l.Append(b, AppendArgs{Epoch: w.epoch, NowMs: w.now, Client: true, Through: len(w.written)%2 == 1}); err != nil {
				w.staged = append(w.staged, b)
				return err
			}
			w.seqs[1] = nextSeq(b.LastSequence())
			w.staged = append(w.staged, b)
			if err := w.l.Write(); err != nil {
				return err
			}
			w.wrote()
		}
		return nil
	}
	sync := func() error {
		s, dirty := w.l.BeginSync()
		if !dirty {
			return nil
		}
		return w.l.EndSync(s, s.Run())
	}
	start := func(to model.Offset) { w.starts = append(w.starts, to) }
	for _, step := range []func() error{
		func() error { w.l.StartEpoch(1); w.epoch = 1; return add(4) },
		sync,
		func() error { return add(20) },
		func() error { return w.d.Checkpoint([]CheckpointEntry{w.l.CheckpointEntry(0)}) },
		w.l.Roll,
		func() error { return add(5) },
		sync,
		func() error { start(7); return w.l.AdvanceStart(7) },
		func() error {
			for i := range w.l.segs {
				start(w.l.endOf(i))
			}
			o := w.opts
			o.RetentionBytes = w.l.Size() * 2 / 3
			w.l.SetOptions(o)
			_, err := w.l.DeleteOld(0, w.l.FlushedOffset())
			w.l.SetOptions(w.opts)
			return err
		},
		func() error { return add(3) },
		func() error {
			w.cut = w.l.EndOffset() - 10
			err := w.l.TruncateTo(w.cut)
			if err == nil {
				w.end, w.cut = w.cut, -1
				w.dropBehind()
				w.epoch = 2
			}
			return err
		},
		func() error { return add(3) },
		sync,
		func() error { return w.d.Checkpoint([]CheckpointEntry{w.l.CheckpointEntry(0)}) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
