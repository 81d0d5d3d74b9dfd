package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
)

// A flipped bit in any of a directory's small files, or an empty file: the start refuses it
// by name and says what to do, or serves all records and says what it does not know any
// more. It never takes the directory for one of Apache Kafka's (faults.md F26).
func TestFlippedSmallFiles(t *testing.T) {
	for _, c := range []struct {
		file, refusal, logs string
	}{
		{"meta.properties", "/data/meta.properties: damaged", ""},
		{"run.meta", "", "does not know its former lives"},
		{"metadata.seen", "", "/data/metadata.seen: damaged"},
		{"checkpoints", "", "/data/checkpoints"},
		{"ioerror", "", "/data/ioerror: damaged"},
		{"clean", "", ""}, // the logs are looked at as after a crash
	} {
		for _, part := range []float64{-1, 0, 0.1, 0.5, 0.97} { // -1: emptied
			bubble(t, func(t *testing.T, w *world) { flippedSmallFile(t, w, c.file, part, c.refusal, c.logs) })
		}
	}
}

func flippedSmallFile(t *testing.T, w *world, file string, part float64, refusal, logs string) {
	b := w.start()
	b.create("t", 1, nil)
	w.dial().mustPut("t", "one")
	b.stop()
	if err := storage.MarkIOError(w.disk, "/data", storage.IOError{Dirs: []string{"somebody"}, What: "EIO"}); err != nil {
		t.Fatal(err)
	}
	data, err := vfs.ReadFile(w.disk, "/data/"+file, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	what := fmt.Sprintf("%s, %.0f %%", file, 100*part)
	if part < 0 {
		data = nil
	} else {
		data[int(part*float64(len(data)))] ^= 0x20
	}
	if err := vfs.WriteFile(w.disk, "/data/"+file, data, true); err != nil {
		t.Fatal(err)
	}
	if refusal != "" {
		if got := w.refused(); !strings.Contains(got, refusal) || strings.Contains(got, "Apache") || !strings.Contains(got, "backup") {
			t.Errorf("%s: %s", what, got)
		}
		return
	}
	var logged bytes.Buffer
	w.log = slog.New(slog.NewTextHandler(&logged, nil))
	b = w.start()
	if got := fmt.Sprint(w.values("t")); got != "map[0:one]" {
		t.Errorf("%s: %s", what, got)
	}
	b.stop()
	if !strings.Contains(logged.String(), logs) {
		t.Errorf("%s: the log does not say %q:\n%s", what, logs, &logged)
	}
}
