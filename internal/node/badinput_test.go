package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/kerr"
)

// badinput_*_test.go: what clients may send that no client should. Each row says which error
// or close it ends in; every test then holds that nothing was appended, that other
// connections are served, and that what the broker keeps did not grow.

// ward is a broker that suffers bad input, with a topic of two partitions, of which the
// first holds three records.
type ward struct {
	*running
	t     *testing.T
	id    model.TopicID
	other *wireConn // a client that behaves
}

const wardRecords = 3

// suffers runs f against a fresh broker and holds afterwards that it is unharmed.
func suffers(t *testing.T, f func(d *ward), set ...string) {
	t.Helper()
	bubble(t, func(t *testing.T, w *world) {
		b := w.start(set...)
		defer b.stop()
		d := &ward{running: b, t: t, other: w.dial()}
		defer d.other.c.Close()
		d.id = b.create("t", 2, nil)
		ask[*kmsg.ProduceResponse](d.other, produceRequest(9, "t", -1, batchOf(t, "a", "b", "c")))
		f(d)
		d.unharmed()
	})
}

// unharmed holds that both partitions have what they had, and that the other client is
// served.
func (d *ward) unharmed() {
	d.t.Helper()
	for i, want := range []model.Offset{wardRecords, 0} {
		p, err := d.replicas.Lookup([]byte("t"), int32(i))
		if err != nil {
			d.t.Fatal(err)
		}
		if s := p.Stats(); s.LogEnd != want || s.HighWatermark != want || s.LogStart != 0 || s.Offline != nil {
			d.t.Fatalf("partition %d is changed: %+v", i, s)
		}
	}
	resp := ask[*kmsg.FetchResponse](d.other, fetchRequest(12, "t", d.id, 0))
	if p := resp.Topics[0].Partitions[0]; p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
		d.t.Fatalf("another connection is not served: %+v", p)
	}
}

// closes says whether the broker closes the connection without an answer.
func (c *wireConn) closes() bool {
	c.t.Helper()
	_, err := readFrame(c.c)
	if err != nil && !errors.Is(err, io.EOF) {
		c.t.Fatal(err)
	}
	return err != nil
}

// raw sends a request of any key and version with that body.
func (c *wireConn) raw(key, version int16, body []byte) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint16(nil, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, 7)
	b = binary.BigEndian.AppendUint16(b, 0) // an empty client id
	if r := kmsg.RequestForKey(key); r != nil {
		if r.SetVersion(version); r.IsFlexible() {
			b = append(b, 0)
		}
	}
	b = append(b, body...)
	if _, err := c.c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		c.t.Fatal(err)
	}
}

// heap is the live heap in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A batch that a client may not send is answered with its error, in each version from
// the first that carries batches; nothing is appended.
func TestBadBatches(t *testing.T) {
	now := func() int64 { return time.Now().UnixMilli() }
	recs := func(ts int64) []record.Record {
		return []record.Record{{Timestamp: ts, Key: []byte("k"), Value: []byte("v")}, {Timestamp: ts, Value: []byte("w")}}
	}
	good := func(t *testing.T) record.Batch {
		b, err := record.Build(nil, record.NewTemplate(), recs(now()))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// sealed is a good batch after f, with a checksum that fits.
	sealed := func(f func(b record.Batch)) func(t *testing.T) []byte {
		return func(t *testing.T) []byte {
			b := good(t)
			f(b)
			b.Seal()
			return b
		}
	}
	put16 := func(at int, v uint16) func(record.Batch) {
		return func(b record.Batch) { binary.BigEndian.PutUint16(b[at:], v) }
	}
	put32 := func(at int, v uint32) func(record.Batch) {
		return func(b record.Batch) { binary.BigEndian.PutUint32(b[at:], v) }
	}
	put64 := func(at int, v uint64) func(record.Batch) {
		return func(b record.Batch) { binary.BigEndian.PutUint64(b[at:], v) }
	}
	// packed is a batch in one codec that is called another, without its last bytes.
	packed := func(is, called record.Codec, cut int) func(t *testing.T) []byte {
		return func(t *testing.T) []byte {
			tmpl := record.NewTemplate()
			tmpl.Codec = is
			b, err := record.Build(nil, tmpl, recs(now()))
			if err != nil {
				t.Fatal(err)
			}
			b = b[:len(b)-cut]
			put32(8, uint32(len(b)-record.LogOverhead))(b)
			put16(21, uint16(called))(b)
			b.Seal()
			return b
		}
	}
	const minInt64 = 1 << 63
	rows := map[string]struct {
		batch func(t *testing.T) []byte
		want  *kerr.Error
	}{
		"wrong CRC":                 {func(t *testing.T) []byte { b := good(t); b[17] ^= 1; return b }, kerr.CorruptMessage},
		"flipped record byte":       {func(t *testing.T) []byte { b := good(t); b[len(b)-1] ^= 1; return b }, kerr.CorruptMessage},
		"magic 3":                   {sealed(func(b record.Batch) { b[16] = 3 }), kerr.CorruptMessage},
		"magic -1":                  {sealed(func(b record.Batch) { b[16] = 255 }), kerr.CorruptMessage},
		"length too small":          {sealed(func(b record.Batch) { put32(8, uint32(len(b)-13))(b) }), kerr.InvalidRecord},
		"length too large":          {sealed(func(b record.Batch) { put32(8, uint32(len(b)))(b) }), kerr.CorruptMessage},
		"length 2^31-1":             {sealed(put32(8, math.MaxInt32)), kerr.CorruptMessage},
		"length -1":                 {sealed(put32(8, math.MaxUint32)), kerr.CorruptMessage},
		"length 0":                  {sealed(put32(8, 0)), kerr.CorruptMessage},
		"cut in the header":         {func(t *testing.T) []byte { return good(t)[:40] }, kerr.CorruptMessage},
		"cut in the records":        {func(t *testing.T) []byte { b := good(t); return b[:len(b)-1] }, kerr.CorruptMessage},
		"one byte":                  {func(*testing.T) []byte { return []byte{0} }, kerr.CorruptMessage},
		"bytes behind":              {func(t *testing.T) []byte { return append(good(t), 0) }, kerr.InvalidRecord},
		"two batches":               {func(t *testing.T) []byte { return append(good(t), good(t)...) }, kerr.InvalidRecord},
		"null":                      {func(*testing.T) []byte { return nil }, kerr.InvalidRecord},
		"empty":                     {func(*testing.T) []byte { return []byte{} }, kerr.InvalidRecord},
		"count -1":                  {sealed(put32(57, math.MaxUint32)), kerr.InvalidRecord},
		"count 0":                   {sealed(put32(57, 0)), kerr.InvalidRecord},
		"count too small":           {sealed(put32(57, 1)), kerr.InvalidRecord},
		"count too large":           {sealed(put32(57, 3)), kerr.InvalidRecord},
		"count and delta too large": {sealed(func(b record.Batch) { put32(57, 3)(b); put32(23, 2)(b) }), kerr.InvalidRecord},
		"count and delta too small": {sealed(func(b record.Batch) { put32(57, 1)(b); put32(23, 0)(b) }), kerr.InvalidRecord},
		"count and delta 2^31-1":    {sealed(func(b record.Batch) { put32(57, math.MaxInt32)(b); put32(23, math.MaxInt32-1)(b) }), kerr.InvalidRecord},
		"lastOffsetDelta -1":        {sealed(put32(23, math.MaxUint32)), kerr.InvalidRecord},
		"lastOffsetDelta too large": {sealed(put32(23, 2)), kerr.InvalidRecord},
		"lastOffsetDelta 2^31-1":    {sealed(put32(23, math.MaxInt32)), kerr.InvalidRecord},
		"base offset 5":             {sealed(put64(0, 5)), kerr.InvalidRecord},
		"base offset -1":            {sealed(put64(0, math.MaxUint64)), kerr.InvalidRecord},
		"timestamps min":            {sealed(func(b record.Batch) { put64(27, minInt64)(b); put64(35, minInt64)(b) }), kerr.InvalidTimestamp},
		"timestamps max":            {sealed(func(b record.Batch) { put64(27, math.MaxInt64)(b); put64(35, math.MaxInt64)(b) }), kerr.InvalidTimestamp},
		"timestamps -2":             {sealed(func(b record.Batch) { put64(27, math.MaxUint64-1)(b) }), kerr.InvalidTimestamp},
		"two hours ahead": {func(t *testing.T) []byte {
			b, _ := record.Build(nil, record.NewTemplate(), recs(now()+7_200_000))
			return b
		}, kerr.InvalidTimestamp},
		"largest timestamp too small": {sealed(put64(35, 1)), kerr.InvalidTimestamp},
		"log append time":             {sealed(put16(21, record.AttrLogAppendTime)), kerr.InvalidTimestamp},
		"control":                     {sealed(put16(21, record.AttrControl)), kerr.InvalidRecord},
		"transactional": {sealed(func(b record.Batch) {
			put16(21, record.AttrTransactional)(b)
			put64(43, 1)(b)
			put16(51, 0)(b)
			put32(53, 0)(b)
		}), kerr.InvalidRecord},
		"transactional without a pid":  {sealed(put16(21, record.AttrTransactional)), kerr.InvalidRecord},
		"control and transactional":    {sealed(put16(21, record.AttrControl|record.AttrTransactional)), kerr.InvalidRecord},
		"delete horizon":               {sealed(put16(21, record.AttrDeleteHorizon)), kerr.InvalidRecord},
		"codec 5":                      {sealed(put16(21, 5)), kerr.InvalidRecord},
		"gzip, not compressed":         {sealed(put16(21, uint16(record.Gzip))), kerr.CorruptMessage},
		"snappy, not compressed":       {sealed(put16(21, uint16(record.Snappy))), kerr.CorruptMessage},
		"lz4, not compressed":          {sealed(put16(21, uint16(record.LZ4))), kerr.CorruptMessage},
		"zstd, not compressed":         {sealed(put16(21, uint16(record.Zstd))), kerr.CorruptMessage},
		"zstd, called lz4":             {packed(record.Zstd, record.LZ4, 0), kerr.CorruptMessage},
		"zstd, cut":                    {packed(record.Zstd, record.Zstd, 5), kerr.CorruptMessage},
		"lz4, cut":                     {packed(record.LZ4, record.LZ4, 5), kerr.CorruptMessage},
		"producerEpoch -2":             {sealed(func(b record.Batch) { put64(43, 1)(b); put16(51, 0xfffe)(b); put32(53, 0)(b) }), kerr.InvalidRecord},
		"producerEpoch -1 with a pid":  {sealed(func(b record.Batch) { put64(43, 1)(b); put32(53, 0)(b) }), kerr.InvalidRecord},
		"producerEpoch -2 without pid": {sealed(put16(51, 0xfffe)), kerr.InvalidRecord},
		"producerId -2":                {sealed(put64(43, math.MaxUint64-1)), kerr.InvalidRecord},
		"sequence -1 with a pid":       {sealed(func(b record.Batch) { put64(43, 1)(b); put16(51, 0)(b) }), kerr.InvalidRecord},
		"sequence -2":                  {sealed(func(b record.Batch) { put32(53, math.MaxUint32-1)(b) }), kerr.InvalidRecord},
		"record length too large":      {sealed(func(b record.Batch) { b[61] += 2 }), kerr.InvalidRecord},
		"record length negative":       {sealed(func(b record.Batch) { b[61] = 1 }), kerr.InvalidRecord},
		"record length a long varint":  {sealed(func(b record.Batch) { copy(b[61:], "\xff\xff\xff\xff\xff\xff") }), kerr.InvalidRecord},
		"offset delta of a record":     {sealed(func(b record.Batch) { b[64] = 2 }), kerr.InvalidRecord},
		"key length past the record":   {sealed(func(b record.Batch) { b[65] = 100 }), kerr.InvalidRecord},
		"header count past the record": {sealed(func(b record.Batch) { b[69] = 100 }), kerr.InvalidRecord},
		"larger than max.message.bytes": {func(t *testing.T) []byte {
			return batchOf(t, strings.Repeat("x", 1<<20))
		}, kerr.MessageTooLarge},
	}
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		for name, row := range rows {
			for _, version := range []int16{3, 8, 9, 13} {
				if version < 7 && strings.HasPrefix(name, "zstd,") {
					continue // refused whatever it holds
				}
				for _, acks := range []int16{-1, 1} {
					req := produceRequest(version, "t", acks, row.batch(t))
					req.Topics[0].TopicID = d.id
					p := ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0]
					if p.ErrorCode != row.want.Code || p.BaseOffset != -1 {
						t.Errorf("%s, version %d, acks %d: code %d at offset %d, want %v", name, version, acks, p.ErrorCode, p.BaseOffset, row.want)
					}
					if version >= 8 && p.ErrorMessage == nil {
						t.Errorf("%s: no message", name)
					}
				}
			}
			// With acks=0 closing is the only way to be heard.
			quiet := d.w.dial()
			quiet.send(produceRequest(9, "t", 0, row.batch(t)))
			if !quiet.closes() {
				t.Errorf("%s, acks 0: the connection stays open", name)
			}
			_ = quiet.c.Close()
		}
	})
}

// What else can be wrong with a Produce.
func TestBadProduce(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		code := func(req *kmsg.ProduceRequest) int16 {
			return ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0].ErrorCode
		}
		for _, acks := range []int16{2, -2, math.MaxInt16, math.MinInt16} {
			if got := code(produceRequest(9, "t", acks, batchOf(t, "x"))); got != kerr.InvalidRequiredAcks.Code {
				t.Errorf("acks %d: code %d", acks, got)
			}
		}
		for _, index := range []int32{-1, 2, math.MaxInt32, math.MinInt32} {
			req := produceRequest(9, "t", -1, batchOf(t, "x"))
			req.Topics[0].Partitions[0].Partition = index
			if got := code(req); got != kerr.UnknownTopicOrPartition.Code {
				t.Errorf("partition %d: code %d", index, got)
			}
		}
		for _, name := range []string{"", ".", "..", "T", "t\x00", strings.Repeat("x", 32767), "../t", "t/0"} {
			if got := code(produceRequest(9, name, -1, batchOf(t, "x"))); got != kerr.UnknownTopicOrPartition.Code {
				t.Errorf("topic %.20q: code %d", name, got)
			}
		}
		unknown := produceRequest(13, "", -1, batchOf(t, "x"))
		unknown.Topics[0].TopicID = [16]byte{1, 2, 3}
		if got := code(unknown); got != kerr.UnknownTopicID.Code {
			t.Errorf("unknown topic id: code %d", got)
		}
		txn := produceRequest(9, "t", -1, batchOf(t, "x"))
		txn.TransactionID = kmsg.StringPtr("x")
		if got := code(txn); got != kerr.TransactionalIDAuthorizationFailed.Code {
			t.Errorf("transactional id: code %d", got)
		}
		zstd, err := record.Build(nil, record.Template{Codec: record.Zstd, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1},
			[]record.Record{{Timestamp: time.Now().UnixMilli(), Value: []byte("x")}})
		if err != nil {
			t.Fatal(err)
		}
		if got := code(produceRequest(6, "t", -1, zstd)); got != kerr.UnsupportedCompressionType.Code {
			t.Errorf("zstd in version 6: code %d", got)
		}
		// A timeout that is over before it begins is one of the client's own.
		late := produceRequest(9, "nosuch", -1, batchOf(t, "x"))
		late.TimeoutMillis = math.MinInt32
		if got := code(late); got != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("timeout: code %d", got)
		}
	})
	// The sequence of an idempotent producer.
	bubble(t, func(t *testing.T, w *world) {
		b := w.start()
		defer b.stop()
		b.create("t", 1, nil)
		c := w.dial()
		defer c.c.Close()
		for i, step := range []struct {
			epoch  int16
			seq    int32
			want   *kerr.Error
			offset int64
		}{
			{3, 0, nil, 0}, {3, 1, nil, 1},
			{3, 3, kerr.OutOfOrderSequenceNumber, -1}, {3, math.MaxInt32, kerr.OutOfOrderSequenceNumber, -1},
			{2, 2, kerr.InvalidProducerEpoch, -1}, {0, 0, kerr.InvalidProducerEpoch, -1},
			{4, 1, kerr.OutOfOrderSequenceNumber, -1}, {3, 1, nil, 1}, {3, 0, nil, 0}, {3, 2, nil, 2},
			{math.MaxInt16, 0, nil, 3}, {3, 3, kerr.InvalidProducerEpoch, -1},
		} {
			p := ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", -1, idempotent(t, 9, step.epoch, step.seq, "x"))).Topics[0].Partitions[0]
			want := int16(0)
			if step.want != nil {
				want = step.want.Code
			}
			if p.ErrorCode != want || p.BaseOffset != step.offset {
				t.Errorf("step %d: code %d at %d, want %v at %d", i, p.ErrorCode, p.BaseOffset, step.want, step.offset)
			}
		}
	})
}

// Keys that are not served here, those between brokers among them, end the connection.
func TestKeysNotServed(t *testing.T) {
	suffers(t, func(d *ward) {
		served := map[int16]bool{}
		for _, k := range ask[*kmsg.ApiVersionsResponse](d.other, kmsg.NewPtrApiVersionsRequest()).ApiKeys {
			served[k.ApiKey] = true
		}
		for key := int16(-1); key <= 100; key++ {
			if served[key] {
				continue
			}
			c := d.w.dial()
			var body []byte
			if r := kmsg.RequestForKey(key); r != nil {
				body = r.AppendTo(nil)
			}
			c.raw(key, 0, body)
			if !c.closes() {
				t.Errorf("API key %d (%s) is answered", key, kmsg.NameForKey(key))
			}
			_ = c.c.Close()
		}
		if len(served) < 25 {
			t.Errorf("only %d keys are served", len(served))
		}
	})
}

// A client id of no length is as good as none.
func TestEmptyClientID(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		req := kmsg.NewPtrMetadataRequest()
		req.Version = 1
		c.raw(3, 1, req.AppendTo(nil))
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		if c.receive(resp); len(resp.Topics) != 1 {
			t.Errorf("answer: %+v", resp)
		}
	})
}

// names of topics that may not be, with the reason in brackets.
func badNames() map[string]string {
	m := map[string]string{
		"empty": "", "dot": ".", "dots": "..", "long": strings.Repeat("x", 250), "very long": strings.Repeat("x", 32767),
		"slash": "a/b", "path": "../../etc", "backslash": `a\b`, "nul": "a\x00", "space": "a b", "tab": "a\t", "newline": "a\n",
		"look-alike": "t\u0435st", "greek": "\u03b1", "zero width": "t\u200b", "fullwidth": "\uff54", "emoji": "\U0001f600",
		"colon": "a:b", "percent": "a%2Fb", "plus": "a+b", "at": "a@b", "dollar": "$a",
	}
	for _, c := range "!\"#&'()*,;<=>?[]^`{|}~" {
		m[fmt.Sprintf("char %c", c)] = "a" + string(c)
	}
	return m
}

// Every way to make a topic refuses a bad name, and no name reaches the disk.
func TestBadTopicNames(t *testing.T) {
	suffers(t, func(d *ward) {
		c := d.w.dial()
		defer c.c.Close()
		rev := d.meta.Publisher.Image().Revision
		for what, name := range badNames() {
			for _, version := range []int16{0, 4, 5, 7} {
				if p := createTopic(c, version, name, 1); p.ErrorCode != kerr.InvalidTopicException.Code {
					t.Errorf("create %s, version %d: code %d", what, version, p.ErrorCode)
				} else if version > 0 && (p.ErrorMessage == nil || len(*p.ErrorMessage) > 2000) {
					t.Errorf("create %s: message %v", what, p.ErrorMessage)
				}
			}
			for _, version := range []int16{0, 1, 4, 9, 13} {
				if m := metadataOf(c, version, name); len(m.Topics) != 1 || m.Topics[0].ErrorCode != kerr.InvalidTopicException.Code {
					t.Errorf("metadata of %s, version %d: %+v", what, version, m.Topics)
				}
			}
		}
		for _, name := range []string{meta.OffsetsTopic, "__transaction_state", "__share_group_state", "__cluster_metadata"} {
			if !meta.IsInternal(name) {
				continue
			}
			if p := createTopic(c, 7, name, 1); p.ErrorCode != kerr.InvalidTopicException.Code {
				t.Errorf("create %s: code %d", name, p.ErrorCode)
			}
		}
		if now := d.meta.Publisher.Image(); now.Revision != rev || len(now.Topics) != 1 {
			t.Errorf("metadata changed: revision %d, %v", now.Revision, now.TopicNames())
		}
		// Names that only look odd are allowed, the longest one among them, and what
		// cannot be told from them in names of metrics is not.
		long := strings.Repeat("y", 249)
		for _, name := range []string{"x-delete", "...", "T", "-", "a.b", "__x", long} {
			if p := createTopic(c, 7, name, 1); p.ErrorCode != 0 {
				t.Errorf("create %q: code %d", name, p.ErrorCode)
			}
		}
		for _, name := range []string{"a_b", "___", "._x", ".._"} {
			if p := createTopic(c, 7, name, 1); p.ErrorCode != kerr.InvalidTopicException.Code {
				t.Errorf("create %q: code %d", name, p.ErrorCode)
			}
		}
		// On disk there are ids only.
		names, err := d.w.disk.List("/data")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if strings.Contains(n, "x-delete") || strings.Contains(n, long) {
				t.Errorf("%q is on disk", n)
			}
		}
	})
}

// createTopic asks for one topic.
func createTopic(c *wireConn, version int16, name string, partitions int32, configs ...[2]string) kmsg.CreateTopicsResponseTopic {
	c.t.Helper()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	for _, kv := range configs {
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = kv[0], &kv[1]
		rt.Configs = append(rt.Configs, rc)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis, req.Topics = version, 30_000, append(req.Topics, rt)
	return ask[*kmsg.CreateTopicsResponse](c, req).Topics[0]
}

// metadataOf asks for topics by name.
func metadataOf(c *wireConn, version int16, names ...string) *kmsg.MetadataResponse {
	c.t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = version, true
	for _, name := range names {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &name
		req.Topics = append(req.Topics, rt)
	}
	return ask[*kmsg.MetadataResponse](c, req)
}

// idempotent is a batch of an idempotent producer.
func idempotent(t testing.TB, pid int64, epoch int16, seq int32, values ...string) []byte {
	t.Helper()
	tpl := record.NewTemplate()
	tpl.ProducerID, tpl.ProducerEpoch, tpl.BaseSequence = model.ProducerID(pid), model.ProducerEpoch(epoch), seq
	var recs []record.Record
	for _, v := range values {
		recs = append(recs, record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(v)})
	}
	b, err := record.Build(nil, tpl, recs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
