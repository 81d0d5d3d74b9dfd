package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// MaxDecompressed is the most bytes that the records of one batch may decompress to,
	// whatever a caller asks for.
	MaxDecompressed = 64 << 20
	// maxZstdWindow is what libzstd's decoder accepts by default and so what its highest
	// levels may announce. The window is never allocated: the output serves as it.
	maxZstdWindow = 128 << 20
	// firstOutput is the least room made for output.
	firstOutput = 4 << 10
)

// errOutputLimit stops a decoder whose output reached the limit.
var errOutputLimit = errors.New("output limit reached")

// decompressor turns payloads into records' bytes. Whatever a header claims, it allocates
// only a small multiple of the limit. The zero value is ready. Not safe for concurrent use.
type decompressor struct {
	gzip *gzip.Reader
	zstd *zstd.Decoder
	src  bytes.Reader
}

// append appends src, decompressed, to dst[:0]; at most limit bytes.
//
// Errors: MESSAGE_TOO_LARGE beyond the limit, CORRUPT_MESSAGE for all else.
func (d *decompressor) append(dst []byte, c Codec, src []byte, limit int) ([]byte, error) {
	dst = dst[:0]
	var err error
	switch c {
	case Gzip:
		dst, err = d.appendGzip(dst, src, limit)
	case Snappy:
		dst, err = appendSnappy(dst, src, limit)
	case LZ4:
		dst, err = d.appendLZ4(dst, src, limit)
	case Zstd:
		dst, err = d.appendZstd(dst, src, limit)
	default:
		return dst, invalid("unknown compression codec %d", c)
	}
	switch {
	case errors.Is(err, errOutputLimit):
		return dst, tooLarge("the batch's %s data decompresses to more than %d bytes", c, limit)
	case err != nil:
		return dst, decompressError(c, err)
	}
	return dst, nil
}

// appendGzip reads all members of a gzip stream.
func (d *decompressor) appendGzip(dst, src []byte, limit int) ([]byte, error) {
	d.src.Reset(src)
	var err error
	if d.gzip == nil {
		d.gzip, err = gzip.NewReader(&d.src)
	} else {
		err = d.gzip.Reset(&d.src)
	}
	if err != nil {
		d.gzip = nil
		return dst, err
	}
	return readLimited(dst, d.gzip, len(src), limit)
}

// lz4Magic opens an LZ4 frame. The legacy frame, which Kafka does not read either, has
// another one.
const lz4Magic = 0x184d2204

// appendLZ4 reads all frames. The reader is new each time: one that is used again keeps
// the last 64 KiB of output as a dictionary, which a hostile frame could copy from.
func (d *decompressor) appendLZ4(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < 4 || binary.LittleEndian.Uint32(src) != lz4Magic {
		return dst, errors.New("not an LZ4 frame")
	}
	d.src.Reset(src)
	return readLimited(dst, lz4.NewReader(&d.src), len(src), limit)
}

// appendZstd decodes all frames. The decoder may write up to the capacity it is given;
// where that was too little, it starts anew with four times as much, so that the memory
// follows the real output and the work is at most a third more.
func (d *decompressor) appendZstd(dst, src []byte, limit int) ([]byte, error) {
	if d.zstd == nil {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(maxZstdWindow),
			zstd.WithDecoderMaxMemory(maxZstdWindow))
		if err != nil {
			return dst, err
		}
		d.zstd = dec
	}
	first := max(firstOutput, 4*len(src))
	var h zstd.Header
	if h.Decode(src) == nil && h.HasFCS {
		if h.FrameContentSize > uint64(limit) {
			return dst, errOutputLimit
		}
		first = int(h.FrameContentSize)
	}
	if cap(dst) < first {
		dst = make([]byte, 0, min(limit, first))
	}
	for {
		dst = dst[:0:min(cap(dst), limit)]
		out, err := d.zstd.DecodeAll(src, dst)
		if !outOfRoom(err) {
			return out, err
		}
		if cap(dst) == limit {
			return dst, errOutputLimit
		}
		dst = make([]byte, 0, min(limit, max(firstOutput, 4*cap(dst))))
	}
}

// outOfRoom says that a decoder found too little room for its output. Its assembly reports
// that of the last block with the words for a block that is too large; a block that really
// is fails again with more room, and in the end counts as beyond the limit.
func outOfRoom(err error) bool {
	return errors.Is(err, zstd.ErrDecoderSizeExceeded) ||
		err != nil && strings.HasPrefix(err.Error(), "output bigger than max block size")
}

// readLimited appends what r yields. in is the size of the compressed data, the measure
// for the first buffer.
func readLimited(dst []byte, r io.Reader, in, limit int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			size := max(firstOutput, 4*in, 2*cap(dst))
			grown := make([]byte, len(dst), min(size, limit+1))
			copy(grown, dst)
			dst = grown
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > limit:
			return dst[:limit], errOutputLimit
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}

// xerialMagic begins the framing of Java's snappy stream: the magic, two version
// numbers of 4 bytes, then chunks of a 4-byte length and a raw snappy block each. Streams
// may be concatenated, so the magic may come again where a length is expected.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderLen = 16

func appendSnappy(dst, src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return appendSnappyBlock(dst, src, limit)
	}
	for len(src) > 0 {
		if bytes.HasPrefix(src, xerialMagic) {
			if len(src) < xerialHeaderLen {
				return dst, io.ErrUnexpectedEOF
			}
			src = src[xerialHeaderLen:]
			continue
		}
		if len(src) < 4 {
			return dst, io.ErrUnexpectedEOF
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return dst, io.ErrUnexpectedEOF
		}
		var err error
		if dst, err = appendSnappyBlock(dst, src[:n], limit); err != nil {
			return dst, err
		}
		src = src[n:]
	}
	return dst, nil
}

// appendSnappyBlock decodes one raw block, which begins with its decompressed size. A
// block cannot expand by more than about 21 times (64 bytes from a 3-byte copy), so a
// claim beyond that is refused before room is made for it.
func appendSnappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	switch {
	case err != nil:
		return dst, err
	case n > 22*len(src):
		return dst, fmt.Errorf("%d bytes cannot decompress to %d", len(src), n)
	case n > limit-len(dst):
		return dst, errOutputLimit
	}
	start := len(dst)
	if cap(dst)-start < n {
		grown := make([]byte, start, min(limit, max(start+n, 2*cap(dst))))
		copy(grown, dst)
		dst = grown
	}
	out, err := s2.Decode(dst[start:start+n:start+n], src)
	if err != nil {
		return dst, err
	}
	if len(out) != n {
		return dst, io.ErrUnexpectedEOF
	}
	return dst[:start+n], nil
}
