package node

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/kerr"
)

// put sends one record with a key; "" is no key, size 0 is a tombstone.
func (d *dyn) put(key string, size int) int16 {
	d.Helper()
	return d.putAll(size, key)
}

func (d *dyn) putAll(size int, keys ...string) int16 {
	d.Helper()
	var recs []record.Record
	for _, key := range keys {
		r := record.Record{Timestamp: time.Now().UnixMilli()}
		if key != "" {
			r.Key = []byte(key)
		}
		if size > 0 {
			r.Value = []byte(strings.Repeat("v", size))
		}
		recs = append(recs, r)
	}
	b, err := record.Build(nil, record.NewTemplate(), recs)
	if err != nil {
		d.Fatal(err)
	}
	return ask[*kmsg.ProduceResponse](d.c, produceRequest(9, "t", -1, b)).Topics[0].Partitions[0].ErrorCode
}

// puts sends a record of 600 bytes for each key, each in a segment of its own.
func (d *dyn) puts(keys ...string) {
	d.Helper()
	for _, k := range keys {
		if code := d.put(k, 600); code != 0 {
			d.Fatalf("put %s: code %d", k, code)
		}
	}
}

// kept are the offsets of the records in partition 0.
func (d *dyn) kept() string {
	d.Helper()
	p, err := d.replicas.Lookup([]byte("t"), 0)
	if err != nil {
		d.Fatal(err)
	}
	var out []string
	rd := record.NewReader(0)
	var rec record.Record
	for from := model.Offset(0); ; {
		r, err := p.Read(replica.ReadArgs{From: from, CurrentEpoch: -1, LastEpoch: -1, MaxBytes: 1, MinOne: true})
		if err != nil {
			d.Fatal(err)
		}
		if r.View.Len == 0 {
			return strings.Join(out, " ")
		}
		b := make(record.Batch, r.View.Len)
		_, err = r.View.ReadAt(b, 0)
		r.View.Release()
		if err == nil {
			err = rd.Reset(b)
		}
		if err != nil {
			d.Fatal(err)
		}
		for {
			more, err := rd.Next(&rec)
			if err != nil {
				d.Fatal(err)
			}
			if !more {
				break
			}
			out = append(out, fmt.Sprint(rec.Offset))
		}
		from = b.NextOffset()
	}
}

// cleanerRound is longer than the pause between two looks for dirty logs.
const cleanerRound = 20 * time.Second

// compacted is the configuration of a topic whose every put closes a segment.
func compacted(more ...string) map[string]string {
	m := map[string]string{"cleanup.policy": "compact", "segment.bytes": "1024"}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// other is the same resource with another key.
func (d *dyn) other(key string) *dyn {
	o := *d
	o.key = key
	return &o
}

// compactScripts observe the topic keys of compaction.
func compactScripts() map[string]dynScript {
	return map[string]dynScript{
		"cleanup.policy": {fixed: map[string]string{"segment.bytes": "1024"}, run: func(d *dyn) {
			d.puts("a", "", "a", "b")
			<-time.After(cleanerRound)
			d.want("under delete", d.kept(), "0 1 2 3")
			d.alter("compact")
			<-time.After(cleanerRound)
			d.want("under compact", d.kept(), "2 3")
			d.want("a record without a key", d.put("", 600), code(kerr.InvalidRecord))
			d.alter("delete")
			d.want("a record without a key, under delete", d.put("", 600), int16(0))
			d.puts("b", "b", "c")
			<-time.After(cleanerRound)
			d.want("under delete again", d.kept(), "2 3 4 5 6 7")
			d.alter("compact,delete")
			<-time.After(cleanerRound)
			d.want("under both", d.kept(), "2 6 7")
		}},
		"min.cleanable.dirty.ratio": {fixed: compacted(), run: func(d *dyn) {
			d.puts("a", "b", "c", "a")
			<-time.After(cleanerRound) // 3 of 3 are dirty
			d.puts("z")
			<-time.After(cleanerRound)
			d.want("1 of 4 dirty", d.kept(), "0 1 2 3 4")
			d.alter("0.2")
			<-time.After(cleanerRound)
			d.want("from 0.2 on", d.kept(), "1 2 3 4")
		}},
		"min.compaction.lag.ms": {fixed: compacted(), run: func(d *dyn) {
			d.alter("3600000")
			d.puts("a", "a", "z")
			<-time.After(10 * time.Minute)
			d.want("young", d.kept(), "0 1 2")
			d.alter("60000")
			<-time.After(cleanerRound)
			d.want("old enough", d.kept(), "1 2")
		}},
		"max.compaction.lag.ms": {fixed: map[string]string{"cleanup.policy": "compact"}, run: func(d *dyn) {
			d.puts("a", "a")
			<-time.After(10 * time.Minute)
			d.want("in the segment that grows", d.kept(), "0 1")
			d.alter("60000")
			<-time.After(cleanerRound)
			d.want("due", d.kept(), "1")
		}},
		"delete.retention.ms": {fixed: compacted("min.cleanable.dirty.ratio", "0.01"), run: func(d *dyn) {
			tombstone := func(key string) {
				d.puts(key)
				d.want("tombstone", d.put(key, 0), int16(0))
				d.puts("z", "z")
				<-time.After(cleanerRound)
			}
			tombstone("a")
			d.want("one day to see it", d.kept(), "1 2 3")
			d.alter("60000")
			tombstone("b")
			d.want("one minute to see it", d.kept(), "1 5 6 7")
			<-time.After(2 * time.Minute)
			d.puts("z")
			<-time.After(cleanerRound)
			d.want("after two minutes", d.kept(), "1 7 8")
		}},
	}
}

// cleanerScripts observe the broker's own keys of compaction.
func cleanerScripts() map[string]dynScript {
	return map[string]dynScript{
		"log.cleaner.threads": {fixed: compacted(), run: func(d *dyn) {
			d.alter("0")
			d.puts("a", "a", "z")
			<-time.After(cleanerRound)
			d.want("no threads", d.kept(), "0 1 2")
			d.alter("2")
			<-time.After(cleanerRound)
			d.want("two threads", d.kept(), "1 2")
		}},
		"log.cleaner.backoff.ms": {fixed: compacted(), run: func(d *dyn) {
			d.alter("3600000")
			<-time.After(cleanerRound)
			d.puts("a", "a", "z")
			<-time.After(10 * time.Minute)
			d.want("within an hour", d.kept(), "0 1 2")
			d.alter("1000")
			<-time.After(cleanerRound)
			d.want("within a second", d.kept(), "1 2")
		}},
		// The smallest memory holds 57 keys, so a batch of 100 takes two rounds.
		"log.cleaner.dedupe.buffer.size": {fixed: compacted("segment.bytes", "16384", "min.cleanable.dirty.ratio", "0.01"), run: func(d *dyn) {
			d.want("rounds", d.rounds(100), int64(1))
			d.alter("100")
			d.want("rounds with less memory", d.rounds(100), int64(2))
		}},
		"log.cleaner.io.buffer.load.factor": {fixed: compacted("segment.bytes", "16384", "min.cleanable.dirty.ratio", "0.01"), run: func(d *dyn) {
			d.other("log.cleaner.dedupe.buffer.size").alter("100")
			d.want("rounds", d.rounds(50), int64(1))
			d.alter("0.5")
			d.want("rounds with less of the memory", d.rounds(50), int64(2))
		}},
		// At 1000 bytes per second the first read is all that happens at once.
		"log.cleaner.io.buffer.size": {fixed: compacted("segment.bytes", "16384"), run: func(d *dyn) {
			d.other("log.cleaner.io.max.bytes.per.second").alter("1000")
			d.other("log.cleaner.backoff.ms").alter("100")
			<-time.After(cleanerRound)
			read := func() int64 {
				before := d.replicas.CleanerStats().ReadBytes
				d.want("put", d.putAll(80, manyKeys(100)...), int16(0))
				d.want("put", d.putAll(80, manyKeys(100)...), int16(0)) // closes the segment
				<-time.After(2 * time.Second)
				defer func() { <-time.After(5 * time.Minute) }()
				return d.replicas.CleanerStats().ReadBytes - before
			}
			if n := read(); n < 8000 {
				d.Errorf("%d bytes read at once of a segment", n)
			}
			d.alter("8192")
			d.want("bytes of the segment read with a small buffer", read(), int64(0))
		}},
		"log.cleaner.io.max.bytes.per.second": {fixed: compacted(), run: func(d *dyn) {
			d.alter("10")
			d.puts("a", "a", "z")
			<-time.After(cleanerRound)
			d.want("slow", d.kept(), "0 1 2")
			d.alter("1000000")
			<-time.After(2 * time.Second)
			d.want("fast", d.kept(), "1 2")
		}},
	}
}

func manyKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%d", i)
	}
	return keys
}

// rounds is how many rounds it takes to clean a segment with n keys.
func (d *dyn) rounds(n int) int64 {
	d.Helper()
	before := d.replicas.CleanerStats().Rounds
	d.want("put", d.putAll(100, manyKeys(n)...), int16(0))
	d.want("put", d.put("z", 15000), int16(0))
	<-time.After(2 * cleanerRound)
	return d.replicas.CleanerStats().Rounds - before
}
