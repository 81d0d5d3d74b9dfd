package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/kalda-io/kalda/internal/model"
)

// ScrubRecord is what a log directory remembers of its scrubbing across restarts. It is a
// hint: without it a round begins anew, with a wrong one segments are left out or
// read twice.
type ScrubRecord struct {
	// CompletedMs is when the last round ended that went through everything, BeganMs when
	// the one began that is under way; ms since 1970, 0 for none.
	CompletedMs, BeganMs int64
	// At and From say where the round goes on: at this partition or the next behind it in
	// the order of their names, and in it at this offset. Meaningless with BeganMs 0.
	At   model.Partition
	From model.Offset
	// Damaged are the closed segments that were found damaged.
	Damaged []DamagedSegment
}

// DamagedSegment is a closed segment whose .log file is damaged.
type DamagedSegment struct {
	Partition model.Partition
	// Base is its base offset.
	Base model.Offset
	// Places is how many stretches are damaged. The others are those of the first: where
	// it begins in the file, and which offsets [First, Next) may be lost with it.
	Places      int
	Position    int64
	First, Next model.Offset
}

// NewDamagedSegment sums up what a scrub found.
func NewDamagedSegment(p model.Partition, r ScrubResult) DamagedSegment {
	d := DamagedSegment{Partition: p, Base: r.Base, Places: len(r.Damage)}
	if d.Places > 0 {
		d.Position, d.First, d.Next = r.Damage[0].Position, r.Damage[0].First, r.Damage[0].Next
	}
	return d
}

// scrubFile holds a ScrubRecord, in the format of the small files (propfile.go).
const scrubFile = "scrub"

// maxRecordedDamage bounds the file; a round finds again what did not fit.
const maxRecordedDamage = 256

// ReadScrub reads the record; an empty one if there is none or it is damaged.
func (d *Dir) ReadScrub() (ScrubRecord, error) {
	p, err := readProps(d.fs, d.file(scrubFile))
	if errors.Is(err, fs.ErrNotExist) || isCorrupt(err) {
		return ScrubRecord{}, nil
	}
	if err != nil {
		return ScrubRecord{}, storageError("read "+scrubFile, err)
	}
	r, ok := decodeScrub(p)
	if !ok {
		return ScrubRecord{}, nil
	}
	return r, nil
}

// WriteScrub replaces the record, durably. It is no change of the logs, so it leaves the
// clean marker alone.
func (d *Dir) WriteScrub(r ScrubRecord) error {
	return storageError("write "+scrubFile, writeProps(d.fs, d.file(scrubFile), r.encode()))
}

func (r ScrubRecord) encode() props {
	p := props{
		{"completed.ms", strconv.FormatInt(r.CompletedMs, 10)}, {"began.ms", strconv.FormatInt(r.BeganMs, 10)},
		{"at", r.At.String()}, {"from", strconv.FormatInt(int64(r.From), 10)},
	}
	for _, d := range r.Damaged[:min(len(r.Damaged), maxRecordedDamage)] {
		p = append(p, [2]string{"damaged", fmt.Sprintf("%v %d %d %d %d %d", d.Partition, d.Base, d.Places, d.Position, d.First, d.Next)})
	}
	return p
}

func decodeScrub(p props) (r ScrubRecord, ok bool) {
	completed, e1 := strconv.ParseInt(p.get("completed.ms"), 10, 64)
	began, e2 := strconv.ParseInt(p.get("began.ms"), 10, 64)
	from, e3 := strconv.ParseInt(p.get("from"), 10, 64)
	at, ok := parsePartition(p.get("at"))
	if errors.Join(e1, e2, e3) != nil || !ok {
		return ScrubRecord{}, false
	}
	r = ScrubRecord{CompletedMs: completed, BeganMs: began, At: at, From: model.Offset(from)}
	for _, kv := range p {
		if kv[0] != "damaged" {
			continue
		}
		name, rest, _ := strings.Cut(kv[1], " ")
		var d DamagedSegment
		if d.Partition, ok = parsePartition(name); !ok {
			return ScrubRecord{}, false
		}
		if n, err := fmt.Sscanf(rest, "%d %d %d %d %d", &d.Base, &d.Places, &d.Position, &d.First, &d.Next); n != 5 || err != nil {
			return ScrubRecord{}, false
		}
		r.Damaged = append(r.Damaged, d)
	}
	return r, true
}
