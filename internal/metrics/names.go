package metrics

// The names of the metrics. See table for what they mean.
const (
	BuildInfo = "kalda_build_info"

	RequestsTotal      = "kalda_requests_total"
	RequestErrorsTotal = "kalda_request_errors_total"
	RequestBytesTotal  = "kalda_request_bytes_total"
	ResponseBytesTotal = "kalda_response_bytes_total"
	RequestSeconds     = "kalda_request_seconds"

	Connections      = "kalda_connections"
	ConnectionsTotal = "kalda_connections_total"

	TopicRecordsInTotal = "kalda_topic_records_in_total"
	TopicBytesInTotal   = "kalda_topic_bytes_in_total"
	TopicBytesOutTotal  = "kalda_topic_bytes_out_total"

	PartitionLogStartOffset = "kalda_partition_log_start_offset"
	PartitionHighWatermark  = "kalda_partition_high_watermark"
	PartitionLogEndOffset   = "kalda_partition_log_end_offset"
	PartitionSizeBytes      = "kalda_partition_size_bytes"
	PartitionSegments       = "kalda_partition_segments"

	LeaderPartitions  = "kalda_leader_partitions"
	OfflinePartitions = "kalda_offline_partitions"
	ControllerActive  = "kalda_controller_active"
	MetadataRevision  = "kalda_metadata_revision"
	Ready             = "kalda_ready"

	LogDirSizeBytes = "kalda_log_dir_size_bytes"
	LogDirFreeBytes = "kalda_log_dir_free_bytes"

	Groups               = "kalda_groups"
	GroupMembers         = "kalda_group_members"
	GroupRebalancesTotal = "kalda_group_rebalances_total"
	GroupCommittedOffset = "kalda_group_committed_offset"
	GroupLagRecords      = "kalda_group_lag_records"
)

// kind is how a metric behaves.
type kind uint8

const (
	gauge kind = iota
	counter
	histogram
)

// row describes one metric.
type row struct {
	name   string
	kind   kind
	help   string
	labels []string
}

// table is every metric. The request metrics are counted through handles (Registry.API),
// the others reported by snapshots.
func table() []row {
	partition := []string{"topic", "partition"}
	return []row{
		{BuildInfo, gauge, "Always 1; the labels say what runs.", []string{"version", "go_version"}},

		{RequestsTotal, counter, "Requests answered.", []string{"api"}},
		{RequestErrorsTotal, counter, "Requests whose answer holds an error code.", []string{"api"}},
		{RequestBytesTotal, counter, "Bytes of requests, frames included.", []string{"api"}},
		{ResponseBytesTotal, counter, "Bytes of answers, frames included.", []string{"api"}},
		{RequestSeconds, histogram, "Time from the last byte of a request to its answer, waiting included.", []string{"api"}},

		{Connections, gauge, "Open client connections.", []string{"listener"}},
		{ConnectionsTotal, counter, "Client connections accepted.", []string{"listener"}},

		{TopicRecordsInTotal, counter, "Records appended.", []string{"topic"}},
		{TopicBytesInTotal, counter, "Bytes of record batches appended.", []string{"topic"}},
		{TopicBytesOutTotal, counter, "Bytes of record batches given to consumers.", []string{"topic"}},

		{PartitionLogStartOffset, gauge, "First offset that is kept.", partition},
		{PartitionHighWatermark, gauge, "Offset up to which records are committed.", partition},
		{PartitionLogEndOffset, gauge, "Offset of the next record.", partition},
		{PartitionSizeBytes, gauge, "Bytes of the partition's segments.", partition},
		{PartitionSegments, gauge, "Segments of the partition.", partition},

		{LeaderPartitions, gauge, "Partitions that this broker leads.", nil},
		{OfflinePartitions, gauge, "Partitions of this broker that cannot be served.", nil},
		{ControllerActive, gauge, "1 if this node is the elected controller.", nil},
		{MetadataRevision, gauge, "Revision of the ensemble that this node has applied.", nil},
		{Ready, gauge, "1 if the node serves clients.", nil},

		{LogDirSizeBytes, gauge, "Bytes of logs in the directory.", []string{"dir"}},
		{LogDirFreeBytes, gauge, "Free bytes of the directory's file system.", []string{"dir"}},

		{Groups, gauge, "Consumer groups that this broker coordinates, by state.", []string{"state"}},
		{GroupMembers, gauge, "Members of the group.", []string{"group"}},
		{GroupRebalancesTotal, counter, "Rebalances of the group.", []string{"group"}},
		{GroupCommittedOffset, gauge, "Offset that the group has committed.", []string{"group", "topic", "partition"}},
		{GroupLagRecords, gauge, "Records between the group's commit and the high watermark.", []string{"group", "topic", "partition"}},
	}
}
