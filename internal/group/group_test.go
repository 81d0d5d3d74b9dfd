package group

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Reasons come from clients and end up on terminals: no control characters, a bound,
// and valid UTF-8 even where the bound cuts a character.
func TestClientReason(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		" closing ":              "closing",
		"a\x1b[31m\nb\x7f":       "a [31m b",
		"\xff\xfebad":            "\ufffd\ufffdbad",
		strings.Repeat("x", 300): strings.Repeat("x", 255),
	} {
		if got := clientReason(&in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	long := strings.Repeat("한", 100) // 300 bytes; 255 is within none of them, 254 would be
	long = "x" + long
	if got := clientReason(&long); len(got) > 255 || !utf8.ValidString(got) {
		t.Errorf("cut to %d bytes: %q", len(got), got)
	}
	if got := clientReason(nil); got != "" {
		t.Errorf("nil: %q", got)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	for i := range int32(20) {
		h.because(int64(i), "joined")
		h.settle(int64(i), i, 1)
	}
	h.because(20, "left")
	rs, err := DecodeRebalances(h.encode())
	if err != nil {
		t.Fatal(err)
	}
	if len(rs) != historyLength+1 || rs[0].Generation != 4 || rs[15].Generation != 19 || rs[16].EndedMs != 0 {
		t.Fatalf("%d entries: %+v", len(rs), rs)
	}
	var none history
	if rs, err := DecodeRebalances(none.encode()); err != nil || len(rs) != 0 {
		t.Fatalf("%v, %v", rs, err)
	}
	if _, err := DecodeRebalances([]byte("{")); err == nil {
		t.Fatal("no error for what is not JSON")
	}
}

// What subscribedTopics reads of any version agrees with the topics that were written, and
// bytes that are cut anywhere are refused, not misread.
func TestSubscribedTopics(t *testing.T) {
	whole := subscribe([]string{"orders", "", "한글"}, "orders-0")
	var got []string
	if !subscribedTopics(whole, func(s string) bool { got = append(got, s); return true }) || strings.Join(got, ",") != "orders,,한글" {
		t.Fatalf("got %q", got)
	}
	end := 2 + 4 + 2 + 6 + 2 + 2 + 6 // where the topics end
	for n := range whole {
		if ok := subscribedTopics(whole[:n], func(string) bool { return true }); ok != (n >= end) {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), ok)
		}
	}
	for _, bad := range []string{"\xff\xff\x00\x00\x00\x00", "\x00\x00\x7f\xff\xff\xff\x00", "\x00\x00\x00\x00\x00\x01\xff\xff"} {
		if subscribedTopics([]byte(bad), func(string) bool { return true }) {
			t.Errorf("%x was read", bad)
		}
	}
}

func TestCompareSubscriptions(t *testing.T) {
	a := subscribe([]string{"t", "u"}, "t-0,t-1")
	for _, c := range []struct {
		name string
		b    []byte
		want difference
	}{
		{"other order", subscribe([]string{"u", "t"}, "t-1,t-0"), unknownDiffers},
		{"other topics", subscribe([]string{"t"}, "t-0,t-1"), topicsDiffer},
		{"fewer partitions", subscribe([]string{"t", "u"}, "t-0"), ownedDiffer},
		{"partition of another topic", subscribe([]string{"t", "u"}, "t-0,u-1"), ownedDiffer},
		{"not a consumer's", []byte("connect"), unknownDiffers},
		{"too long to look at", append(subscribe([]string{"x"}, ""), make([]byte, maxCompared)...), unknownDiffers},
	} {
		if got := compareSubscriptions(a, c.b); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}
