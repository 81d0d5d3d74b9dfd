package record

// plain is what must be known of a record beside that it is well-formed.
type plain struct {
	timestampDelta int64
	noKey          bool
}

// plainWindow bounds what the fields up to the key's length take, four varints of at most
// three bytes and the attributes, so that they are read without a test of bounds for each.
const plainWindow = 16

// plainRecord reads the record that p begins with, number i of its batch, if it is of the
// plain kind that nearly all are: no headers, no varint of more than three bytes, and not the
// last few bytes of a batch. n is its size, length field included; 0 says that it is of
// another kind or damaged, so that checkRecord must decide. It runs for each record on the
// produce path.
func plainRecord(p []byte, i int32) (r plain, n int) {
	if len(p) < plainWindow {
		return plain{}, 0
	}
	h := (*[plainWindow]byte)(p)
	size, at := uvarint3(h, 0)
	end := at + size>>1
	ts, at := uvarint3(h, at+1) // behind the attributes, which are unused in format v2
	delta, at := uvarint3(h, at)
	key, at := uvarint3(h, at)
	r = plain{timestampDelta: int64(ts>>1) ^ -int64(ts&1), noKey: key == 1}
	if size&1 != 0 || end > uint(len(p)) || size|ts|delta|key >= 1<<21 || delta != uint(uint32(i))<<1 {
		return plain{}, 0
	}
	if key&1 == 0 {
		at += key >> 1
	} else if key != 1 { // -1 is null, all else below 0 is wrong
		return plain{}, 0
	}
	// The value's length, and a byte for the count of headers.
	if at+4 > uint(len(p)) {
		return plain{}, 0
	}
	q := p[at:]
	value, w := uint(q[0]), uint(1)
	if value >= 0x80 {
		value, w = value&0x7f|uint(q[1])<<7, 2
		if value >= 1<<14 {
			value, w = value&(1<<14-1)|uint(q[2])<<14, 3
		}
	}
	at += w
	if value&1 == 0 {
		at += value >> 1
	} else if value != 1 {
		return plain{}, 0
	}
	if value >= 1<<21 || at+1 != end || p[at] != 0 {
		return plain{}, 0
	}
	return r, int(end)
}

// uvarint3 reads the varint at, of one to three bytes. With a longer one v is at least 1<<21.
// at is at most 13.
func uvarint3(h *[plainWindow]byte, at uint) (v, next uint) {
	if v = uint(h[at%plainWindow]); v < 0x80 {
		return v, at + 1
	}
	if v = v&0x7f | uint(h[(at+1)%plainWindow])<<7; v < 1<<14 {
		return v, at + 2
	}
	return v&(1<<14-1) | uint(h[(at+2)%plainWindow])<<14, at + 3
}
