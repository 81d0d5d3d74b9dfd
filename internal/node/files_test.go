package node

import "testing"

// Logs may have what connections and the rest leave, and always something.
func TestLogFiles(t *testing.T) {
	for _, c := range []struct{ files, connections, want int }{
		{20_000, 0, 19_744},
		{20_000, 10_000, 9744},
		{20_000, 15_000, 4744}, // connections may have three quarters
		{1024, 768, 128},
		{256, 192, 32},
		{64, 48, minLogFiles},
	} {
		if got := logFiles(c.files, c.connections); got != c.want {
			t.Errorf("%d files, %d connections: %d for logs, want %d", c.files, c.connections, got, c.want)
		}
	}
}
