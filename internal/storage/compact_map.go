package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/kalda-io/kalda/internal/model"
)

// keyMap holds the latest offset of each key that a cleaning round has met, within a bound
// of memory. A key is the first 128 bits of its SHA-256: keys whose hashes are equal would
// be taken for one and the older of their records dropped, so the hash is one for which
// nobody can make such keys. (Kafka takes MD5 for the same purpose.)
//
// It is a table with open addressing. It begins small and grows by four, so that old and
// new table together never exceed the bound.
type keyMap struct {
	slots []keySlot
	used  int
	// maxSlots is how large the table may get, maxLoad how full.
	maxSlots int
	maxLoad  float64
}

// keySlot is one entry; next is the offset behind the record, so that 0 means empty.
type keySlot struct {
	hi, lo uint64
	next   int64
}

const (
	keySlotBytes = 24
	keyMapGrowth = 4
	// minKeySlots is the smallest table, whatever the bound says: a round that cannot take
	// a few keys would not get anywhere.
	minKeySlots = 64
)

// newKeyMap makes a map of at most maxBytes that is filled up to load (0 to 1).
func newKeyMap(maxBytes int64, load float64) *keyMap {
	if load <= 0 || load > 0.95 {
		load = 0.9
	}
	// While it grows for the last time, the table before takes a part of the bound.
	n := maxBytes / keySlotBytes * keyMapGrowth / (keyMapGrowth + 1)
	return &keyMap{maxSlots: int(max(n, minKeySlots)), maxLoad: load}
}

func hashKey(key []byte) (hi, lo uint64) {
	sum := sha256.Sum256(key)
	return binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])
}

// find returns the slot of a key, or the empty one where it belongs.
func find(slots []keySlot, hi, lo uint64) *keySlot {
	n := uint64(len(slots))
	at, _ := bits.Mul64(hi, n) // hi as a fraction of all
	for {
		s := &slots[at]
		if s.next == 0 || s.hi == hi && s.lo == lo {
			return s
		}
		if at++; at == n {
			at = 0
		}
	}
}

// put notes that the record at offset has that key. It says false, and notes nothing, if
// the key is new and there is no room for it.
func (m *keyMap) put(key []byte, offset model.Offset) bool {
	hi, lo := hashKey(key)
	if len(m.slots) > 0 {
		if s := find(m.slots, hi, lo); s.next != 0 {
			s.next = max(s.next, int64(offset)+1)
			return true
		}
	}
	if float64(m.used+1) > m.maxLoad*float64(len(m.slots)) && !m.grow() {
		return false
	}
	*find(m.slots, hi, lo) = keySlot{hi, lo, int64(offset) + 1}
	m.used++
	return true
}

func (m *keyMap) grow() bool {
	n := m.maxSlots
	if n <= len(m.slots) {
		return false
	}
	for n/keyMapGrowth > len(m.slots) && n/keyMapGrowth >= minKeySlots {
		n /= keyMapGrowth
	}
	slots := make([]keySlot, n)
	for _, s := range m.slots {
		if s.next != 0 {
			*find(slots, s.hi, s.lo) = s
		}
	}
	m.slots = slots
	return true
}

// latest is the offset of the key's newest record, -1 if none was met.
func (m *keyMap) latest(key []byte) model.Offset {
	if m.used == 0 {
		return -1
	}
	hi, lo := hashKey(key)
	return model.Offset(find(m.slots, hi, lo).next) - 1
}

// bytes is the memory of the table.
func (m *keyMap) bytes() int64 { return int64(len(m.slots)) * keySlotBytes }
