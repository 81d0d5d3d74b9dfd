package cli

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/kalda-io/kalda/internal/storage"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// What a disk does to a start is told with the file, in whole words, and with what helps.
func TestStartFailuresOfDisks(t *testing.T) {
	inner := fmt.Errorf("append to journal: %w: sync failed: %w", kerr.KafkaStorageError, syscall.EIO)
	for _, c := range []struct {
		err  error
		says []string
	}{
		{&storage.CorruptError{Path: "/d/meta.properties", Err: storage.ErrChecksum}, []string{"/d/meta.properties", "hint: put that file back"}},
		{fmt.Errorf("open: %w: %w", kerr.KafkaStorageError, syscall.EROFS), []string{"read-only", "hint: the disk", "dmesg"}},
		{fmt.Errorf("write run.meta: %w: %w", kerr.KafkaStorageError, syscall.ENOSPC), []string{"run.meta", "hint: the volume is full"}},
		{fmt.Errorf("log directory /d: %w", vfs.ErrLocked), []string{"in use", "/d", "hint: stop the process"}},
		{kerr.With(kerr.KafkaStorageError, "log directory /d is offline: %v", inner), []string{"/d is offline", "sync failed"}},
	} {
		var out bytes.Buffer
		report(&out, startFailure(c.err, StartRequest{}))
		for _, s := range c.says {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%v: %q does not say %q", c.err, &out, s)
			}
		}
		if strings.Contains(out.String(), "()") {
			t.Errorf("%v: %q has a hole", c.err, &out)
		}
	}
}
