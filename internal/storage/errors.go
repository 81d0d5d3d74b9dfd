package storage

import (
	"errors"
	"fmt"

	"github.com/kalda-io/kalda/kerr"
)

// CorruptError is damage, with its place.
type CorruptError struct {
	// Path is the damaged file.
	Path string
	// Offset is the byte position in the file where the damage shows.
	Offset int64
	// Err says what is wrong there.
	Err error
}

// Error prints path, position and what is wrong.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: damaged at byte %d: %v", e.Path, e.Offset, e.Err)
}

// Unwrap makes damage a KAFKA_STORAGE_ERROR for clients.
func (e *CorruptError) Unwrap() []error { return []error{e.Err, kerr.KafkaStorageError} }

// Reasons inside a CorruptError, and for offline helpers.
var (
	// ErrTorn: the file ends in the middle of a batch.
	ErrTorn = errors.New("the file ends within a batch")
	// ErrLength: a length field holds what no batch has.
	ErrLength = errors.New("impossible batch length")
	// ErrMagic: not format v2.
	ErrMagic = errors.New("not a record batch of format v2")
	// ErrChecksum: the CRC32C does not fit.
	ErrChecksum = errors.New("checksum does not fit")
	// ErrRange: an offset is further from its segment's base than an index entry can say, so
	// it was never written there.
	ErrRange = errors.New("an offset lies beyond what its segment can hold")
	// ErrOrder: offsets or leader epochs run backwards.
	ErrOrder = errors.New("offsets or leader epochs run backwards")
	// ErrSums: the batch headers are not those that were appended.
	ErrSums = errors.New("batch headers differ from what was appended")
	// ErrZeros: only zeros follow.
	ErrZeros = errors.New("zeros instead of a batch")
	// ErrFormat: a file of ours or an index does not have its format.
	ErrFormat = errors.New("not in the expected format")
)

// storageError makes an I/O error a KAFKA_STORAGE_ERROR.
func storageError(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, kerr.KafkaStorageError) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, kerr.KafkaStorageError, err)
}
