package server

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func testFrames(maxBytes int) frames {
	o := Options{MaxRequestBytes: maxBytes, Serves: func(int16, int16) bool { return true }}.withDefaults()
	f := newFrames(&o)
	f.allowed = 1 << 30
	return f
}

// feed gives stream to f in pieces of the sizes that cut yields (0: as much as fits),
// and returns the frames. grown is called after every piece.
func feed(f *frames, stream []byte, cut func() int, grown func(received int)) (out [][]byte, why *closing) {
	for received := 0; ; {
		for {
			frame, why := f.next()
			if why != nil {
				return out, why
			}
			if frame == nil {
				break
			}
			out = append(out, bytes.Clone(frame))
		}
		if received == len(stream) {
			return out, nil
		}
		space := f.space()
		if len(space) == 0 {
			panic("space is empty")
		}
		n := len(space)
		if c := cut(); c > 0 {
			n = min(n, c)
		}
		n = copy(space[:n], stream[received:])
		f.filled(n)
		received += n
		grown(received)
	}
}

// FuzzFrames: however a stream is cut, the frames are those of the obvious reader, and
// the buffer never holds more than twice the bytes that came.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0a0123456789\x00\x00\x00\x0babcdefghijk"), []byte{1, 2, 3})
	f.Add(append([]byte{0, 1, 0, 0}, make([]byte, 1<<16)...), []byte{255})
	f.Add(append([]byte{0, 0, 0x20, 0}, make([]byte, 3*8196)...), []byte{})
	many := []byte{}
	for i := range 2000 {
		many = append(binary.BigEndian.AppendUint32(many, uint32(10+i%97)), bytes.Repeat([]byte{byte(i)}, 10+i%97)...)
	}
	f.Add(many, []byte{})
	f.Add(many, []byte{0, 200})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), []byte{4})
	f.Add([]byte("\x7f\xff\xff\xff0123456789"), []byte{1})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		const maxBytes = 1 << 18
		i := 0
		cut := func() int {
			if len(cuts) == 0 {
				return 0
			}
			i++
			return int(cuts[i%len(cuts)])
		}
		fr := testFrames(maxBytes)
		got, why := feed(&fr, stream, cut, func(received int) {
			if len(fr.buf) > max(startBytes, 2*received) {
				t.Fatalf("buffer of %d bytes after %d received", len(fr.buf), received)
			}
		})
		var want [][]byte
		bad := false
		for rest := stream; len(rest) >= 4; {
			size := int(int32(binary.BigEndian.Uint32(rest)))
			if bad = size < minFrameBytes || size > maxBytes; bad || size > len(rest)-4 {
				break
			}
			want = append(want, rest[4:4+size])
			rest = rest[4+size:]
		}
		if bad != (why != nil) || len(got) != len(want) {
			t.Fatalf("%d frames and %v, want %d and error %v", len(got), why, len(want), bad)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
	})
}

func TestMemoryGrowsWithBytesNotClaims(t *testing.T) {
	fr := testFrames(100 << 20)
	stream := append(binary.BigEndian.AppendUint32(nil, 100<<20), make([]byte, 1<<20)...)
	_, why := feed(&fr, stream, func() int { return 1000 }, func(received int) {
		if len(fr.buf) > max(startBytes, 2*received) {
			t.Fatalf("buffer of %d bytes after %d received", len(fr.buf), received)
		}
	})
	if why != nil {
		t.Fatal(why)
	}
}

func TestFirstFrame(t *testing.T) {
	claim := func(size int, key, version int16) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(size))
		b = binary.BigEndian.AppendUint16(b, uint16(key))
		return binary.BigEndian.AppendUint16(b, uint16(version))
	}
	serves := func(key, version int16) bool { return key == 0 && version <= 12 }
	for _, tc := range []struct {
		name   string
		stream []byte
		serves func(int16, int16) bool
		ok     bool
	}{
		{"at the limit", claim(512<<10, 99, 0), serves, true},
		{"above, known", claim(512<<10+1, 0, 12), serves, true},
		{"above, header not there yet", claim(512<<10+1, 99, 0)[:7], serves, true},
		{"above, unknown key", claim(512<<10+1, 99, 0), serves, false},
		{"above, unknown version", claim(512<<10+1, 0, 13), serves, false},
		{"above, nobody to ask", claim(512<<10+1, 0, 0), nil, false},
	} {
		o := Options{Serves: tc.serves}.withDefaults()
		fr := newFrames(&o)
		_, why := feed(&fr, tc.stream, func() int { return 0 }, func(int) {})
		if (why == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, why)
		}
	}
	// Later requests may be of any size up to the limit.
	o := Options{}.withDefaults()
	fr := newFrames(&o)
	stream := append(binary.BigEndian.AppendUint32(nil, 10), make([]byte, 10)...)
	if _, why := feed(&fr, append(stream, claim(50<<20, 99, 0)...), func() int { return 0 }, func(int) {}); why != nil {
		t.Errorf("second request: %v", why)
	}
}

// A buffer that grew for one large request is given back when small ones follow; one
// that is needed again and again is kept.
func TestBufferFollowsTheLoad(t *testing.T) {
	fr := testFrames(100 << 20)
	frame := func(n int) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(n)), make([]byte, n)...) }
	run := func(n int) {
		if out, why := feed(&fr, frame(n), func() int { return 0 }, func(int) {}); why != nil || len(out) != 1 {
			t.Fatalf("%d frames, %v", len(out), why)
		}
	}
	for range 300 {
		run(1 << 20)
		if len(fr.buf) > 4<<20 {
			t.Fatalf("%d bytes for frames of 1 MiB", len(fr.buf))
		}
	}
	kept := &fr.buf[0]
	for range 300 {
		run(1 << 20)
	}
	if &fr.buf[0] != kept {
		t.Error("the buffer of a steady load was replaced")
	}
	for range 1000 {
		run(100)
	}
	if &fr.buf[0] != kept {
		t.Error("the buffer was given back at once")
	}
	for range 2 { // the large ones count for the time in which they came
		fr.now += shrinkTime
		run(100)
	}
	if len(fr.buf) != aheadBytes {
		t.Errorf("%d bytes for small requests", len(fr.buf))
	}
	fr.shrink()
	if len(fr.buf) != startBytes {
		t.Errorf("%d bytes when idle", len(fr.buf))
	}
	// With half a frame waiting the buffer keeps it.
	space := fr.space()
	fr.filled(copy(space, frame(3000)[:2000]))
	fr.shrink()
	space = fr.space()
	fr.filled(copy(space, frame(3000)[2000:]))
	if out, _ := fr.next(); len(out) != 3000 {
		t.Errorf("half a frame was lost: %d bytes", len(out))
	}
}

// Frames larger than aheadBytes are read to their end and never moved once they are
// known to fit, so a byte of a large batch is not copied inside the buffer.
func TestLargeFramesAreNotMoved(t *testing.T) {
	fr := testFrames(100 << 20)
	one := append(binary.BigEndian.AppendUint32(nil, 256<<10), make([]byte, 256<<10)...)
	stream := bytes.Repeat(one, 40)
	starts := map[*byte]int{}
	n := 0
	_, _ = feed(&fr, stream[:8*len(one)], func() int { return 0 }, func(int) {})
	for sent := 8 * len(one); sent < len(stream); {
		space := fr.space()
		c := copy(space, stream[sent:])
		fr.filled(c)
		sent += c
		for frame, _ := fr.next(); frame != nil; frame, _ = fr.next() {
			starts[&frame[0]]++
			n++
		}
	}
	if n != 32 || len(starts) != 1 {
		t.Errorf("%d frames began at %d places of the buffer, want always at its start", n, len(starts))
	}
}
