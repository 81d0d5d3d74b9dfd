package server

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/kalda-io/kalda/internal/wire"
)

// BenchmarkLoopback is the floor under every request: sockets, frames, order, no work.
// Each operation is 16 requests written at once and their 16 answers.
func BenchmarkLoopback(b *testing.B) {
	for _, how := range []string{"done", "flush"} {
		b.Run(how, func(b *testing.B) {
			h := &perConn{how: how}
			s, err := New(Options{Handler: h})
			if err != nil {
				b.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var serving sync.WaitGroup
			serving.Go(func() { _ = s.Serve(ctx, ln) })
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				run := exchange(b, &steady{body: answer50[:]}, c)
				for pb.Next() {
					run()
				}
			})
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/16, "ns/request")
			cancel()
			serving.Wait()
		})
	}
}

var answer50 [50]byte

// perConn answers at once or in Flush; its state is per connection.
type perConn struct {
	how string
}

func (h *perConn) Handle(p *wire.Pending) wire.Outcome {
	p.Resp = append(p.Resp, answer50[:]...)
	if h.how == "done" {
		return wire.Done
	}
	staged, _ := p.Conn.State.(*[]*wire.Pending)
	if staged == nil {
		staged = new([]*wire.Pending)
		p.Conn.State = staged
	}
	*staged = append(*staged, p)
	return wire.Parked
}

func (h *perConn) Flush(c *wire.Conn) {
	if staged, ok := c.State.(*[]*wire.Pending); ok {
		for _, p := range *staged {
			p.Complete()
		}
		*staged = (*staged)[:0]
	}
}

func (h *perConn) Cancel(*wire.Pending) {}
func (h *perConn) Closed(*wire.Conn)    {}
