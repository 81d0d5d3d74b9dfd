package storage

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// kv is a record for tests of compaction: "k=v", "k" for a tombstone, "=v" without a key.
func kvRecords(ts int64, kvs ...string) []record.Record {
	recs := make([]record.Record, len(kvs))
	for i, kv := range kvs {
		recs[i].Timestamp = ts + int64(i)
		k, v, has := bytes.Cut([]byte(kv), []byte("="))
		if len(k) > 0 {
			recs[i].Key = k
		}
		if has {
			recs[i].Value = v
		}
	}
	return recs
}

func kvBatch(t testing.TB, codec record.Codec, ts int64, kvs ...string) record.Batch {
	t.Helper()
	tpl := record.NewTemplate()
	tpl.Codec = codec
	b, err := record.Build(nil, tpl, kvRecords(ts, kvs...))
	ok(t, err)
	return b
}

// putKV appends a batch at time ts and writes it.
func putKV(t testing.TB, l *Log, ts int64, kvs ...string) {
	t.Helper()
	_, err := l.Append(kvBatch(t, record.None, ts, kvs...), AppendArgs{Epoch: max(0, l.LatestEpoch()), NowMs: ts})
	ok(t, err)
	ok(t, l.Write())
}

// list prints the records of a log, with offsets: "0:a=1 1:b 2:=x".
func list(t testing.TB, l *Log) string {
	t.Helper()
	var out []string
	r := record.NewReader(0)
	var rec record.Record
	for _, b := range readAll(t, l, l.StartOffset(), l.EndOffset(), 1<<20) {
		ok(t, r.Reset(b))
		for {
			more, err := r.Next(&rec)
			ok(t, err)
			if !more {
				break
			}
			if rec.Offset < l.StartOffset() {
				continue
			}
			kv := fmt.Sprintf("%d:%s", rec.Offset, rec.Key)
			if rec.Value != nil {
				kv += "=" + string(rec.Value)
			}
			out = append(out, kv)
		}
	}
	return fmt.Sprint(out)
}

func noLimit(int) error { return nil }

// compactArgs are arguments that take all that is closed and synced.
func compactArgs(l *Log, nowMs int64) CompactArgs {
	return CompactArgs{NowMs: nowMs, Stable: l.EndOffset(), HighWatermark: l.EndOffset(),
		DeleteRetention: time.Second, MapBytes: 1 << 20, MapLoad: 0.9, BufferBytes: 4096}
}

// compact runs a whole round; nil if there was nothing to do.
func compact(t testing.TB, l *Log, a CompactArgs) *CleanStats {
	t.Helper()
	c, begun, err := l.BeginCompaction(a)
	ok(t, err)
	if !begun {
		return nil
	}
	for more := true; more; {
		more, err = l.ContinueCompaction(c, c.Run(noLimit))
		ok(t, err)
	}
	st := c.Stats()
	return &st
}

// TestCompactKeepsTheLatest: of each key the newest record stays at its offset, closed
// segments become one, the active one is left alone, and so it is after a crash.
func TestCompactKeepsTheLatest(t *testing.T) {
	disks(t, func(t *testing.T, fsys vfs.FS, path string) {
		d := testDir(t, fsys, path)
		l, _ := testLog(t, d, Options{})
		putKV(t, l, 1000, "a=1", "b=1", "c=1")
		putKV(t, l, 1010, "a=2", "=none")
		ok(t, l.Roll())
		putKV(t, l, 1020, "b=2", "d=1")
		ok(t, l.Roll())
		putKV(t, l, 1030, "a=3")
		doSync(t, l)
		want := "[2:c=1 3:a=2 5:b=2 6:d=1 7:a=3]"
		st := compact(t, l, compactArgs(l, 2000))
		if st == nil || st.Segments != 2 || st.Into != 1 || st.Keys != 4 || st.Records != 7 || st.Kept != 4 || st.End != 7 {
			t.Fatalf("stats %+v", st)
		}
		if got := list(t, l); got != want {
			t.Fatalf("compacted to %s, want %s", got, want)
		}
		if l.Segments() != 2 || l.StartOffset() != 0 || l.EndOffset() != 8 {
			t.Fatalf("%d segments, [%d, %d)", l.Segments(), l.StartOffset(), l.EndOffset())
		}
		if compact(t, l, compactArgs(l, 2000)) != nil {
			t.Fatal("a clean log was cleaned again")
		}
		names, err := fsys.List(l.Path())
		ok(t, err)
		ok(t, l.Close())
		l, r := testLog(t, d, Options{})
		if got := list(t, l); got != want || r.Damaged {
			t.Fatalf("opened again: %s, want %s; %+v, files %q", got, want, r, names)
		}
	})
}

// TestCompactMapFull: a round whose keys do not all fit the map cleans up to where it was
// full, record by record, and the next goes on there. A tombstone beyond that stays even
// after its horizon: what it deletes was not found yet.
func TestCompactMapFull(t *testing.T) {
	l, _ := testLog(t, testDir(t, vfs.NewMem(), "/data"), Options{})
	const fits = 57 // in the smallest map
	var first, second []string
	for i := range fits {
		first = append(first, fmt.Sprintf("k%d=1", i))
		second = append(second, fmt.Sprintf("y%d=1", i))
	}
	putKV(t, l, 1000, first...)
	putKV(t, l, 1000, append(append([]string{"x=1"}, second...), "x", "=nokey", "k0=2")...)
	ok(t, l.Roll())
	putKV(t, l, 1000, "z=1")
	doSync(t, l)
	a := compactArgs(l, 5000)
	a.MapBytes = 1
	st := compact(t, l, a)
	if !st.Full || st.End != fits || st.Keys != fits || st.Segments != 1 {
		t.Fatalf("first round: %+v", st)
	}
	tombstone := fmt.Sprintf(" %d:x ", 2*fits+1)
	if got := list(t, l); !strings.Contains(got, "57:x=1") || !strings.Contains(got, tombstone) || !strings.Contains(got, "=nokey") || !strings.Contains(got, "0:k0=1") {
		t.Fatalf("first round: %s", got)
	}
	a.NowMs = 9000 // the tombstone's horizon has passed
	st = compact(t, l, a)
	if !st.Full || st.End != 2*fits {
		t.Fatalf("second round: %+v", st)
	}
	if got := list(t, l); !strings.Contains(got, "57:x=1") || !strings.Contains(got, tombstone) {
		t.Fatalf("second round: %s", got)
	}
	a.NowMs++
	if st = compact(t, l, a); st.Full || st.End != l.EndOffset()-1 {
		t.Fatalf("third round: %+v", st)
	}
	got := list(t, l)
	for _, gone := range []string{":x", "nokey", " 0:k0"} {
		if strings.Contains(got, gone) {
			t.Fatalf("third round leaves %s: %s", gone, got)
		}
	}
	if compact(t, l, a) != nil {
		t.Fatal("a fourth round")
	}
}

// TestKeyMap: it holds what it was given, never more than its bound, and grows as needed.
func TestKeyMap(t *testing.T) {
	m := newKeyMap(100_000, 0.75)
	if m.latest([]byte("x")) != -1 || m.bytes() != 0 {
		t.Fatal("an empty map")
	}
	n, peak := 0, int64(0)
	for ; ; n++ {
		before := m.bytes()
		fits := m.put([]byte(fmt.Sprint(n)), model.Offset(n))
		if m.bytes() != before {
			peak = max(peak, before+m.bytes())
		}
		if !fits {
			break
		}
	}
	// 100,000 bytes are 4166 slots; four fifths of them three quarters full are 2499.
	if n < 2400 || n > 2500 || peak > 100_000 {
		t.Fatalf("%d keys, %d bytes at once", n, peak)
	}
	if !m.put([]byte("7"), 9999) || !m.put([]byte("8"), 2) {
		t.Fatal("a known key needs room")
	}
	for i := range n {
		want := model.Offset(i)
		if i == 7 {
			want = 9999
		}
		if got := m.latest([]byte(fmt.Sprint(i))); got != want {
			t.Fatalf("key %d: %d", i, got)
		}
	}
	if m.latest([]byte(fmt.Sprint(n))) != -1 {
		t.Fatal("the key that did not fit is there")
	}
}

// TestSwapOrder: on a disk that keeps names in any order, each step needs the sync of the
// one before.
func TestSwapOrder(t *testing.T) {
	disk := vfs.NewFaults(vfs.NewMem())
	l, _ := testLog(t, testDir(t, disk, "/data"), Options{})
	putKV(t, l, 1, "a=1")
	ok(t, l.Roll())
	putKV(t, l, 1, "a=2")
	ok(t, l.Roll())
	putKV(t, l, 1, "a=3")
	doSync(t, l)
	var ops []string
	disk.Add(vfs.Rule{Hook: func(op vfs.Op, name string) {
		base := filepath.Base(name)
		switch {
		case op == vfs.OpSyncDir, op == vfs.OpRename, op == vfs.OpRemove, op == vfs.OpSync, op == vfs.OpDatasync:
			ops = append(ops, fmt.Sprintf("%s %s", op, strings.TrimLeft(base, "0")))
		}
	}})
	if st := compact(t, l, compactArgs(l, 9)); st.Into != 1 {
		t.Fatalf("%+v", st)
	}
	dir := "syncdir " + filepath.Base(l.Path())
	want := []string{
		"sync checkpoints.tmp", "rename checkpoints", "syncdir data",
		"sync .log.cleaned", "sync .index.cleaned", "sync .timeindex.cleaned", "sync .sums.cleaned", "sync .swap.tmp", dir,
		"rename .swap", dir,
		"remove 1.sums", "remove 1.index", "remove 1.timeindex", "remove 1.log", "remove 1.txnindex", "remove .txnindex",
		"rename .sums", "rename .index", "rename .timeindex", "rename .log", dir, "remove .swap",
		"sync cleaned.tmp", "rename cleaned", dir,
	}
	if got, want := strings.Join(ops, "\n"), strings.Join(want, "\n"); got != want {
		t.Fatalf("operations:\n%s\nwant:\n%s", got, want)
	}
}
