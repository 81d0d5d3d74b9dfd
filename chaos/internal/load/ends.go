package load

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// span is what a partition holds.
type span struct {
	topic      string
	partition  int32
	start, end int64 // end is exclusive
}

// spans returns the beginning and the end of every partition of the topics. A log that does not start at 0
// and is not one of trimmed is an error: nothing deletes its records, so its beginning would be lost.
func spans(ctx context.Context, cl *kgo.Client, partitions map[string]int32, trimmed map[string]bool) ([]span, error) {
	adm := kadm.NewClient(cl)
	topics := slices.Sorted(maps.Keys(partitions))
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	var out []span
	for _, topic := range topics {
		for p := range partitions[topic] {
			start, ok1 := starts.Lookup(topic, p)
			end, ok2 := ends.Lookup(topic, p)
			switch {
			case !ok1 || !ok2:
				return nil, fmt.Errorf("%s-%d is not known any more", topic, p)
			case start.Err != nil:
				return nil, fmt.Errorf("%s-%d: start: %w", topic, p, start.Err)
			case end.Err != nil:
				return nil, fmt.Errorf("%s-%d: end: %w", topic, p, end.Err)
			case start.Offset != 0 && !trimmed[topic]:
				return nil, fmt.Errorf("%s-%d starts at offset %d, but nothing was deleted", topic, p, start.Offset)
			}
			out = append(out, span{topic, p, start.Offset, end.Offset})
		}
	}
	return out, nil
}
