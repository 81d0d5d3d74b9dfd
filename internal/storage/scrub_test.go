package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// free is a limit that never waits.
func free(int) error { return nil }

// scrubAll checks all segments and returns what is known of them.
func scrubAll(t testing.TB, l *Log) (all []ScrubResult) {
	t.Helper()
	for from := model.Offset(0); ; {
		c, more := l.BeginScrub(from)
		if !more {
			return all
		}
		r, err := scrubOne(l, c, nil)
		ok(t, err)
		all = append(all, r)
		from = r.End
	}
}

// scrubOne goes through one check; between, if given, is called before each step, with its
// number: Run has the even ones, ContinueScrub the odd ones.
func scrubOne(l *Log, c *Scrub, between func(step int)) (ScrubResult, error) {
	if between == nil {
		between = func(int) {}
	}
	for step := 0; ; step += 2 {
		between(step)
		err := c.Run(free)
		between(step + 1)
		more, err := l.ContinueScrub(c, err)
		if !more {
			return c.Result(), err
		}
	}
}

// damageIn is what all results hold.
func damageIn(rs []ScrubResult) (n int) {
	for _, r := range rs {
		n += len(r.Damage)
	}
	return n
}

func rebuiltIn(rs []ScrubResult) (names []string) {
	for _, r := range rs {
		names = append(names, r.Rebuilt...)
	}
	return names
}

// scrubLog is a log with closed segments: many small batches over more than two marks,
// batches larger than what is read at once, and gaps as compaction leaves them.
func scrubbable(t testing.TB, disk vfs.FS) (*Dir, *Log) {
	t.Helper()
	d := testDir(t, disk, "/data")
	l, _ := testLog(t, d, scrubOptions())
	for i := range 1500 {
		put(t, l, batchSpec{n: 1 + i%7, size: 100 + i%400, ts: int64(1000 + i), codec: record.Codec(i % 4), tag: fmt.Sprint(i)})
	}
	for i := range 6 {
		put(t, l, batchSpec{n: 2, size: 300 << 10, ts: int64(5000 + i)})
		put(t, l, batchSpec{ts: int64(5000 + i)})
	}
	ok(t, l.Roll())
	put(t, l, batchSpec{})
	doSync(t, l)
	if l.Segments() < 3 {
		t.Fatalf("%d segments", l.Segments())
	}
	return d, l
}

// closeSynced closes a log of which nothing is scanned when it is opened again.
func closeSynced(t testing.TB, d *Dir, l *Log) {
	t.Helper()
	ok(t, d.Checkpoint([]CheckpointEntry{l.CheckpointEntry(l.end)}))
	ok(t, l.Close())
}

func scrubOptions() Options { return Options{SegmentBytes: 2500 << 10} }

// flipBit turns one bit of a file and returns what turns it back.
func flipBit(t testing.TB, disk vfs.FS, name string, at int64, bit uint) (undo func()) {
	t.Helper()
	once := func() {
		f, err := disk.OpenReadWrite(name)
		ok(t, err)
		b := []byte{0}
		_, err = f.ReadAt(b, at)
		ok(t, err)
		b[0] ^= 1 << bit
		_, err = f.WriteAt(b, at)
		ok(t, err)
		ok(t, f.Close())
	}
	once()
	return once
}

func fileOf(t testing.TB, disk vfs.FS, name string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(disk, name, 1<<30)
	ok(t, err)
	return b
}

// readAround reads the log from the start, goes on behind what is refused, and returns
// what it got and how many bytes were left out.
func readAround(t testing.TB, l *Log, whole []record.Batch) (lost int64) {
	t.Helper()
	for from := model.Offset(0); from < l.end; {
		v, err := l.Read(from, l.end, 1<<20, true)
		if err != nil {
			if !errors.Is(err, kerr.CorruptMessage) {
				t.Fatalf("read at %d: %v", from, err)
			}
			s := l.segs[l.segmentFor(from)]
			i := slices.IndexFunc(s.damage, func(d Damage) bool { return d.First <= from && from < d.Next })
			if i < 0 {
				t.Fatalf("read at %d is refused outside of %v", from, s.damage)
			}
			from = s.damage[i].Next
			continue
		}
		if v.Len == 0 {
			t.Fatalf("read at %d of %d: nothing", from, l.end)
		}
		for b := readView(t, v); len(b) > 0; {
			batch, rest, err := record.Split(b)
			ok(t, err)
			for len(whole) > 0 && whole[0].BaseOffset() < batch.BaseOffset() {
				lost += int64(whole[0].Size())
				whole = whole[1:]
			}
			if len(whole) == 0 || !bytes.Equal(whole[0], batch) {
				t.Fatalf("read at %d: other bytes than were written", from)
			}
			whole = whole[1:]
			from, b = batch.NextOffset(), rest
		}
	}
	return lost
}

// Every flipped bit of a closed segment is found, at its place; what is served is what was
// written, all of it but the damage; and nothing is found where nothing is wrong.
func TestScrubFindsEveryFlip(t *testing.T) {
	disk := vfs.NewMem()
	d, l := scrubbable(t, disk)
	whole := readAll(t, l, 0, l.end, 1<<20)
	var headers []int64 // of the first closed segment
	for pos := int64(0); pos < l.segs[0].size; {
		headers = append(headers, pos)
		b := record.Batch(fileOf(t, disk, l.segPath(l.segs[0], logSuffix))[pos:])
		pos += int64(b.Size())
		if len(headers) == 40 {
			break
		}
	}
	seed := uint64(17)
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range 300 {
		s := l.segs[rng.IntN(len(l.segs)-1)]
		at := rng.Int64N(s.size)
		if i%2 == 0 { // the header of a batch, of which there is little
			s = l.segs[0]
			at = headers[rng.IntN(len(headers))] + rng.Int64N(record.HeaderLen)
		}
		bit := uint(rng.IntN(8))
		undo := flipBit(t, disk, l.segPath(s, logSuffix), at, bit)
		if i%3 == 0 { // what the log had in memory is gone
			closeSynced(t, d, l)
			l, _ = testLog(t, d, scrubOptions())
			s = l.segs[l.segmentFor(s.base)]
		}
		rs := scrubAll(t, l)
		if damageIn(rs) != 1 || len(s.damage) != 1 || s.damage[0].Position > at || s.damage[0].end() <= at {
			t.Fatalf("seed %d, flip %d: bit %d at %d of %s: found %v", seed, i, bit, at, fileName(s.base, logSuffix), rs)
		}
		if n := rebuiltIn(rs); len(n) > 0 {
			t.Fatalf("flip %d: rebuilt %v beside a damaged log", i, n)
		}
		lost := readAround(t, l, whole)
		if lost != s.damage[0].Length || lost > markSpacing+700<<10 {
			t.Fatalf("seed %d, flip %d at %d: %d bytes cannot be read, damaged are %v", seed, i, at, lost, s.damage)
		}
		if body := errors.Is(s.damage[0].Err, ErrChecksum); body && lost > 700<<10 {
			t.Fatalf("a batch of %d bytes", lost)
		}
		undo()
		if rs := scrubAll(t, l); damageIn(rs) > 0 || len(s.damage) > 0 || len(rebuiltIn(rs)) > 0 {
			t.Fatalf("flip %d undone: %v", i, rs)
		}
	}
	if got := readAll(t, l, 0, l.end, 1<<20); !bytes.Equal(concat(got), concat(whole)) {
		t.Fatal("the log has changed")
	}
}

// The same on a real disk, once.
func TestScrubOnDisk(t *testing.T) {
	disks(t, func(t *testing.T, fsys vfs.FS, path string) {
		d := testDir(t, fsys, path)
		l, _ := testLog(t, d, Options{SegmentBytes: 620 << 10})
		for i := range 14 {
			put(t, l, batchSpec{n: 100, size: 1000, ts: int64(1000 + i)})
		}
		doSync(t, l)
		if rs := scrubAll(t, l); len(rs) != l.Segments()-1 || damageIn(rs) > 0 || len(rebuiltIn(rs)) > 0 {
			t.Fatalf("%v", rs)
		}
		flipBit(t, fsys, l.segPath(l.segs[0], logSuffix), 300000, 1)
		flipBit(t, fsys, l.segPath(l.segs[1], indexSuffix), 3, 1)
		if rs := scrubAll(t, l); damageIn(rs) != 1 || len(rebuiltIn(rs)) != 3 {
			t.Fatalf("%v", rs)
		}
	})
}

// Several places in one segment are told apart, up to a bound, and all are refused.
func TestScrubFindsManyPlaces(t *testing.T) {
	disk := vfs.NewMem()
	_, l := scrubbable(t, disk)
	whole := readAll(t, l, 0, l.end, 1<<20)
	s, want := l.segs[0], 0
	for i, pos := 0, int64(0); pos < s.size; i++ {
		b := record.Batch(fileOf(t, disk, l.segPath(s, logSuffix))[pos:])
		if i%20 == 3 && want < 2*maxDamages {
			flipBit(t, disk, l.segPath(s, logSuffix), pos+record.HeaderLen, 0)
			want++
		}
		pos += int64(b.Size())
	}
	rs := scrubAll(t, l)
	if got := damageIn(rs); got != min(want, maxDamages) || want <= maxDamages {
		t.Fatalf("%d places damaged, %d found", want, got)
	}
	if lost := readAround(t, l, whole); lost == 0 {
		t.Fatal("nothing is refused")
	}
}

// Files beside the log are made anew, as they were, and only where the log is whole.
func TestScrubRebuildsSides(t *testing.T) {
	for _, suffix := range []string{indexSuffix, timeIndexSuffix, sumsSuffix} {
		for _, how := range []string{"flip", "cut", "remove"} {
			for _, reopen := range []bool{false, true} {
				t.Run(fmt.Sprint(suffix, how, reopen), func(t *testing.T) {
					disk := vfs.NewMem()
					d, l := fewPieces(t, disk)
					name := l.segPath(l.segs[0], suffix)
					before := fileOf(t, disk, name)
					if reopen {
						closeSynced(t, d, l)
					}
					switch how {
					case "flip":
						flipBit(t, disk, name, int64(len(before)/2), 3)
					case "cut":
						f, err := disk.OpenReadWrite(name)
						ok(t, err)
						ok(t, f.Truncate(int64(len(before)/2)))
						ok(t, f.Close())
					default:
						ok(t, disk.Remove(name))
					}
					if reopen {
						l, _ = testLog(t, d, Options{})
					}
					rs := scrubAll(t, l)
					if damageIn(rs) > 0 || !slices.Contains(rebuiltIn(rs), fileName(0, suffix)) {
						t.Fatalf("%v", rs)
					}
					if !bytes.Equal(fileOf(t, disk, name), before) {
						t.Fatal("it is not what it was")
					}
					if rs := scrubAll(t, l); damageIn(rs) > 0 || len(rebuiltIn(rs)) > 0 {
						t.Fatalf("once more: %v", rs)
					}
					names, err := disk.List(l.path)
					ok(t, err)
					if strings.Contains(strings.Join(names, " "), tempSuffix) {
						t.Fatalf("left behind: %q", names)
					}
					if _, found, err := l.OffsetForTimestamp(1003, l.end); err != nil || !found {
						t.Fatal(found, err)
					}
					if e := l.Events(); e.IndexesRebuilt+e.SumsRebuilt == 0 || e.IndexesRebuilt > 1 || e.SumsRebuilt > 1 {
						t.Fatalf("%+v", e)
					}
				})
			}
		}
	}
}

// A closed segment that is shorter or longer than it was, or gone.
func TestScrubFindsWrongSize(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		for _, size := range []int64{0, 100, 2 << 20, -1, 3 << 20} {
			t.Run(fmt.Sprint(size, reopen), func(t *testing.T) {
				disk := vfs.NewMem()
				d, l := scrubbable(t, disk)
				name := l.segPath(l.segs[0], logSuffix)
				if reopen {
					closeSynced(t, d, l)
				}
				if size < 0 {
					if reopen {
						return // the next segment is then the first
					}
					ok(t, disk.Remove(name))
					l.Idle()
				} else {
					f, err := disk.OpenReadWrite(name)
					ok(t, err)
					ok(t, f.Truncate(size))
					ok(t, f.Close())
				}
				if reopen {
					l, _ = testLog(t, d, scrubOptions())
				}
				rs := scrubAll(t, l)
				if len(rs[0].Damage) != 1 || damageIn(rs) != 1 {
					t.Fatalf("%v", rs)
				}
				x := rs[0].Damage[0]
				switch size {
				case 2 << 20:
					if x.Position < 1<<20 || x.Position > size || x.Next != rs[0].End || !errors.Is(x.Err, ErrTorn) {
						t.Errorf("%+v", x)
					}
				case 3 << 20:
					if x.First != x.Next || !errors.Is(x.Err, ErrSums) {
						t.Errorf("%+v", x)
					}
				default:
					if x.Position != 0 || x.First != 0 || x.Next != rs[0].End {
						t.Errorf("%+v", x)
					}
					if _, err := l.Read(5, l.end, 1000, true); !errors.Is(err, kerr.CorruptMessage) {
						t.Errorf("read: %v", err)
					}
					if size < 0 && !errors.Is(x.Err, fs.ErrNotExist) {
						t.Errorf("%+v", x)
					}
				}
				if !reopen && size == 2<<20 { // what is before the damage is served
					if v, err := l.Read(0, l.end, 1<<20, true); err != nil || v.Len == 0 {
						t.Error(err)
					} else {
						v.Release()
					}
				}
				if v, err := l.Read(rs[0].End, l.end, 1000, true); err != nil || v.Base != rs[0].End {
					t.Errorf("the next segment: %v", err)
				} else {
					v.Release()
				}
			})
		}
	}
}

// A closed segment of which nothing is left is no gap, even before a scrub.
func TestEmptiedSegmentIsNoGap(t *testing.T) {
	disk := vfs.NewMem()
	d, l := fewPieces(t, disk)
	closeSynced(t, d, l)
	f, err := disk.OpenReadWrite(l.segPath(l.segs[0], logSuffix))
	ok(t, err)
	ok(t, f.Truncate(0))
	l, _ = testLog(t, d, Options{})
	if v, err := l.Read(0, l.end, 1000, true); !errors.Is(err, ErrSums) {
		t.Fatalf("%+v, %v", v, err)
	}
}

// fewPieces is a log whose first segment is read in three pieces.
func fewPieces(t testing.TB, disk vfs.FS) (*Dir, *Log) {
	t.Helper()
	d := testDir(t, disk, "/data")
	l, _ := testLog(t, d, Options{SegmentBytes: 620 << 10})
	for i := range 14 {
		put(t, l, batchSpec{n: 100, size: 1000, ts: int64(1000 + i)})
	}
	doSync(t, l)
	return d, l
}

// The check finds the same whatever pieces the bytes come in.
func TestSegmentCheckPieces(t *testing.T) {
	disk := vfs.NewMem()
	_, l := scrubbable(t, disk)
	s := l.segs[0]
	good := fileOf(t, disk, l.segPath(s, logSuffix))
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 30 {
		b := bytes.Clone(good)
		for range i % 4 {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		b = b[:len(b)-rng.IntN(2)*rng.IntN(len(b))]
		for _, u := range []*sums{s.sums, nil} {
			all := newSegmentCheck(s.base, l.segs[1].base, s.size, u)
			all.take(b)
			want := fmt.Sprint(all.finish())
			pieces := newSegmentCheck(s.base, l.segs[1].base, s.size, u)
			for rest := b; len(rest) > 0; {
				n := min(1+rng.IntN(1+rng.IntN(5000)), len(rest))
				pieces.take(rest[:n])
				rest = rest[n:]
			}
			if got := fmt.Sprint(pieces.finish()); got != want || all.batches != pieces.batches {
				t.Fatalf("in pieces %s, at once %s", got, want)
			}
			if i == 0 && len(b) == len(good) && want != "[]" {
				t.Fatalf("untouched: %s", want)
			}
		}
	}
}

// The record outlives the process, and is not believed when it is damaged.
func TestScrubRecord(t *testing.T) {
	disk := vfs.NewMem()
	d := testDir(t, disk, "/data")
	if r, err := d.ReadScrub(); err != nil || r.CompletedMs != 0 || r.Damaged != nil {
		t.Fatal(r, err)
	}
	want := ScrubRecord{CompletedMs: 5, BeganMs: 6, At: part, From: 7}
	for i := range maxRecordedDamage + 1 {
		want.Damaged = append(want.Damaged, DamagedSegment{part, model.Offset(i), 1, 1 << 40, 3, 1 << 62})
	}
	ok(t, d.WriteScrub(want))
	got, err := d.ReadScrub()
	want.Damaged = want.Damaged[:maxRecordedDamage]
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%v, %v", got, err)
	}
	flipBit(t, disk, "/data/"+scrubFile, 40, 0)
	if r, err := d.ReadScrub(); err != nil || r.CompletedMs != 0 || r.Damaged != nil {
		t.Fatal(r, err)
	}
	for _, p := range []props{
		{{"completed.ms", "1"}, {"began.ms", "1"}, {"from", "1"}, {"at", "x"}},
		{{"completed.ms", "z"}, {"began.ms", "1"}, {"from", "1"}, {"at", part.String()}},
		{{"completed.ms", "1"}, {"began.ms", "1"}, {"from", "1"}, {"at", part.String()}, {"damaged", "x"}},
		{{"completed.ms", "1"}, {"began.ms", "1"}, {"from", "1"}, {"at", part.String()}, {"damaged", part.String() + " 1 2 3"}},
	} {
		if r, good := decodeScrub(p); good {
			t.Errorf("%v: %v", p, r)
		}
	}
}
