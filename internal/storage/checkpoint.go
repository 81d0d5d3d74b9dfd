package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// CheckpointEntry is what a log directory remembers of one partition between starts.
// Log.CheckpointEntry makes one.
type CheckpointEntry struct {
	// Partition names the log.
	Partition model.Partition
	// RecoveryPoint: every record below it was synced.
	RecoveryPoint model.Offset
	// LogStart is the first offset that may be read.
	LogStart model.Offset
	// HighWatermark is a lower bound of it, from the owner; 0 if unknown.
	HighWatermark model.Offset

	// segmentBase and position say in which segment, and at which byte, the recovery point
	// lies; chain is the running header checksum of that segment up to there.
	segmentBase model.Offset
	position    int64
	chain       uint32
	batches     int64
	// maxTs and maxTsOffset are the segment's largest timestamp (ms) below the recovery
	// point, and the last offset of the first batch that has it.
	maxTs       int64
	maxTsOffset model.Offset
	// noProducers: no idempotent producer had state at the recovery point.
	noProducers bool
	// cuts counts the log's truncations, so that an entry gathered before one cannot undo
	// what the truncation recorded. Not stored.
	cuts uint32
}

// Format of checkpoints, ours, frozen; big endian: the 5 bytes "KCKP" 1, then records of
// fixed length, each with its own CRC32C. A later record of the same partition replaces
// an earlier one. The file is rewritten as a whole by Dir.Checkpoint (write, sync,
// rename); what must be durable at once is appended to it.
//
//	| topic id [16] | index int32 | recovery point int64 | log start int64 |
//	| high watermark int64 | segment base int64 | position int64 | chain uint32 |
//	| batches int64 | max timestamp int64 | its offset int64 | flags uint8: 1 = no producers, 2 = forgotten | CRC32C of all before |
const (
	checkpointFile   = "checkpoints"
	checkpointMagic  = "KCKP\x01"
	checkpointLen    = 16 + 4 + 8 + 8 + 8 + 8 + 8 + 4 + 8 + 8 + 8 + 1 + 4
	flagNoProducers  = 1
	flagForgotten    = 2
	maxCheckpoints   = 256 << 20
	checkpointMargin = 64 // appended records beyond twice the live ones cause a rewrite
)

func appendCheckpoint(b []byte, e *CheckpointEntry, forgotten bool) []byte {
	from := len(b)
	b = append(b, e.Partition.Topic[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(e.Partition.Index))
	for _, v := range []int64{int64(e.RecoveryPoint), int64(e.LogStart), int64(e.HighWatermark), int64(e.segmentBase), e.position} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	b = binary.BigEndian.AppendUint32(b, e.chain)
	b = binary.BigEndian.AppendUint64(b, uint64(e.batches))
	b = binary.BigEndian.AppendUint64(b, uint64(e.maxTs))
	b = binary.BigEndian.AppendUint64(b, uint64(e.maxTsOffset))
	var flags byte
	if e.noProducers {
		flags |= flagNoProducers
	}
	if forgotten {
		flags |= flagForgotten
	}
	b = append(b, flags)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli()))
}

// decodeCheckpoints returns the newest entry of each partition, the number of records
// read and how many were damaged. A torn record at the end is an append that never
// finished and does not count.
func decodeCheckpoints(b []byte) (entries map[model.Partition]CheckpointEntry, records, damaged int, err error) {
	entries = map[model.Partition]CheckpointEntry{}
	if len(b) < len(checkpointMagic) || string(b[:len(checkpointMagic)]) != checkpointMagic {
		return entries, 0, 0, ErrFormat
	}
	for b = b[len(checkpointMagic):]; len(b) >= checkpointLen; b = b[checkpointLen:] {
		records++
		r := b[:checkpointLen]
		if crc32.Checksum(r[:checkpointLen-4], castagnoli()) != binary.BigEndian.Uint32(r[checkpointLen-4:]) {
			damaged++
			continue
		}
		var e CheckpointEntry
		copy(e.Partition.Topic[:], r)
		e.Partition.Index = int32(binary.BigEndian.Uint32(r[16:]))
		e.RecoveryPoint = model.Offset(binary.BigEndian.Uint64(r[20:]))
		e.LogStart = model.Offset(binary.BigEndian.Uint64(r[28:]))
		e.HighWatermark = model.Offset(binary.BigEndian.Uint64(r[36:]))
		e.segmentBase = model.Offset(binary.BigEndian.Uint64(r[44:]))
		e.position = int64(binary.BigEndian.Uint64(r[52:]))
		e.chain = binary.BigEndian.Uint32(r[60:])
		e.batches = int64(binary.BigEndian.Uint64(r[64:]))
		e.maxTs = int64(binary.BigEndian.Uint64(r[72:]))
		e.maxTsOffset = model.Offset(binary.BigEndian.Uint64(r[80:]))
		flags := r[88]
		e.noProducers = flags&flagNoProducers != 0
		if flags&flagForgotten != 0 {
			delete(entries, e.Partition)
			continue
		}
		entries[e.Partition] = e
	}
	return entries, records, damaged, nil
}

func (d *Dir) loadCheckpoints() error {
	b, err := vfs.ReadFile(d.fs, d.file(checkpointFile), maxCheckpoints)
	if errors.Is(err, fs.ErrNotExist) {
		d.ckpt.entries = map[model.Partition]CheckpointEntry{}
		return nil
	}
	if err != nil {
		return storageError("read checkpoints", err)
	}
	var damaged int
	d.ckpt.entries, _, damaged, err = decodeCheckpoints(b)
	if err != nil {
		damaged++ // all of it: every log is scanned from its start
	}
	d.damagedCheckpoints = damaged
	// A record that is torn or damaged would shift or hide what is appended: the first
	// append rewrites the file.
	return nil
}

// Checkpoint replaces the checkpoints of the given logs and keeps those of all others,
// durably. Entries of logs that were closed meanwhile, or truncated since the entry was
// made, are passed over. Safe for concurrent use.
func (d *Dir) Checkpoint(entries []CheckpointEntry) error {
	live := make([]CheckpointEntry, 0, len(entries))
	d.run.Lock()
	for _, e := range entries {
		if d.run.open[e.Partition] {
			live = append(live, e)
		}
	}
	d.run.Unlock()
	return d.checkpoint(live)
}

func (d *Dir) checkpoint(entries []CheckpointEntry) error {
	if err := d.beforeMutation(); err != nil {
		return err
	}
	d.ckpt.Lock()
	defer d.ckpt.Unlock()
	changed := false
	for _, e := range entries {
		old, known := d.ckpt.entries[e.Partition]
		if known {
			// A delete-records or a truncation may have been recorded since the owner asked for e.
			if old.LogStart > e.LogStart {
				e.LogStart = old.LogStart
			}
			if old == e || e.cuts < old.cuts {
				continue
			}
		}
		d.ckpt.entries[e.Partition] = e
		changed = true
	}
	if !changed {
		return nil
	}
	return d.rewriteCheckpointsLocked()
}

// record makes one entry durable at once. Used before files change, so that the entry
// is never ahead of them.
func (d *Dir) record(e CheckpointEntry) error { return d.appendCheckpoint(e, false) }

// forget drops a partition's entry, durably.
func (d *Dir) forget(p model.Partition) error {
	d.ckpt.Lock()
	_, known := d.ckpt.entries[p]
	d.ckpt.Unlock()
	if !known {
		return nil
	}
	return d.appendCheckpoint(CheckpointEntry{Partition: p}, true)
}

func (d *Dir) appendCheckpoint(e CheckpointEntry, forgotten bool) error {
	if err := d.beforeMutation(); err != nil {
		return err
	}
	d.ckpt.Lock()
	defer d.ckpt.Unlock()
	if forgotten {
		delete(d.ckpt.entries, e.Partition)
	} else {
		d.ckpt.entries[e.Partition] = e
	}
	if d.ckpt.f == nil || d.ckpt.records > 2*len(d.ckpt.entries)+checkpointMargin {
		return d.rewriteCheckpointsLocked()
	}
	b := appendCheckpoint(nil, &e, forgotten)
	_, err := d.ckpt.f.WriteAt(b, d.ckpt.size)
	if err == nil {
		err = vfs.Synced(d.ckpt.f.Datasync())
	}
	if err != nil {
		return storageError("append to checkpoints", err)
	}
	d.ckpt.size += int64(len(b))
	d.ckpt.records++
	return nil
}

// rewriteCheckpointsLocked writes the file anew. The lock is held across the syncs: it
// orders the writers of this one file, and nobody on the way of a record waits for it.
func (d *Dir) rewriteCheckpointsLocked() error {
	b := make([]byte, 0, len(checkpointMagic)+len(d.ckpt.entries)*checkpointLen)
	b = append(b, checkpointMagic...)
	for _, e := range d.ckpt.entries {
		b = appendCheckpoint(b, &e, false)
	}
	if d.ckpt.f != nil {
		_ = d.ckpt.f.Close() // every append to it was synced
		d.ckpt.f = nil
	}
	name := d.file(checkpointFile)
	if err := vfs.WriteFile(d.fs, name, b, true); err != nil {
		return storageError("write checkpoints", err)
	}
	f, err := d.fs.OpenReadWrite(name)
	if err != nil {
		return storageError("open checkpoints", err)
	}
	d.ckpt.f, d.ckpt.size, d.ckpt.records = f, int64(len(b)), len(d.ckpt.entries)
	return nil
}

// CheckpointEntry is what Dir.Checkpoint needs to remember of the log: the recovery
// point, the log start and the owner's high watermark.
func (l *Log) CheckpointEntry(highWatermark model.Offset) CheckpointEntry {
	e := l.flushedAt
	e.Partition, e.LogStart, e.HighWatermark, e.cuts = l.partition, l.start, highWatermark, l.cuts
	return e
}

// CleanEntry is the entry of a log that was closed, for Dir.CloseClean alone: its
// recovery point is the log end, which holds once CloseClean has flushed the file system.
func (l *Log) CleanEntry(highWatermark model.Offset) CheckpointEntry {
	if !l.closed {
		panic("storage: CleanEntry of an open log")
	}
	l.flushedAt = l.pointNow()
	return l.CheckpointEntry(highWatermark)
}

func (e CheckpointEntry) String() string {
	return fmt.Sprintf("%v recovery=%d start=%d hw=%d", e.Partition, e.RecoveryPoint, e.LogStart, e.HighWatermark)
}

// entry is what is recorded of a partition.
func (d *Dir) entry(p model.Partition) (CheckpointEntry, bool) {
	d.ckpt.Lock()
	defer d.ckpt.Unlock()
	e, ok := d.ckpt.entries[p]
	return e, ok
}
