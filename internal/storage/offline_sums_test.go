package storage

import (
	"errors"
	"testing"

	"github.com/kalda-io/kalda/internal/record"
)

// Each stretch is judged by itself, a mark within a batch fits no segment, and neither does
// another size.
func TestSegmentSums(t *testing.T) {
	b := batchSpec{n: 3}.build(t)
	size := int64(b.Size())
	closed := func(damage func(*sums)) *SegmentSums {
		s := &sums{}
		for i := range int64(6) {
			if i == 2 || i == 4 {
				s.marks = append(s.marks, mark{i * size, s.chain})
			}
			s.add(b, i*size)
		}
		s.seal(6 * size)
		damage(s)
		return &SegmentSums{path: "x.log", s: s}
	}
	for name, tc := range map[string]struct {
		damage func(*sums)
		flip   int64 // the batch that changed
		size   int64
		want   []int64 // where damage is found
	}{
		"good":               {func(*sums) {}, -1, 6 * size, nil},
		"first stretch":      {func(*sums) {}, 1, 6 * size, []int64{0}},
		"second stretch":     {func(*sums) {}, 3, 6 * size, []int64{2 * size}},
		"last stretch":       {func(*sums) {}, 5, 6 * size, []int64{4 * size}},
		"short":              {func(*sums) {}, -1, 5 * size, []int64{5 * size}},
		"long":               {func(*sums) {}, -1, 7 * size, []int64{6 * size}},
		"a mark in a batch":  {func(s *sums) { s.marks[1].pos -= 5 }, -1, 6 * size, []int64{2 * size}},
		"a mark that is odd": {func(s *sums) { s.marks[0].chain++ }, -1, 6 * size, []int64{0, 2 * size}},
	} {
		c := closed(tc.damage)
		var got []int64
		note := func(err error) {
			var bad *CorruptError
			if errors.As(err, &bad) && errors.Is(err, ErrSums) {
				got = append(got, bad.Offset)
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for i := int64(0); i*size < tc.size; i++ {
			h := append(record.Batch(nil), b...)
			if i == tc.flip {
				h.SetLeaderEpoch(h.LeaderEpoch() + 1)
			}
			note(c.Add(h, i*size))
		}
		note(c.End(tc.size))
		if len(got) != len(tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
			continue
		}
		for i := range got {
			if got[i] != tc.want[i] {
				t.Errorf("%s: %v, want %v", name, got, tc.want)
			}
		}
	}
}
