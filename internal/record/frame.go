package record

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// What a codec puts around its blocks can be walked without decompressing them, which costs
// a few nanoseconds for each block of up to 4 MiB. It tells data of another codec, data that
// are not compressed at all, and cut data from what the header says they are. Only the first
// frame is looked at.

// Reasons why compressed data are not what the batch's header says.
var (
	errFrameOther = errors.New("the data are not of that codec")
	errFrameCut   = errors.New("the data are cut")
	errFrameBlock = errors.New("a block's header is not possible")
	errFrameDict  = errors.New("it needs a dictionary, which no consumer has")
	errFrameSmall = errors.New("the data are too few for the batch's records")
)

// checkCompressed walks the frame of b's payload, which is compressed.
//
// Errors: CORRUPT_MESSAGE. None for data that a decompressor can read.
func (b Batch) checkCompressed() error {
	p, least := b.Payload(), uint64(b.NumRecords())*minRecordLen
	var err error
	switch b.Codec() {
	case Gzip:
		err = checkGzip(p)
	case Snappy:
		err = checkSnappy(p, least)
	case LZ4:
		err = checkLZ4(p)
	case Zstd:
		err = checkZstd(p, least)
	}
	if err != nil {
		return decompressError(b.Codec(), err)
	}
	return nil
}

// checkGzip looks at the header (RFC 1952) and the type of the first block (RFC 1951). The
// sizes of blocks are known only to who decompresses them.
func checkGzip(p []byte) error {
	const header, trailer = 10, 8
	switch {
	case len(p) < 3 || p[0] != 0x1f || p[1] != 0x8b || p[2] != 8:
		return errFrameOther
	case len(p) < header+1+trailer:
		return errFrameCut
	case p[3] == 0 && p[header]&6 == 6: // no further fields, so the first block follows
		return errFrameBlock
	}
	return nil
}

// checkSnappy walks the chunks of Java's framing, and the first elements of each block.
func checkSnappy(p []byte, least uint64) error {
	if !bytes.HasPrefix(p, xerialMagic) {
		n, err := checkSnappyBlock(p)
		if err == nil && n < least {
			return errFrameSmall
		}
		return err
	}
	all := uint64(0)
	for len(p) > 0 {
		if bytes.HasPrefix(p, xerialMagic) {
			if len(p) < xerialHeaderLen {
				return errFrameCut
			}
			p = p[xerialHeaderLen:]
			continue
		}
		if len(p) < 4 {
			return errFrameCut
		}
		n := uint64(binary.BigEndian.Uint32(p))
		p = p[4:]
		if n > uint64(len(p)) {
			return errFrameCut
		}
		size, err := checkSnappyBlock(p[:n])
		if err != nil {
			return err
		}
		p, all = p[n:], all+size
	}
	if all < least {
		return errFrameSmall
	}
	return nil
}

// snappyElements is how many elements of a block are looked at. Data that are not snappy
// hardly come through ten, a small block is walked to its end.
const snappyElements = 64

// checkSnappyBlock walks the first elements of a raw block: a length, then literals and
// copies of what came before (format_description.txt of snappy). It returns the length.
func checkSnappyBlock(p []byte) (uint64, error) {
	n, err := s2.DecodedLen(p)
	if err != nil {
		return 0, errFrameOther
	}
	_, w := binary.Uvarint(p)
	p = p[w:]
	left := int64(n) // an int of 32 bits does not hold every length and distance
	done := int64(0)
	for i := 0; len(p) > 0 && i < snappyElements; i++ {
		tag, header := p[0], 1
		size, back := int64(tag>>2)+1, int64(0)
		switch tag & 3 {
		case 0:
			if size > 60 {
				header += int(size) - 60
			}
		case 1:
			header, size = 2, int64(tag>>2&7)+4
		case 2:
			header = 3
		case 3:
			header = 5
		}
		if len(p) < header {
			return 0, errFrameCut
		}
		var le [4]byte
		switch copy(le[:], p[1:header]); {
		case tag&3 == 0 && header > 1:
			size = int64(binary.LittleEndian.Uint32(le[:])) + 1
		case tag&3 == 1:
			back = int64(tag>>5)<<8 | int64(p[1])
		case tag&3 != 0:
			back = int64(binary.LittleEndian.Uint32(le[:]))
		}
		if tag&3 == 0 {
			if size > int64(len(p)-header) {
				return 0, errFrameCut
			}
			header += int(size)
		} else if back == 0 || back > done {
			return 0, errFrameOther
		}
		if size > left {
			return 0, errFrameOther
		}
		p, done, left = p[header:], done+size, left-size
	}
	if len(p) == 0 && left != 0 {
		return 0, errFrameCut
	}
	return uint64(n), nil
}

// checkLZ4 walks the blocks of a frame (lz4_Frame_format.md).
func checkLZ4(p []byte) error {
	if len(p) < 4 || binary.LittleEndian.Uint32(p) != lz4Magic {
		return errFrameOther
	}
	const flagsAt, sizesAt = 4, 5
	header := 7 // with the header's checksum
	if len(p) < header {
		return errFrameCut
	}
	flags := p[flagsAt]
	if flags>>6 != 1 {
		return errFrameOther
	}
	if flags&1 != 0 {
		return errFrameDict
	}
	if flags&8 != 0 { // the size of the content
		header += 8
	}
	if len(p) < header {
		return errFrameCut
	}
	sizes := p[sizesAt] >> 4 & 7
	if sizes < 4 {
		return errFrameBlock
	}
	largest := uint32(1) << (8 + 2*sizes)
	blockSum := int(flags >> 4 & 1 * 4)
	for p = p[header:]; ; {
		if len(p) < 4 {
			return errFrameCut
		}
		n := binary.LittleEndian.Uint32(p) &^ (1 << 31) // the bit is for stored blocks
		if p = p[4:]; n == 0 {
			break
		}
		switch {
		case n > largest:
			return errFrameBlock
		case int(n)+blockSum > len(p):
			return errFrameCut
		}
		p = p[int(n)+blockSum:]
	}
	if flags&4 != 0 && len(p) < 4 { // the checksum of the content
		return errFrameCut
	}
	return nil
}

// checkZstd walks the blocks of a frame (RFC 8878).
func checkZstd(p []byte, least uint64) error {
	var h zstd.Header
	for {
		switch err := h.Decode(p); {
		case errors.Is(err, zstd.ErrMagicMismatch):
			return errFrameOther
		case err != nil:
			return errFrameCut
		}
		if !h.Skippable {
			break
		}
		if uint64(h.HeaderSize)+uint64(h.SkippableSize) > uint64(len(p)) {
			return errFrameCut
		}
		p = p[h.HeaderSize+int(h.SkippableSize):]
	}
	switch {
	case h.DictionaryID != 0:
		return errFrameDict
	case h.WindowSize > maxZstdWindow:
		return errFrameBlock
	}
	for p = p[h.HeaderSize:]; ; {
		if len(p) < 3 {
			return errFrameCut
		}
		b := uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16
		n := int(b >> 3)
		switch b >> 1 & 3 {
		case 1: // one byte, repeated
			n = 1
		case 3:
			return errFrameBlock
		}
		if n > len(p)-3 {
			return errFrameCut
		}
		p = p[3+n:]
		if b&1 != 0 {
			break
		}
	}
	if h.HasCheckSum {
		if len(p) < 4 {
			return errFrameCut
		}
		p = p[4:]
	}
	// The records may go on in a further frame.
	if len(p) == 0 && h.HasFCS && h.FrameContentSize < least {
		return errFrameSmall
	}
	return nil
}
