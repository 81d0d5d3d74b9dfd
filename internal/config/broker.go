package config

import (
	"maps"
	"slices"
	"time"
)

// EmbeddedMetadata is the value of kalda.metadata that keeps the ensemble in the process.
const EmbeddedMetadata = "embedded"

// Dynamic are the dynamic broker configs that concern one broker.
type Dynamic struct {
	// Default are the values for all brokers, Broker those of this one, which are stronger.
	Default, Broker map[string]string
}

func (d Dynamic) layers() []layer {
	return []layer{{FromDynamicBroker, d.Broker}, {FromDynamicDefault, d.Default}}
}

// BrokerOptions are the settings of a node, typed. Durations below 0 mean "no limit".
type BrokerOptions struct {
	// NodeID is node.id, at least 0.
	NodeID int32
	// Rack is broker.rack, "" if unset.
	Rack string
	// Listeners are the client listeners; at least one.
	Listeners []Listener
	// Advertised are the addresses for clients, by listener name a subset of Listeners;
	// empty if unset.
	Advertised []Listener
	// LogDirs are the data directories, at least one.
	LogDirs []string
	// Cluster is kalda.cluster.
	Cluster string
	// Metadata is kalda.metadata: "embedded" or an etcd:// address list with a prefix.
	Metadata string
	// HTTPListen is kalda.http.listen; "" for no HTTP.
	HTTPListen string

	// SocketSendBufferBytes and SocketReceiveBufferBytes; -1 leaves the size to the system.
	SocketSendBufferBytes, SocketReceiveBufferBytes int
	// SocketRequestMaxBytes bounds one request's frame, the length field left out.
	SocketRequestMaxBytes int
	// MaxConnections and MaxConnectionsPerIP bound the client connections.
	MaxConnections, MaxConnectionsPerIP int
	// MaxConnectionsPerIPOverrides are limits by address in netip's form.
	MaxConnectionsPerIPOverrides map[string]int
	// ConnectionsMaxIdle closes quiet connections; below 0 never.
	ConnectionsMaxIdle time.Duration
	// QueuedMaxRequestBytes bounds the requests in memory; -1 is the server's own bound.
	QueuedMaxRequestBytes int64

	// NumPartitions is the partition count of topics created without one.
	NumPartitions int32
	// DefaultReplicationFactor of topics created without one; 0 follows the cluster.
	DefaultReplicationFactor int16
	// AutoCreateTopics allows creation on first use.
	AutoCreateTopics bool
	// DeleteTopics allows deletion.
	DeleteTopics bool
	// FetchMaxBytes bounds one fetch answer.
	FetchMaxBytes int
	// FetchSessionSlots bounds the fetch sessions.
	FetchSessionSlots int
	// MaxRequestPartitions bounds the partitions of one DescribeTopicPartitions answer.
	MaxRequestPartitions int

	// RetentionCheckInterval is the time between looks for segments to delete.
	RetentionCheckInterval time.Duration
	// LogInitialTaskDelay is the time from the start to the first such work.
	LogInitialTaskDelay time.Duration
	// RecoveryThreads is the number of logs recovered at once per directory.
	RecoveryThreads int
	// FlushSchedulerInterval is the time between looks for logs that flush.ms is due for.
	FlushSchedulerInterval time.Duration
	// RecoveryPointInterval, StartOffsetInterval and HighWatermarkInterval are the times
	// between writes of the checkpoints.
	RecoveryPointInterval, StartOffsetInterval, HighWatermarkInterval time.Duration
	// ProducerIDExpiration forgets idle producers; ProducerIDCheckInterval looks for them.
	ProducerIDExpiration, ProducerIDCheckInterval time.Duration

	// Group are the settings of groups and their offsets.
	Group GroupOptions
}

// GroupOptions are the settings of consumer groups and of __consumer_offsets.
type GroupOptions struct {
	// MinSessionTimeout and MaxSessionTimeout bound what members ask for.
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// InitialRebalanceDelay is the wait of an empty group for further members.
	InitialRebalanceDelay time.Duration
	// MaxSize bounds the members of a group.
	MaxSize int
	// OffsetMetadataMaxBytes bounds the note stored with an offset.
	OffsetMetadataMaxBytes int
	// OffsetsRetention is how long offsets outlive their group's last member.
	OffsetsRetention time.Duration
	// OffsetsRetentionCheckInterval is the time between looks for expired offsets.
	OffsetsRetentionCheckInterval time.Duration
	// OffsetsTopicPartitions is the partition count of __consumer_offsets.
	OffsetsTopicPartitions int32
	// OffsetsTopicReplicationFactor of __consumer_offsets; 0 follows the cluster.
	OffsetsTopicReplicationFactor int16
	// OffsetsTopicSegmentBytes is its segment size.
	OffsetsTopicSegmentBytes int
	// OffsetsCommitTimeout bounds the wait of a commit for its replicas.
	OffsetsCommitTimeout time.Duration
	// OffsetsLoadBufferBytes is read at once while a partition of it is loaded.
	OffsetsLoadBufferBytes int
}

// binding ties a key to the field that carries it. A key is honoured through one of these
// or as a synonym of a key that has one.
type binding[T any] struct {
	key string
	// field is the field's path within T; a test looks for code that reads it.
	field string
	set   func(*T, Value)
}

func brokerBindings() []binding[BrokerOptions] {
	type o = BrokerOptions
	return []binding[o]{
		{"node.id", "NodeID", func(o *o, v Value) { o.NodeID = v.Int32() }},
		{"broker.rack", "Rack", func(o *o, v Value) { o.Rack = v.Text }},
		{"log.dirs", "LogDirs", func(o *o, v Value) { o.LogDirs = logDirs(v) }},
		{"kalda.cluster", "Cluster", func(o *o, v Value) { o.Cluster = v.Text }},
		{"kalda.metadata", "Metadata", func(o *o, v Value) { o.Metadata = v.Text }},
		{"kalda.http.listen", "HTTPListen", func(o *o, v Value) { o.HTTPListen = v.Text }},

		{"socket.send.buffer.bytes", "SocketSendBufferBytes", func(o *o, v Value) { o.SocketSendBufferBytes = v.Int() }},
		{"socket.receive.buffer.bytes", "SocketReceiveBufferBytes", func(o *o, v Value) { o.SocketReceiveBufferBytes = v.Int() }},
		{"socket.request.max.bytes", "SocketRequestMaxBytes", func(o *o, v Value) { o.SocketRequestMaxBytes = v.Int() }},
		{"max.connections", "MaxConnections", func(o *o, v Value) { o.MaxConnections = v.Int() }},
		{"max.connections.per.ip", "MaxConnectionsPerIP", func(o *o, v Value) { o.MaxConnectionsPerIP = v.Int() }},
		{"max.connections.per.ip.overrides", "MaxConnectionsPerIPOverrides", func(o *o, v Value) {
			o.MaxConnectionsPerIPOverrides, _ = parseIPLimits(v.Text)
		}},
		{"connections.max.idle.ms", "ConnectionsMaxIdle", func(o *o, v Value) { o.ConnectionsMaxIdle = v.Duration() }},
		{"queued.max.request.bytes", "QueuedMaxRequestBytes", func(o *o, v Value) { o.QueuedMaxRequestBytes = v.Int64() }},

		{"num.partitions", "NumPartitions", func(o *o, v Value) { o.NumPartitions = v.Int32() }},
		{"default.replication.factor", "DefaultReplicationFactor", func(o *o, v Value) { o.DefaultReplicationFactor = int16(v.Int64()) }},
		{"auto.create.topics.enable", "AutoCreateTopics", func(o *o, v Value) { o.AutoCreateTopics = v.Bool() }},
		{"delete.topic.enable", "DeleteTopics", func(o *o, v Value) { o.DeleteTopics = v.Bool() }},
		{"fetch.max.bytes", "FetchMaxBytes", func(o *o, v Value) { o.FetchMaxBytes = v.Int() }},
		{"max.incremental.fetch.session.cache.slots", "FetchSessionSlots", func(o *o, v Value) { o.FetchSessionSlots = v.Int() }},
		{"max.request.partition.size.limit", "MaxRequestPartitions", func(o *o, v Value) { o.MaxRequestPartitions = v.Int() }},

		{"log.retention.check.interval.ms", "RetentionCheckInterval", func(o *o, v Value) { o.RetentionCheckInterval = v.Duration() }},
		{"log.initial.task.delay.ms", "LogInitialTaskDelay", func(o *o, v Value) { o.LogInitialTaskDelay = v.Duration() }},
		{"num.recovery.threads.per.data.dir", "RecoveryThreads", func(o *o, v Value) { o.RecoveryThreads = v.Int() }},
		{"log.flush.scheduler.interval.ms", "FlushSchedulerInterval", func(o *o, v Value) { o.FlushSchedulerInterval = v.Duration() }},
		{"log.flush.offset.checkpoint.interval.ms", "RecoveryPointInterval", func(o *o, v Value) { o.RecoveryPointInterval = v.Duration() }},
		{"log.flush.start.offset.checkpoint.interval.ms", "StartOffsetInterval", func(o *o, v Value) { o.StartOffsetInterval = v.Duration() }},
		{"replica.high.watermark.checkpoint.interval.ms", "HighWatermarkInterval", func(o *o, v Value) { o.HighWatermarkInterval = v.Duration() }},
		{"producer.id.expiration.ms", "ProducerIDExpiration", func(o *o, v Value) { o.ProducerIDExpiration = v.Duration() }},
		{"producer.id.expiration.check.interval.ms", "ProducerIDCheckInterval", func(o *o, v Value) { o.ProducerIDCheckInterval = v.Duration() }},

		{"group.min.session.timeout.ms", "Group.MinSessionTimeout", func(o *o, v Value) { o.Group.MinSessionTimeout = v.Duration() }},
		{"group.max.session.timeout.ms", "Group.MaxSessionTimeout", func(o *o, v Value) { o.Group.MaxSessionTimeout = v.Duration() }},
		{"group.initial.rebalance.delay.ms", "Group.InitialRebalanceDelay", func(o *o, v Value) { o.Group.InitialRebalanceDelay = v.Duration() }},
		{"group.max.size", "Group.MaxSize", func(o *o, v Value) { o.Group.MaxSize = v.Int() }},
		{"offset.metadata.max.bytes", "Group.OffsetMetadataMaxBytes", func(o *o, v Value) { o.Group.OffsetMetadataMaxBytes = v.Int() }},
		{"offsets.retention.minutes", "Group.OffsetsRetention", func(o *o, v Value) { o.Group.OffsetsRetention = v.Duration() }},
		{"offsets.retention.check.interval.ms", "Group.OffsetsRetentionCheckInterval", func(o *o, v Value) { o.Group.OffsetsRetentionCheckInterval = v.Duration() }},
		{"offsets.topic.num.partitions", "Group.OffsetsTopicPartitions", func(o *o, v Value) { o.Group.OffsetsTopicPartitions = v.Int32() }},
		{"offsets.topic.replication.factor", "Group.OffsetsTopicReplicationFactor", func(o *o, v Value) { o.Group.OffsetsTopicReplicationFactor = int16(v.Int64()) }},
		{"offsets.topic.segment.bytes", "Group.OffsetsTopicSegmentBytes", func(o *o, v Value) { o.Group.OffsetsTopicSegmentBytes = v.Int() }},
		{"offsets.commit.timeout.ms", "Group.OffsetsCommitTimeout", func(o *o, v Value) { o.Group.OffsetsCommitTimeout = v.Duration() }},
		{"offsets.load.buffer.size", "Group.OffsetsLoadBufferBytes", func(o *o, v Value) { o.Group.OffsetsLoadBufferBytes = v.Int() }},
	}
}

// logDirs takes log.dirs; its synonym log.dir is one name even if it holds a comma in
// Kafka's own class, but Kafka splits it as well since 4.0.
func logDirs(v Value) []string { return v.List() }

// Broker returns the node's settings from the static sources.
func (c *Config) Broker() BrokerOptions {
	o, _ := c.BrokerDynamic(Dynamic{}) // static values were checked by Load
	return o
}

// BrokerDynamic returns the node's settings with the dynamic ones on top. A dynamic value
// that does not parse is an error, and the options are then those of the valid keys.
func (c *Config) BrokerDynamic(d Dynamic) (BrokerOptions, error) {
	o := BrokerOptions{Listeners: slices.Clone(c.listeners), Advertised: slices.Clone(c.advertised)}
	err := bind(c, brokerTable, brokerBindings(), &o, d.layers())
	return o, err
}

// bind fills o from the bindings; the last bad value is the error.
func bind[T any](c *Config, t *table, bs []binding[T], o *T, layers []layer) error {
	var failed error
	for _, b := range bs {
		all, err := c.candidates(t.byName[b.key], layers)
		if err != nil {
			failed = err
			all, _ = c.candidates(t.byName[b.key], nil)
		}
		b.set(o, all[0].Value)
	}
	return failed
}

// Set returns the names of the broker keys that a static source set, sorted.
func (c *Config) Set() []string { return slices.Sorted(maps.Keys(c.static)) }
