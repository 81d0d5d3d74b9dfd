package config

import (
	"cmp"
	"slices"
)

// What does the job of keys that are not honoured, in the words of the warning.
const (
	insteadReplication   = "replication between brokers is not in this version"
	insteadTxn           = "transactions are not in this version"
	insteadShare         = "share groups are not in this version"
	insteadStreams       = "streams groups are not in this version"
	insteadNewgroups     = "only the classic group protocol is in this version"
	insteadTier          = "a remote tier is not in this version; all segments stay in log.dirs"
	insteadTierval       = "a remote tier is not in this version, and the local disk would fill up"
	insteadQuota         = "quotas are not in this version"
	insteadZk            = "kalda needs no ZooKeeper; the ensemble inside the binary does its work (kalda.metadata)"
	insteadQuorum        = "kalda has no KRaft quorum; the ensemble inside the binary does its work (kalda.metadata)"
	insteadEnsemble      = "the ensemble inside the binary watches brokers by leases (kalda.metadata)"
	insteadRoles         = "a node is broker and controller in one"
	insteadThreads       = "work is spread over all CPUs without fixed threads (set GOMAXPROCS to use fewer)"
	insteadMetrics       = "metrics are served at /metrics of kalda.http.listen"
	insteadTelemetry     = "pushed client metrics are not in this version"
	insteadInternal      = "brokers do not talk to each other on client listeners"
	insteadListeners     = "use listeners"
	insteadAdvertised    = "use advertised.listeners"
	insteadListen        = "listeners open when the node is ready"
	insteadBacklog       = "the system's own limit is used (net.core.somaxconn)"
	insteadIds           = "set node.id"
	insteadRpc           = "a node of this version opens no connections to other brokers"
	insteadNoauth        = "authentication is not in this version"
	insteadStartup       = "a start takes as long as it needs and reports its progress"
	insteadUnstable      = "only finished versions are offered"
	insteadWaiters       = "waiting requests are freed as soon as they are answered"
	insteadFeatures      = "features are negotiated; there is no version to set"
	insteadFormat        = "records are stored in format 2 only"
	insteadTsdiff        = "use log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms"
	insteadPrealloc      = "segments grow as they are written"
	insteadCordon        = "every directory of log.dirs takes partitions"
	insteadEncoder       = "no passwords are stored"
	insteadShutdown      = "a stopping node always drains first"
	insteadLinger        = "the coordinator writes as soon as the log takes it"
	insteadOffacks       = "commits wait for all in-sync replicas"
	insteadOffcodec      = "offsets are stored uncompressed"
	insteadInternalseg   = "use segment.bytes"
	insteadPolicy        = "policy classes cannot be loaded, and without them more would be allowed than meant"
	insteadProviders     = "values are not filled in from other places; give secrets through the environment"
	insteadSec           = "authentication, authorization and encryption are not in this version"
	insteadCheckpoint    = "checkpoints are written with the background flush, every few seconds"
	insteadTaskDelay     = "periodic work begins when the node is ready"
	insteadDeleteDelay   = "the files of a deleted segment go at once; reads under way finish"
	insteadRecovery      = "recovery decides by itself how many logs it checks at once"
	insteadCommitTimeout = "a commit is answered when it is committed, or when the coordinator moves"
	insteadProducers     = "idle producers are looked for together with old segments (log.retention.check.interval.ms)"
	insteadSockets       = "the system sizes the buffers of sockets by itself"
	insteadCluster       = "clusters of several nodes are not in this version"
)

// kaldaKeys are the keys of our own.
func kaldaKeys() []Key {
	return []Key{
		{Name: "kalda.cluster", Type: String, Default: "kalda", Valid: checked(checkName),
			Doc: "name of the cluster; the prefix of its keys inside the ensemble"},
		{Name: "kalda.metadata", Type: String, Default: "embedded", Valid: checked(checkMetadata),
			Doc: "where the cluster's metadata lives: embedded, or etcd://host:port,host:port/prefix"},
		{Name: "kalda.http.listen", Type: String, Default: ":8080", Valid: checked(checkHostPort),
			Doc: "address of /metrics, /healthz and /readyz; empty switches it off"},
		{Name: "kalda.flush.policy", Type: String, Null: true, Valid: oneOf("os", "commit"), Update: ClusterWide,
			Doc: "when a record counts as stored: os (written) or commit (on disk); unset, commit where the topic has one replica"},
		{Name: "kalda.disk.soft", Type: List, Default: "10%,5GiB", Valid: freeSpace(), Update: ClusterWide,
			Doc: "free space under which a log directory takes no records of producers: a share of the volume, a size, or the lesser of both; 0 is no limit"},
		{Name: "kalda.disk.hard", Type: List, Default: "3%,1GiB", Valid: freeSpace(), Update: ClusterWide,
			Doc: "free space under which a log directory takes no records at all, commits of offsets included; no more than kalda.disk.soft counts"},
		{Name: "kalda.scrub.bytes.per.second", Type: Long, Unit: Bytes, Default: "16777216", Valid: atLeast(0), Update: ClusterWide,
			Doc: "most bytes per second that are read in each log directory to check old segments for damage; 0 switches it off"},
		{Name: "kalda.scrub.interval.ms", Type: Long, Unit: Millis, Default: "604800000", Valid: atLeast(1), Update: ClusterWide,
			Doc: "pause after all old segments of a log directory were checked, until they are checked again"},
		{Name: "kalda.lost.dirs.accept", Type: List, Default: "",
			Doc: "ids of log directories whose loss, or whose old state, the operator accepts; a start refuses it otherwise"},

		{Name: "kalda.queued.max.response.bytes", Type: Long, Unit: Bytes, Default: "-1", Valid: atLeast(-1),
			Doc: "bytes that the answers of all connections may hold in memory before long ones are sent in pieces of 64 KiB instead of 1 MiB and no further request starts on connections that do not read theirs; -1 is an eighth of the memory, at least 32 MiB. The first 64 KiB of each connection do not count"},
		{Name: "kalda.connections.response.max.bytes", Type: Int, Unit: Bytes, Default: "4194304", Valid: atLeast(1),
			Doc: "bytes of unread answers at which no further request of a connection starts; a single answer may be larger"},
		{Name: "kalda.connections.response.stall.ms", Type: Long, Unit: Millis, Default: "60000", Valid: atLeast(1),
			Doc: "how long a client may take for each MiB of its answers before it is closed"},
		{Name: "kalda.connections.first.request.ms", Type: Long, Unit: Millis, Default: "30000", Valid: atLeast(1),
			Doc: "how long a new connection may take to bring its first request, or 4 KiB of it, before it is closed"},
		{Name: "kalda.connections.first.request.max.bytes", Type: Int, Unit: Bytes, Default: "524288", Valid: atLeast(10),
			Doc: "largest first request of a connection whose header names no API and version that is served"},
		{Name: "kalda.connections.request.stall.ms", Type: Long, Unit: Millis, Default: "30000", Valid: atLeast(1),
			Doc: "how long a client may take for each 4 KiB of a request, or 64 KiB if it is larger than that, before it is closed"},
		{Name: "kalda.partitions.max", Type: Int, Default: "100000", Valid: atLeast(1),
			Doc: "most partitions of all topics together; creating more is refused"},
		{Name: "kalda.producer.ids.max", Type: Int, Default: "1000000", Valid: atLeast(1),
			Doc: "producer ids whose sequence numbers each log directory remembers; above it, a partition forgets its longest silent ones, but for the 16 that wrote last"},
		{Name: "kalda.fetch.session.max.bytes", Type: Int, Unit: Bytes, Default: "268435456", Valid: atLeast(1 << 20),
			Doc: "memory of all fetch sessions together; above it, consumers are served without a session"},
		{Name: "kalda.groups.max.bytes", Type: Long, Unit: Bytes, Default: "536870912", Valid: atLeast(1 << 20),
			Doc: "memory of all groups of the broker, committed offsets included; above it, new members and new offsets are refused"},
		{Name: "kalda.group.max.bytes", Type: Int, Unit: Bytes, Default: "8388608", Valid: between(64<<10, 64<<20),
			Doc: "memory of one group's members, with what they say of themselves and their assignments"},
		{Name: "kalda.group.member.max.bytes", Type: Int, Unit: Bytes, Default: "1048576", Valid: between(4<<10, 64<<20),
			Doc: "most that one member may say of itself when it joins"},

		{Name: "kalda.ensemble.listen", Type: String, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "address for the other members of the ensemble"},
		{Name: "kalda.ensemble.peers", Type: List, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "members that found an ensemble"},
		{Name: "kalda.ensemble.client.listen", Type: String, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "address at which other nodes reach the ensemble"},
		{Name: "kalda.join", Type: String, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "address of a member of an ensemble to join"},
		{Name: "kalda.internal.listen", Type: String, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "address for the other brokers"},
		{Name: "kalda.roles", Type: List, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "roles of the node: broker, controller, ensemble"},
		{Name: "kalda.controlled.shutdown.max.ms", Type: Long, Unit: Millis, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "how long a stopping node may hand over leaderships"},
		{Name: "kalda.unclean.recovery.wait.ms", Type: Long, Unit: Millis, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "how long a recovery waits for replicas before it settles for what it has"},
		{Name: "kalda.tail.trust", Type: String, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "whether the tail of a log is trusted after a crash"},
		{Name: "kalda.internal.secret", Type: Password, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "secret that nodes prove to each other"},
		{Name: "kalda.internal.insecure", Type: Boolean, Null: true, Status: NotBuilt,
			Instead: insteadCluster, Doc: "whether nodes may talk without proof"},
	}
}

// table is the set of keys of one kind of resource.
type table struct {
	keys   []Key // by name
	byName map[string]*Key
}

func newTable(parts ...[]Key) *table {
	t := &table{keys: slices.Concat(parts...)}
	slices.SortFunc(t.keys, func(a, b Key) int { return cmp.Compare(a.Name, b.Name) })
	t.byName = make(map[string]*Key, len(t.keys))
	for i := range t.keys {
		t.byName[t.keys[i].Name] = &t.keys[i]
	}
	return t
}

// The tables; nothing changes them after the program has started.
var (
	brokerTable = newTable(kaldaKeys(), networkKeys(), requestsKeys(), logKeys(), clusterKeys(), coordinatorKeys(), securityKeys())
	topicTable  = newTable(topicResourceKeys())
	groupTable  = newTable(groupResourceKeys())
)

// BrokerKeys returns the broker keys by name. The caller must not change them.
func BrokerKeys() []Key { return brokerTable.keys }

// TopicKeys returns the keys of topics by name. The caller must not change them.
func TopicKeys() []Key { return topicTable.keys }

// GroupKeys returns the keys of groups by name. The caller must not change them.
func GroupKeys() []Key { return groupTable.keys }

// nearest returns the name of t that is most like name, "" if none is like it.
func (t *table) nearest(name string) string {
	best, bestDist := "", max(2, len(name)/4)+1
	for i := range t.keys {
		if d := distance(name, t.keys[i].Name, bestDist); d < bestDist {
			best, bestDist = t.keys[i].Name, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap to turn a into b;
// limit or more is reported as limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return min(prev[len(b)], limit)
}
