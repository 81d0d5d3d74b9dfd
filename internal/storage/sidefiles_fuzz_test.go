package storage

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

// sideDir is a directory in which every kind of small file lies beside the data: of some
// segments, with producers, epochs, checkpoints, and a mark of the last compaction.
func sideDir(t testing.TB, clean bool) (m *vfs.Mem, files []string, want []record.Batch) {
	m = vfs.NewMem()
	d := testDir(t, m, "/data")
	ok(t, d.SetIncarnation("life-1"))
	ok(t, d.SetBrokerEpoch(5))
	ok(t, d.SetSeen(Seen{Generation: "g1", Revision: 9}))
	l, _ := testLog(t, d, Options{SegmentBytes: 600, IndexIntervalBytes: 50})
	for i := range 12 {
		if i%4 == 0 {
			l.StartEpoch(model.LeaderEpoch(i / 4))
		}
		put(t, l, batchSpec{n: 2, ts: int64(1000 * i), pid: model.ProducerID(1 + i%2), seq: int32(i / 2 * 2), tag: "v"})
	}
	doSync(t, l)
	end := l.EndOffset()
	want = readAll(t, l, 0, end, 1<<20)
	ok(t, d.Checkpoint([]CheckpointEntry{l.CheckpointEntry(end)}))
	ok(t, l.Close())
	entry := l.CleanEntry(end)
	if clean {
		ok(t, d.CloseClean([]CheckpointEntry{entry}))
	} else {
		ok(t, d.Close())
	}
	for _, dir := range []string{"/data", d.partPath(part)} {
		names, err := m.List(dir)
		ok(t, err)
		slices.Sort(names)
		for _, name := range names {
			switch path.Ext(name) {
			case logSuffix, "":
				if slices.Contains([]string{lockFile, "topics", ballastFile}, name) {
					continue
				}
			}
			if info, err := m.Stat(dir + "/" + name); err == nil && !info.IsDir && path.Ext(name) != logSuffix {
				files = append(files, dir+"/"+name)
			}
		}
	}
	// Those that a test of the above does not leave.
	for _, name := range []string{cleanMarkFile, ioErrorFile, fileName(0, swapSuffix), fileName(0, timeIndexSuffix)} {
		dir := d.partPath(part)
		if name == ioErrorFile {
			dir = "/data"
		}
		if !slices.Contains(files, dir+"/"+name) {
			files = append(files, dir+"/"+name)
		}
	}
	return m, files, want
}

// FuzzSideFiles puts any bytes in the place of one of the small files. The directory is
// refused with an error that names a file, or opens and serves every record as it was; a
// question for a time is answered rightly or refused; it can be written on, and opened again.
func FuzzSideFiles(f *testing.F) {
	_, files, _ := sideDir(f, true)
	for i := range files {
		for _, clean := range []bool{true, false} {
			m, _, _ := sideDir(f, clean)
			b, err := vfs.ReadFile(m, files[i], 1<<20)
			if err != nil {
				b = swapRecord{base: 0, end: 9, size: 500}.encode()
			}
			f.Add(uint8(i), clean, b)
			f.Add(uint8(i), clean, b[:len(b)/2])
			f.Add(uint8(i), clean, bytes.Repeat([]byte{0}, len(b)))
			if len(b) > 4 {
				flipped := bytes.Clone(b)
				flipped[len(b)-3] ^= 0x10
				f.Add(uint8(i), clean, flipped)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, clean bool, b []byte) {
		m, files, want := sideDir(t, clean)
		file := files[int(which)%len(files)]
		ok(t, vfs.WriteFile(m, file, b, true))
		d, err := OpenDir(m, "/data", DirOptions{ClusterID: "c1", NodeID: 7, BootID: "boot-1"})
		if err != nil {
			if !strings.Contains(err.Error(), "/data") {
				t.Fatalf("%s: the error names no file: %v", file, err)
			}
			return
		}
		defer func() { _ = d.Close() }()
		o := Options{SegmentBytes: 600, IndexIntervalBytes: 50}
		l, _, err := d.OpenLog(part, o)
		if err != nil {
			if !isCorrupt(err) {
				t.Fatalf("%s: %v", file, err)
			}
			return
		}
		end := want[len(want)-1].NextOffset()
		if l.EndOffset() != end {
			t.Fatalf("%s: the log ends at %d, want %d", file, l.EndOffset(), end)
		}
		sideReads(t, file, l, want)
		if _, err := l.Append(batchSpec{ts: 99_000}.build(t), AppendArgs{Epoch: max(2, l.LatestEpoch()), NowMs: 99_000, Client: true}); err != nil {
			t.Fatalf("%s: append: %v", file, err)
		}
		ok(t, l.Write())
		doSync(t, l)
		ok(t, l.Close())
	})
}

// sideReads holds that what is served is what was written.
func sideReads(t *testing.T, file string, l *Log, want []record.Batch) {
	t.Helper()
	at := 0
	for from := l.StartOffset(); from < l.EndOffset(); {
		v, err := l.Read(from, l.EndOffset(), 100, true)
		if err != nil {
			if !isCorrupt(err) {
				t.Fatalf("%s: read at %d: %v", file, from, err)
			}
			return
		}
		for b := readView(t, v); len(b) > 0; {
			batch, rest, err := record.Split(b)
			ok(t, err)
			for at < len(want) && want[at].BaseOffset() < batch.BaseOffset() && from == l.StartOffset() {
				at++ // below the log start
			}
			if at == len(want) || !bytes.Equal(batch, want[at]) {
				t.Fatalf("%s: offset %d is served as something else", file, batch.BaseOffset())
			}
			at, from, b = at+1, batch.NextOffset(), rest
		}
	}
	for ts := int64(-1); ts < 12_000; ts += 500 {
		got, found, err := l.OffsetForTimestamp(ts, l.EndOffset())
		if err != nil {
			if !isCorrupt(err) {
				t.Fatalf("%s: offset at %d: %v", file, ts, err)
			}
			continue
		}
		right, exists := model.Offset(0), false
		for _, b := range want {
			for i := int64(0); i < 2 && !exists; i++ {
				if o := b.BaseOffset() + model.Offset(i); b.BaseTimestamp()+i >= ts && o >= l.StartOffset() {
					right, exists = o, true
				}
			}
		}
		if found != exists || found && got.Offset != right {
			t.Fatalf("%s: the offset at %d is %d (%v), want %d (%v)", file, ts, got.Offset, found, right, exists)
		}
	}
}
