package storage

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// TestMetamorphic runs one random history under many option sets, with and without
// restarts and idle times in between: every answer must be the same.
func TestMetamorphic(t *testing.T) {
	type variant struct {
		name     string
		opts     Options
		restarts int // one in so many operations; 0: none
		kill     bool
		idle     bool
		batching int // operations between writes
	}
	variants := []variant{
		{name: "defaults", batching: 1},
		{name: "tiny segments", opts: Options{SegmentBytes: 1500, IndexIntervalBytes: 1}, batching: 1},
		{name: "staged", opts: Options{SegmentBytes: 4000, IndexIntervalBytes: 300}, batching: 7, idle: true},
		{name: "small index", opts: Options{IndexIntervalBytes: 60, SegmentIndexBytes: 60}, batching: 2},
		{name: "young segments", opts: Options{SegmentAge: 200 * time.Millisecond}, batching: 3},
		{name: "clean restarts", opts: Options{SegmentBytes: 3000, IndexIntervalBytes: 100}, restarts: 10, batching: 2},
		{name: "kills", opts: Options{SegmentBytes: 3000, IndexIntervalBytes: 100}, restarts: 10, kill: true, batching: 2, idle: true},
		{name: "written only", opts: Options{SegmentBytes: 3000, MapAfter: -1, ExtendAfter: -1}, batching: 1},
		{name: "extended", opts: Options{SegmentBytes: 9000, MapAfter: -1, ExtendAfter: 1, AheadBytes: 1000}, restarts: 10, batching: 3, idle: true},
		{name: "extended and killed", opts: Options{SegmentBytes: 3000, MapAfter: 4, ExtendAfter: 500, AheadBytes: 700}, restarts: 10, kill: true, batching: 2, idle: true},
		{name: "mapped at once", opts: Options{MapAfter: 1}, batching: 1},
		{name: "small mappings", opts: Options{SegmentBytes: 3000, MapAfter: 2, AheadBytes: 700}, restarts: 20, kill: true, batching: 1, idle: true},
		{name: "mapped and closed", opts: Options{SegmentBytes: 9000, MapAfter: 1, AheadBytes: 5000}, restarts: 10, batching: 3, idle: true},
		{name: "kills of a large segment", restarts: 15, kill: true, batching: 1},
	}
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	}
	for _, seed := range seeds {
		var want []string
		for _, v := range variants {
			m := &meta{t: t, mem: vfs.NewMem(), opts: v.opts, rng: rand.New(rand.NewPCG(seed, 9))}
			m.open()
			noise := rand.New(rand.NewPCG(seed, uint64(len(v.name))))
			for i := range 300 {
				if v.restarts > 0 && noise.IntN(v.restarts) == 0 {
					m.restart(v.kill)
				}
				if v.idle && noise.IntN(20) == 0 {
					m.l.Idle()
				}
				m.step(i%v.batching == 0)
			}
			m.answers = append(m.answers, m.readAll())
			if want == nil {
				want = m.answers
				continue
			}
			for i := range want {
				if i >= len(m.answers) || m.answers[i] != want[i] {
					t.Fatalf("seed %d, %s: answer %d is %q, with the defaults %q\nrerun: go test ./internal/storage -run TestMetamorphic -storage.seed=%d",
						seed, v.name, i, m.answers[i], want[i], seed)
				}
			}
		}
	}
}

type meta struct {
	t       *testing.T
	mem     *vfs.Mem
	opts    Options
	d       *Dir
	l       *Log
	rng     *rand.Rand
	answers []string
	now     int64
	epoch   model.LeaderEpoch
}

func (m *meta) open() {
	m.d = testDir(m.t, m.mem, "/data")
	m.l, _ = testLog(m.t, m.d, m.opts)
	ok(m.t, m.d.SetBrokerEpoch(m.d.RunMeta().BrokerEpoch+1))
}

func (m *meta) restart(kill bool) {
	ok(m.t, m.l.Write())
	if kill {
		m.mem = m.mem.Clone()
	} else {
		ok(m.t, m.l.Close())
		ok(m.t, m.d.CloseClean([]CheckpointEntry{m.l.CleanEntry(0)}))
	}
	m.open()
}

func (m *meta) answer(format string, args ...any) {
	m.answers = append(m.answers, fmt.Sprintf(format, args...))
}

// step takes the same random numbers in every variant.
func (m *meta) step(write bool) {
	l, r := m.l, m.rng
	op, a, b := r.IntN(100), r.Int64(), r.Int64()
	within := func(x int64, lo, hi model.Offset) model.Offset { return lo + model.Offset(uint64(x)%uint64(hi-lo+1)) }
	if op >= 55 {
		ok(m.t, l.Write())
	}
	switch {
	case op < 55:
		m.now += a & 63
		s := batchSpec{n: 1 + int(b&3), ts: m.now - b>>3&127, size: 1 + int(a>>8&255), tag: fmt.Sprint(m.now)}
		if b>>10&1 == 1 {
			s.pid, s.seq, s.n = model.ProducerID(1+b>>11&1), int32(a>>20&7), 1 // often wrong: the refusal is an answer
		}
		res, err := l.Append(s.build(m.t), AppendArgs{Epoch: m.epoch, NowMs: m.now, Client: true, Through: a>>50&1 == 1})
		m.answer("append %+v %v", res, err)
		if write {
			ok(m.t, l.Write())
		}
	case op < 70:
		from, to := within(a, l.StartOffset(), l.EndOffset()), within(b, l.StartOffset(), l.EndOffset())
		m.answer("read %x", sha256.Sum256(concat(readAll(m.t, l, from, to, 1+int(a>>40&2047)))))
	case op < 78:
		at, found, err := l.OffsetForTimestamp(m.now-a&1023, within(b, l.StartOffset(), l.EndOffset()))
		m.answer("time %+v %v %v", at, found, err)
	case op < 82:
		at, found, err := l.MaxTimestamp(within(b, l.StartOffset(), l.EndOffset()))
		m.answer("max time %+v %v %v", at, found, err)
	case op < 86:
		e, end := l.EpochEnd(model.LeaderEpoch(a & 15))
		if e <= l.EpochAt(l.EndOffset()-1) { // an epoch without records may be lost
			m.answer("epoch end %d %d", e, end)
		}
	case op < 90:
		m.epoch++
		l.StartEpoch(m.epoch)
	case op < 93:
		to := within(a, l.StartOffset(), l.StartOffset()+(l.EndOffset()-l.StartOffset())/4)
		m.answer("advance %v, start %d", l.AdvanceStart(to), l.StartOffset())
	case op < 96:
		// Not within the batch that holds the start: that empties the log, and what is then
		// left of the producers depends on where segments began.
		to := within(a, min(l.EndOffset(), max(l.StartOffset()+4, l.EndOffset()-20)), l.EndOffset())
		m.answer("truncate %v, end %d", l.TruncateTo(to), l.EndOffset())
		m.epoch = max(m.epoch, l.LatestEpoch())
	default:
		doSync(m.t, l)
		ok(m.t, m.d.Checkpoint([]CheckpointEntry{l.CheckpointEntry(0)}))
	}
}

func (m *meta) readAll() string {
	ok(m.t, m.l.Write())
	all := readAll(m.t, m.l, m.l.StartOffset(), m.l.EndOffset(), 1<<20)
	return fmt.Sprintf("[%d, %d) %x", m.l.StartOffset(), m.l.EndOffset(), sha256.Sum256(concat(all)))
}

// FuzzRecover gives the log any bytes for a segment, an index and the epochs, with and
// without a checkpoint: it opens or reports damage, what it serves is whole batches with
// good checksums in order, and a second opening finds the same.
func FuzzRecover(f *testing.F) {
	var seg []byte
	for i := range 5 {
		b := batchSpec{n: 2, pid: 3, seq: int32(2 * i)}.build(f)
		b.SetBaseOffset(model.Offset(2 * i))
		seg = append(seg, b...)
	}
	f.Add(seg, []byte{0, 0, 0, 3, 0, 0, 0, 100}, []byte("0\n1\n0 0\n"), uint16(0))
	f.Add(seg[:300], []byte{}, []byte{}, uint16(100))
	f.Add(append(slices.Clone(seg), make([]byte, 700)...), []byte{1}, []byte("0\n0\n"), uint16(95))
	f.Fuzz(func(t *testing.T, seg, index, epochs []byte, point uint16) {
		m := vfs.NewMem()
		d := testDir(t, m, "/data")
		dir := d.partPath(part)
		ok(t, m.MkdirAll(dir))
		for name, b := range map[string][]byte{fileName(0, logSuffix): seg, fileName(0, indexSuffix): index, epochFile: epochs} {
			ok(t, vfs.WriteFile(m, dir+"/"+name, b, true))
		}
		if point > 0 {
			ok(t, d.record(CheckpointEntry{Partition: part, RecoveryPoint: model.Offset(point) / 50, position: int64(point)}))
		}
		l, _, err := d.OpenLog(part, Options{IndexIntervalBytes: 50})
		if err != nil {
			if !isCorrupt(err) {
				t.Fatal(err)
			}
			return
		}
		end := l.EndOffset()
		serve := func(l *Log) []byte {
			var all []byte
			last := model.Offset(-1)
			for from := l.StartOffset(); from < l.EndOffset(); {
				v, err := l.Read(from, l.EndOffset(), 200, true)
				if err != nil {
					if !isCorrupt(err) {
						t.Fatal(err)
					}
					return nil
				}
				b := readView(t, v)
				if len(b) == 0 {
					break
				}
				for len(b) > 0 {
					batch, rest, err := record.Split(b)
					switch {
					case err != nil && point > 0:
						return nil // taken on trust
					case err != nil:
						t.Fatalf("served what is no batch behind %d: %v", last, err)
					case batch.BaseOffset() <= last && point == 0:
						t.Fatalf("served %v behind %d", batch.BaseOffset(), last)
					}
					if point == 0 && !batch.CheckCRC() {
						t.Fatal("served a batch with a bad checksum")
					}
					last, b = batch.LastOffset(), rest
					from = max(from+1, batch.NextOffset())
					all = append(all, batch...)
				}
			}
			return all
		}
		first := serve(l)
		if point > 0 {
			return // bytes below a recovery point are taken on trust until they are read
		}
		l2, r, err := testDir(t, m.CrashClone(0), "/data").OpenLog(part, Options{})
		ok(t, err)
		if l2.EndOffset() != end || r.CutBytes != 0 || !bytes.Equal(serve(l2), first) {
			t.Fatalf("second opening: end %d, first %d, %+v", l2.EndOffset(), end, r)
		}
	})
}

// FuzzFiles gives any bytes to the decoders of all small files: no panic, and what they
// accept they write back the same.
func FuzzFiles(f *testing.F) {
	p := producers{}
	b := batchSpec{pid: 9}.build(f)
	p.apply(b, 5)
	s := sums{}
	s.add(b, 0)
	s.seal(int64(len(b)))
	for _, seed := range [][]byte{
		p.encode(10, 3), p.encodeSnapshot(), s.encode(10), []byte("0\n2\n1 5\n3 9\n"),
		props{{"a", "b"}}.encode(), appendCheckpoint([]byte(checkpointMagic), &CheckpointEntry{LogStart: 4}, false),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if byID, epoch, err := decodeProducers(b, 10); err == nil {
			if again := (&producers{byID: byID}).encode(10, epoch); len(again) != len(b) {
				t.Fatalf("producers: %d bytes read, %d written", len(b), len(again))
			}
		}
		if byID, err := decodeSnapshot(b); err == nil && len((&producers{byID: byID}).encodeSnapshot()) > len(b) {
			t.Fatal("snapshot grew")
		}
		if s, err := decodeSums(b, 10); err == nil && !bytes.Equal(s.encode(10), b) {
			t.Fatal("sums changed")
		}
		if e, err := decodeEpochs(b); err == nil {
			if again, err := decodeEpochs((&epochCache{entries: e}).encode()); err != nil || !slices.Equal(again, e) {
				t.Fatalf("epochs: %v, %v", again, err)
			}
		}
		if kv, err := decodeProps(b); err == nil && !bytes.Equal(kv.encode(), b) {
			t.Fatal("properties changed")
		}
		_, _, _, _ = decodeCheckpoints(b)
	})
}
