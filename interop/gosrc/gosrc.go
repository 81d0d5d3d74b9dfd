// Package gosrc makes real input out of the Go source tree: every line of every .go file under
// GOROOT is one record, its key the file's path, its value the line.
//
// Three million records do not have to be remembered to be compared. What was meant and what was
// read are folded, record by record, into digests:
//
//	per partition: count, and a hash that depends on the order   -> "the order is the input's"
//	over all:      count, and a sum of hashes without order      -> "the multiset is the input's"
//
// and a checkpoint of each partition's hash every blockRecords records, so that a difference is
// reported with the block of offsets in which it begins.
package gosrc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
)

// KeySeparator parts key and value in the streams to kcat and kalda: ASCII's unit separator. Walk
// refuses a path that holds it. A value may hold anything but a newline.
const KeySeparator = '\x1f'

// Walk calls fn with the path (relative to root, with slashes) and the number (from 1) of each line
// of each regular .go file below root, in the order of the paths, until limit lines were given (0 is
// no limit). A last line without a newline counts; line is valid until fn returns.
func Walk(root string, limit int, fn func(path string, number int, line []byte) error) error {
	errEnough := errors.New("enough")
	given := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() || !strings.HasSuffix(name, ".go") { // a directory may be called x.go too
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if strings.ContainsRune(rel, KeySeparator) || strings.ContainsRune(rel, '\n') {
			return fmt.Errorf("path %q holds a separator", rel)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for number := 1; len(text) > 0; number++ {
			line, rest, _ := bytes.Cut(text, []byte{'\n'})
			if limit > 0 && given == limit {
				return errEnough
			}
			given++
			if err := fn(rel, number, line); err != nil {
				return err
			}
			text = rest
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// WriteStream writes lines as KEY SEPARATOR VALUE NEWLINE, those for which skip is false.
func WriteStream(w io.Writer, root string, limit int, skip func(path string, line []byte) bool) error {
	out := bufio.NewWriterSize(w, 1<<20)
	err := Walk(root, limit, func(path string, _ int, line []byte) error {
		if skip(path, line) {
			return nil
		}
		// A bufio.Writer keeps its first error; the last write tells it.
		out.WriteString(path)
		out.WriteByte(KeySeparator)
		out.Write(line)
		return out.WriteByte('\n')
	})
	return errors.Join(err, out.Flush())
}

// BatchBytes is the size on the wire of a batch (magic 2, uncompressed) that holds one record
// without headers: what a broker compares with max.message.bytes.
func BatchBytes(key, value []byte) int {
	const header = 61
	body := 1 + // attributes
		1 + 1 + // timestamp and offset delta, both 0
		varintLen(len(key)) + len(key) + varintLen(len(value)) + len(value) +
		1 // no headers
	return header + varintLen(body) + body
}

// varintLen is the length of a zigzag varint of a number that is not negative.
func varintLen(n int) int { return (bits.Len64(uint64(n)<<1|1) + 6) / 7 }

// Partition returns where Kafka's default partitioner puts a key: murmur2, made positive, modulo.
func Partition(key []byte, partitions int) int {
	return int(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is the 32-bit hash of Kafka's Utils.murmur2, with its seed.
func murmur2(data []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}

// blockRecords is the distance of checkpoints: a difference is found to within so many records.
const blockRecords = 1024

// seed is one for the process, because digests are only compared within it.
var seed = maphash.MakeSeed()

// hash returns the hash of one record. The key's length is part of it, so that moving a byte from
// the key to the value changes it.
func hash(key, value []byte) uint64 {
	h := maphash.Bytes(seed, key)
	v := maphash.Bytes(seed, value)
	return (h^uint64(len(key)))*0x9e3779b97f4a7c15 + bits.RotateLeft64(v, 31)*0xc2b2ae3d27d4eb4f
}

// Digest is what is remembered of one partition. The zero value is an empty partition. It is not
// safe for concurrent use.
type Digest struct {
	Count  int64
	order  uint64
	sum    uint64
	blocks []uint64 // order after every blockRecords records
}

// Add folds the next record in.
func (d *Digest) Add(key, value []byte) {
	h := hash(key, value)
	d.sum += h
	d.order = (d.order ^ h) * 0x100000001b3 // FNV's prime: a record's place decides what becomes of it
	d.Count++
	if d.Count%blockRecords == 0 {
		d.blocks = append(d.blocks, d.order)
	}
}

// Diff says in words where got differs from d; "" if the same records came in the same order.
func (d *Digest) Diff(got *Digest) string {
	for i := range min(len(d.blocks), len(got.blocks)) {
		if d.blocks[i] != got.blocks[i] {
			return fmt.Sprintf("differs between records %d and %d (has %d, want %d)", i*blockRecords, (i+1)*blockRecords, got.Count, d.Count)
		}
	}
	if d.Count != got.Count {
		return fmt.Sprintf("has %d records, want %d", got.Count, d.Count)
	}
	if d.order != got.order || d.sum != got.sum {
		return fmt.Sprintf("differs after record %d of %d", len(d.blocks)*blockRecords, d.Count)
	}
	return ""
}

// Topic is the digests of a topic's partitions.
type Topic []Digest

// Records returns how many records the topic has.
func (t Topic) Records() int64 {
	var n int64
	for i := range t {
		n += t[i].Count
	}
	return n
}

// multiset returns the sum of all records' hashes, whatever their partition and order.
func (t Topic) multiset() uint64 {
	var sum uint64
	for i := range t {
		sum += t[i].sum
	}
	return sum
}

// Compare returns an error that names every partition whose records or order differ, and whether
// at least the multiset of the topic is right.
func (t Topic) Compare(got Topic) error {
	if len(t) != len(got) {
		return fmt.Errorf("%d partitions, want %d", len(got), len(t))
	}
	var errs []error
	for p := range t {
		if diff := t[p].Diff(&got[p]); diff != "" {
			errs = append(errs, fmt.Errorf("partition %d %s", p, diff))
		}
	}
	if t.multiset() != got.multiset() || t.Records() != got.Records() {
		errs = append(errs, fmt.Errorf("the topic's multiset differs: %d records, want %d", got.Records(), t.Records()))
	}
	return errors.Join(errs...)
}
