package record

import (
	"encoding/binary"
	"math"
)

// keptBuffer is the most that a Converter keeps of each of its buffers between batches: what
// most batches decompress to, while the rare large one gives its memory back.
const keptBuffer = 4 << 20

// Converter brings what a producer sent into the form that a topic stores: message sets of
// formats v0 and v1 become one record batch, and batches get the topic's codec. The zero
// value is ready; it keeps its buffers and codecs' state for the next batch and is not safe
// for concurrent use.
//
// Memory: three buffers, of at most MaxDecompressed and a little more each while it works,
// and of at most 4 MiB each after Shrink, with the state of the codecs that were needed.
type Converter struct {
	dec  decompressor
	comp Compressor
	// plain holds decompressed bytes, records those that will be compressed, out the result.
	plain, records, out []byte
	unpacked            int
}

// Unpacked is how many bytes the last Convert or CheckRecords decompressed, whether it took
// them or not: a measure of its work.
func (c *Converter) Unpacked() int { return c.unpacked }

// decompress fills c.plain.
func (c *Converter) decompress(codec Codec, src []byte, limit int) (err error) {
	c.plain, err = c.dec.append(c.plain, codec, src, limit)
	if c.unpacked = len(c.plain); err != nil {
		c.unpacked = limit // or less, but that is hard to tell
	}
	return err
}

// Convert checks b as Validate does and returns a batch with the same records in the form t,
// sealed, which is valid until the next call. b is not changed. v.CheckRecords is implied:
// who takes a batch apart looks at all of it.
//
// Of a message set the records keep keys, values and times (none in v0), and are numbered in
// their order whatever offsets they had; the batch has the set's codec unless t says
// otherwise. A batch keeps all but the codec. With v.LogAppendTime the result is stamped.
//
// Errors are those of Validate, with MESSAGE_TOO_LARGE also if the result is larger than
// v.MaxBatchBytes or decompresses to more than t.MaxDecompressed, and CORRUPT_MESSAGE for
// what does not decompress. A message set that is cut, that mixes formats, or whose wrapper
// is not alone, is empty or holds another wrapper is CORRUPT_MESSAGE or INVALID_RECORD.
func (c *Converter) Convert(b []byte, t Target, v ValidateOptions) (Batch, error) {
	v.CheckRecords = true
	c.unpacked = 0
	c.comp.SetLevels(t.Levels)
	if t.MaxDecompressed <= 0 || t.MaxDecompressed > MaxDecompressed {
		t.MaxDecompressed = MaxDecompressed
	}
	var out Batch
	var err error
	if len(b) > LogOverhead+4 && (Batch(b).Magic() == 0 || Batch(b).Magic() == 1) {
		out, err = c.upConvert(b, &t, &v)
	} else {
		out, err = c.recompress(b, &t, &v)
	}
	if err != nil {
		return nil, err
	}
	// Kafka: UnifiedLog.append, which looks again at what conversion may have made larger.
	if v.MaxBatchBytes > 0 && len(out) > v.MaxBatchBytes {
		return nil, tooLarge("the batch has %d bytes in the form in which it would be stored, more than max.message.bytes=%d",
			len(out), v.MaxBatchBytes)
	}
	if v.LogAppendTime {
		out.StampLogAppendTime(v.Now)
	} else {
		out.Seal()
	}
	return out, nil
}

// CheckRecords looks into a batch that passed Validate and is compressed: at each record,
// as v.CheckRecords does for an uncompressed one. Errors are those of Convert.
func (c *Converter) CheckRecords(b Batch, t Target, v ValidateOptions) error {
	if t.MaxDecompressed <= 0 || t.MaxDecompressed > MaxDecompressed {
		t.MaxDecompressed = MaxDecompressed
	}
	if err := c.decompress(b.Codec(), b.Payload(), t.MaxDecompressed); err != nil {
		return err
	}
	return b.checkRecords(c.plain, &v)
}

// recompress returns b with the codec of t, not sealed.
func (c *Converter) recompress(b []byte, t *Target, v *ValidateOptions) (Batch, error) {
	if err := Validate(b, *v); err != nil {
		return nil, err
	}
	src := Batch(b)
	codec := src.Codec()
	if t.Recompress {
		codec = t.Codec
	}
	payload := src.Payload()
	if src.Codec() != None {
		limit := t.MaxDecompressed
		if codec == None && v.MaxBatchBytes > 0 {
			// What is larger could not be stored: there is no need to see all of it.
			limit = min(limit, max(v.MaxBatchBytes-HeaderLen, 0))
		}
		if err := c.decompress(src.Codec(), payload, limit); err != nil {
			return nil, err
		}
		payload = c.plain
		if err := src.checkRecords(payload, v); err != nil {
			return nil, err
		}
	}
	var err error
	if c.out, err = c.comp.Append(append(c.out[:0], b[:HeaderLen]...), codec, payload); err != nil {
		return nil, err
	}
	out := Batch(c.out)
	out.SetAttributes(src.Attributes()&^AttrCodecMask | int16(codec))
	return out, out.setLength()
}

// upConvert returns the message set as one batch, not sealed. Kafka: LogValidator,
// AbstractLegacyRecordBatch.DeepRecordsIterator.
func (c *Converter) upConvert(set []byte, t *Target, v *ValidateOptions) (Batch, error) {
	var wrapper message
	rest, err := wrapper.next(set, v.MaxBatchBytes)
	if err != nil {
		return nil, err
	}
	codec, wrapped := wrapper.codec(), wrapper.codec() != None
	maxBytes := v.MaxBatchBytes
	if wrapped {
		maxBytes = 0 // what bounds the messages inside is the bound of decompression
		if len(rest) != 0 {
			return nil, invalid("a compressed message is not alone in its set")
		}
		if err := checkTimestampType(&wrapper); err != nil {
			return nil, err
		}
		if set, err = c.unwrap(&wrapper, t); err != nil {
			return nil, err
		}
	}
	if t.Recompress {
		codec = t.Codec
	}
	c.out = append(c.out[:0], make([]byte, HeaderLen)...)
	c.records = c.records[:0]
	dst := &c.records
	if codec == None {
		dst = &c.out
	}
	h := header{t: NewTemplate()}
	h.t.Codec = codec
	var m message
	for len(set) > 0 {
		if set, err = m.next(set, maxBytes); err == nil {
			err = h.add(&m, &wrapper, v)
		}
		if err != nil {
			return nil, &RecordError{h.count, err}
		}
		*dst = appendRecord(*dst, &Record{Key: m.key, Value: m.value}, h.count, m.timestamp-h.base)
		h.count++
		if codec == None && v.MaxBatchBytes > 0 && len(*dst) > v.MaxBatchBytes || len(*dst) > math.MaxInt32 {
			return nil, tooLarge("a message set that would be a batch of more than max.message.bytes=%d", v.MaxBatchBytes)
		}
	}
	// 0 comes from producers that leave the wrapper's offset to the broker.
	if wrapped && wrapper.magic == 1 && wrapper.offset != 0 && wrapper.offset < m.offset {
		return nil, invalid("the wrapper's offset %d is below that of its last message, %d", wrapper.offset, m.offset)
	}
	if codec != None {
		if c.out, err = c.comp.Append(c.out, codec, c.records); err != nil {
			return nil, err
		}
	}
	out := Batch(c.out)
	h.fill(out)
	return out, out.setLength()
}

// unwrap returns the message set in w.
func (c *Converter) unwrap(w *message, t *Target) ([]byte, error) {
	codec, src := w.codec(), w.value
	switch {
	case codec > LZ4:
		return nil, invalid("a message of magic %d cannot have the codec %d", w.magic, codec)
	case src == nil:
		return nil, invalid("a compressed message has a null value")
	case codec == LZ4 && w.magic == 0:
		c.records = append(c.records[:0], src...)
		src = c.records
		fixLZ4Header(src)
	}
	if err := c.decompress(codec, src, t.MaxDecompressed); err != nil {
		return nil, err
	}
	if len(c.plain) == 0 {
		return nil, invalid("a compressed message holds no messages")
	}
	return c.plain, nil
}

// Shrink gives back buffers that grew for an unusually large batch. The last result of
// Convert is not valid afterwards.
func (c *Converter) Shrink() {
	for _, b := range []*[]byte{&c.plain, &c.records, &c.out} {
		if cap(*b) > keptBuffer {
			*b = nil
		}
	}
	c.comp.shrink()
}

// header collects what the header of a batch made of messages says.
type header struct {
	t          Template
	count      int32
	base, last int64 // timestamps
}

// add takes the next message into account. first is the set's first message: the wrapper if
// there is one.
func (h *header) add(m, first *message, v *ValidateOptions) error {
	switch {
	case m.magic != first.magic:
		return invalid("a message of magic %d in a set of magic %d", m.magic, first.magic)
	case m.codec() != None: // a wrapper is the first and only one, and no wrapper's content
		return invalid("a compressed message among others or within a compressed message")
	case m.key == nil && v.RequireKeys:
		return invalid("the record has no key, which a compacted topic requires")
	case m.timestamp < NoTimestamp || v.outOfBounds(m.timestamp):
		return v.errTimestamp(m.timestamp)
	}
	if err := checkTimestampType(m); err != nil {
		return err
	}
	if h.count == 0 {
		h.base, h.last = m.timestamp, m.timestamp
	}
	h.last = max(h.last, m.timestamp)
	return nil
}

// fill writes the header of b but for its length.
func (h *header) fill(b Batch) { b.setHeader(&h.t, h.count, h.base, h.last) }

func checkTimestampType(m *message) error {
	if m.magic == 1 && m.attributes&AttrLogAppendTime != 0 {
		return errTimestampType
	}
	return nil
}

// setLength makes the length field that of b.
func (b Batch) setLength() error {
	if len(b) > math.MaxInt32 {
		return tooLarge("a batch of %d bytes", len(b))
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-LogOverhead))
	return nil
}
