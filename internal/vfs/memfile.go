package vfs

import (
	"io"
	"io/fs"
	"sync/atomic"
	"syscall"
)

// memFile is one handle of a file of Mem.
type memFile struct {
	fs       *Mem
	name     string
	node     *memNode
	writable bool
	closed   atomic.Bool
}

func (f *memFile) check(op string, write bool) error {
	if f.closed.Load() {
		return pathErr(op, f.name, fs.ErrClosed)
	}
	if write && !f.writable {
		return pathErr(op, f.name, fs.ErrPermission)
	}
	return nil
}

// ReadAt implements File.
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.check("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathErr("read", f.name, fs.ErrInvalid)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.node.data)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements File.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.check("write", true); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathErr("write", f.name, fs.ErrInvalid)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	end := off + int64(len(p))
	var full error
	if have := max(int64(len(f.node.data)), f.node.reserved); f.fs.mu.capacity > 0 && end > have {
		if room := max(f.fs.freeLocked(), 0); end-have > room {
			end = max(have+room, off)
			full = pathErr("write", f.name, syscall.ENOSPC)
		}
	}
	n := int(min(end-off, int64(len(p))))
	if n > 0 {
		f.resizeLocked(max(end, int64(len(f.node.data))))
		copy(f.node.data[off:], p[:n])
		f.node.touch(off, end)
	}
	return n, full
}

// allocate implements Allocate.
func (f *memFile) allocate(size int64) error {
	if err := f.check("allocate", true); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	have := max(int64(len(f.node.data)), f.node.reserved)
	if f.fs.mu.capacity > 0 && size-have > f.fs.freeLocked() {
		return pathErr("allocate", f.name, syscall.ENOSPC)
	}
	f.node.reserved = max(f.node.reserved, size)
	return nil
}

// resizeLocked cuts the content, or grows it with zeros.
func (f *memFile) resizeLocked(size int64) {
	n := f.node
	have := int64(len(n.data))
	if size <= have {
		n.data = n.data[:size]
		return
	}
	if size <= int64(cap(n.data)) {
		n.data = n.data[:size]
		clear(n.data[have:]) // bytes that were cut off earlier do not come back
	} else {
		n.data = append(n.data, make([]byte, size-have)...)
	}
	n.touch(have, size)
}

// Truncate implements File.
func (f *memFile) Truncate(size int64) error {
	if err := f.check("truncate", true); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if have := int64(len(f.node.data)); size < have {
		f.node.touch(size, have)
	}
	f.resizeLocked(size)
	f.node.reserved = min(f.node.reserved, size)
	return nil
}

// Sync implements File.
func (f *memFile) Sync() error {
	if err := f.check("sync", false); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.sync()
	return nil
}

// Datasync implements File.
func (f *memFile) Datasync() error { return f.Sync() }

// Size implements File.
func (f *memFile) Size() (int64, error) {
	if err := f.check("stat", false); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), nil
}

// Close implements File.
func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return pathErr("close", f.name, fs.ErrClosed)
	}
	return nil
}

// Map implements Mapper. A store outside of the file is the error that a fault is on a
// real disk.
func (f *memFile) Map(off int64, n int) (Mapping, error) {
	if err := f.check("map", true); err != nil {
		return nil, err
	}
	if size, _ := f.Size(); off < 0 || n <= 0 || off+int64(n) > size {
		return nil, pathErr("map", f.name, fs.ErrInvalid)
	}
	return &memMapping{f: f, off: off, end: off + int64(n)}, nil
}

// memMapping is a mapped stretch of a memory file.
type memMapping struct {
	f        *memFile
	off, end int64
	closed   bool
}

// WriteAt implements Mapping.
func (m *memMapping) WriteAt(p []byte, off int64) (int, error) {
	if m.closed {
		return 0, pathErr("store", m.f.name, fs.ErrClosed)
	}
	if off < m.off || off+int64(len(p)) > m.end {
		return 0, pathErr("store", m.f.name, fs.ErrInvalid)
	}
	m.f.fs.mu.Lock()
	defer m.f.fs.mu.Unlock()
	n := m.f.node
	if off+int64(len(p)) > int64(len(n.data)) {
		return 0, pathErr("store", m.f.name, io.ErrUnexpectedEOF)
	}
	copy(n.data[off:], p)
	n.touch(off, off+int64(len(p)))
	return len(p), nil
}

// Close implements Mapping. A second one is an error: it would unmap what is another's.
func (m *memMapping) Close() error {
	if m.closed {
		return pathErr("unmap", m.f.name, fs.ErrClosed)
	}
	m.closed = true
	return nil
}

// Extend implements Extender.
func (f *memFile) Extend(from, to int64) error {
	if err := f.check("extend", true); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	have := max(int64(len(f.node.data)), f.node.reserved)
	if room := max(f.fs.freeLocked(), 0); f.fs.mu.capacity > 0 && to-have > room {
		f.resizeLocked(max(int64(len(f.node.data)), have+room))
		return pathErr("extend", f.name, syscall.ENOSPC)
	}
	f.resizeLocked(max(int64(len(f.node.data)), to))
	return nil
}

// WriteZeroed implements Extender.
func (f *memFile) WriteZeroed(p []byte, off, end int64) (int, error) {
	n, err := f.WriteAt(p, off)
	if at := off + int64(n); err == nil && at < end {
		_, _ = f.WriteAt(make([]byte, end-at), at)
	}
	return n, err
}
