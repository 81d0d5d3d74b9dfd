// Package memnet is a network in memory for tests: listeners with addresses, a dial
// function, and buffered connections with deadlines. It works inside testing/synctest
// bubbles, where real sockets would keep fake time from moving.
//
//	net := memnet.New(0)
//	ln, _ := net.Listen("127.0.0.1:9092")   // a net.Listener for the server
//	c, _ := net.Dial(ctx, "tcp", "127.0.0.1:9092")
//
// A connection is two pipes, each with a bounded buffer, so a writer whose peer does
// not read blocks as it would on a socket. Closing one end lets the peer read what
// was sent before it, then io.EOF; writing to a closed peer gives syscall.EPIPE.
package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// DefaultBuffer is the capacity in bytes of each direction of a connection.
const DefaultBuffer = 64 << 10

// Network is a set of listeners that can be dialled. Use New.
type Network struct {
	buffer int

	mu struct {
		sync.Mutex
		listeners map[netip.AddrPort]*listener
		nextPort  uint16 // for listeners on port 0
		nextPeer  uint16 // for the dialling ends
	}
}

// New returns a network without listeners whose connections hold up to buffer bytes
// in each direction; 0 means DefaultBuffer.
func New(buffer int) *Network {
	if buffer <= 0 {
		buffer = DefaultBuffer
	}
	n := &Network{buffer: buffer}
	n.mu.listeners = map[netip.AddrPort]*listener{}
	n.mu.nextPort, n.mu.nextPeer = 20000, 40000
	return n
}

// Listen opens a listener on addr, an IP address with a port; port 0 picks a free one.
// An address in use gives syscall.EADDRINUSE.
func (n *Network) Listen(addr string) (net.Listener, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if ap.Port() == 0 {
		for {
			ap = netip.AddrPortFrom(ap.Addr(), n.mu.nextPort)
			n.mu.nextPort++
			if n.mu.listeners[ap] == nil {
				break
			}
		}
	}
	if n.mu.listeners[ap] != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, syscall.EADDRINUSE)
	}
	ln := &listener{network: n, addr: ap, incoming: make(chan *Conn, backlog), closed: make(chan struct{})}
	n.mu.listeners[ap] = ln
	return ln, nil
}

// Dial connects to a listener of this network. The network argument is ignored, so
// that Dial fits where net.Dialer.DialContext does. Nobody listening gives
// syscall.ECONNREFUSED.
func (n *Network) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	n.mu.Lock()
	ln := n.mu.listeners[ap]
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), n.mu.nextPeer)
	n.mu.nextPeer++
	n.mu.Unlock()
	if ln == nil {
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	ours, theirs := pair(n.buffer, net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(ap))
	select {
	case ln.incoming <- theirs:
		select {
		case <-ln.closed: // it may have been closed, and emptied, just before
			theirs.Close()
		default:
		}
		return ours, nil
	case <-ln.closed:
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %s: %w", addr, ctx.Err())
	}
}

// backlog is how many dialled connections may wait for Accept, as with listen(2).
const backlog = 128

type listener struct {
	network  *Network
	addr     netip.AddrPort
	incoming chan *Conn
	once     sync.Once
	closed   chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// Close frees the address; connections that were not accepted are closed.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		delete(l.network.mu.listeners, l.addr)
		l.network.mu.Unlock()
		close(l.closed)
		for {
			select {
			case c := <-l.incoming:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}
