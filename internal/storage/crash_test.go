package storage

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

var seedFlag = flag.Uint64("storage.seed", 0, "run the random tests with this seed only")

// world is one log on a memory disk beside a model of it, driven by a seed. At every sync
// point of the disk the hook clones the disk as after a power cut and as after kill -9,
// recovers the clone and compares it with the model.
//
// TestLyingDiskIsSeen takes single syncs out and must see it fail. Proven by hand: it fails
// without the lowered recovery point in truncate, and without recording a new log start
// before segments are deleted.
type world struct {
	t      testing.TB
	lie    vfs.Rule // what the disk only pretends to sync; none if Op is ""
	seed   uint64
	rng    *rand.Rand
	mem    *vfs.Mem
	disk   *vfs.Faults
	d      *Dir
	l      *Log
	opts   Options
	what   string // the operation under way
	checks int

	written []record.Batch // in offset order, from somewhere at or below start
	staged  []record.Batch
	end     model.Offset // end of written
	flushed model.Offset
	starts  []model.Offset // the log start; two while it moves
	cut     model.Offset   // during a truncation, where to; else -1
	epoch   model.LeaderEpoch
	seqs    map[model.ProducerID]int32
	now     int64

	registered string       // boot at the last SetBrokerEpoch
	reported   bool         // this life's class may give way to Clean
	cleanEnd   model.Offset // log end at the last clean stop, -1 before
}

func newWorld(t testing.TB, seed uint64, lie vfs.Rule) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{t: t, lie: lie, seed: seed, rng: rng, mem: vfs.NewMem(), cut: -1, now: 1_000_000, cleanEnd: -1,
		starts: []model.Offset{0}, seqs: map[model.ProducerID]int32{}}
	w.opts = Options{SegmentBytes: int64(1500 + rng.IntN(3000)), IndexIntervalBytes: 50 + rng.IntN(500),
		SegmentIndexBytes: 60 + rng.IntN(400), Delete: true, Retention: -1,
		MapAfter: []int{-1, 1, 1, 4}[rng.IntN(4)], ExtendAfter: []int64{-1, 1, 600}[rng.IntN(3)],
		AheadBytes: 100 + rng.IntN(3000)}
	w.open("boot-1")
	return w
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d, in %s: %s\nrerun: go test ./internal/storage -run %s -storage.seed=%d",
		w.seed, w.what, fmt.Sprintf(format, args...), w.t.Name(), w.seed)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.fatalf("%v", err)
	}
}

// open opens the directory on the present disk, with the hook on.
func (w *world) open(boot string) Recovery {
	w.disk = vfs.NewFaults(w.mem)
	w.hook()
	var err error
	w.d, err = OpenDir(w.disk, "/data", DirOptions{ClusterID: "c", BootID: boot})
	w.must(err)
	w.d.journal.limit = 4 << 10
	l, r, err := w.openLog(w.d)
	w.must(err)
	if w.rng.IntN(4) > 0 { // else the marker of a clean end stays until the first change
		w.registered = boot
		w.must(w.d.SetBrokerEpoch(w.d.RunMeta().BrokerEpoch + 1))
		w.reported = true
	} else {
		w.reported = w.d.Class() == Clean
	}
	w.l = l
	return r
}

// openLog opens the log in one of the ways there are.
func (w *world) openLog(d *Dir) (*Log, Recovery, error) {
	how := w.rng.IntN(3)
	if how == 0 {
		return d.OpenLog(part, w.opts)
	}
	l, r, err := d.OpenLogUnsynced(part, w.opts)
	if err == nil {
		err = d.syncOpened([]*Log{l}, how-1) // with a flush of the file system, or by itself
	}
	return l, r, err
}

func (w *world) hook() {
	crash := func(op vfs.Op, name string) {
		at := w.what
		w.what = fmt.Sprintf("%s, before %s %s", at, op, name)
		w.crash()
		w.what = at
	}
	if lie := w.lie; lie.Op != "" {
		lie.Lie, lie.Hook = true, crash
		w.disk.Add(lie)
	}
	for _, op := range []vfs.Op{vfs.OpDatasync, vfs.OpSync, vfs.OpSyncDir, vfs.OpRename, vfs.OpSyncFS, vfs.OpTruncate, vfs.OpRemove} {
		w.disk.Add(vfs.Rule{Op: op, Hook: crash})
	}
}

// crash checks what would be left if the power went, or the process died, right now.
func (w *world) crash() {
	if w.l == nil {
		return // the disk is not ours yet
	}
	if w.cut < 0 {
		w.wrote()
	}
	w.checkCrash("kill", w.mem.Clone(), w.end)
	w.checkCrash("power cut", w.mem.CrashClone(0), w.flushed)
	w.checkCrash("power cut", w.mem.CrashClone(1+w.rng.Uint64N(1<<40)), w.flushed)
}

// checkCrash recovers a clone in which at least everything below least must be there.
func (w *world) checkCrash(kind string, disk *vfs.Mem, least model.Offset) {
	w.checks++
	if w.cut >= 0 {
		least = min(least, w.cut)
	}
	boot := "boot-1"
	if kind != "kill" {
		boot = "boot-2"
	}
	d, err := OpenDir(disk, "/data", DirOptions{ClusterID: "c", BootID: boot})
	w.must(err)
	switch c := d.Class(); {
	case c == Clean && w.end != w.cleanEnd && w.cleanEnd >= 0:
		w.fatalf("%s: a clean marker beside a log that changed", kind)
	case c == CrashSameBoot && boot != w.registered:
		w.fatalf("%s: class %v at %s, registered at %s", kind, c, boot, w.registered)
	case kind == "kill" && c == Suspect && boot == w.registered:
		w.fatalf("kill -9 makes the directory suspect")
	}
	l, r, err := w.openLog(d)
	w.must(err)
	if l.EndOffset() < least || l.EndOffset() > w.end {
		w.fatalf("%s: end %d, flushed was %d, written %d; %+v", kind, l.EndOffset(), least, w.end, r)
	}
	if len(r.Lost) > 0 {
		w.fatalf("%s: segments are taken for lost: %+v", kind, r)
	}
	if kind == "kill" && r.Damaged {
		e, _ := d.entry(part)
		w.fatalf("kill -9 looks like damage: %+v; checkpoint %+v, segments %d, active %d", r, e, len(l.segs), l.active().base)
	}
	if !slices.Contains(w.starts, l.StartOffset()) {
		w.fatalf("%s: start %d, want one of %v", kind, l.StartOffset(), w.starts)
	}
	w.compare(kind, l)
	// What is served after recovery survives the next crash (I18).
	after := disk.CrashClone(0)
	d2, err := OpenDir(after, "/data", DirOptions{ClusterID: "c", BootID: "boot-3"})
	w.must(err)
	names, _ := after.List(d2.partPath(part))
	l2, r2, err := w.openLog(d2)
	w.must(err)
	if l2.EndOffset() != l.EndOffset() {
		w.fatalf("%s: end %d after recovery (%+v), %d after a second crash (%+v); files %q", kind, l.EndOffset(), r, l2.EndOffset(), r2, names)
	}
	w.compare(kind+" twice", l2)
	for _, x := range []*Log{l, l2} {
		for _, s := range x.segs {
			s.closeFiles()
		}
	}
}

// compare reads all of l and compares it, and the producers, with the model up to l's end.
func (w *world) compare(kind string, l *Log) {
	w.t.Helper()
	start, end := l.StartOffset(), l.EndOffset()
	var want []record.Batch
	for _, b := range w.written {
		if b.LastOffset() >= start && b.NextOffset() <= end {
			want = append(want, b)
		}
	}
	got := readAll(w.t, l, start, end, 1+w.rng.IntN(3000))
	if !bytes.Equal(concat(got), concat(want)) {
		w.fatalf("%s: log [%d, %d) does not hold what was written: %d batches, want %d", kind, start, end, len(got), len(want))
	}
	w.compareProducers(kind, l)
	for _, b := range want {
		at := max(start, b.BaseOffset())
		if e := l.EpochAt(at); e != b.LeaderEpoch() {
			w.fatalf("%s: epoch of %d is %d, want %d", kind, at, e, b.LeaderEpoch())
		}
	}
}

// compareProducers sends the last five batches of each producer again: each must be
// known as a duplicate, and the next one must be welcome, the one after it not.
func (w *world) compareProducers(kind string, l *Log) {
	byID := map[model.ProducerID][]record.Batch{}
	for _, b := range w.written {
		if id := b.ProducerID(); id >= 0 && b.NextOffset() <= l.EndOffset() {
			byID[id] = append(byID[id], b)
		}
	}
	for id, bs := range byID {
		bs = bs[max(0, len(bs)-keptBatches):]
		if bs[0].BaseOffset() < l.segs[0].base {
			continue // deleted records may take their producer with them
		}
		for _, b := range bs {
			res, err := l.Append(bytes.Clone(b), AppendArgs{Epoch: max(0, l.LatestEpoch()), Client: true})
			if err != nil || !res.Duplicate || res.BaseOffset != b.BaseOffset() || res.LastOffset != b.LastOffset() {
				w.fatalf("%s: producer %d: batch [%d, %d] seq %d sent again: %+v, %v", kind, id, b.BaseOffset(), b.LastOffset(), b.BaseSequence(), res, err)
			}
		}
		next := nextSeq(bs[len(bs)-1].LastSequence())
		ahead := batchSpec{pid: id, seq: nextSeq(next)}.build(w.t)
		if _, err := l.producers.check(ahead); err == nil {
			w.fatalf("%s: producer %d: a gap was accepted", kind, id)
		}
		if dup, err := l.producers.check(batchSpec{pid: id, seq: next}.build(w.t)); err != nil || dup != nil {
			w.fatalf("%s: producer %d: next sequence %d refused: %v", kind, id, next, err)
		}
	}
}

func (w *world) step() {
	switch p := w.rng.IntN(100); {
	case p < 50:
		w.append()
	case p < 62:
		w.what = "write"
		w.write()
	case p < 69:
		w.sync()
	case p < 79:
		w.journal()
	case p < 81:
		w.what = "checkpoint"
		w.must(w.d.Checkpoint([]CheckpointEntry{w.l.CheckpointEntry(w.flushed)}))
	case p < 83:
		w.what = "roll"
		w.must(w.l.Roll())
		w.wrote()
	case p < 85:
		w.advanceStart()
	case p < 86:
		w.deleteOld()
	case p < 90:
		w.truncate()
	case p < 92:
		w.what = "start epoch"
		w.write()
		w.epoch++
		w.l.StartEpoch(w.epoch)
	case p < 94:
		w.failedWrite()
	case p < 95:
		w.l.Idle()
	default:
		w.restart()
	}
}

func (w *world) append() {
	w.what = "append"
	w.now += int64(w.rng.IntN(50))
	s := batchSpec{n: 1 + w.rng.IntN(4), ts: w.now, size: 1 + w.rng.IntN(300), tag: fmt.Sprint(w.now)}
	if w.rng.IntN(3) > 0 {
		s.pid = model.ProducerID(1 + w.rng.IntN(3))
		s.seq = w.seqs[s.pid]
	}
	b := s.build(w.t)
	res, err := w.l.Append(b, AppendArgs{Epoch: w.epoch, NowMs: w.now, Client: true, Through: w.rng.IntN(2) == 0})
	if err != nil || res.Duplicate {
		w.fatalf("append of %+v: %+v, %v", s, res, err)
	}
	if s.pid != 0 {
		w.seqs[s.pid] = nextSeq(b.LastSequence())
	}
	w.staged = append(w.staged, b)
	w.wrote()
}

// wrote takes over into the model what reached the file, as the log's end tells.
func (w *world) wrote() {
	for len(w.staged) > 0 && w.staged[0].BaseOffset() < w.l.EndOffset() {
		w.written = append(w.written, w.staged[0])
		w.staged = w.staged[1:]
	}
	w.end = w.l.EndOffset()
}

func (w *world) write() {
	w.must(w.l.Write())
	w.wrote()
}

func (w *world) sync() {
	w.what = "sync"
	s, dirty := w.l.BeginSync()
	if !dirty {
		return
	}
	if w.rng.IntN(3) == 0 {
		w.append() // the owner goes on meanwhile
		w.write()
		w.what = "sync"
	}
	w.must(w.l.EndSync(s, s.Run()))
	w.flushed = w.l.FlushedOffset()
}

// journal makes the log durable through the journal, and sometimes lets it forget.
func (w *world) journal() {
	w.what = "journal"
	j := w.d.Journal()
	if w.rng.IntN(8) == 0 {
		m := j.Mark()
		if s, dirty := w.l.BeginSync(); dirty {
			w.must(w.l.EndSync(s, s.Run()))
			w.flushed = w.l.FlushedOffset()
		}
		j.Release(m)
	}
	t, b, ok := w.l.AppendTail(nil)
	if !ok {
		return
	}
	ok, err := j.Append(b)
	w.must(err)
	if !ok {
		return
	}
	if w.rng.IntN(3) == 0 {
		w.append() // the owner goes on meanwhile
		w.write()
		w.what = "journal"
	}
	w.l.TailDurable(t)
	w.flushed = w.l.FlushedOffset()
}

func (w *world) advanceStart() {
	w.what = "advance start"
	if w.flushed <= w.starts[0] {
		return
	}
	to := w.starts[0] + model.Offset(w.rng.Int64N(int64(w.flushed-w.starts[0])+1))
	w.starts = append(w.starts, to)
	w.must(w.l.AdvanceStart(to))
	w.starts = []model.Offset{to}
}

func (w *world) deleteOld() {
	w.what = "delete old"
	o := w.opts
	o.RetentionBytes = w.l.Size() * 2 / 3
	w.l.SetOptions(o)
	for i := range w.l.segs {
		w.starts = append(w.starts, w.l.endOf(i))
	}
	_, err := w.l.DeleteOld(w.now, w.flushed)
	w.must(err)
	w.wrote()
	w.l.SetOptions(w.opts)
	w.starts = []model.Offset{w.l.StartOffset()}
}

func (w *world) truncate() {
	w.what = "truncate"
	w.l.dropStagedForTest()
	w.staged = nil
	low := max(w.starts[0], w.end-30)
	to := low + model.Offset(w.rng.Int64N(int64(w.end-low)+1))
	w.cut = to
	for _, b := range w.written {
		if b.BaseOffset() < to && b.LastOffset() >= to {
			w.cut = max(b.BaseOffset(), w.starts[0])
		}
	}
	pending, dirty := Sync{}, false
	if w.rng.IntN(3) == 0 {
		pending, dirty = w.l.BeginSync() // a sync is under way
	}
	w.must(w.l.TruncateTo(to))
	if to >= w.end { // nothing to do, nothing promised
		w.cut = -1
		w.dropBehind()
		if dirty {
			w.must(w.l.EndSync(pending, pending.Run()))
			w.flushed = w.l.FlushedOffset()
		}
		return
	}
	if w.l.EndOffset() != w.cut {
		w.fatalf("truncate to %d: end %d, want %d", to, w.l.EndOffset(), w.cut)
	}
	w.end, w.flushed = w.cut, w.cut
	w.cut = -1
	w.dropBehind()
	if dirty {
		w.must(w.l.EndSync(pending, pending.Run()))
	}
	if w.l.FlushedOffset() != w.end {
		w.fatalf("flushed %d after truncation to %d", w.l.FlushedOffset(), w.end)
	}
	w.epoch++ // as after any truncation: a new leader
}

// dropStagedForTest makes the truncation's own dropping explicit in the model.
func (l *Log) dropStagedForTest() { _ = l.TruncateTo(l.end) }

// dropBehind forgets what lies beyond the end, and brings the sequences back.
func (w *world) dropBehind() {
	w.written = slices.DeleteFunc(w.written, func(b record.Batch) bool { return b.NextOffset() > w.end })
	w.seqs = map[model.ProducerID]int32{}
	for _, b := range w.written {
		if b.ProducerID() >= 0 {
			w.seqs[b.ProducerID()] = nextSeq(b.LastSequence())
		}
	}
	w.starts = []model.Offset{w.l.StartOffset()}
}

// failedWrite lets the disk take a part of a write and then refuse.
func (w *world) failedWrite() {
	w.what = "failed write"
	w.write()
	boom := errors.New("no space")
	b := batchSpec{n: 2, ts: w.now, size: 200, pid: 1, seq: w.seqs[1]}.build(w.t)
	_, err := w.l.Append(b, AppendArgs{Epoch: w.epoch, NowMs: w.now, Client: true})
	w.must(err)
	w.wrote() // the append may have closed a segment
	w.disk.Clear()
	w.disk.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Short: w.rng.IntN(len(b) + 1), Err: boom})
	w.hook()
	if err := w.l.Write(); !errors.Is(err, boom) || w.l.Failed() != nil {
		w.fatalf("write: %v, failed: %v", err, w.l.Failed())
	}
	if w.l.StagedEnd() != w.end || w.l.EndOffset() != w.end {
		w.fatalf("after a failed write: end %d, staged %d, want %d", w.l.EndOffset(), w.l.StagedEnd(), w.end)
	}
	w.disk.Clear()
	w.hook()
	w.compare("after a failed write", w.l)
}

func (w *world) restart() {
	w.what = "restart"
	boot := "boot-1"
	switch w.rng.IntN(3) {
	case 0:
		w.what = "clean restart"
		w.write()
		w.must(w.l.Close())
		w.cleanEnd = w.end
		w.must(w.d.CloseClean([]CheckpointEntry{w.l.CleanEntry(w.flushed)}))
		w.flushed = w.end
		w.mem = w.mem.CrashClone(0) // after a clean stop even the power may go
	case 1:
		w.what = "kill"
		w.mem = w.mem.Clone()
	case 2:
		w.what = "power cut"
		w.mem = w.mem.CrashClone(w.rng.Uint64())
		boot = "boot-2"
	}
	clean, marked := w.what == "clean restart", w.reported
	w.staged = nil
	w.l = nil
	r := w.open(boot)
	if clean && (r.Clean != marked || r.ScannedBatches > 0) || r.Clean && w.d.Class() != Clean {
		w.fatalf("class %v, recovery %+v", w.d.Class(), r)
	}
	if w.l.EndOffset() < w.flushed || w.l.EndOffset() > w.end || w.what != "power cut" && w.l.EndOffset() != w.end {
		w.fatalf("end %d, flushed was %d, written %d", w.l.EndOffset(), w.flushed, w.end)
	}
	w.end = w.l.EndOffset()
	w.flushed = w.l.FlushedOffset()
	w.dropBehind()
	w.epoch = max(w.epoch, w.l.LatestEpoch())
	if w.flushed != w.end {
		w.fatalf("served after recovery but not synced: %d of %d", w.flushed, w.end)
	}
	w.compare("after "+w.what, w.l)
}

func TestCrashes(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = nil
		n := uint64(8)
		if testing.Short() {
			n = 3
		}
		for s := uint64(1); s <= n; s++ {
			seeds = append(seeds, s)
		}
	}
	checks := 0
	for _, seed := range seeds {
		w := newWorld(t, seed, vfs.Rule{})
		w.run()
		checks += w.checks
	}
	t.Logf("%d crashes checked", checks)
}

// run takes the world's steps.
func (w *world) run() {
	for range 150 {
		w.step()
	}
	w.what = "end"
	w.write()
	w.crash()
	w.compare("at the end", w.l)
}

// TestLyingDiskIsSeen: if a disk only pretends one of the syncs that a promise rests on, the
// crash test fails, with records lost. Were it not so, the test would prove nothing of that
// sync.
func TestLyingDiskIsSeen(t *testing.T) {
	for _, lie := range []vfs.Rule{
		{Op: vfs.OpDatasync, Path: "*.log"},
		{Op: vfs.OpDatasync, Path: "*.journal"},
		{Op: vfs.OpSyncDir, Path: part.String()}, // names of segments
		{Op: vfs.OpSyncDir, Path: partsDir},      // and of the directory they lie in
	} {
		seen := ""
		for seed := uint64(1); seed <= 8 && seen == ""; seed++ {
			e := &expecting{TB: t}
			var wg sync.WaitGroup
			wg.Go(func() { newWorld(e, seed, lie).run() })
			wg.Wait()
			seen = e.failure
		}
		if seen == "" {
			t.Errorf("%s of %s is only pretended, and no crash shows it", lie.Op, lie.Path)
			continue
		}
		if !strings.Contains(seen, "power cut") {
			t.Errorf("%s of %s is only pretended: %s", lie.Op, lie.Path, seen)
		}
		t.Logf("%s of %s: %.200s", lie.Op, lie.Path, seen)
	}
}

// expecting takes the first failure of what runs with it, and ends that goroutine.
type expecting struct {
	testing.TB
	failure string
}

func (e *expecting) fail(text string) {
	e.failure = text
	runtime.Goexit()
}

func (e *expecting) Fatal(args ...any)                 { e.fail(fmt.Sprint(args...)) }
func (e *expecting) Fatalf(format string, args ...any) { e.fail(fmt.Sprintf(format, args...)) }
