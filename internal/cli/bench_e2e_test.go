package cli

import (
	"testing"
	"time"
)

// What was acknowledged and did not come is lost, whichever of both was first; what was
// never acknowledged is not.
func TestSequenceCheck(t *testing.T) {
	c := &sequenceCheck{clients: 2}
	for _, i := range []int64{0, 1, 2, 3, 4, 5, 200} {
		c.acked(i)
	}
	if c.complete() {
		t.Error("complete before anything came")
	}
	for _, r := range []struct {
		partition int32
		i         int64
		first     bool
	}{
		{0, 0, true}, {1, 2, true}, {0, 4, true}, // client 0: another partition is another lane
		{0, 3, true}, {0, 1, true}, // client 1: 1 after 3 is out of order
		{0, 4, false}, // came before
		{0, 99, true}, // written but not acknowledged
	} {
		if first := c.received(r.partition, r.i); first != r.first {
			t.Errorf("record %d: first %v, want %v", r.i, first, r.first)
		}
	}
	want := benchCheck{Acknowledged: 7, Lost: 2, Duplicated: 1, OutOfOrder: 1} // 5 and 200 are lost
	if got := *c.result(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if err := c.result().verdict(); exitCode(err) != ExitFailed || err.Error() != "2 of 7 acknowledged records lost" {
		t.Errorf("verdict %v, exit code %d", err, exitCode(err))
	}
	c.received(0, 5)
	c.received(0, 200)
	if err := c.result().verdict(); err != nil || !c.complete() {
		t.Errorf("%v, not complete: %+v", err, *c.result())
	}
}

// A stamp is read back, and a record of another run is not taken for one of this one.
func TestStamp(t *testing.T) {
	run := [8]byte{1, 2, 3}
	b := make([]byte, 100)
	stamp(b, run, -1, 5*time.Second)
	if i, due, ok := readStamp(b, run); !ok || i != -1 || due != 5*time.Second {
		t.Errorf("%d, %s, %v", i, due, ok)
	}
	if _, _, ok := readStamp(b, [8]byte{1, 2, 4}); ok {
		t.Error("taken from another run")
	}
	if _, _, ok := readStamp(b[:stampSize-1], run); ok {
		t.Error("a short value has a stamp")
	}
}
