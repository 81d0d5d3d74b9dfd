package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// keyedWorld is a compacted log on a memory disk beside a model of it, driven by a seed.
// Before every operation of the disk it clones the disk as after kill -9 and as after a
// power cut, opens the clone, twice, and asks whether a reader would notice a compaction:
//
//   - what is there is what was written at that offset;
//   - of each key the newest record is there, unless it is a tombstone that was cleaned for
//     the first time at least retention ago; nothing older is there in its stead;
//   - above what any round was allowed to touch all is there;
//   - the log start, the log end and the producers are what they would be without it.
type keyedWorld struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	mem  *vfs.Mem
	disk *vfs.Faults
	d    *Dir
	l    *Log
	opts Options
	what string
	boot int

	checks, rounds, swaps int

	records []keyedRecord // by offset, without holes
	end     model.Offset
	flushed model.Offset
	hw      model.Offset
	starts  []model.Offset // the log start; two while it moves
	touched model.Offset   // the largest end of a round that was begun
	cleaned map[model.Offset]int64
	now     int64
	// lostTail: a power cut took records that were not synced.
	lostTail bool
	seqs     map[model.ProducerID]int32
	batches  map[model.ProducerID][]record.Batch
}

const keyedRetention = 400 // ms

type keyedRecord struct {
	key, value string
	noKey, del bool
	ts         int64
}

func newKeyedWorld(t *testing.T, seed uint64) *keyedWorld {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := &keyedWorld{t: t, seed: seed, rng: rng, mem: vfs.NewMem(), now: 1_000_000, starts: []model.Offset{0},
		cleaned: map[model.Offset]int64{}, seqs: map[model.ProducerID]int32{}, batches: map[model.ProducerID][]record.Batch{}}
	w.opts = Options{SegmentBytes: int64(800 + rng.IntN(3000)), IndexIntervalBytes: 1 + rng.IntN(300), SegmentIndexBytes: 60 + rng.IntN(2000)}
	w.open()
	return w
}

func (w *keyedWorld) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d, in %s: %s\nrerun: go test ./internal/storage -run %s -storage.seed=%d",
		w.seed, w.what, fmt.Sprintf(format, args...), w.t.Name(), w.seed)
}

func (w *keyedWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.fatalf("%v", err)
	}
}

func (w *keyedWorld) open() Recovery {
	w.disk = vfs.NewFaults(w.mem)
	var err error
	w.d, err = OpenDir(w.disk, "/data", DirOptions{ClusterID: "c", BootID: fmt.Sprint(w.boot)})
	w.must(err)
	l, r, err := w.d.OpenLog(part, w.opts)
	w.must(err)
	w.must(w.d.SetBrokerEpoch(w.d.RunMeta().BrokerEpoch + 1))
	w.l = l
	w.disk.Add(vfs.Rule{Hook: func(op vfs.Op, name string) { w.beforeOp(op, name) }})
	return r
}

// beforeOp runs before each operation of the disk.
func (w *keyedWorld) beforeOp(op vfs.Op, name string) {
	if w.l == nil {
		return
	}
	switch op {
	case vfs.OpReadAt, vfs.OpOpen, vfs.OpStat, vfs.OpSize, vfs.OpList, vfs.OpClose:
		return
	}
	at := w.what
	w.what = fmt.Sprintf("%s, before %s %s", at, op, name)
	w.wrote()
	w.check("kill", w.mem.Clone(), w.end)
	if w.rng.IntN(2) == 0 {
		w.check("power cut", w.mem.CrashClone(0), w.flushed)
		w.check("power cut", w.mem.CrashClone(1+w.rng.Uint64N(1<<40)), w.flushed)
	}
	w.what = at
}

// wrote takes over what reached the file.
func (w *keyedWorld) wrote() {
	w.end = w.l.EndOffset()
	if !w.l.closed { // a closed log vouches for what CloseClean is about to flush
		w.flushed = w.l.FlushedOffset()
	}
}

func (w *keyedWorld) check(kind string, disk *vfs.Mem, least model.Offset) {
	w.checks++
	boot := w.boot
	if kind != "kill" {
		boot++
	}
	for range 2 {
		d, err := OpenDir(disk, "/data", DirOptions{ClusterID: "c", BootID: fmt.Sprint(boot)})
		w.must(err)
		l, r, err := d.OpenLog(part, w.opts)
		w.must(err)
		if l.EndOffset() < least || l.EndOffset() > w.end {
			w.fatalf("%s: end %d, flushed was %d, written %d; %+v", kind, l.EndOffset(), least, w.end, r)
		}
		if len(r.Lost) > 0 {
			w.fatalf("%s: segments are taken for lost: %+v", kind, r)
		}
		if kind == "kill" && r.Damaged {
			w.fatalf("kill -9 looks like damage: %+v", r)
		}
		w.compare(kind, l)
		least = l.EndOffset()
		names, _ := disk.List(d.partPath(part)) // none yet if nothing was written
		for _, n := range names {
			if strings.HasSuffix(n, swapSuffix) || strings.HasSuffix(n, cleanedSuffix) {
				w.fatalf("%s: %s is still there", kind, n)
			}
		}
		disk, boot = disk.CrashClone(0), boot+1
		for _, s := range l.segs {
			s.closeFiles()
		}
	}
}

// compare holds what a reader of l sees against the model.
func (w *keyedWorld) compare(kind string, l *Log) {
	w.t.Helper()
	end := l.EndOffset()
	start := l.StartOffset()
	if !slices.Contains(w.starts, start) {
		w.fatalf("%s: start %d, want one of %v", kind, start, w.starts)
	}
	newest := map[string]model.Offset{}
	for o := start; o < end; o++ {
		if r := w.records[o]; !r.noKey {
			newest[r.key] = o
		}
	}
	seen := map[model.Offset]bool{}
	last := map[string]model.Offset{}
	rd := record.NewReader(0)
	var rec record.Record
	for _, b := range readAll(w.t, l, l.StartOffset(), end, 1+w.rng.IntN(3000)) {
		w.must(rd.Reset(b))
		for {
			more, err := rd.Next(&rec)
			w.must(err)
			if !more {
				break
			}
			if rec.Offset < start {
				continue
			}
			r := w.records[rec.Offset]
			if string(rec.Key) != r.key || string(rec.Value) != r.value || (rec.Key == nil) != r.noKey || (rec.Value == nil) != r.del || rec.Timestamp != r.ts {
				w.fatalf("%s: at %d %q=%q@%d, written was %+v", kind, rec.Offset, rec.Key, rec.Value, rec.Timestamp, r)
			}
			seen[rec.Offset] = true
			if !r.noKey {
				last[r.key] = rec.Offset
			}
		}
	}
	for o := max(w.touched, start); o < end; o++ {
		if !seen[o] {
			w.fatalf("%s: %d is gone, which no round may touch (%d)", kind, o, w.touched)
		}
	}
	for key, o := range newest {
		if seen[o] {
			continue
		}
		first, cleaned := w.cleaned[o]
		if !w.records[o].del || !cleaned || w.now < first+keyedRetention {
			w.fatalf("%s: the newest record of %q, at %d (tombstone %v, cleaned %v), is gone", kind, key, o, w.records[o].del, cleaned)
		}
		if at, older := last[key]; older {
			w.fatalf("%s: %q at %d came back: its tombstone at %d is gone", kind, key, at, o)
		}
	}
	w.compareProducers(kind, l)
	if kind != "kill" || w.lostTail {
		return
	}
	// Without the snapshots, from the log alone. (After a power cut the batches that the
	// newest ones had pushed out may be needed again; the snapshot has them.)
	l.snapshots = nil
	w.must(l.loadProducers(end, false))
	w.compareProducers(kind+", read from the log", l)
}

func (w *keyedWorld) compareProducers(kind string, l *Log) {
	w.t.Helper()
	for id, bs := range w.batches {
		var kept []record.Batch
		for _, b := range bs {
			if b.NextOffset() <= l.EndOffset() {
				kept = append(kept, b)
			}
		}
		for _, b := range kept[max(0, len(kept)-keptBatches):] {
			if b.BaseOffset() < l.StartOffset() {
				continue
			}
			dup, err := l.producers.check(b)
			if err != nil || dup == nil {
				w.fatalf("%s: producer %d: batch [%d, %d] seq %d is not known any more: %v", kind, id, b.BaseOffset(), b.LastOffset(), b.BaseSequence(), err)
			}
		}
	}
}

func (w *keyedWorld) append() {
	w.now += int64(w.rng.IntN(30))
	n := 1 + w.rng.IntN(4)
	recs := make([]record.Record, n)
	for i := range recs {
		k := keyedRecord{key: fmt.Sprintf("key-%d", w.rng.IntN(9)), value: fmt.Sprintf("%d.%d", w.now, i), ts: w.now + int64(w.rng.IntN(5))}
		switch w.rng.IntN(10) {
		case 0:
			k.key, k.noKey = "", true
		case 1, 2:
			k.value, k.del = "", true
		}
		recs[i] = record.Record{Timestamp: k.ts}
		if !k.noKey {
			recs[i].Key = []byte(k.key)
		}
		if !k.del {
			recs[i].Value = append([]byte(k.value), bytes.Repeat([]byte{'.'}, w.rng.IntN(120))...)
			k.value = string(recs[i].Value)
		}
		w.records = append(w.records, k)
	}
	tpl := record.NewTemplate()
	tpl.Codec = record.Codec(w.rng.IntN(5))
	if w.rng.IntN(3) == 0 {
		tpl.ProducerID, tpl.ProducerEpoch = model.ProducerID(1+w.rng.IntN(2)), 0
		tpl.BaseSequence = w.seqs[tpl.ProducerID]
		w.seqs[tpl.ProducerID] += int32(n)
	}
	b, err := record.Build(nil, tpl, recs)
	w.must(err)
	res, err := w.l.Append(b, AppendArgs{NowMs: w.now, Client: true})
	w.must(err)
	if res.Duplicate {
		w.fatalf("a new batch passes for a duplicate")
	}
	if id := b.ProducerID(); id >= 0 {
		w.batches[id] = append(w.batches[id], b)
	}
	w.must(w.l.Write())
	w.wrote()
}

// advanceStart moves the log start, sometimes past segments that a round has taken.
func (w *keyedWorld) advanceStart() {
	at := w.what
	w.what += ", advancing the start"
	now := w.l.StartOffset()
	if w.hw <= now {
		return
	}
	to := now + model.Offset(w.rng.Int64N(int64(w.hw-now)/4+1))
	w.starts = []model.Offset{now, to}
	w.must(w.l.AdvanceStart(to))
	w.starts = []model.Offset{to}
	w.what = at
}

func (w *keyedWorld) sync() {
	if s, dirty := w.l.BeginSync(); dirty {
		w.must(w.l.EndSync(s, s.Run()))
	}
	w.wrote()
	w.hw = max(w.hw, w.flushed-model.Offset(w.rng.IntN(4)))
}

// round runs a cleaning round; between its pieces the log goes on.
func (w *keyedWorld) round() {
	a := CompactArgs{NowMs: w.now, Stable: w.hw, HighWatermark: w.hw, DeleteRetention: keyedRetention * time.Millisecond,
		MapBytes: 1 << 20, MapLoad: 0.9, BufferBytes: 1 + w.rng.IntN(2000)}
	c, begun, err := w.l.BeginCompaction(a)
	w.must(err)
	if !begun {
		return
	}
	w.rounds++
	w.touched = max(w.touched, c.rule.end)
	if w.rng.IntN(3) == 0 { // as few keys as a map takes: rounds end in the middle
		c.rule.keys.maxLoad = 0.08
	}
	for more := true; more; {
		w.what = "cleaning"
		err := c.Run(noLimit)
		if w.rng.IntN(4) == 0 {
			w.what = "appending while cleaning"
			w.append()
		}
		switch w.rng.IntN(20) {
		case 0, 1:
			w.sync()
		case 2:
			w.advanceStart()
		case 3:
			w.l.Idle()
		case 4:
			w.must(w.l.Roll())
		}
		w.what = "continuing"
		// Tombstones in these segments may have their horizon from now on.
		for o := model.Offset(0); o < c.rule.end; o++ {
			if _, known := w.cleaned[o]; !known {
				w.cleaned[o] = a.NowMs
			}
		}
		more, err = w.l.ContinueCompaction(c, err)
		if err != nil {
			w.fatalf("%v", err)
		}
	}
	w.swaps += c.stats.Into
	if !c.stats.Abandoned && !c.stats.Full {
		w.what = "after cleaning"
		w.compareCleaned(c.rule.end)
	}
}

// compareCleaned: after a whole round there is one record of each key below its end.
func (w *keyedWorld) compareCleaned(end model.Offset) {
	seen := map[string]model.Offset{}
	rd := record.NewReader(0)
	var rec record.Record
	for _, b := range readAll(w.t, w.l, w.l.StartOffset(), end, 1<<20) {
		w.must(rd.Reset(b))
		for {
			more, err := rd.Next(&rec)
			w.must(err)
			if !more {
				break
			}
			if at, twice := seen[string(rec.Key)]; twice || rec.Key == nil {
				w.fatalf("%q stays at %d and %d", rec.Key, at, rec.Offset)
			}
			seen[string(rec.Key)] = rec.Offset
		}
	}
}

func (w *keyedWorld) step() {
	switch p := w.rng.IntN(100); {
	case p < 55:
		w.what = "append"
		w.append()
	case p < 70:
		w.what = "sync"
		w.sync()
	case p < 76:
		w.what = "checkpoint"
		w.must(w.d.Checkpoint([]CheckpointEntry{w.l.CheckpointEntry(w.hw)}))
	case p < 82:
		w.what = "roll"
		w.must(w.l.Roll())
	case p < 93:
		w.what = "begin"
		w.round()
	case p < 94:
		w.what = "advance start"
		w.advanceStart()
	case p < 96:
		w.now += keyedRetention
	default:
		w.restart()
	}
}

func (w *keyedWorld) restart() {
	switch w.rng.IntN(3) {
	case 0:
		w.what = "clean restart"
		w.must(w.l.Close())
		w.must(w.d.CloseClean([]CheckpointEntry{w.l.CleanEntry(w.hw)}))
		w.flushed = w.end
	case 1:
		w.what = "kill"
		w.mem = w.mem.Clone()
	case 2:
		w.what = "power cut"
		w.mem = w.mem.CrashClone(w.rng.Uint64())
		w.boot++
	}
	w.reopen()
}

func (w *keyedWorld) reopen() {
	w.l = nil
	w.open()
	if w.l.EndOffset() < w.flushed || w.l.EndOffset() > w.end {
		w.fatalf("end %d, flushed was %d, written %d", w.l.EndOffset(), w.flushed, w.end)
	}
	w.lostTail = w.lostTail || w.l.EndOffset() < w.end
	w.wrote()
	w.records = w.records[:w.end]
	w.seqs = map[model.ProducerID]int32{}
	for id, bs := range w.batches {
		for len(bs) > 0 && bs[len(bs)-1].NextOffset() > w.end {
			bs = bs[:len(bs)-1]
		}
		w.batches[id] = bs
		if len(bs) > 0 {
			w.seqs[id] = nextSeq(bs[len(bs)-1].LastSequence())
		}
	}
	w.compare("live", w.l)
}

func keyedSeeds(n uint64) (seeds []uint64) {
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	if testing.Short() {
		n = 2
	}
	for s := uint64(1); s <= n; s++ {
		seeds = append(seeds, s)
	}
	return seeds
}

func TestCompactCrashes(t *testing.T) {
	checks, rounds, swaps := 0, 0, 0
	seeds := keyedSeeds(8)
	for _, seed := range seeds {
		w := newKeyedWorld(t, seed)
		for range 120 {
			w.step()
		}
		w.what = "end"
		w.compare("live", w.l)
		checks, rounds, swaps = checks+w.checks, rounds+w.rounds, swaps+w.swaps
	}
	t.Logf("%d crashes checked, %d rounds, %d swaps", checks, rounds, swaps)
	if *seedFlag == 0 && (rounds < 3*len(seeds) || swaps < 3*len(seeds)) {
		t.Fatal("too few rounds to prove anything")
	}
}
