package kalda_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kalda-io/kalda"
)

// A data directory that is Apache Kafka's is refused before anything is written there.
func TestDataDirOfKafka(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "meta.properties"), []byte("version=1\nnode.id=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	k, err := kalda.Start(t.Context(), kalda.Options{DataDir: dir, Kafka: "127.0.0.1:0"})
	if err == nil {
		_ = k.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "left untouched") {
		t.Fatalf("a directory of Kafka is taken: %v", err)
	}
	if after := tree(t, dir); after != before {
		t.Fatalf("the directory was touched:\n%s\nbefore:\n%s", after, before)
	}
}
