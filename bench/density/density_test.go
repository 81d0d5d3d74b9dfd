package density

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/bench/server"
)

func TestQuantile(t *testing.T) {
	all := make([]time.Duration, 100)
	for i := range all {
		all[i] = time.Duration(100 - i)
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := quantile(all, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := quantile(nil, 0.99); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

func TestMissed(t *testing.T) {
	for _, c := range []struct {
		f    Figure
		want bool
	}{{Figure{Value: 9, Goal: 8}, true}, {Figure{Value: 8, Goal: 8}, false}, {Figure{Value: 9}, false}} {
		if c.f.Missed() != c.want {
			t.Errorf("%+v", c.f)
		}
	}
}

// The live heap is the smallest that collections left, and is not read before some ran.
func TestHeapIsTheSmallestOfSeveralCollections(t *testing.T) {
	gcs := 3
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		live := 900 + 10*((gcs+1)%3)
		fmt.Fprintf(w, "# HELP x\n%s 0\n%s %d\n%s %de0\n", "go_gc_duration_seconds_sum", cycles, gcs, liveHeap, live)
		gcs++
	}))
	defer s.Close()
	n := &node{&server.Process{HTTP: strings.TrimPrefix(s.URL, "http://")}}
	got, err := n.heap(t.Context())
	if err != nil || got != 900 || gcs < 3+heapCycles {
		t.Fatalf("live heap %v after %d collections: %v", got, gcs-3, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.heap(ctx); err == nil {
		t.Error("no error when the time is over")
	}
}

// A partition that refuses, or that is missing in the answer, is an error.
func TestProduceChecksEveryPartition(t *testing.T) {
	answers := func(edit func(*kmsg.ProduceResponse)) *conn {
		a, b := net.Pipe()
		t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
		go func() {
			var head [4]byte
			if _, err := io.ReadFull(b, head[:]); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, b, int64(binary.BigEndian.Uint32(head[:]))); err != nil {
				return
			}
			resp := kmsg.NewPtrProduceResponse()
			resp.Version = 9
			topic := kmsg.NewProduceResponseTopic()
			for i := range 3 {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition = int32(i)
				topic.Partitions = append(topic.Partitions, p)
			}
			resp.Topics = append(resp.Topics, topic)
			edit(resp)
			body := resp.AppendTo([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0})
			binary.BigEndian.PutUint32(body, uint32(len(body)-4))
			_, _ = b.Write(body)
		}()
		return &conn{Conn: a}
	}
	for name, c := range map[string]struct {
		edit func(*kmsg.ProduceResponse)
		ok   bool
	}{
		"all well": {func(*kmsg.ProduceResponse) {}, true},
		"refused":  {func(r *kmsg.ProduceResponse) { r.Topics[0].Partitions[1].ErrorCode = 56 }, false},
		"missing":  {func(r *kmsg.ProduceResponse) { r.Topics[0].Partitions = r.Topics[0].Partitions[:2] }, false},
	} {
		err := answers(c.edit).produce(produceTo("t", 0, 3, batch(1, 10)))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
