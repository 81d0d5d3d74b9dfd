package storage

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/kalda-io/kalda/internal/vfs"
)

// The small files of a log directory (meta.properties, run.meta, clean, ioerror) share
// one format, ours, frozen: lines key=value in a fixed order, and a last line with the
// CRC32C of all before it:
//
//	kalda.format=1
//	...
//	crc=1a2b3c4d
const (
	formatKey   = "kalda.format"
	crcKey      = "crc"
	maxPropFile = 64 << 10
)

// props are the pairs of such a file, in order.
type props [][2]string

func (p props) get(key string) string {
	for _, kv := range p {
		if kv[0] == key {
			return kv[1]
		}
	}
	return ""
}

func (p props) encode() []byte {
	var b bytes.Buffer
	b.WriteString(formatKey + "=1\n")
	for _, kv := range p {
		b.WriteString(kv[0] + "=" + kv[1] + "\n")
	}
	fmt.Fprintf(&b, "%s=%08x\n", crcKey, crc32.Checksum(b.Bytes(), castagnoli()))
	return b.Bytes()
}

// errForeign says that a file was written by Apache Kafka, whose meta.properties always has
// a line version=. What is neither of Kafka nor of us is ours and damaged.
var errForeign = errors.New("not a file of kalda")

func decodeProps(b []byte) (props, error) {
	text := string(b)
	if !strings.HasPrefix(text, formatKey+"=") {
		if strings.Contains("\n"+text, "\nversion=") {
			return nil, errForeign
		}
		return nil, ErrFormat
	}
	at := strings.LastIndex(text, "\n"+crcKey+"=")
	if at < 0 || text != text[:at+1]+fmt.Sprintf("%s=%08x\n", crcKey, crc32.Checksum(b[:at+1], castagnoli())) {
		return nil, ErrChecksum
	}
	var p props
	for i, line := range strings.Split(text[:at], "\n") {
		key, value, ok := strings.Cut(line, "=")
		switch {
		case !ok:
			return nil, ErrFormat
		case i == 0 && value != "1":
			return nil, fmt.Errorf("%w: written by a newer version (%s)", ErrFormat, line)
		case i > 0:
			p = append(p, [2]string{key, value})
		}
	}
	return p, nil
}

func readProps(fsys vfs.FS, name string) (props, error) {
	b, err := vfs.ReadFile(fsys, name, maxPropFile)
	if err != nil {
		return nil, err
	}
	p, err := decodeProps(b)
	if err != nil {
		return nil, &CorruptError{Path: name, Err: err}
	}
	return p, nil
}

func writeProps(fsys vfs.FS, name string, p props) error {
	return vfs.WriteFile(fsys, name, p.encode(), true)
}
