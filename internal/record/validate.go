package record

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/kalda-io/kalda/kerr"
)

// ValidateOptions are the rules for one client's batch. The zero value is the strictest
// set that needs no topic configuration: no size limit, no bounds of time, transactional
// and control batches refused.
type ValidateOptions struct {
	// MaxBatchBytes is max.message.bytes: the largest whole batch, header included, as
	// it was sent (compressed). 0 means no limit.
	MaxBatchBytes int
	// LogAppendTime says that the broker sets the time (message.timestamp.type): the
	// producer's times are not looked at. Who appends the batch stamps it.
	LogAppendTime bool
	// CheckTimestamps turns on the bounds below; without effect under LogAppendTime.
	CheckTimestamps bool
	// Now is the broker's calendar time in ms since 1970. BeforeMs and AfterMs are
	// message.timestamp.before.max.ms and message.timestamp.after.max.ms (>= 0).
	Now, BeforeMs, AfterMs int64
	// AllowTransactional and AllowControl let batches with these bits pass.
	AllowTransactional, AllowControl bool
	// RefuseZstd is for Produce below version 7, whose consumers may not know the codec.
	RefuseZstd bool
	// CheckRecords walks the records of an uncompressed batch: lengths, offset deltas,
	// count, and with CheckTimestamps each record's time. Of compressed records it tests only
	// that they look like data of the batch's codec, in whole; Reader does the rest for who
	// needs it.
	CheckRecords bool
	// RequireKeys refuses null keys (cleanup.policy=compact); it needs CheckRecords and,
	// like it, sees uncompressed batches only: Converter.CheckRecords looks into the others.
	RequireKeys bool
}

// Check tests what must hold for any stored or received batch, whoever wrote it: that b
// is exactly one batch of magic 2, that its checksum is right, and that its offsets do not
// run backwards. Followers and recovery use it; a compacted batch passes.
//
// Errors: UNSUPPORTED_FOR_MESSAGE_FORMAT for magic 0 and 1, else CORRUPT_MESSAGE.
func Check(b []byte) error {
	if err := checkFrame(b); err != nil {
		return err
	}
	if !Batch(b).CheckCRC() {
		return errCRC(b)
	}
	if Batch(b).LastOffsetDelta() < 0 {
		return corrupt("last offset delta is %d", Batch(b).LastOffsetDelta())
	}
	return nil
}

// Validate tests one batch as a client sent it. b must hold exactly one batch. It neither
// decompresses nor, unless it refuses, allocates.
//
// Errors: CORRUPT_MESSAGE for a length or checksum that does not fit, an unknown magic, or
// compressed data that are cut or of another codec;
// UNSUPPORTED_FOR_MESSAGE_FORMAT for magic 0 and 1; MESSAGE_TOO_LARGE;
// INVALID_TIMESTAMP; UNSUPPORTED_COMPRESSION_TYPE with RefuseZstd; INVALID_RECORD for
// all else. Nothing may be appended after any of them.
func Validate(b []byte, o ValidateOptions) error {
	// Kafka: ByteBufferLogInputStream.nextBatchSize, DefaultRecordBatch.ensureValid.
	if err := checkFrame(b); err != nil {
		return err
	}
	// Kafka: UnifiedLog.analyzeAndValidateRecords, where size comes before checksum.
	if o.MaxBatchBytes > 0 && len(b) > o.MaxBatchBytes {
		return tooLarge("the batch has %d bytes, more than max.message.bytes=%d", len(b), o.MaxBatchBytes)
	}
	v := Batch(b)
	if !v.CheckCRC() {
		return errCRC(b)
	}
	if err := v.checkClientFields(&o); err != nil {
		return err
	}
	if err := v.checkTimestamps(&o); err != nil {
		return err
	}
	switch {
	case !o.CheckRecords:
		return nil
	case v.Codec() == None:
		return v.checkRecords(v.Payload(), &o)
	}
	return v.checkCompressed()
}

// checkFrame tests length and magic. Magic comes first because old message sets put a
// shorter header and a size of their own meaning in the same place.
func checkFrame(b []byte) error {
	if len(b) < LogOverhead+5 {
		return corrupt("%d bytes are too few for a record batch", len(b))
	}
	switch m := Batch(b).Magic(); {
	case m == 0 || m == 1:
		return errMagic(m)
	case m != Magic:
		return corrupt("unknown magic %d", m)
	}
	if len(b) < HeaderLen {
		return corrupt("%d bytes are too few for a record batch", len(b))
	}
	if n := Batch(b).Length(); int64(n)+LogOverhead != int64(len(b)) {
		return corrupt("the batch's length field says %d, its bytes %d", n, len(b)-LogOverhead)
	}
	return nil
}

func errCRC(b []byte) error {
	return corrupt("the batch's checksum is %08x, its bytes have %08x",
		Batch(b).CRC(), crc32.Checksum(b[CRCStart:], castagnoli))
}

// checkClientFields tests the header fields that a client may not set as it likes.
func (b Batch) checkClientFields(o *ValidateOptions) error {
	attrs := b.Attributes()
	switch {
	// Kafka: UnifiedLog.analyzeAndValidateRecords.
	case b.BaseOffset() != 0:
		return invalid("the base offset of a produced batch must be 0, it is %d", b.BaseOffset())
	// Kafka: LogValidator.validateBatch, down to the sequence.
	case b.LastOffsetDelta() < 0:
		return invalid("last offset delta is %d", b.LastOffsetDelta())
	case b.NumRecords() <= 0:
		return invalid("record count is %d", b.NumRecords())
	case int64(b.LastOffsetDelta())+1 != int64(b.NumRecords()):
		return invalid("record count is %d but the last offset delta is %d", b.NumRecords(), b.LastOffsetDelta())
	case attrs&AttrControl != 0 && !o.AllowControl:
		return invalid("clients may not write control batches")
	case b.ProducerID() >= 0 && b.BaseSequence() < 0 && attrs&AttrControl == 0:
		return invalid("base sequence is %d in a batch with producer id %d", b.BaseSequence(), b.ProducerID())
	// The rest Kafka lets pass or fails on later; kalda refuses it where it enters.
	case attrs&AttrTransactional != 0 && !o.AllowTransactional:
		return invalid("transactional batches are not accepted")
	case attrs&AttrTransactional != 0 && b.ProducerID() < 0:
		return invalid("a transactional batch needs a producer id")
	case b.ProducerID() < -1 || b.ProducerEpoch() < -1 || b.BaseSequence() < -1:
		return invalid("producer id %d, epoch %d, sequence %d: none may be below -1",
			b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	case b.ProducerID() >= 0 && b.ProducerEpoch() < 0:
		return invalid("producer epoch is %d in a batch with producer id %d", b.ProducerEpoch(), b.ProducerID())
	case attrs&AttrDeleteHorizon != 0:
		return invalid("only the log cleaner sets a delete horizon")
	case b.Codec() > Zstd:
		return invalid("unknown compression codec %d", b.Codec())
	// A record takes at least 7 bytes; this stops counts that no payload can hold.
	case b.Codec() == None && int64(b.NumRecords())*minRecordLen > int64(len(b)-HeaderLen):
		return invalid("%d records cannot fit in %d bytes", b.NumRecords(), len(b)-HeaderLen)
	}
	// Kafka: ProduceRequest.validateRecords.
	if o.RefuseZstd && b.Codec() == Zstd {
		return kerr.With(kerr.UnsupportedCompressionType, "zstd needs Produce version 7 or later")
	}
	return nil
}

var errTimestampType error = kerr.With(kerr.InvalidTimestamp, "a producer may not set the timestamp type LogAppendTime")

// checkTimestamps tests the header's times. Kafka: LogValidator.validateTimestamp, which
// looks at every record; of a compressed batch only the first and the largest are known here.
func (b Batch) checkTimestamps(o *ValidateOptions) error {
	if b.Attributes()&AttrLogAppendTime != 0 {
		return errTimestampType
	}
	if o.LogAppendTime {
		return nil
	}
	base, last := b.BaseTimestamp(), b.MaxTimestamp()
	switch {
	case base < NoTimestamp || last < NoTimestamp:
		return kerr.With(kerr.InvalidTimestamp, "timestamps %d to %d: negative", base, last)
	case last != NoTimestamp && last < base:
		return kerr.With(kerr.InvalidTimestamp, "the largest timestamp %d is before the first %d", last, base)
	case o.outOfBounds(base):
		return o.errTimestamp(base)
	case o.outOfBounds(last):
		return o.errTimestamp(last)
	}
	return nil
}

// outOfBounds is written so that no bound can overflow: ts is at least -1 and Now at least 0.
func (o *ValidateOptions) outOfBounds(ts int64) bool {
	if !o.CheckTimestamps || o.LogAppendTime || ts == NoTimestamp {
		return false
	}
	return o.Now-ts > o.BeforeMs || ts-o.Now > o.AfterMs
}

func (o *ValidateOptions) errTimestamp(ts int64) error {
	return kerr.With(kerr.InvalidTimestamp, "timestamp %d is not within %d ms before and %d ms after %d",
		ts, o.BeforeMs, o.AfterMs, o.Now)
}

// checkRecords walks the batch's records p, uncompressed, without taking them apart.
func (b Batch) checkRecords(p []byte, o *ValidateOptions) error {
	count, base := b.NumRecords(), b.BaseTimestamp()
	inTime := !o.CheckTimestamps || o.LogAppendTime
	for i := range count {
		r, n := plainRecord(p, i)
		if n == 0 || r.noKey && o.RequireKeys || !inTime && !o.inTime(base+r.timestampDelta) {
			var err error
			if n, err = b.checkRecord(p, i, o); err != nil {
				return &RecordError{i, err}
			}
		}
		p = p[n:]
	}
	if len(p) != 0 {
		return invalid("%d bytes follow the last record", len(p))
	}
	return nil
}

// inTime says whether a record may have the timestamp ts. A sum that overflows is negative or
// the largest there is, so a bound stops it.
func (o *ValidateOptions) inTime(ts int64) bool { return ts >= NoTimestamp && !o.outOfBounds(ts) }

// checkRecord tests the record that p begins with, number i of the batch, and returns its size.
func (b Batch) checkRecord(p []byte, i int32, o *ValidateOptions) (int, error) {
	count := b.NumRecords()
	n, w := varint32(p)
	if w <= 0 || n < minRecordLen-1 || int(n) > len(p)-w {
		return 0, invalid("record %d of %d: bad length", i, count)
	}
	rec := p[w : w+int(n)]
	var f fields
	err := f.split(rec)
	switch {
	case err != nil:
		return 0, invalid("record %d of %d: %s", i, count, err)
	case f.offsetDelta != i:
		// Kafka: LogValidator, "does not have incremental offsets".
		return 0, invalid("record %d of %d has the offset delta %d", i, count, f.offsetDelta)
	case o.RequireKeys && f.key.n < 0:
		return 0, invalid("record %d of %d has no key, which a compacted topic requires", i, count)
	}
	if ts := b.BaseTimestamp() + f.timestampDelta; o.CheckTimestamps && !o.LogAppendTime && !o.inTime(ts) {
		return 0, o.errTimestamp(ts)
	}
	if err := checkHeaders(rec[f.headers:]); err != nil {
		return 0, invalid("record %d of %d: %s", i, count, err)
	}
	return w + int(n), nil
}

// CheckCRC says whether the stored checksum fits the bytes.
func (b Batch) CheckCRC() bool { return b.CRC() == crc32.Checksum(b[CRCStart:], castagnoli) }

// SetMaxTimestamp changes the largest timestamp (ms since 1970); Seal must follow.
func (b Batch) SetMaxTimestamp(ms int64) { binary.BigEndian.PutUint64(b[35:], uint64(ms)) }

// SetAttributes changes the flag bits; Seal must follow.
func (b Batch) SetAttributes(a int16) { binary.BigEndian.PutUint16(b[21:], uint16(a)) }

// StampLogAppendTime makes now (ms since 1970) the timestamp of every record, in the way
// of message.timestamp.type=LogAppendTime: the type bit and the largest timestamp say it,
// the records keep their bytes.
func (b Batch) StampLogAppendTime(now int64) {
	b.SetAttributes(b.Attributes() | AttrLogAppendTime)
	b.SetMaxTimestamp(now)
	b.Seal()
}
