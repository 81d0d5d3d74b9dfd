package config

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/kerr"
)

func TestTopicDefaults(t *testing.T) {
	c, _ := load(t, LoadOptions{})
	got, err := c.Topic(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := TopicOptions{
		CleanupPolicy: CleanupPolicy{Delete: true}, CompressionType: "producer", GzipLevel: -1, LZ4Level: 9, ZstdLevel: 3,
		MaxMessageBytes: 1048588, MaxDecompressedBytes: math.MaxInt32 - 8,
		FlushMessages: math.MaxInt64, FlushInterval: math.MaxInt64,
		Retention: 7 * 24 * time.Hour, RetentionBytes: -1,
		MinCleanableDirtyRatio: 0.5, MaxCompactionLag: math.MaxInt64, DeleteRetention: 24 * time.Hour,
		SegmentBytes: 1 << 30, SegmentAge: 7 * 24 * time.Hour, SegmentIndexBytes: 10 << 20, IndexIntervalBytes: 4096,
		TimestampType: "CreateTime", TimestampBeforeMax: math.MaxInt64, TimestampAfterMax: time.Hour,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestBrokerDefaults(t *testing.T) {
	c, w := load(t, LoadOptions{})
	o := c.Broker()
	if len(w) != 0 {
		t.Errorf("warnings %v", w)
	}
	if o.NodeID != 1 || len(o.LogDirs) != 1 || o.LogDirs[0] != "kalda-data" || o.Cluster != "kalda" || o.Metadata != "embedded" ||
		o.HTTPListen != ":8080" || o.DefaultReplicationFactor != 0 || o.Group.OffsetsTopicReplicationFactor != 0 || !o.AutoCreateTopics ||
		len(o.Listeners) != 1 || o.Listeners[0].String() != "PLAINTEXT://:9092" || o.Advertised != nil {
		t.Errorf("%+v", o)
	}
	if o.Group.OffsetsRetention != 7*24*time.Hour || o.Group.MinSessionTimeout != 6*time.Second {
		t.Errorf("%+v", o.Group)
	}
}

// Every topic key changes the options when it is set on the topic, and so does each of its
// synonyms when it is set in the file.
func TestEveryTopicKeyCounts(t *testing.T) {
	values := map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.25", "compression.type": "zstd", "kalda.flush.policy": "commit", "message.timestamp.type": "LogAppendTime",
		"compression.gzip.level": "8", "compression.lz4.level": "8", "compression.zstd.level": "8"}
	base, _ := load(t, LoadOptions{})
	unset, _ := base.Topic(nil, nil)
	for _, b := range topicBindings() {
		v := values[b.key]
		if v == "" {
			v = "4099"
		}
		if o, err := base.Topic(map[string]string{b.key: v}, nil); err != nil || o == unset {
			t.Errorf("%s=%s: no effect (%v)", b.key, v, err)
		}
		if o, err := base.Topic(nil, map[string]string{b.key: v}); topicTable.byName[b.key].Synonyms[0].Name != b.key && (err != nil || o != unset) {
			t.Errorf("%s is not a broker key but had an effect", b.key)
		}
		for _, s := range topicTable.byName[b.key].Synonyms {
			if len(topicTable.byName[b.key].Later) > 0 {
				continue // no other value is available
			}
			c, _, err := Load(LoadOptions{Set: []string{s.Name + "=" + v}})
			if err != nil {
				t.Errorf("%s=%s: %v", s.Name, v, err)
				continue
			}
			if o, _ := c.Topic(nil, nil); o == unset {
				t.Errorf("%s=%s: no effect", s.Name, v)
			}
		}
	}
}

func TestValidateTopic(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"retention.ms", "-1", ""},
		{"retention.ms", "7d", ""},
		{"retention.ms", "-2", "retention.ms: \"-2\" is out of range: want at least -1"},
		{"max.message.bytes", "2MiB", ""},
		{"max.message.bytes", "x", "max.message.bytes: \"x\" is not a number of bytes: want one like 1048576 or 1MiB"},
		{"cleanup.policy", "delete", ""},
		{"cleanup.policy", "compact", ""},
		{"cleanup.policy", "compact,delete", ""},
		{"cleanup.policy", "compress", "cleanup.policy: \"compress\" is not one of delete, compact"},
		{"cleanup.policy", "", "cleanup.policy: the value is empty"},
		{"compression.type", "producer", ""},
		{"compression.type", "gzip", ""},
		{"compression.type", "uncompressed", ""},
		{"compression.gzip.level", "-1", ""},
		{"compression.gzip.level", "0", "compression.gzip.level: \"0\" is out of range: want 1 to 9 or -1"},
		{"message.timestamp.type", "LogAppendTime", ""},
		{"remote.storage.enable", "true", "remote.storage.enable=true is not available in this version"},
		{"remote.storage.enable", "false", ""},
		{"unclean.leader.election.enable", "true", ""},
		{"leader.replication.throttled.replicas", "0:1,1:2", ""},
		{"leader.replication.throttled.replicas", "0", "leader.replication.throttled.replicas: \"0\" is not PARTITION:BROKER, nor is the value *"},
		{"retention.mss", "1", "unknown topic config retention.mss; did you mean retention.ms?"},
		{"qwertyuiop", "1", "unknown topic config qwertyuiop"},
	} {
		err := ValidateTopic(c.key, c.value)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s=%s: %v", c.key, c.value, err)
			}
			continue
		}
		if !errors.Is(err, kerr.InvalidConfig) || *kerr.Message(err) != c.want {
			t.Errorf("%s=%s: %v, want %q", c.key, c.value, err, c.want)
		}
	}
	if v, err := NormalizeTopic("cleanup.policy", "compact", true); v != "compact" || err != nil {
		t.Errorf("internal topic: %q %v", v, err)
	}
	if v, err := NormalizeTopic("retention.ms", "1h", false); v != "3600000" || err != nil {
		t.Errorf("%q %v", v, err)
	}
	if _, err := NormalizeGroup("consumer.session.timeout.ms", "45000"); !errors.Is(err, kerr.InvalidConfig) {
		t.Error(err)
	}
	c, _ := load(t, LoadOptions{})
	if o, _ := c.Topic(map[string]string{"retention.bytes": "0"}, nil); o.RetentionBytes != 1 {
		t.Errorf("retention.bytes=0 gives %d", o.RetentionBytes)
	}
	if o, err := c.Topic(map[string]string{"retention.ms": "x", "segment.bytes": "4096"}, nil); !errors.Is(err, kerr.InvalidConfig) || o.Retention != 7*24*time.Hour || o.SegmentBytes != 4096 {
		t.Errorf("%v %v", o, err)
	}
}

func TestValidateBrokerDynamic(t *testing.T) {
	for _, c := range []struct {
		key, value string
		perBroker  bool
		want       string
	}{
		{"log.retention.ms", "1h", false, ""},
		{"log.retention.ms", "1h", true, ""},
		{"log.retention.ms", "x", true, "is not a number"},
		{"kalda.flush.policy", "commit", false, ""},
		{"log.cleanup.policy", "compact", false, ""},
		{"log.cleaner.threads", "2", false, ""},
		{"log.cleaner.enable", "false", false, "cannot change while the broker runs"},
		{"num.partitions", "3", false, "cannot change while the broker runs"},
		{"log.retention.hours", "3", false, "cannot change while the broker runs"},
		{"num.io.threads", "3", false, "has no effect here"},
		{"sasl.enabled.mechanisms", "PLAIN", true, "not available in this version"},
		{"listener.name.x.ssl.keystore.location", "/k", true, "not available in this version"},
		{"kalda.join", "a:1", true, "not available in this version"},
		{"retention.ms", "3", false, "unknown broker config retention.ms"},
	} {
		err := ValidateBrokerDynamic(c.key, c.value, c.perBroker)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, kerr.InvalidConfig) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s=%s: %v, want %q", c.key, c.value, err, c.want)
		}
	}
}
