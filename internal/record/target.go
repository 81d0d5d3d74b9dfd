package record

// Target is the form in which a topic stores its batches, whatever form the producer sent.
// The zero value stores record batches as they come.
type Target struct {
	// Recompress gives every batch the codec Codec (compression.type); otherwise each keeps
	// its producer's.
	Recompress bool
	Codec      Codec
	// Levels are the efforts of recompression.
	Levels Levels
	// MaxDecompressed bounds, in bytes, what one batch decompresses to where it is taken
	// apart; 0 and anything above the constant MaxDecompressed mean MaxDecompressed.
	MaxDecompressed int
}

// Levels are the efforts of the codecs that have one (KIP-390), in the numbers of the codecs'
// own tools. 0 means the default; a value out of range means the nearest in it.
type Levels struct {
	// Gzip is 1 to 9; -1 is the default too.
	Gzip int
	// LZ4 is 1 to 17. 9 is the default and the fast compressor, as in Kafka; every other
	// level searches harder the higher it is, and nothing is gained above 9.
	LZ4 int
	// Zstd is -131072 to 22. Four efforts are told apart: below 3, from 3, from 6, from 10.
	Zstd int
}

// Takes says that the produced bytes b may be stored as they are once Validate let them
// pass: they are a record batch, and its codec is the topic's. Bytes too short to tell are
// taken, for Validate to refuse.
func (t *Target) Takes(b []byte) bool {
	if len(b) < LogOverhead+5 {
		return true
	}
	if m := Batch(b).Magic(); m == 0 || m == 1 {
		return false
	}
	return !t.Recompress || len(b) < HeaderLen || Batch(b).Codec() == t.Codec
}

// TargetFor returns the Target that compression.type names: producer, uncompressed or a
// codec. ok is false for any other name.
func TargetFor(compressionType string) (t Target, ok bool) {
	switch compressionType {
	case "producer":
		return Target{}, true
	case "uncompressed":
		return Target{Recompress: true, Codec: None}, true
	}
	for _, c := range []Codec{Gzip, Snappy, LZ4, Zstd} {
		if c.String() == compressionType {
			return Target{Recompress: true, Codec: c}, true
		}
	}
	return Target{}, false
}
