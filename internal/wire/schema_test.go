package wire

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/kerr"
)

// fill sets every field of a kmsg message to something random.
func fill(s source, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			v.Set(reflect.ValueOf(s.tags(true)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(s, v.Field(i), depth)
			}
		}
	case reflect.Pointer:
		if s.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(s, v.Elem(), depth)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(s.bytes())
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), s.IntN(4-depth/2), 4))
		for i := range v.Len() {
			fill(s, v.Index(i), depth+1)
		}
	case reflect.Array:
		v.Set(reflect.ValueOf(s.id()))
	case reflect.String:
		v.SetString(s.string())
	case reflect.Bool:
		v.SetBool(s.IntN(2) == 0)
	case reflect.Float64:
		v.SetFloat(s.Float64())
	case reflect.Uint16:
		v.SetUint(uint64(uint16(s.int32())))
	case reflect.Int8:
		v.SetInt(int64(int8(s.int32())))
	case reflect.Int16:
		v.SetInt(int64(int16(s.int32())))
	default:
		v.SetInt(int64(s.int32()))
	}
}

func randomRequest(key, version int16, seed uint64) kmsg.Request {
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	fill(newSource(version*100+key, seed), reflect.ValueOf(req).Elem(), 0)
	return req
}

func forEachRequest(f func(name string, key, version int16)) {
	for key := range int16(kmsg.MaxKey + 1) {
		for version := range kmsg.RequestForKey(key).MaxVersion() + 1 {
			f(kmsg.NameForKey(key), key, version)
		}
	}
}

// TestCheckRequestOracle: what kmsg writes passes for every key and version, uses up all
// bytes, and decodes to what it was.
func TestCheckRequestOracle(t *testing.T) {
	forEachRequest(func(name string, key, version int16) {
		for seed := range uint64(20) {
			req := randomRequest(key, version, seed)
			body := req.AppendTo(nil)
			got, err := DecodeRequest(key, version, body, nil)
			if err != nil {
				t.Fatalf("%s version %d seed %d: %v\n% x", name, version, seed, err, body)
			}
			want := bytes.Clone(body)
			clear(body) // as when the read buffer is used again
			if again := got.AppendTo(nil); got.GetVersion() != version || !bytes.Equal(again, want) {
				t.Fatalf("%s version %d seed %d:\n got % x\nwant % x", name, version, seed, again, want)
			}
		}
	})
}

func TestCheckRequestCuts(t *testing.T) {
	forEachRequest(func(name string, key, version int16) {
		body := randomRequest(key, version, 5).AppendTo(nil)
		for n := range min(len(body), 400) {
			if _, err := CheckRequest(key, version, body[:n]); !errors.Is(err, kerr.InvalidRequest) {
				t.Fatalf("%s version %d cut to %d of %d bytes: %v", name, version, n, len(body), err)
			}
		}
		if _, err := CheckRequest(key, version, append(body, 0)); !errors.Is(err, kerr.InvalidRequest) {
			t.Fatalf("%s version %d with a byte more: %v", name, version, err)
		}
	})
}

func TestCheckRequestVersions(t *testing.T) {
	for _, kv := range [][2]int16{{-1, 0}, {int16(len(schemas)), 0}, {32767, 0}, {3, -1}, {3, 14}, {18, 99}} {
		if _, err := DecodeRequest(kv[0], kv[1], nil, nil); !errors.Is(err, kerr.UnsupportedVersion) {
			t.Errorf("key %d version %d: %v", kv[0], kv[1], err)
		}
	}
	for key := range int16(len(schemas)) {
		if got, want := schemas[key].max, kmsg.RequestForKey(key).MaxVersion(); got != want {
			t.Errorf("%s: max version %d, kmsg %d", kmsg.NameForKey(key), got, want)
		}
	}
}

// TestCheckRequestClaims: kmsg alone would make gigabytes or loop for minutes here.
func TestCheckRequestClaims(t *testing.T) {
	many := append([]byte{0xff, 0xff, 0xff, 0x7f}, make([]byte, 4<<20)...)
	for _, tc := range []struct {
		name         string
		key, version int16
		body         []byte
	}{
		{"array longer than the bytes", 19, 2, []byte{0x7f, 0xff, 0xff, 0xff, 0, 0}},
		{"array of four million bytes", 19, 2, append([]byte{0, 0x3f, 0xff, 0xff}, many[4:]...)},
		{"array negative", 19, 2, []byte{0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 0}},
		{"compact array", 19, 5, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0}},
		{"tags", 19, 5, []byte{1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		{"tag twice", 19, 5, []byte{1, 0, 0, 0, 0, 0, 2, 9, 0, 9, 0}},
		{"array within a known tag", 63, 1, append(make([]byte, 22), 1, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f)},
		{"known tag not used up", 63, 1, append(make([]byte, 22), 1, 0, 2, 1, 0)},
		{"string not UTF-8", 17, 0, []byte{0, 1, 0xff}},
		{"string negative", 17, 0, []byte{0xff, 0xfe}},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeRequest(tc.key, tc.version, tc.body, nil)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, kerr.InvalidRequest) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%s: %d bytes allocated", tc.name, n)
		}
	}
	// The same bodies with an honest value are good.
	for _, body := range [][]byte{append(make([]byte, 22), 1, 0, 1, 1), append(make([]byte, 22), 0)} {
		if _, err := CheckRequest(63, 1, body); err != nil {
			t.Errorf("the bodies of this test are wrong: %v", err)
		}
	}
}
