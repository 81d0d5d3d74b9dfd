package wire

import (
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// hostile makes bodies that hold as little as they can, but for one array or set of
// unknown tags with n elements.
type hostile struct {
	version int16
	flex    bool
	target  *field
	n       int
}

func (h *hostile) count(b []byte, n int) []byte {
	if h.flex {
		return binary.AppendUvarint(b, uint64(n+1))
	}
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func (h *hostile) append(b []byte, fields []field) []byte {
	for i := range fields {
		f := &fields[i]
		if h.version < f.from || f.before != 0 && h.version >= f.before {
			continue
		}
		n := 1
		if f == h.target {
			n = h.n
		}
		switch f.kind {
		case kindFixed:
			b = append(b, make([]byte, f.size)...)
		case kindString:
			if h.flex {
				b = append(b, 2, 's')
			} else {
				b = append(b, 0, 1, 's')
			}
		case kindBytes:
			b = h.count(b, 0)
		case kindArray:
			b = h.count(b, n)
			for range n {
				b = h.append(b, f.fields)
			}
		case kindStruct:
			b = h.append(b, f.fields)
		case kindNullableStruct:
			b = h.append(append(b, 1), f.fields)
		case kindTags:
			if !h.flex {
				continue
			}
			if f != h.target {
				n = 0
			}
			b = binary.AppendUvarint(b, uint64(n))
			for i := range n {
				b = append(binary.AppendUvarint(b, uint64(100+i)), 0)
			}
		}
	}
	return b
}

// targets calls f for every array and every set of tags.
func targets(fields []field, f func(*field)) {
	for i := range fields {
		if k := fields[i].kind; k == kindArray || k == kindTags {
			f(&fields[i])
		}
		if fields[i].kind != kindTags {
			targets(fields[i].fields, f)
		}
	}
}

// What kmsg takes for the worst requests of every API and version is what CheckRequest
// said before: memory grows with what is paid for.
func TestDecodingCostsWhatItSays(t *testing.T) {
	worst := 0.0
	slack := 1
	if raceEnabled {
		// kmsg makes its arrays with append(a, make([]T, n)...); in instrumented code the compiler
		// does not leave out the slice in the middle.
		slack = 2
	}
	forEachRequest(func(name string, key, version int16) {
		targets(schemas[key].fields, func(f *field) {
			h := hostile{version: version, flex: IsFlexible(key, version), target: f, n: 3000}
			body := h.append(nil, schemas[key].fields)
			cost, err := CheckRequest(key, version, body)
			if err != nil {
				t.Fatalf("%s version %d: the body of this test is wrong: %v", name, version, err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = DecodeRequest(key, version, body, nil)
			runtime.ReadMemStats(&after)
			took := int(after.TotalAlloc - before.TotalAlloc)
			if took > slack*(cost*3/2+16<<10) {
				t.Errorf("%s version %d: %d bytes took %d, CheckRequest said %d", name, version, len(body), took, cost)
			}
			if cost > 3*took+16<<10 {
				t.Errorf("%s version %d: %d bytes took %d only, CheckRequest said %d", name, version, len(body), took, cost)
			}
			if len(body) == 0 {
				return
			}
			worst = max(worst, float64(cost)/float64(len(body)))
		})
	})
	t.Logf("the worst request takes %.1f times its bytes", worst)
	if worst < 10 {
		t.Error("the bodies of this test are not hostile")
	}
}

// What would take more than MaxDecoded is refused before anything is taken.
func TestDecodingIsBounded(t *testing.T) {
	partitions := func(n int) []byte {
		h := hostile{version: 8, flex: true, n: n}
		fields := schemas[kmsg.OffsetCommit].fields
		for i := range fields {
			if fields[i].kind == kindArray {
				h.target = &fields[i] // topics with a partition each
			}
		}
		return h.append(nil, fields)
	}
	small := partitions(1000)
	if _, err := DecodeRequest(int16(kmsg.OffsetCommit), 8, small, nil); err != nil {
		t.Fatal(err)
	}
	body := partitions(900_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := DecodeRequest(int16(kmsg.OffsetCommit), 8, body, nil)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, kerr.InvalidRequest) {
		t.Errorf("%d bytes: %v", len(body), err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
		t.Errorf("%d bytes allocated", n)
	}
	// The memory is asked for before it is taken.
	stop := errors.New("stop")
	asked := 0
	_, err = DecodeRequest(int16(kmsg.OffsetCommit), 8, small, func(n int) error { asked = n; return stop })
	if err != stop || asked < len(small) {
		t.Errorf("asked for %d bytes: %v", asked, err)
	}
}
