package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// sectorSize is what a power cut keeps or loses as one: a batch may be torn in the
// middle, a sector may not.
const sectorSize = 512

// Mem is a file system in memory. It remembers for every file and directory what is
// durable, so that a clone can show what a power cut now would leave.
//
// Create one with NewMem.
type Mem struct {
	mu struct {
		sync.Mutex
		root  *memNode
		locks map[string]bool
		space Space
		// capacity limits what all files hold together; 0 is no limit.
		capacity int64
	}
	device string
}

var _ FS = (*Mem)(nil)

// memNode is a file or a directory. fs.mu guards all of it.
type memNode struct {
	// A file: the bytes as read now, and as a power cut would surely leave them. They
	// differ at most in [dirtyLo, dirtyHi) and in length.
	data, durable    []byte
	dirtyLo, dirtyHi int64
	// reserved is the room that the file takes at least.
	reserved int64
	// modifiedMs is when the bytes changed last, ms since 1970.
	modifiedMs int64

	// A directory (children is nil for files): names now, durable names, and the
	// changes that lead from the durable names to those of now, in order.
	children, durableChildren map[string]*memNode
	pending                   []dirChange
}

// dirChange is one change of a directory: every name of remove goes, then add appears.
type dirChange struct {
	remove string
	add    string
	node   *memNode
}

func (c dirChange) apply(names map[string]*memNode) {
	if c.remove != "" {
		delete(names, c.remove)
	}
	if c.add != "" {
		names[c.add] = c.node
	}
}

func newMemDir() *memNode {
	return &memNode{children: map[string]*memNode{}, durableChildren: map[string]*memNode{}}
}

func (n *memNode) isDir() bool { return n.children != nil }

func (n *memNode) change(c dirChange) {
	c.apply(n.children)
	n.pending = append(n.pending, c)
}

func (n *memNode) touch(lo, hi int64) {
	n.modifiedMs = time.Now().UnixMilli()
	if n.dirtyLo == n.dirtyHi {
		n.dirtyLo, n.dirtyHi = lo, hi
		return
	}
	n.dirtyLo, n.dirtyHi = min(n.dirtyLo, lo), max(n.dirtyHi, hi)
}

func (n *memNode) sync() {
	size := int64(len(n.data))
	if int64(len(n.durable)) > size {
		n.durable = n.durable[:size]
	}
	for int64(len(n.durable)) < size {
		from := int64(len(n.durable))
		n.durable = append(n.durable, n.data[from:]...)
	}
	if lo, hi := n.dirtyLo, min(n.dirtyHi, size); lo < hi {
		copy(n.durable[lo:hi], n.data[lo:hi])
	}
	n.dirtyLo, n.dirtyHi = 0, 0
}

// NewMem returns an empty file system with a root directory.
func NewMem() *Mem {
	m := &Mem{device: "mem-1"}
	m.mu.root = newMemDir()
	m.mu.locks = map[string]bool{}
	m.mu.space = Space{Total: 1 << 40, Free: 1 << 40}
	return m
}

// Clone returns an independent copy as the death of the process leaves it: everything
// written is there, no lock is held. All of it is durable in the copy.
func (m *Mem) Clone() *Mem { return m.clone(nil, false) }

// CrashClone returns an independent copy as a power cut now would leave it. What was
// synced is there. Of the rest nothing is there with seed 0; with another seed each
// directory keeps some prefix of its unsynced changes, and each file some of its
// unsynced sectors (those lost read as before, or as zeros where the file had grown).
// The same seed on the same state gives the same copy.
func (m *Mem) CrashClone(seed uint64) *Mem {
	var rng *rand.Rand
	if seed != 0 {
		rng = rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	}
	return m.clone(rng, true)
}

func (m *Mem) clone(rng *rand.Rand, crash bool) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.device = m.device
	c.mu.space, c.mu.capacity = m.mu.space, m.mu.capacity
	c.mu.root = m.mu.root.clone(rng, crash)
	return c
}

func (n *memNode) clone(rng *rand.Rand, crash bool) *memNode {
	if !n.isDir() {
		data := slices.Clone(n.data)
		if crash {
			data = n.crashData(rng)
		}
		return &memNode{data: data, durable: slices.Clone(data), reserved: n.reserved, modifiedMs: n.modifiedMs}
	}
	names := n.children
	if crash {
		names = maps.Clone(n.durableChildren)
		if rng != nil {
			for _, c := range n.pending[:rng.IntN(len(n.pending)+1)] {
				c.apply(names)
			}
		}
	}
	c := newMemDir()
	for _, name := range slices.Sorted(maps.Keys(names)) { // sorted: the seed decides alone
		child := names[name].clone(rng, crash)
		c.children[name], c.durableChildren[name] = child, child
	}
	return c
}

// crashData is what is left of a file's bytes.
func (n *memNode) crashData(rng *rand.Rand) []byte {
	if rng == nil {
		return slices.Clone(n.durable)
	}
	old, cur := int64(len(n.durable)), int64(len(n.data))
	size := old
	switch rng.IntN(3) {
	case 0:
		size = cur
	case 1:
		if cur > old {
			size = old + rng.Int64N(cur-old+1)
		}
	}
	b := make([]byte, size)
	copy(b, n.durable)
	lo, hi := n.dirtyLo, n.dirtyHi
	if cur > old {
		lo, hi = min(lo, old), max(hi, cur)
		if n.dirtyLo == n.dirtyHi {
			lo = old
		}
	}
	keep := 1 + rng.IntN(4) // of 4: the disk was nearly idle, or nearly done
	for at := lo / sectorSize * sectorSize; at < min(hi, size, cur); at += sectorSize {
		if rng.IntN(4) < keep {
			copy(b[at:min(at+sectorSize, size)], n.data[at:])
		}
	}
	return b
}

// SetSpace sets what Space reports. It does not limit writes.
func (m *Mem) SetSpace(s Space) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.space, m.mu.capacity = s, 0
}

// SetCapacity gives the disk a size in bytes: writes beyond it fail with ENOSPC, having
// written what still fitted, and Space reports what is left. 0 takes the limit away.
func (m *Mem) SetCapacity(size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.capacity = size
}

// freeLocked is what is left of the capacity; it may be negative after SetCapacity.
func (m *Mem) freeLocked() int64 { return m.mu.capacity - m.mu.root.used() }

// used is the room that the files of a tree take.
func (n *memNode) used() int64 {
	if !n.isDir() {
		return max(int64(len(n.data)), n.reserved)
	}
	var sum int64
	for _, c := range n.children {
		sum += c.used()
	}
	return sum
}

func pathErr(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func split(name string) (dir, base string) {
	name = path.Clean("/" + name)
	return path.Dir(name), path.Base(name)
}

// findLocked returns the node of a name, nil if there is none.
func (m *Mem) findLocked(name string) *memNode {
	n := m.mu.root
	for _, part := range strings.Split(path.Clean("/" + name)[1:], "/") {
		if part == "" {
			continue
		}
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

func (m *Mem) parentLocked(op, name string) (*memNode, string, error) {
	dir, base := split(name)
	d := m.findLocked(dir)
	if d == nil || !d.isDir() {
		return nil, "", pathErr(op, name, fs.ErrNotExist)
	}
	return d, base, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parentLocked("create", name)
	if err != nil {
		return nil, err
	}
	n := d.children[base]
	switch {
	case n == nil:
		n = &memNode{}
		d.change(dirChange{add: base, node: n})
	case n.isDir():
		return nil, pathErr("create", name, fmt.Errorf("is a directory"))
	default:
		n.touch(0, int64(len(n.data)))
		n.data, n.reserved = nil, 0
	}
	return &memFile{fs: m, name: name, node: n, writable: true}, nil
}

func (m *Mem) open(name string, writable bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.findLocked(name)
	if n == nil {
		return nil, pathErr("open", name, fs.ErrNotExist)
	}
	if n.isDir() {
		return nil, pathErr("open", name, fmt.Errorf("is a directory"))
	}
	return &memFile{fs: m, name: name, node: n, writable: writable}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string) (File, error) { return m.open(name, true) }

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parentLocked("remove", name)
	if err != nil {
		return err
	}
	n := d.children[base]
	if n == nil {
		return pathErr("remove", name, fs.ErrNotExist)
	}
	if len(n.children) > 0 {
		return pathErr("remove", name, fmt.Errorf("directory not empty"))
	}
	d.change(dirChange{remove: base})
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parentLocked("remove", name)
	if err != nil || d.children[base] == nil {
		return nil
	}
	removeTree(d, base)
	return nil
}

func removeTree(d *memNode, base string) {
	n := d.children[base]
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		removeTree(n, name)
	}
	d.change(dirChange{remove: base})
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, oldBase, err := m.parentLocked("rename", oldName)
	if err != nil {
		return err
	}
	newDir, newBase := split(newName)
	if m.findLocked(newDir) != d {
		return pathErr("rename", newName, fmt.Errorf("other directory than %s", oldName))
	}
	n := d.children[oldBase]
	if n == nil {
		return pathErr("rename", oldName, fs.ErrNotExist)
	}
	if over := d.children[newBase]; over != nil && over != n && (over.isDir() != n.isDir() || len(over.children) > 0) {
		return pathErr("rename", newName, fs.ErrExist)
	}
	d.change(dirChange{remove: oldBase, add: newBase, node: n})
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.mu.root
	for _, part := range strings.Split(path.Clean("/" + name)[1:], "/") {
		if part == "" {
			continue
		}
		next := n.children[part]
		if next == nil {
			next = newMemDir()
			n.change(dirChange{add: part, node: next})
		}
		if !next.isDir() {
			return pathErr("mkdir", name, fs.ErrExist)
		}
		n = next
	}
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.findLocked(dir)
	if n == nil || !n.isDir() {
		return nil, pathErr("list", dir, fs.ErrNotExist)
	}
	return slices.Sorted(maps.Keys(n.children)), nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.findLocked(name)
	if n == nil {
		return Info{}, pathErr("stat", name, fs.ErrNotExist)
	}
	return Info{Size: int64(len(n.data)), IsDir: n.isDir(), ModifiedMs: n.modifiedMs}, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.findLocked(dir)
	if n == nil || !n.isDir() {
		return pathErr("sync", dir, fs.ErrNotExist)
	}
	n.syncNames()
	return nil
}

func (n *memNode) syncNames() {
	n.durableChildren = maps.Clone(n.children)
	n.pending = nil
}

// SyncFS implements FS.
func (m *Mem) SyncFS(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.findLocked(dir); n == nil {
		return pathErr("syncfs", dir, fs.ErrNotExist)
	}
	m.mu.root.syncTree()
	return nil
}

func (n *memNode) syncTree() {
	if !n.isDir() {
		n.sync()
		return
	}
	n.syncNames()
	for _, c := range n.children {
		c.syncTree()
	}
}

type memLock struct {
	fs   *Mem
	name string
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	if _, err := m.Stat(name); err != nil {
		f, err := m.Create(name)
		if err != nil {
			return nil, err
		}
		_ = f.Close()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := path.Clean("/" + name)
	if m.mu.locks[key] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	m.mu.locks[key] = true
	return &memLock{fs: m, name: key}, nil
}

// Close releases the lock.
func (l *memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.mu.locks, l.name)
	return nil
}

// Space implements FS.
func (m *Mem) Space(string) (Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.capacity > 0 {
		return Space{Total: m.mu.capacity, Free: max(m.freeLocked(), 0)}, nil
	}
	return m.mu.space, nil
}

// DeviceID implements FS.
func (m *Mem) DeviceID(string) (string, error) { return m.device, nil }
