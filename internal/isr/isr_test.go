package isr

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/kalda-io/kalda/internal/model"
)

// TestScripts drives one State per file. Commands:
//
//	lead self=1 epoch=5 replicas=(1,2) isr=(1,2) min=1 end=100 ack=100 hw=90
//	follow self=1 epoch=6 end=100 hw=90
//	append end=110 | ack pos=110 | fetch by=2 offset=110 [ack=105] [pair-epoch=7]
//
// A broker id in isr= means the pair (id, epoch id*10); fetch uses the same unless
// pair-epoch says otherwise.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s State
		part := model.PartitionEpoch(0)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			num := func(key string, def int64) model.Offset {
				v := def
				if d.HasArg(key) {
					d.ScanArgs(t, key, &v)
				}
				return model.Offset(v)
			}
			pair := func(id int64) model.Pair {
				return model.Pair{ID: model.BrokerID(id), Epoch: model.BrokerEpoch(id * 10)}
			}
			before := s.HighWatermark()
			moved := false
			switch d.Cmd {
			case "lead", "follow":
				part++
				v := View{
					LeaderEpoch:    model.LeaderEpoch(num("epoch", 0)),
					PartitionEpoch: model.PartitionEpoch(num("partition-epoch", int64(part))),
					MinISR:         int(num("min", 1)),
				}
				for _, a := range d.CmdArgs {
					for _, val := range a.Vals {
						var id int64
						fmt.Sscan(val, &id)
						switch a.Key {
						case "isr":
							v.ISR = append(v.ISR, pair(id))
						case "replicas":
							v.Replicas = append(v.Replicas, model.BrokerID(id))
						}
					}
				}
				self := pair(int64(num("self", 1)))
				ok := false
				if d.Cmd == "lead" {
					ok = s.Lead(self, v, num("end", 0), num("ack", int64(num("end", 0))), num("hw", 0))
				} else {
					ok = s.Follow(self, v, num("end", 0), num("hw", 0))
				}
				if !ok {
					return "ignored: stale\n" + s.String() + "\n"
				}
			case "append":
				s.Appended(num("end", 0))
			case "ack":
				moved = s.Acked(num("pos", 0))
			case "fetch":
				id := int64(num("by", 0))
				p := model.Pair{ID: model.BrokerID(id), Epoch: model.BrokerEpoch(num("pair-epoch", id*10))}
				off := num("offset", 0)
				moved = s.Fetched(p, off, num("ack", int64(off)))
			case "enough":
				return fmt.Sprintf("%v\n", s.EnoughReplicas())
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			var b strings.Builder
			if moved {
				fmt.Fprintf(&b, "hw %d -> %d\n", before, s.HighWatermark())
			}
			fmt.Fprintln(&b, s.String())
			return b.String()
		})
	})
}

func TestLogEndNeverGoesBack(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a shrinking log end under a leader must panic")
		}
	}()
	var s State
	s.Lead(model.Pair{ID: 1}, View{ISR: []model.Pair{{ID: 1}}, MinISR: 1}, 10, 10, 10)
	s.Appended(9)
}
