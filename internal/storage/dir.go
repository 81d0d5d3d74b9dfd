package storage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
	"github.com/kalda-io/kalda/kerr"
)

const pathSeparator = filepath.Separator

// Names in a log directory. Frozen.
const (
	lockFile    = "lock"
	metaFile    = "meta.properties"
	runFile     = "run.meta"
	cleanFile   = "clean"
	ioErrorFile = "ioerror"
	partsDir    = "parts"
	goneSuffix  = ".gone"
)

// keptIncarnations is how many incarnations run.meta remembers: enough to prove that a
// registration or a controller key left behind by any recent life of this node is ours.
const keptIncarnations = 16

// Class says what the last shutdown of a log directory leaves to be trusted.
type Class uint8

const (
	// Suspect: the tail beyond the recovery point may be lost or wrong (power loss, other
	// machine or disk, damaged run.meta, an I/O error).
	Suspect Class = iota
	// CrashSameBoot: the process died but the kernel lived on, so all that was written is
	// there, once recovery has synced it.
	CrashSameBoot
	// Clean: everything was flushed. A new directory is clean, too.
	Clean
)

// String returns clean, crash-same-boot or suspect.
func (c Class) String() string {
	switch c {
	case Clean:
		return "clean"
	case CrashSameBoot:
		return "crash-same-boot"
	}
	return "suspect"
}

// DirOptions are the facts about this node that a log directory is checked against.
type DirOptions struct {
	// ClusterID is the cluster's id; a directory of another cluster is refused. Required.
	ClusterID string
	// NodeID is node.id; a directory of another node is refused.
	NodeID model.BrokerID
	// BootID names this boot of the kernel; "" if unknown (then no crash is CrashSameBoot).
	BootID string
	// NeverTrustTail makes every crash Suspect (kalda.tail.trust=never), for volumes that
	// may be detached by force.
	NeverTrustTail bool
	// Files counts and bounds the files that logs keep open; several directories may share
	// it. nil counts for this one, without a bound.
	Files *Files
	// MaxProducers is how many idempotent producers all logs of the directory remember
	// together; 0 is no bound. Above it a log forgets a quarter of its own, the longest
	// silent ones, for each quarter that it takes in anew, down to the 16 newest.
	MaxProducers int
}

// RunMeta is what a directory knows of this broker's lives.
type RunMeta struct {
	// BrokerEpoch is that of the last registration that was recorded; 0 before the first.
	BrokerEpoch model.BrokerEpoch
	// Incarnations are the ids of the newest lives, newest first.
	Incarnations []string
	// BootID and DeviceID are those at the time when BrokerEpoch was recorded.
	BootID, DeviceID string
}

// Dir is one log directory (an entry of log.dirs), locked against other processes. Its
// methods are safe for concurrent use.
type Dir struct {
	fs       vfs.FS
	path     string
	opts     DirOptions
	id       string
	class    Class
	deviceID string
	lock     io.Closer
	// reread: what the kernel has in memory of the directory's files may not be on the
	// disk.
	reread bool
	// fresh: OpenDir made the directory. runLost: its run.meta was missing or damaged.
	fresh, runLost bool
	// damagedCheckpoints counts records of checkpoints that could not be read at open.
	damagedCheckpoints int

	journal   *Journal
	producers producerBudget
	files     *Files

	buffers sync.Pool // *pending
	walkers sync.Pool // *walker
	scans   sync.Pool // *[]byte of scanBytes
	// maps counts the mappings of all logs; see maxMappings.
	maps atomic.Int32

	// marked says that the clean marker may be there. It goes, durably, before the first
	// change of anything.
	marked atomic.Bool
	// run guards the small files.
	run struct {
		sync.Mutex
		meta   RunMeta
		closed bool
		// reported: the class found at open was clean, or a registration has told it.
		reported bool
		open     map[model.Partition]bool
	}
	// ckpt guards the file checkpoints.
	ckpt struct {
		sync.Mutex
		entries map[model.Partition]CheckpointEntry
		f       vfs.File
		size    int64
		records int
	}
}

// OpenDir locks and opens a log directory, creating it if there is none. It refuses,
// without a change, a directory that belongs to Kafka, to another cluster or to another
// node, and one that another process holds (errors.Is vfs.ErrLocked).
func OpenDir(fsys vfs.FS, path string, o DirOptions) (*Dir, error) {
	d := &Dir{fs: fsys, path: path, opts: o, files: o.Files}
	if d.files == nil {
		d.files = &Files{}
	}
	d.producers.max = int64(o.MaxProducers)
	d.run.open = map[model.Partition]bool{}
	if err := CheckDir(fsys, path); err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(path); err != nil {
		return nil, storageError("create log directory", err)
	}
	var err error
	if d.lock, err = fsys.Lock(d.file(lockFile)); err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return nil, fmt.Errorf("log directory %s: %w", path, err) // nothing is wrong with the disk
		}
		return nil, storageError("log directory "+path, err)
	}
	if err := d.load(); err != nil {
		_ = d.lock.Close()
		return nil, err
	}
	return d, nil
}

func (d *Dir) file(name string) string { return d.path + string(pathSeparator) + name }

func (d *Dir) partPath(p model.Partition) string {
	return d.file(partsDir) + string(pathSeparator) + p.String()
}

// CheckDir refuses a directory that holds what Apache Kafka leaves in its log directories,
// with LOG_DIR_NOT_FOUND. It only reads, and takes no lock: who puts other files into a log
// directory asks it first. A directory that is not there yet is fine.
func CheckDir(fsys vfs.FS, path string) error {
	d := &Dir{fs: fsys, path: path}
	names, err := d.fs.List(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return storageError("list log directory", err)
	}
	_, err = readProps(d.fs, d.file(metaFile))
	if errors.Is(err, errForeign) {
		return kafkaDirError(d.path, metaFile)
	}
	for _, name := range names {
		at := strings.LastIndexByte(name, '-')
		if at <= 0 {
			continue
		}
		if _, err := strconv.ParseUint(name[at+1:], 10, 31); err != nil {
			continue
		}
		if in, err := d.fs.Stat(d.file(name)); err == nil && in.IsDir {
			return kafkaDirError(d.path, name)
		}
	}
	return nil
}

func kafkaDirError(path, what string) error {
	return kerr.With(kerr.LogDirNotFound, "log directory %s holds %s of Apache Kafka and was left untouched: "+
		"give log.dirs (or --data) an empty directory; kalda does not read Kafka's directories", path, what)
}

func (d *Dir) load() error {
	var err error
	if d.deviceID, err = d.fs.DeviceID(d.path); err != nil {
		return storageError("log directory", err)
	}
	if d.fresh, err = d.loadMeta(); err != nil {
		return err
	}
	if err := d.loadCheckpoints(); err != nil {
		return err
	}
	d.class, err = d.classify()
	if err != nil {
		return err
	}
	d.run.reported = d.class == Clean
	if d.journal, err = newJournal(d); err != nil {
		return err
	}
	return d.removeGone()
}

// restoreMeta is what helps against a lost meta.properties.
const restoreMeta = "put it back from a backup of this directory, however old: it never changes"

// loadMeta reads meta.properties, or makes it in a new directory.
func (d *Dir) loadMeta() (fresh bool, err error) {
	p, err := readProps(d.fs, d.file(metaFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := d.fs.Stat(d.file(partsDir)); err == nil {
			// Without the file nobody can say whose data this is. It is not ours to guess.
			return false, &CorruptError{Path: d.file(metaFile), Err: errors.New("missing, but there are partitions beside it: " + restoreMeta)}
		}
		d.id = newUUID()
		if err := d.fs.MkdirAll(d.file(partsDir)); err != nil {
			return false, storageError("create log directory", err)
		}
		p = props{{"cluster.id", d.opts.ClusterID}, {"node.id", strconv.Itoa(int(d.opts.NodeID))}, {"directory.id", d.id}}
		if err := writeProps(d.fs, d.file(metaFile), p); err != nil {
			return false, storageError("write "+metaFile, err)
		}
		return true, storageError("sync log directory", vfs.Synced(d.fs.SyncDir(filepath.Dir(d.path))))
	case isCorrupt(err):
		return false, fmt.Errorf("%w: %s", err, restoreMeta)
	case err != nil:
		return false, storageError("read "+metaFile, err)
	}
	if got := p.get("cluster.id"); got != d.opts.ClusterID {
		return false, kerr.With(kerr.InconsistentClusterID, "log directory %s belongs to cluster %s, this node to %s", d.path, got, d.opts.ClusterID)
	}
	if got := p.get("node.id"); got != strconv.Itoa(int(d.opts.NodeID)) {
		return false, kerr.With(kerr.InvalidConfig, "log directory %s belongs to node.id %s, this is node %d", d.path, got, d.opts.NodeID)
	}
	d.id = p.get("directory.id")
	return false, nil
}

// classify decides the Class from run.meta, the clean marker and the I/O error marker.
func (d *Dir) classify() (Class, error) {
	if d.ioErrorHere() {
		d.reread = true
		return Suspect, d.loadRun(true)
	}
	if err := d.loadRun(false); err != nil {
		if isCorrupt(err) {
			return Suspect, nil
		}
		return Suspect, err
	}
	marker, err := readProps(d.fs, d.file(cleanFile))
	switch {
	case err == nil:
		d.marked.Store(true)
		if marker.get("broker.epoch") == strconv.FormatInt(int64(d.run.meta.BrokerEpoch), 10) {
			return Clean, nil
		}
	case isCorrupt(err):
		d.marked.Store(true) // worth nothing, but it is there
	case !errors.Is(err, fs.ErrNotExist):
		return Suspect, storageError("read "+cleanFile, err)
	}
	if d.fresh {
		return Clean, nil
	}
	m := &d.run.meta
	if !d.opts.NeverTrustTail && d.opts.BootID != "" && m.BootID == d.opts.BootID && m.DeviceID == d.deviceID {
		return CrashSameBoot, nil
	}
	return Suspect, nil
}

func isCorrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c)
}

// loadRun reads run.meta. A missing one is that of a directory that never registered.
func (d *Dir) loadRun(tolerant bool) error {
	p, err := readProps(d.fs, d.file(runFile))
	d.runLost = errors.Is(err, fs.ErrNotExist) || isCorrupt(err)
	if errors.Is(err, fs.ErrNotExist) || tolerant && isCorrupt(err) {
		return nil
	}
	if err != nil {
		return storageError("read "+runFile, err)
	}
	epoch, err := strconv.ParseInt(p.get("broker.epoch"), 10, 64)
	if err != nil {
		d.runLost = true
		return &CorruptError{Path: d.file(runFile), Err: ErrFormat}
	}
	d.run.meta = RunMeta{BrokerEpoch: model.BrokerEpoch(epoch), BootID: p.get("boot.id"), DeviceID: p.get("device.id")}
	if s := p.get("incarnations"); s != "" {
		d.run.meta.Incarnations = strings.Split(s, ",")
	}
	return nil
}

// removeGone finishes removals that a crash interrupted: the rename to .gone was made on
// positive evidence.
func (d *Dir) removeGone() error {
	names, err := d.fs.List(d.file(partsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return &CorruptError{Path: d.file(partsDir), Err: errors.New("missing, with all of its partitions: put the directory back, or remove " +
			d.file(metaFile) + " to begin with an empty one")}
	}
	if err != nil {
		return storageError("list partitions", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, goneSuffix) {
			if err := d.fs.RemoveAll(d.file(partsDir) + string(pathSeparator) + name); err != nil {
				return storageError("remove partition", err)
			}
		}
	}
	return nil
}

// newUUID returns a random UUID in its usual form.
func newUUID() string {
	id := model.NewTopicID()
	h := id.Hex()
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// NewIncarnation returns a fresh id for SetIncarnation.
func NewIncarnation() string { return rand.Text() }

// beforeMutation removes the clean marker, durably, before anything in the directory
// changes (invariant 6). After the first call it costs one atomic load.
func (d *Dir) beforeMutation() error {
	if !d.marked.Load() {
		return nil
	}
	d.run.Lock()
	defer d.run.Unlock()
	return d.unmarkLocked()
}

func (d *Dir) unmarkLocked() error {
	if !d.marked.Load() {
		return nil
	}
	err := d.fs.Remove(d.file(cleanFile))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = vfs.Synced(d.fs.SyncDir(d.path))
	}
	if err != nil {
		return storageError("remove clean marker", err)
	}
	d.marked.Store(false)
	return nil
}

// ID is the directory's own id, a UUID made when the directory was.
func (d *Dir) ID() string { return d.id }

// Path is the directory's path.
func (d *Dir) Path() string { return d.path }

// FS is the file system of the directory, for Space.
func (d *Dir) FS() vfs.FS { return d.fs }

// Journal is the directory's journal.
func (d *Dir) Journal() *Journal { return d.journal }

// Class says how the last run ended. With CrashSameBoot the tail may be trusted only if
// every OpenLog succeeded and reported no damage.
func (d *Dir) Class() Class { return d.class }

// Fresh says that the directory did not exist, or held nothing of ours, before it was
// opened.
func (d *Dir) Fresh() bool { return d.fresh }

// RunLost says that the directory does not know this broker's lives: it is new, it never
// saw one, or the file that tells was lost or damaged.
func (d *Dir) RunLost() bool { return d.runLost }

// DamagedCheckpoints is how many checkpoint records could not be read at open; the logs
// concerned are scanned whole.
func (d *Dir) DamagedCheckpoints() int { return d.damagedCheckpoints }

// RunMeta returns what is recorded of this broker's lives.
func (d *Dir) RunMeta() RunMeta {
	d.run.Lock()
	defer d.run.Unlock()
	m := d.run.meta
	m.Incarnations = append([]string(nil), m.Incarnations...)
	return m
}

// SetIncarnation records, durably, the id of this life; to be called before the broker
// registers. The class of the directory does not change by it.
func (d *Dir) SetIncarnation(id string) error {
	d.run.Lock()
	defer d.run.Unlock()
	m := d.run.meta
	m.Incarnations = append([]string{id}, m.Incarnations...)
	m.Incarnations = m.Incarnations[:min(len(m.Incarnations), keptIncarnations)]
	return d.writeRunLocked(m)
}

// SetBrokerEpoch records, durably, the epoch of a registration that succeeded. Only now
// is the boot id recorded as well: a broker that saw the class Suspect and dies before it
// could report it must see Suspect again.
func (d *Dir) SetBrokerEpoch(e model.BrokerEpoch) error {
	d.run.Lock()
	defer d.run.Unlock()
	m := d.run.meta
	m.BrokerEpoch, m.BootID, m.DeviceID = e, d.opts.BootID, d.deviceID
	if err := d.writeRunLocked(m); err != nil {
		return err
	}
	d.run.reported = true
	return nil
}

func (d *Dir) writeRunLocked(m RunMeta) error {
	if err := d.unmarkLocked(); err != nil {
		return err
	}
	p := props{
		{"broker.epoch", strconv.FormatInt(int64(m.BrokerEpoch), 10)},
		{"incarnations", strings.Join(m.Incarnations, ",")},
		{"boot.id", m.BootID}, {"device.id", m.DeviceID},
	}
	if err := writeProps(d.fs, d.file(runFile), p); err != nil {
		return storageError("write "+runFile, err)
	}
	d.run.meta = m
	return nil
}

// Partitions lists the partitions that the directory holds.
func (d *Dir) Partitions() ([]model.Partition, error) {
	names, err := d.fs.List(d.file(partsDir))
	if err != nil {
		return nil, storageError("list partitions", err)
	}
	var all []model.Partition
	for _, name := range names {
		if p, ok := parsePartition(name); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// parsePartition reads the name of a partition's directory.
func parsePartition(name string) (model.Partition, bool) {
	if len(name) < 34 || name[32] != '-' {
		return model.Partition{}, false
	}
	id, err := model.ParseTopicID(name[:32])
	n, err2 := strconv.ParseInt(name[33:], 10, 32)
	p := model.Partition{Topic: id, Index: int32(n)}
	if err != nil || err2 != nil || n < 0 || p.String() != name {
		return model.Partition{}, false
	}
	return p, true
}

// Space is the room on the directory's file system.
func (d *Dir) Space() (vfs.Space, error) { return d.fs.Space(d.path) }

// RemoveLog deletes a partition's files; its log must be closed. Deleting data needs
// positive evidence that the partition is not ours any more: that is the caller's part.
func (d *Dir) RemoveLog(p model.Partition) error {
	d.run.Lock()
	open := d.run.open[p]
	d.run.Unlock()
	if open {
		panic(fmt.Sprintf("storage: RemoveLog of %v, which is open", p))
	}
	if err := d.beforeMutation(); err != nil {
		return err
	}
	if err := d.journal.drop(p); err != nil {
		return err
	}
	gone := d.partPath(p) + goneSuffix
	err := d.fs.Rename(d.partPath(p), gone)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.forget(p)
	case err == nil:
		// Once the rename is durable a crash cannot bring back half a partition.
		err = vfs.Synced(d.fs.SyncDir(d.file(partsDir)))
	}
	if err == nil {
		err = d.forget(p)
	}
	if err == nil {
		err = d.fs.RemoveAll(gone)
	}
	return storageError("remove partition "+p.String(), err)
}

// CloseClean ends a clean shutdown: every log was closed without an error, and entries
// are their CleanEntry. It flushes the file system and leaves the marker
// that makes the next opening Clean. A directory that was not Clean and whose class no
// registration has reported (SetBrokerEpoch) gets no marker: what it is must not be
// forgotten by a start that failed.
func (d *Dir) CloseClean(entries []CheckpointEntry) error {
	d.run.Lock()
	for p := range d.run.open {
		d.run.Unlock()
		panic(fmt.Sprintf("storage: CloseClean with %v open", p))
	}
	d.run.Unlock()
	if err := vfs.Synced(d.fs.SyncFS(d.path)); err != nil {
		return errors.Join(storageError("sync log directory", err), d.Close())
	}
	if err := d.checkpoint(entries); err != nil {
		return errors.Join(err, d.Close())
	}
	if err := d.journal.close(true); err != nil {
		return errors.Join(err, d.Close())
	}
	d.run.Lock()
	if !d.run.reported {
		d.run.Unlock()
		return d.Close()
	}
	p := props{{"broker.epoch", strconv.FormatInt(int64(d.run.meta.BrokerEpoch), 10)}}
	err := storageError("write "+cleanFile, writeProps(d.fs, d.file(cleanFile), p))
	d.run.Unlock()
	return errors.Join(err, d.Close())
}

// Close gives up the directory without the clean marker. A second call does nothing.
func (d *Dir) Close() error {
	d.run.Lock()
	defer d.run.Unlock()
	if d.run.closed {
		return nil
	}
	d.run.closed = true
	_ = d.journal.close(false)
	d.ckpt.Lock()
	if d.ckpt.f != nil {
		_ = d.ckpt.f.Close()
		d.ckpt.f = nil
	}
	d.ckpt.Unlock()
	return d.lock.Close()
}
