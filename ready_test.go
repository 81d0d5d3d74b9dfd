package kalda_test

import (
	"testing"

	"github.com/kalda-io/kalda"
)

// BenchmarkReady is the time from Start on empty data until the broker serves.
func BenchmarkReady(b *testing.B) {
	for b.Loop() {
		k, err := kalda.Start(b.Context(), quiet(kalda.Options{DataDir: b.TempDir()}))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(k.ReadyIn().Milliseconds()), "ms-to-ready")
		b.StopTimer()
		if err := k.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
