package density

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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

// The interval of a median leaves out as many values as a sign test at 5 % does.
func TestComparePairs(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 0, 5: 0, 6: 0, 7: 0, 9: 1, 12: 2, 20: 5, 40: 13, 100: 39} {
		if got := outside(n); got != want {
			t.Errorf("of %d values %d may be left out, want %d", n, got, want)
		}
	}
	round := func(p99 time.Duration) []time.Duration { // 100 values, the largest but one is p99
		all := make([]time.Duration, 100)
		for i := range all {
			all[i] = p99
		}
		return all
	}
	var s, more sides
	for i := range 9 {
		s.pair(round(time.Duration(100+10*i)), round(100))
	}
	if c := s.compare(); c.ratio != 1.4 || c.low != 1.1 || c.high != 1.7 || c.with != 180 || c.without != 100 {
		t.Errorf("%+v", c)
	}
	more.pair(round(500), round(100))
	s.add(more)
	if c := s.compare(); math.Abs(c.ratio-1.45) > 1e-9 || c.with != 500 {
		t.Errorf("%+v", c)
	}
	if c := (&sides{}).compare(); c.ratio != 0 {
		t.Errorf("nothing compares to %+v", c)
	}
}

// The generator counts a request from when it was sent, or from when it was due if the one
// before kept it waiting.
func TestLoadCountsWaitingForTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		l := &load{conns: []*conn{{Conn: a}}, frames: [][]byte{{0, 0, 0, 1, 7}}, every: 10 * time.Millisecond}
		defer l.close()
		go func() {
			for i := 0; ; i++ {
				var frame [5]byte
				if _, err := io.ReadFull(b, frame[:]); err != nil {
					return
				}
				if i == 3 {
					<-time.After(25 * time.Millisecond) // of the bubble
				}
				_, _ = b.Write([]byte{0, 0, 0, 5, 0, 0, 0, 0, 0})
			}
		}()
		got, err := l.run(t.Context(), 70*time.Millisecond)
		// Due at 0 (warm-up), 10, 20, 30, ...: that of 30 is answered at 55, those of 40 and 50 with it.
		want := []time.Duration{0, 0, 25 * time.Millisecond, 15 * time.Millisecond, 5 * time.Millisecond, 0}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	})
}

// The holder opens its connections before it says so, and closes them at the end of its
// input.
func TestHold(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const n = 40
	gone := make(chan struct{}, n)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close(); gone <- struct{}{} }()
				for {
					var head [12]byte
					if _, err := io.ReadFull(c, head[:]); err != nil {
						return
					}
					size := int64(binary.BigEndian.Uint32(head[:]))
					if _, err := io.CopyN(io.Discard, c, size-8); err != nil {
						return
					}
					key := int16(binary.BigEndian.Uint16(head[4:]))
					resp := kmsg.ResponseForKey(key)
					resp.SetVersion(int16(binary.BigEndian.Uint16(head[6:])))
					out := append(make([]byte, 4), head[8:]...)
					if key != 18 {
						out = append(out, 0)
					}
					out = resp.AppendTo(out)
					binary.BigEndian.PutUint32(out, uint32(len(out)-4))
					if _, err := c.Write(out); err != nil {
						return
					}
				}
			}()
		}
	}()
	in, end := io.Pipe()
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Hold(t.Context(), ln.Addr().String(), n, in, out) }()
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if len(gone) != 0 {
		t.Errorf("%d connections are gone", len(gone))
	}
	_ = end.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for range n {
		<-gone
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
