package node

import (
	"encoding/binary"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// readFrame reads one length-prefixed answer.
func readFrame(c net.Conn) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(c, frame)
	return frame, err
}

// cutHeader takes the answer's header off: the correlation id and, where flexible, an
// empty set of tags.
func cutHeader(frame []byte, resp kmsg.Response) (corr int32, body []byte) {
	corr, body = int32(binary.BigEndian.Uint32(frame)), frame[4:]
	if resp.IsFlexible() && resp.Key() != int16(kmsg.ApiVersions) {
		body = body[1:]
	}
	return corr, body
}
