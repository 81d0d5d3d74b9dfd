package wire

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

//go:generate go run ./schemagen

// kind is how a field is read over.
type kind uint8

const (
	kindFixed kind = iota // size bytes
	kindString
	kindBytes
	kindArray          // elements made of fields, one after another
	kindStruct         // fields
	kindNullableStruct // a byte, negative for null, then fields
	kindTags           // tagged fields; those known are in fields
)

// field is one field of a request, enough of it to read over it.
type field struct {
	kind kind
	size uint8
	// elem is what an array's element, or a struct behind a pointer, takes in memory once
	// kmsg decoded it, without what it points to.
	elem uint16
	// from and before bound the versions that have the field; before 0 is no bound.
	from, before int16
	tag          uint8
	fields       []field
}

// schema is one request.
type schema struct {
	max    int16
	fields []field
}

// CheckRequest walks the body of a request and tests its shape alone: lengths, counts,
// tagged fields, strings in UTF-8 and no bytes too many. It must come before kmsg's
// decoders, which make room for as many elements as a count claims and loop as often as a
// tag count says, four thousand million times if need be. Null is left to them.
//
// cost is about what the decoded request takes in memory; CheckRequest itself takes none.
//
// Errors: UNSUPPORTED_VERSION for an unknown key or version, INVALID_REQUEST, also for a
// cost above MaxDecoded.
func CheckRequest(key, version int16, body []byte) (cost int, err error) {
	if key < 0 || int(key) >= len(schemas) {
		return 0, kerr.With(kerr.UnsupportedVersion, "unknown API key %d", key)
	}
	s := &schemas[key]
	name := kmsg.NameForKey(key)
	if err := checkVersion(name, version, 0, s.max); err != nil {
		return 0, err
	}
	d := decoder{b: body, cost: len(body)} // kmsg gets a copy
	d.walk(s.fields, version, IsFlexible(key, version))
	if d.cost > MaxDecoded {
		d.bad(badMemory)
	}
	return d.cost, d.err(name, version)
}

const (
	// MaxDecoded bounds the memory of a decoded request, which can be forty times that of
	// its bytes. A Metadata for a million topics stays below.
	MaxDecoded = 128 << 20
	// What CheckRequest counts beside the elements of arrays: strings are copies of their
	// own, and unknown tags make a map.
	costString, costTags, costTag = 24, 400, 120
)

// DecodeRequest decodes the body of a request with kmsg, after CheckRequest. The result
// is a copy and does not alias body. For Produce and Fetch use their own types.
//
// Errors: UNSUPPORTED_VERSION for an unknown key or version, INVALID_REQUEST.
//
// reserve, if it is not nil, is asked for the memory before it is taken; its error is
// returned as it is.
func DecodeRequest(key, version int16, body []byte, reserve func(bytes int) error) (kmsg.Request, error) {
	cost, err := CheckRequest(key, version, body)
	if err != nil {
		return nil, err
	}
	if reserve != nil {
		if err := reserve(cost); err != nil {
			return nil, err
		}
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	// kmsg copies strings but its byte fields and unknown tags alias what they came from.
	if err := req.ReadFrom(bytes.Clone(body)); err != nil {
		return nil, kerr.With(kerr.InvalidRequest, "%s version %d cannot be parsed: %s", kmsg.NameForKey(key), version, err)
	}
	return req, nil
}

// walk reads over fields. Recursion goes as deep as the schema, not as the bytes say.
func (d *decoder) walk(fields []field, version int16, flex bool) {
	for i := range fields {
		f := &fields[i]
		if version < f.from || f.before != 0 && version >= f.before {
			continue
		}
		switch f.kind {
		case kindFixed:
			d.span(int64(f.size))
		case kindString:
			if s := d.nullableString(flex); len(s) > 0 {
				d.cost += len(s) + costString
			}
		case kindBytes:
			d.nullableBytes(flex)
		case kindArray:
			n := max(d.nullableCount(flex, 1), 0)
			d.cost += n * int(f.elem)
			for range n {
				if d.walk(f.fields, version, flex); d.fail != "" {
					return
				}
			}
		case kindNullableStruct:
			if d.int8() >= 0 {
				d.cost += int(f.elem)
				d.walk(f.fields, version, flex)
			}
		case kindStruct:
			d.cost += int(f.elem)
			d.walk(f.fields, version, flex)
		case kindTags:
			d.walkTags(f.fields, version, flex)
		}
	}
}

func (d *decoder) walkTags(fields []field, version int16, flex bool) {
	first := costTags
	for t := d.tags(flex); t.left > 0; {
		tag, v := d.tag(&t)
		known := false
		for i := range fields {
			if int64(fields[i].tag) == tag {
				known = true
				v.cost = d.cost
				v.walk(fields[i:i+1], version, flex)
				d.cost = v.cost
				d.known(&v)
			}
		}
		if !known {
			d.cost += first + costTag
			first = 0
		}
	}
}
