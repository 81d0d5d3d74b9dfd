package meta

import (
	"github.com/kalda-io/kalda/internal/model"
)

// Generation is the value of meta/generation: the cluster's identity.
type Generation struct {
	// ClusterID is the UUID that clients see as the cluster id, 22 characters of base64url.
	ClusterID string `json:"clusterId"`
	// Generation is another UUID that changes when metadata is restored from a backup, so
	// that brokers notice.
	Generation string `json:"generation"`
	// Format is the version of the key layout; at present 1.
	Format int `json:"format"`
}

// ControllerRecord is the value of controller.
type ControllerRecord struct {
	Broker model.BrokerID `json:"brokerId"`
	// Incarnation is the process life of the broker that campaigned.
	Incarnation string `json:"incarnation"`
	// Address is where the controller takes calls of other brokers; "" when all brokers
	// are in its process.
	Address string `json:"address,omitempty"`
	// Nonce tells this attempt to be elected from any other of the same process.
	Nonce string `json:"nonce"`
}

// Want is what a broker asks of the controller in its registration.
type Want string

// The wishes of a broker.
const (
	// WantStarting: logs are being opened; make no leader of me.
	WantStarting Want = "starting"
	// WantRunning: ready to lead and follow.
	WantRunning Want = "running"
	// WantDraining: about to stop; move leadership away.
	WantDraining Want = "draining"
)

// TailClass says how far the end of a log directory's logs can be trusted after a
// restart.
type TailClass string

// The classes of a directory's tail.
const (
	// TailClean: everything was flushed before the last stop.
	TailClean TailClass = "clean"
	// TailSameBoot: the process died but the kernel did not; nothing written was lost.
	TailSameBoot TailClass = "crash-same-boot"
	// TailSuspect: anything else; the tail may be lost.
	TailSuspect TailClass = "suspect"
)

// Registration is the value of brokers/reg/<id>, written by the broker itself.
type Registration struct {
	// Incarnation is a UUID of this process life; it is on disk before the key exists.
	Incarnation string `json:"incarnation"`
	// BootID is the kernel's boot id.
	BootID string `json:"bootId,omitempty"`
	// PreviousEpoch is the epoch of the former registration of the same logs, 0 if unknown.
	PreviousEpoch model.BrokerEpoch `json:"previousEpoch,omitempty"`
	// CarriedEpoch, if not 0, is the epoch to go on under: the lease was lost but neither
	// the process nor the controller's word changed.
	CarriedEpoch model.BrokerEpoch `json:"carriedEpoch,omitempty"`
	// Tails is the class of each log directory by directory id. Empty means that the process itself
	// never died, or has no logs yet: trusted.
	Tails     map[string]TailClass `json:"tails,omitempty"`
	Endpoints []Endpoint           `json:"endpoints"`
	Rack      string               `json:"rack,omitempty"`
	Want      Want                 `json:"want"`

	// Epoch is the broker epoch: CarriedEpoch, else the CreateRevision of the key. It is
	// not part of the value.
	Epoch model.BrokerEpoch `json:"-"`
}

// TailTrusted says whether the tail of the log directory survived the former life. For a
// directory that is not known ("") every directory must have survived.
func (r *Registration) TailTrusted(dir string) bool {
	if c, ok := r.Tails[dir]; ok && dir != "" {
		return c != TailSuspect
	}
	for _, c := range r.Tails {
		if c == TailSuspect {
			return false
		}
	}
	return true
}

// BrokerState is the value of brokers/state/<id>, the authority on whether a pair is live.
type BrokerState struct {
	Epoch       model.BrokerEpoch `json:"epoch"`
	Incarnation string            `json:"incarnation"`
	Status      BrokerStatus      `json:"status"`
	// Endpoints and Rack repeat the admitted registration, so that a broker whose lease
	// was lost for a moment stays reachable for clients.
	Endpoints []Endpoint `json:"endpoints"`
	Rack      string     `json:"rack,omitempty"`
	// OfflineDirs are the log directories whose data may not be trusted.
	OfflineDirs []string `json:"offlineDirs,omitempty"`
}

// Pair returns the life of broker id that the state speaks of.
func (s *BrokerState) Pair(id model.BrokerID) model.Pair {
	return model.Pair{ID: id, Epoch: s.Epoch}
}

// The states of a topic's keys.
const (
	// TopicCreating: the name is reserved, partitions are being written; not served.
	TopicCreating = "creating"
	// TopicLive: served.
	TopicLive = "live"
	// TopicDeleting: the name is gone, partitions are being removed; not served.
	TopicDeleting = "deleting"
)

// TopicNameRecord is the value of topics/name/<name>.
type TopicNameRecord struct {
	ID     model.TopicID `json:"id"`
	Status string        `json:"status"`
}

// TopicRecord is the value of topics/id/<id>.
type TopicRecord struct {
	Name              string `json:"name"`
	Partitions        int32  `json:"partitions"`
	ReplicationFactor int16  `json:"replicationFactor"`
	Status            string `json:"status"`
}

// TombstoneRecord is the value of topics/tomb/<id>.
type TombstoneRecord struct {
	Name       string `json:"name"`
	Partitions int32  `json:"partitions"`
	// DeletedMs is the calendar time of the deletion, milliseconds since 1970.
	DeletedMs int64 `json:"deletedMs"`
}

// ConfigRecord is the value of config/<kind>/<name>.
type ConfigRecord struct {
	Config map[string]string `json:"config"`
}

// ProducerIDRecord is the value of pid/next.
type ProducerIDRecord struct {
	// Next is the first producer id that was never given out.
	Next model.ProducerID `json:"next"`
}

// FeatureRecord is the value of features/<name>.
type FeatureRecord struct {
	Level int16 `json:"level"`
}

// OpCreateTopic is the Kind of an intent to create a topic in several transactions.
const OpCreateTopic = "create-topic"

// OpRecord is the value of ops/<id>: what the controller set out to do.
type OpRecord struct {
	Kind   string            `json:"kind"`
	ID     model.TopicID     `json:"id"`
	Topic  TopicRecord       `json:"topic"`
	Config map[string]string `json:"config,omitempty"`
}
