package node

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/server"
	"github.com/kalda-io/kalda/internal/wire"
)

// limits_wire_test.go: what connections may cost. While one misbehaves the others are
// served, and afterwards nothing is held.

// released holds that no memory is held for requests or answers.
func (d *ward) released() {
	d.t.Helper()
	synctest.Wait()
	if st := d.limits.requests.Stats(); st.Held != 0 || st.Waiting != 0 {
		d.t.Errorf("requests hold %d bytes, %d connections wait", st.Held, st.Waiting)
	}
	if _, held := d.limits.answers.Stats(); held != 0 {
		d.t.Errorf("answers hold %d bytes", held)
	}
}

func (d *ward) closed(r server.CloseReason) int { return int(d.servers[0].Stats().Closes[r]) }

// frameOf is a request as clients send it.
func frameOf(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("by-hand")).AppendRequest(nil, req, 1)
}

// A Produce that is cut at any byte appends nothing, and neither does one with a byte too
// many, which ends its connection.
func TestCutRequests(t *testing.T) {
	for _, version := range []int16{3, 8, 9} {
		suffers(t, func(d *ward) {
			b := frameOf(produceRequest(version, "t", -1, batchOf(t, "x")))
			for n := range b {
				c := d.w.dial()
				_, _ = c.c.Write(b[:n])
				synctest.Wait()
				_ = c.c.Close()
			}
			synctest.Wait()
			d.unharmed()
			d.released()
			longer := append(b[:len(b):len(b)], 0)
			binary.BigEndian.PutUint32(longer, uint32(len(longer)-4))
			c := d.w.dial()
			_, _ = c.c.Write(longer)
			if !c.closes() {
				t.Error("a request with a byte too many is answered")
			}
			// A frame that ends within the batch, whatever its size says.
			for n := 4 + 14; n < len(b); n++ {
				short := b[:n:n]
				binary.BigEndian.PutUint32(short, uint32(n-4))
				c := d.w.dial()
				_, _ = c.c.Write(short)
				if !c.closes() {
					t.Errorf("a request of %d bytes cut to %d is answered", len(b), n)
				}
				binary.BigEndian.PutUint32(b, uint32(len(b)-4))
			}
		})
	}
}

// A byte behind the body of any request ends the connection, in each version.
func TestBytesBehindTheBody(t *testing.T) {
	suffers(t, func(d *ward) {
		for key := range int16(kmsg.MaxKey + 1) {
			for version := int16(0); d.handler.Serves(key, version) || version <= kmsg.RequestForKey(key).MaxVersion(); version++ {
				if !d.handler.Serves(key, version) {
					continue
				}
				req := kmsg.RequestForKey(key)
				req.SetVersion(version)
				c := d.w.dial()
				c.raw(key, version, append(req.AppendTo(nil), 0))
				if !c.closes() {
					t.Errorf("%s version %d with a byte behind its body is answered", kmsg.NameForKey(key), version)
				}
			}
		}
		d.released()
	})
}

// 100,000 requests without reading an answer: the broker stops reading with bounded
// memory, serves others, and closes the connection.
func TestPipelinedWithoutReading(t *testing.T) {
	for name, req := range map[string]kmsg.Request{
		"cheap":   kmsg.NewPtrApiVersionsRequest(),
		"produce": produceRequest(9, "nowhere", -1, batchOf(t, "x")), // answered with an error, nothing is appended
		"unacked": produceRequest(9, "t", -1),
	} {
		t.Run(name, func(t *testing.T) {
			suffers(t, func(d *ward) {
				before := heap()
				c := d.w.dial()
				one := frameOf(req)
				var sent int
				var sending sync.WaitGroup
				sending.Go(func() {
					many := []byte(strings.Repeat(string(one), 100))
					for range 1000 {
						n, err := c.c.Write(many)
						if sent += n / len(one); err != nil {
							return
						}
					}
				})
				<-time.After(50 * time.Second)
				synctest.Wait()
				d.unharmed()
				// The two directions of the network hold 1 MiB each; the rest is ours.
				if grown := heap() - before; grown > 8<<20 {
					t.Errorf("%d bytes more for one connection", grown)
				}
				<-time.After(40 * time.Second)
				sending.Wait()
				if d.closed(server.CloseStalled) != 1 {
					t.Errorf("not closed after %d requests: %v", sent, d.servers[0].Stats().Closes)
				}
				d.released()
			})
		})
	}
}

// Requests that claim 100 MiB and bring little, of every API: memory follows what came,
// and the connections end.
func TestClaimsOfEveryAPI(t *testing.T) {
	suffers(t, func(d *ward) {
		before := heap()
		n := 0
		var conns []*wireConn
		for key := range int16(kmsg.MaxKey + 1) {
			version := kmsg.RequestForKey(key).MaxVersion()
			for version > 0 && !d.handler.Serves(key, version) {
				version--
			}
			if !d.handler.Serves(key, version) {
				continue
			}
			for range 5 {
				n++
				c := d.w.dial()
				conns = append(conns, c)
				b := binary.BigEndian.AppendUint32(nil, 100<<20)
				b = binary.BigEndian.AppendUint16(b, uint16(key))
				b = binary.BigEndian.AppendUint16(b, uint16(version))
				_, _ = c.c.Write(append(b, make([]byte, 1000)...))
			}
		}
		synctest.Wait()
		if open := int(d.servers[0].Stats().Active); open != n+1 {
			t.Fatalf("%d connections are open, want %d", open, n+1)
		}
		// Two buffers of the network for each, and our 16 KiB.
		if grown := heap() - before; grown > int64(n)*(2<<20+40<<10) {
			t.Errorf("%d bytes more for %d connections", grown, n)
		}
		d.unharmed()
		<-time.After(31 * time.Second)
		synctest.Wait()
		if d.closed(server.CloseSlowRequest) != n {
			t.Errorf("%v", d.servers[0].Stats().Closes)
		}
		for _, c := range conns {
			_ = c.c.Close()
		}
		d.released()
	})
}

// What kmsg would blow up: as many connections as like it send requests that take forty
// times their bytes. They wait for each other; the budget and one request is all they hold.
func TestDecodedRequestsAreBounded(t *testing.T) {
	const budget = 4 << 20
	suffers(t, func(d *ward) {
		// Groups of which each has one letter, in the batched form.
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version = 8
		for range 20000 {
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group = "g"
			req.Groups = append(req.Groups, g)
		}
		cost, err := wire.CheckRequest(req.Key(), req.Version, req.AppendTo(nil))
		if err != nil || cost < 1<<20 {
			t.Fatalf("the request of this test takes %d bytes: %v", cost, err)
		}
		stop, most := make(chan struct{}), int64(0)
		var watching sync.WaitGroup
		watching.Go(func() {
			for {
				most = max(most, d.limits.requests.Stats().Held)
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
		b := frameOf(req)
		var clients sync.WaitGroup
		for i := range 20 {
			c := d.w.dial()
			clients.Go(func() {
				if _, err := c.c.Write(b); err != nil {
					t.Error(err)
				}
				if _, err := readFrame(c.c); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
				_ = c.c.Close()
			})
		}
		clients.Wait()
		close(stop)
		watching.Wait()
		if limit := int64(budget + cost + len(b)*2); most > limit {
			t.Errorf("%d bytes held, want at most %d", most, limit)
		}
		if d.limits.requests.Stats().Waits == 0 {
			t.Error("nobody had to wait")
		}
		d.released()
	}, fmt.Sprintf("queued.max.request.bytes=%d", budget))
}

// Consumers that ask for much and read nothing: all of them hold no more than the limit and
// what each may have without asking, and the answers of others are as large as ever.
func TestUnreadFetches(t *testing.T) {
	const budget, clients, batch = 4 << 20, 30, 300 << 10
	bubble(t, func(t *testing.T, w *world) {
		b := w.start(fmt.Sprintf("kalda.queued.max.response.bytes=%d", budget))
		defer b.stop()
		d := &ward{running: b, t: t, other: w.dial()}
		defer d.other.c.Close()
		d.id = b.create("t", 1, nil)
		for range 10 {
			ask[*kmsg.ProduceResponse](d.other, produceRequest(9, "t", -1, batchOf(t, strings.Repeat("x", batch))))
		}
		before := heap()
		f := fetchRequest(12, "t", d.id, 0)
		f.MaxBytes, f.Topics[0].Partitions[0].PartitionMaxBytes = 50<<20, 50<<20
		var conns []*wireConn
		for range clients {
			c := w.dial()
			conns = append(conns, c)
			for range 4 {
				c.send(f)
			}
		}
		<-time.After(time.Second)
		synctest.Wait()
		if _, held := d.limits.answers.Stats(); held < budget/2 || held > budget+clients*64<<10 {
			t.Errorf("answers hold %d bytes", held)
		}
		// The network's buffers are part of the heap, too.
		if grown, limit := heap()-before, int64(clients*(2<<20)+2*budget); grown > limit {
			t.Errorf("%d bytes more, want at most %d", grown, limit)
		}
		resp := ask[*kmsg.FetchResponse](d.other, f)
		if p := resp.Topics[0].Partitions[0]; p.ErrorCode != 0 || len(p.RecordBatches) < 10*batch {
			t.Errorf("another consumer gets %d bytes, want ten batches of %d", len(p.RecordBatches), batch)
		}
		for _, c := range conns {
			_ = c.c.Close()
		}
		synctest.Wait()
		_ = d.other.c.Close()
		d.released()
	})
}

// The metrics say what is held and why connections ended.
func TestLimitMetrics(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		_, _ = c.c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		if !c.closes() {
			t.Error("HTTP is answered")
		}
		synctest.Wait()
		got := map[string]float64{}
		d.snapshot(func(name string, v float64, labels ...string) {
			got[strings.Join(append([]string{name}, labels...), " ")] = v
		})
		for name, want := range map[string]float64{
			"kalda_connections_closed_total PLAINTEXT http":         1,
			"kalda_connections_closed_total PLAINTEXT no_request":   0,
			"kalda_connections_closed_total PLAINTEXT slow_request": 0,
			"kalda_connections_delayed_total PLAINTEXT":             0,
			"kalda_request_memory_bytes":                            0,
			"kalda_request_memory_limit_bytes":                      77 << 20,
			"kalda_request_memory_waiting":                          0,
			"kalda_request_memory_waits_total":                      0,
			"kalda_response_memory_bytes":                           0,
			"kalda_response_memory_waiting":                         0,
			"kalda_response_memory_waits_total":                     0,
			"kalda_response_memory_limit_bytes":                     78 << 20,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
			}
		}
	}, "queued.max.request.bytes=77MiB", "kalda.queued.max.response.bytes=78MiB")
}
