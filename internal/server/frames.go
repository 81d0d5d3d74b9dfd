package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

const (
	// startBytes is the read buffer of a new or idle connection. Most of the memory of
	// an idle connection is this and the goroutine's stack.
	startBytes = 4 << 10
	// aheadBytes is how far a connection reads beyond the frame it is at, and so the
	// size to which the buffer grows for small requests: enough for a few hundred
	// pipelined requests per read(2), small enough to stay in the CPU's cache. A frame
	// larger than this is read exactly to its end, so that no part of the next one has
	// to be moved to the front.
	aheadBytes = 64 << 10
	// minFrameBytes is the shortest header: key, version, correlation id, null client id.
	minFrameBytes = 10
	// shrinkTime is after how long a large buffer is given back if no request needed a quarter
	// of it. A busy producer's requests vary by more than that from one moment to the next, and
	// a buffer that grows again is cleared and copied several times.
	shrinkTime = 10 * time.Second
)

// frames cuts a byte stream into requests: a 4-byte size, then as many bytes. It holds
// the read buffer and does no I/O.
//
//	buf  [ done | unread frames | ... free ... ]
//	     0      r               w             cap
//
// The buffer doubles when it is full, so it grows with the bytes that have arrived and
// never with the size that a peer claims.
type frames struct {
	buf  []byte
	r, w int

	maxBytes   int // largest frame
	firstBytes int // largest first frame, unless serves says yes to its header
	serves     func(key, version int16) bool
	begun      bool   // the first frame was accepted
	whole      uint64 // frames that next returned
	// allowed is the size up to which the buffer may grow; aheadBytes or what the
	// connection took from the budget beyond that.
	allowed int

	full bool // the last fill left no room: there may be more to take at once
	// peak is the largest use of the buffer since then, for trim; now is the same clock
	// (Clock.Boot), as the connection knows it.
	peak       int
	since, now time.Duration
}

func newFrames(o *Options) frames {
	return frames{
		buf:        make([]byte, startBytes),
		maxBytes:   o.MaxRequestBytes,
		firstBytes: o.FirstFrameBytes,
		serves:     o.Serves,
		allowed:    aheadBytes,
	}
}

// next returns the next whole frame without its size, or nil if there is none yet. It
// lies in the buffer and is valid until space is called. An error means that the
// stream is of no use any more.
func (f *frames) next() ([]byte, *closing) {
	have := f.w - f.r
	if have < 4 {
		return nil, nil
	}
	size := int(int32(binary.BigEndian.Uint32(f.buf[f.r:])))
	if size < minFrameBytes || size > f.maxBytes {
		return nil, f.badSize(size)
	}
	if !f.begun && size > f.firstBytes {
		// Whoever opens a connection with a large request must at least know an API of
		// ours. The first four bytes of the header tell.
		if have < 8 {
			return nil, nil
		}
		key := int16(binary.BigEndian.Uint16(f.buf[f.r+4:]))
		version := int16(binary.BigEndian.Uint16(f.buf[f.r+6:]))
		if f.serves == nil || !f.serves(key, version) {
			return nil, f.badSize(size)
		}
	}
	f.begun = true
	if have < 4+size {
		return nil, nil
	}
	frame := f.buf[f.r+4 : f.r+4+size : f.r+4+size]
	f.r += 4 + size
	f.whole++
	return frame, nil
}

// unread is how many bytes wait behind what next returned.
func (f *frames) unread() int { return f.w - f.r }

// space returns where to put the bytes that arrive next. It is empty if the buffer would
// have to grow beyond allowed: raise that and call again. Call next until it returns nil
// before.
func (f *frames) space() []byte {
	f.peak = max(f.peak, f.w)
	if f.r == f.w {
		f.r, f.w = 0, 0
		f.trim()
		if f.full && len(f.buf) < aheadBytes {
			f.buf = make([]byte, 2*len(f.buf))
		}
		return f.buf[:min(len(f.buf), aheadBytes)]
	}
	have := f.w - f.r
	end := f.r + aheadBytes
	if have >= 4 {
		size := int(binary.BigEndian.Uint32(f.buf[f.r:])) // next has checked it
		end = f.r + max(4+size, aheadBytes)
		if f.r > 0 && f.r+4+size > len(f.buf) {
			end -= f.r
			f.moveToFront()
		}
	}
	if f.w == len(f.buf) && f.r > 0 {
		end -= f.r
		f.moveToFront()
	}
	// A small buffer that one read filled to the brim is too small for what comes, even
	// if the frame at hand would fit.
	if f.w == len(f.buf) || f.full && len(f.buf) < aheadBytes {
		if f.needs() > f.allowed {
			return nil
		}
		grown := make([]byte, f.needs())
		f.w = copy(grown, f.buf[:f.w])
		f.buf = grown
	}
	return f.buf[f.w:min(end, len(f.buf))]
}

// needs is the size of the next larger buffer.
func (f *frames) needs() int { return 2 * len(f.buf) }

// missing is how many bytes the frame at hand still lacks: at least 1, and what the
// shortest one would lack while its size is not known.
func (f *frames) missing() int {
	have := f.w - f.r
	if have < 4 {
		return 4 + minFrameBytes - have
	}
	return max(4+int(binary.BigEndian.Uint32(f.buf[f.r:]))-have, 1)
}

// drop gives a large buffer back in which nothing lies: the memory is short.
func (f *frames) drop() {
	if f.r == f.w && len(f.buf) > aheadBytes {
		f.buf, f.r, f.w = make([]byte, aheadBytes), 0, 0
	}
}

func (f *frames) moveToFront() {
	f.w = copy(f.buf, f.buf[f.r:f.w])
	f.r = 0
}

// filled tells that n bytes were put into what space returned.
func (f *frames) filled(n int) {
	f.w += n
	f.full = f.w == len(f.buf)
}

// trim gives a large buffer back when the last requests did without it. The buffer is empty.
func (f *frames) trim() {
	if f.now-f.since < shrinkTime {
		return
	}
	size := len(f.buf)
	for size > aheadBytes && f.peak < size/4 {
		size = max(aheadBytes, size/4)
	}
	if size < len(f.buf) {
		f.buf = make([]byte, size)
	}
	f.peak, f.since = 0, f.now
}

// shrink makes the buffer as small as its content allows: the connection is idle.
func (f *frames) shrink() {
	have := f.w - f.r
	size := startBytes
	for size < have+1 {
		size *= 2
	}
	if size < len(f.buf) {
		small := make([]byte, size)
		f.w = copy(small, f.buf[f.r:f.w])
		f.r = 0
		f.buf = small
	}
	f.full = false
}

// badSize says why a size cannot be one. Other protocols on the port are the usual
// reason: the first four bytes of "GET / HTTP/1.1" read as a size of 1.2 GB, those of
// a TLS handshake as 369 MB.
func (f *frames) badSize(size int) *closing {
	if !f.begun {
		start := f.buf[f.r:f.w]
		switch {
		case looksLikeHTTP(start):
			return &closing{CloseHTTP, "an HTTP request came to the port of the Kafka protocol: the HTTP address is that of kalda.http.listen"}
		case start[0] == 0x16 && start[1] == 3 && start[2] <= 4:
			return &closing{CloseTLS, "a TLS handshake came to a plaintext port: set security.protocol=PLAINTEXT in the client or connect to a TLS listener"}
		case size > f.firstBytes && size <= f.maxBytes:
			return &closing{CloseBadFrame, fmt.Sprintf("the first request claims %d bytes and is none that this listener serves: kalda.connections.first.request.max.bytes=%d", size, f.firstBytes)}
		}
	}
	if size > f.maxBytes {
		return &closing{CloseBadFrame, fmt.Sprintf("a request claims %d bytes, more than socket.request.max.bytes=%d", size, f.maxBytes)}
	}
	return &closing{CloseBadFrame, fmt.Sprintf("a request claims %d bytes, too few for a header", size)}
}

var httpStarts = [...]string{"GET ", "POST", "PUT ", "HEAD", "OPTI", "DELE", "PATC", "CONN", "TRAC", "PRI "}

func looksLikeHTTP(b []byte) bool {
	for _, s := range httpStarts {
		if bytes.HasPrefix(b, []byte(s)) {
			return true
		}
	}
	return false
}
