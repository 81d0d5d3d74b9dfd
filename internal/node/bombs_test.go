package node

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// gzipped is b compressed as much as can be.
func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// wrapper is a message of format v0 or v1 whose value is compressed.
func wrapper(magic byte, value []byte) []byte { return oldMessage(magic, byte(record.Gzip), value) }

func oldMessage(magic, attributes byte, value []byte) []byte {
	body := []byte{magic, attributes}
	if magic == 1 {
		body = binary.BigEndian.AppendUint64(body, 1)
	}
	body = append(body, 0xff, 0xff, 0xff, 0xff)
	body = append(binary.BigEndian.AppendUint32(body, uint32(len(value))), value...)
	out := binary.BigEndian.AppendUint32(make([]byte, 8), uint32(4+len(body)))
	return append(binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body)), body...)
}

// Batches that unpack to far more than they are, over the wire: old message sets, also one
// within another, and batches for topics that look into them. Nothing is appended.
func TestBombsOverTheWire(t *testing.T) {
	zeros := make([]byte, 70<<20)
	bomb := gzipped(zeros)
	suffers(t, func(d *ward) {
		d.create("compact", 1, map[string]string{"cleanup.policy": "compact"})
		d.create("other", 1, map[string]string{"compression.type": "zstd"})
		for name, row := range map[string]struct {
			version int16
			topic   string
			data    []byte
			want    *kerr.Error
		}{
			"set of v0":           {2, "t", wrapper(0, bomb), kerr.MessageTooLarge},
			"set of v1":           {2, "t", wrapper(1, bomb), kerr.MessageTooLarge},
			"set in a set":        {2, "t", wrapper(1, gzipped(wrapper(1, bomb))), kerr.InvalidRecord},
			"set of no messages":  {2, "t", wrapper(1, gzipped(zeros[:1<<20])), kerr.CorruptMessage},
			"batch to compact":    {9, "compact", gzipBatch(t, bomb), kerr.MessageTooLarge},
			"batch to another":    {9, "other", gzipBatch(t, bomb), kerr.MessageTooLarge},
			"cut batch":           {9, "other", gzipBatch(t, bomb[:len(bomb)/2]), kerr.CorruptMessage},
			"short cut batch":     {9, "other", gzipBatch(t, gzipped(zeros[:1<<20])[:500]), kerr.CorruptMessage},
			"not what it says":    {9, "other", gzipBatch(t, []byte("certainly no gzip")), kerr.CorruptMessage},
			"nothing":             {9, "other", gzipBatch(t, nil), kerr.CorruptMessage},
			"not a set after all": {2, "t", wrapper(0, []byte("certainly no gzip")), kerr.CorruptMessage},
		} {
			r := ask[*kmsg.ProduceResponse](d.other, produceRequest(row.version, row.topic, 1, row.data)).Topics[0].Partitions[0]
			if r.ErrorCode != row.want.Code || r.BaseOffset != -1 {
				t.Errorf("%s: code %d, offset %d, want %v", name, r.ErrorCode, r.BaseOffset, row.want)
			}
		}
		for _, topic := range []string{"compact", "other"} {
			if p, err := d.replicas.Lookup([]byte(topic), 0); err != nil || p.Stats().LogEnd != 0 {
				t.Errorf("%s: %+v, %v", topic, p.Stats(), err)
			}
		}
	})
}

// One request with many such batches is not worth minutes of a processor; what compresses as
// records do is taken however much it is.
func TestManyBombsInOneRequest(t *testing.T) {
	suffers(t, func(d *ward) {
		const n = 90
		d.create("many", n, map[string]string{"compression.type": "snappy"})
		request := func(version int16, data []byte) (codes map[int16]int, spared int) {
			req := produceRequest(version, "many", 1, data)
			p := req.Topics[0].Partitions[0]
			for i := range int32(n - 1) {
				p.Partition = i + 1
				req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
			}
			codes = map[int16]int{}
			for _, r := range ask[*kmsg.ProduceResponse](d.other, req).Topics[0].Partitions {
				codes[r.ErrorCode]++
				if r.ErrorMessage != nil && strings.Contains(*r.ErrorMessage, "the batches of the request") {
					spared++
				}
			}
			return codes, spared
		}
		bomb := gzipBatch(t, gzipped(make([]byte, 70<<20)))
		if codes, spared := request(9, bomb); codes[kerr.MessageTooLarge.Code] != n || spared != n-2 {
			t.Errorf("%d of %d are not unpacked, codes %v", spared, n, codes)
		}
		// Correct sets of very many empty messages.
		if codes, _ := request(2, wrapper(1, gzipped(bytes.Repeat(oldMessage(1, 0, nil), 30<<20/34)))); codes[kerr.MessageTooLarge.Code] != n {
			t.Errorf("codes %v", codes)
		}
		text := bytes.Repeat([]byte("a line of a log that is much like the one before it "), 900<<10/52)
		for i := 0; i < len(text); i += 40 {
			text[i] = byte(i*i>>8 + i)
		}
		set := wrapper(1, gzipped(oldMessage(1, 0, text)))
		if len(text)*n < 64<<20 || len(text) > 20*len(set) {
			t.Fatalf("%d bytes in %d", len(text), len(set))
		}
		if codes, _ := request(2, set); codes[0] != n {
			t.Errorf("codes %v", codes)
		}
	})
}

// gzipBatch is a batch with one record and that payload.
func gzipBatch(t *testing.T, payload []byte) []byte {
	b := record.Batch(append(batchOf(t, "k")[:record.HeaderLen], payload...))
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-record.LogOverhead))
	b.SetAttributes(int16(record.Gzip))
	b.Seal()
	return b
}
