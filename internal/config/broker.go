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

	// SocketRequestMaxBytes bounds one request's frame, the length field left out.
	SocketRequestMaxBytes int
	// MaxConnections and MaxConnectionsPerIP bound the client connections.
	MaxConnections, MaxConnectionsPerIP int
	// MaxConnectionsOverrides is MaxConnectionsPerIP of single addresses; see PerIP.
	MaxConnectionsOverrides string
	// ConnectionRate bounds the new connections per second.
	ConnectionRate int
	// ListenerMaxConnections and ListenerConnectionRate bound those of single listeners.
	ListenerMaxConnections, ListenerConnectionRate map[string]int
	// QueuedRequestBytes and QueuedResponseBytes bound the memory of requests and answers;
	// -1 leaves it to the node.
	QueuedRequestBytes, QueuedResponseBytes int64
	// ResponseMaxBytes bounds the unread answers of one connection.
	ResponseMaxBytes int
	// ResponseStall, FirstRequestTime and RequestStall are how long clients may take.
	ResponseStall, FirstRequestTime, RequestStall time.Duration
	// FirstRequestMaxBytes bounds a first request that names no API of ours.
	FirstRequestMaxBytes int
	// ConnectionsMaxIdle closes quiet connections; below 0 never.
	ConnectionsMaxIdle time.Duration

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
	// FetchSessionBytes bounds the memory of all fetch sessions.
	FetchSessionBytes int
	// MaxPartitions bounds the partitions of all topics.
	MaxPartitions int32
	// MaxProducerIDs bounds the producer ids that a log directory remembers.
	MaxProducerIDs int
	// MaxRequestPartitions bounds the partitions of one DescribeTopicPartitions answer.
	MaxRequestPartitions int

	// RetentionCheckInterval is the time between looks for segments to delete.
	RetentionCheckInterval time.Duration
	// ProducerIDExpiration forgets producers that are silent for that long.
	ProducerIDExpiration time.Duration

	// DiskSoft and DiskHard are the limits of free space of the log directories' volumes.
	DiskSoft, DiskHard FreeSpace
	// LostDirsAccept are ids of log directories whose loss is accepted.
	LostDirsAccept []string

	// Group are the settings of groups and their offsets.
	Group GroupOptions
	// Cleaner are the settings of log compaction.
	Cleaner CleanerOptions
	// ScrubBytesPerSecond bounds what is read of each log directory to look for damage, 0 is
	// none; ScrubInterval is the pause between two rounds.
	ScrubBytesPerSecond int64
	ScrubInterval       time.Duration
}

// CleanerOptions are the settings of log compaction on a broker.
type CleanerOptions struct {
	// Enabled lets compacted topics be compacted.
	Enabled bool
	// Threads is how many logs are compacted at once; 0 is none.
	Threads int
	// Backoff is the pause when there is nothing to compact.
	Backoff time.Duration
	// DedupeBytes is the memory for keys of all threads together, LoadFactor how full it
	// may get.
	DedupeBytes int64
	LoadFactor  float64
	// BufferBytes is the memory for reading and writing of all threads together.
	BufferBytes int
	// BytesPerSecond bounds what is read and written.
	BytesPerSecond float64
}

// GroupOptions are the settings of consumer groups and of __consumer_offsets.
type GroupOptions struct {
	// MinSessionTimeout and MaxSessionTimeout bound what members ask for.
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// InitialRebalanceDelay is the wait of an empty group for further members.
	InitialRebalanceDelay time.Duration
	// MaxSize bounds the members of a group.
	MaxSize int
	// MaxTotalBytes bounds the memory of all groups, MaxGroupBytes that of one group's
	// members, MaxMemberBytes what one member may bring.
	MaxTotalBytes                 int64
	MaxGroupBytes, MaxMemberBytes int
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
		{"log.dirs", "LogDirs", func(o *o, v Value) { o.LogDirs = v.List() }},
		{"kalda.cluster", "Cluster", func(o *o, v Value) { o.Cluster = v.Text }},
		{"kalda.metadata", "Metadata", func(o *o, v Value) { o.Metadata = v.Text }},
		{"kalda.http.listen", "HTTPListen", func(o *o, v Value) { o.HTTPListen = v.Text }},

		{"kalda.partitions.max", "MaxPartitions", func(o *o, v Value) { o.MaxPartitions = v.Int32() }},
		{"kalda.producer.ids.max", "MaxProducerIDs", func(o *o, v Value) { o.MaxProducerIDs = v.Int() }},
		{"kalda.fetch.session.max.bytes", "FetchSessionBytes", func(o *o, v Value) { o.FetchSessionBytes = v.Int() }},
		{"kalda.groups.max.bytes", "Group.MaxTotalBytes", func(o *o, v Value) { o.Group.MaxTotalBytes = v.Int64() }},
		{"kalda.group.max.bytes", "Group.MaxGroupBytes", func(o *o, v Value) { o.Group.MaxGroupBytes = v.Int() }},
		{"kalda.group.member.max.bytes", "Group.MaxMemberBytes", func(o *o, v Value) { o.Group.MaxMemberBytes = v.Int() }},

		{"socket.request.max.bytes", "SocketRequestMaxBytes", func(o *o, v Value) { o.SocketRequestMaxBytes = v.Int() }},
		{"max.connections", "MaxConnections", func(o *o, v Value) { o.MaxConnections = v.Int() }},
		{"max.connections.per.ip", "MaxConnectionsPerIP", func(o *o, v Value) { o.MaxConnectionsPerIP = v.Int() }},
		{"max.connections.per.ip.overrides", "MaxConnectionsOverrides", func(o *o, v Value) { o.MaxConnectionsOverrides = v.Text }},
		{"max.connection.creation.rate", "ConnectionRate", func(o *o, v Value) { o.ConnectionRate = v.Int() }},
		{"queued.max.request.bytes", "QueuedRequestBytes", func(o *o, v Value) { o.QueuedRequestBytes = v.Int64() }},
		{"kalda.queued.max.response.bytes", "QueuedResponseBytes", func(o *o, v Value) { o.QueuedResponseBytes = v.Int64() }},
		{"kalda.connections.response.max.bytes", "ResponseMaxBytes", func(o *o, v Value) { o.ResponseMaxBytes = v.Int() }},
		{"kalda.connections.response.stall.ms", "ResponseStall", func(o *o, v Value) { o.ResponseStall = v.Duration() }},
		{"kalda.connections.first.request.ms", "FirstRequestTime", func(o *o, v Value) { o.FirstRequestTime = v.Duration() }},
		{"kalda.connections.first.request.max.bytes", "FirstRequestMaxBytes", func(o *o, v Value) { o.FirstRequestMaxBytes = v.Int() }},
		{"kalda.connections.request.stall.ms", "RequestStall", func(o *o, v Value) { o.RequestStall = v.Duration() }},
		{"connections.max.idle.ms", "ConnectionsMaxIdle", func(o *o, v Value) { o.ConnectionsMaxIdle = v.Duration() }},

		{"num.partitions", "NumPartitions", func(o *o, v Value) { o.NumPartitions = v.Int32() }},
		{"default.replication.factor", "DefaultReplicationFactor", func(o *o, v Value) { o.DefaultReplicationFactor = int16(v.Int64()) }},
		{"auto.create.topics.enable", "AutoCreateTopics", func(o *o, v Value) { o.AutoCreateTopics = v.Bool() }},
		{"delete.topic.enable", "DeleteTopics", func(o *o, v Value) { o.DeleteTopics = v.Bool() }},
		{"fetch.max.bytes", "FetchMaxBytes", func(o *o, v Value) { o.FetchMaxBytes = v.Int() }},
		{"max.incremental.fetch.session.cache.slots", "FetchSessionSlots", func(o *o, v Value) { o.FetchSessionSlots = v.Int() }},
		{"max.request.partition.size.limit", "MaxRequestPartitions", func(o *o, v Value) { o.MaxRequestPartitions = v.Int() }},

		{"log.retention.check.interval.ms", "RetentionCheckInterval", func(o *o, v Value) { o.RetentionCheckInterval = v.Duration() }},
		{"producer.id.expiration.ms", "ProducerIDExpiration", func(o *o, v Value) { o.ProducerIDExpiration = v.Duration() }},

		{"kalda.disk.soft", "DiskSoft", func(o *o, v Value) { o.DiskSoft = v.FreeSpace() }},
		{"kalda.disk.hard", "DiskHard", func(o *o, v Value) { o.DiskHard = v.FreeSpace() }},
		{"kalda.scrub.bytes.per.second", "ScrubBytesPerSecond", func(o *o, v Value) { o.ScrubBytesPerSecond = v.Int64() }},
		{"kalda.scrub.interval.ms", "ScrubInterval", func(o *o, v Value) { o.ScrubInterval = v.Duration() }},
		{"kalda.lost.dirs.accept", "LostDirsAccept", func(o *o, v Value) { o.LostDirsAccept = v.List() }},
		{"log.cleaner.enable", "Cleaner.Enabled", func(o *o, v Value) { o.Cleaner.Enabled = v.Bool() }},
		{"log.cleaner.threads", "Cleaner.Threads", func(o *o, v Value) { o.Cleaner.Threads = v.Int() }},
		{"log.cleaner.backoff.ms", "Cleaner.Backoff", func(o *o, v Value) { o.Cleaner.Backoff = v.Duration() }},
		{"log.cleaner.dedupe.buffer.size", "Cleaner.DedupeBytes", func(o *o, v Value) { o.Cleaner.DedupeBytes = v.Int64() }},
		{"log.cleaner.io.buffer.load.factor", "Cleaner.LoadFactor", func(o *o, v Value) { o.Cleaner.LoadFactor = v.Float() }},
		{"log.cleaner.io.buffer.size", "Cleaner.BufferBytes", func(o *o, v Value) { o.Cleaner.BufferBytes = v.Int() }},
		{"log.cleaner.io.max.bytes.per.second", "Cleaner.BytesPerSecond", func(o *o, v Value) { o.Cleaner.BytesPerSecond = v.Float() }},

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
		{"offsets.load.buffer.size", "Group.OffsetsLoadBufferBytes", func(o *o, v Value) { o.Group.OffsetsLoadBufferBytes = v.Int() }},
	}
}

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
	o.ListenerMaxConnections = c.perListener("max.connections")
	o.ListenerConnectionRate = c.perListener("max.connection.creation.rate")
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
