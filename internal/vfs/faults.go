package vfs

import (
	"errors"
	"io"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

// Op names an operation of FS or File for a Rule.
type Op string

// The operations that a Rule can match.
const (
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpMkdir    Op = "mkdir"
	OpList     Op = "list"
	OpStat     Op = "stat"
	OpSyncDir  Op = "syncdir"
	OpSyncFS   Op = "syncfs"
	OpReadAt   Op = "read"
	OpWriteAt  Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpDatasync Op = "datasync"
	OpSize     Op = "size"
	OpClose    Op = "close"
	OpMap      Op = "map"
	OpAllocate Op = "allocate"
	OpSpace    Op = "space"
)

// Rule says which operations fail, and how. Fields must not change after Add.
type Rule struct {
	// Op is the operation; "" matches every one.
	Op Op
	// Path is a pattern of path.Match for the last element of the name; "" matches all.
	Path string
	// Under is a directory: only names in it, or anywhere below, match; "" matches all.
	Under string
	// Skip lets this many matches pass first.
	Skip int
	// Times is how many matches are hit after that; 0 means all.
	Times int
	// Short is how many bytes a WriteAt really writes before Err.
	Short int
	// Err is returned; nil lets the operation go on after Hook.
	Err error
	// Lie makes the operations that only make things durable (sync, datasync, syncdir,
	// syncfs) report success without doing anything, where Err is nil.
	Lie bool
	// Hook, if set, runs at each hit before anything else, without a lock: to delay, to
	// clone the disk, to look.
	Hook func(op Op, name string)
}

// Faults wraps an FS and injects faults by rule. The first rule that hits decides.
type Faults struct {
	fs FS
	mu struct {
		sync.Mutex
		rules []*ruleState
	}
}

type ruleState struct {
	Rule
	seen int
}

var _ FS = (*Faults)(nil)

// NewFaults wraps fs; without rules it changes nothing.
func NewFaults(fs FS) *Faults { return &Faults{fs: fs} }

// Add adds a rule behind the others.
func (f *Faults) Add(r Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules = append(f.mu.rules, &ruleState{Rule: r})
}

// Clear removes all rules.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules = nil
}

// hit returns the rule that applies to this operation, if any, after running its hook.
func (f *Faults) hit(op Op, name string) *Rule {
	f.mu.Lock()
	var r *Rule
	for _, s := range f.mu.rules {
		if s.Op != "" && s.Op != op {
			continue
		}
		if ok, _ := path.Match(s.Path, filepath.Base(name)); s.Path != "" && !ok {
			continue
		}
		if s.Under != "" && name != s.Under && !strings.HasPrefix(name, s.Under+"/") {
			continue
		}
		s.seen++
		if s.seen > s.Skip && (s.Times == 0 || s.seen <= s.Skip+s.Times) {
			r = &s.Rule
			break
		}
	}
	f.mu.Unlock()
	if r != nil && r.Hook != nil {
		r.Hook(op, name)
	}
	return r
}

// sync runs a sync, unless a rule fails it or pretends it.
func (f *Faults) sync(op Op, name string, do func() error) error {
	if r := f.hit(op, name); r != nil && (r.Err != nil || r.Lie) {
		return r.Err
	}
	return do()
}

func (f *Faults) check(op Op, name string) error {
	if r := f.hit(op, name); r != nil {
		return r.Err
	}
	return nil
}

func (f *Faults) wrap(op Op, name string, open func(string) (File, error)) (File, error) {
	if err := f.check(op, name); err != nil {
		return nil, err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fs: f, name: name}, nil
}

// Create implements FS.
func (f *Faults) Create(name string) (File, error) { return f.wrap(OpCreate, name, f.fs.Create) }

// Open implements FS.
func (f *Faults) Open(name string) (File, error) { return f.wrap(OpOpen, name, f.fs.Open) }

// OpenReadWrite implements FS.
func (f *Faults) OpenReadWrite(name string) (File, error) {
	return f.wrap(OpOpen, name, f.fs.OpenReadWrite)
}

// Remove implements FS.
func (f *Faults) Remove(name string) error {
	if err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.fs.Remove(name)
}

// RemoveAll implements FS.
func (f *Faults) RemoveAll(name string) error {
	if err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.fs.RemoveAll(name)
}

// Rename implements FS; rules match the new name.
func (f *Faults) Rename(oldName, newName string) error {
	if err := f.check(OpRename, newName); err != nil {
		return err
	}
	return f.fs.Rename(oldName, newName)
}

// MkdirAll implements FS.
func (f *Faults) MkdirAll(name string) error {
	if err := f.check(OpMkdir, name); err != nil {
		return err
	}
	return f.fs.MkdirAll(name)
}

// List implements FS.
func (f *Faults) List(dir string) ([]string, error) {
	if err := f.check(OpList, dir); err != nil {
		return nil, err
	}
	return f.fs.List(dir)
}

// Stat implements FS.
func (f *Faults) Stat(name string) (Info, error) {
	if err := f.check(OpStat, name); err != nil {
		return Info{}, err
	}
	return f.fs.Stat(name)
}

// SyncDir implements FS.
func (f *Faults) SyncDir(dir string) error {
	return f.sync(OpSyncDir, dir, func() error { return f.fs.SyncDir(dir) })
}

// SyncFS implements FS.
func (f *Faults) SyncFS(dir string) error {
	return f.sync(OpSyncFS, dir, func() error { return f.fs.SyncFS(dir) })
}

// Lock implements FS.
func (f *Faults) Lock(name string) (io.Closer, error) { return f.fs.Lock(name) }

// Space implements FS.
func (f *Faults) Space(dir string) (Space, error) {
	if err := f.check(OpSpace, dir); err != nil {
		return Space{}, err
	}
	return f.fs.Space(dir)
}

// DeviceID implements FS.
func (f *Faults) DeviceID(dir string) (string, error) { return f.fs.DeviceID(dir) }

type faultFile struct {
	File
	fs   *Faults
	name string
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.check(OpReadAt, f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	return f.fs.writeAt(f.File, f.name, p, off)
}

// writeAt writes to w under the rules for OpWriteAt.
func (f *Faults) writeAt(w io.WriterAt, name string, p []byte, off int64) (int, error) {
	if r := f.hit(OpWriteAt, name); r != nil && r.Err != nil {
		n, err := w.WriteAt(p[:min(r.Short, len(p))], off)
		if err == nil {
			err = r.Err
		}
		return n, err
	}
	return w.WriteAt(p, off)
}

// Map implements Mapper if the file beneath does. Stores are writes to the rules.
func (f *faultFile) Map(off int64, n int) (Mapping, error) {
	if err := f.fs.check(OpMap, f.name); err != nil {
		return nil, err
	}
	inner, ok := f.File.(Mapper)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	m, err := inner.Map(off, n)
	if err != nil {
		return nil, err
	}
	return &faultMapping{Mapping: m, file: f}, nil
}

// Extend implements Extender if the file beneath does.
func (f *faultFile) Extend(from, to int64) error {
	inner, ok := f.File.(Extender)
	if !ok {
		return errors.ErrUnsupported
	}
	if err := f.fs.check(OpAllocate, f.name); err != nil {
		return err
	}
	return inner.Extend(from, to)
}

// WriteZeroed implements Extender. It is a write to the rules.
func (f *faultFile) WriteZeroed(p []byte, off, end int64) (int, error) {
	inner, ok := f.File.(Extender)
	if !ok {
		return f.WriteAt(p, off)
	}
	return f.fs.writeAt(zeroedWriter{inner, end}, f.name, p, off)
}

// zeroedWriter writes zeros up to end behind what is written.
type zeroedWriter struct {
	Extender
	end int64
}

func (w zeroedWriter) WriteAt(p []byte, off int64) (int, error) {
	return w.WriteZeroed(p, off, w.end)
}

type faultMapping struct {
	Mapping
	file *faultFile
}

func (m *faultMapping) WriteAt(p []byte, off int64) (int, error) {
	return m.file.fs.writeAt(m.Mapping, m.file.name, p, off)
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fs.check(OpTruncate, f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Sync() error {
	return f.fs.sync(OpSync, f.name, f.File.Sync)
}

func (f *faultFile) Datasync() error {
	return f.fs.sync(OpDatasync, f.name, f.File.Datasync)
}

func (f *faultFile) Size() (int64, error) {
	if err := f.fs.check(OpSize, f.name); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *faultFile) Close() error {
	if err := f.fs.check(OpClose, f.name); err != nil {
		_ = f.File.Close()
		return err
	}
	return f.File.Close()
}

func (f *faultFile) allocate(size int64) error {
	if err := f.fs.check(OpAllocate, f.name); err != nil {
		return err
	}
	return Allocate(f.File, size)
}

func (f *faultFile) readFresh(p []byte, off int64) (int, error) {
	if err := f.fs.check(OpReadAt, f.name); err != nil {
		return 0, err
	}
	return ReadFresh(f.File, p, off)
}

func (f *faultFile) dropCache() error { return DropCache(f.File) }
