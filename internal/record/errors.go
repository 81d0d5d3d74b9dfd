package record

import (
	"fmt"

	"github.com/kalda-io/kalda/kerr"
)

// corrupt is an error of bytes that changed or were cut on their way: the producer may
// send the batch again (CORRUPT_MESSAGE is retriable).
func corrupt(format string, args ...any) error {
	return kerr.With(kerr.CorruptMessage, format, args...)
}

// invalid is an error of what the producer wrote: sending it again cannot help.
func invalid(format string, args ...any) error { return kerr.With(kerr.InvalidRecord, format, args...) }

// RecordError says which record of a batch is the reason for its refusal (KIP-467).
type RecordError struct {
	// Index counts the records of the batch from 0.
	Index int32
	// Err is why; it is or wraps a kerr error.
	Err error
}

// Error implements error.
func (e *RecordError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *RecordError) Unwrap() error { return e.Err }

// tooLarge is an error of size, of the batch itself or of what it decompresses to.
func tooLarge(format string, args ...any) error {
	return kerr.With(kerr.MessageTooLarge, format, args...)
}

// decompressError keeps the cause for the log while the kind decides what the client sees.
func decompressError(c Codec, cause error) error {
	return fmt.Errorf("%w: %w", corrupt("%s data cannot be decompressed", c), cause)
}
