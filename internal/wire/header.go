package wire

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/kalda-io/kalda/kerr"
)

// Keys of the APIs that this package treats on their own.
const (
	// KeyProduce is Produce.
	KeyProduce int16 = 0
	// KeyFetch is Fetch.
	KeyFetch int16 = 1
	// KeyAPIVersions is ApiVersions, whose header has rules of its own.
	KeyAPIVersions int16 = 18
)

// never marks an API of which no version is flexible.
const never = -1

// flexibleFrom is, by API key, the first version with tagged fields and compact lengths
// (KIP-482). A test compares it with kmsg.
var flexibleFrom = [...]int16{
	0:  9,     // Produce
	1:  12,    // Fetch
	2:  6,     // ListOffsets
	3:  9,     // Metadata
	4:  4,     // LeaderAndISR
	5:  2,     // StopReplica
	6:  6,     // UpdateMetadata
	7:  3,     // ControlledShutdown
	8:  8,     // OffsetCommit
	9:  6,     // OffsetFetch
	10: 3,     // FindCoordinator
	11: 6,     // JoinGroup
	12: 4,     // Heartbeat
	13: 4,     // LeaveGroup
	14: 4,     // SyncGroup
	15: 5,     // DescribeGroups
	16: 3,     // ListGroups
	17: never, // SASLHandshake
	18: 3,     // ApiVersions
	19: 5,     // CreateTopics
	20: 4,     // DeleteTopics
	21: 2,     // DeleteRecords
	22: 2,     // InitProducerID
	23: 4,     // OffsetForLeaderEpoch
	24: 3,     // AddPartitionsToTxn
	25: 3,     // AddOffsetsToTxn
	26: 3,     // EndTxn
	27: 1,     // WriteTxnMarkers
	28: 3,     // TxnOffsetCommit
	29: 2,     // DescribeACLs
	30: 2,     // CreateACLs
	31: 2,     // DeleteACLs
	32: 4,     // DescribeConfigs
	33: 2,     // AlterConfigs
	34: 2,     // AlterReplicaLogDirs
	35: 2,     // DescribeLogDirs
	36: 2,     // SASLAuthenticate
	37: 2,     // CreatePartitions
	38: 2,     // CreateDelegationToken
	39: 2,     // RenewDelegationToken
	40: 2,     // ExpireDelegationToken
	41: 2,     // DescribeDelegationToken
	42: 2,     // DeleteGroups
	43: 2,     // ElectLeaders
	44: 1,     // IncrementalAlterConfigs
	45: 0,     // AlterPartitionAssignments
	46: 0,     // ListPartitionReassignments
	47: never, // OffsetDelete
	48: 1,     // DescribeClientQuotas
	49: 1,     // AlterClientQuotas
	50: 0,     // DescribeUserSCRAMCredentials
	51: 0,     // AlterUserSCRAMCredentials
	52: 0,     // Vote
	53: 1,     // BeginQuorumEpoch
	54: 1,     // EndQuorumEpoch
	55: 0,     // DescribeQuorum
	56: 0,     // AlterPartition
	57: 0,     // UpdateFeatures
	58: 0,     // Envelope
	59: 0,     // FetchSnapshot
	60: 0,     // DescribeCluster
	61: 0,     // DescribeProducers
	62: 0,     // BrokerRegistration
	63: 0,     // BrokerHeartbeat
	64: 0,     // UnregisterBroker
	65: 0,     // DescribeTransactions
	66: 0,     // ListTransactions
	67: 0,     // AllocateProducerIDs
	68: 0,     // ConsumerGroupHeartbeat
	69: 0,     // ConsumerGroupDescribe
	70: 0,     // ControllerRegistration
	71: 0,     // GetTelemetrySubscriptions
	72: 0,     // PushTelemetry
	73: 0,     // AssignReplicasToDirs
	74: 0,     // ListConfigResources
	75: 0,     // DescribeTopicPartitions
	76: 0,     // ShareGroupHeartbeat
	77: 0,     // ShareGroupDescribe
	78: 0,     // ShareFetch
	79: 0,     // ShareAcknowledge
	80: 0,     // AddRaftVoter
	81: 0,     // RemoveRaftVoter
	82: 0,     // UpdateRaftVoter
	83: 0,     // InitializeShareGroupState
	84: 0,     // ReadShareGroupState
	85: 0,     // WriteShareGroupState
	86: 0,     // DeleteShareGroupState
	87: 0,     // ReadShareGroupStateSummary
	88: 0,     // StreamsGroupHeartbeat
	89: 0,     // StreamsGroupDescribe
	90: 0,     // DescribeShareGroupOffsets
	91: 0,     // AlterShareGroupOffsets
	92: 0,     // DeleteShareGroupOffsets
	93: 0,     // StreamsGroupTopologyDescriptionUpdate
	94: 0,     // UnregisterController
}

// IsFlexible says whether a request of this key and version is flexible. false for
// unknown keys.
func IsFlexible(key, version int16) bool {
	if key < 0 || int(key) >= len(flexibleFrom) {
		return false
	}
	from := flexibleFrom[key]
	return from != never && version >= from
}

// Header is a request's header.
type Header struct {
	// Key and Version say what the body is.
	Key, Version int16
	// CorrelationID is echoed in the answer.
	CorrelationID int32
	// ClientID aliases the frame; nil is null.
	ClientID []byte
}

// ParseHeader takes the header off a request's frame (without its size). body aliases
// frame.
//
// An ApiVersions request is returned whatever its version: an unknown one must be
// answered with UNSUPPORTED_VERSION, and its body is not to be read.
//
// Errors, with as much of h as was read: UNSUPPORTED_VERSION for an unknown key or a
// negative version, INVALID_REQUEST for what cannot be parsed.
func ParseHeader(frame []byte) (h Header, body []byte, err error) {
	d := decoder{b: frame}
	h.Key, h.Version, h.CorrelationID = d.int16(), d.int16(), d.int32()
	if d.fail == "" && h.Key != KeyAPIVersions && (h.Key < 0 || int(h.Key) >= len(flexibleFrom) || h.Version < 0) {
		return h, nil, kerr.With(kerr.UnsupportedVersion, "unknown API key %d or version %d", h.Key, h.Version)
	}
	// The client id keeps the old form in flexible headers too.
	h.ClientID = d.nullableString(false)
	d.skipTags(IsFlexible(h.Key, h.Version))
	if d.fail != "" {
		return h, nil, kerr.With(kerr.InvalidRequest, "the header of a request (key %d, version %d) cannot be parsed: %s",
			h.Key, h.Version, d.fail)
	}
	return h, d.b, nil
}

// AppendRequestHeader appends room for the frame's size and a request's header. clientID
// nil is null. FinishFrame must follow when the body is there.
func AppendRequestHeader(dst []byte, key, version int16, correlationID int32, clientID []byte) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = appendInt16(dst, key)
	dst = appendInt16(dst, version)
	dst = appendInt32(dst, correlationID)
	dst = appendNullableString(dst, false, clientID)
	return appendNoTags(dst, IsFlexible(key, version))
}

// responseFlexible says whether the header of an answer has tagged fields. ApiVersions'
// never has: a client that asks for a version we do not know could not read it.
func responseFlexible(key, version int16) bool {
	return key != KeyAPIVersions && IsFlexible(key, version)
}

// ResponseHeaderLen is the length of what AppendResponseHeader appends, the size's four
// bytes included.
func ResponseHeaderLen(key, version int16) int {
	if responseFlexible(key, version) {
		return 9
	}
	return 8
}

// AppendResponseHeader appends room for the frame's size and the header of an answer.
// FinishFrame must follow when the body is there.
func AppendResponseHeader(dst []byte, key, version int16, correlationID int32) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = appendInt32(dst, correlationID)
	return appendNoTags(dst, responseFlexible(key, version))
}

// FinishFrame writes the size of frame, which begins with the four bytes for it and ends
// with the body; elsewhere is how many bytes of the body are not in it.
func FinishFrame(frame []byte, elsewhere int) {
	n := len(frame) - 4 + elsewhere
	if len(frame) < 4 || n > math.MaxInt32 {
		panic("wire: a frame of " + strconv.Itoa(len(frame)+elsewhere) + " bytes")
	}
	binary.BigEndian.PutUint32(frame, uint32(n))
}

// ParseResponseHeader takes the header off an answer's frame (without its size). key and
// version are the request's. Errors: INVALID_REQUEST.
func ParseResponseHeader(frame []byte, key, version int16) (correlationID int32, body []byte, err error) {
	d := decoder{b: frame}
	correlationID = d.int32()
	d.skipTags(responseFlexible(key, version))
	if d.fail != "" {
		return 0, nil, kerr.With(kerr.InvalidRequest, "the header of an answer (key %d, version %d) cannot be parsed: %s",
			key, version, d.fail)
	}
	return correlationID, d.b, nil
}
