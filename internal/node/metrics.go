package node

import (
	"net/http"
	"runtime/debug"
	"strconv"

	"github.com/kalda-io/kalda/internal/metrics"
	"github.com/kalda-io/kalda/internal/server"
)

// metricsHandler serves the broker's metrics; the rooms are read when they are scraped.
func (b *Broker) metricsHandler() http.Handler {
	r := metrics.New(buildVersion())
	r.Snapshot(b.snapshot)
	return r.Handler(func(msg string) { b.log.Warn("a metric cannot be collected", "err", msg) })
}

// buildVersion is the version of the module as it was built.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func (b *Broker) snapshot(emit metrics.Emit) {
	emit(metrics.Ready, bit(b.ready.Load()))
	for i, s := range b.servers {
		st, l := s.Stats(), b.opts.Load().Listeners[i].Name
		emit(metrics.Connections, float64(st.Active), l)
		emit(metrics.ConnectionsAcceptedTotal, float64(st.Accepted), l)
		emit(metrics.ConnectionsDelayedTotal, float64(st.Delayed), l)
		emit(metrics.RequestsTotal, float64(st.Requests), l)
		emit(metrics.ReceivedBytesTotal, float64(st.BytesIn), l)
		emit(metrics.SentBytesTotal, float64(st.BytesOut), l)
		for _, r := range server.CloseReasons() {
			emit(metrics.ConnectionsClosedTotal, float64(st.Closes[r]), l, r.String())
		}
	}
	b.snapshotLimits(emit)
	for _, p := range b.replicas.Partitions() {
		s := p.Stats()
		l := []string{p.TP.Topic, strconv.Itoa(int(p.TP.Partition))}
		emit(metrics.PartitionLogStartOffset, float64(s.LogStart), l...)
		emit(metrics.PartitionHighWatermarkOffset, float64(s.HighWatermark), l...)
		emit(metrics.PartitionLogEndOffset, float64(s.LogEnd), l...)
		emit(metrics.PartitionSizeBytes, float64(s.Bytes), l...)
		emit(metrics.PartitionLeader, bit(s.Leader), l...)
		emit(metrics.PartitionOffline, bit(s.Offline != nil), l...)
		if n := len(p.Damage()); n > 0 {
			emit(metrics.PartitionDamagedSegments, float64(n), l...)
		}
		if c, compacted := p.Cleaning(); compacted {
			emit(metrics.PartitionDirtyBytes, float64(c.DirtyBytes), l...)
			emit(metrics.PartitionDirtyRatio, c.DirtyRatio(), l...)
			emit(metrics.PartitionCleanedSeconds, float64(c.CleanedMs)/1000, l...)
			emit(metrics.PartitionUncleanable, bit(c.Uncleanable != nil), l...)
		}
	}
	b.dirMetrics(emit)
	b.cleanerMetrics(emit)
	pub := b.o.Meta.Publisher
	emit(metrics.Topics, float64(len(pub.Image().Topics)))
	emit(metrics.MetadataRevision, float64(pub.Image().Revision))
	emit(metrics.MetadataMismatchesTotal, float64(pub.Mismatches()))
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (b *Broker) cleanerMetrics(emit metrics.Emit) {
	s := b.replicas.CleanerStats()
	emit(metrics.CleanerRunning, float64(s.Running))
	emit(metrics.CleanerRoundsTotal, float64(s.Rounds))
	emit(metrics.CleanerReadBytesTotal, float64(s.ReadBytes))
	emit(metrics.CleanerWrittenBytesTotal, float64(s.WrittenBytes))
	emit(metrics.CleanerRemovedRecordsTotal, float64(s.RemovedRecords))
	emit(metrics.CleanerSecondsTotal, s.Time.Seconds())
}
