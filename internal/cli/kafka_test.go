package cli

import (
	"context"
	"testing"

	"github.com/kalda-io/kalda/internal/model"
)

// A place becomes an offset inside the log, and without a place a reader begins at the end.
func TestResolve(t *testing.T) {
	tp := model.TopicPartition{Topic: "t", Partition: 0}
	log := map[model.TopicPartition]span{tp: {start: 10, end: 30}}
	for _, c := range []struct {
		place startSpec
		want  int64
		moved bool
	}{
		{startSpec{}, 30, false},
		{startSpec{kind: startEnd}, 30, false},
		{startSpec{kind: startFirst}, 10, false},
		{startSpec{kind: startOffset, n: 15}, 15, false},
		{startSpec{kind: startOffset, n: 30}, 30, false},
		{startSpec{kind: startOffset, n: 3}, 10, true},
		{startSpec{kind: startOffset, n: 31}, 30, true},
		{startSpec{kind: startBack, n: 5}, 25, false},
		{startSpec{kind: startBack, n: 500}, 10, false},
	} {
		moved := false
		at, err := (&client{}).resolve(context.Background(), consumeSpec{start: c.place}, log, func(model.TopicPartition, int64, int64) { moved = true })
		if err != nil || at[tp] != c.want || moved != c.moved {
			t.Errorf("%+v: %d (moved %v), %v; want %d (%v)", c.place, at[tp], moved, err, c.want, c.moved)
		}
	}
}
