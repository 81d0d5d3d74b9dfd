// Package meta holds what the cluster knows of itself: the immutable Image that every
// broker works from, the keys and values that it is loaded from, and the Store seam
// behind which the ensemble sits.
//
//	Store ---- snapshot, then watch ----> State ----> Image -----> brokers
//	(etcd or Memory)                      decoded,    immutable,
//	                                      mutable     behind Publisher's atomic pointer
//
// Invariants:
//
//  1. An Image is what the ensemble held at its Revision: whole revisions, in order. It never
//     changes, and shares with its predecessor all that did not change.
//  2. A topic is in an Image only with its name, its record and all its partitions.
//  3. A value's unknown fields survive rewriting; a value of a later format is an error,
//     never half understood.
//  4. Nothing is deleted because it is missing here: a load that fails changes nothing.
//
// Publisher follows a cluster for brokers; the controller keeps a State of its own.
// Package ensemble implements Store on etcd, Memory implements it here, and both pass the
// suite in storetest.
package meta

import (
	"maps"
	"slices"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// Image is the cluster at one revision of the ensemble. It is immutable: whoever holds
// one may read it from any goroutine, forever. A new revision is a new Image that
// shares what did not change.
type Image struct {
	// Revision is the ensemble's revision that the image contains, whole.
	Revision int64
	// ClusterID is the cluster UUID of meta/generation, the wire's cluster id.
	ClusterID string
	// Controller is the elected controller's broker, NoBroker when there is none.
	Controller model.BrokerID
	// ControllerEpoch is the create revision of the controller key, 0 when there is none.
	ControllerEpoch int64
	// Brokers are the registered brokers by id, fenced ones included.
	Brokers map[model.BrokerID]*Broker
	// Topics are the live topics by name.
	Topics map[string]*Topic
	// TopicsByID are the same topics by id.
	TopicsByID map[model.TopicID]*Topic
	// Tombstones are the ids of deleted topics whose data brokers must remove.
	Tombstones map[model.TopicID]string
	// BrokerConfigs are the dynamic broker configs by resource name: "" is the
	// cluster-wide default, else the broker id in decimal.
	BrokerConfigs map[string]map[string]string
	// GroupConfigs are the dynamic configs of consumer groups by group id.
	GroupConfigs map[string]map[string]string
	// Features are the finalized feature levels by name.
	Features map[string]int16
}

// BrokerStatus is the controller's word on a broker.
type BrokerStatus string

// The states of a registered broker.
const (
	BrokerFenced   BrokerStatus = "fenced"
	BrokerActive   BrokerStatus = "active"
	BrokerDraining BrokerStatus = "draining"
)

// Endpoint is one advertised listener.
type Endpoint struct {
	// Name is the listener's name, for example PLAINTEXT.
	Name string `json:"name"`
	// Host and Port are what clients dial.
	Host string `json:"host"`
	Port int32  `json:"port"`
}

// Broker is one registered broker.
type Broker struct {
	ID          model.BrokerID
	Epoch       model.BrokerEpoch
	Incarnation string
	Status      BrokerStatus
	Rack        string
	Endpoints   []Endpoint
}

// Endpoint returns the broker's listener of that name.
func (b *Broker) Endpoint(name string) (Endpoint, bool) {
	for _, e := range b.Endpoints {
		if e.Name == name {
			return e, true
		}
	}
	return Endpoint{}, false
}

// Topic is one live topic.
type Topic struct {
	ID   model.TopicID
	Name string
	// Partitions are indexed by partition number; none is nil.
	Partitions []*PartitionState
	// Config holds the topic's own settings only; defaults come from package config.
	Config map[string]string
}

// PartitionState is the controller's word on one partition (one key of the ensemble).
type PartitionState struct {
	// PartitionEpoch grows by one with every write of this state.
	PartitionEpoch model.PartitionEpoch `json:"partitionEpoch"`
	LeaderEpoch    model.LeaderEpoch    `json:"leaderEpoch"`
	// Leader is a pair; ID NoBroker when leaderless. A broker leads only if the pair is
	// its own current registration.
	Leader model.Pair `json:"leader"`
	// ISR and ELR are pairs, in the order of Replicas.
	ISR []model.Pair `json:"isr"`
	ELR []model.Pair `json:"elr,omitempty"`
	// LastKnown are replicas whose tail is in doubt.
	LastKnown []model.BrokerID `json:"lk,omitempty"`
	// Replicas in order of preference; Adding and Removing while a reassignment runs.
	Replicas []model.BrokerID `json:"replicas"`
	Adding   []model.BrokerID `json:"adding,omitempty"`
	Removing []model.BrokerID `json:"removing,omitempty"`
	// MinISR is the effective min.insync.replicas; at least 1.
	MinISR int32 `json:"minIsr"`
	// FlushPolicy is the effective kalda.flush.policy: os or commit.
	FlushPolicy string `json:"flushPolicy"`
	// Recovering is set between a recovery election and its end.
	Recovering bool `json:"recovering,omitempty"`
	// LastUncleanEpoch is the leader epoch of the latest unclean election, 0 for none.
	LastUncleanEpoch model.LeaderEpoch `json:"lastUncleanEpoch,omitempty"`
	// ControllerEpoch is the controller that wrote this state.
	ControllerEpoch int64 `json:"controllerEpoch"`
	// Dirs are the log directory ids in the order of Replicas; "" is not yet assigned.
	Dirs []string `json:"dirs,omitempty"`
}

// EmptyImage is an image of nothing, for a broker that has not loaded one.
func EmptyImage() *Image {
	return &Image{
		Controller:    model.NoBroker,
		Brokers:       map[model.BrokerID]*Broker{},
		Topics:        map[string]*Topic{},
		TopicsByID:    map[model.TopicID]*Topic{},
		Tombstones:    map[model.TopicID]string{},
		BrokerConfigs: map[string]map[string]string{},
		GroupConfigs:  map[string]map[string]string{},
		Features:      map[string]int16{},
	}
}

// Partition finds a partition's state by topic name; nil when there is none.
func (im *Image) Partition(tp model.TopicPartition) *PartitionState {
	t := im.Topics[tp.Topic]
	if t == nil || tp.Partition < 0 || int(tp.Partition) >= len(t.Partitions) {
		return nil
	}
	return t.Partitions[tp.Partition]
}

// TopicNames returns the names of all live topics, sorted.
func (im *Image) TopicNames() []string { return slices.Sorted(maps.Keys(im.Topics)) }

// BrokerIDs returns the ids of all registered brokers, sorted.
func (im *Image) BrokerIDs() []model.BrokerID { return slices.Sorted(maps.Keys(im.Brokers)) }

// OffsetsTopic is the internal topic that holds the groups' state.
const OffsetsTopic = "__consumer_offsets"

// IsInternal says whether name is one that only kalda itself creates: the groups' topic,
// and those whose names Kafka keeps for transactions, share groups and its own quorum.
func IsInternal(name string) bool {
	switch name {
	case OffsetsTopic, "__transaction_state", "__share_group_state", "__cluster_metadata":
		return true
	}
	return false
}

// maxTopicName is the longest topic name: with its partition it must fit a file name
// in Kafka.
const maxTopicName = 249

// CheckTopicName returns INVALID_TOPIC_EXCEPTION with the reason if name cannot be a
// topic's: 1 to 249 of [a-zA-Z0-9._-], not "." nor "..".
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return kerr.With(kerr.InvalidTopicException, "a topic's name cannot be empty")
	case name == "." || name == "..":
		return kerr.With(kerr.InvalidTopicException, "a topic cannot be named %q", name)
	case len(name) > maxTopicName:
		return kerr.With(kerr.InvalidTopicException, "a topic's name has at most %d characters, this one %d", maxTopicName, len(name))
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return kerr.With(kerr.InvalidTopicException, "topic name %q: only letters, digits, '.', '_' and '-' are allowed", name)
		}
	}
	return nil
}
