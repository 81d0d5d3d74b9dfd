package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"
	"sync"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// Journal makes the ends of many logs durable with one sync. A small batch that must be
// durable is in its segment file already (in the page cache, that is); a second copy of it
// goes here, with those of all other logs of the directory, and one fdatasync covers them.
// The segment files are synced later, at leisure; what they cover need not be kept here.
//
//	commit round:  Log.AppendTail, of each log that waits -> Journal.Append -> Log.TailDurable
//	flush round:   m := Mark() -> sync every log that has a tail here -> Release(m)
//	start:         OpenLog appends to the recovered log what only the journal still has
//
// Nothing here is ever the only copy of what a reader sees while the process lives, so
// reads never touch it. There are at most journalFiles files; they are filled in turn, and
// a file is filled again from its beginning once every record in it is durable elsewhere.
// They are written with zeros before they are used: an fdatasync that changes no size is
// several times cheaper.
//
// Safe for concurrent use.
type Journal struct {
	d     *Dir
	limit int64

	// turn holds one token while somebody writes. It orders the appends, and guards the
	// files and what follows here.
	turn chan struct{}
	// files in the order of their generations; the last is being filled, if used says so.
	files      []*journalFile
	used       bool
	generation uint64
	failed     error
	made       bool

	// mu guards the rest, and the files' left. It is not held while the disk works.
	mu sync.Mutex
	// seq counts appends; a file may be used again when all of its are released.
	seq, released uint64
	// touched has, for each partition, the number of the last append that held an entry of it.
	touched map[model.Partition]uint64
	// left is what an earlier life left for logs that were not opened yet.
	left map[model.Partition][]leftEntry
}

type journalFile struct {
	name       string
	f          vfs.File
	generation uint64
	// end is where the next entry goes; size what is prewritten.
	end, size int64
	// last is the number of the last append.
	last uint64
	// left counts the partitions with left entries here.
	left int
}

// leftEntry is an entry of an earlier life.
type leftEntry struct {
	file  *journalFile
	pos   int64
	bytes int
	cut   bool
	from  model.Offset
}

// Format of a journal file, ours, frozen; big endian. A header, then entries, then
// anything: an entry counts if its generation is the header's and its checksum fits, also
// behind one that is torn or damaged. Generations grow from file to file and from use to
// use.
//
//	header  "KJRN\x01" 0 0 0 | generation uint64 | CRC32C of these 16 bytes
//	entry   payload bytes uint32 | CRC32C of all behind | generation uint64 |
//	        kind uint8: 1 = batches, 2 = cut | topic id [16] | index int32 |
//	        from int64 | payload: whole batches
//
// from is the offset up to which the log was durable before the batches, or to which it
// was cut: what earlier entries hold from there on is void.
const (
	journalDir      = "journal"
	journalSuffix   = ".journal"
	journalMagic    = "KJRN\x01\x00\x00\x00"
	journalHeadLen  = len(journalMagic) + 8 + 4
	journalEntryLen = 4 + 4 + 8 + 1 + 16 + 4 + 8
	kindBatches     = 1
	kindCut         = 2

	journalFiles = 2
	// DefaultJournalBytes is the size to which a journal file grows.
	DefaultJournalBytes = 32 << 20
	journalFirstBytes   = 1 << 20
	// maxTailBytes bounds what one log puts into the journal at a time; with more to make
	// durable, syncing its own file is cheaper (docs/design/0010).
	maxTailBytes = 64 << 10
	// maxPayload bounds what a reader believes.
	maxPayload = 1 << 20
)

// newJournal reads what the last life left; it changes nothing.
func newJournal(d *Dir) (*Journal, error) {
	j := &Journal{d: d, limit: DefaultJournalBytes, turn: make(chan struct{}, 1), touched: map[model.Partition]uint64{}, left: map[model.Partition][]leftEntry{}}
	names, err := d.fs.List(j.path(""))
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, storageError("list journal", err)
	}
	j.made = true
	for _, name := range names {
		if strings.HasSuffix(name, journalSuffix) {
			if err := j.read(j.path(name)); err != nil {
				return nil, err
			}
		}
	}
	return j, nil
}

func (j *Journal) path(name string) string {
	p := j.d.file(journalDir)
	if name != "" {
		p += string(pathSeparator) + name
	}
	return p
}

// AppendTail appends to b what the log has written and not made durable, as an entry of
// the journal. ok is false, with b as it was, if that is nothing, too much for the
// journal, or spread over segments: then the log needs a Sync.
func (l *Log) AppendTail(b []byte) (t Tail, out []byte, ok bool) {
	p, s := l.durablePoint(), l.active()
	n := s.size - p.pos
	if l.failed != nil || p.base != s.base || n <= 0 || n > maxTailBytes {
		return Tail{}, b, false
	}
	h, err := l.open(s)
	if err != nil {
		return Tail{}, b, false // the sync will meet it, and report
	}
	at := len(b)
	b = appendJournalEntry(b, kindBatches, l.partition, p.end, int(n))
	data := b[at+journalEntryLen:]
	if _, err := h.f.ReadAt(data, p.pos); err != nil {
		return Tail{}, b[:at], false
	}
	l.journaled = true
	return Tail{to: durable{l.end, s.base, s.size}, cuts: l.cuts}, b, true
}

// Tail is what AppendTail took.
type Tail struct {
	to   durable
	cuts uint32
}

// durable is a point up to which a log survives a power cut: an offset, and where it lies.
type durable struct {
	end  model.Offset
	base model.Offset
	pos  int64
}

// TailDurable takes note that the journal holds t durably.
func (l *Log) TailDurable(t Tail) {
	if t.cuts == l.cuts && t.to.end > l.FlushedOffset() {
		l.inJournal = t.to
	}
}

// durablePoint is the end of what is durable, in its file or in the journal.
func (l *Log) durablePoint() durable {
	if f := &l.flushedAt; f.RecoveryPoint >= l.inJournal.end {
		return durable{f.RecoveryPoint, f.segmentBase, f.position}
	}
	return l.inJournal
}

// voidJournal makes sure, durably, that nothing from offset on comes back from the
// journal. It is called before the log's own files are cut.
func (l *Log) voidJournal(from model.Offset) error {
	l.inJournal = durable{}
	if !l.journaled {
		return nil
	}
	return l.dir.journal.cut(l.partition, from)
}

// appendJournalEntry appends an entry's head and room for its payload; Journal.Append
// fills in generation and checksum.
func appendJournalEntry(b []byte, kind byte, p model.Partition, from model.Offset, payload int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(payload))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, kind)
	b = append(b, p.Topic[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Index))
	b = binary.BigEndian.AppendUint64(b, uint64(from))
	n := len(b)
	if cap(b) < n+payload {
		b = append(b, make([]byte, payload)...)
	}
	return b[:n+payload]
}

// Append writes entries, made by Log.AppendTail into b, and syncs them. ok is false, with
// nothing done, if there is no room: the disk is full, or what is in the journal is not
// released yet. An error is final: the kernel may have dropped pages that it could not
// write, so the directory must not be trusted with another try.
func (j *Journal) Append(b []byte) (ok bool, err error) {
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	if j.failed != nil {
		return false, j.failed
	}
	f, err := j.room(int64(len(b)))
	if err != nil || f == nil {
		return false, err
	}
	j.stamp(f, b)
	if _, err := f.f.WriteAt(b, f.end); err != nil {
		j.used = false // whole entries may be there that nobody vouched for: nothing may follow them
		return false, j.unlessFull("append to journal", err)
	}
	if err := vfs.Synced(f.f.Datasync()); err != nil {
		return false, j.fail("append to journal", err)
	}
	f.end += int64(len(b))
	return true, nil
}

// stamp completes the entries in b and counts the append.
func (j *Journal) stamp(f *journalFile, b []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	f.last = j.seq
	for e := b; len(e) > 0; {
		n := journalEntryLen + int(binary.BigEndian.Uint32(e))
		j.touched[entryPartition(e)] = j.seq
		binary.BigEndian.PutUint64(e[8:], f.generation)
		binary.BigEndian.PutUint32(e[4:], crc32.Checksum(e[8:n], castagnoli()))
		e = e[n:]
	}
}

// entryPartition reads whose an entry is.
func entryPartition(e []byte) (p model.Partition) {
	copy(p.Topic[:], e[17:])
	p.Index = int32(binary.BigEndian.Uint32(e[33:]))
	return p
}

func (j *Journal) fail(what string, err error) error {
	j.failed = storageError(what, err)
	return j.failed
}

// room returns the file that takes n more bytes; nil if there is none.
func (j *Journal) room(n int64) (*journalFile, error) {
	if err := j.d.beforeMutation(); err != nil {
		return nil, err
	}
	if j.used {
		f := j.files[len(j.files)-1]
		if f.end+n <= j.limit {
			err := j.grow(&f, n)
			return f, err
		}
	}
	if int64(journalHeadLen)+n > j.limit {
		return nil, nil
	}
	return j.next(n)
}

// next begins a file anew: one whose entries are all released, or a new one; nil if
// there may be no more.
func (j *Journal) next(n int64) (*journalFile, error) {
	f, live := j.free()
	if f == nil {
		if live >= journalFiles {
			return nil, nil
		}
		var err error
		if f, err = j.create(); f == nil || err != nil {
			return nil, err
		}
	}
	j.generation++
	f.generation, f.end, f.last = j.generation, int64(journalHeadLen), 0
	j.files, j.used = append(j.files, f), true
	if err := j.grow(&f, n); err != nil || f == nil {
		j.used = false
		return nil, err
	}
	// The header is synced with the first entries behind it. Until then the file's old
	// entries, if it had any, are void without harm: all of them were released.
	if _, err := f.f.WriteAt(journalHeader(f.generation), 0); err != nil {
		return nil, j.fail("write journal", err)
	}
	return f, nil
}

// free takes a file that may be filled anew out of the list, and says how many others
// hold no left entries: files of an earlier life may have to stay, and are not counted.
func (j *Journal) free() (f *journalFile, live int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	kept := j.files[:0]
	for i, g := range j.files {
		current := j.used && i == len(j.files)-1
		switch {
		case g.left > 0 || current || g.last > j.released:
			kept = append(kept, g)
			if g.left == 0 {
				live++
			}
		case f == nil:
			f = g
		default: // one more than needed, since an earlier life's were kept meanwhile
			_ = g.f.Close()
			_ = j.d.fs.Remove(g.name)
		}
	}
	j.files = kept
	return f, live
}

func journalHeader(generation uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte(journalMagic), generation)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// create makes an empty file; nil if the disk has no room for it.
func (j *Journal) create() (*journalFile, error) {
	if !j.made {
		if err := j.d.fs.MkdirAll(j.path("")); err != nil {
			return nil, j.unlessFull("create journal", err)
		}
		if err := vfs.Synced(j.d.fs.SyncDir(j.d.path)); err != nil {
			return nil, j.fail("create journal", err)
		}
		j.made = true
	}
	f := &journalFile{name: j.path(fmt.Sprintf("%020d%s", j.generation+1, journalSuffix))}
	var err error
	if f.f, err = j.d.fs.Create(f.name); err != nil {
		return nil, j.unlessFull("create journal", err)
	}
	if err := vfs.Synced(j.d.fs.SyncDir(j.path(""))); err != nil {
		return nil, j.fail("create journal", err)
	}
	return f, nil
}

// grow sees to n prewritten bytes behind the end of *f, which becomes nil if the disk is
// full.
func (j *Journal) grow(f **journalFile, n int64) error {
	g := *f
	if g.end+n <= g.size {
		return nil
	}
	size := max(2*g.size, journalFirstBytes)
	for size < g.end+n {
		size *= 2
	}
	size = min(size, j.limit)
	for at := g.size; at < size; at += int64(len(zeros)) {
		if _, err := g.f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			*f = nil
			return j.unlessFull("extend journal", err)
		}
	}
	if err := vfs.Synced(g.f.Sync()); err != nil {
		return j.fail("extend journal", err)
	}
	g.size = size
	return nil
}

// unlessFull is nil for a full disk: the logs sync their own files then.
func (j *Journal) unlessFull(what string, err error) error {
	if vfs.NoSpace(err) {
		return nil
	}
	return j.fail(what, err)
}

// Crowded says that the file in use is half full and no other may be used after it: time
// to sync the logs and to release what is in the journal.
func (j *Journal) Crowded() bool {
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.used || j.files[len(j.files)-1].end <= j.limit/2 {
		return false
	}
	held := 0
	for _, f := range j.files[:len(j.files)-1] {
		if f.left == 0 && f.last > j.released {
			held++
		}
	}
	return held >= journalFiles-1
}

// Mark returns a point for Release: all that was appended so far.
func (j *Journal) Mark() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}

// Release says that the logs synced their own files after Mark returned m, so what was
// appended before need not be kept.
func (j *Journal) Release(m uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.released = max(j.released, m)
}

// cut voids, durably, what the journal holds of a partition from an offset on.
func (j *Journal) cut(p model.Partition, from model.Offset) error {
	ok, err := j.Append(appendJournalEntry(nil, kindCut, p, from, 0))
	if err == nil && !ok {
		err = storageError("journal", errors.New("no room to note that a log is cut"))
	}
	return err
}

// drop voids, durably, all that the journal holds of a partition that is removed.
func (j *Journal) drop(p model.Partition) error {
	j.mu.Lock()
	left, touched := len(j.left[p]) > 0, j.touched[p] > j.released
	delete(j.touched, p)
	j.mu.Unlock()
	if !left && !touched {
		return nil
	}
	if err := j.cut(p, 0); err != nil {
		return err
	}
	j.taken(p)
	return nil
}

// close closes the files. With clean set, every log was flushed: what the journal holds
// is void.
func (j *Journal) close(clean bool) error {
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for _, f := range j.files {
		if clean && f.left == 0 && f.end > int64(journalHeadLen) {
			errs = append(errs, j.void(f))
		}
		_ = f.f.Close() // every append was synced
	}
	j.files, j.used, j.failed = nil, false, errJournalClosed
	return errors.Join(errs...)
}

var errJournalClosed = errors.New("the journal is closed")

// void makes a file empty, so that the next start has nothing to read.
func (j *Journal) void(f *journalFile) (err error) {
	j.generation++
	if _, err = f.f.WriteAt(journalHeader(j.generation), 0); err == nil {
		err = vfs.Synced(f.f.Datasync())
	}
	return storageError("close journal", err)
}
