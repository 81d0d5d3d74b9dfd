package node

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// putTo produces one value to a partition and returns the code of the answer.
func (c *wireConn) putTo(topic string, partition int32, value string) int16 {
	c.t.Helper()
	req := produceRequest(9, topic, -1, batchOf(c.t, value))
	req.Topics[0].Partitions[0].Partition = partition
	return ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0].ErrorCode
}

// readFrom fetches a partition from an offset.
func (c *wireConn) readFrom(topic string, partition int32, from int64) int16 {
	c.t.Helper()
	req := fetchRequest(9, topic, [16]byte{}, from)
	req.Topics[0].Partitions[0].Partition = partition
	return ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions[0].ErrorCode
}

// A disk that reports an I/O error in any way takes its whole log directory offline, and
// nothing else: no partition of it is served, no sync of it is tried again, the other
// directory goes on, tools and metrics say so, and the next start does not trust it but
// has what was acknowledged (faults.md F28, I19).
func TestDiskFails(t *testing.T) {
	for _, c := range []struct {
		name string
		rule vfs.Rule
		// how the fault is met
		meet func(b *running, c *wireConn, victim int32)
	}{
		{"fsync", vfs.Rule{Op: vfs.OpDatasync, Path: "*.journal", Err: syscall.EIO, Times: 1}, nil},
		{"fsync for lack of room", vfs.Rule{Op: vfs.OpDatasync, Path: "*.journal", Err: syscall.ENOSPC, Times: 1}, nil},
		{"background fsync", vfs.Rule{Op: vfs.OpDatasync, Path: "*.log", Err: syscall.EIO, Times: 1}, func(b *running, c *wireConn, victim int32) {
			if code := c.putTo("t", victim, "in the journal"); code != 0 {
				b.w.t.Fatalf("code %d", code)
			}
			<-time.After(6 * time.Second)
		}},
		{"write", vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Err: syscall.EIO, Short: 20, Times: 1}, nil},
		{"read-only", vfs.Rule{Op: vfs.OpWriteAt, Err: syscall.EROFS}, nil},
		{"read", vfs.Rule{Op: vfs.OpReadAt, Path: "*.log", Err: syscall.EIO}, func(b *running, c *wireConn, victim int32) {
			if code := c.readFrom("t", victim, 0); code != kerr.KafkaStorageError.Code {
				b.w.t.Fatalf("a read of a bad sector is answered with code %d", code)
			}
		}},
		{"checkpoint", vfs.Rule{Op: vfs.OpSync, Path: "checkpoints.tmp", Err: syscall.EIO, Times: 1}, func(b *running, c *wireConn, victim int32) {
			if code := c.putTo("t", victim, "before the checkpoint"); code != 0 {
				b.w.t.Fatalf("code %d", code)
			}
			<-time.After(6 * time.Second)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { bubble(t, func(t *testing.T, w *world) { diskFails(t, w, c.rule, c.meet) }) })
	}
}

func diskFails(t *testing.T, w *world, rule vfs.Rule, meet func(*running, *wireConn, int32)) {
	disk := vfs.NewFaults(w.disk)
	w.through = func(*vfs.Mem) vfs.FS { return disk }
	b := w.start(twoDirs, "kalda.http.listen=127.0.0.1:8080")
	b.create("t", 6, nil)
	c := w.dial()
	in := map[string][]int32{}
	for i := range int32(6) {
		if code := c.putTo("t", i, fmt.Sprint("value ", i)); code != 0 {
			t.Fatalf("code %d", code)
		}
		p, err := b.replicas.Lookup([]byte("t"), i)
		if err != nil {
			t.Fatal(err)
		}
		in[p.Dir()] = append(in[p.Dir()], i)
	}
	if len(in["/data"]) != 3 || len(in["/data2"]) != 3 {
		t.Fatalf("%v", in)
	}
	passLook()
	syncs := 0
	rule.Under = "/data2"
	disk.Add(rule)
	disk.Add(vfs.Rule{Op: vfs.OpDatasync, Under: "/data2", Hook: func(vfs.Op, string) { syncs++ }})
	victim := in["/data2"][0]
	if meet != nil {
		meet(b, c, victim)
	} else if code := c.putTo("t", victim, "lost"); code != kerr.KafkaStorageError.Code {
		t.Fatalf("what the disk refused is answered with code %d", code)
	}
	synctest.Wait()
	before := syncs
	for _, i := range in["/data2"] {
		if code := c.putTo("t", i, "x"); code != kerr.KafkaStorageError.Code {
			t.Errorf("a produce to the failed directory is answered with code %d", code)
		}
		if code := c.readFrom("t", i, 0); code != kerr.KafkaStorageError.Code {
			t.Errorf("a fetch from the failed directory is answered with code %d", code)
		}
	}
	<-time.After(20 * time.Second)
	if syncs != before {
		t.Errorf("%d syncs after the failure", syncs-before)
	}
	for _, i := range in["/data"] {
		if code := c.putTo("t", i, "goes on"); code != 0 {
			t.Errorf("a produce to the other directory is answered with code %d", code)
		}
	}
	b.create("new", 4, nil)
	for i := range int32(4) {
		if code := c.putTo("new", i, "goes on"); code != 0 {
			t.Errorf("a produce to a new topic is answered with code %d", code)
		}
	}
	dirs := ask[*kmsg.DescribeLogDirsResponse](c, describeDirs()).Dirs
	if len(dirs) != 2 || dirs[0].ErrorCode != 0 || dirs[1].ErrorCode != kerr.KafkaStorageError.Code {
		t.Errorf("DescribeLogDirs: %+v", dirs)
	}
	_, body := w.get(b.HTTP(), "/metrics")
	if !strings.Contains(body, `kalda_log_dir_offline{dir="/data2"} 1`) || !strings.Contains(body, `kalda_log_dir_offline{dir="/data"} 0`) {
		t.Error("/metrics does not tell the failed directory")
	}
	if code, body := w.get(b.HTTP(), "/readyz"); code != 200 || !strings.Contains(body, "/data2 is offline") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	e, err := storage.ReadIOError(w.disk, "/data")
	if err != nil || len(e.Dirs) != 1 || e.Dirs[0] != b.dirs[1].ID() {
		t.Fatalf("the marker says %+v, %v", e, err)
	}
	b.crash(processDies)

	w.through = nil
	b = w.start(twoDirs)
	if a, c := b.tailOf("/data"), b.tailOf("/data2"); a != meta.TailSameBoot || c != meta.TailSuspect {
		t.Errorf("registered as %s and %s", a, c)
	}
	for _, dir := range []string{"/data", "/data2"} {
		if _, err := w.disk.Stat(dir + "/ioerror"); err == nil {
			t.Errorf("the marker stays in %s", dir)
		}
	}
	cl := w.client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	seen := map[string]bool{}
	for len(seen) < 6 {
		fs := cl.PollFetches(t.Context())
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if strings.HasPrefix(string(r.Value), "value ") {
				seen[string(r.Value)] = true
			}
		})
	}
	cl.Close()
	b.stop()
	b = w.start(twoDirs)
	if got := b.tailOf("/data2"); got != meta.TailClean {
		t.Errorf("after a clean stop registered as %s", got)
	}
	b.stop()
}

// The last directory gone is the end of the broker, with a clear reason.
func TestLastDirectoryFails(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		disk := vfs.NewFaults(w.disk)
		w.through = func(*vfs.Mem) vfs.FS { return disk }
		failures := make(chan error, 4)
		w.failed = func(err error) { failures <- err }
		b := w.start(twoDirs)
		b.create("t", 2, nil)
		c := w.dial()
		disk.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Under: "/data", Err: syscall.EIO})
		disk.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Under: "/data2", Err: syscall.EROFS})
		c.putTo("t", 0, "x")
		passLook()
		if len(failures) > 0 {
			t.Fatalf("the first of two: %v", <-failures)
		}
		c.putTo("t", 1, "x")
		passLook()
		if len(failures) != 1 {
			t.Fatalf("%d failures reported", len(failures))
		}
		if err := <-failures; !strings.Contains(err.Error(), "no log directory is left") {
			t.Fatal(err)
		}
		b.life.over.Store(true)
		b.crash(processDies)
	})
}

// A directory that cannot be opened for an I/O error leaves the start to the others; no
// log that may lie in it is begun anew. With none left there is no start.
func TestDeadDirectoryAtStart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.start(twoDirs)
		b.create("t", 2, nil)
		c := w.dial()
		for i := range int32(2) {
			if code := c.putTo("t", i, "x"); code != 0 {
				t.Fatalf("code %d", code)
			}
		}
		b.stop()
		bad := "/data2"
		w.through = func(m *vfs.Mem) vfs.FS {
			f := vfs.NewFaults(m)
			f.Add(vfs.Rule{Op: vfs.OpOpen, Under: bad, Err: syscall.EIO})
			if bad == "/" {
				f.Clear()
				f.Add(vfs.Rule{Op: vfs.OpOpen, Path: "meta.properties", Err: syscall.EIO})
			}
			return f
		}
		b = w.start(twoDirs)
		c = w.dial()
		codes := []int16{c.putTo("t", 0, "y"), c.putTo("t", 1, "y")}
		if codes[0]+codes[1] != kerr.KafkaStorageError.Code {
			t.Fatalf("codes %v", codes)
		}
		dirs := ask[*kmsg.DescribeLogDirsResponse](c, describeDirs()).Dirs
		if len(dirs) != 2 || dirs[0].ErrorCode != 0 || dirs[1].ErrorCode != kerr.KafkaStorageError.Code {
			t.Fatalf("DescribeLogDirs: %+v", dirs)
		}
		b.stop()
		bad = "/"
		if got := w.refused(twoDirs); !strings.Contains(got, "no log directory can be used") {
			t.Fatal(got)
		}
		w.through = nil
		b = w.start(twoDirs)
		defer b.stop()
		c = w.dial()
		for i := range int32(2) {
			if code := c.putTo("t", i, "z"); code != 0 {
				t.Fatalf("the disk is well again: code %d", code)
			}
		}
	})
}

// Syncs that take long are reported, and nobody is put out of service for them.
func TestSlowDisk(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		disk := vfs.NewFaults(w.disk)
		w.through = func(*vfs.Mem) vfs.FS { return disk }
		b := w.start()
		defer b.stop()
		b.create("t", 1, nil)
		c := w.dial()
		slow := func() bool { return b.replicas.Dirs()[0].Slow }
		put := func() {
			t.Helper()
			req := produceRequest(9, "t", -1, batchOf(t, "x"))
			req.TimeoutMillis = 30_000
			if p := ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0]; p.ErrorCode != 0 {
				t.Fatalf("code %d", p.ErrorCode)
			}
		}
		put()
		disk.Add(vfs.Rule{Op: vfs.OpDatasync, Path: "*.journal", Times: 1, Hook: func(vfs.Op, string) { <-time.After(3 * time.Second) }})
		put()
		<-time.After(15 * time.Second)
		if slow() {
			t.Fatal("one slow sync makes a slow disk")
		}
		disk.Clear()
		disk.Add(vfs.Rule{Op: vfs.OpDatasync, Hook: func(vfs.Op, string) { <-time.After(1500 * time.Millisecond) }})
		for range 9 {
			put()
		}
		passLook()
		if !slow() {
			t.Fatal("syncs of 1.5 s for 13 s make no slow disk")
		}
		if b.readiness() != nil || !strings.Contains(b.readyText(), "slow disk") {
			t.Fatalf("%v, %q", b.readiness(), b.readyText())
		}
		disk.Clear()
		<-time.After(6 * time.Second) // a sync of the background flush may be slow still
		put()
		passLook()
		if slow() {
			t.Fatal("the disk is fast again")
		}
	})
}
