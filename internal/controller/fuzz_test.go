package controller

import (
	"reflect"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/meta/metatest"
	"github.com/kalda-io/kalda/internal/model"
)

// FuzzReconcile lets the planner loose on whatever an ensemble may hold: it does not panic,
// it comes to an end, it fits its transactions, and no topic that was served loses its name,
// record or a partition.
func FuzzReconcile(f *testing.F) {
	for _, seed := range metatest.Seeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		st := meta.NewState(metatest.Keys)
		rev := int64(0)
		extras := map[string]int64{}
		for _, e := range metatest.Events(b) {
			if st.Apply(meta.Revision{Revision: e.ModRevision, Events: []meta.Event{e}}) != nil {
				return // refused; nobody plans on it
			}
			rev, extras[e.Key] = e.ModRevision, e.CreateRevision
		}
		before := st.Image()
		p := NewPlanner(st, Rules{})
		now := Now{Boot: time.Hour, WallMs: 1 << 41, MissingSince: map[model.BrokerID]time.Duration{0: 1, 1: 1, 2: 1, 3: 1}}
		for step := 0; ; step++ {
			s := p.Reconcile(now)
			if len(s.Changes) == 0 {
				break
			}
			if step == 200 {
				t.Fatalf("no end of changes; the next: %+v", s.Changes[0])
			}
			for _, c := range s.Changes {
				if c.size() > maxOps+8 {
					t.Fatalf("a change of %d operations", c.size())
				}
				rev++
				r := meta.Revision{Revision: rev}
				for _, w := range c.Writes {
					e := meta.Event{KV: meta.KV{Key: w.Key, ModRevision: rev}, Deleted: w.Value == nil}
					if w.Value != nil {
						if extras[w.Key] == 0 {
							extras[w.Key] = rev
						}
						e.CreateRevision = extras[w.Key]
						e.Value = meta.EncodeValue(w.Value, st.Extra(w.Key))
					} else {
						delete(extras, w.Key)
					}
					r.Events = append(r.Events, e)
				}
				if err := st.Apply(r); err != nil {
					t.Fatalf("the planner wrote what nobody reads: %v", err)
				}
			}
		}
		after := st.Image()
		for name, was := range before.Topics {
			is := after.Topics[name]
			if is == nil || is.ID != was.ID || len(is.Partitions) != len(was.Partitions) || !reflect.DeepEqual(is.Config, was.Config) {
				t.Fatalf("topic %s was %+v and is %+v", name, was, is)
			}
		}
	})
}
