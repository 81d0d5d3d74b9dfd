package node

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kalda-io/kalda/internal/server"
)

// metricsHandler serves the broker's metrics in the Prometheus format. Figures of
// partitions are computed when they are scraped.
func (b *Broker) metricsHandler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		brokerCollector{b},
	)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// brokerCollector reads the rooms at scrape time.
type brokerCollector struct{ b *Broker }

// Describe implements prometheus.Collector; the set is not declared ahead.
func (brokerCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c brokerCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(name, help string, v float64, labels ...string) {
		emit(out, prometheus.GaugeValue, name, help, v, labels)
	}
	counter := func(name, help string, v float64, labels ...string) {
		emit(out, prometheus.CounterValue, name, help, v, labels)
	}
	for _, p := range c.b.replicas.Partitions() {
		s := p.Stats()
		l := []string{"topic", p.TP.Topic, "partition", itoa(p.TP.Partition)}
		gauge("kalda_partition_log_end_offset", "Offset of the next record.", float64(s.LogEnd), l...)
		gauge("kalda_partition_log_start_offset", "First offset kept.", float64(s.LogStart), l...)
		gauge("kalda_partition_high_watermark_offset", "End of the committed records.", float64(s.HighWatermark), l...)
		gauge("kalda_partition_size_bytes", "Size of the segments.", float64(s.Bytes), l...)
		gauge("kalda_partition_leader", "1 if this broker leads the partition.", b2f(s.Leader), l...)
		gauge("kalda_partition_offline", "1 if the partition's log cannot be used.", b2f(s.Offline != nil), l...)
	}
	for i, s := range c.b.servers {
		st := s.Stats()
		l := []string{"listener", c.b.opts.Load().Listeners[i].Name}
		gauge("kalda_connections", "Open client connections.", float64(st.Active), l...)
		counter("kalda_connections_accepted_total", "Client connections accepted.", float64(st.Accepted), l...)
		counter("kalda_requests_total", "Requests handled.", float64(st.Requests), l...)
		counter("kalda_received_bytes_total", "Bytes received from clients.", float64(st.BytesIn), l...)
		counter("kalda_sent_bytes_total", "Bytes sent to clients.", float64(st.BytesOut), l...)
		for _, r := range server.CloseReasons() {
			counter("kalda_connections_closed_total", "Client connections ended, by reason.", float64(st.Closes[r]), append(l, "reason", r.String())...)
		}
	}
	im := c.b.o.Meta.Publisher.Image()
	gauge("kalda_metadata_revision", "Revision of the metadata served from.", float64(im.Revision))
	gauge("kalda_topics", "Topics in the cluster.", float64(len(im.Topics)))
	counter("kalda_metadata_mismatches_total", "Keys that audits found to differ from what the watch brought.", float64(c.b.o.Meta.Publisher.Mismatches()))
	gauge("kalda_ready", "1 while the broker serves.", b2f(c.b.ready.Load()))
}

// emit sends one sample; labels are name, value, name, value.
func emit(out chan<- prometheus.Metric, kind prometheus.ValueType, name, help string, v float64, labels []string) {
	names, values := make([]string, 0, len(labels)/2), make([]string, 0, len(labels)/2)
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, v, values...)
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
