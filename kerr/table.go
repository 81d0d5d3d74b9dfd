package kerr

// The errors of the protocol, by code. The text says what happened; Hint, where there
// is one, says what to do.
var (
	// UnknownServerError is UNKNOWN_SERVER_ERROR (-1). A broker returns it for a failure that no
	// other code describes; its log has the cause.
	UnknownServerError = define(-1, "UNKNOWN_SERVER_ERROR", false,
		"the broker failed in an unexpected way", "look at the broker's log")
	// OffsetOutOfRange is OFFSET_OUT_OF_RANGE (1). Fetch returns it for an offset below the log
	// start or beyond the log end.
	OffsetOutOfRange = define(1, "OFFSET_OUT_OF_RANGE", false,
		"the offset is not in the partition's log", "start again from the earliest or the latest offset")
	// CorruptMessage is CORRUPT_MESSAGE (2). Produce returns it for a batch whose checksum or
	// lengths are wrong.
	CorruptMessage = define(2, "CORRUPT_MESSAGE", true,
		"a record batch is damaged", "send it again; if it stays, suspect the network or the client's memory")
	// UnknownTopicOrPartition is UNKNOWN_TOPIC_OR_PARTITION (3). Returned for a name that the
	// broker's metadata does not have, or a partition number beyond the topic's count.
	UnknownTopicOrPartition = define(3, "UNKNOWN_TOPIC_OR_PARTITION", true,
		"the topic or the partition does not exist", "check the name with 'kalda topic list'")
	// InvalidFetchSize is INVALID_FETCH_SIZE (4). Fetch returned it for a size that makes no
	// sense; Kafka no longer does.
	InvalidFetchSize = define(4, "INVALID_FETCH_SIZE", false,
		"the fetch size is not valid", "")
	// LeaderNotAvailable is LEADER_NOT_AVAILABLE (5). Metadata returns it while a partition is
	// being created or elected.
	LeaderNotAvailable = define(5, "LEADER_NOT_AVAILABLE", true,
		"the partition has no leader at the moment", "try again; 'kalda topic describe' shows the replicas")
	// NotLeaderOrFollower is NOT_LEADER_OR_FOLLOWER (6). Produce, Fetch and ListOffsets return
	// it on a broker that no longer leads the partition; newer Kafka calls it
	// NOT_LEADER_OR_FOLLOWER.
	NotLeaderOrFollower = define(6, "NOT_LEADER_OR_FOLLOWER", true,
		"this broker does not lead the partition", "ask for fresh metadata and send to the leader")
	// RequestTimedOut is REQUEST_TIMED_OUT (7). Returned when replicas, a coordinator or the
	// controller did not answer in the time that the request allows.
	RequestTimedOut = define(7, "REQUEST_TIMED_OUT", true,
		"the request was not finished in time", "the outcome is unknown; a retry is safe for idempotent producers")
	// BrokerNotAvailable is BROKER_NOT_AVAILABLE (8). Returned by admin requests that name a
	// broker that is not there.
	BrokerNotAvailable = define(8, "BROKER_NOT_AVAILABLE", true,
		"the broker is not available", "")
	// ReplicaNotAvailable is REPLICA_NOT_AVAILABLE (9). Returned to admin requests about a replica
	// that is missing or offline.
	ReplicaNotAvailable = define(9, "REPLICA_NOT_AVAILABLE", true,
		"the replica is not available on this broker", "")
	// MessageTooLarge is MESSAGE_TOO_LARGE (10). Produce returns it for a batch above
	// max.message.bytes of the topic.
	MessageTooLarge = define(10, "MESSAGE_TOO_LARGE", false,
		"the batch is larger than the topic accepts", "raise max.message.bytes of the topic or send smaller batches")
	// StaleControllerEpoch is STALE_CONTROLLER_EPOCH (11). Requests of an old controller get it;
	// only brokers see it.
	StaleControllerEpoch = define(11, "STALE_CONTROLLER_EPOCH", false,
		"the request comes from a controller that was replaced", "")
	// OffsetMetadataTooLarge is OFFSET_METADATA_TOO_LARGE (12). OffsetCommit returns it for a note
	// above offset.metadata.max.bytes.
	OffsetMetadataTooLarge = define(12, "OFFSET_METADATA_TOO_LARGE", false,
		"the note stored with the offset is too long", "shorten it or raise offset.metadata.max.bytes")
	// NetworkException is NETWORK_EXCEPTION (13). Clients make it up when a connection breaks
	// before the answer; brokers do not send it.
	NetworkException = define(13, "NETWORK_EXCEPTION", true,
		"the connection broke before the answer came", "")
	// CoordinatorLoadInProgress is COORDINATOR_LOAD_IN_PROGRESS (14). Returned while the
	// coordinator still reads its partition after it became leader.
	CoordinatorLoadInProgress = define(14, "COORDINATOR_LOAD_IN_PROGRESS", true,
		"the coordinator is still loading its state", "try again in a moment")
	// CoordinatorNotAvailable is COORDINATOR_NOT_AVAILABLE (15). FindCoordinator returns it while
	// the internal topic has no leader or does not exist yet.
	CoordinatorNotAvailable = define(15, "COORDINATOR_NOT_AVAILABLE", true,
		"the coordinator is not available", "try again; 'kalda cluster health' shows what is missing")
	// NotCoordinator is NOT_COORDINATOR (16). Returned by a broker that no longer hosts the group
	// or the transactional id.
	NotCoordinator = define(16, "NOT_COORDINATOR", true,
		"this broker does not coordinate the group or transaction", "look the coordinator up again")
	// InvalidTopicException is INVALID_TOPIC_EXCEPTION (17). Returned for names that are not
	// legal, and for writes to internal topics.
	InvalidTopicException = define(17, "INVALID_TOPIC_EXCEPTION", false,
		"the topic's name is not allowed", "use up to 249 letters, digits, '.', '_' and '-'")
	// RecordListTooLarge is RECORD_LIST_TOO_LARGE (18). Produce returns it when the records of one
	// request exceed the size of a segment.
	RecordListTooLarge = define(18, "RECORD_LIST_TOO_LARGE", false,
		"the records of one batch do not fit into a segment", "send smaller batches or raise segment.bytes")
	// NotEnoughReplicas is NOT_ENOUGH_REPLICAS (19). Produce with acks=all returns it, without
	// storing anything, when fewer than min.insync.replicas are in sync.
	NotEnoughReplicas = define(19, "NOT_ENOUGH_REPLICAS", true,
		"too few replicas are in sync to accept the write", "bring brokers back, or lower min.insync.replicas")
	// NotEnoughReplicasAfterAppend is NOT_ENOUGH_REPLICAS_AFTER_APPEND (20). Produce with acks=all
	// returns it when replicas fell out of sync while the stored records waited for them.
	NotEnoughReplicasAfterAppend = define(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true,
		"the records were stored, but too few replicas are in sync", "retry with idempotence, or records may be stored twice")
	// InvalidRequiredAcks is INVALID_REQUIRED_ACKS (21). Produce returns it for acks other than 0,
	// 1 and -1.
	InvalidRequiredAcks = define(21, "INVALID_REQUIRED_ACKS", false,
		"acks must be 0, 1 or all", "")
	// IllegalGeneration is ILLEGAL_GENERATION (22). Group requests return it when their generation
	// is not the group's present one.
	IllegalGeneration = define(22, "ILLEGAL_GENERATION", false,
		"the group has moved on to a newer generation", "join the group again")
	// InconsistentGroupProtocol is INCONSISTENT_GROUP_PROTOCOL (23). JoinGroup returns it when a
	// member's protocols have nothing in common with the group's.
	InconsistentGroupProtocol = define(23, "INCONSISTENT_GROUP_PROTOCOL", false,
		"no assignment protocol is shared by all members", "use the same assignors in every member of the group")
	// InvalidGroupID is INVALID_GROUP_ID (24). Returned for an empty or otherwise illegal group
	// id.
	InvalidGroupID = define(24, "INVALID_GROUP_ID", false,
		"the group id is not valid", "set group.id")
	// UnknownMemberID is UNKNOWN_MEMBER_ID (25). Group requests return it for a member that was
	// removed or never joined.
	UnknownMemberID = define(25, "UNKNOWN_MEMBER_ID", false,
		"the group does not know this member", "join again; the member may have been silent longer than session.timeout.ms")
	// InvalidSessionTimeout is INVALID_SESSION_TIMEOUT (26). JoinGroup returns it for a session
	// timeout outside the broker's bounds.
	InvalidSessionTimeout = define(26, "INVALID_SESSION_TIMEOUT", false,
		"the session timeout is outside the allowed range", "stay between group.min.session.timeout.ms and group.max.session.timeout.ms")
	// RebalanceInProgress is REBALANCE_IN_PROGRESS (27). Returned to members while their group is
	// assigning partitions anew.
	RebalanceInProgress = define(27, "REBALANCE_IN_PROGRESS", false,
		"the group is rebalancing", "join the group again")
	// InvalidCommitOffsetSize is INVALID_COMMIT_OFFSET_SIZE (28). OffsetCommit returns it when the
	// commit would exceed the size of one batch.
	InvalidCommitOffsetSize = define(28, "INVALID_COMMIT_OFFSET_SIZE", false,
		"the commit is too large for one batch", "commit fewer partitions at once")
	// TopicAuthorizationFailed is TOPIC_AUTHORIZATION_FAILED (29). Returned when a rule denies the
	// principal the operation on the topic.
	TopicAuthorizationFailed = define(29, "TOPIC_AUTHORIZATION_FAILED", false,
		"access to the topic is denied", "")
	// GroupAuthorizationFailed is GROUP_AUTHORIZATION_FAILED (30). Returned when a rule denies the
	// principal the operation on the group.
	GroupAuthorizationFailed = define(30, "GROUP_AUTHORIZATION_FAILED", false,
		"access to the group is denied", "")
	// ClusterAuthorizationFailed is CLUSTER_AUTHORIZATION_FAILED (31). Returned when a rule denies
	// the principal an operation on the cluster.
	ClusterAuthorizationFailed = define(31, "CLUSTER_AUTHORIZATION_FAILED", false,
		"the operation on the cluster is denied", "")
	// InvalidTimestamp is INVALID_TIMESTAMP (32). Produce returns it for a record whose time is
	// too far from the broker's clock.
	InvalidTimestamp = define(32, "INVALID_TIMESTAMP", false,
		"the record's timestamp is out of the allowed range", "check the producer's clock and the topic's message.timestamp.*.max.ms")
	// UnsupportedSaslMechanism is UNSUPPORTED_SASL_MECHANISM (33). SaslHandshake returns it for a
	// mechanism that the listener does not offer.
	UnsupportedSaslMechanism = define(33, "UNSUPPORTED_SASL_MECHANISM", false,
		"the login mechanism is not offered here", "")
	// IllegalSaslState is ILLEGAL_SASL_STATE (34). Returned when login requests come in the wrong
	// order or at the wrong time.
	IllegalSaslState = define(34, "ILLEGAL_SASL_STATE", false,
		"the login request came out of order", "")
	// UnsupportedVersion is UNSUPPORTED_VERSION (35). Returned for a version of a request that the
	// broker does not speak.
	UnsupportedVersion = define(35, "UNSUPPORTED_VERSION", false,
		"the broker does not speak this version of the request", "ask ApiVersions what it speaks")
	// TopicAlreadyExists is TOPIC_ALREADY_EXISTS (36). CreateTopics returns it for a name that is
	// taken.
	TopicAlreadyExists = define(36, "TOPIC_ALREADY_EXISTS", false,
		"the topic already exists", "")
	// InvalidPartitions is INVALID_PARTITIONS (37). CreateTopics and CreatePartitions return it
	// for a count that is not allowed, such as a smaller one.
	InvalidPartitions = define(37, "INVALID_PARTITIONS", false,
		"the number of partitions is not valid", "a topic can only grow")
	// InvalidReplicationFactor is INVALID_REPLICATION_FACTOR (38). Returned for a factor below 1
	// or above the number of brokers.
	InvalidReplicationFactor = define(38, "INVALID_REPLICATION_FACTOR", false,
		"the replication factor cannot be met", "leave the replication factor out or give 1: this version keeps one copy of each partition")
	// InvalidReplicaAssignment is INVALID_REPLICA_ASSIGNMENT (39). Returned for an assignment with
	// unknown brokers, doubles or unequal lengths.
	InvalidReplicaAssignment = define(39, "INVALID_REPLICA_ASSIGNMENT", false,
		"the replica assignment is not valid", "name existing brokers, each once, in every partition")
	// InvalidConfig is INVALID_CONFIG (40). Returned for an unknown config key or a value that is
	// out of range.
	InvalidConfig = define(40, "INVALID_CONFIG", false,
		"the configuration is not valid", "'kalda config doc KEY' tells what a key takes")
	// NotController is NOT_CONTROLLER (41). Admin requests get it on a broker that is not the
	// controller.
	NotController = define(41, "NOT_CONTROLLER", true,
		"this broker is not the controller", "send the request to the controller")
	// InvalidRequest is INVALID_REQUEST (42). Returned for a request that is well formed but
	// contradicts itself.
	InvalidRequest = define(42, "INVALID_REQUEST", false,
		"the request makes no sense", "")
	// UnsupportedForMessageFormat is UNSUPPORTED_FOR_MESSAGE_FORMAT (43). Returned for records in
	// a format that the broker does not store.
	UnsupportedForMessageFormat = define(43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false,
		"the record format is not supported here", "use a client that writes record format 2 (Kafka 0.11 or newer)")
	// PolicyViolation is POLICY_VIOLATION (44). Returned when an operator's policy forbids the
	// change.
	PolicyViolation = define(44, "POLICY_VIOLATION", false,
		"a policy of the cluster forbids the change", "")
	// OutOfOrderSequenceNumber is OUT_OF_ORDER_SEQUENCE_NUMBER (45). Produce returns it when a
	// batch of an idempotent producer does not follow the last one.
	OutOfOrderSequenceNumber = define(45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false,
		"the producer's sequence has a gap", "records before it may be lost; a producer must be restarted")
	// DuplicateSequenceNumber is DUPLICATE_SEQUENCE_NUMBER (46). Produce returns it for a batch
	// that was stored so long ago that its offset is forgotten.
	DuplicateSequenceNumber = define(46, "DUPLICATE_SEQUENCE_NUMBER", false,
		"the batch was stored already", "nothing is lost; its offset is no longer known")
	// InvalidProducerEpoch is INVALID_PRODUCER_EPOCH (47). Returned when a newer instance of the
	// producer has taken over.
	InvalidProducerEpoch = define(47, "INVALID_PRODUCER_EPOCH", false,
		"a newer producer with the same id is active", "")
	// InvalidTxnState is INVALID_TXN_STATE (48). Returned for a step that the transaction's state
	// does not allow.
	InvalidTxnState = define(48, "INVALID_TXN_STATE", false,
		"the transaction is not in a state that allows this", "")
	// InvalidProducerIDMapping is INVALID_PRODUCER_ID_MAPPING (49). Returned when the producer id
	// is not the one that the transactional id has.
	InvalidProducerIDMapping = define(49, "INVALID_PRODUCER_ID_MAPPING", false,
		"the producer id does not belong to the transactional id", "")
	// InvalidTransactionTimeout is INVALID_TRANSACTION_TIMEOUT (50). InitProducerID returns it for
	// a timeout above transaction.max.timeout.ms.
	InvalidTransactionTimeout = define(50, "INVALID_TRANSACTION_TIMEOUT", false,
		"the transaction timeout is too long", "stay within transaction.max.timeout.ms")
	// ConcurrentTransactions is CONCURRENT_TRANSACTIONS (51). Returned while the last transaction
	// of the same transactional id still ends.
	ConcurrentTransactions = define(51, "CONCURRENT_TRANSACTIONS", true,
		"the previous transaction is still being finished", "try again in a moment")
	// TransactionCoordinatorFenced is TRANSACTION_COORDINATOR_FENCED (52). Markers of a
	// coordinator that was replaced get it; only brokers see it.
	TransactionCoordinatorFenced = define(52, "TRANSACTION_COORDINATOR_FENCED", false,
		"the coordinator of the transaction was replaced", "")
	// TransactionalIDAuthorizationFailed is TRANSACTIONAL_ID_AUTHORIZATION_FAILED (53). Returned
	// when a rule denies the principal the transactional id.
	TransactionalIDAuthorizationFailed = define(53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false,
		"access to the transactional id is denied", "")
	// SecurityDisabled is SECURITY_DISABLED (54). Returned by requests about rules where no
	// authorizer runs.
	SecurityDisabled = define(54, "SECURITY_DISABLED", false,
		"this cluster has no access control", "")
	// OperationNotAttempted is OPERATION_NOT_ATTEMPTED (55). Returned for parts of a request that
	// were skipped because another part failed.
	OperationNotAttempted = define(55, "OPERATION_NOT_ATTEMPTED", false,
		"not tried because another part of the request failed", "")
	// KafkaStorageError is KAFKA_STORAGE_ERROR (56). Returned when a disk failed under the
	// partition or has no space.
	KafkaStorageError = define(56, "KAFKA_STORAGE_ERROR", true,
		"the broker's disk failed or is full", "look at the broker's log and at 'kalda doctor'")
	// LogDirNotFound is LOG_DIR_NOT_FOUND (57). Returned for a directory that is not among
	// log.dirs.
	LogDirNotFound = define(57, "LOG_DIR_NOT_FOUND", false,
		"the broker has no such log directory", "")
	// SaslAuthenticationFailed is SASL_AUTHENTICATION_FAILED (58). SaslAuthenticate returns it for
	// wrong credentials.
	SaslAuthenticationFailed = define(58, "SASL_AUTHENTICATION_FAILED", false,
		"the login failed", "check user name, password and mechanism")
	// UnknownProducerID is UNKNOWN_PRODUCER_ID (59). Returned when the state of an idempotent
	// producer is gone, for example with its records.
	UnknownProducerID = define(59, "UNKNOWN_PRODUCER_ID", false,
		"the producer's state is no longer known", "the client takes a new producer id by itself")
	// ReassignmentInProgress is REASSIGNMENT_IN_PROGRESS (60). Returned for a change to a
	// partition whose replicas are being moved.
	ReassignmentInProgress = define(60, "REASSIGNMENT_IN_PROGRESS", false,
		"the partition's replicas are being moved", "wait for the move or cancel it")
	// DelegationTokenAuthDisabled is DELEGATION_TOKEN_AUTH_DISABLED (61). Returned by token
	// requests where delegation tokens are off.
	DelegationTokenAuthDisabled = define(61, "DELEGATION_TOKEN_AUTH_DISABLED", false,
		"delegation tokens are switched off", "")
	// DelegationTokenNotFound is DELEGATION_TOKEN_NOT_FOUND (62). Returned for a token that does
	// not exist.
	DelegationTokenNotFound = define(62, "DELEGATION_TOKEN_NOT_FOUND", false,
		"the delegation token does not exist", "")
	// DelegationTokenOwnerMismatch is DELEGATION_TOKEN_OWNER_MISMATCH (63). Returned to a
	// principal that neither owns the token nor may renew it.
	DelegationTokenOwnerMismatch = define(63, "DELEGATION_TOKEN_OWNER_MISMATCH", false,
		"the delegation token belongs to somebody else", "")
	// DelegationTokenRequestNotAllowed is DELEGATION_TOKEN_REQUEST_NOT_ALLOWED (64). Returned for
	// token requests on a connection that cannot carry them.
	DelegationTokenRequestNotAllowed = define(64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false,
		"delegation tokens cannot be requested on this connection", "log in by SASL or TLS first, not by a token")
	// DelegationTokenAuthorizationFailed is DELEGATION_TOKEN_AUTHORIZATION_FAILED (65). Returned
	// when a rule denies the principal the token.
	DelegationTokenAuthorizationFailed = define(65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false,
		"access to the delegation token is denied", "")
	// DelegationTokenExpired is DELEGATION_TOKEN_EXPIRED (66). Returned for a token past its time.
	DelegationTokenExpired = define(66, "DELEGATION_TOKEN_EXPIRED", false,
		"the delegation token has expired", "")
	// InvalidPrincipalType is INVALID_PRINCIPAL_TYPE (67). Returned for an owner or renewer of a
	// kind that the broker does not know.
	InvalidPrincipalType = define(67, "INVALID_PRINCIPAL_TYPE", false,
		"the kind of principal is not supported", "")
	// NonEmptyGroup is NON_EMPTY_GROUP (68). DeleteGroups and others return it while the group has
	// members.
	NonEmptyGroup = define(68, "NON_EMPTY_GROUP", false,
		"the group still has members", "stop its consumers first")
	// GroupIDNotFound is GROUP_ID_NOT_FOUND (69). Returned for a group that does not exist.
	GroupIDNotFound = define(69, "GROUP_ID_NOT_FOUND", false,
		"the group does not exist", "check the name with 'kalda group list'")
	// FetchSessionIDNotFound is FETCH_SESSION_ID_NOT_FOUND (70). Fetch returns it when the broker
	// has dropped the session to make room.
	FetchSessionIDNotFound = define(70, "FETCH_SESSION_ID_NOT_FOUND", true,
		"the fetch session is gone", "the client starts a new one by itself")
	// InvalidFetchSessionEpoch is INVALID_FETCH_SESSION_EPOCH (71). Fetch returns it when requests
	// of one session came out of order.
	InvalidFetchSessionEpoch = define(71, "INVALID_FETCH_SESSION_EPOCH", true,
		"the fetch session is at another epoch", "the client starts a new one by itself")
	// ListenerNotFound is LISTENER_NOT_FOUND (72). Metadata returns it when the leader has no
	// listener of the name that the client used.
	ListenerNotFound = define(72, "LISTENER_NOT_FOUND", true,
		"the leader has no listener of this name", "give every broker the same listener names")
	// TopicDeletionDisabled is TOPIC_DELETION_DISABLED (73). DeleteTopics returns it where
	// delete.topic.enable is false.
	TopicDeletionDisabled = define(73, "TOPIC_DELETION_DISABLED", false,
		"deleting topics is switched off", "set delete.topic.enable=true")
	// FencedLeaderEpoch is FENCED_LEADER_EPOCH (74). Returned when the client's leader epoch is
	// older than the broker's.
	FencedLeaderEpoch = define(74, "FENCED_LEADER_EPOCH", true,
		"the client's leader epoch is out of date", "ask for fresh metadata")
	// UnknownLeaderEpoch is UNKNOWN_LEADER_EPOCH (75). Returned when the client knows a newer
	// leader epoch than the broker.
	UnknownLeaderEpoch = define(75, "UNKNOWN_LEADER_EPOCH", true,
		"the broker does not know this leader epoch yet", "try again; the broker is catching up")
	// UnsupportedCompressionType is UNSUPPORTED_COMPRESSION_TYPE (76). Returned when the client's
	// version cannot read the codec of the records.
	UnsupportedCompressionType = define(76, "UNSUPPORTED_COMPRESSION_TYPE", false,
		"the client cannot read this compression codec", "update the client or use another codec")
	// StaleBrokerEpoch is STALE_BROKER_EPOCH (77). Brokers get it for a request of a former life;
	// clients do not see it.
	StaleBrokerEpoch = define(77, "STALE_BROKER_EPOCH", false,
		"the broker was registered anew since", "")
	// OffsetNotAvailable is OFFSET_NOT_AVAILABLE (78). ListOffsets returns it on a new leader
	// until its high watermark is certain.
	OffsetNotAvailable = define(78, "OFFSET_NOT_AVAILABLE", true,
		"the offset is not known yet", "try again in a moment")
	// MemberIDRequired is MEMBER_ID_REQUIRED (79). JoinGroup returns it together with the member
	// id to join with.
	MemberIDRequired = define(79, "MEMBER_ID_REQUIRED", false,
		"join again with the member id in this answer", "")
	// PreferredLeaderNotAvailable is PREFERRED_LEADER_NOT_AVAILABLE (80). ElectLeaders returns it
	// when the preferred replica is not in sync.
	PreferredLeaderNotAvailable = define(80, "PREFERRED_LEADER_NOT_AVAILABLE", true,
		"the preferred leader is not available", "")
	// GroupMaxSizeReached is GROUP_MAX_SIZE_REACHED (81). JoinGroup returns it when the group has
	// group.max.size members.
	GroupMaxSizeReached = define(81, "GROUP_MAX_SIZE_REACHED", false,
		"the group has as many members as it may", "")
	// FencedInstanceID is FENCED_INSTANCE_ID (82). Returned to a static member when another one
	// took its group.instance.id.
	FencedInstanceID = define(82, "FENCED_INSTANCE_ID", false,
		"another member uses the same group.instance.id", "give every static member an id of its own")
	// EligibleLeadersNotAvailable is ELIGIBLE_LEADERS_NOT_AVAILABLE (83). ElectLeaders returns it
	// when no replica may lead.
	EligibleLeadersNotAvailable = define(83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true,
		"no replica may lead the partition", "bring a replica of the ISR back")
	// ElectionNotNeeded is ELECTION_NOT_NEEDED (84). ElectLeaders returns it when the partition is
	// led as asked already.
	ElectionNotNeeded = define(84, "ELECTION_NOT_NEEDED", true,
		"the partition needs no election", "")
	// NoReassignmentInProgress is NO_REASSIGNMENT_IN_PROGRESS (85). Returned when there is no move
	// of replicas to cancel.
	NoReassignmentInProgress = define(85, "NO_REASSIGNMENT_IN_PROGRESS", false,
		"no replicas are being moved", "")
	// GroupSubscribedToTopic is GROUP_SUBSCRIBED_TO_TOPIC (86). OffsetDelete returns it for a
	// topic that the group reads.
	GroupSubscribedToTopic = define(86, "GROUP_SUBSCRIBED_TO_TOPIC", false,
		"the group still reads the topic", "stop its consumers of this topic first")
	// InvalidRecord is INVALID_RECORD (87). Produce returns it for a batch that holds a record the
	// broker may not store.
	InvalidRecord = define(87, "INVALID_RECORD", false,
		"a record is not valid", "")
	// UnstableOffsetCommit is UNSTABLE_OFFSET_COMMIT (88). OffsetFetch returns it while a
	// transaction that commits the offset is open.
	UnstableOffsetCommit = define(88, "UNSTABLE_OFFSET_COMMIT", true,
		"an open transaction may still change the offset", "try again when it has ended")
	// ThrottlingQuotaExceeded is THROTTLING_QUOTA_EXCEEDED (89). Returned when a quota on changes
	// of topics is used up.
	ThrottlingQuotaExceeded = define(89, "THROTTLING_QUOTA_EXCEEDED", true,
		"a quota is used up", "wait for the time in the answer")
	// ProducerFenced is PRODUCER_FENCED (90). Returned when a newer producer with the same
	// transactional id is active.
	ProducerFenced = define(90, "PRODUCER_FENCED", false,
		"the producer was fenced by a newer one", "stop it; another instance has taken over")
	// ResourceNotFound is RESOURCE_NOT_FOUND (91). Returned for a resource, such as a user, that
	// does not exist.
	ResourceNotFound = define(91, "RESOURCE_NOT_FOUND", false,
		"the resource does not exist", "")
	// DuplicateResource is DUPLICATE_RESOURCE (92). Returned for a resource that is there already
	// or occurs twice in a request.
	DuplicateResource = define(92, "DUPLICATE_RESOURCE", false,
		"the resource exists already or was named twice", "")
	// UnacceptableCredential is UNACCEPTABLE_CREDENTIAL (93). Returned for credentials below the
	// required strength.
	UnacceptableCredential = define(93, "UNACCEPTABLE_CREDENTIAL", false,
		"the credential does not meet the requirements", "")
	// InconsistentVoterSet is INCONSISTENT_VOTER_SET (94). Quorum members get it when they
	// disagree about the voters.
	InconsistentVoterSet = define(94, "INCONSISTENT_VOTER_SET", false,
		"the sets of voters differ", "")
	// InvalidUpdateVersion is INVALID_UPDATE_VERSION (95). UpdateFeatures returns it for a level
	// that cannot be reached from the present one.
	InvalidUpdateVersion = define(95, "INVALID_UPDATE_VERSION", false,
		"the feature cannot go to this level", "")
	// FeatureUpdateFailed is FEATURE_UPDATE_FAILED (96). UpdateFeatures returns it when the change
	// could not be stored.
	FeatureUpdateFailed = define(96, "FEATURE_UPDATE_FAILED", false,
		"the feature could not be changed", "")
	// PrincipalDeserializationFailure is PRINCIPAL_DESERIALIZATION_FAILURE (97). Returned when a
	// forwarded request names a principal that cannot be read.
	PrincipalDeserializationFailure = define(97, "PRINCIPAL_DESERIALIZATION_FAILURE", false,
		"the forwarded principal cannot be read", "")
	// SnapshotNotFound is SNAPSHOT_NOT_FOUND (98). Returned for a snapshot of metadata that does
	// not exist.
	SnapshotNotFound = define(98, "SNAPSHOT_NOT_FOUND", false,
		"the snapshot does not exist", "")
	// PositionOutOfRange is POSITION_OUT_OF_RANGE (99). Returned for a position beyond the end of
	// a snapshot.
	PositionOutOfRange = define(99, "POSITION_OUT_OF_RANGE", false,
		"the position is not in the snapshot", "")
	// UnknownTopicID is UNKNOWN_TOPIC_ID (100). Returned for a topic id that the broker does not
	// know, perhaps not yet.
	UnknownTopicID = define(100, "UNKNOWN_TOPIC_ID", true,
		"no topic has this id", "ask for fresh metadata; the topic may have been deleted and created again")
	// DuplicateBrokerRegistration is DUPLICATE_BROKER_REGISTRATION (101). A broker gets it when
	// another one is registered with its id.
	DuplicateBrokerRegistration = define(101, "DUPLICATE_BROKER_REGISTRATION", false,
		"another broker has the same id", "give every broker a node.id of its own")
	// BrokerIDNotRegistered is BROKER_ID_NOT_REGISTERED (102). Returned for a broker id that is
	// not registered.
	BrokerIDNotRegistered = define(102, "BROKER_ID_NOT_REGISTERED", false,
		"no broker with this id is registered", "")
	// InconsistentTopicID is INCONSISTENT_TOPIC_ID (103). Fetch returns it when the topic's id is
	// not the one of its log.
	InconsistentTopicID = define(103, "INCONSISTENT_TOPIC_ID", true,
		"the topic's id differs from the one stored", "ask for fresh metadata")
	// InconsistentClusterID is INCONSISTENT_CLUSTER_ID (104). Returned when a request names
	// another cluster than the broker's.
	InconsistentClusterID = define(104, "INCONSISTENT_CLUSTER_ID", false,
		"the request is meant for another cluster", "check the bootstrap addresses")
	// TransactionalIDNotFound is TRANSACTIONAL_ID_NOT_FOUND (105). Returned for a transactional id
	// that has no state.
	TransactionalIDNotFound = define(105, "TRANSACTIONAL_ID_NOT_FOUND", false,
		"the transactional id is not known", "")
	// FetchSessionTopicIDError is FETCH_SESSION_TOPIC_ID_ERROR (106). Fetch returns it when a
	// session changes between names and ids.
	FetchSessionTopicIDError = define(106, "FETCH_SESSION_TOPIC_ID_ERROR", true,
		"the fetch session mixes topic names and ids", "the client starts a new one by itself")
	// IneligibleReplica is INELIGIBLE_REPLICA (107). Brokers get it for a replica that may not
	// join the ISR.
	IneligibleReplica = define(107, "INELIGIBLE_REPLICA", false,
		"the replica may not join the ISR", "")
	// NewLeaderElected is NEW_LEADER_ELECTED (108). Brokers get it when their change of the ISR
	// led to another leader.
	NewLeaderElected = define(108, "NEW_LEADER_ELECTED", false,
		"a new leader was elected", "")
	// OffsetMovedToTieredStorage is OFFSET_MOVED_TO_TIERED_STORAGE (109). Fetch returns it to a
	// follower whose offset is in the remote tier only.
	OffsetMovedToTieredStorage = define(109, "OFFSET_MOVED_TO_TIERED_STORAGE", false,
		"the offset is in the remote tier only", "")
	// FencedMemberEpoch is FENCED_MEMBER_EPOCH (110). Returned to a member whose epoch is older
	// than the coordinator's.
	FencedMemberEpoch = define(110, "FENCED_MEMBER_EPOCH", false,
		"the member's epoch is out of date", "join the group again")
	// UnreleasedInstanceID is UNRELEASED_INSTANCE_ID (111). Returned when a static member's id is
	// still held by its former self.
	UnreleasedInstanceID = define(111, "UNRELEASED_INSTANCE_ID", false,
		"the group.instance.id is still in use", "wait until the former member has left or timed out")
	// UnsupportedAssignor is UNSUPPORTED_ASSIGNOR (112). Returned for a server-side assignor that
	// the broker does not have.
	UnsupportedAssignor = define(112, "UNSUPPORTED_ASSIGNOR", false,
		"the broker does not have this assignor", "")
	// StaleMemberEpoch is STALE_MEMBER_EPOCH (113). Returned for a member epoch that the group has
	// passed.
	StaleMemberEpoch = define(113, "STALE_MEMBER_EPOCH", false,
		"the member's epoch is no longer valid", "try again after the next heartbeat")
	// MismatchedEndpointType is MISMATCHED_ENDPOINT_TYPE (114). Returned when a request reached a
	// controller in place of a broker, or the reverse.
	MismatchedEndpointType = define(114, "MISMATCHED_ENDPOINT_TYPE", false,
		"the request was sent to the wrong kind of endpoint", "")
	// UnsupportedEndpointType is UNSUPPORTED_ENDPOINT_TYPE (115). Returned for a kind of endpoint
	// that the broker does not know.
	UnsupportedEndpointType = define(115, "UNSUPPORTED_ENDPOINT_TYPE", false,
		"the kind of endpoint is not supported", "")
	// UnknownControllerID is UNKNOWN_CONTROLLER_ID (116). Returned for a controller id that is not
	// known.
	UnknownControllerID = define(116, "UNKNOWN_CONTROLLER_ID", false,
		"no controller has this id", "")
	// UnknownSubscriptionID is UNKNOWN_SUBSCRIPTION_ID (117). Returned when a client pushes
	// metrics under an old subscription.
	UnknownSubscriptionID = define(117, "UNKNOWN_SUBSCRIPTION_ID", false,
		"the metrics subscription is out of date", "the client asks for a new one by itself")
	// TelemetryTooLarge is TELEMETRY_TOO_LARGE (118). Returned for pushed metrics above
	// telemetry.max.bytes.
	TelemetryTooLarge = define(118, "TELEMETRY_TOO_LARGE", false,
		"the pushed metrics are too large", "")
	// InvalidRegistration is INVALID_REGISTRATION (119). Returned for a registration that does not
	// fit the cluster.
	InvalidRegistration = define(119, "INVALID_REGISTRATION", false,
		"the registration is not valid", "")
	// TransactionAbortable is TRANSACTION_ABORTABLE (120). Returned when the transaction cannot go
	// on but the producer can.
	TransactionAbortable = define(120, "TRANSACTION_ABORTABLE", false,
		"the transaction must be aborted", "abort it and begin a new one")
	// InvalidRecordState is INVALID_RECORD_STATE (121). ShareAcknowledge returns it for a record
	// that is not delivered to this member.
	InvalidRecordState = define(121, "INVALID_RECORD_STATE", false,
		"the record is not in a state that allows this", "")
	// ShareSessionNotFound is SHARE_SESSION_NOT_FOUND (122). Returned when the broker has dropped
	// the share session.
	ShareSessionNotFound = define(122, "SHARE_SESSION_NOT_FOUND", true,
		"the share session is gone", "")
	// InvalidShareSessionEpoch is INVALID_SHARE_SESSION_EPOCH (123). Returned when requests of one
	// share session came out of order.
	InvalidShareSessionEpoch = define(123, "INVALID_SHARE_SESSION_EPOCH", true,
		"the share session is at another epoch", "")
	// FencedStateEpoch is FENCED_STATE_EPOCH (124). Brokers get it when their share state was
	// taken over.
	FencedStateEpoch = define(124, "FENCED_STATE_EPOCH", false,
		"the share state has a newer epoch", "")
	// InvalidVoterKey is INVALID_VOTER_KEY (125). Returned for a voter whose id and directory do
	// not match.
	InvalidVoterKey = define(125, "INVALID_VOTER_KEY", false,
		"the voter's key does not match", "")
	// DuplicateVoter is DUPLICATE_VOTER (126). Returned when the voter to add is there already.
	DuplicateVoter = define(126, "DUPLICATE_VOTER", false,
		"the voter exists already", "")
	// VoterNotFound is VOTER_NOT_FOUND (127). Returned when the voter to remove is not there.
	VoterNotFound = define(127, "VOTER_NOT_FOUND", false,
		"the voter does not exist", "")
	// InvalidRegularExpression is INVALID_REGULAR_EXPRESSION (128). Returned for a subscription
	// pattern that cannot be compiled.
	InvalidRegularExpression = define(128, "INVALID_REGULAR_EXPRESSION", false,
		"the pattern is not a valid regular expression", "use the RE2 syntax")
	// RebootstrapRequired is REBOOTSTRAP_REQUIRED (129). Returned when the client's view of the
	// cluster is so old that it must start again from its bootstrap addresses.
	RebootstrapRequired = define(129, "REBOOTSTRAP_REQUIRED", false,
		"the client must bootstrap again", "")
	// StreamsInvalidTopology is STREAMS_INVALID_TOPOLOGY (130). Returned for a streams topology
	// that cannot be used.
	StreamsInvalidTopology = define(130, "STREAMS_INVALID_TOPOLOGY", false,
		"the streams topology is not valid", "")
	// StreamsInvalidTopologyEpoch is STREAMS_INVALID_TOPOLOGY_EPOCH (131). Returned for a topology
	// older than the group's.
	StreamsInvalidTopologyEpoch = define(131, "STREAMS_INVALID_TOPOLOGY_EPOCH", false,
		"the streams topology is out of date", "")
	// StreamsTopologyFenced is STREAMS_TOPOLOGY_FENCED (132). Returned to a streams member whose
	// topology was replaced.
	StreamsTopologyFenced = define(132, "STREAMS_TOPOLOGY_FENCED", false,
		"a newer streams topology is in use", "")
	// ShareSessionLimitReached is SHARE_SESSION_LIMIT_REACHED (133). Returned when the broker
	// holds as many share sessions as it may.
	ShareSessionLimitReached = define(133, "SHARE_SESSION_LIMIT_REACHED", true,
		"the broker has no room for another share session", "")
	// GroupDeletionFailed is GROUP_DELETION_FAILED (134). DeleteGroups returns it, with a message,
	// for a group that could not be deleted.
	GroupDeletionFailed = define(134, "GROUP_DELETION_FAILED", false,
		"the group could not be deleted", "")
	// StreamsTopologyDescriptionUpdateFailed is STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED (135).
	// Returned when the plugin for topologies refused a description.
	StreamsTopologyDescriptionUpdateFailed = define(135, "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED", false,
		"the description of the streams topology was not taken", "")
	// ControllerIDNotRegistered is CONTROLLER_ID_NOT_REGISTERED (136). Returned for a controller
	// id that is not registered.
	ControllerIDNotRegistered = define(136, "CONTROLLER_ID_NOT_REGISTERED", false,
		"no controller with this id is registered", "")
)
