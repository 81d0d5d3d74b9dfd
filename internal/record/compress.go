package record

import (
	"bytes"
	"fmt"
	"slices"

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
	levels Levels
	gzip   *gzip.Writer
	lz4    *lz4.Writer
	zstd   *zstd.Encoder
	out    bytes.Buffer
}

// SetLevels sets the efforts for what follows; the zero Levels are those of a new
// Compressor.
func (c *Compressor) SetLevels(l Levels) {
	if l.Gzip != c.levels.Gzip {
		c.gzip = nil
	}
	if l.LZ4 != c.levels.LZ4 {
		c.lz4 = nil
	}
	if l.Zstd != c.levels.Zstd {
		c.zstd = nil
	}
	c.levels = l
}

// gzipLevel is the level in the numbers of the codec's package, as are the next two.
func (l Levels) gzipLevel() int {
	if l.Gzip <= 0 {
		return gzip.DefaultCompression
	}
	return min(l.Gzip, gzip.BestCompression)
}

func (l Levels) lz4Level() lz4.CompressionLevel {
	if l.LZ4 <= 0 || l.LZ4 == defaultLZ4Level {
		return lz4.Fast
	}
	return lz4.Level1 << (min(l.LZ4, 9) - 1)
}

// defaultLZ4Level stands for the fast compressor. Kafka: Lz4BlockOutputStream.
const defaultLZ4Level = 9

func (l Levels) zstdLevel() zstd.EncoderLevel {
	if l.Zstd == 0 {
		return zstd.SpeedDefault
	}
	return zstd.EncoderLevelFromZstd(l.Zstd)
}

// shrink gives back a buffer that grew for an unusually large batch.
func (c *Compressor) shrink() {
	if c.out.Cap() > keptBuffer {
		c.out = bytes.Buffer{}
	}
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
			w, err := gzip.NewWriterLevel(&c.out, c.levels.gzipLevel())
			if err != nil {
				return dst, fmt.Errorf("gzip: %w", err)
			}
			c.gzip = w
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
		n := s2.MaxEncodedLen(len(raw))
		if n < 0 {
			return dst, tooLarge("%d bytes are too many for snappy", len(raw))
		}
		dst = slices.Grow(dst, n)
		return dst[:len(dst)+len(s2.EncodeSnappy(dst[len(dst):len(dst)+n], raw))], nil
	case LZ4:
		c.out.Reset()
		if c.lz4 == nil {
			c.lz4 = lz4.NewWriter(&c.out)
			// 64 KiB blocks are what Kafka's own client writes and every reader takes.
			if err := c.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ConcurrencyOption(1),
				lz4.CompressionLevelOption(c.levels.lz4Level())); err != nil {
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
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdEncodeWindow),
				zstd.WithEncoderLevel(c.levels.zstdLevel()))
			if err != nil {
				return dst, fmt.Errorf("zstd: %w", err)
			}
			c.zstd = enc
		}
		return c.zstd.EncodeAll(raw, dst), nil
	}
	return dst, kerr.With(kerr.UnsupportedCompressionType, "unknown compression codec %d", codec)
}
