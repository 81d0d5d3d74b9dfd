package meta

import (
	"strconv"

	"github.com/kalda-io/kalda/internal/model"
)

// BrokerDirs is the key of the log directories that a broker has registered with. The
// broker alone writes it, while it holds the locks of those directories.
func (k Keys) BrokerDirs(id model.BrokerID) string {
	return k.prefix + "brokers/dirs/" + strconv.Itoa(int(id))
}

// BrokerDirs is the value of brokers/dirs/<id>. It outlives the broker, so that the next
// start can tell a directory that was emptied, replaced or put back from a backup.
type BrokerDirs struct {
	Dirs []BrokerDir `json:"dirs"`
}

// BrokerDir is one log directory.
type BrokerDir struct {
	// ID is the directory's own id, Path where it was at that time.
	ID   string `json:"id"`
	Path string `json:"path"`
	// Epoch is the registration that the directory was last used in, and knows of.
	Epoch model.BrokerEpoch `json:"epoch"`
}
