package broker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

// Clients that want transactions do not fill the log.
func TestNoTransactionsIsLoggedNowAndThen(t *testing.T) {
	var out bytes.Buffer
	now := time.Duration(0)
	b := &Broker{o: Options{Logger: slog.New(slog.NewTextHandler(&out, nil)), Clock: model.Clock{Boot: func() time.Duration { return now }}}}
	for range 1000 {
		b.noteNoTransactions(strings.Repeat("x", 32_000), strings.Repeat("y", 32_000))
		now += 100 * time.Millisecond
	}
	if n := strings.Count(out.String(), "not available"); n != 2 || out.Len() > 2000 {
		t.Errorf("%d lines, %d bytes", n, out.Len())
	}
}
