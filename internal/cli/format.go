package cli

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// consumedRecord is one record as consume got it. Its slices are valid only during the call that got it.
type consumedRecord struct {
	topic     string
	partition int32
	offset    int64
	timestamp time.Time
	key       []byte // nil: null
	value     []byte // nil: null
	headers   []header
}

// recordFormat is a parsed -f: pieces of literal text and verbs in their order.
type recordFormat struct {
	pieces []formatPiece
}

// formatPiece is a literal (verb 0) or a verb.
type formatPiece struct {
	verb byte
	text string
}

const formatVerbs = "%t topic, %p partition, %o offset, %k key, %v value, %h headers, %T timestamp in milliseconds, %% a percent sign"

// parseFormat reads the -f of consume.
func parseFormat(s string) (*recordFormat, error) {
	f := &recordFormat{}
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			i = len(s)
		}
		if i > 0 {
			text, err := unescape(s[:i])
			if err != nil {
				return nil, err
			}
			f.literal(text)
		}
		if s = s[i:]; s == "" {
			break
		}
		if len(s) == 1 {
			return nil, fmt.Errorf("ends in a single %% (there are %s)", formatVerbs)
		}
		switch s[1] {
		case '%':
			f.literal("%")
		case 't', 'p', 'o', 'k', 'v', 'h', 'T':
			f.pieces = append(f.pieces, formatPiece{verb: s[1]})
		default:
			return nil, fmt.Errorf("unknown %%%c (there are %s)", s[1], formatVerbs)
		}
		s = s[2:]
	}
	return f, nil
}

func (f *recordFormat) literal(text string) {
	f.pieces = append(f.pieces, formatPiece{text: text})
}

// append adds r in this format to b.
func (f *recordFormat) append(b []byte, r *consumedRecord) []byte {
	for i := range f.pieces {
		switch p := &f.pieces[i]; p.verb {
		case 0:
			b = append(b, p.text...)
		case 't':
			b = append(b, r.topic...)
		case 'p':
			b = strconv.AppendInt(b, int64(r.partition), 10)
		case 'o':
			b = strconv.AppendInt(b, r.offset, 10)
		case 'k':
			b = append(b, r.key...)
		case 'v':
			b = append(b, r.value...)
		case 'T':
			b = strconv.AppendInt(b, r.timestamp.UnixMilli(), 10)
		case 'h':
			for n, h := range r.headers {
				if n > 0 {
					b = append(b, ',')
				}
				b = append(append(append(b, h.Key...), '='), h.Value...)
			}
		}
	}
	return b
}

// recordJSON is a record as consume prints it with --output json. Keys and values that are
// not UTF-8 come as base64 in the fields with that name.
type recordJSON struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   string       `json:"timestamp"`
	Key         *string      `json:"key"`
	KeyBase64   string       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 string       `json:"value_base64,omitempty"`
	Headers     []headerJSON `json:"headers,omitempty"`
}

type headerJSON struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 string  `json:"value_base64,omitempty"`
}

// toJSON is r for encoding/json.
func (r *consumedRecord) toJSON() recordJSON {
	j := recordJSON{
		Topic: r.topic, Partition: r.partition, Offset: r.offset,
		Timestamp: r.timestamp.UTC().Format("2006-01-02T15:04:05.000Z"),
	}
	j.Key, j.KeyBase64 = jsonBytes(r.key)
	j.Value, j.ValueBase64 = jsonBytes(r.value)
	for _, h := range r.headers {
		hj := headerJSON{Key: h.Key}
		hj.Value, hj.ValueBase64 = jsonBytes(h.Value)
		j.Headers = append(j.Headers, hj)
	}
	return j
}

// jsonBytes gives bytes as text where they are text; null stays null.
func jsonBytes(b []byte) (text *string, b64 string) {
	switch {
	case b == nil:
		return nil, ""
	case utf8.Valid(b):
		s := string(b)
		return &s, ""
	}
	return nil, base64.StdEncoding.EncodeToString(b)
}
