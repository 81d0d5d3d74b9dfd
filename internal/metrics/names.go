package metrics

// The names of the metrics. See table for what they mean and which labels they have.
const (
	BuildInfo = "kalda_build_info"
	Ready     = "kalda_ready"

	Connections              = "kalda_connections"
	ConnectionsAcceptedTotal = "kalda_connections_accepted_total"
	ConnectionsDelayedTotal  = "kalda_connections_delayed_total"
	ConnectionsClosedTotal   = "kalda_connections_closed_total"
	RequestsTotal            = "kalda_requests_total"
	ReceivedBytesTotal       = "kalda_received_bytes_total"
	SentBytesTotal           = "kalda_sent_bytes_total"

	RequestMemoryBytes       = "kalda_request_memory_bytes"
	RequestMemoryLimitBytes  = "kalda_request_memory_limit_bytes"
	RequestMemoryWaiting     = "kalda_request_memory_waiting"
	RequestMemoryWaitsTotal  = "kalda_request_memory_waits_total"
	ResponseMemoryBytes      = "kalda_response_memory_bytes"
	ResponseMemoryLimitBytes = "kalda_response_memory_limit_bytes"
	ResponseMemoryWaiting    = "kalda_response_memory_waiting"
	ResponseMemoryWaitsTotal = "kalda_response_memory_waits_total"

	PartitionLogStartOffset      = "kalda_partition_log_start_offset"
	PartitionHighWatermarkOffset = "kalda_partition_high_watermark_offset"
	PartitionLogEndOffset        = "kalda_partition_log_end_offset"
	PartitionSizeBytes           = "kalda_partition_size_bytes"
	PartitionLeader              = "kalda_partition_leader"
	PartitionOffline             = "kalda_partition_offline"
	PartitionDirtyBytes          = "kalda_partition_dirty_bytes"
	PartitionDirtyRatio          = "kalda_partition_dirty_ratio"
	PartitionCleanedSeconds      = "kalda_partition_cleaned_timestamp_seconds"
	PartitionUncleanable         = "kalda_partition_uncleanable"
	PartitionDamagedSegments     = "kalda_partition_damaged_segments"

	CleanerRunning             = "kalda_cleaner_running"
	CleanerRoundsTotal         = "kalda_cleaner_rounds_total"
	CleanerReadBytesTotal      = "kalda_cleaner_read_bytes_total"
	CleanerWrittenBytesTotal   = "kalda_cleaner_written_bytes_total"
	CleanerRemovedRecordsTotal = "kalda_cleaner_removed_records_total"
	CleanerSecondsTotal        = "kalda_cleaner_seconds_total"

	LogDirTotalBytes       = "kalda_log_dir_total_bytes"
	LogDirFreeBytes        = "kalda_log_dir_free_bytes"
	LogDirOffline          = "kalda_log_dir_offline"
	LogDirLow              = "kalda_log_dir_low"
	LogDirFull             = "kalda_log_dir_full"
	LogDirSlow             = "kalda_log_dir_slow"
	LogDirSyncsTotal       = "kalda_log_dir_syncs_total"
	LogDirSyncSecondsTotal = "kalda_log_dir_sync_seconds_total"

	LogDirScrubbing          = "kalda_log_dir_scrubbing"
	LogDirScrubbedBytesTotal = "kalda_log_dir_scrubbed_bytes_total"
	LogDirScrubbedSeconds    = "kalda_log_dir_scrubbed_timestamp_seconds"
	LogDirDamagedSegments    = "kalda_log_dir_damaged_segments"
	LogOpenFiles             = "kalda_log_open_files"
	LogOpenFilesLimit        = "kalda_log_open_files_limit"

	Topics                  = "kalda_topics"
	MetadataRevision        = "kalda_metadata_revision"
	MetadataMismatchesTotal = "kalda_metadata_mismatches_total"
)

// kind is how a metric behaves.
type kind uint8

const (
	gauge kind = iota
	counter
)

// row describes one metric.
type row struct {
	name   string
	kind   kind
	help   string
	labels []string
}

// table is every metric of ours.
func table() []row {
	listener := []string{"listener"}
	partition := []string{"topic", "partition"}
	dir := []string{"dir"}
	return []row{
		{BuildInfo, gauge, "Always 1; the labels say what runs.", []string{"version", "go_version"}},
		{Ready, gauge, "1 while the broker serves.", nil},

		{Connections, gauge, "Open client connections.", listener},
		{ConnectionsAcceptedTotal, counter, "Client connections accepted.", listener},
		{ConnectionsDelayedTotal, counter, "Client connections that waited for max.connections or max.connection.creation.rate.", listener},
		{ConnectionsClosedTotal, counter, "Client connections ended, by reason.", []string{"listener", "reason"}},
		{RequestsTotal, counter, "Requests handled.", listener},
		{ReceivedBytesTotal, counter, "Bytes received from clients.", listener},
		{SentBytesTotal, counter, "Bytes sent to clients.", listener},

		{RequestMemoryBytes, gauge, "Bytes that large requests hold, beyond 64 KiB for each connection.", nil},
		{RequestMemoryLimitBytes, gauge, "Bytes that they may hold: queued.max.request.bytes.", nil},
		{RequestMemoryWaiting, gauge, "Connections that wait for that memory.", nil},
		{RequestMemoryWaitsTotal, counter, "Times that a connection waited for that memory.", nil},
		{ResponseMemoryBytes, gauge, "Bytes that answers hold, beyond 64 KiB for each connection.", nil},
		{ResponseMemoryLimitBytes, gauge, "Bytes that they may hold: kalda.queued.max.response.bytes.", nil},
		{ResponseMemoryWaiting, gauge, "Answers that wait for that memory.", nil},
		{ResponseMemoryWaitsTotal, counter, "Answers that had to wait for it.", nil},

		{PartitionLogStartOffset, gauge, "First offset that is kept.", partition},
		{PartitionHighWatermarkOffset, gauge, "End of the committed records.", partition},
		{PartitionLogEndOffset, gauge, "Offset of the next record.", partition},
		{PartitionSizeBytes, gauge, "Size of the partition's segments.", partition},
		{PartitionLeader, gauge, "1 if this broker leads the partition.", partition},
		{PartitionOffline, gauge, "1 if the partition's log cannot be used.", partition},
		{PartitionDirtyBytes, gauge, "Bytes of a compacted partition in segments with records that were not compacted yet.", partition},
		{PartitionDirtyRatio, gauge, "Share of them in the partition's size.", partition},
		{PartitionCleanedSeconds, gauge, "When the last compaction began, in seconds since 1970; 0 for never.", partition},
		{PartitionUncleanable, gauge, "1 if the partition cannot be compacted.", partition},
		{PartitionDamagedSegments, gauge, "Old segments of the partition that are damaged; partitions without any are left out.", partition},

		{CleanerRunning, gauge, "Partitions that are being compacted.", nil},
		{CleanerRoundsTotal, counter, "Compactions of a partition that ended.", nil},
		{CleanerReadBytesTotal, counter, "Bytes that compaction read.", nil},
		{CleanerWrittenBytesTotal, counter, "Bytes that compaction wrote.", nil},
		{CleanerRemovedRecordsTotal, counter, "Records that compaction removed.", nil},
		{CleanerSecondsTotal, counter, "Time that compaction took, waits for its rate limit included.", nil},

		{LogDirTotalBytes, gauge, "Size of the log directory's volume.", dir},
		{LogDirFreeBytes, gauge, "What is free on the log directory's volume.", dir},
		{LogDirOffline, gauge, "1 if the log directory's disk failed; until the next start.", dir},
		{LogDirLow, gauge, "1 while producers are refused for lack of space (kalda.disk.soft).", dir},
		{LogDirFull, gauge, "1 while no records are taken for lack of space (kalda.disk.hard).", dir},
		{LogDirSlow, gauge, "1 while syncs take more than a second.", dir},
		{LogDirSyncsTotal, counter, "Syncs of logs.", dir},
		{LogDirSyncSecondsTotal, counter, "Time that syncs of logs took.", dir},

		{LogDirScrubbing, gauge, "1 while the directory's old segments are being checked.", dir},
		{LogDirScrubbedBytesTotal, counter, "Bytes that were read for it.", dir},
		{LogDirScrubbedSeconds, gauge, "When all of them had been checked the last time, in seconds since 1970; 0 for never.", dir},
		{LogDirDamagedSegments, gauge, "Old segments that are damaged.", dir},

		{LogOpenFiles, gauge, "Files that logs keep open.", nil},
		{LogOpenFilesLimit, gauge, "Files that logs may keep open now: what the process may open, less the connections.", nil},

		{Topics, gauge, "Topics in the cluster.", nil},
		{MetadataRevision, gauge, "Revision of the metadata served from.", nil},
		{MetadataMismatchesTotal, counter, "Keys that audits found to differ from what the watch brought.", nil},
	}
}
