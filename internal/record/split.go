package record

import (
	"fmt"
	"io"

	"github.com/kalda-io/kalda/kerr"
)

// ErrPartial is what Split returns when the bytes end within a batch, as the last one in
// a fetch answer may. It is both a CORRUPT_MESSAGE and an io.ErrUnexpectedEOF.
var ErrPartial error = fmt.Errorf("%w: a record batch is cut short: %w", kerr.CorruptMessage, io.ErrUnexpectedEOF)

// Split takes the first batch off buf, which holds batches one after another. With empty
// buf first is nil and err too. Only length and magic are looked at: first is at least
// HeaderLen long and as long as its header says.
//
// Errors: ErrPartial; UNSUPPORTED_FOR_MESSAGE_FORMAT for magic 0 and 1; CORRUPT_MESSAGE.
// rest is then all of buf.
func Split(buf []byte) (first Batch, rest []byte, err error) {
	if len(buf) == 0 {
		return nil, nil, nil
	}
	// Enough to see the magic, in the old formats too.
	if len(buf) < LogOverhead+5 {
		return nil, buf, ErrPartial
	}
	b := Batch(buf)
	if m := b.Magic(); m == 0 || m == 1 || b.Length() < HeaderLen-LogOverhead || m != Magic {
		return nil, buf, splitError(b)
	}
	if int64(b.Length())+LogOverhead > int64(len(buf)) {
		return nil, buf, ErrPartial
	}
	n := b.Size()
	return b[:n:n], buf[n:], nil
}

func splitError(b Batch) error {
	switch m := b.Magic(); m {
	case 0, 1:
		return errMagic(m)
	case Magic:
		return corrupt("the batch's length field says %d", b.Length())
	default:
		return corrupt("unknown magic %d", m)
	}
}

func errMagic(m int8) error {
	return kerr.With(kerr.UnsupportedForMessageFormat,
		"message sets of magic %d are not supported, only record batches (magic 2)", m)
}
