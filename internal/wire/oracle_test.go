package wire

import (
	"math/rand/v2"
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
)

// source draws random message parts, each either plain or at an edge.
type source struct{ *rand.Rand }

func newSource(version int16, seed uint64) source {
	return source{rand.New(rand.NewPCG(seed, uint64(version)))}
}

func (s source) int32() int32 {
	return []int32{0, -1, 1, 1<<31 - 1, -1 << 31, int32(s.Uint32())}[s.IntN(6)]
}

func (s source) int64() int64 {
	return []int64{0, -1, 1, 1<<63 - 1, -1 << 63, int64(s.Uint64())}[s.IntN(6)]
}

func (s source) bytes() []byte {
	switch s.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	b := make([]byte, s.IntN(300))
	for i := range b {
		b[i] = byte(s.Uint32())
	}
	return b
}

func (s source) string() string {
	return []string{"", "t", "orders", "주문", string(make([]byte, 130)), "with space"}[s.IntN(6)]
}

func (s source) stringPtr() *string {
	if s.IntN(2) == 0 {
		return nil
	}
	v := s.string()
	return &v
}

func (s source) id() (id [16]byte) {
	for i := range id {
		id[i] = byte(s.Uint32())
	}
	return id
}

// tags returns unknown tagged fields beyond those of the protocol. They go only into
// messages that are decoded, not into those that are compared byte by byte.
func (s source) tags(on bool) (t kmsg.Tags) {
	if !on {
		return t
	}
	for k := range s.IntN(3) {
		t.Set(uint32(100+k*1000), s.bytes())
	}
	return t
}

// nullable is the bytes of a string pointer as the codecs hand it out: nil for null.
func nullable(s *string) []byte {
	if s == nil {
		return nil
	}
	return append([]byte{}, *s...)
}

func topicName(version int16, name string) []byte {
	if version >= topicIDVersion {
		return nil
	}
	return append([]byte{}, name...)
}

func topicID(version int16, id [16]byte) model.TopicID {
	if version >= topicIDVersion {
		return id
	}
	return model.TopicID{}
}

// equal compares exported fields, taking nil and empty slices of structs as the same.
func equal(a, b any) bool { return equalValue(reflect.ValueOf(a), reflect.ValueOf(b)) }

func equalValue(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return equalValue(a.Elem(), b.Elem())
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Type().Field(i).IsExported() && !equalValue(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() || a.Type().Elem().Kind() != reflect.Struct && a.IsNil() != b.IsNil() {
			return false
		}
		for i := range a.Len() {
			if !equalValue(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	}
	return a.Interface() == b.Interface()
}
