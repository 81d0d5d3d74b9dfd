package load

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestPayloadNamesItsValue(t *testing.T) {
	seen := make(map[string]bool)
	for n := range 300 {
		value := fmt.Sprint("p/", n)
		body := payload(value, n)
		if got := valueOf(&kgo.Record{Value: body}); got != value {
			t.Fatalf("payload %q names %q, want %q", body, got, value)
		}
		if seen[string(body)] {
			t.Fatalf("payload %q was there before", body)
		}
		seen[string(body)] = true
	}
}
