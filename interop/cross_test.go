package interop

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/interop/client"
	"github.com/kalda-io/kalda/interop/gosrc"
	"github.com/kalda-io/kalda/interop/target"
)

// TestPartitionsAgree sends the same keys through every client and demands that each key lies where
// Kafka's murmur2 puts it.
func TestPartitionsAgree(t *testing.T) {
	node := start(t, target.Options{})
	observer := client.NewFranz(node.Kafka())
	present, absents := clients(t, node.Kafka())
	const partitions, keys = 7, 500
	var recs []client.Record
	for i := range keys {
		key := fmt.Appendf(nil, "%s-%d-한글", strings.Repeat("k", i%17), i)
		recs = append(recs, client.Record{Partition: client.AnyPartition, Key: key, Value: key})
	}
	check := func(t *testing.T, write func(topic string) error) {
		topic := "agree-" + strings.ToLower(rand.Text()[:8])
		if err := observer.CreateTopic(t.Context(), topic, partitions, nil); err != nil {
			t.Fatal(err)
		}
		if err := write(topic); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for p := range int32(partitions) {
			end, err := observer.Offset(t.Context(), topic, p, client.Latest)
			if err != nil {
				t.Fatal(err)
			}
			got, err := observer.Read(t.Context(), topic, p, client.Earliest, int(end))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range got {
				seen++
				if want := gosrc.Partition(r.Key, partitions); int32(want) != p {
					t.Errorf("key %q lies in partition %d, murmur2 says %d", r.Key, p, want)
				}
			}
		}
		if seen != keys {
			t.Errorf("%d records arrived, want %d", seen, keys)
		}
	}
	for _, c := range present {
		t.Run(c.Name(), func(t *testing.T) {
			check(t, func(topic string) error {
				_, err := c.Produce(t.Context(), topic, client.ProduceOptions{Acks: client.AcksAll}, recs)
				return err
			})
		})
	}
	for _, a := range absents {
		t.Run(a.name, func(t *testing.T) { skipMissing(t, a.why) })
	}
	t.Run("kalda produce", func(t *testing.T) {
		kalda := kaldaPath()
		if kalda == "" {
			skipMissing(t, &client.Missing{Program: "kalda (the target is kfake)", Install: "go build -o kalda ./cmd/kalda && export KALDA_BIN=$PWD/kalda"})
		}
		check(t, func(topic string) error {
			var in bytes.Buffer
			w := bufio.NewWriter(&in)
			for _, r := range recs {
				fmt.Fprintf(w, "%s%c%s\n", r.Key, gosrc.KeySeparator, r.Value)
			}
			w.Flush()
			cmd := exec.CommandContext(t.Context(), kalda, "produce", topic, "-b", node.Kafka(), "-k", `\x1f`)
			cmd.Stdin = &in
			if words, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, words)
			}
			return nil
		})
	})
}

// TestCrossRead has every client read what every other wrote, with every codec that the writer has.
func TestCrossRead(t *testing.T) {
	node := start(t, target.Options{})
	observer := client.NewFranz(node.Kafka())
	present, absents := clients(t, node.Kafka())
	for _, writer := range present {
		topic := "cross-" + writer.Name()
		if err := observer.CreateTopic(t.Context(), topic, 1, nil); err != nil {
			t.Fatal(err)
		}
		var want []client.Record
		for _, codec := range client.Codecs() {
			var recs []client.Record
			for i := range 60 {
				recs = append(recs, client.Record{Key: fmt.Appendf(nil, "%s-%d", codec, i), Value: bytes.Repeat([]byte("value "), i),
					Headers: []client.Header{{Key: "codec", Value: []byte(codec)}}})
			}
			if _, err := writer.Produce(t.Context(), topic, client.ProduceOptions{Acks: client.AcksAll, Codec: codec}, recs); err != nil {
				t.Fatalf("%s writes with %s: %v", writer.Name(), codec, err)
			}
			want = append(want, recs...)
		}
		for _, reader := range present {
			t.Run(writer.Name()+" to "+reader.Name(), func(t *testing.T) {
				t.Parallel()
				got, err := reader.Read(t.Context(), topic, 0, client.Earliest, len(want))
				if err != nil {
					t.Fatal(err)
				}
				for i, w := range want {
					if lossy, ok := reader.(client.Lossy); ok {
						w = lossy.AsRead(w)
					}
					if got[i].Offset != int64(i) {
						t.Fatalf("offset %d at place %d", got[i].Offset, i)
					}
					if diff := w.Same(got[i]); diff != "" {
						t.Fatalf("offset %d: %s", i, diff)
					}
				}
			})
		}
	}
	for _, a := range absents {
		t.Run(a.name, func(t *testing.T) { skipMissing(t, a.why) })
	}
}
