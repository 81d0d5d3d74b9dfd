package storage

import (
	"path/filepath"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// TestNoAllocations holds the hot paths to zero allocations: append and write of a small
// batch with and without a producer id, and a read of the log end, of the middle, and by
// way of the index.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	d := testDir(t, vfs.OS{}, filepath.Join(t.TempDir(), "data"))
	l, _ := testLog(t, d, Options{})
	plain := batchSpec{size: 100}.build(t)
	idem := batchSpec{size: 100, pid: 5}.build(t)
	seq := int32(0)
	warm := func() {
		for range 1000 {
			if _, err := l.Append(plain, AppendArgs{}); err != nil {
				t.Fatal(err)
			}
		}
		ok(t, l.Write())
	}
	warm()
	buf := make([]byte, 64<<10)
	read := func(from model.Offset, maxBytes int) {
		v, err := l.Read(from, l.EndOffset(), maxBytes, true)
		if err != nil || v.Len == 0 {
			t.Fatal(v.Len, err)
		}
		if _, err := v.ReadAt(buf[:min(len(buf), v.Len)], 0); err != nil {
			t.Fatal(err)
		}
		v.Release()
	}
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"append", func() {
			_, _ = l.Append(plain, AppendArgs{Client: true})
			_ = l.Write()
		}},
		{"append idempotent", func() {
			// Sequence numbers lie under the checksum, which the log does not look at again.
			idem[53], idem[54], idem[55], idem[56] = byte(seq>>24), byte(seq>>16), byte(seq>>8), byte(seq)
			seq++
			if _, err := l.Append(idem, AppendArgs{Client: true}); err != nil {
				t.Fatal(err)
			}
			_ = l.Write()
		}},
		{"append through", func() { _, _ = l.Append(plain, AppendArgs{Client: true, Through: true}) }},
		{"read at the end", func() { read(l.EndOffset()-3, 1<<20) }},
		{"read from the start", func() { read(0, 40<<10) }},
		{"read in the middle", func() { read(777, 1000) }},
	} {
		c.run()
		// The index gathers its entries in a slice that grows now and then: less than one
		// allocation in a hundred batches, which AllocsPerRun rounds down.
		if n := testing.AllocsPerRun(300, c.run); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name    string
		size, n int
	}{{"1x100B", 100, 1}, {"100x100B", 100, 100}, {"256KiB", 256 << 10, 1}} {
		b.Run(c.name, func(b *testing.B) {
			d := testDir(b, vfs.OS{}, filepath.Join(b.TempDir(), "data"))
			l, _ := testLog(b, d, Options{Delete: true, RetentionBytes: 256 << 20, SegmentBytes: 64 << 20})
			batch := batchSpec{size: c.size, n: c.n}.build(b)
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for i := range b.N {
				if _, err := l.Append(batch, AppendArgs{}); err != nil {
					b.Fatal(err)
				}
				if err := l.Write(); err != nil {
					b.Fatal(err)
				}
				if i%1000 == 999 {
					if _, err := l.DeleteOld(0, l.EndOffset()); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	d := testDir(b, vfs.OS{}, filepath.Join(b.TempDir(), "data"))
	l, _ := testLog(b, d, Options{})
	batch := batchSpec{size: 1000, n: 10}.build(b)
	for range 2000 {
		if _, err := l.Append(batch, AppendArgs{}); err != nil {
			b.Fatal(err)
		}
	}
	ok(b, l.Write())
	for _, c := range []struct {
		name     string
		maxBytes int
		next     func(i int) model.Offset
	}{
		{"end", 1 << 20, func(int) model.Offset { return l.EndOffset() - 10 }},
		{"sequential-64KiB", 64 << 10, nil},
		{"random-64KiB", 64 << 10, func(i int) model.Offset { return model.Offset(i*7919) % (l.EndOffset() - 100) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			buf := make([]byte, 1<<20)
			b.ReportAllocs()
			at, total := model.Offset(0), 0
			for i := range b.N {
				if c.next != nil {
					at = c.next(i)
				} else if at >= l.EndOffset()-100 {
					at = 0
				}
				v, err := l.Read(at, l.EndOffset(), c.maxBytes, true)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := v.ReadAt(buf[:v.Len], 0); err != nil {
					b.Fatal(err)
				}
				at, total = v.Base+model.Offset(v.Len/len(batch)*10), total+v.Len
				v.Release()
			}
			b.SetBytes(int64(total / b.N))
		})
	}
}
