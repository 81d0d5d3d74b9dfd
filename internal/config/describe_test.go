package config

import (
	"fmt"
	"strings"
	"testing"
)

func show(e Entry) string {
	val := func(v *string) string {
		if v == nil {
			return "null"
		}
		return *v
	}
	s := fmt.Sprintf("%s=%s %s source=%d", e.Name, val(e.Value), e.Type, e.Source)
	if e.ReadOnly {
		s += " read-only"
	}
	if e.Sensitive {
		s += " sensitive"
	}
	for _, x := range e.Synonyms {
		s += fmt.Sprintf(" [%s=%s %d]", x.Name, val(x.Value), x.Source)
	}
	return s
}

func one(t *testing.T, es []Entry) string {
	t.Helper()
	if len(es) != 1 {
		t.Fatalf("%d entries", len(es))
	}
	if es[0].Doc == "" {
		t.Error("no documentation")
	}
	return show(es[0])
}

func TestDescribe(t *testing.T) {
	c, _ := load(t, LoadOptions{File: "f.properties", FileBytes: []byte("log.retention.hours=2\nnum.io.threads=3\nnode.id=5\n")})
	d := Dynamic{Default: map[string]string{"log.retention.ms": "7", "kalda.flush.policy": "os"}, Broker: map[string]string{"log.retention.ms": "8"}}
	for _, x := range []struct {
		got  []Entry
		want string
	}{
		{c.DescribeTopic(nil, Dynamic{}, []string{"retention.ms"}),
			"retention.ms=7200000 long source=4 [log.retention.hours=2 4] [log.retention.hours=168 5]"},
		{c.DescribeTopic(map[string]string{"retention.ms": "9"}, d, []string{"retention.ms"}),
			"retention.ms=9 long source=1 [retention.ms=9 1] [log.retention.ms=8 2] [log.retention.ms=7 3] [log.retention.hours=2 4] [log.retention.hours=168 5]"},
		{c.DescribeTopic(nil, Dynamic{}, []string{"segment.bytes"}), "segment.bytes=1073741824 int source=5 [log.segment.bytes=1073741824 5]"},
		{c.DescribeTopic(nil, Dynamic{}, []string{"kalda.flush.policy"}), "kalda.flush.policy=null string source=5"},
		{c.DescribeTopic(nil, d, []string{"kalda.flush.policy"}), "kalda.flush.policy=os string source=3 [kalda.flush.policy=os 3]"},
		{c.DescribeTopic(nil, Dynamic{}, []string{"min.insync.replicas"}), "min.insync.replicas=null int source=5"},
		{c.DescribeBroker(d, []string{"log.retention.ms"}),
			"log.retention.ms=8 long source=2 [log.retention.ms=8 2] [log.retention.ms=7 3] [log.retention.hours=2 4] [log.retention.hours=168 5]"},
		{c.DescribeBroker(d, []string{"node.id"}), "node.id=5 int source=4 read-only [node.id=5 4] [node.id=1 5]"},
		{c.DescribeBroker(d, []string{"broker.id"}), "broker.id=5 int source=4 read-only [node.id=5 4] [node.id=1 5]"},
		{c.DescribeBroker(d, []string{"log.dirs"}), "log.dirs=kalda-data list source=5 read-only [log.dir=kalda-data 5]"},
		{c.DescribeBroker(d, []string{"advertised.listeners"}), "advertised.listeners=null list source=5 read-only"},
		{c.DescribeBroker(d, []string{"ssl.key.password"}), "ssl.key.password=null password source=5 read-only sensitive"},
		{c.DescribeBrokerDefault(d, []string{"log.retention.ms"}), "log.retention.ms=7 long source=3 [log.retention.ms=7 3]"},
		{c.DescribeGroup(nil, d, []string{"consumer.session.timeout.ms"}),
			"consumer.session.timeout.ms=45000 int source=5 [group.consumer.session.timeout.ms=45000 5]"},
	} {
		if got := one(t, x.got); got != x.want {
			t.Errorf("got  %s\nwant %s", got, x.want)
		}
	}
	has := func(es []Entry, name string) bool {
		for _, e := range es {
			if e.Name == name {
				return true
			}
		}
		return false
	}
	broker := c.DescribeBroker(d, nil)
	for name, want := range map[string]bool{"listeners": true, "log.dirs": true, "num.io.threads": true, "num.network.threads": false, "kalda.join": false, "ssl.key.password": false} {
		if has(broker, name) != want {
			t.Errorf("%s in the list: %v", name, !want)
		}
	}
	topic := c.DescribeTopic(map[string]string{"preallocate": "true"}, d, nil)
	if !has(topic, "preallocate") || has(topic, "remote.copy.lag.ms") {
		t.Error("keys without effect")
	}
	if es := c.DescribeBrokerDefault(d, nil); len(es) != 2 {
		t.Errorf("%d cluster-wide entries", len(es))
	}
	if es := c.DescribeTopic(nil, d, []string{"no.such.key"}); len(es) != 0 {
		t.Errorf("unknown key answered: %v", es)
	}
}

// Kafka's tools read the value as a number, whatever unit the operator wrote.
func TestDescribeIsCanonical(t *testing.T) {
	c, _ := load(t, LoadOptions{Set: []string{"log.retention.ms=7d"}})
	got := one(t, c.DescribeTopic(map[string]string{"segment.bytes": "1MiB"}, Dynamic{}, []string{"segment.bytes"}))
	if !strings.HasPrefix(got, "segment.bytes=1048576 ") {
		t.Error(got)
	}
	if got := one(t, c.DescribeTopic(nil, Dynamic{}, []string{"retention.ms"})); !strings.HasPrefix(got, "retention.ms=604800000 ") {
		t.Error(got)
	}
}

// A stored value that no longer parses is not in force and is not shown as if it were.
func TestDescribeBadStoredValue(t *testing.T) {
	c, _ := load(t, LoadOptions{})
	if got := one(t, c.DescribeTopic(map[string]string{"retention.ms": "soon"}, Dynamic{}, []string{"retention.ms"})); !strings.HasPrefix(got, "retention.ms=604800000 long source=5") {
		t.Error(got)
	}
}

// Defaults that follow the cluster are shown where nothing is set, and only there.
func TestWithDerived(t *testing.T) {
	c, _ := load(t, LoadOptions{})
	derived := map[string]string{"min.insync.replicas": "2", "kalda.flush.policy": "os", "retention.ms": "1", "ssl.key.password": "x"}
	for _, x := range []struct {
		got  []Entry
		want string
	}{
		{c.DescribeTopic(nil, Dynamic{}, []string{"min.insync.replicas"}), "min.insync.replicas=2 int source=5 [min.insync.replicas=2 5]"},
		{c.DescribeTopic(map[string]string{"kalda.flush.policy": "commit"}, Dynamic{}, []string{"kalda.flush.policy"}),
			"kalda.flush.policy=commit string source=1 [kalda.flush.policy=commit 1]"},
		{c.DescribeTopic(nil, Dynamic{}, []string{"retention.ms"}), "retention.ms=604800000 long source=5 [log.retention.hours=168 5]"},
		{c.DescribeBroker(Dynamic{}, []string{"ssl.key.password"}), "ssl.key.password=null password source=5 read-only sensitive"},
	} {
		if got := one(t, WithDerived(x.got, derived)); got != x.want {
			t.Errorf("got  %s\nwant %s", got, x.want)
		}
	}
}
