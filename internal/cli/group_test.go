package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

func at(topic string, p int32) model.TopicPartition {
	return model.TopicPartition{Topic: topic, Partition: p}
}

// What a group with an idle member, a gap below the log start and a history looks like.
func TestGroupText(t *testing.T) {
	now := time.UnixMilli(1_700_000_100_000)
	g := &groupInfo{
		name: "g", state: "Stable", protocolType: "consumer", protocol: "range", coordinator: 2,
		members: []memberInfo{
			{id: "app-0a1b2c3d-0000-4000-8000-000000000001", host: "/10.0.0.1", topics: []string{"t"}, owned: []model.TopicPartition{at("t", 0), at("t", 1)}},
			{id: "static", host: "/10.0.0.2", topics: []string{"t"}},
		},
		rebalances: []rebalance{
			{StartedMs: 1_700_000_000_000, EndedMs: 1_700_000_003_000, Generation: 1, Members: 1, Reasons: []string{"member app-0a1b2c3d-0000-4000-8000-000000000001: joined"}},
			{StartedMs: 1_700_000_099_000, Members: 2, Reasons: []string{"member static: joined", "topic t was created"}, More: 2},
		},
	}
	rows := lagOf(g,
		map[model.TopicPartition]int64{at("t", 0): 5, at("old", 0): 7},
		map[model.TopicPartition]span{at("t", 0): {10, 30}, at("t", 1): {0, 4}})
	seconds := 61.0
	for i := range rows {
		if rows[i].Lag != nil {
			rows[i].LagSeconds = &seconds
		}
	}
	d := detailOf(g, rows)
	var b strings.Builder
	a := &app{Env: Env{Now: func() time.Time { return now }}}
	if err := a.printGroup(&b, &d, false); err != nil {
		t.Fatal(err)
	}
	want := `g: Stable, 2 members, lag 20 records and 1m1s, range, coordinator 2

TOPIC  PARTITION  COMMITTED  END  LAG  BEHIND  OWNER
old            0          7    -    -       -  -
t              0          5   30   20    1m1s  app-0a1b2c3d
t              1          -    4    -       -  app-0a1b2c3d

IDLE (2 members, 2 partitions)  static  10.0.0.2

Rebalances, newest first:
WHEN           TOOK  GENERATION  MEMBERS  REASON
1s ago     going on           -        2  member static: joined; topic t was created; and 2 more
1m40s ago        3s           1        1  member app-0a1b2c3d: joined
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
