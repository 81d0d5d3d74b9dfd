package meta

import (
	"strconv"
	"strings"

	"github.com/kalda-io/kalda/internal/model"
)

// Keys makes the ensemble's keys of one cluster. Every key starts with
// "/<root>/<cluster>/"; docs/format/ensemble-keys.md lists them. Elements that come from
// outside (names of topics, groups, clusters) are percent-encoded, so that no name can
// reach into another range. Ranges end in a slash.
type Keys struct {
	prefix string
}

// NewKeys returns the keys of a cluster. Root is the path under which an ensemble
// holds clusters ("" means kalda; slashes separate elements), cluster is kalda.cluster.
func NewKeys(root, cluster string) Keys {
	var b strings.Builder
	for e := range strings.SplitSeq(root, "/") {
		if e != "" {
			b.WriteString("/" + EncodeName(e))
		}
	}
	if b.Len() == 0 {
		b.WriteString("/kalda")
	}
	return Keys{prefix: b.String() + "/" + EncodeName(cluster) + "/"}
}

// Prefix is the range that holds the whole cluster.
func (k Keys) Prefix() string { return k.prefix }

// Generation is the cluster's identity, written once.
func (k Keys) Generation() string { return k.prefix + "meta/generation" }

// Controller is the elected controller; its CreateRevision is the controller epoch.
func (k Keys) Controller() string { return k.prefix + "controller" }

// Registration is a broker's own entry, under its lease.
func (k Keys) Registration(id model.BrokerID) string {
	return k.prefix + "brokers/reg/" + strconv.Itoa(int(id))
}

// BrokerState is the controller's word on a broker.
func (k Keys) BrokerState(id model.BrokerID) string {
	return k.prefix + "brokers/state/" + strconv.Itoa(int(id))
}

// TopicName maps a name to a topic id.
func (k Keys) TopicName(name string) string { return k.prefix + "topics/name/" + EncodeName(name) }

// Topic describes a topic by id.
func (k Keys) Topic(id model.TopicID) string { return k.prefix + "topics/id/" + id.String() }

// Tombstone records a deleted topic.
func (k Keys) Tombstone(id model.TopicID) string { return k.prefix + "topics/tomb/" + id.String() }

// Partition is one partition's state.
func (k Keys) Partition(p model.Partition) string {
	return k.prefix + "parts/" + p.Topic.String() + "/" + strconv.Itoa(int(p.Index))
}

// Config holds the dynamic configs of one resource.
func (k Keys) Config(kind ResourceKind, name string) string {
	return k.prefix + "config/" + kind.String() + "/" + EncodeName(name)
}

// ProducerIDs is the allocator of producer id blocks.
func (k Keys) ProducerIDs() string { return k.prefix + "pid/next" }

// Feature is one finalized feature level.
func (k Keys) Feature(name string) string { return k.prefix + "features/" + EncodeName(name) }

// Op is the intent of an operation that takes several transactions.
func (k Keys) Op(id string) string { return k.prefix + "ops/" + EncodeName(id) }

// String returns the name of the kind as keys spell it: topic, broker or group.
func (k ResourceKind) String() string {
	switch k {
	case ResourceTopic:
		return "topic"
	case ResourceBroker:
		return "broker"
	case ResourceGroup:
		return "group"
	}
	return "kind-" + strconv.Itoa(int(k))
}

const upperHex = "0123456789ABCDEF"

// emptyName stands for the empty name (the cluster-wide broker config), for a key must
// not end where its range begins. No encoded name contains '<'.
const emptyName = "<default>"

// EncodeName percent-encodes every byte that is not an ASCII letter, digit, '-', '.',
// '_' or '~'.
func EncodeName(name string) string {
	if name == "" {
		return emptyName
	}
	plain := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '-' || c == '.' || c == '_' || c == '~'
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}

// DecodeName undoes EncodeName; false when s is not something that EncodeName writes.
func DecodeName(s string) (string, bool) {
	if s == emptyName {
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	name := b.String()
	return name, name != "" && EncodeName(name) == s
}
