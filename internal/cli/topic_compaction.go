package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kalda-io/kalda/internal/wire"
)

// compactionJSON tells how far one replica of a partition is compacted.
type compactionJSON struct {
	DirtyBytes int64 `json:"dirty_bytes"`
	TotalBytes int64 `json:"total_bytes"`
	// Cleaned is when the last compaction began, absent for never.
	Cleaned *time.Time `json:"cleaned,omitempty"`
	Running bool       `json:"running,omitempty"`
	// Uncleanable is why the broker leaves it alone.
	Uncleanable string `json:"uncleanable,omitempty"`
}

func compactionOf(c *wire.PartitionCompaction) *compactionJSON {
	if c == nil {
		return nil
	}
	j := &compactionJSON{DirtyBytes: c.DirtyBytes, TotalBytes: c.TotalBytes, Running: c.Running, Uncleanable: c.Uncleanable}
	if c.CleanedMs > 0 {
		t := time.UnixMilli(c.CleanedMs).UTC()
		j.Cleaned = &t
	}
	return j
}

// compacts says whether a topic with that configuration is compacted.
func compacts(config []configEntry) bool {
	return slices.ContainsFunc(config, func(e configEntry) bool {
		return e.Key == "cleanup.policy" && e.Value != nil && strings.Contains(*e.Value, "compact")
	})
}

// recordsCell is the column RECORDS for [start, end). Nobody tells how many of these offsets
// compaction left without a record: in a compacted topic their number is only a bound.
func recordsCell(start, end int64, compacted bool) string {
	n := strconv.FormatInt(end-start, 10)
	if compacted && end > start {
		return "<=" + n
	}
	return n
}

// compacted says whether any broker told how far the topic is compacted.
func (d *topicDetail) compacted() bool {
	for _, p := range d.Partitions {
		for _, s := range p.Stored {
			if s.Compaction != nil {
				return true
			}
		}
	}
	return false
}

// compactionCells are the columns DIRTY and COMPACTED: those of the leader's replica, as
// far as it tells, else of the first that does.
func (p *partitionRow) compactionCells() []string {
	var c *compactionJSON
	for _, s := range p.Stored {
		if s.Compaction != nil && (c == nil || s.Broker == p.Leader) {
			c = s.Compaction
		}
	}
	if c == nil {
		return []string{"-", "-"}
	}
	dirty := "0%"
	if c.TotalBytes > 0 {
		dirty = fmt.Sprintf("%.0f%%", 100*float64(c.DirtyBytes)/float64(c.TotalBytes))
	}
	when := "never"
	switch {
	case c.Uncleanable != "":
		when = "cannot be: " + c.Uncleanable
	case c.Running:
		when = "now"
	case c.Cleaned != nil:
		when = c.Cleaned.Format(time.RFC3339)
	}
	return []string{dirty, when}
}
