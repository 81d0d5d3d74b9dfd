package server

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	keyProduce     = 0
	keyApiVersions = 18
)

// headers knows which versions of which API have flexible headers (KIP-482).
type headers struct {
	// flexibleFrom[key] is the first flexible version; neverFlexible, or unknownAPI.
	flexibleFrom [kmsg.MaxKey + 1]int16
}

const (
	neverFlexible = 1<<15 - 1
	unknownAPI    = -1
)

func newHeaders() *headers {
	h := new(headers)
	for key := range h.flexibleFrom {
		h.flexibleFrom[key] = unknownAPI
		req := kmsg.RequestForKey(int16(key))
		if req == nil {
			continue
		}
		h.flexibleFrom[key] = neverFlexible
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			if req.IsFlexible() {
				h.flexibleFrom[key] = v
				break
			}
		}
	}
	return h
}

// header is the header of a request; clientID aliases the frame.
type header struct {
	key, version  int16
	correlationID int32
	clientID      []byte
	flexible      bool
}

// parse reads the header of frame and returns what follows it.
func (h *headers) parse(frame []byte) (hd header, body []byte, err error) {
	if len(frame) < minFrameBytes {
		return hd, nil, fmt.Errorf("%d bytes are too few for a header", len(frame))
	}
	hd.key = int16(binary.BigEndian.Uint16(frame))
	hd.version = int16(binary.BigEndian.Uint16(frame[2:]))
	hd.correlationID = int32(binary.BigEndian.Uint32(frame[4:]))
	if hd.key < 0 || int(hd.key) >= len(h.flexibleFrom) || h.flexibleFrom[hd.key] == unknownAPI {
		return hd, nil, fmt.Errorf("unknown API key %d", hd.key)
	}
	if hd.version < 0 {
		return hd, nil, fmt.Errorf("version %d of %s", hd.version, kmsg.NameForKey(hd.key))
	}
	hd.flexible = hd.version >= h.flexibleFrom[hd.key]
	n := int(int16(binary.BigEndian.Uint16(frame[8:])))
	body = frame[10:]
	if n < -1 || n > len(body) {
		return hd, nil, fmt.Errorf("client id of %d bytes in a rest of %d", n, len(body))
	}
	if n > 0 {
		hd.clientID, body = body[:n], body[n:]
		if !utf8.Valid(hd.clientID) {
			return hd, nil, fmt.Errorf("client id %q is not UTF-8", hd.clientID)
		}
	}
	if hd.flexible {
		if body, err = skipTags(body); err != nil {
			return hd, nil, err
		}
	}
	return hd, body, nil
}

// skipTags hops over the tagged fields of a header; none are defined.
func skipTags(b []byte) ([]byte, error) {
	count, b, ok := uvarint(b)
	for ; ok && count > 0; count-- {
		var size uint32
		if _, b, ok = uvarint(b); !ok {
			break
		}
		if size, b, ok = uvarint(b); ok {
			if ok = uint64(size) <= uint64(len(b)); ok {
				b = b[size:]
			}
		}
	}
	if !ok {
		return nil, fmt.Errorf("tagged fields of the header are cut or malformed")
	}
	return b, nil
}

// uvarint reads an unsigned varint of at most 5 bytes and 32 bits.
func uvarint(b []byte) (uint32, []byte, bool) {
	var x uint64
	for i := 0; i < len(b) && i < 5; i++ {
		x |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return uint32(x), b[i+1:], x < 1<<32
		}
	}
	return 0, nil, false
}

// appendResponseHeader begins an answer: room for its size, then the header. The
// answer of ApiVersions keeps header version 0, so that a client can read it before
// it knows what we speak (KIP-511).
func appendResponseHeader(b []byte, hd *header) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(hd.correlationID))
	if hd.flexible && hd.key != keyApiVersions {
		b = append(b, 0)
	}
	return b
}

// sizeAnswer fills the size in once the answer is whole.
func sizeAnswer(b []byte) { binary.BigEndian.PutUint32(b, uint32(len(b)-4)) }
