package node

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// dynamic_formats_test.go: the scripts of the keys that decide in what form a batch is stored.

// stored is the batch at that offset of partition 0.
func (d *dyn) stored(offset model.Offset) record.Batch {
	d.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MinBytes, req.MaxBytes, req.SessionEpoch = 11, 1, 1<<20, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = "t"
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes = int64(offset), 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	p := ask[*kmsg.FetchResponse](d.c, req).Topics[0].Partitions[0]
	b, _, err := record.Split(p.RecordBatches)
	if err != nil || p.ErrorCode != 0 || b == nil {
		d.Fatalf("fetch at %d: code %d, %v", offset, p.ErrorCode, err)
	}
	return b
}

// last is the batch that was appended last, of one record.
func (d *dyn) last() record.Batch {
	d.Helper()
	_, _, end := d.log()
	return d.stored(end - 1)
}

func codecFollows(d *dyn) {
	d.fill(1, 600)
	d.want("codec before", d.last().Codec(), record.None)
	for name, codec := range map[string]record.Codec{"gzip": record.Gzip, "snappy": record.Snappy, "lz4": record.LZ4, "zstd": record.Zstd} {
		d.alter(name)
		d.want("value in force", d.described(), name)
		d.fill(1, 600)
		d.want("codec under "+name, d.last().Codec(), codec)
	}
	tpl := record.NewTemplate()
	tpl.Codec = record.Gzip
	d.alter("uncompressed")
	d.want("gzip sent", d.send(0, tpl, 600, 0).ErrorCode, int16(0))
	d.want("codec under uncompressed", d.last().Codec(), record.None)
	d.alter("producer")
	d.want("gzip sent", d.send(0, tpl, 600, 0).ErrorCode, int16(0))
	d.want("codec under producer", d.last().Codec(), record.Gzip)
}

// levelFollows expects smaller batches at the level high.
func levelFollows(codec, low, high string) dynScript {
	return dynScript{fixed: map[string]string{"compression.type": codec}, run: func(d *dyn) {
		var value []byte
		for i := range 3000 {
			value = append(value, bytes.Repeat([]byte{byte(i), byte(i * i >> 3), byte(i / 7)}, i%5+1)...)
		}
		size := func(level string) int {
			d.alter(level)
			b, err := record.Build(nil, record.NewTemplate(), []record.Record{{Timestamp: time.Now().UnixMilli(), Value: value}})
			if err != nil {
				d.Fatal(err)
			}
			r := ask[*kmsg.ProduceResponse](d.c, produceRequest(9, "t", -1, b)).Topics[0].Partitions[0]
			d.want("produce", r.ErrorCode, int16(0))
			return len(d.last())
		}
		if l, h := size(low), size(high); h >= l {
			d.Errorf("%d bytes at level %s, %d at level %s", l, low, h, high)
		}
	}}
}

func unpackingIsBounded(d *dyn) {
	tpl := record.NewTemplate()
	tpl.Codec = record.Gzip
	d.want("before", d.send(0, tpl, 5000, 0).ErrorCode, int16(0))
	d.alter("4000")
	d.want("too large", d.send(0, tpl, 5000, 0).ErrorCode, code(kerr.MessageTooLarge))
	d.want("small enough", d.send(0, tpl, 3000, 0).ErrorCode, int16(0))
	d.want("never unpacked", d.produce(0, 5000, 0), int16(0))
}

func timeIsTheBrokers(d *dyn) {
	const age = time.Hour
	before := d.send(0, record.NewTemplate(), 10, age)
	d.want("time in the answer before", before.LogAppendTime, int64(-1))
	b := d.last()
	d.want("time before", b.MaxTimestamp(), time.Now().Add(-age).UnixMilli())
	d.alter("LogAppendTime")
	<-time.After(time.Second)
	now := time.Now().UnixMilli()
	r := d.send(0, record.NewTemplate(), 10, age)
	d.want("code", r.ErrorCode, int16(0))
	d.want("time in the answer", r.LogAppendTime, now)
	b = d.last()
	d.want("time", b.MaxTimestamp(), now)
	d.want("type", b.Attributes()&record.AttrLogAppendTime != 0, true)
	d.want("checksum", b.CheckCRC(), true)
	// What the producer says of time does not count any more.
	d.want("from the far future", d.produce(0, 10, -1000*time.Hour), int16(0))
	d.alter("CreateTime")
	d.want("from the far future", d.produce(0, 10, -1000*time.Hour), code(kerr.InvalidTimestamp))
	d.want("after", d.send(0, record.NewTemplate(), 10, age).LogAppendTime, int64(-1))
}
