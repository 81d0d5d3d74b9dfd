package storage

import (
	"strconv"

	"github.com/kalda-io/kalda/internal/model"
)

// cleanMark is what the last cleaning round of a log left: below first every key has one
// record. It lies in the file "cleaned", in the format of the small files (propfile.go).
//
// The file is a hint: without it everything is dirty and the next round does more. With a
// wrong one a round would miss keys, so it is believed only if the record before first is
// the one that it was made for: the same offset and leader epoch are the same bytes.
type cleanMark struct {
	first model.Offset
	// epoch is the leader epoch of the record before first.
	epoch model.LeaderEpoch
	// atMs is when the round began, ms since 1970; 0 if none has ended.
	atMs int64
}

const cleanMarkFile = "cleaned"

func (l *Log) writeCleanMark(m cleanMark) error {
	p := props{
		{"first.dirty", strconv.FormatInt(int64(m.first), 10)},
		{"epoch.before", strconv.FormatInt(int64(m.epoch), 10)},
		{"cleaned.ms", strconv.FormatInt(m.atMs, 10)},
	}
	return storageError("write "+cleanMarkFile, writeProps(l.fs, l.path+string(pathSeparator)+cleanMarkFile, p))
}

// mark returns the mark, reading the file the first time.
func (l *Log) mark() *cleanMark {
	if l.clean != nil {
		return l.clean
	}
	l.clean = &cleanMark{}
	if !l.made {
		return l.clean
	}
	p, err := readProps(l.fs, l.path+string(pathSeparator)+cleanMarkFile)
	if err != nil {
		return l.clean // there is none, or it is of no use
	}
	first, e1 := strconv.ParseInt(p.get("first.dirty"), 10, 64)
	epoch, e2 := strconv.ParseInt(p.get("epoch.before"), 10, 32)
	at, e3 := strconv.ParseInt(p.get("cleaned.ms"), 10, 64)
	if e1 != nil || e2 != nil || e3 != nil {
		return l.clean
	}
	l.clean.atMs = at
	if m := model.Offset(first); m <= l.end && l.epochs.at(m-1) == model.LeaderEpoch(epoch) {
		l.clean.first = m
	}
	return l.clean
}

// firstDirty is where the part of the log begins that no cleaning round has mapped.
func (l *Log) firstDirty() model.Offset { return max(l.segs[0].base, min(l.mark().first, l.end)) }

// CleanedAt is when the last cleaning round that went to its end began, in ms since 1970;
// 0 if there was none.
func (l *Log) CleanedAt() int64 { return l.mark().atMs }
