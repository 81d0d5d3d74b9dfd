package node

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// put produces one value to partition 0 and returns code and offset of the answer.
func (c *wireConn) put(topic, value string) (int16, int64) {
	c.t.Helper()
	p := ask[*kmsg.ProduceResponse](c, produceRequest(9, topic, -1, batchOf(c.t, value))).Topics[0].Partitions[0]
	return p.ErrorCode, p.BaseOffset
}

// mustPut produces one value, which must succeed.
func (c *wireConn) mustPut(topic, value string) int64 {
	c.t.Helper()
	code, offset := c.put(topic, value)
	if code != 0 {
		c.t.Fatalf("produce: code %d", code)
	}
	return offset
}

// read is what a fetch of partition 0 from an offset says.
func (c *wireConn) read(topic string, from int64) (code int16, bytes int) {
	c.t.Helper()
	p := ask[*kmsg.FetchResponse](c, fetchRequest(9, topic, [16]byte{}, from)).Topics[0].Partitions[0]
	return p.ErrorCode, len(p.RecordBatches)
}

// fillTo leaves that many bytes free on the disk, by a file of somebody else's.
func (w *world) fillTo(free int64) {
	w.t.Helper()
	s, err := w.disk.Space("/")
	if err != nil {
		w.t.Fatal(err)
	}
	size := int64(0)
	if in, err := w.disk.Stat("/filler"); err == nil {
		size = in.Size
	}
	f, err := w.disk.OpenReadWrite("/filler")
	if err != nil {
		f, err = w.disk.Create("/filler")
	}
	if err == nil {
		size += s.Free - free
		err = f.Truncate(max(size, 0))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// resumes waits until f is true and fails after ten seconds.
func resumes(t *testing.T, what string, f func() bool) {
	t.Helper()
	for began := time.Now(); !f(); {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%s: not within ten seconds", what)
		}
		<-time.After(200 * time.Millisecond)
	}
}

// passLook lets the broker look at its volumes.
func passLook() {
	<-time.After(1500 * time.Millisecond)
	synctest.Wait()
}

// Below the soft mark producers are refused and all else goes on; below the hard mark
// commits are refused too, and groups, reads and deletions go on. Both pass by themselves.
func TestDiskMarks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const size = 10 << 20 // soft: 1 MiB, hard: 315 kB, ballast: 105 kB
		w.disk.SetCapacity(size)
		b := w.start("kalda.http.listen=127.0.0.1:8080", "offsets.topic.num.partitions=1")
		defer b.stop()
		b.create("t", 1, nil)
		c, m := w.dial(), w.member("")
		m.sendJoin()
		m.joined()
		m.sync(map[string]string{m.id: "all"})
		c.mustPut("t", "one")
		m.commit("t", 0, 1)
		passLook()
		if in, err := w.disk.Space("/"); err != nil || size-in.Free < size/100 {
			t.Fatalf("no ballast is held: %+v, %v", in, err)
		}
		storage := kerr.KafkaStorageError.Code
		commit := func(offset int64) int16 {
			return ask[*kmsg.OffsetCommitResponse](m.wireConn, m.commitRequest("t", 0, offset)).Topics[0].Partitions[0].ErrorCode
		}
		serving := func(state string, lines ...string) {
			t.Helper()
			if code, n := c.read("t", 0); code != 0 || n == 0 {
				t.Fatalf("%s: a fetch is answered with code %d and %d bytes", state, code, n)
			}
			if code := m.heartbeat(); code != 0 {
				t.Fatalf("%s: a heartbeat is answered with code %d", state, code)
			}
			code, body := w.get(b.HTTP(), "/readyz")
			if code != 200 || !strings.HasPrefix(body, "ready\n") || strings.Count(body, "\n") != 1+len(lines) {
				t.Fatalf("%s: /readyz is %d %q", state, code, body)
			}
			for _, l := range lines {
				if !strings.Contains(body, l) {
					t.Fatalf("%s: /readyz does not say %q: %q", state, l, body)
				}
			}
		}
		serving("with room")

		w.fillTo(600 << 10)
		passLook()
		if code, _ := c.put("t", "two"); code != storage {
			t.Fatalf("below the soft mark a produce is answered with code %d", code)
		}
		serving("below the soft mark", "nearly full")
		if code := commit(2); code != 0 {
			t.Fatalf("below the soft mark a commit is answered with code %d", code)
		}
		_, body := w.get(b.HTTP(), "/metrics")
		for _, line := range []string{`kalda_log_dir_low{dir="/data"} 1`, `kalda_log_dir_full{dir="/data"} 0`, `kalda_log_dir_total_bytes{dir="/data"} 10485760`} {
			if !strings.Contains(body, line) {
				t.Errorf("/metrics lacks %s", line)
			}
		}
		if dirs := ask[*kmsg.DescribeLogDirsResponse](c, describeDirs()).Dirs; len(dirs) != 1 || dirs[0].ErrorCode != 0 || dirs[0].UsableBytes > 700<<10 {
			t.Fatalf("%+v", dirs)
		}

		w.fillTo(200 << 10)
		passLook()
		if code, _ := c.put("t", "two"); code != storage {
			t.Fatalf("below the hard mark a produce is answered with code %d", code)
		}
		if code := commit(3); code != kerr.CoordinatorNotAvailable.Code {
			t.Fatalf("below the hard mark a commit is answered with code %d", code)
		}
		serving("below the hard mark", "is full")
		until(time.Now().Add(5 * time.Second)) // a round of the background flush
		if _, err := w.disk.Stat("/data/checkpoints"); err != nil {
			t.Fatalf("no checkpoint is written: %v", err)
		}
		del := kmsg.NewPtrDeleteRecordsRequest()
		del.Version, del.TimeoutMillis = 1, 1000
		dt := kmsg.NewDeleteRecordsRequestTopic()
		dp := kmsg.NewDeleteRecordsRequestTopicPartition()
		dp.Offset = 0
		dt.Topic, dt.Partitions = "t", append(dt.Partitions, dp)
		del.Topics = append(del.Topics, dt)
		if p := ask[*kmsg.DeleteRecordsResponse](c, del).Topics[0].Partitions[0]; p.ErrorCode != 0 {
			t.Fatalf("delete-records: code %d", p.ErrorCode)
		}

		w.fillTo(5 << 20)
		resumes(t, "produce", func() bool { code, _ := c.put("t", "two"); return code == 0 })
		resumes(t, "commit", func() bool { return commit(3) == 0 })
		passLook()
		serving("with room again")
		if got := c.committedTo("t", 0); got != 3 {
			t.Fatalf("committed to %d", got)
		}
	})
}

func describeDirs() *kmsg.DescribeLogDirsRequest {
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Version = 4
	return req
}

// Somebody else fills the disk to its last byte, under load, and frees it again, many
// times: nothing acknowledged is lost, nothing else appears, no log fails, and no restart
// is needed. The ballast lets checkpoints be written.
func TestFullDisk(t *testing.T) {
	for _, marks := range []string{"defaults", "off"} {
		t.Run(marks, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) { fullDisk(t, w, marks) })
		})
	}
}

func fullDisk(t *testing.T, w *world, marks string) {
	const rounds = 20
	w.disk.SetCapacity(32 << 20)
	var set []string
	if marks == "off" {
		set = []string{"kalda.disk.soft=0", "kalda.disk.hard=0"}
	}
	b := w.start(set...)
	b.create("t", 1, map[string]string{"segment.bytes": "100KiB"})
	c := w.dial()
	acked := map[int64]string{}
	n := 0
	put := func() int16 {
		n++
		v := fmt.Sprint("value ", n, " ", strings.Repeat("x", n*37%9000))
		code, offset := c.put("t", v)
		if code == 0 {
			acked[offset] = v
		}
		return code
	}
	refused := 0
	for round := range rounds {
		for range 5 {
			if code := put(); code != 0 {
				t.Fatalf("round %d: code %d with room", round, code)
			}
		}
		w.fillTo(int64(round*977) % 20_000) // so that a batch fits in part
		for range 20 {
			switch code := put(); code {
			case 0:
			case kerr.KafkaStorageError.Code:
				refused++
			default:
				t.Fatalf("round %d: code %d on a full disk", round, code)
			}
		}
		passLook() // now the ballast is given up
		if s, err := w.disk.Space("/"); err != nil || s.Free == 0 {
			t.Fatalf("round %d: nothing is free for checkpoints: %+v, %v", round, s, err)
		}
		w.fillTo(8 << 20)
		resumes(t, "produce", func() bool { return put() == 0 })
		if s := b.replicas.Partitions()[0].Stats(); s.Offline != nil {
			t.Fatalf("round %d: %v", round, s.Offline)
		}
	}
	if refused < rounds*10 {
		t.Fatalf("%d refused: the test does not test", refused)
	}
	passLook()
	w.same("t", acked)
	b.crash(powerFails(0)) // the topic has policy commit
	b = w.start(set...)
	defer b.stop()
	w.same("t", acked)
}

// same checks that partition 0 of the topic holds the acknowledged values at their offsets.
func (w *world) same(topic string, acked map[int64]string) {
	w.t.Helper()
	got := w.values(topic)
	for offset, v := range acked {
		if got[offset] != v {
			w.t.Fatalf("offset %d holds %.30q, acknowledged was %.30q", offset, got[offset], v)
		}
	}
}

// A file system that has no room even to cut a file: the log goes on once there is some.
func TestNoRoomToCut(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		disk := vfs.NewFaults(w.disk)
		w.through = func(*vfs.Mem) vfs.FS { return disk }
		b := w.start()
		defer b.stop()
		b.create("t", 1, nil)
		c := w.dial()
		c.mustPut("t", "one")
		disk.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Short: 70, Err: syscall.ENOSPC})
		disk.Add(vfs.Rule{Op: vfs.OpTruncate, Path: "*.log", Err: syscall.ENOSPC})
		if code, _ := c.put("t", "two"); code != kerr.KafkaStorageError.Code {
			t.Fatalf("code %d", code)
		}
		disk.Clear()
		resumes(t, "produce", func() bool { code, _ := c.put("t", "three"); return code == 0 })
		if got := w.values("t"); len(got) != 2 || got[0] != "one" || got[1] != "three" {
			t.Fatalf("%v", got)
		}
	})
}

// A file beside the log that finds no room delays what waits for the disk and fails
// nothing.
func TestNoRoomBesideTheLog(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		disk := vfs.NewFaults(w.disk)
		w.through = func(*vfs.Mem) vfs.FS { return disk }
		b := w.start()
		b.create("t", 1, nil)
		c := w.dial()
		disk.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "leader-epoch-checkpoint.tmp", Err: syscall.ENOSPC, Times: 2})
		req := produceRequest(9, "t", -1, batchOf(t, "one"))
		req.TimeoutMillis = 30_000
		if p := ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != 0 {
			t.Fatalf("%+v", p)
		}
		b.crash(powerFails(0))
		b = w.start()
		if got := w.values("t"); got[0] != "one" {
			t.Fatalf("%v", got)
		}
		b.stop()
	})
}
