package storage

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// part is the partition that tests use where one is enough.
var part = model.Partition{Topic: model.TopicID{0xaa, 15: 1}, Index: 3}

// testDir opens a log directory with the facts of one fixed node and boot.
func testDir(t testing.TB, fsys vfs.FS, path string) *Dir {
	t.Helper()
	return testDirBoot(t, fsys, path, "boot-1")
}

func testDirBoot(t testing.TB, fsys vfs.FS, path, boot string) *Dir {
	t.Helper()
	d, err := OpenDir(fsys, path, DirOptions{ClusterID: "c1", NodeID: 7, BootID: boot})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func testLog(t testing.TB, d *Dir, o Options) (*Log, Recovery) {
	t.Helper()
	l, r, err := d.OpenLog(part, o)
	if err != nil {
		t.Fatal(err)
	}
	return l, r
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// batchSpec describes a batch for tests; the zero value is one plain record.
type batchSpec struct {
	n     int   // records, default 1
	ts    int64 // of the first record; each next one is 1 ms later
	size  int   // bytes of each value, default 10
	codec record.Codec
	pid   model.ProducerID // 0: not idempotent
	epoch model.ProducerEpoch
	seq   int32
	tag   string // begins every value
}

func (s batchSpec) build(t testing.TB) record.Batch {
	t.Helper()
	n, size := max(s.n, 1), s.size
	if size == 0 {
		size = 10
	}
	recs := make([]record.Record, n)
	for i := range recs {
		v := bytes.Repeat([]byte{'.'}, size)
		copy(v, fmt.Sprintf("%s%d", s.tag, i))
		recs[i] = record.Record{Timestamp: s.ts + int64(i), Value: v}
	}
	tpl := record.NewTemplate()
	tpl.Codec = s.codec
	if s.pid != 0 {
		tpl.ProducerID, tpl.ProducerEpoch, tpl.BaseSequence = s.pid, s.epoch, s.seq
	}
	b, err := record.Build(nil, tpl, recs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// put appends a batch as a client's at epoch 0 and writes it.
func put(t testing.TB, l *Log, s batchSpec) AppendResult {
	t.Helper()
	res, err := l.Append(s.build(t), AppendArgs{Epoch: max(0, l.LatestEpoch()), NowMs: s.ts, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	ok(t, l.Write())
	return res
}

func doSync(t testing.TB, l *Log) {
	t.Helper()
	if s, dirty := l.BeginSync(); dirty {
		ok(t, l.EndSync(s, s.Run()))
	}
}

// readAll reads everything in [from, end) with reads of at most maxBytes, and checks the
// promises of Read on the way.
func readAll(t testing.TB, l *Log, from, end model.Offset, maxBytes int) []record.Batch {
	t.Helper()
	var all []record.Batch
	for from < end {
		v, err := l.Read(from, end, maxBytes, true)
		if err != nil {
			t.Fatalf("read at %d: %v", from, err)
		}
		if v.Len == 0 {
			return all
		}
		b := make([]byte, v.Len)
		if _, err := v.ReadAt(b, 0); err != nil {
			t.Fatalf("view at %d: %v", from, err)
		}
		v.Release()
		if record.Batch(b).BaseOffset() != v.Base {
			t.Fatalf("view says base %d, batch has %d", v.Base, record.Batch(b).BaseOffset())
		}
		for first := true; len(b) > 0; first = false {
			batch, rest, err := record.Split(b)
			if err != nil {
				t.Fatalf("read at %d: no whole batch: %v", from, err)
			}
			if !batch.CheckCRC() {
				t.Fatalf("read at %d: bad checksum", from)
			}
			if batch.LastOffset() < from || batch.NextOffset() > end {
				t.Fatalf("read [%d, %d): batch [%d, %d]", from, end, batch.BaseOffset(), batch.LastOffset())
			}
			if !first && v.Len > maxBytes {
				t.Fatalf("read of %d bytes, at most %d asked", v.Len, maxBytes)
			}
			from = batch.NextOffset()
			all = append(all, batch)
			b = rest
		}
	}
	return all
}

// concat joins batches to compare logs byte by byte.
func concat(bs []record.Batch) []byte {
	var all []byte
	for _, b := range bs {
		all = append(all, b...)
	}
	return all
}

// disks runs f on the memory disk and on the real one.
func disks(t *testing.T, f func(t *testing.T, fsys vfs.FS, dir string)) {
	t.Run("mem", func(t *testing.T) { f(t, vfs.NewMem(), "/data") })
	t.Run("os", func(t *testing.T) { f(t, vfs.OS{}, filepath.Join(t.TempDir(), "data")) })
}

// readView reads a whole view and releases it.
func readView(t testing.TB, v View) []byte {
	t.Helper()
	defer v.Release()
	b := make([]byte, v.Len)
	if n, err := v.ReadAt(b, 0); err != nil && err != io.EOF || n != v.Len {
		t.Fatalf("view of %d bytes: read %d, %v", v.Len, n, err)
	}
	return b
}
