package client

import (
	"bufio"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestKcatRebalances feeds what kcat 1.7.1 says about eager and cooperative rebalances.
func TestKcatRebalances(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  Assignment
	}{
		"eager": {[]string{
			"% Waiting for group rebalance",
			"% Group g rebalanced (memberid rdkafka-1): assigned: t [0], t [1], t [2]",
			"% Reached end of topic t [0] at offset 5",
			"% Group g rebalanced (memberid rdkafka-1): revoked: t [0], t [1], t [2]",
			"% Group g rebalanced (memberid rdkafka-1): assigned: t [2]",
		}, Assignment{Owned: []int32{2}, Rebalances: 2, Revoked: 3}},
		"idle": {[]string{
			"% Group g rebalanced (memberid rdkafka-1): assigned: ",
		}, Assignment{Rebalances: 1}},
		"cooperative": {[]string{
			"% Group g rebalanced: incremental assignment of 2 partition(s) (memberid rdkafka-1, COOPERATIVE rebalance protocol): t [1], t [0]",
			"% Group g rebalanced: incremental revoke of 1 partition(s) (memberid rdkafka-1, COOPERATIVE rebalance protocol): t [0]",
			"% Group g rebalanced: incremental assignment of 0 partition(s) (memberid rdkafka-1, COOPERATIVE rebalance protocol): ",
		}, Assignment{Owned: []int32{1}, Rebalances: 2, Revoked: 1}},
	} {
		m := &kcatMember{inbox: newInbox()}
		for _, l := range c.lines {
			m.heard(l)
		}
		if got := m.Assigned(); !slices.Equal(got.Owned, c.want.Owned) || got.Rebalances != c.want.Rebalances || got.Revoked != c.want.Revoked {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestReadKcat(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("2 7 1700000000000 3 5\nk\neva\nueh=x,i=\n0 8 1700000000001 -1 -1\n\n1 9 1 0 0\n\n1 10 1 2 9\nk"))
	var got []Record
	for {
		rec, err := readKcat(r)
		if err != nil {
			if err == io.EOF || !strings.Contains(err.Error(), "cut") {
				t.Errorf("the torn end gave %v", err)
			}
			break
		}
		got = append(got, rec)
	}
	want := []Record{
		{Partition: 2, Offset: 7, Timestamp: 1700000000000, Key: []byte("k\ne"), Value: []byte("va\nue"), Headers: []Header{{"h", []byte("x")}, {"i", []byte{}}}},
		{Partition: 0, Offset: 8, Timestamp: 1700000000001},
		{Partition: 1, Offset: 9, Timestamp: 1, Key: []byte{}, Value: []byte{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestSame holds the comparison that every scenario relies on: null is not empty.
func TestSame(t *testing.T) {
	base := Record{Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"h", []byte("1")}}}
	if diff := base.Same(Record{Offset: 9, Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"h", []byte("1")}}}); diff != "" {
		t.Errorf("equal payloads differ: %s", diff)
	}
	for name, other := range map[string]Record{
		"key":    {Key: []byte("x"), Value: base.Value, Headers: base.Headers},
		"value":  {Key: base.Key, Value: nil, Headers: base.Headers},
		"header": {Key: base.Key, Value: base.Value, Headers: []Header{{"h", []byte("2")}}},
		"count":  {Key: base.Key, Value: base.Value},
	} {
		if base.Same(other) == "" {
			t.Errorf("%s: the difference was not seen", name)
		}
	}
	if (Record{Value: []byte{}}).Same(Record{}) == "" {
		t.Error("an empty value was taken for a null")
	}
}
