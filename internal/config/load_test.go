package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, o LoadOptions) (*Config, []Warning) {
	t.Helper()
	c, w, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return c, w
}

// The files that Kafka ships start a node, and each key without effect gives one warning.
func TestStockFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/server-*.properties")
	if len(files) < 6 {
		t.Fatalf("found %d stock files", len(files))
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			c, warnings := load(t, LoadOptions{File: f})
			o := c.Broker()
			if len(o.Listeners) != 1 || o.Listeners[0] != (Listener{Name: "PLAINTEXT", Port: 9092}) {
				t.Errorf("listeners %v", o.Listeners)
			}
			for _, a := range o.Advertised {
				if a.Name != "PLAINTEXT" {
					t.Errorf("advertised %v", a)
				}
			}
			top, err := c.Topic(nil, nil)
			if err != nil || top.Retention != 7*24*time.Hour {
				t.Errorf("retention %v, %v", top.Retention, err)
			}
			data, _ := os.ReadFile(f)
			for line := range strings.Lines(string(data)) {
				key, _, ok := strings.Cut(line, "=")
				if !ok || strings.HasPrefix(line, "#") {
					continue
				}
				n := 0
				for _, w := range warnings {
					if slices.Contains(w.Keys, key) {
						n++
					}
				}
				want := 0
				if brokerTable.byName[key].Status == Ignored {
					want = 1
				}
				if n != want {
					t.Errorf("%s: %d warnings, want %d", key, n, want)
				}
			}
		})
	}
}

func TestUnknownKeyNamesPlaceAndNearest(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"properties", "a.properties", "# x\nnum.partitions=3\n  log.retenton.ms=5\n",
			"a.properties:3:3: unknown key log.retenton.ms; did you mean log.retention.ms?"},
		{"yaml flat", "a.yaml", "num.partitions: 3\nlog.retention.mss: 5\n",
			"a.yaml:2:1: unknown key log.retention.mss; did you mean log.retention.ms?"},
		{"yaml nested", "a.yaml", "log:\n  retention:\n    horus: 5\n",
			"a.yaml:3:5: unknown key log.retention.horus; did you mean log.retention.hours?"},
		{"nothing near", "a.properties", "qwertyuiop=1", "a.properties:1:1: unknown key qwertyuiop"},
		{"topic key", "a.properties", "retention.ms=1",
			"a.properties:1:1: unknown key retention.ms: it is a key of topics, and a broker key stands for it in files; did you mean log.retention.ms?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Load(LoadOptions{File: c.file, FileBytes: []byte(c.text)})
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			var e *Error
			if !errors.As(err, &e) || e.At.Line == 0 {
				t.Errorf("no place in %#v", err)
			}
		})
	}
}

func TestStrength(t *testing.T) {
	file := []byte("num.partitions=1\nlog.retention.ms=1000\nmessage.max.bytes=1000\n")
	env := []string{"KAFKA_NUM_PARTITIONS=2", "KALDA_FLUSH_POLICY=commit", "PATH=/bin", "KAFKA_HEAP_OPTS=-Xmx1G", "KAFKA_PORT_9092_TCP_ADDR=x", "KALDA_BROKERS=a:1"}
	c, _ := load(t, LoadOptions{File: "f.properties", FileBytes: file, Env: env, Set: []string{"num.partitions=3", "num.partitions=4", "log.retention.hours=1"}})
	if n := c.Broker().NumPartitions; n != 4 {
		t.Errorf("num.partitions %d", n)
	}
	if s := c.Source("num.partitions").String(); s != "--set num.partitions" {
		t.Errorf("source %s", s)
	}
	if s := c.Source("message.max.bytes").String(); s != "f.properties:3:1" {
		t.Errorf("source %s", s)
	}
	top, _ := c.Topic(nil, nil)
	if top.FlushPolicy != "commit" {
		t.Errorf("flush policy %q", top.FlushPolicy)
	}
	// A stronger source wins even by a less exact synonym.
	if top.Retention != time.Hour {
		t.Errorf("retention %v", top.Retention)
	}
	// Within one source the exact one wins.
	c, _ = load(t, LoadOptions{Set: []string{"log.retention.ms=5", "log.retention.minutes=7", "log.retention.hours=9"}})
	if top, _ := c.Topic(nil, nil); top.Retention != 5*time.Millisecond {
		t.Errorf("retention %v", top.Retention)
	}
	// The dynamic layers beat the static ones, the topic beats them all.
	dyn := Dynamic{Default: map[string]string{"log.retention.ms": "10"}, Broker: map[string]string{"log.retention.ms": "20"}}
	if got := show(c.DescribeBroker(dyn, []string{"log.retention.ms"})[0]); !strings.HasPrefix(got, "log.retention.ms=20 ") {
		t.Error(got)
	}
	dyn = Dynamic{Default: map[string]string{"producer.id.expiration.ms": "10"}}
	if o, err := c.BrokerDynamic(dyn); err != nil || o.ProducerIDExpiration != 10*time.Millisecond {
		t.Errorf("%v %v", o.ProducerIDExpiration, err)
	}
	dyn.Broker = map[string]string{"producer.id.expiration.ms": "20"}
	if o, err := c.BrokerDynamic(dyn); err != nil || o.ProducerIDExpiration != 20*time.Millisecond {
		t.Errorf("%v %v", o.ProducerIDExpiration, err)
	}
	top, err := c.Topic(map[string]string{"retention.ms": "3"}, map[string]string{"log.retention.ms": "4", "log.segment.bytes": "2097152"})
	if err != nil || top.Retention != 3*time.Millisecond || top.SegmentBytes != 2<<20 {
		t.Errorf("%v %v %v", top.Retention, top.SegmentBytes, err)
	}
	if top, _ := c.Topic(nil, map[string]string{"log.retention.ms": "4"}); top.Retention != 4*time.Millisecond {
		t.Errorf("dynamic retention %v", top.Retention)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"authorizer.class.name=x.Y", "authorizer.class.name is refused"},
		{"super.users=User:a", "super.users is refused"},
		{"sasl.enabled.mechanisms=PLAIN", "sasl.enabled.mechanisms is refused"},
		{"ssl.keystore.location=/k", "ssl.keystore.location is refused"},
		{"listener.name.client.ssl.keystore.location=/k", "listener.name.client.ssl.keystore.location is refused"},
		{"listener.name.client.scram-sha-256.sasl.jaas.config=x", "is refused"},
		{"create.topic.policy.class.name=x.Y", "is refused"},
		{"security.inter.broker.protocol=SSL", "is refused"},
		{"listeners=SSL://:9092", "listener SSL has protocol SSL, which is refused"},
		{"listeners=CLIENT://:9092\nlistener.security.protocol.map=CLIENT:SASL_SSL", "listener CLIENT has protocol SASL_SSL"},
		{"listeners=CLIENT://:9092", "listener CLIENT has no protocol"},
		{"listeners=CONTROLLER://:9093\ncontroller.listener.names=CONTROLLER", "listeners has no address for clients"},
		{"process.roles=controller", "a node that is not a broker is not available in this version"},
		{"kalda.join=a:1", "kalda.join is not available in this version"},
		{"kalda.ensemble.peers=1=a:2380", "kalda.ensemble.peers is not available in this version"},
		{"log.cleanup.policy=compress", "log.cleanup.policy"},
		{"log.message.timestamp.type=Now", "log.message.timestamp.type"},
		{"compression.type=lzma", "compression.type"},
		{"compression.lz4.level=18", "out of range: want 1 to 17"},
		{"node.id=1\nbroker.id=2", "broker.id=2 and node.id=1 differ"},
		{"advertised.listeners=OTHER://a:1", "advertised listener OTHER is not among listeners"},
		{"advertised.listeners=PLAINTEXT://0.0.0.0:1", "clients cannot connect to 0.0.0.0"},
		{"listeners=PLAINTEXT://:9092,PLAINTEXT://:9093", "listener name PLAINTEXT occurs twice"},
		{"listeners=foo", "is not a listener"},
		{"num.partitions=0", "out of range: want at least 1"},
		{"num.partitions=3x", "is not a number"},
		{"log.retention.hours=90m", "is not a whole number of h"},
		{"auto.create.topics.enable=yes", "is not a boolean"},
		{"group.min.session.timeout.ms=10\ngroup.max.session.timeout.ms=5", "is above group.max.session.timeout.ms"},
		{"log.dirs=,", "names no directory"},
		{"kalda.metadata=zookeeper", "want embedded or etcd://"},
		{"kalda.cluster=a/b", `holds '/'`},
		{"x\\u00zz=1", "is not \\uXXXX"},
	} {
		_, _, err := Load(LoadOptions{File: "f.properties", FileBytes: []byte(c.in)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.in, err, c.want)
		}
	}
}

// A refused key that leaves the feature off is no reason to stop.
func TestHarmlessSecurityKeys(t *testing.T) {
	for _, in := range []string{"ssl.client.auth=none", "authorizer.class.name=", "security.inter.broker.protocol=PLAINTEXT", "sasl.enabled.mechanisms=",
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL"} {
		load(t, LoadOptions{File: "f.properties", FileBytes: []byte(in)})
	}
}

// All mistakes are reported at once.
func TestAllMistakes(t *testing.T) {
	_, _, err := Load(LoadOptions{File: "f.properties", FileBytes: []byte("num.partitions=x\nfoo.bar=1\n"), Set: []string{"nokey"}})
	if n := strings.Count(err.Error(), "\n") + 1; n != 3 {
		t.Errorf("%d mistakes in %q, want 3", n, err)
	}
}

func TestYAML(t *testing.T) {
	c, _ := load(t, LoadOptions{File: "k.yaml", FileBytes: []byte(`
log:
  dirs: [/a, /b]
  retention: {hours: 2}
  segment.bytes: 512MiB
log.index.interval.bytes: 8KiB
listeners:
  - PLAINTEXT://:1
  - OTHER://127.0.0.1:2
listener.security.protocol.map: PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT
kalda: {flush: {policy: commit}}
`)})
	o := c.Broker()
	top, _ := c.Topic(nil, nil)
	if !slices.Equal(o.LogDirs, []string{"/a", "/b"}) || len(o.Listeners) != 2 || o.Listeners[1].Addr() != "127.0.0.1:2" ||
		top.Retention != 2*time.Hour || top.SegmentBytes != 512<<20 || top.IndexIntervalBytes != 8192 || top.FlushPolicy != "commit" {
		t.Errorf("%+v %+v", o, top)
	}
	for _, c := range []struct{ in, want string }{
		{"a: [", "k.yaml:1:1"},
		{"- x", "want a map of keys, not a list"},
		{"num.partitions:", "num.partitions has no value"},
		{"num.partitions: 1\nnum: {partitions: 2}", "k.yaml:2:7: num.partitions occurs twice; the first is at k.yaml:1:1"},
		{"log.dirs: &a [x]\nlog.dir: *a", "an alias cannot be used here"},
		{"log.dirs: [[x]]", "not a plain value"},
		{"num.partitions: 1\n---\nnum.partitions: 2", "more than one document"},
	} {
		_, _, err := Load(LoadOptions{File: "k.yaml", FileBytes: []byte(c.in)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.in, err, c.want)
		}
	}
	load(t, LoadOptions{File: "k.yaml", FileBytes: []byte("# nothing\n")})
	load(t, LoadOptions{File: "k.yaml", FileBytes: []byte{}})
}

func TestProperties(t *testing.T) {
	got, errs := readProperties("f", []byte("a=1\r\n! c\n b : 2 \nc  3\nd\\=e=f\\\n   g\n\\u0041=\\u00e9\\t\nlast=\\"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var text []string
	for _, s := range got {
		text = append(text, s.key+"|"+s.value)
	}
	want := []string{"a|1", "b|2 ", "c|3", "d=e|fg", "A|é\t", "last|"}
	if !slices.Equal(text, want) {
		t.Errorf("%q, want %q", text, want)
	}
	if got[2].at.Line != 4 || got[1].at.Column != 2 || got[4].at.Line != 7 {
		t.Errorf("places %v", got)
	}
	_, w := load(t, LoadOptions{File: "f.properties", FileBytes: []byte("num.partitions=1\nnum.partitions=2\n")})
	if len(w) != 1 || !strings.Contains(w[0].String(), "f.properties:2:1: num.partitions occurs twice") {
		t.Errorf("warnings %v", w)
	}
}

func TestEnv(t *testing.T) {
	for name, want := range map[string]string{"KAFKA_LOG_RETENTION_MS": "log.retention.ms", "KALDA_HTTP_LISTEN": "kalda.http.listen",
		"KAFKA_A__B___C_D": "a_b-c.d"} {
		if got, ok := envKey(name); !ok || got != want {
			t.Errorf("%s: %s", name, got)
		}
		if got := EnvName(want); got != name {
			t.Errorf("%s: %s", want, got)
		}
	}
	_, _, err := Load(LoadOptions{Env: []string{"KAFKA_LOG_RETENTON_MS=1"}})
	if err == nil || err.Error() != "environment KAFKA_LOG_RETENTON_MS: unknown key log.retenton.ms; did you mean log.retention.ms?" {
		t.Error(err)
	}
	if _, w := load(t, LoadOptions{Env: []string{"KAFKA_PORT=tcp://10.0.0.1:9092"}}); len(w) > 0 {
		t.Errorf("a container platform's variable was taken for a key: %v", w)
	}
	if o, _ := load(t, LoadOptions{Env: []string{"KAFKA_BROKER_ID=7"}}); o.Broker().NodeID != 7 {
		t.Errorf("node id %d", o.Broker().NodeID)
	}
}
