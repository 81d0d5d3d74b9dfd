package storage

import (
	"errors"
	"io/fs"
	"strconv"
)

const seenFile = "metadata.seen"

// Seen is the newest state of the ensemble that a broker has worked from. An ensemble that
// is behind it was rolled back (a backup restored, a member's disk replaced), and the
// broker's logs may be newer than the metadata that describe them.
type Seen struct {
	// Generation is the ensemble's metadata generation, "" before the first time.
	Generation string
	// Revision is the highest applied, a lower bound of what was seen.
	Revision int64
}

// Seen reads what the directory remembers; a zero Seen when it remembers nothing.
func (d *Dir) Seen() (Seen, error) {
	p, err := readProps(d.fs, d.file(seenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Seen{}, nil
	}
	if err != nil {
		return Seen{}, storageError("read "+seenFile, err)
	}
	rev, err := strconv.ParseInt(p.get("revision"), 10, 64)
	if err != nil || rev < 0 {
		return Seen{}, storageError("read "+seenFile, &CorruptError{Path: d.file(seenFile), Err: ErrFormat})
	}
	return Seen{Generation: p.get("generation"), Revision: rev}, nil
}

// SetSeen remembers s, durably.
func (d *Dir) SetSeen(s Seen) error {
	p := props{{"generation", s.Generation}, {"revision", strconv.FormatInt(s.Revision, 10)}}
	return storageError("write "+seenFile, writeProps(d.fs, d.file(seenFile), p))
}
