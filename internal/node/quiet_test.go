package node

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/vfs"
)

// A client with acks=0 hears of a batch that could not be written by the end of its
// connection: at once where the write fails, with its next request where a later sync does.
// Whoever else writes to the partition at that time gets an error, and other connections
// stay.
func TestQuietProduceFails(t *testing.T) {
	for policy, ops := range map[string][]vfs.Op{"os": {vfs.OpWriteAt}, "commit": {vfs.OpSync, vfs.OpDatasync}} {
		t.Run(policy, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				faults := vfs.NewFaults(w.disk)
				w.through = func(*vfs.Mem) vfs.FS { return faults }
				w.failed = func(error) {}
				b := w.start("kalda.flush.policy=" + policy)
				defer func() { _ = b.Close(t.Context()); _ = b.meta.Close() }()
				b.create("t", 2, nil)
				c, other := w.dial(), w.dial()
				defer c.c.Close()
				defer other.c.Close()
				// It goes well for a while: no answer, and the connection stays.
				for range 3 {
					c.send(produceRequest(9, "t", 0, batchOf(t, "x"), batchOf(t, "y")))
				}
				if p := ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, batchOf(t, "x"))).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != 3 {
					t.Fatalf("%+v", p)
				}
				synctest.Wait()
				for _, op := range ops {
					faults.Add(vfs.Rule{Op: op, Err: errors.New("no space")})
				}
				c.send(produceRequest(9, "t", 0, batchOf(t, "x")))
				if policy == "commit" {
					synctest.Wait() // the sync fails, and nobody is there to be told
					c.send(produceRequest(9, "t", 0, batchOf(t, "x")))
				}
				if !c.closes() {
					t.Fatal("the connection stays open")
				}
				ask[*kmsg.MetadataResponse](other, kmsg.NewPtrMetadataRequest())
			})
		})
	}
}
