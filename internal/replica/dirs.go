package replica

import (
	"time"

	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

// DeadDir is a log directory that could not be opened. As nobody knows what it holds, no
// log is begun anew in another one.
type DeadDir struct {
	// Path is the directory, Err what its disk said.
	Path string
	Err  error
}

// DirInfo describes one log directory.
type DirInfo struct {
	// ID is the directory's own id, "" if it was never opened. Path is as configured.
	ID, Path string
	// Space returns the volume's size and what is free of it; nil if it was never opened.
	Space func() (vfs.Space, error)
	// Offline is why nothing of it can be used until the next start, nil while it can.
	Offline error
	// Room is what the latest look at the volume found.
	Room Room
	// Slow says that syncs take more than a second.
	Slow bool
	// Syncs counts the syncs of its logs, SyncTime sums up how long they took.
	Syncs    int64
	SyncTime time.Duration
	// Scrub is how far its scrubbing is.
	Scrub Scrubbing
}

// Dirs describes the log directories.
func (m *Manager) Dirs() []DirInfo {
	out := make([]DirInfo, 0, len(m.dirs)+len(m.o.DeadDirs))
	for _, d := range m.dirs {
		i := DirInfo{ID: d.d.ID(), Path: d.d.Path(), Space: d.d.Space, Offline: d.offline(), Room: Room(d.state.Load())}
		i.Scrub = d.scrub.state()
		i.Syncs, i.SyncTime, i.Slow = d.slow.sums()
		out = append(out, i)
	}
	for _, d := range m.o.DeadDirs {
		out = append(out, DirInfo{Path: d.Path, Offline: kerr.With(kerr.KafkaStorageError, "log directory %s: %v", d.Path, d.Err)})
	}
	return out
}

// DirOffline says whether the disk of the directory with that id failed.
func (m *Manager) DirOffline(id string) bool {
	for _, d := range m.dirs {
		if d.d.ID() == id {
			return d.offline() != nil
		}
	}
	return false
}
