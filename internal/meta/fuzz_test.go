package meta

import (
	"reflect"
	"testing"
)

// FuzzDecodeValue: whatever the ensemble holds is read or refused, and what was read is
// written so that it reads the same.
func FuzzDecodeValue(f *testing.F) {
	type value struct {
		Name string            `json:"name"`
		ID   int64             `json:"id"`
		More map[string]string `json:"more,omitempty"`
		List []int32           `json:"list,omitempty"`
	}
	f.Add(EncodeValue(value{Name: "t", ID: 7, More: map[string]string{"a": "b"}, List: []int32{1, 2}}, nil))
	f.Add(EncodeValue(value{}, Extra{"later": []byte(`{"x":[1,2]}`)}))
	f.Add([]byte(`{"v":2,"name":"t"}`))
	f.Add([]byte(`{"name":"t","v":1}`))
	f.Add([]byte(`{"v":1}{"v":1}`))
	f.Add([]byte(`{"v":1,"id":1e99}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v value
		extra, err := DecodeValue(b, &v)
		if err != nil {
			return
		}
		var again value
		more, err := DecodeValue(EncodeValue(v, extra), &again)
		if err != nil || len(more) != len(extra) {
			t.Fatalf("what was read cannot be read once it is written: %v, %v and %v", err, extra, more)
		}
		// What is empty is left out.
		for _, x := range []*value{&v, &again} {
			if len(x.More) == 0 {
				x.More = nil
			}
			if len(x.List) == 0 {
				x.List = nil
			}
		}
		if !reflect.DeepEqual(v, again) {
			t.Fatalf("%+v became %+v", v, again)
		}
	})
}
