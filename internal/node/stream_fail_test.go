package node

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// A disk that fails while a large answer is being sent: what the answer claims cannot come,
// so the connection ends, the directory is offline, and the next one hears the error.
func TestDiskFailsWithinAnAnswer(t *testing.T) {
	const batch = 300 << 10
	bubble(t, func(t *testing.T, w *world) {
		disk := vfs.NewFaults(w.disk)
		w.through = func(*vfs.Mem) vfs.FS { return disk }
		b := w.start(twoDirs)
		id := b.create("t", 1, nil)
		c := w.dial()
		for range 10 {
			ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, batchOf(t, strings.Repeat("x", batch))))
		}
		f := fetchRequest(12, "t", id, 0)
		f.MaxBytes, f.Topics[0].Partitions[0].PartitionMaxBytes = 50<<20, 50<<20
		reads := 0
		disk.Add(vfs.Rule{Op: vfs.OpReadAt, Path: "*.log", Hook: func(vfs.Op, string) { reads++ }, Times: 1 << 30})
		if resp := ask[*kmsg.FetchResponse](c, f); len(resp.Topics[0].Partitions[0].RecordBatches) < 10*batch || reads < 3 {
			t.Fatalf("%d bytes with %d reads", len(resp.Topics[0].Partitions[0].RecordBatches), reads)
		}
		disk.Clear()
		disk.Add(vfs.Rule{Op: vfs.OpReadAt, Path: "*.log", Err: syscall.EIO, Skip: reads - 1})
		victim := w.dial()
		victim.send(f)
		if got, err := io.ReadAll(victim.c); err != nil || len(got) < batch || len(got) > 10*batch {
			t.Errorf("%d bytes before the end, then %v", len(got), err)
		}
		synctest.Wait()
		if code := c.readFrom("t", 0, 0); code != kerr.KafkaStorageError.Code {
			t.Errorf("a later fetch is answered with code %d", code)
		}
		b.crash(processDies)
	})
}
