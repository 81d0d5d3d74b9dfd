package meta

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// FormatVersion is the version that every value carries in its field "v". It grows only
// when an older kalda could misread a value; new optional fields leave it alone, and
// whoever does not know a field keeps it when it rewrites the value.
const FormatVersion = 1

// Extra are the top-level fields of a stored value that this version does not know. They
// are written back with the value. nil is the usual case.
type Extra map[string]json.RawMessage

// versionHead is how EncodeValue begins every value; DecodeValue's fast way.
const versionHead = `{"v":1`

// EncodeValue returns the stored form of v, which is a struct or a pointer to one, together with the
// unknown fields that came with the value it replaces.
func EncodeValue(v any, extra Extra) []byte {
	body, err := json.Marshal(v)
	if err != nil || len(body) < 2 || body[0] != '{' {
		panic(fmt.Sprintf("meta: value %T cannot be stored: %v", v, err))
	}
	var b bytes.Buffer
	b.Grow(len(versionHead) + len(body) + 1)
	b.WriteString(versionHead)
	if len(body) > 2 {
		b.WriteByte(',')
		b.Write(body[1 : len(body)-1])
	}
	if len(extra) > 0 {
		more, err := json.Marshal(extra) // sorted by name, so equal values give equal bytes
		if err != nil {
			panic(fmt.Sprintf("meta: unknown fields of %T cannot be stored: %v", v, err))
		}
		b.WriteByte(',')
		b.Write(more[1 : len(more)-1])
	}
	b.WriteByte('}')
	return b.Bytes()
}

// DecodeValue reads the stored form into the struct that v points to and returns the
// top-level fields that it has no place for. Every field of the struct carries a json
// name. A value of a newer FormatVersion is an error.
func DecodeValue(data []byte, v any) (Extra, error) {
	if bytes.HasPrefix(data, []byte(versionHead)) && len(data) > len(versionHead) {
		var body []byte
		switch data[len(versionHead)] {
		case ',':
			body = append([]byte{'{'}, data[len(versionHead)+1:]...)
		case '}':
			body = append([]byte{'{'}, data[len(versionHead):]...)
		}
		if body != nil {
			d := json.NewDecoder(bytes.NewReader(body))
			d.DisallowUnknownFields()
			if d.Decode(v) == nil {
				if _, err := d.Token(); err == io.EOF {
					return nil, nil
				}
			}
		}
	}
	// A field that we do not know, another order of fields, or damage.
	var all Extra
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("meta: value is not an object: %w", err)
	}
	var version struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("meta: format version of a value: %w", err)
	}
	if version.V < 1 || version.V > FormatVersion {
		return nil, fmt.Errorf("meta: value has format version %d, this kalda reads up to %d", version.V, FormatVersion)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("meta: value: %w", err)
	}
	delete(all, "v")
	t := reflect.TypeOf(v).Elem()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		for key := range all {
			if strings.EqualFold(key, name) { // as the decoder matches them
				delete(all, key)
			}
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}
