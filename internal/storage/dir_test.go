package storage

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

func writeFile(t *testing.T, fsys vfs.FS, name, content string) {
	t.Helper()
	ok(t, fsys.MkdirAll(filepath.Dir(name)))
	ok(t, vfs.WriteFile(fsys, name, []byte(content), true))
}

// TestOpenDirRefuses: foreign directories are left as they are, with a word of advice.
func TestOpenDirRefuses(t *testing.T) {
	mine := DirOptions{ClusterID: "c1", NodeID: 7}
	for _, c := range []struct {
		name string
		make func(t *testing.T, m *vfs.Mem)
		opts DirOptions
		want error
		text string
	}{
		{"kafka's meta.properties", func(t *testing.T, m *vfs.Mem) {
			writeFile(t, m, "/data/meta.properties", "#\nversion=1\ncluster.id=abc\nnode.id=7\n")
		}, mine, kerr.LogDirNotFound, "meta.properties of Apache Kafka"},
		{"kafka's topic folder", func(t *testing.T, m *vfs.Mem) {
			writeFile(t, m, "/data/orders-0/00000000000000000000.log", "")
		}, mine, kerr.LogDirNotFound, "orders-0 of Apache Kafka"},
		{"other cluster", func(t *testing.T, m *vfs.Mem) { ok(t, testDir(t, m, "/data").Close()) },
			DirOptions{ClusterID: "c2", NodeID: 7}, kerr.InconsistentClusterID, "belongs to cluster c1"},
		{"other node", func(t *testing.T, m *vfs.Mem) { ok(t, testDir(t, m, "/data").Close()) },
			DirOptions{ClusterID: "c1", NodeID: 8}, kerr.InvalidConfig, "belongs to node.id 7"},
		{"locked", func(t *testing.T, m *vfs.Mem) { testDir(t, m, "/data") }, mine, vfs.ErrLocked, "/data"},
		{"no meta.properties beside data", func(t *testing.T, m *vfs.Mem) {
			ok(t, testDir(t, m, "/data").Close())
			ok(t, m.Remove("/data/meta.properties"))
		}, mine, kerr.KafkaStorageError, "missing"},
		{"damaged meta.properties", func(t *testing.T, m *vfs.Mem) {
			ok(t, testDir(t, m, "/data").Close())
			b, err := vfs.ReadFile(m, "/data/meta.properties", 1000)
			ok(t, err)
			writeFile(t, m, "/data/meta.properties", strings.Replace(string(b), "node.id=7", "node.id=9", 1))
		}, mine, kerr.KafkaStorageError, "checksum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := vfs.NewMem()
			c.make(t, m)
			before, err := m.List("/data")
			ok(t, err)
			_, err = OpenDir(m, "/data", c.opts)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("error %v, want %v with %q", err, c.want, c.text)
			}
			after, err := m.List("/data")
			ok(t, err)
			if strings.Join(before, " ") != strings.Join(after, " ") && c.name != "damaged meta.properties" {
				t.Fatalf("refused, but changed from %q to %q", before, after)
			}
		})
	}
}

// TestClass walks through the shutdown classes of replication.md 5.3.
func TestClass(t *testing.T) {
	m := vfs.NewMem()
	reopen := func(boot string, want Class) *Dir {
		t.Helper()
		d := testDirBoot(t, m, "/data", boot)
		if d.Class() != want {
			t.Fatalf("class %v, want %v", d.Class(), want)
		}
		return d
	}
	d := reopen("a", Clean) // new
	id := d.ID()
	ok(t, d.SetIncarnation("i1"))
	ok(t, d.SetBrokerEpoch(5))
	ok(t, d.Close())
	d = reopen("a", CrashSameBoot)
	if d.ID() != id || d.ID() == "" {
		t.Fatalf("id %q, was %q", d.ID(), id)
	}
	ok(t, d.Close())
	d = reopen("b", Suspect) // the machine came up again
	ok(t, d.SetIncarnation("i2"))
	ok(t, d.Close())
	d = reopen("b", Suspect) // it was never reported, so it stays
	ok(t, d.SetBrokerEpoch(6))
	ok(t, d.Close())
	d = reopen("b", CrashSameBoot)
	ok(t, d.CloseClean(nil)) // a start that failed: what was not reported is not forgotten
	d = reopen("b", CrashSameBoot)
	ok(t, d.SetBrokerEpoch(6))
	ok(t, d.CloseClean(nil))
	d = reopen("c", Clean)
	ok(t, d.CloseClean(nil)) // clean before: a failed start leaves it so
	d = reopen("c", Clean)
	ok(t, d.SetIncarnation("i3")) // the first change takes the marker
	if _, err := m.Stat("/data/clean"); err == nil {
		t.Fatal("the clean marker is still there")
	}
	if got := d.RunMeta(); got.BrokerEpoch != 6 || strings.Join(got.Incarnations, ",") != "i3,i2,i1" || got.BootID != "b" {
		t.Fatalf("run.meta %+v", got)
	}
	ok(t, d.SetBrokerEpoch(7))
	ok(t, d.MarkIOError(IOError{What: "EIO on\nsdb"}))
	ok(t, d.CloseClean(nil))
	d = reopen("c", Suspect)
	ok(t, d.ClearIOError())
	ok(t, d.SetBrokerEpoch(7))
	ok(t, d.CloseClean(nil))
	ok(t, reopen("c", Clean).Close())

	d2, err := OpenDir(m.Clone(), "/data", DirOptions{ClusterID: "c1", NodeID: 7, BootID: "c", NeverTrustTail: true})
	ok(t, err)
	ok(t, d2.SetBrokerEpoch(8))
	ok(t, d2.Close())
	never := DirOptions{ClusterID: "c1", NodeID: 7, BootID: "c", NeverTrustTail: true}
	if d2, err = OpenDir(d2.FS(), "/data", never); err != nil || d2.Class() != Suspect {
		t.Fatalf("kalda.tail.trust=never: %v, %v", d2.Class(), err)
	}
}

// TestFlippedRunMeta: a damaged run.meta makes the directory suspect, not unusable.
func TestFlippedRunMeta(t *testing.T) {
	m := vfs.NewMem()
	d := testDir(t, m, "/data")
	ok(t, d.SetBrokerEpoch(5))
	ok(t, d.CloseClean(nil))
	flip(t, m, "/data/run.meta", 100)
	if d = testDir(t, m, "/data"); d.Class() != Suspect {
		t.Fatalf("class %v", d.Class())
	}
}

func flip(t testing.TB, fsys vfs.FS, name string, bit int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	ok(t, err)
	var b [1]byte
	if _, err := f.ReadAt(b[:], bit/8); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b[:], bit/8)
	ok(t, err)
	ok(t, f.Sync())
	ok(t, f.Close())
}

func TestPartitionsAndRemove(t *testing.T) {
	disks(t, func(t *testing.T, fsys vfs.FS, path string) {
		d := testDir(t, fsys, path)
		var parts []model.Partition
		for i := range int32(3) {
			p := model.Partition{Topic: model.TopicID{1, 2, 3}, Index: i}
			parts = append(parts, p)
			l, _, err := d.OpenLog(p, Options{})
			ok(t, err)
			if i > 0 {
				put(t, l, batchSpec{n: 5})
				doSync(t, l)
			}
			ok(t, l.Close())
		}
		got, err := d.Partitions()
		ok(t, err)
		if len(got) != 2 || got[0] != parts[1] || got[1] != parts[2] {
			t.Fatalf("partitions %v: an empty log needs no directory, the others do", got)
		}
		ok(t, d.RemoveLog(parts[1]))
		ok(t, d.RemoveLog(parts[0]))
		l, r, err := d.OpenLog(parts[1], Options{})
		ok(t, err)
		if !r.Created || l.EndOffset() != 0 {
			t.Fatalf("removed log is back: %+v", r)
		}
		ok(t, l.Close())
		// A crash between the rename and the deletion is finished at the next opening.
		ok(t, fsys.MkdirAll(filepath.Join(path, "parts", parts[0].String()+".gone")))
		ok(t, d.Close())
		testDir(t, fsys, path)
		names, err := fsys.List(filepath.Join(path, "parts"))
		ok(t, err)
		if len(names) != 1 || names[0] != parts[2].String() {
			t.Fatalf("left: %q", names)
		}
	})
}

// TestCheckpointsAppendAndRewrite: what is appended survives, a torn record is no damage,
// a flipped one costs only its own partition.
func TestCheckpointsAppendAndRewrite(t *testing.T) {
	m := vfs.NewMem()
	d := testDir(t, m, "/data")
	for i := range int32(200) {
		ok(t, d.record(CheckpointEntry{Partition: model.Partition{Index: i % 4}, LogStart: model.Offset(i), RecoveryPoint: model.Offset(i)}))
	}
	ok(t, d.forget(model.Partition{Index: 3}))
	check := func(what string, m *vfs.Mem, damaged int, want ...model.Offset) {
		t.Helper()
		d := testDir(t, m, "/data")
		defer d.Close()
		if d.DamagedCheckpoints() != damaged {
			t.Fatalf("%s: %d damaged, want %d", what, d.DamagedCheckpoints(), damaged)
		}
		for i, w := range want {
			if e, ok := d.entry(model.Partition{Index: int32(i)}); ok != (w >= 0) || ok && e.LogStart != w {
				t.Fatalf("%s: partition %d: %v, want start %d", what, i, e, w)
			}
		}
	}
	check("after a power cut", m.CrashClone(0), 0, 196, 197, 198, -1)
	c := m.Clone()
	f, err := c.OpenReadWrite("/data/checkpoints")
	ok(t, err)
	size, err := f.Size()
	ok(t, err)
	ok(t, f.Truncate(size-3))
	check("torn", c, 0, 196, 197, 198, 199)
	c = m.Clone()
	flip(t, c, "/data/checkpoints", (size-2*checkpointLen)*8+77)
	check("flipped", c, 1, 196, 197, 198, -1)
}
