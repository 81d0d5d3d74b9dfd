package storage

import (
	"testing"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/vfs"
)

// The logs of a directory remember as many producers together as they may, each at least its
// newest 16, and those that wrote last are not forgotten.
func TestProducersAreBounded(t *testing.T) {
	fsys := vfs.NewMem()
	open := func() (*Dir, []*Log) {
		d, err := OpenDir(fsys, "/d", DirOptions{ClusterID: "c1", NodeID: 7, BootID: "b", MaxProducers: 100})
		ok(t, err)
		var logs []*Log
		for i := range int32(3) {
			l, _, err := d.OpenLog(model.Partition{Topic: part.Topic, Index: i}, Options{})
			ok(t, err)
			logs = append(logs, l)
		}
		return d, logs
	}
	d, logs := open()
	write := func(l *Log, pid model.ProducerID) AppendResult {
		r, err := l.Append(batchSpec{pid: pid}.build(t), AppendArgs{Client: true})
		ok(t, err)
		ok(t, l.Write())
		return r
	}
	check := func(most int) {
		t.Helper()
		total := 0
		for _, l := range logs {
			total += l.Producers()
		}
		if used := int(d.producers.used.Load()); used != total || total > most {
			t.Fatalf("%d producers, the budget knows of %d, at most %d", total, used, most)
		}
	}
	for pid := range model.ProducerID(1000) {
		write(logs[0], pid+1)
		check(100)
	}
	if n := logs[0].Producers(); n < 75 {
		t.Fatalf("%d producers are left of a hundred that may be", n)
	}
	for _, l := range logs[1:] {
		for pid := range model.ProducerID(200) {
			write(l, pid+1)
			check(100 + 2*keptProducers)
		}
		if n := l.Producers(); n < keptProducers*3/4 {
			t.Fatalf("%d producers are left in a log that came late", n)
		}
	}
	// The newest are known: a repeat is one. The first is not.
	if r := write(logs[0], 1000); !r.Duplicate {
		t.Fatal("the newest producer was forgotten")
	}
	if r := write(logs[0], 1); r.Duplicate {
		t.Fatal("the oldest producer is still known")
	}
	// A load keeps to the bound as well, and a closed log counts no more.
	for _, l := range logs {
		ok(t, l.Close())
	}
	if n := d.producers.used.Load(); n != 0 {
		t.Fatalf("closed logs count %d producers", n)
	}
	ok(t, d.Close())
	d, logs = open()
	check(100 + 2*keptProducers)
	if r := write(logs[0], 1000); !r.Duplicate {
		t.Fatal("the newest producer was forgotten by the load")
	}
	ok(t, d.Close())
}
