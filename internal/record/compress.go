package record

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/kalda-io/kalda/kerr"
)

// zstdEncodeWindow bounds the window that readers of our batches need: a batch is rarely
// larger.
const zstdEncodeWindow = 1 << 20

// Compressor compresses the records of batches. The zero value is ready; it keeps its
// codecs' state for the next call and is not safe for concurrent use.
type Compressor struct {
	gzip *gzip.Writer
	lz4  *lz4.Writer
	zstd *zstd.Encoder
	out  bytes.Buffer
}

// Append appends raw, compressed as codec says, to dst. Snappy is one raw block, LZ4 the
// frame format. Errors: UNSUPPORTED_COMPRESSION_TYPE for an unknown codec.
func (c *Compressor) Append(dst []byte, codec Codec, raw []byte) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, raw...), nil
	case Gzip:
		c.out.Reset()
		if c.gzip == nil {
			c.gzip = gzip.NewWriter(&c.out)
		} else {
			c.gzip.Reset(&c.out)
		}
		if _, err := c.gzip.Write(raw); err != nil {
			return dst, fmt.Errorf("gzip: %w", err)
		}
		if err := c.gzip.Close(); err != nil {
			return dst, fmt.Errorf("gzip: %w", err)
		}
		return append(dst, c.out.Bytes()...), nil
	case Snappy:
		if n := s2.MaxEncodedLen(len(raw)); n < 0 {
			return dst, tooLarge("%d bytes are too many for snappy", len(raw))
		}
		return append(dst, s2.EncodeSnappy(nil, raw)...), nil
	case LZ4:
		c.out.Reset()
		if c.lz4 == nil {
			c.lz4 = lz4.NewWriter(&c.out)
			// 64 KiB blocks are what Kafka's own client writes and every reader takes.
			if err := c.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ConcurrencyOption(1)); err != nil {
				return dst, fmt.Errorf("lz4: %w", err)
			}
		} else {
			c.lz4.Reset(&c.out)
		}
		if _, err := c.lz4.Write(raw); err != nil {
			return dst, fmt.Errorf("lz4: %w", err)
		}
		if err := c.lz4.Close(); err != nil {
			return dst, fmt.Errorf("lz4: %w", err)
		}
		return append(dst, c.out.Bytes()...), nil
	case Zstd:
		if c.zstd == nil {
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdEncodeWindow))
			if err != nil {
				return dst, fmt.Errorf("zstd: %w", err)
			}
			c.zstd = enc
		}
		return c.zstd.EncodeAll(raw, dst), nil
	}
	return dst, kerr.With(kerr.UnsupportedCompressionType, "unknown compression codec %d", codec)
}
