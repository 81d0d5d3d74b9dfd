package replica

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// largeBatch is written at once instead of being staged.
func largeBatch(t testing.TB) []byte {
	batch, err := record.Build(nil, record.NewTemplate(), []record.Record{{Timestamp: time.Now().UnixMilli(), Value: make([]byte, 64<<10)}})
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// A write that fails inside Append (a large batch goes to the file at once, with what was
// staged before) takes the staged batches of others with it. Their producers must hear of
// it, and must not be answered by whoever gets these offsets next.
func TestFailedWriteInAppendTellsWhoStaged(t *testing.T) {
	for _, policy := range []string{"os", "commit"} {
		for _, ackOf := range []int16{1, -1} {
			t.Run(fmt.Sprint(policy, ackOf), func(t *testing.T) {
				b, faults := newFaultyBench(t)
				p := b.apply(alone(policy))
				var w acks
				if _, err := b.append(p, ackOf, &w, 0); err != nil {
					t.Fatal(err)
				}
				faults.Add(vfs.Rule{Op: vfs.OpWriteAt, Path: "*.log", Times: 1, Err: errors.New("no space left on device")})
				if _, err := p.Append(largeBatch(t), time.Now().UnixMilli(), Ack{Acks: ackOf, W: &w, Slot: 1, Gen: 7}); !errors.Is(err, kerr.KafkaStorageError) {
					t.Fatalf("the failed write: %v", err)
				}
				if got, want := w.take(), fmt.Sprintf("[0/7:%d]", kerr.KafkaStorageError.Code); got != want {
					t.Fatalf("whose batch was staged hears %s, want %s", got, want)
				}
				// The disk has room again: the same offset goes to another batch.
				if off, err := b.append(p, ackOf, &w, 2); err != nil || off != 0 {
					t.Fatal(off, err)
				}
				p.Write()
				if !p.sync(nil) {
					t.Fatal("the sync failed")
				}
				if got := w.take(); got != "[2/7:0]" {
					t.Fatalf("acked %s", got)
				}
			})
		}
	}
}
