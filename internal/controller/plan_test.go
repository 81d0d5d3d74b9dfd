package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// env is what a script acts on: a state and the planner on it. Changes are applied to
// the state as the ensemble would.
type env struct {
	t       *testing.T
	st      *meta.State
	plan    *Planner
	rules   Rules
	now     Now
	rev     int64
	created map[string]int64
	values  map[string][]byte
	ids     int
	lives   map[model.BrokerID]int
}

func newEnv(t *testing.T) *env {
	e := &env{t: t, created: map[string]int64{}, values: map[string][]byte{}, lives: map[model.BrokerID]int{}}
	e.st = meta.NewState(meta.NewKeys("k", "c"))
	e.now.MissingSince = map[model.BrokerID]time.Duration{}
	e.now.Tails = map[model.Partition]map[model.BrokerID]Tail{}
	e.rules.Config = ConfigRules{
		Normalize: func(_ meta.ResourceKind, _, key, value string) (string, error) {
			switch {
			case key == "no.such.key":
				return "", fmt.Errorf("Unknown topic config name: %s", key)
			case key == keyFlushPolicy && value != "os" && value != "commit":
				return "", fmt.Errorf("Invalid value %s for configuration %s", value, key)
			}
			return value, nil
		},
		List:    func(_ meta.ResourceKind, key string) bool { return key == "cleanup.policy" },
		Default: func(meta.ResourceKind, string) string { return "delete" },
	}
	e.rules.Features = map[string]FeatureRange{"kalda.version": {1, 3}}
	e.plan = NewPlanner(e.st, e.rules)
	e.write(Write{Key: e.st.Keys().Controller(), Value: meta.ControllerRecord{Broker: 1}})
	return e
}

// write makes one revision of writes.
func (e *env) write(writes ...Write) {
	e.t.Helper()
	e.rev++
	rev := meta.Revision{Revision: e.rev}
	for _, w := range writes {
		ev := meta.Event{KV: meta.KV{Key: w.Key, ModRevision: e.rev}, Deleted: w.Value == nil}
		if w.Value == nil {
			delete(e.created, w.Key)
			delete(e.values, w.Key)
		} else {
			ev.Value = meta.EncodeValue(w.Value, e.st.Extra(w.Key))
			if len(ev.Value) >= 512 && strings.Contains(w.Key, "/parts/") {
				e.t.Errorf("%s has %d bytes: a partition state stays under 512", w.Key, len(ev.Value))
			}
			if e.created[w.Key] == 0 {
				e.created[w.Key] = e.rev
			}
			ev.CreateRevision = e.created[w.Key]
			e.values[w.Key] = ev.Value
		}
		rev.Events = append(rev.Events, ev)
	}
	if err := e.st.Apply(rev); err != nil {
		e.t.Fatal(err)
	}
}

// apply makes changes and returns what they wrote.
func (e *env) apply(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		if c.size() > maxOps {
			e.t.Errorf("a change needs %d operations", c.size())
		}
		e.write(c.Writes...)
		b.WriteString(e.show(c))
	}
	return b.String()
}

// show prints a change, long ones shortened.
func (e *env) show(c Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "txn")
	if g := c.Guards(); len(g) > 0 {
		fmt.Fprintf(&b, " guards=%v", g)
	}
	b.WriteByte('\n')
	for i, w := range c.Writes {
		if i == 8 && len(c.Writes) > 10 {
			fmt.Fprintf(&b, "  ... %d more\n", len(c.Writes)-i)
			break
		}
		key := strings.TrimPrefix(w.Key, e.st.Keys().Prefix())
		if w.Value == nil {
			fmt.Fprintf(&b, "  delete %s\n", key)
		} else {
			fmt.Fprintf(&b, "  put %s %s\n", key, short(w.Value))
		}
	}
	if c.Note != "" {
		fmt.Fprintf(&b, "  note: %s\n", c.Note)
	}
	return b.String()
}

// short prints a value for people.
func short(v any) string {
	switch v := v.(type) {
	case *meta.PartitionState:
		return showPartition(v)
	case meta.BrokerState:
		return fmt.Sprintf("epoch=%d %s", v.Epoch, v.Status)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func showPair(p model.Pair) string {
	if p.ID == model.NoBroker {
		return "none"
	}
	return fmt.Sprintf("%d@%d", p.ID, p.Epoch)
}

func showPairs(ps []model.Pair) string {
	var s []string
	for _, p := range ps {
		s = append(s, showPair(p))
	}
	return "(" + strings.Join(s, ",") + ")"
}

func showPartition(ps *meta.PartitionState) string {
	s := fmt.Sprintf("pe=%d le=%d leader=%s isr=%s", ps.PartitionEpoch, ps.LeaderEpoch, showPair(ps.Leader), showPairs(ps.ISR))
	if len(ps.ELR) > 0 {
		s += " elr=" + showPairs(ps.ELR)
	}
	if len(ps.LastKnown) > 0 {
		s += fmt.Sprintf(" lk=%v", ps.LastKnown)
	}
	s += fmt.Sprintf(" replicas=%v min=%d %s", ps.Replicas, ps.MinISR, ps.FlushPolicy)
	if ps.Recovering {
		s += " recovering"
	}
	return s
}

// reconcile carries out steps until nothing is left, or only so many.
func (e *env) reconcile(limit int) string {
	var b strings.Builder
	for id := range e.st.BrokerStates {
		_, live := e.st.LivePair(id)
		if _, known := e.now.MissingSince[id]; !live || e.st.Registrations[id] != nil {
			delete(e.now.MissingSince, id)
		} else if !known {
			e.now.MissingSince[id] = e.now.Boot
		}
	}
	for n := 0; ; n++ {
		step := e.plan.Reconcile(e.now)
		if len(step.Changes) == 0 {
			if step.At != 0 {
				fmt.Fprintf(&b, "again at %v\n", step.At)
			}
			return b.String()
		}
		if n == limit {
			return b.String() + "stopped here\n"
		}
		if n > 100 {
			e.t.Fatalf("no end of changes: %s", e.show(step.Changes[0]))
		}
		b.WriteString(e.apply(step.Changes))
	}
}

func (e *env) newID() model.TopicID {
	e.ids++
	return model.TopicID{0: 1, 15: byte(e.ids)}
}

func showErr(err error) string {
	if err == nil {
		return "ok"
	}
	return kerr.Of(err).Name + ": " + *kerr.Message(err)
}

// args of a command.
func arg(d *datadriven.TestData, name, def string) string {
	for _, a := range d.CmdArgs {
		if a.Key == name && len(a.Vals) > 0 {
			return strings.Join(a.Vals, ",")
		}
	}
	return def
}

func intArg(d *datadriven.TestData, name string, def int) int {
	n, err := strconv.Atoi(arg(d, name, strconv.Itoa(def)))
	if err != nil {
		d.Fatalf(nil, "%s: %v", name, err)
	}
	return n
}

// fields splits an input line such as "orders partitions=3 config=a:b".
func fields(line string) (name string, m map[string]string) {
	m = map[string]string{}
	for i, f := range strings.Fields(line) {
		if i == 0 {
			name = strings.Trim(f, `"`)
			continue
		}
		k, v, _ := strings.Cut(f, "=")
		m[k] = v
	}
	return strings.ReplaceAll(name, "{250}", strings.Repeat("x", 250)), m
}

func atoi(s string, def int) int {
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// assignment reads 1,2/2,1: partitions are separated by slashes.
func assignment(s string) [][]model.BrokerID {
	if s == "" {
		return nil
	}
	var out [][]model.BrokerID
	for part := range strings.SplitSeq(s, "/") {
		replicas := []model.BrokerID{}
		for id := range strings.SplitSeq(part, ",") {
			if id != "-" {
				replicas = append(replicas, model.BrokerID(atoi(id, 0)))
			}
		}
		out = append(out, replicas)
	}
	return out
}

func (e *env) registration(id model.BrokerID) meta.Registration {
	if r := e.st.Registrations[id]; r != nil {
		return *r
	}
	return meta.Registration{Incarnation: fmt.Sprintf("i%d-%d", id, e.lives[id]), Want: meta.WantStarting}
}

func (e *env) topicID(name string) model.TopicID {
	for id, r := range e.st.Topics {
		if r.Name == name {
			return id
		}
	}
	return model.TopicID{0: 255}
}

func TestPlanner(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		e := newEnv(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			e.t = t
			return e.run(d)
		})
	})
}

func (e *env) run(d *datadriven.TestData) string {
	keys := e.st.Keys()
	var b strings.Builder
	switch d.Cmd {
	case "rules":
		e.rules.MaxReplicationFactor = int16(intArg(d, "max-rf", 1))
		e.rules.DefaultReplicationFactor = int16(intArg(d, "default-rf", 0))
		e.rules.MaxPartitionsPerTopic = int32(intArg(d, "max-partitions", 0))
		e.rules.MinISR = int32(intArg(d, "min-isr", 0))
		e.rules.FlushPolicy = arg(d, "flush", "")
		e.plan = NewPlanner(e.st, e.rules)

	case "register": // register id=1 [want=running] [prev=N] [suspect] [new]
		id := model.BrokerID(intArg(d, "id", 0))
		if d.HasArg("new") {
			e.write(Write{Key: keys.Registration(id)})
			e.lives[id]++
		}
		r := e.registration(id)
		r.Want = meta.Want(arg(d, "want", string(r.Want)))
		r.PreviousEpoch = model.BrokerEpoch(intArg(d, "prev", int(r.PreviousEpoch)))
		r.CarriedEpoch = model.BrokerEpoch(intArg(d, "carried", int(r.CarriedEpoch)))
		r.Tails = map[string]meta.TailClass{"d": meta.TailSameBoot}
		if d.HasArg("suspect") {
			r.Tails["d"] = meta.TailSuspect
		}
		e.write(Write{Key: keys.Registration(id), Value: r})
		fmt.Fprintf(&b, "epoch=%d", e.st.Registrations[id].Epoch)

	case "unregister":
		e.write(Write{Key: keys.Registration(model.BrokerID(intArg(d, "id", 0)))})

	case "clock":
		boot, err := time.ParseDuration(arg(d, "boot", "0s"))
		if err != nil {
			d.Fatalf(e.t, "%v", err)
		}
		e.now.Boot += boot
		days := intArg(d, "days", 0)
		e.now.WallMs += int64(days) * 24 * 3600 * 1000

	case "tail": // tail topic=t part=0 id=1 epoch=3 end=10
		p := model.Partition{Topic: e.topicID(arg(d, "topic", "")), Index: int32(intArg(d, "part", 0))}
		if e.now.Tails[p] == nil {
			e.now.Tails[p] = map[model.BrokerID]Tail{}
		}
		e.now.Tails[p][model.BrokerID(intArg(d, "id", 0))] = Tail{
			LastEpoch: model.LeaderEpoch(intArg(d, "epoch", 0)), End: model.Offset(intArg(d, "end", 0)),
		}

	case "reconcile":
		b.WriteString(e.reconcile(intArg(d, "steps", -1)))

	case "create": // lines: NAME [partitions=] [rf=] [assign=1,2/2,1] [config=k:v,k:v] [internal]
		var reqs []meta.NewTopic
		for line := range strings.Lines(d.Input) {
			name, m := fields(line)
			_, internal := m["internal"]
			r := meta.NewTopic{
				Name: name, Partitions: int32(atoi(m["partitions"], -1)), ReplicationFactor: int16(atoi(m["rf"], -1)),
				Assignment: assignment(m["assign"]), Internal: internal,
			}
			if c := m["config"]; c != "" {
				r.Config = map[string]string{}
				for kv := range strings.SplitSeq(c, ",") {
					k, v, _ := strings.Cut(kv, ":")
					r.Config[k] = v
				}
			}
			reqs = append(reqs, r)
		}
		results, changes := e.plan.CreateTopics(reqs, e.newID)
		for i, r := range results {
			name := reqs[i].Name
			if len(name) > 40 {
				name = fmt.Sprintf("(%d characters)", len(name))
			}
			if r.Err != nil {
				fmt.Fprintf(&b, "%q %s\n", name, strings.ReplaceAll(showErr(r.Err), strings.Repeat("x", 250), "(250 x)"))
			} else {
				fmt.Fprintf(&b, "%q ok partitions=%d rf=%d\n", name, r.Partitions, r.ReplicationFactor)
			}
		}
		if n := intArg(d, "crash-after", -1); n >= 0 {
			changes = changes[:n]
		}
		out := e.apply(changes)
		if !d.HasArg("quiet") {
			b.WriteString(out)
		}

	case "more": // lines: NAME count=N [assign=]
		var reqs []meta.MorePartitions
		for line := range strings.Lines(d.Input) {
			name, m := fields(line)
			reqs = append(reqs, meta.MorePartitions{Topic: name, Count: int32(atoi(m["count"], 0)), Assignment: assignment(m["assign"])})
		}
		errs, changes := e.plan.CreatePartitions(reqs)
		for i, err := range errs {
			fmt.Fprintf(&b, "%q %s\n", reqs[i].Topic, showErr(err))
		}
		b.WriteString(e.apply(changes))

	case "delete": // lines: NAME
		var ids []model.TopicID
		for line := range strings.Lines(d.Input) {
			ids = append(ids, e.topicID(strings.TrimSpace(line)))
		}
		errs, changes := e.plan.DeleteTopics(ids, e.now.WallMs)
		for _, err := range errs {
			b.WriteString(showErr(err) + "\n")
		}
		b.WriteString(e.apply(changes))

	case "alter": // alter kind=topic name=x [replace]; lines: set|delete|append|subtract KEY [VALUE]
		ch := meta.ConfigChange{Name: arg(d, "name", ""), Replace: d.HasArg("replace")}
		for _, k := range []meta.ResourceKind{meta.ResourceTopic, meta.ResourceBroker, meta.ResourceGroup} {
			if k.String() == arg(d, "kind", "") {
				ch.Kind = k
			}
		}
		ops := map[string]meta.ConfigOp{"set": meta.ConfigSet, "delete": meta.ConfigDelete, "append": meta.ConfigAppend, "subtract": meta.ConfigSubtract}
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			op := meta.ConfigOpEntry{Op: ops[f[0]], Key: f[1]}
			if len(f) > 2 {
				op.Value = &f[2]
			}
			ch.Ops = append(ch.Ops, op)
		}
		reqs := []meta.ConfigChange{ch}
		if d.HasArg("twice") {
			reqs = append(reqs, ch)
		}
		errs, changes := e.plan.AlterConfigs(reqs)
		for _, err := range errs {
			b.WriteString(showErr(err) + "\n")
		}
		b.WriteString(e.apply(changes))

	case "features": // lines: NAME level=N [down]
		var reqs []meta.FeatureUpdate
		for line := range strings.Lines(d.Input) {
			name, m := fields(line)
			_, down := m["down"]
			reqs = append(reqs, meta.FeatureUpdate{Name: name, Level: int16(atoi(m["level"], 0)), AllowDowngrade: down})
		}
		errs, changes := e.plan.UpdateFeatures(reqs)
		for _, err := range errs {
			b.WriteString(showErr(err) + "\n")
		}
		b.WriteString(e.apply(changes))

	case "spread": // partitions led per broker, over all topics
		led := map[model.BrokerID]int{}
		for _, parts := range e.st.Partitions {
			for _, ps := range parts {
				led[ps.Leader.ID]++
			}
		}
		for _, id := range slices.Sorted(maps.Keys(led)) {
			fmt.Fprintf(&b, "%d:%d ", id, led[id])
		}

	case "state":
		for _, id := range slices.Sorted(maps.Keys(e.st.BrokerStates)) {
			fmt.Fprintf(&b, "broker %d %s\n", id, short(*e.st.BrokerStates[id]))
		}
		im := e.st.Image()
		for _, name := range im.TopicNames() {
			for i, ps := range im.Topics[name].Partitions {
				fmt.Fprintf(&b, "%s-%d %s\n", name, i, showPartition(ps))
			}
		}

	case "keys":
		for _, key := range slices.Sorted(maps.Keys(e.values)) {
			key = strings.TrimPrefix(key, keys.Prefix())
			if strings.HasPrefix(key, arg(d, "under", "")) {
				b.WriteString(key + "\n")
			}
		}

	default:
		d.Fatalf(e.t, "unknown command %s", d.Cmd)
	}
	if s := strings.TrimSpace(b.String()); s != "" {
		return s + "\n"
	}
	return "ok\n"
}

// A validator's own protocol error is passed on as it is.
func TestValidatorError(t *testing.T) {
	if err := invalidConfig(kerr.PolicyViolation); !errors.Is(err, kerr.PolicyViolation) {
		t.Fatal(err)
	}
	if err := invalidConfig(errors.New("x")); !errors.Is(err, kerr.InvalidConfig) {
		t.Fatal(err)
	}
}
