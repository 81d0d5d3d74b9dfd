package ensemble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
)

// The format of bbolt's file, as far as it can be checked without trust in it (version 2;
// bbolt's own check panics in a goroutine of its own). Numbers have the machine's order.
//
//	page    | id uint64 | flags uint16 | count uint16 | more pages that it takes uint32 | elements |
//	meta    | magic uint32 | version uint32 | page size uint32 | flags uint32 | root uint64 | sequence uint64 |
//	        | freelist uint64 | pages in use uint64 | transaction uint64 | FNV-1a of all before uint64 |
//	branch  { key position uint32 | key size uint32 | page uint64 } ...
//	leaf    { flags uint32 | key position uint32 | key size uint32 | value size uint32 } ...
//
// Positions count from their element. With flag 1 a leaf's value is a bucket: root uint64,
// sequence uint64, and a page of its own if the root is 0.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	boltHead    = 16
	boltElement = 16
	boltMeta    = 64
	boltDepth   = 64

	flagBranch = 1
	flagLeaf   = 2
)

// checkDB walks the pages of a database: each is what it says it is, belongs to one place
// and has its keys in order. It returns the index of the last raft entry that etcd has
// applied to it; 0 where there is no database, or none that anything was applied to.
func checkDB(path string) (applied uint64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() == 0 {
		return 0, nil // etcd makes it anew, from the log
	}
	d := &boltFile{path: path, f: f, size: st.Size()}
	root, err := d.meta()
	if err != nil {
		return 0, err
	}
	d.seen = make([]bool, d.pages)
	if _, err := d.page(root, nil, nil, "", 0); err != nil {
		return 0, err
	}
	return d.applied, nil
}

type boltFile struct {
	path     string
	f        *os.File
	size     int64
	pageSize int64
	pages    uint64
	seen     []bool
	applied  uint64
}

func (d *boltFile) damaged(page uint64, format string, args ...any) error {
	return damaged(d.path, fmt.Sprintf("page %d is damaged: ", page)+fmt.Sprintf(format, args...))
}

// meta reads the two meta pages and returns the root of the newer good one.
func (d *boltFile) meta() (root uint64, err error) {
	newest, found := uint64(0), false
	// The second one's place depends on the page size, which the first one may not tell.
	for _, at := range []int64{0, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16} {
		b := make([]byte, boltMeta)
		if n, _ := d.f.ReadAt(b, at+boltHead); n < len(b) {
			break
		}
		sum := fnv.New64a()
		_, _ = sum.Write(b[:boltMeta-8])
		o := binary.NativeEndian
		if o.Uint32(b) != boltMagic || o.Uint32(b[4:]) != boltVersion || o.Uint64(b[boltMeta-8:]) != sum.Sum64() {
			continue
		}
		size, txn := int64(o.Uint32(b[8:])), o.Uint64(b[48:])
		if at != 0 && at != size || size < 1<<9 || found && txn <= newest {
			continue
		}
		newest, found = txn, true
		d.pageSize, root, d.pages = size, o.Uint64(b[16:]), o.Uint64(b[40:])
	}
	if !found {
		return 0, damaged(d.path, "it is no database, or both of its first pages are damaged")
	}
	if d.pages > uint64(d.size/d.pageSize) {
		return 0, damaged(d.path, fmt.Sprintf("it has %d bytes, %d pages of %d are in use: its end is lost", d.size, d.pages, d.pageSize))
	}
	return root, nil
}

// page checks a page and all below it. Its keys are not below least and below limit, where
// those are given; its last key is returned. bucket is the name of the one it belongs to.
func (d *boltFile) page(id uint64, least, limit []byte, bucket string, depth int) (last []byte, err error) {
	if id < 2 || id >= d.pages || depth > boltDepth {
		return nil, d.damaged(id, "there is no such page, and another one leads to it")
	}
	b := make([]byte, d.pageSize)
	if _, err := d.f.ReadAt(b, int64(id)*d.pageSize); err != nil {
		return nil, fmt.Errorf("read %s: %w", d.path, err)
	}
	o := binary.NativeEndian
	if got := o.Uint64(b); got != id {
		return nil, d.damaged(id, "it calls itself page %d", got)
	}
	more := uint64(o.Uint32(b[12:]))
	if more >= d.pages-id {
		return nil, d.damaged(id, "it takes %d more pages", more)
	}
	for i := id; i <= id+more; i++ {
		if d.seen[i] {
			return nil, d.damaged(i, "it belongs to two places")
		}
		d.seen[i] = true
	}
	if more > 0 {
		b = make([]byte, int64(1+more)*d.pageSize)
		if _, err := d.f.ReadAt(b, int64(id)*d.pageSize); err != nil {
			return nil, fmt.Errorf("read %s: %w", d.path, err)
		}
	}
	return d.elements(id, b, least, limit, bucket, depth)
}

// elements checks what is in the bytes of a page, which may lie in a leaf of another one.
func (d *boltFile) elements(id uint64, b, least, limit []byte, bucket string, depth int) (last []byte, err error) {
	o := binary.NativeEndian
	flags, n := o.Uint16(b[8:]), int(o.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return nil, d.damaged(id, "it is of kind %#x, want a branch or a leaf", flags)
	}
	if boltHead+n*boltElement > len(b) || flags == flagBranch && n == 0 {
		return nil, d.damaged(id, "it has %d elements", n)
	}
	keys, values := make([][]byte, n), make([][]byte, n)
	for i := range n {
		at := boltHead + i*boltElement
		pos, size, value := uint64(o.Uint32(b[at:])), uint64(o.Uint32(b[at+4:])), uint64(0)
		if flags == flagLeaf {
			pos, size, value = uint64(o.Uint32(b[at+4:])), uint64(o.Uint32(b[at+8:])), uint64(o.Uint32(b[at+12:]))
		}
		from := uint64(at) + pos
		if from+size+value > uint64(len(b)) {
			return nil, d.damaged(id, "element %d reaches beyond it", i)
		}
		keys[i], values[i] = b[from:from+size], b[from+size:from+size+value]
		if i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0 || i == 0 && least != nil && bytes.Compare(least, keys[i]) > 0 ||
			limit != nil && bytes.Compare(keys[i], limit) >= 0 {
			return nil, d.damaged(id, "the key of element %d is out of order", i)
		}
	}
	last = least
	for i, key := range keys {
		at := boltHead + i*boltElement
		if flags == flagBranch {
			below := limit
			if i+1 < n {
				below = keys[i+1]
			}
			if last, err = d.page(o.Uint64(b[at+8:]), key, below, bucket, depth+1); err != nil {
				return nil, err
			}
			continue
		}
		last = key
		if o.Uint32(b[at:])&1 == 0 {
			if bucket == "meta" && string(key) == "consistent_index" && len(values[i]) == 8 {
				d.applied = binary.BigEndian.Uint64(values[i])
			}
			continue
		}
		if err := d.bucket(id, string(key), values[i], depth+1); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// bucket checks the bucket that is the value of a leaf's element.
func (d *boltFile) bucket(id uint64, name string, value []byte, depth int) error {
	if len(value) < 16 || depth > boltDepth {
		return d.damaged(id, "bucket %q is cut off", name)
	}
	root := binary.NativeEndian.Uint64(value)
	if root != 0 {
		_, err := d.page(root, nil, nil, name, depth)
		return err
	}
	if len(value) < 16+boltHead {
		return d.damaged(id, "bucket %q is cut off", name)
	}
	_, err := d.elements(id, value[16:], nil, nil, name, depth)
	return err
}
