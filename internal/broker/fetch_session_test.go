package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/kalda-io/kalda/kerr"
)

func TestSessionEpochs(t *testing.T) {
	c := newSessionCache(2, 1<<20)
	s := c.create(0)
	if s == nil || s.id == 0 {
		t.Fatal("no session")
	}
	for epoch := int32(1); epoch < 4; epoch++ {
		if _, err := c.use(s.id, epoch, 0); err != nil {
			t.Fatalf("epoch %d: %v", epoch, err)
		}
	}
	if _, err := c.use(s.id, 3, 0); !errors.Is(err, kerr.InvalidFetchSessionEpoch) {
		t.Fatalf("a repeated epoch: %v", err)
	}
	if _, err := c.use(s.id+1, 1, 0); !errors.Is(err, kerr.FetchSessionIDNotFound) {
		t.Fatalf("an unknown id: %v", err)
	}
	s.epoch = 1<<31 - 1
	if _, err := c.use(s.id, 1<<31-1, 0); err != nil || s.epoch != 1 {
		t.Fatalf("the epoch must wrap to 1, is %d (%v)", s.epoch, err)
	}
	c.remove(s.id)
	if _, err := c.use(s.id, 1, 0); !errors.Is(err, kerr.FetchSessionIDNotFound) {
		t.Fatalf("a removed session: %v", err)
	}
}

// A full cache gives no session unless one was not used for two minutes.
func TestSessionCacheIsBounded(t *testing.T) {
	c := newSessionCache(2, 1<<20)
	a, b := c.create(0), c.create(time.Second)
	if c.create(2*time.Second) != nil {
		t.Fatal("a third session beside two in use")
	}
	if _, err := c.use(a.id, 1, 100*time.Second); err != nil {
		t.Fatal(err)
	}
	if c.create(121*time.Second) == nil {
		t.Fatal("the session that was silent for 120 s must give way")
	}
	if _, err := c.use(b.id, 1, 0); !errors.Is(err, kerr.FetchSessionIDNotFound) {
		t.Fatalf("the least recently used session must be the one that goes: %v", err)
	}
	if c.len() != 2 {
		t.Fatalf("%d sessions", c.len())
	}
}

func TestSessionRotation(t *testing.T) {
	s := &session{byKey: map[partKey]*sessionPart{}}
	for i := range int32(4) {
		s.set(sessionPart{key: partKey{name: "t", index: i}})
	}
	s.parts[0].hadData, s.parts[2].hadData = true, true
	s.rotate()
	var got []int32
	for _, p := range s.parts {
		got = append(got, p.key.index)
	}
	if want := []int32{1, 3, 0, 2}; len(got) != 4 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Fatalf("order %v, want %v: partitions that had data go last", got, want)
	}
	s.forget(partKey{name: "t", index: 3})
	if s.find([]byte("t"), 3) != nil || len(s.parts) != 3 {
		t.Fatal("a forgotten partition is still there")
	}
}

// Looking a partition up by name copies nothing and does not walk the others: a consumer
// of thousands of partitions names all of them in every request.
func TestSessionFindByName(t *testing.T) {
	s := newSessionCache(1, 1<<20).create(0)
	for i := range int32(2000) {
		s.set(sessionPart{key: partKey{name: "topic", index: i}})
	}
	name := []byte("topic")
	if p := s.find(name, 1234); p == nil || p.key.index != 1234 || s.find([]byte("topic2"), 1234) != nil || s.find(name, 2000) != nil {
		t.Fatal(p)
	}
	if n := testing.AllocsPerRun(100, func() { s.find(name, 1999) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
