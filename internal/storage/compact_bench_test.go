package storage

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// compactableLog has closed segments with n batches of ten records each, over keys many
// keys, in one codec.
func compactableLog(t testing.TB, fsys vfs.FS, path string, n, keys int, codec record.Codec) *Log {
	l, _ := testLog(t, testDir(t, fsys, path), Options{SegmentBytes: 4 << 20})
	value := fmt.Sprintf("%0200d", 7)
	for i := range n {
		var kvs []string
		for j := range 10 {
			kvs = append(kvs, fmt.Sprintf("key-%d=%s", (i*10+j*7)%keys, value))
		}
		_, err := l.Append(kvBatch(t, codec, int64(1000+i), kvs...), AppendArgs{})
		ok(t, err)
	}
	ok(t, l.Roll())
	putKV(t, l, 5000, "z=1")
	doSync(t, l)
	return l
}

// TestCompactMemory: what a round allocates follows its bounds, not the size of the log.
func TestCompactMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	mem := func(n int) uint64 {
		l := compactableLog(t, vfs.OS{}, t.TempDir()+"/data", n, 500, record.None)
		a := compactArgs(l, 9000)
		a.BufferBytes = 64 << 10
		c, begun, err := l.BeginCompaction(a)
		if !begun || err != nil {
			t.Fatal(begun, err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for more := true; more; {
			more, err = l.ContinueCompaction(c, c.Run(noLimit))
			ok(t, err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := mem(500), mem(5000) // one segment and three
	t.Logf("%d bytes for 5,000 records, %d for 50,000", small, large)
	if large > small+128<<10 || small > 1<<20 {
		t.Errorf("%d bytes allocated for 5,000 records, %d for 50,000", small, large)
	}
}

func BenchmarkCompact(b *testing.B) {
	for _, codec := range []record.Codec{record.None, record.LZ4, record.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			b.ReportAllocs()
			var read int64
			for range b.N {
				b.StopTimer()
				l := compactableLog(b, vfs.OS{}, b.TempDir()+"/data", 5000, 5000, codec)
				b.StartTimer()
				st := compact(b, l, compactArgs(l, 9000))
				read += st.ReadBytes
			}
			b.SetBytes(read / int64(b.N))
		})
	}
}

// FuzzCompact makes a log of any commands and cleans it again and again: of each key the
// newest record stays or, for a tombstone, nothing older comes back.
func FuzzCompact(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x41\x42\x80\x01\x02\xc0\x05\x41\x80\xc0\x01\x02"), uint16(300))
	f.Add([]byte("abcdefghijklmnop\x80\xc0\xc1\xc2\x80\xc0"), uint16(60))
	f.Fuzz(func(t *testing.T, ops []byte, segment uint16) {
		if len(ops) > 400 {
			return
		}
		d := testDir(t, vfs.NewMem(), "/data")
		l, _ := testLog(t, d, Options{SegmentBytes: 200 + int64(segment)%2000, IndexIntervalBytes: 1 + int(segment)%100})
		newest := map[string]string{}
		now := int64(1000)
		for _, op := range ops {
			now += int64(op)
			switch k := fmt.Sprintf("k%d", op&15); {
			case op < 0x60: // a value, sometimes compressed
				kv := fmt.Sprintf("%s=%d", k, now)
				_, err := l.Append(kvBatch(t, record.Codec((op>>4)%5), now, kv, kv), AppendArgs{})
				ok(t, err)
				newest[k] = fmt.Sprintf("%s=%d", k, now)
			case op < 0x80:
				putKV(t, l, now, k)
				newest[k] = ""
			case op < 0xa0:
				ok(t, l.Roll())
			case op < 0xc0:
				ok(t, l.Write())
				doSync(t, l)
			default:
				a := compactArgs(l, now)
				if op&1 == 1 {
					a.MapBytes = 1
				}
				ok(t, l.Write())
				compact(t, l, a)
			}
		}
		ok(t, l.Write())
		got := map[string]string{}
		r := record.NewReader(0)
		var rec record.Record
		for _, b := range readAll(t, l, 0, l.EndOffset(), 500) {
			ok(t, r.Reset(b))
			for {
				more, err := r.Next(&rec)
				ok(t, err)
				if !more {
					break
				}
				got[string(rec.Key)] = ""
				if rec.Value != nil {
					got[string(rec.Key)] = string(rec.Key) + "=" + string(rec.Value)
				}
			}
		}
		for k, want := range newest {
			if got[k] != want {
				t.Fatalf("%s: %q, want %q", k, got[k], want)
			}
		}
	})
}
