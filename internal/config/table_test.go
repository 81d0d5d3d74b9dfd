package config

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func allTables() map[string]*table {
	return map[string]*table{"broker": brokerTable, "topic": topicTable, "group": groupTable}
}

// The table is sound: names are unique, defaults pass their own check and are canonical,
// synonyms exist and agree in kind, and every row says what it must.
func TestTableIsSound(t *testing.T) {
	for kind, tab := range allTables() {
		for i := range tab.keys {
			k := &tab.keys[i]
			if i > 0 && tab.keys[i-1].Name == k.Name {
				t.Errorf("%s key %s occurs twice", kind, k.Name)
			}
			if !k.Null {
				v, err := k.Parse(k.Default)
				if err != nil {
					t.Errorf("%s: default: %v", k.Name, err)
				} else if v.Text != k.Default {
					t.Errorf("%s: default %q is not canonical, want %q", k.Name, k.Default, v.Text)
				} else if err := k.checkLater(v); err != nil {
					t.Errorf("%s: default: %v", k.Name, err)
				}
			}
			if k.Doc == "" || strings.HasSuffix(k.Doc, ".") || strings.Contains(k.Doc, "\n") {
				t.Errorf("%s: doc %q", k.Name, k.Doc)
			}
			if (k.Status == Honoured) != (k.Instead == "") {
				t.Errorf("%s: %s with instead %q", k.Name, k.Status, k.Instead)
			}
			if k.Type.String() == "unknown" {
				t.Errorf("%s: no type", k.Name)
			}
			if tab != brokerTable && k.Update != ReadOnly {
				t.Errorf("%s: a %s key with an update mode", k.Name, kind)
			}
			if k.Status == Honoured && k.Unit == NoUnit && k.Type != Double && (strings.HasSuffix(k.Name, ".ms") || strings.HasSuffix(k.Name, ".bytes")) {
				t.Errorf("%s: no unit", k.Name)
			}
			for _, s := range k.Synonyms {
				b := brokerTable.byName[s.Name]
				if b == nil {
					t.Errorf("%s: synonym %s is not a broker key", k.Name, s.Name)
					continue
				}
				if s.Factor < 1 || s.Factor > 1 && b.Unit.millis() != s.Factor*k.Unit.millis() || s.Factor == 1 && b.Unit != k.Unit {
					t.Errorf("%s: synonym %s has unit %s and factor %d", k.Name, s.Name, b.Unit, s.Factor)
				}
				if k.Status == Honoured && b.Status != Honoured {
					t.Errorf("%s is honoured, its synonym %s %s", k.Name, s.Name, b.Status)
				}
			}
		}
	}
	if n := len(brokerTable.keys); n < 450 {
		t.Errorf("%d broker keys", n)
	}
}

// TestKafkaKeys holds the table against what Kafka itself says of its keys: each line of
// the file is a resource, a key, its type and its default, taken from the brokers' own
// definitions (4.4, and older releases for keys that are gone).
func TestKafkaKeys(t *testing.T) {
	other := map[string]string{ // our own defaults
		"node.id":                                "1: a node without a file starts",
		"broker.id":                              "another name of node.id",
		"process.roles":                          "a node is both",
		"controller.listener.names":              "there are none",
		"log.dir":                                "beside the node, not in /tmp",
		"default.replication.factor":             "follows the cluster",
		"offsets.topic.replication.factor":       "follows the cluster",
		"min.insync.replicas":                    "follows the replication factor",
		"metric.reporters":                       "a Java class",
		"principal.builder.class":                "a Java class",
		"group.share.dlq.manager.class.name":     "a Java class",
		"group.share.persister.class.name":       "a Java class",
		"remote.log.metadata.manager.class.name": "a Java class",
		"sasl.oauthbearer.jwt.retriever.class":   "a Java class",
		"sasl.oauthbearer.jwt.validator.class":   "a Java class",
	}
	data, err := os.ReadFile("testdata/kafka-keys.tsv")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			t.Fatalf("%q", line)
		}
		n++
		k := allTables()[f[0]].byName[f[1]]
		if k == nil {
			t.Errorf("%s key %s is missing", f[0], f[1])
			continue
		}
		if k.Type.String() != f[2] {
			t.Errorf("%s: type %s, in Kafka %s", f[1], k.Type, f[2])
		}
		if other[f[1]] != "" {
			continue
		}
		if k.Null != (f[3] == "null") {
			t.Errorf("%s: unset by default: %v, in Kafka %s", f[1], k.Null, f[3])
		} else if !k.Null {
			if v, err := k.Parse(f[3]); err != nil || v.Text != k.Default {
				t.Errorf("%s: default %q, in Kafka %q (%v)", f[1], k.Default, f[3], err)
			}
		}
	}
	if n < 490 {
		t.Errorf("%d keys in the file", n)
	}
}

// boundKeys are the keys that reach a field, by the path of the field.
func boundKeys() map[string]string {
	out := map[string]string{}
	for _, b := range brokerBindings() {
		out[b.key] = "BrokerOptions." + b.field
	}
	topic := map[string]bool{}
	for _, b := range topicBindings() {
		topic[b.key] = true
		for _, s := range topicTable.byName[b.key].Synonyms {
			out[s.Name] = "TopicOptions." + b.field
		}
	}
	for _, b := range brokerBindings() {
		for _, s := range brokerTable.byName[b.key].Synonyms {
			out[s.Name] = "BrokerOptions." + b.field
		}
	}
	for key, field := range listenerKeys() {
		out[key] = field
	}
	return out
}

// listenerKeys are read by Load itself, which combines them.
func listenerKeys() map[string]string {
	return map[string]string{
		"listeners":                      "BrokerOptions.Listeners",
		"advertised.listeners":           "BrokerOptions.Advertised",
		"listener.security.protocol.map": "BrokerOptions.Listeners",
	}
}

// A key is honoured exactly if a binding carries it to a field.
func TestHonouredKeysAreBound(t *testing.T) {
	bound := boundKeys()
	for i := range brokerTable.keys {
		k := &brokerTable.keys[i]
		if _, ok := bound[k.Name]; ok != (k.Status == Honoured) {
			t.Errorf("broker key %s is %s, bound: %v", k.Name, k.Status, ok)
		}
	}
	topic := map[string]bool{}
	for _, b := range topicBindings() {
		topic[b.key] = true
	}
	for i := range topicTable.keys {
		k := &topicTable.keys[i]
		if topic[k.Name] != (k.Status == Honoured) {
			t.Errorf("topic key %s is %s, bound: %v", k.Name, k.Status, topic[k.Name])
		}
	}
}

// Each binding writes the field that it names, and nothing else.
func TestBindingsSetTheirField(t *testing.T) {
	checkBindings(t, brokerTable, brokerBindings())
	checkBindings(t, topicTable, topicBindings())
}

func checkBindings[T any](t *testing.T, tab *table, bs []binding[T]) {
	t.Helper()
	for _, b := range bs {
		k := tab.byName[b.key]
		raw := map[Type]string{Boolean: "true", String: "x", List: "x", Int: "7", Short: "7", Long: "7", Double: "0.5"}[k.Type]
		if len(k.Valid.Values) > 0 {
			raw = k.Valid.Values[0]
		}
		if k.Type == List && k.Valid.Check != nil { // a limit of free space
			raw = "7"
		}
		if k.Type != String && k.Type != List && k.Type != Boolean && k.Valid.HasLo && k.Valid.Lo > 7 {
			raw = "2097152"
		}
		v, err := (&Key{Type: k.Type, Unit: k.Unit}).Parse(raw)
		if err != nil {
			t.Fatalf("%s: %v", b.key, err)
		}
		var o T
		b.set(&o, v)
		got := reflect.ValueOf(&o).Elem()
		for name := range strings.SplitSeq(b.field, ".") {
			if got = got.FieldByName(name); !got.IsValid() {
				t.Fatalf("%s: no field %s", b.key, b.field)
			}
		}
		if got.IsZero() {
			t.Errorf("%s does not set %s", b.key, b.field)
		}
		got.SetZero()
		if !reflect.ValueOf(o).IsZero() {
			t.Errorf("%s sets more than %s: %+v", b.key, b.field, o)
		}
	}
}

// The reference page in the tree is the one that the table gives.
func TestReferencePage(t *testing.T) {
	want, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := Doc(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("docs/config.md is not up to date; run go generate ./internal/config")
	}
	for kind, tab := range allTables() {
		for i := range tab.keys {
			k := &tab.keys[i]
			later := kind == "broker" && k.Status == NotBuilt
			if strings.Contains(got.String(), "| `"+k.Name+"` |") == later {
				t.Errorf("%s key %s on the page: %v", kind, k.Name, !later)
			}
		}
	}
}

func TestExplain(t *testing.T) {
	var b strings.Builder
	if ok, _ := Explain(&b, "min.insync.replicas"); !ok || strings.Count(b.String(), "min.insync.replicas (") != 2 {
		t.Errorf("%s", b.String())
	}
	if ok, near := Explain(&b, "retention.mss"); ok || near != "retention.ms" {
		t.Errorf("%v %s", ok, near)
	}
}

func TestNearest(t *testing.T) {
	for in, want := range map[string]string{"nmu.partitions": "num.partitions", "log.dris": "log.dirs", "x": "", "completely.different.name": ""} {
		if got := brokerTable.nearest(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	if d := distance("abc", "acb", 9); d != 1 {
		t.Errorf("swap costs %d", d)
	}
	if !slices.ContainsFunc(brokerTable.keys, func(k Key) bool { return k.Name == "kalda.cluster" }) {
		t.Error("our keys are missing")
	}
}
