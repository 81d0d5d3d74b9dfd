package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// epochFile is the name of the leader-epoch file; its format is Kafka's, version 0:
//
//	0
//	<number of entries>
//	<epoch> <start offset>
//	...
const epochFile = "leader-epoch-checkpoint"

// maxEpochFile bounds what is read.
const maxEpochFile = 16 << 20

// EpochStart says where a leader's records begin.
type EpochStart struct {
	Epoch model.LeaderEpoch
	Start model.Offset
}

// epochCache lists the leader epochs of a log; epochs and starts both grow strictly
// (KIP-101).
type epochCache struct {
	entries []EpochStart
	// dirty says that the file is older than the entries.
	dirty bool
	// behind says that the last entry is not in the file, as long as it has no records:
	// whoever leads next begins another one in its place. Ten thousand logs that a start
	// gave new epochs, and nobody wrote to, cost a stop nothing.
	behind bool
}

func (c *epochCache) latest() model.LeaderEpoch {
	if n := len(c.entries); n > 0 {
		return c.entries[n-1].Epoch
	}
	return model.NoLeaderEpoch
}

// assign records that epoch begins at start. An older or equal epoch changes nothing;
// epochs without records give way, as in LeaderEpochFileCache.
func (c *epochCache) assign(epoch model.LeaderEpoch, start model.Offset) {
	if epoch < 0 || epoch <= c.latest() {
		return
	}
	c.truncateEnd(start)
	c.entries = append(c.entries, EpochStart{epoch, start})
	c.dirty = true
}

// truncateEnd forgets epochs that begin at or after end.
func (c *epochCache) truncateEnd(end model.Offset) {
	n := len(c.entries)
	for n > 0 && c.entries[n-1].Start >= end {
		n--
	}
	if n < len(c.entries) {
		c.entries, c.dirty = c.entries[:n], true
	}
}

// truncateStart forgets epochs that end at or before start; the one that holds start
// begins there from now on.
func (c *epochCache) truncateStart(start model.Offset) {
	i := 0
	for i+1 < len(c.entries) && c.entries[i+1].Start <= start {
		i++
	}
	if len(c.entries) > 0 && (i > 0 || c.entries[0].Start < start) {
		c.entries = slices.Delete(c.entries, 0, i)
		c.entries[0].Start = max(c.entries[0].Start, start)
		c.dirty = true
	}
}

// endOf answers OffsetForLeaderEpoch: the largest known epoch that is not above epoch,
// and where it ends (KIP-101, KIP-279).
func (c *epochCache) endOf(epoch model.LeaderEpoch, logEnd model.Offset) (model.LeaderEpoch, model.Offset) {
	if epoch < 0 || epoch > c.latest() {
		return model.NoLeaderEpoch, model.NoOffset
	}
	i, found := slices.BinarySearchFunc(c.entries, epoch, func(e EpochStart, t model.LeaderEpoch) int {
		return int(int64(e.Epoch) - int64(t))
	})
	if !found {
		if i == 0 { // older than all we know: it ended where the first known one began
			return epoch, c.entries[0].Start
		}
		i--
	}
	if i == len(c.entries)-1 {
		return c.entries[i].Epoch, logEnd
	}
	return c.entries[i].Epoch, c.entries[i+1].Start
}

// at returns the epoch of the record at offset, NoLeaderEpoch if unknown.
func (c *epochCache) at(offset model.Offset) model.LeaderEpoch {
	for i := len(c.entries) - 1; i >= 0; i-- {
		if c.entries[i].Start <= offset {
			return c.entries[i].Epoch
		}
	}
	return model.NoLeaderEpoch
}

func (c *epochCache) encode() []byte {
	b := make([]byte, 0, 16+24*len(c.entries))
	b = append(b, "0\n"...)
	b = strconv.AppendInt(b, int64(len(c.entries)), 10)
	for _, e := range c.entries {
		b = append(b, '\n')
		b = strconv.AppendInt(b, int64(e.Epoch), 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(e.Start), 10)
	}
	return append(b, '\n')
}

func decodeEpochs(b []byte) ([]EpochStart, error) {
	lines := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	if len(lines) < 2 || string(lines[0]) != "0" {
		return nil, fmt.Errorf("%w: version line", ErrFormat)
	}
	n, err := strconv.Atoi(string(lines[1]))
	if err != nil || n != len(lines)-2 {
		return nil, fmt.Errorf("%w: %q entries announced, %d found", ErrFormat, lines[1], len(lines)-2)
	}
	entries := make([]EpochStart, 0, n)
	for _, line := range lines[2:] {
		e, s, ok := bytes.Cut(line, []byte(" "))
		epoch, err1 := strconv.ParseInt(string(e), 10, 32)
		start, err2 := strconv.ParseInt(string(s), 10, 64)
		if !ok || err1 != nil || err2 != nil || epoch < 0 || start < 0 {
			return nil, fmt.Errorf("%w: entry %q", ErrFormat, line)
		}
		if k := len(entries); k > 0 && (entries[k-1].Epoch >= model.LeaderEpoch(epoch) || entries[k-1].Start >= model.Offset(start)) {
			return nil, fmt.Errorf("%w: entry %q does not follow the one before", ErrOrder, line)
		}
		entries = append(entries, EpochStart{model.LeaderEpoch(epoch), model.Offset(start)})
	}
	return entries, nil
}

// readEpochs reads the epoch file; ok is false if it is missing or damaged.
func (l *Log) readEpochs() (entries []EpochStart, ok bool, err error) {
	b, err := vfs.ReadFile(l.fs, l.path+string(pathSeparator)+epochFile, maxEpochFile)
	var large *vfs.TooLargeError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &large) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, storageError("read epochs", err)
	}
	entries, err = decodeEpochs(b)
	return entries, err == nil, nil
}

// StartEpoch records that a leader of epoch begins at the log end, even before it has
// appended anything. Nothing may be staged. An epoch that is not above LatestEpoch
// changes nothing. It becomes durable with the first record of the epoch.
func (l *Log) StartEpoch(epoch model.LeaderEpoch) {
	if l.stagedEnd != l.end {
		panic(fmt.Sprintf("storage: StartEpoch(%d) with records staged up to %d behind %d", epoch, l.stagedEnd, l.end))
	}
	dirty := l.epochs.dirty
	l.epochs.assign(epoch, l.end)
	if !dirty && l.epochs.dirty {
		l.epochs.dirty, l.epochs.behind = false, true
	}
}

// LatestEpoch is the newest epoch that the log knows, NoLeaderEpoch in a log without.
func (l *Log) LatestEpoch() model.LeaderEpoch { return l.epochs.latest() }

// EpochEnd answers "where does epoch end here": the largest epoch known that is not
// above it, with the start of the next one or the log end. (-1, -1) if epoch is above
// LatestEpoch; an epoch older than all known ends where the first known begins.
func (l *Log) EpochEnd(epoch model.LeaderEpoch) (model.LeaderEpoch, model.Offset) {
	return l.epochs.endOf(epoch, l.end)
}

// EpochAt is the leader epoch of the record at offset, NoLeaderEpoch if unknown.
func (l *Log) EpochAt(offset model.Offset) model.LeaderEpoch { return l.epochs.at(offset) }

// Epochs returns a copy of the epoch cache, oldest first.
func (l *Log) Epochs() []EpochStart { return slices.Clone(l.epochs.entries) }
