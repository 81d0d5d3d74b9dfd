package kerr

// The errors of the protocol, by code. The text says what happened; Hint, where there
// is one, says what to do.
var (
	// UnknownServerError is UNKNOWN_SERVER_ERROR (-1).
	UnknownServerError = define(-1, "UNKNOWN_SERVER_ERROR", false, "", "")
	// OffsetOutOfRange is OFFSET_OUT_OF_RANGE (1).
	OffsetOutOfRange = define(1, "OFFSET_OUT_OF_RANGE", false, "", "")
	// CorruptMessage is CORRUPT_MESSAGE (2).
	CorruptMessage = define(2, "CORRUPT_MESSAGE", true, "", "")
	// UnknownTopicOrPartition is UNKNOWN_TOPIC_OR_PARTITION (3).
	UnknownTopicOrPartition = define(3, "UNKNOWN_TOPIC_OR_PARTITION", true, "", "")
	// InvalidFetchSize is INVALID_FETCH_SIZE (4).
	InvalidFetchSize = define(4, "INVALID_FETCH_SIZE", false, "", "")
	// LeaderNotAvailable is LEADER_NOT_AVAILABLE (5).
	LeaderNotAvailable = define(5, "LEADER_NOT_AVAILABLE", true, "", "")
	// NotLeaderForPartition is NOT_LEADER_FOR_PARTITION (6).
	NotLeaderForPartition = define(6, "NOT_LEADER_FOR_PARTITION", true, "", "")
	// RequestTimedOut is REQUEST_TIMED_OUT (7).
	RequestTimedOut = define(7, "REQUEST_TIMED_OUT", true, "", "")
	// BrokerNotAvailable is BROKER_NOT_AVAILABLE (8).
	BrokerNotAvailable = define(8, "BROKER_NOT_AVAILABLE", true, "", "")
	// ReplicaNotAvailable is REPLICA_NOT_AVAILABLE (9).
	ReplicaNotAvailable = define(9, "REPLICA_NOT_AVAILABLE", true, "", "")
	// MessageTooLarge is MESSAGE_TOO_LARGE (10).
	MessageTooLarge = define(10, "MESSAGE_TOO_LARGE", false, "", "")
	// StaleControllerEpoch is STALE_CONTROLLER_EPOCH (11).
	StaleControllerEpoch = define(11, "STALE_CONTROLLER_EPOCH", false, "", "")
	// OffsetMetadataTooLarge is OFFSET_METADATA_TOO_LARGE (12).
	OffsetMetadataTooLarge = define(12, "OFFSET_METADATA_TOO_LARGE", false, "", "")
	// NetworkException is NETWORK_EXCEPTION (13).
	NetworkException = define(13, "NETWORK_EXCEPTION", true, "", "")
	// CoordinatorLoadInProgress is COORDINATOR_LOAD_IN_PROGRESS (14).
	CoordinatorLoadInProgress = define(14, "COORDINATOR_LOAD_IN_PROGRESS", true, "", "")
	// CoordinatorNotAvailable is COORDINATOR_NOT_AVAILABLE (15).
	CoordinatorNotAvailable = define(15, "COORDINATOR_NOT_AVAILABLE", true, "", "")
	// NotCoordinator is NOT_COORDINATOR (16).
	NotCoordinator = define(16, "NOT_COORDINATOR", true, "", "")
	// InvalidTopicException is INVALID_TOPIC_EXCEPTION (17).
	InvalidTopicException = define(17, "INVALID_TOPIC_EXCEPTION", false, "", "")
	// RecordListTooLarge is RECORD_LIST_TOO_LARGE (18).
	RecordListTooLarge = define(18, "RECORD_LIST_TOO_LARGE", false, "", "")
	// NotEnoughReplicas is NOT_ENOUGH_REPLICAS (19).
	NotEnoughReplicas = define(19, "NOT_ENOUGH_REPLICAS", true, "", "")
	// NotEnoughReplicasAfterAppend is NOT_ENOUGH_REPLICAS_AFTER_APPEND (20).
	NotEnoughReplicasAfterAppend = define(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true, "", "")
	// InvalidRequiredAcks is INVALID_REQUIRED_ACKS (21).
	InvalidRequiredAcks = define(21, "INVALID_REQUIRED_ACKS", false, "", "")
	// IllegalGeneration is ILLEGAL_GENERATION (22).
	IllegalGeneration = define(22, "ILLEGAL_GENERATION", false, "", "")
	// InconsistentGroupProtocol is INCONSISTENT_GROUP_PROTOCOL (23).
	InconsistentGroupProtocol = define(23, "INCONSISTENT_GROUP_PROTOCOL", false, "", "")
	// InvalidGroupID is INVALID_GROUP_ID (24).
	InvalidGroupID = define(24, "INVALID_GROUP_ID", false, "", "")
	// UnknownMemberID is UNKNOWN_MEMBER_ID (25).
	UnknownMemberID = define(25, "UNKNOWN_MEMBER_ID", false, "", "")
	// InvalidSessionTimeout is INVALID_SESSION_TIMEOUT (26).
	InvalidSessionTimeout = define(26, "INVALID_SESSION_TIMEOUT", false, "", "")
	// RebalanceInProgress is REBALANCE_IN_PROGRESS (27).
	RebalanceInProgress = define(27, "REBALANCE_IN_PROGRESS", false, "", "")
	// InvalidCommitOffsetSize is INVALID_COMMIT_OFFSET_SIZE (28).
	InvalidCommitOffsetSize = define(28, "INVALID_COMMIT_OFFSET_SIZE", false, "", "")
	// TopicAuthorizationFailed is TOPIC_AUTHORIZATION_FAILED (29).
	TopicAuthorizationFailed = define(29, "TOPIC_AUTHORIZATION_FAILED", false, "", "")
	// GroupAuthorizationFailed is GROUP_AUTHORIZATION_FAILED (30).
	GroupAuthorizationFailed = define(30, "GROUP_AUTHORIZATION_FAILED", false, "", "")
	// ClusterAuthorizationFailed is CLUSTER_AUTHORIZATION_FAILED (31).
	ClusterAuthorizationFailed = define(31, "CLUSTER_AUTHORIZATION_FAILED", false, "", "")
	// InvalidTimestamp is INVALID_TIMESTAMP (32).
	InvalidTimestamp = define(32, "INVALID_TIMESTAMP", false, "", "")
	// UnsupportedSaslMechanism is UNSUPPORTED_SASL_MECHANISM (33).
	UnsupportedSaslMechanism = define(33, "UNSUPPORTED_SASL_MECHANISM", false, "", "")
	// IllegalSaslState is ILLEGAL_SASL_STATE (34).
	IllegalSaslState = define(34, "ILLEGAL_SASL_STATE", false, "", "")
	// UnsupportedVersion is UNSUPPORTED_VERSION (35).
	UnsupportedVersion = define(35, "UNSUPPORTED_VERSION", false, "", "")
	// TopicAlreadyExists is TOPIC_ALREADY_EXISTS (36).
	TopicAlreadyExists = define(36, "TOPIC_ALREADY_EXISTS", false, "", "")
	// InvalidPartitions is INVALID_PARTITIONS (37).
	InvalidPartitions = define(37, "INVALID_PARTITIONS", false, "", "")
	// InvalidReplicationFactor is INVALID_REPLICATION_FACTOR (38).
	InvalidReplicationFactor = define(38, "INVALID_REPLICATION_FACTOR", false, "", "")
	// InvalidReplicaAssignment is INVALID_REPLICA_ASSIGNMENT (39).
	InvalidReplicaAssignment = define(39, "INVALID_REPLICA_ASSIGNMENT", false, "", "")
	// InvalidConfig is INVALID_CONFIG (40).
	InvalidConfig = define(40, "INVALID_CONFIG", false, "", "")
	// NotController is NOT_CONTROLLER (41).
	NotController = define(41, "NOT_CONTROLLER", true, "", "")
	// InvalidRequest is INVALID_REQUEST (42).
	InvalidRequest = define(42, "INVALID_REQUEST", false, "", "")
	// UnsupportedForMessageFormat is UNSUPPORTED_FOR_MESSAGE_FORMAT (43).
	UnsupportedForMessageFormat = define(43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false, "", "")
	// PolicyViolation is POLICY_VIOLATION (44).
	PolicyViolation = define(44, "POLICY_VIOLATION", false, "", "")
	// OutOfOrderSequenceNumber is OUT_OF_ORDER_SEQUENCE_NUMBER (45).
	OutOfOrderSequenceNumber = define(45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false, "", "")
	// DuplicateSequenceNumber is DUPLICATE_SEQUENCE_NUMBER (46).
	DuplicateSequenceNumber = define(46, "DUPLICATE_SEQUENCE_NUMBER", false, "", "")
	// InvalidProducerEpoch is INVALID_PRODUCER_EPOCH (47).
	InvalidProducerEpoch = define(47, "INVALID_PRODUCER_EPOCH", false, "", "")
	// InvalidTxnState is INVALID_TXN_STATE (48).
	InvalidTxnState = define(48, "INVALID_TXN_STATE", false, "", "")
	// InvalidProducerIDMapping is INVALID_PRODUCER_ID_MAPPING (49).
	InvalidProducerIDMapping = define(49, "INVALID_PRODUCER_ID_MAPPING", false, "", "")
	// InvalidTransactionTimeout is INVALID_TRANSACTION_TIMEOUT (50).
	InvalidTransactionTimeout = define(50, "INVALID_TRANSACTION_TIMEOUT", false, "", "")
	// ConcurrentTransactions is CONCURRENT_TRANSACTIONS (51).
	ConcurrentTransactions = define(51, "CONCURRENT_TRANSACTIONS", false, "", "")
	// TransactionCoordinatorFenced is TRANSACTION_COORDINATOR_FENCED (52).
	TransactionCoordinatorFenced = define(52, "TRANSACTION_COORDINATOR_FENCED", false, "", "")
	// TransactionalIDAuthorizationFailed is TRANSACTIONAL_ID_AUTHORIZATION_FAILED (53).
	TransactionalIDAuthorizationFailed = define(53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false, "", "")
	// SecurityDisabled is SECURITY_DISABLED (54).
	SecurityDisabled = define(54, "SECURITY_DISABLED", false, "", "")
	// OperationNotAttempted is OPERATION_NOT_ATTEMPTED (55).
	OperationNotAttempted = define(55, "OPERATION_NOT_ATTEMPTED", false, "", "")
	// KafkaStorageError is KAFKA_STORAGE_ERROR (56).
	KafkaStorageError = define(56, "KAFKA_STORAGE_ERROR", true, "", "")
	// LogDirNotFound is LOG_DIR_NOT_FOUND (57).
	LogDirNotFound = define(57, "LOG_DIR_NOT_FOUND", false, "", "")
	// SaslAuthenticationFailed is SASL_AUTHENTICATION_FAILED (58).
	SaslAuthenticationFailed = define(58, "SASL_AUTHENTICATION_FAILED", false, "", "")
	// UnknownProducerID is UNKNOWN_PRODUCER_ID (59).
	UnknownProducerID = define(59, "UNKNOWN_PRODUCER_ID", false, "", "")
	// ReassignmentInProgress is REASSIGNMENT_IN_PROGRESS (60).
	ReassignmentInProgress = define(60, "REASSIGNMENT_IN_PROGRESS", false, "", "")
	// DelegationTokenAuthDisabled is DELEGATION_TOKEN_AUTH_DISABLED (61).
	DelegationTokenAuthDisabled = define(61, "DELEGATION_TOKEN_AUTH_DISABLED", false, "", "")
	// DelegationTokenNotFound is DELEGATION_TOKEN_NOT_FOUND (62).
	DelegationTokenNotFound = define(62, "DELEGATION_TOKEN_NOT_FOUND", false, "", "")
	// DelegationTokenOwnerMismatch is DELEGATION_TOKEN_OWNER_MISMATCH (63).
	DelegationTokenOwnerMismatch = define(63, "DELEGATION_TOKEN_OWNER_MISMATCH", false, "", "")
	// DelegationTokenRequestNotAllowed is DELEGATION_TOKEN_REQUEST_NOT_ALLOWED (64).
	DelegationTokenRequestNotAllowed = define(64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false, "", "")
	// DelegationTokenAuthorizationFailed is DELEGATION_TOKEN_AUTHORIZATION_FAILED (65).
	DelegationTokenAuthorizationFailed = define(65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false, "", "")
	// DelegationTokenExpired is DELEGATION_TOKEN_EXPIRED (66).
	DelegationTokenExpired = define(66, "DELEGATION_TOKEN_EXPIRED", false, "", "")
	// InvalidPrincipalType is INVALID_PRINCIPAL_TYPE (67).
	InvalidPrincipalType = define(67, "INVALID_PRINCIPAL_TYPE", false, "", "")
	// NonEmptyGroup is NON_EMPTY_GROUP (68).
	NonEmptyGroup = define(68, "NON_EMPTY_GROUP", false, "", "")
	// GroupIDNotFound is GROUP_ID_NOT_FOUND (69).
	GroupIDNotFound = define(69, "GROUP_ID_NOT_FOUND", false, "", "")
	// FetchSessionIDNotFound is FETCH_SESSION_ID_NOT_FOUND (70).
	FetchSessionIDNotFound = define(70, "FETCH_SESSION_ID_NOT_FOUND", true, "", "")
	// InvalidFetchSessionEpoch is INVALID_FETCH_SESSION_EPOCH (71).
	InvalidFetchSessionEpoch = define(71, "INVALID_FETCH_SESSION_EPOCH", true, "", "")
	// ListenerNotFound is LISTENER_NOT_FOUND (72).
	ListenerNotFound = define(72, "LISTENER_NOT_FOUND", true, "", "")
	// TopicDeletionDisabled is TOPIC_DELETION_DISABLED (73).
	TopicDeletionDisabled = define(73, "TOPIC_DELETION_DISABLED", false, "", "")
	// FencedLeaderEpoch is FENCED_LEADER_EPOCH (74).
	FencedLeaderEpoch = define(74, "FENCED_LEADER_EPOCH", true, "", "")
	// UnknownLeaderEpoch is UNKNOWN_LEADER_EPOCH (75).
	UnknownLeaderEpoch = define(75, "UNKNOWN_LEADER_EPOCH", true, "", "")
	// UnsupportedCompressionType is UNSUPPORTED_COMPRESSION_TYPE (76).
	UnsupportedCompressionType = define(76, "UNSUPPORTED_COMPRESSION_TYPE", false, "", "")
	// StaleBrokerEpoch is STALE_BROKER_EPOCH (77).
	StaleBrokerEpoch = define(77, "STALE_BROKER_EPOCH", false, "", "")
	// OffsetNotAvailable is OFFSET_NOT_AVAILABLE (78).
	OffsetNotAvailable = define(78, "OFFSET_NOT_AVAILABLE", true, "", "")
	// MemberIDRequired is MEMBER_ID_REQUIRED (79).
	MemberIDRequired = define(79, "MEMBER_ID_REQUIRED", false, "", "")
	// PreferredLeaderNotAvailable is PREFERRED_LEADER_NOT_AVAILABLE (80).
	PreferredLeaderNotAvailable = define(80, "PREFERRED_LEADER_NOT_AVAILABLE", true, "", "")
	// GroupMaxSizeReached is GROUP_MAX_SIZE_REACHED (81).
	GroupMaxSizeReached = define(81, "GROUP_MAX_SIZE_REACHED", false, "", "")
	// FencedInstanceID is FENCED_INSTANCE_ID (82).
	FencedInstanceID = define(82, "FENCED_INSTANCE_ID", false, "", "")
	// EligibleLeadersNotAvailable is ELIGIBLE_LEADERS_NOT_AVAILABLE (83).
	EligibleLeadersNotAvailable = define(83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true, "", "")
	// ElectionNotNeeded is ELECTION_NOT_NEEDED (84).
	ElectionNotNeeded = define(84, "ELECTION_NOT_NEEDED", true, "", "")
	// NoReassignmentInProgress is NO_REASSIGNMENT_IN_PROGRESS (85).
	NoReassignmentInProgress = define(85, "NO_REASSIGNMENT_IN_PROGRESS", false, "", "")
	// GroupSubscribedToTopic is GROUP_SUBSCRIBED_TO_TOPIC (86).
	GroupSubscribedToTopic = define(86, "GROUP_SUBSCRIBED_TO_TOPIC", false, "", "")
	// InvalidRecord is INVALID_RECORD (87).
	InvalidRecord = define(87, "INVALID_RECORD", false, "", "")
	// UnstableOffsetCommit is UNSTABLE_OFFSET_COMMIT (88).
	UnstableOffsetCommit = define(88, "UNSTABLE_OFFSET_COMMIT", true, "", "")
	// ThrottlingQuotaExceeded is THROTTLING_QUOTA_EXCEEDED (89).
	ThrottlingQuotaExceeded = define(89, "THROTTLING_QUOTA_EXCEEDED", true, "", "")
	// ProducerFenced is PRODUCER_FENCED (90).
	ProducerFenced = define(90, "PRODUCER_FENCED", false, "", "")
	// ResourceNotFound is RESOURCE_NOT_FOUND (91).
	ResourceNotFound = define(91, "RESOURCE_NOT_FOUND", false, "", "")
	// DuplicateResource is DUPLICATE_RESOURCE (92).
	DuplicateResource = define(92, "DUPLICATE_RESOURCE", false, "", "")
	// UnacceptableCredential is UNACCEPTABLE_CREDENTIAL (93).
	UnacceptableCredential = define(93, "UNACCEPTABLE_CREDENTIAL", false, "", "")
	// InconsistentVoterSet is INCONSISTENT_VOTER_SET (94).
	InconsistentVoterSet = define(94, "INCONSISTENT_VOTER_SET", false, "", "")
	// InvalidUpdateVersion is INVALID_UPDATE_VERSION (95).
	InvalidUpdateVersion = define(95, "INVALID_UPDATE_VERSION", false, "", "")
	// FeatureUpdateFailed is FEATURE_UPDATE_FAILED (96).
	FeatureUpdateFailed = define(96, "FEATURE_UPDATE_FAILED", false, "", "")
	// PrincipalDeserializationFailure is PRINCIPAL_DESERIALIZATION_FAILURE (97).
	PrincipalDeserializationFailure = define(97, "PRINCIPAL_DESERIALIZATION_FAILURE", false, "", "")
	// SnapshotNotFound is SNAPSHOT_NOT_FOUND (98).
	SnapshotNotFound = define(98, "SNAPSHOT_NOT_FOUND", false, "", "")
	// PositionOutOfRange is POSITION_OUT_OF_RANGE (99).
	PositionOutOfRange = define(99, "POSITION_OUT_OF_RANGE", false, "", "")
	// UnknownTopicID is UNKNOWN_TOPIC_ID (100).
	UnknownTopicID = define(100, "UNKNOWN_TOPIC_ID", true, "", "")
	// DuplicateBrokerRegistration is DUPLICATE_BROKER_REGISTRATION (101).
	DuplicateBrokerRegistration = define(101, "DUPLICATE_BROKER_REGISTRATION", false, "", "")
	// BrokerIDNotRegistered is BROKER_ID_NOT_REGISTERED (102).
	BrokerIDNotRegistered = define(102, "BROKER_ID_NOT_REGISTERED", false, "", "")
	// InconsistentTopicID is INCONSISTENT_TOPIC_ID (103).
	InconsistentTopicID = define(103, "INCONSISTENT_TOPIC_ID", true, "", "")
	// InconsistentClusterID is INCONSISTENT_CLUSTER_ID (104).
	InconsistentClusterID = define(104, "INCONSISTENT_CLUSTER_ID", false, "", "")
	// TransactionalIDNotFound is TRANSACTIONAL_ID_NOT_FOUND (105).
	TransactionalIDNotFound = define(105, "TRANSACTIONAL_ID_NOT_FOUND", false, "", "")
	// FetchSessionTopicIDError is FETCH_SESSION_TOPIC_ID_ERROR (106).
	FetchSessionTopicIDError = define(106, "FETCH_SESSION_TOPIC_ID_ERROR", true, "", "")
	// IneligibleReplica is INELIGIBLE_REPLICA (107).
	IneligibleReplica = define(107, "INELIGIBLE_REPLICA", false, "", "")
	// NewLeaderElected is NEW_LEADER_ELECTED (108).
	NewLeaderElected = define(108, "NEW_LEADER_ELECTED", false, "", "")
	// OffsetMovedToTieredStorage is OFFSET_MOVED_TO_TIERED_STORAGE (109).
	OffsetMovedToTieredStorage = define(109, "OFFSET_MOVED_TO_TIERED_STORAGE", false, "", "")
	// FencedMemberEpoch is FENCED_MEMBER_EPOCH (110).
	FencedMemberEpoch = define(110, "FENCED_MEMBER_EPOCH", false, "", "")
	// UnreleasedInstanceID is UNRELEASED_INSTANCE_ID (111).
	UnreleasedInstanceID = define(111, "UNRELEASED_INSTANCE_ID", false, "", "")
	// UnsupportedAssignor is UNSUPPORTED_ASSIGNOR (112).
	UnsupportedAssignor = define(112, "UNSUPPORTED_ASSIGNOR", false, "", "")
	// StaleMemberEpoch is STALE_MEMBER_EPOCH (113).
	StaleMemberEpoch = define(113, "STALE_MEMBER_EPOCH", false, "", "")
	// MismatchedEndpointType is MISMATCHED_ENDPOINT_TYPE (114).
	MismatchedEndpointType = define(114, "MISMATCHED_ENDPOINT_TYPE", false, "", "")
	// UnsupportedEndpointType is UNSUPPORTED_ENDPOINT_TYPE (115).
	UnsupportedEndpointType = define(115, "UNSUPPORTED_ENDPOINT_TYPE", false, "", "")
	// UnknownControllerID is UNKNOWN_CONTROLLER_ID (116).
	UnknownControllerID = define(116, "UNKNOWN_CONTROLLER_ID", false, "", "")
	// UnknownSubscriptionID is UNKNOWN_SUBSCRIPTION_ID (117).
	UnknownSubscriptionID = define(117, "UNKNOWN_SUBSCRIPTION_ID", false, "", "")
	// TelemetryTooLarge is TELEMETRY_TOO_LARGE (118).
	TelemetryTooLarge = define(118, "TELEMETRY_TOO_LARGE", false, "", "")
	// InvalidRegistration is INVALID_REGISTRATION (119).
	InvalidRegistration = define(119, "INVALID_REGISTRATION", false, "", "")
	// TransactionAbortable is TRANSACTION_ABORTABLE (120).
	TransactionAbortable = define(120, "TRANSACTION_ABORTABLE", false, "", "")
	// InvalidRecordState is INVALID_RECORD_STATE (121).
	InvalidRecordState = define(121, "INVALID_RECORD_STATE", false, "", "")
	// ShareSessionNotFound is SHARE_SESSION_NOT_FOUND (122).
	ShareSessionNotFound = define(122, "SHARE_SESSION_NOT_FOUND", false, "", "")
	// InvalidShareSessionEpoch is INVALID_SHARE_SESSION_EPOCH (123).
	InvalidShareSessionEpoch = define(123, "INVALID_SHARE_SESSION_EPOCH", false, "", "")
	// FencedStateEpoch is FENCED_STATE_EPOCH (124).
	FencedStateEpoch = define(124, "FENCED_STATE_EPOCH", false, "", "")
	// InvalidVoterKey is INVALID_VOTER_KEY (125).
	InvalidVoterKey = define(125, "INVALID_VOTER_KEY", false, "", "")
	// DuplicateVoter is DUPLICATE_VOTER (126).
	DuplicateVoter = define(126, "DUPLICATE_VOTER", false, "", "")
	// VoterNotFound is VOTER_NOT_FOUND (127).
	VoterNotFound = define(127, "VOTER_NOT_FOUND", false, "", "")
	// InvalidRegularExpression is INVALID_REGULAR_EXPRESSION (128).
	InvalidRegularExpression = define(128, "INVALID_REGULAR_EXPRESSION", false, "", "")
	// RebootstrapRequired is REBOOTSTRAP_REQUIRED (129).
	RebootstrapRequired = define(129, "REBOOTSTRAP_REQUIRED", false, "", "")
	// StreamsInvalidTopology is STREAMS_INVALID_TOPOLOGY (130).
	StreamsInvalidTopology = define(130, "STREAMS_INVALID_TOPOLOGY", false, "", "")
	// StreamsInvalidTopologyEpoch is STREAMS_INVALID_TOPOLOGY_EPOCH (131).
	StreamsInvalidTopologyEpoch = define(131, "STREAMS_INVALID_TOPOLOGY_EPOCH", false, "", "")
	// StreamsTopologyFenced is STREAMS_TOPOLOGY_FENCED (132).
	StreamsTopologyFenced = define(132, "STREAMS_TOPOLOGY_FENCED", false, "", "")
	// ShareSessionLimitReached is SHARE_SESSION_LIMIT_REACHED (133).
	ShareSessionLimitReached = define(133, "SHARE_SESSION_LIMIT_REACHED", true, "", "")
	// GroupDeletionFailed is GROUP_DELETION_FAILED (134).
	GroupDeletionFailed = define(134, "GROUP_DELETION_FAILED", false, "", "")
	// StreamsTopologyDescriptionUpdateFailed is STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED (135).
	StreamsTopologyDescriptionUpdateFailed = define(135, "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED", false, "", "")
	// ControllerIDNotRegistered is CONTROLLER_ID_NOT_REGISTERED (136).
	ControllerIDNotRegistered = define(136, "CONTROLLER_ID_NOT_REGISTERED", false, "", "")
)

var table = []*Error{
	UnknownServerError,
	OffsetOutOfRange,
	CorruptMessage,
	UnknownTopicOrPartition,
	InvalidFetchSize,
	LeaderNotAvailable,
	NotLeaderForPartition,
	RequestTimedOut,
	BrokerNotAvailable,
	ReplicaNotAvailable,
	MessageTooLarge,
	StaleControllerEpoch,
	OffsetMetadataTooLarge,
	NetworkException,
	CoordinatorLoadInProgress,
	CoordinatorNotAvailable,
	NotCoordinator,
	InvalidTopicException,
	RecordListTooLarge,
	NotEnoughReplicas,
	NotEnoughReplicasAfterAppend,
	InvalidRequiredAcks,
	IllegalGeneration,
	InconsistentGroupProtocol,
	InvalidGroupID,
	UnknownMemberID,
	InvalidSessionTimeout,
	RebalanceInProgress,
	InvalidCommitOffsetSize,
	TopicAuthorizationFailed,
	GroupAuthorizationFailed,
	ClusterAuthorizationFailed,
	InvalidTimestamp,
	UnsupportedSaslMechanism,
	IllegalSaslState,
	UnsupportedVersion,
	TopicAlreadyExists,
	InvalidPartitions,
	InvalidReplicationFactor,
	InvalidReplicaAssignment,
	InvalidConfig,
	NotController,
	InvalidRequest,
	UnsupportedForMessageFormat,
	PolicyViolation,
	OutOfOrderSequenceNumber,
	DuplicateSequenceNumber,
	InvalidProducerEpoch,
	InvalidTxnState,
	InvalidProducerIDMapping,
	InvalidTransactionTimeout,
	ConcurrentTransactions,
	TransactionCoordinatorFenced,
	TransactionalIDAuthorizationFailed,
	SecurityDisabled,
	OperationNotAttempted,
	KafkaStorageError,
	LogDirNotFound,
	SaslAuthenticationFailed,
	UnknownProducerID,
	ReassignmentInProgress,
	DelegationTokenAuthDisabled,
	DelegationTokenNotFound,
	DelegationTokenOwnerMismatch,
	DelegationTokenRequestNotAllowed,
	DelegationTokenAuthorizationFailed,
	DelegationTokenExpired,
	InvalidPrincipalType,
	NonEmptyGroup,
	GroupIDNotFound,
	FetchSessionIDNotFound,
	InvalidFetchSessionEpoch,
	ListenerNotFound,
	TopicDeletionDisabled,
	FencedLeaderEpoch,
	UnknownLeaderEpoch,
	UnsupportedCompressionType,
	StaleBrokerEpoch,
	OffsetNotAvailable,
	MemberIDRequired,
	PreferredLeaderNotAvailable,
	GroupMaxSizeReached,
	FencedInstanceID,
	EligibleLeadersNotAvailable,
	ElectionNotNeeded,
	NoReassignmentInProgress,
	GroupSubscribedToTopic,
	InvalidRecord,
	UnstableOffsetCommit,
	ThrottlingQuotaExceeded,
	ProducerFenced,
	ResourceNotFound,
	DuplicateResource,
	UnacceptableCredential,
	InconsistentVoterSet,
	InvalidUpdateVersion,
	FeatureUpdateFailed,
	PrincipalDeserializationFailure,
	SnapshotNotFound,
	PositionOutOfRange,
	UnknownTopicID,
	DuplicateBrokerRegistration,
	BrokerIDNotRegistered,
	InconsistentTopicID,
	InconsistentClusterID,
	TransactionalIDNotFound,
	FetchSessionTopicIDError,
	IneligibleReplica,
	NewLeaderElected,
	OffsetMovedToTieredStorage,
	FencedMemberEpoch,
	UnreleasedInstanceID,
	UnsupportedAssignor,
	StaleMemberEpoch,
	MismatchedEndpointType,
	UnsupportedEndpointType,
	UnknownControllerID,
	UnknownSubscriptionID,
	TelemetryTooLarge,
	InvalidRegistration,
	TransactionAbortable,
	InvalidRecordState,
	ShareSessionNotFound,
	InvalidShareSessionEpoch,
	FencedStateEpoch,
	InvalidVoterKey,
	DuplicateVoter,
	VoterNotFound,
	InvalidRegularExpression,
	RebootstrapRequired,
	StreamsInvalidTopology,
	StreamsInvalidTopologyEpoch,
	StreamsTopologyFenced,
	ShareSessionLimitReached,
	GroupDeletionFailed,
	StreamsTopologyDescriptionUpdateFailed,
	ControllerIDNotRegistered,
}
