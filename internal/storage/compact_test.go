package storage

import (
	"bytes"
	"fmt"
	"testing"
	"time"

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
