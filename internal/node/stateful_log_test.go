package node

import (
	"bytes"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/replica"
	"github.com/kalda-io/kalda/kerr"
)

// topicModel is what a topic must hold.
type topicModel struct {
	name     string
	id       model.TopicID
	parts    []*partModel
	maxBytes int
	// readers have joined a group for the topic and offsets are committed under its name;
	// both end with it.
}

// partModel is what one partition must hold. Offsets are from 0 to len(records).
type partModel struct {
	records   []recordModel
	start     int64 // log start
	hw        int64 // the highest watermark seen
	producers map[int64]*producerModel
}

type recordModel struct {
	value string
	ts    int64
	batch int64 // first offset of its batch
}

// producerModel is one idempotent producer in one partition.
type producerModel struct {
	epoch   int16
	next    int32
	batches []batchModel // the newest last
}

type batchModel struct {
	seq    int32
	values []string
	offset int64
}

func (q *partModel) end() int64 { return int64(len(q.records)) }

// partition picks a partition of any topic; nil when there is none.
func (p *player) partition() (*topicModel, int32, *partModel) {
	t := p.topic()
	if t == nil {
		return nil, 0, nil
	}
	i := p.n(len(t.parts))
	return t, int32(i), t.parts[i]
}

var topicNames = [...]string{"a", "b", "c.d"}

// topic picks a topic, and creates one if there is none.
func (p *player) topic() *topicModel {
	if len(p.topics) == 0 {
		p.createTopic()
	}
	all := p.sortedTopics()
	return all[p.n(len(all))]
}

func (p *player) createTopic() {
	name, n := topicNames[p.n(len(topicNames))], int32(1+p.n(3))
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, n, -1
	for _, kv := range [][2]string{{"segment.bytes", []string{"1024", "1048576"}[p.n(2)]}} {
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = kv[0], &kv[1]
		rt.Configs = append(rt.Configs, rc)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis, req.Topics = 7, 30_000, append(req.Topics, rt)
	p.note("create %s with %d partitions", name, n)
	r := p.call(p.main, req).(*kmsg.CreateTopicsResponse).Topics[0]
	if p.topics[name] != nil {
		p.must("creating it again", r.ErrorCode, kerr.TopicAlreadyExists)
		return
	}
	p.must("creating it", r.ErrorCode, nil)
	t := &topicModel{name: name, id: r.TopicID, maxBytes: 1048588}
	for range n {
		t.parts = append(t.parts, newPart())
	}
	p.topics[name] = t
}

func newPart() *partModel { return &partModel{producers: map[int64]*producerModel{}} }

func (p *player) deleteTopic() {
	t := p.topic()
	if t == nil {
		return
	}
	rt := kmsg.NewDeleteTopicsRequestTopic()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis = 6, 30_000
	if p.n(2) == 0 {
		rt.Topic = &t.name
	} else {
		rt.TopicID = t.id
	}
	req.Topics = append(req.Topics, rt)
	p.note("delete %s", t.name)
	p.must("deleting it", p.call(p.main, req).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode, nil)
	delete(p.topics, t.name)
	for _, g := range p.groups {
		delete(g.offsets, t.name)
	}
	if p.n(2) == 0 {
		synctest.Wait() // else the coordinators may hear of it later than of what comes next
	}
}

func (p *player) growTopic() {
	t := p.topic()
	if t == nil {
		return
	}
	n := len(t.parts) + p.n(3)
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = t.name, int32(n)
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Version, req.TimeoutMillis, req.Topics = 3, 30_000, append(req.Topics, rt)
	p.note("grow %s to %d partitions", t.name, n)
	r := p.call(p.main, req).(*kmsg.CreatePartitionsResponse).Topics[0]
	if n == len(t.parts) {
		p.must("growing by nothing", r.ErrorCode, kerr.InvalidPartitions)
		return
	}
	p.must("growing", r.ErrorCode, nil)
	for len(t.parts) < n {
		t.parts = append(t.parts, newPart())
	}
}

func (p *player) configure() {
	t := p.topic()
	if t == nil {
		return
	}
	key, value := "max.message.bytes", []string{"150", "1048588"}[p.n(2)]
	if p.n(2) == 0 {
		key, value = "segment.bytes", []string{"1024", "4096", "1048576"}[p.n(3)]
	}
	rr := kmsg.NewIncrementalAlterConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, t.name
	rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	rc.Name, rc.Value = key, &value
	rr.Configs = append(rr.Configs, rc)
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version, req.Resources = 1, append(req.Resources, rr)
	p.note("set %s=%s of %s", key, value, t.name)
	p.must("setting it", p.call(p.main, req).(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode, nil)
	if key == "max.message.bytes" {
		t.maxBytes = 1048588
		if value == "150" {
			t.maxBytes = 150
		}
	}
}

// sentBatch is a batch with what the model expects of it.
type sentBatch struct {
	t      *topicModel
	index  int32
	part   *partModel
	bytes  []byte
	values []string
	ts     int64
	pid    int64 // 0: none
	epoch  int16
	seq    int32
	// want is the expected error; without one the batch is at offset, and new unless repeat.
	want   *kerr.Error
	offset int64
	repeat bool
	what   string
}

// batch makes the next batch: plain, or of an idempotent producer that goes on, repeats
// itself, leaves a gap or comes back with another epoch.
func (p *player) batch() *sentBatch {
	t, index, q := p.partition()
	if t == nil {
		return nil
	}
	s := &sentBatch{t: t, index: index, part: q, offset: q.end(), ts: time.Now().UnixMilli() - int64(p.n(4))*1000, what: "a plain batch", seq: -1, epoch: -1}
	for i := range 1 + p.n(4) {
		s.values = append(s.values, fmt.Sprintf("%s-%d-%d-%d-%0*d", t.name, index, len(p.trace), i, 1+p.n(60), 0))
	}
	codec := []record.Codec{record.None, record.None, record.LZ4, record.Snappy}[p.n(4)]
	if p.n(3) > 0 {
		p.idempotentBatch(s)
	}
	tpl := record.NewTemplate()
	tpl.Codec = codec
	if s.pid > 0 {
		tpl.ProducerID, tpl.ProducerEpoch, tpl.BaseSequence = model.ProducerID(s.pid), model.ProducerEpoch(s.epoch), s.seq
	}
	recs := make([]record.Record, len(s.values))
	for i, v := range s.values {
		recs[i] = record.Record{Timestamp: s.ts + int64(i), Value: []byte(v)}
	}
	b, err := record.Build(nil, tpl, recs)
	p.check(err)
	s.bytes = b
	if len(b) > t.maxBytes {
		s.want = kerr.MessageTooLarge
	}
	return s
}

func (p *player) idempotentBatch(s *sentBatch) {
	pids := make([]int64, 0, len(s.part.producers))
	for pid := range s.part.producers {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	k := 0
	if len(pids) > 0 {
		k = p.n(len(pids))
	}
	if len(pids) == 0 || len(pids) < 3 && p.n(6) == 0 { // a new one
		p.nextPID++
		s.pid, s.epoch, s.seq, s.what = p.nextPID, int16(p.n(3)), 0, "the first batch of a producer"
		return
	}
	s.pid = pids[k]
	st := s.part.producers[s.pid]
	s.epoch, s.seq, s.what = st.epoch, st.next, "the next batch of a producer"
	switch p.n(8) {
	case 0, 1:
		if n := len(st.batches); n > 0 {
			back := 1 + p.n(min(n, 5))
			b := st.batches[n-back]
			s.seq, s.values, s.offset, s.repeat, s.what = b.seq, b.values, b.offset, true, "a repeated batch"
		}
	case 2:
		if n := len(st.batches); n > 5 {
			b := st.batches[n-6]
			s.seq, s.values, s.want, s.what = b.seq, b.values, kerr.OutOfOrderSequenceNumber, "a batch that was repeated too late"
		}
	case 3:
		s.seq += int32(1 + p.n(5))
		s.want, s.what = kerr.OutOfOrderSequenceNumber, "a batch after a gap"
	case 4:
		if s.epoch > 0 {
			s.epoch--
			s.want, s.what = kerr.InvalidProducerEpoch, "a batch of an old epoch"
		}
	case 5:
		s.epoch++
		s.seq, s.what = 0, "the first batch of an epoch"
	case 6:
		s.epoch++
		s.seq, s.want, s.what = 1, kerr.OutOfOrderSequenceNumber, "a batch within a new epoch"
	}
}

// appended takes an accepted batch into the model.
func (s *sentBatch) appended() {
	if s.repeat {
		return
	}
	base := s.part.end()
	for i, v := range s.values {
		s.part.records = append(s.part.records, recordModel{v, s.ts + int64(i), base})
	}
	if s.pid == 0 {
		return
	}
	st := s.part.producers[s.pid]
	if st == nil || st.epoch != s.epoch {
		st = &producerModel{epoch: s.epoch}
		s.part.producers[s.pid] = st
	}
	st.next = s.seq + int32(len(s.values))
	st.batches = append(st.batches, batchModel{s.seq, s.values, base})
}

func (s *sentBatch) request(version, acks int16) *kmsg.ProduceRequest {
	req := produceRequest(version, s.t.name, acks, bytes.Clone(s.bytes))
	req.Topics[0].TopicID = s.t.id
	req.Topics[0].Partitions[0].Partition = s.index
	return req
}

func (p *player) produce() {
	s := p.batch()
	if s == nil {
		return
	}
	version, acks := []int16{3, 7, 9, 11, 13}[p.n(5)], []int16{-1, 1, 0}[p.n(3)]
	p.note("produce %s of %d records to %s-%d, acks=%d, producer %d/%d/%d", s.what, len(s.values), s.t.name, s.index, acks, s.pid, s.epoch, s.seq)
	req := s.request(version, acks)
	if acks == 0 {
		p.check(p.main.send(req))
		synctest.Wait()
		select {
		case _, ok := <-p.main.answers:
			if ok || s.want == nil {
				p.fail("%s with acks=0 is answered (%v), or the connection closed", s.what, ok)
			}
			_ = p.main.c.Close()
			p.dialMain()
		default:
			if s.want != nil {
				p.fail("%s with acks=0 leaves the connection open", s.what)
			}
			s.appended()
		}
		return
	}
	r := p.call(p.main, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	p.must(s.what, r.ErrorCode, s.want)
	if s.want != nil {
		if r.BaseOffset != -1 {
			p.fail("%s is refused with offset %d", s.what, r.BaseOffset)
		}
		return
	}
	if r.BaseOffset != s.offset || version >= 5 && r.LogStartOffset != s.part.start {
		p.fail("%s is at offset %d (log start %d), want %d (%d)", s.what, r.BaseOffset, r.LogStartOffset, s.offset, s.part.start)
	}
	s.appended()
	if acks == -1 && !s.repeat {
		s.part.hw = s.part.end()
	}
}

// sendUnderWay sends a batch and does not await the answer.
func (p *player) sendUnderWay() *sentBatch {
	s := p.batch()
	if s == nil {
		return nil
	}
	p.note("under way: %s of %d records to %s-%d", s.what, len(s.values), s.t.name, s.index)
	p.check(p.main.send(s.request(9, -1)))
	return s
}

// held finds a partition in the broker once it is led.
func (p *player) held(t *topicModel, index int32) *replica.Partition {
	for range 1000 {
		if q, err := p.b.replicas.LookupID(t.id, index); err == nil {
			if _, err := q.Leader(); err == nil {
				return q
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	p.fail("%s-%d is not served", t.name, index)
	return nil
}

// afterCrash learns what became of the batch that was under way.
func (p *player) afterCrash(s *sentBatch) {
	if s == nil || s.want != nil || s.repeat {
		return
	}
	switch end := int64(p.held(s.t, s.index).Stats().LogEnd); end {
	case s.part.end():
	case s.part.end() + int64(len(s.values)):
		s.appended()
	default:
		p.fail("%s-%d ends at %d after a crash; %d records were acknowledged, %d more under way", s.t.name, s.index, end, s.part.end(), len(s.values))
	}
}

// settle waits until all is served after a start, and drops what may be forgotten: a
// producer whose batches lie below the log start.
func (p *player) settle() {
	for _, t := range p.sortedTopics() {
		for i, q := range t.parts {
			p.held(t, int32(i))
			q.hw = min(q.hw, q.end())
			for pid, st := range q.producers {
				if len(st.batches) == 0 || st.batches[max(0, len(st.batches)-6)].offset < q.start {
					delete(q.producers, pid)
				}
			}
		}
	}
}

func (p *player) sortedTopics() []*topicModel {
	var out []*topicModel
	for _, name := range topicNames {
		if t := p.topics[name]; t != nil {
			out = append(out, t)
		}
	}
	return out
}

// invariants holds what is always true of the partitions.
func (p *player) invariants() {
	im := p.b.meta.Publisher.Image()
	for _, name := range im.TopicNames() {
		if p.topics[name] == nil && !meta.IsInternal(name) {
			p.fail("there is a topic %s", name)
		}
	}
	for _, t := range p.sortedTopics() {
		for i, q := range t.parts {
			h := p.held(t, int32(i))
			s := h.Stats()
			if int64(s.LogEnd) != q.end() || int64(s.LogStart) != q.start || s.HighWatermark > s.LogEnd || s.LogStart > s.HighWatermark || int64(s.HighWatermark) < q.hw {
				p.fail("%s-%d: log start %d, high watermark %d, log end %d; want start %d, at least %d, end %d",
					t.name, i, s.LogStart, s.HighWatermark, s.LogEnd, q.start, q.hw, q.end())
			}
			q.hw = int64(s.HighWatermark)
		}
	}
}

func (p *player) deleteRecords() {
	t, index, q := p.partition()
	if t == nil {
		return
	}
	synctest.Wait() // the watermark may come later than an acks=0
	hw := int64(p.held(t, index).Stats().HighWatermark)
	to := []int64{-1, 0, hw, hw + 1, q.start, hw - 1, q.start + 1, hw / 2}[p.n(8)]
	if to < -1 {
		to = 0
	}
	p.note("delete records of %s-%d below %d", t.name, index, to)
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = index, to
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic, rt.Partitions = t.name, append(rt.Partitions, rp)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version, req.Topics = 2, append(req.Topics, rt)
	r := p.call(p.main, req).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
	if to > hw {
		p.must("deleting above the watermark", r.ErrorCode, kerr.OffsetOutOfRange)
		return
	}
	p.must("deleting", r.ErrorCode, nil)
	if to == -1 {
		to = hw
	}
	if q.start = max(q.start, to); r.LowWatermark != q.start {
		p.fail("the low watermark is %d, want %d", r.LowWatermark, q.start)
	}
}

func (p *player) listOffsets() {
	t, index, q := p.partition()
	if t == nil {
		return
	}
	synctest.Wait()
	ts := []int64{-1, -2, -4, 0, time.Now().UnixMilli(), time.Now().UnixMilli() - 2000, time.Now().UnixMilli() + 1}[p.n(7)]
	if p.n(2) == 0 && len(q.records) > 0 {
		ts = q.records[p.n(len(q.records))].ts
	}
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = index, ts, -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic, rt.Partitions = t.name, append(rt.Partitions, rp)
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID, req.Topics = 8, -1, append(req.Topics, rt)
	hw := int64(p.held(t, index).Stats().HighWatermark)
	r := p.call(p.main, req).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	p.note("list offsets of %s-%d at %d: %d", t.name, index, ts, r.Offset)
	p.must("listing offsets", r.ErrorCode, nil)
	want, wantTs := int64(-1), int64(-1)
	switch {
	case ts == -1:
		want = hw
	case ts == -2 || ts == -4:
		want = q.start
	default:
		for i := q.start; i < hw; i++ {
			if q.records[i].ts >= ts {
				want, wantTs = i, q.records[i].ts
				break
			}
		}
	}
	if r.Offset != want || r.Timestamp != wantTs {
		p.fail("the offset at %d is %d (timestamp %d), want %d (%d); log start %d, watermark %d", ts, r.Offset, r.Timestamp, want, wantTs, q.start, hw)
	}
}

// sessionModel is a fetch session as the client knows it.
type sessionModel struct {
	id, epoch int32
	version   int16
	at        map[string]map[int32]int64 // by topic, partition: offset
}

// fetch reads from one partition, or goes on with a session that reads several.
func (p *player) fetch() {
	if p.n(2) == 0 {
		p.fetchSession()
		return
	}
	t, index, q := p.partition()
	if t == nil {
		return
	}
	synctest.Wait()
	from := q.start + int64(p.n(int(q.end()-q.start)+3)) - 1
	version := []int16{4, 7, 11, 12, 13, 16, 18}[p.n(7)]
	req := fetchRequest(version, t.name, t.id, from)
	rp := &req.Topics[0].Partitions[0]
	rp.Partition, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = index, []int32{1, 200, 1 << 20}[p.n(3)], -1, -1
	req.MaxBytes, req.MaxWaitMillis = []int32{1, 300, 1 << 20}[p.n(3)], int32(p.n(2))*200
	p.note("fetch %s-%d from %d", t.name, index, from)
	resp := p.call(p.main, req).(*kmsg.FetchResponse)
	p.must("the fetch", resp.ErrorCode, nil)
	n := p.fetched(t, index, from, &resp.Topics[0].Partitions[0])
	if from >= q.start && from < q.hw && n == 0 {
		p.fail("a fetch of %s-%d from %d finds nothing below the watermark %d", t.name, index, from, q.hw)
	}
}

// fetched compares what a fetch brought with the model and returns how many records.
func (p *player) fetched(t *topicModel, index int32, from int64, r *kmsg.FetchResponseTopicPartition) int {
	q := t.parts[index]
	if from < q.start || from > q.end() {
		p.must(fmt.Sprintf("a fetch from %d of %d to %d", from, q.start, q.end()), r.ErrorCode, kerr.OffsetOutOfRange)
		return 0
	}
	p.must("a fetch", r.ErrorCode, nil)
	if r.HighWatermark < q.hw || r.HighWatermark > q.end() || r.LastStableOffset != r.HighWatermark || r.LogStartOffset > q.start {
		p.fail("fetched watermark %d, stable %d, log start %d; want at least %d, start %d", r.HighWatermark, r.LastStableOffset, r.LogStartOffset, q.hw, q.start)
	}
	q.hw = r.HighWatermark
	// Ours and franz-go's decoder must find the same.
	var mine []recordModel
	next := int64(-1)
	for rest := r.RecordBatches; len(rest) > 0; {
		b, tail, err := record.Split(rest)
		p.check(err)
		p.check(record.Check(b))
		if next >= 0 && int64(b.BaseOffset()) != next || next < 0 && (int64(b.BaseOffset()) > from || int64(b.LastOffset()) < from) {
			p.fail("a fetch from %d: batch %d to %d comes after %d", from, b.BaseOffset(), b.LastOffset(), next)
		}
		next, rest = int64(b.NextOffset()), tail
		reader := record.NewReader(0)
		p.check(reader.Reset(b))
		for {
			var rec record.Record
			ok, err := reader.Next(&rec)
			p.check(err)
			if !ok {
				break
			}
			mine = append(mine, recordModel{string(rec.Value), rec.Timestamp, int64(b.BaseOffset())})
			i := int64(rec.Offset)
			if i >= r.HighWatermark || i >= q.end() {
				p.fail("offset %d is above the watermark %d", i, r.HighWatermark)
			}
			if want := q.records[i]; mine[len(mine)-1] != want {
				p.fail("offset %d holds %+v, want %+v", i, mine[len(mine)-1], want)
			}
		}
	}
	fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: t.name, Partition: index, Offset: from}, r, kgo.DefaultDecompressor(), nil)
	if fp.Err != nil {
		p.fail("franz-go: %w", fp.Err)
	}
	skip := len(mine) - len(fp.Records)
	if skip < 0 || len(mine) > 0 && len(fp.Records) == 0 {
		p.fail("franz-go finds %d records, we %d", len(fp.Records), len(mine))
	}
	for i, rec := range fp.Records {
		if m := mine[skip+i]; string(rec.Value) != m.value || rec.Timestamp.UnixMilli() != m.ts || rec.Offset != from+int64(i) {
			p.fail("franz-go reads %q at %d, we %+v", rec.Value, rec.Offset, m)
		}
	}
	return len(mine)
}

// fetchSession begins a session over all partitions, or goes on with it.
func (p *player) fetchSession() {
	synctest.Wait()
	s := p.session
	if s == nil {
		s = &sessionModel{version: []int16{7, 12, 13}[p.n(3)], at: map[string]map[int32]int64{}}
	}
	req := fetchRequest(s.version, "", model.TopicID{})
	req.Topics, req.SessionID, req.SessionEpoch, req.MaxWaitMillis = nil, s.id, s.epoch, 0
	req.MaxBytes = []int32{1, 500, 1 << 20}[p.n(3)]
	told := map[string]map[int32]bool{}
	for _, t := range p.sortedTopics() {
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID = t.name, t.id
		for i, q := range t.parts {
			key, at := t.name+string(t.id[:]), s.at
			if at[key] == nil {
				at[key], told[key] = map[int32]int64{}, map[int32]bool{}
			}
			pos, known := at[key][int32(i)]
			if known && p.n(4) > 0 {
				continue // the session knows it
			}
			if !known || p.n(2) == 0 {
				pos = q.start
			}
			at[key][int32(i)] = pos
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = int32(i), pos, 1<<20, -1, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(rt.Partitions) > 0 {
			req.Topics = append(req.Topics, rt)
		}
	}
	p.note("fetch in session %d, epoch %d, %d topics named", s.id, s.epoch, len(req.Topics))
	resp := p.call(p.main, req).(*kmsg.FetchResponse)
	p.must("the session's fetch", resp.ErrorCode, nil)
	if s.id != 0 && resp.SessionID != s.id || resp.SessionID == 0 {
		p.fail("session %d is answered as %d", s.id, resp.SessionID)
	}
	s.id = resp.SessionID
	s.epoch++
	p.session = s
	bytesGot := 0
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		var t *topicModel
		for _, m := range p.sortedTopics() {
			if s.version < 13 && m.name == rt.Topic || s.version >= 13 && m.id == rt.TopicID {
				t = m
			}
		}
		for j := range rt.Partitions {
			r := &rt.Partitions[j]
			if t == nil {
				p.legal("a topic that is gone", r.ErrorCode, kerr.UnknownTopicID, kerr.UnknownTopicOrPartition)
				continue
			}
			key := t.name + string(t.id[:])
			from, ok := s.at[key][r.Partition]
			if !ok { // the session has a former topic of that name
				continue
			}
			p.legalSession(t, r, from)
			if told[key] == nil {
				told[key] = map[int32]bool{}
			}
			told[key][r.Partition] = true
			if r.ErrorCode == 0 {
				bytesGot += len(r.RecordBatches)
				if n := p.fetched(t, r.Partition, from, r); n > 0 {
					first := t.parts[r.Partition].records[from].batch
					s.at[key][r.Partition] = first + int64(n)
				}
			}
		}
	}
	if bytesGot == 0 {
		for _, t := range p.sortedTopics() {
			for i, q := range t.parts {
				key := t.name + string(t.id[:])
				if from := s.at[key][int32(i)]; from >= q.start && from < q.hw && p.sessionHas(s, t) {
					p.fail("session %d brings nothing of %s-%d, which has %d to %d", s.id, t.name, i, from, q.hw)
				}
			}
		}
	}
	// The next request names the offsets that moved, as clients do.
	p.advanceSession()
}

// sessionHas says whether the session reads that very topic: by name it may still have the
// offsets of a former one.
func (p *player) sessionHas(s *sessionModel, t *topicModel) bool {
	for key := range s.at {
		if key != t.name+string(t.id[:]) && key[:len(key)-16] == t.name {
			return false
		}
	}
	return true
}

func (p *player) legalSession(t *topicModel, r *kmsg.FetchResponseTopicPartition, from int64) {
	q := t.parts[r.Partition]
	if from < q.start {
		p.must("a session below the log start", r.ErrorCode, kerr.OffsetOutOfRange)
		return
	}
	p.must("a session", r.ErrorCode, nil)
}

// advanceSession ends sessions that read deleted topics or offsets, as a client would by
// naming what changed; here it is simpler to begin anew now and then.
func (p *player) advanceSession() {
	s := p.session
	req := fetchRequest(s.version, "", model.TopicID{})
	req.Topics, req.SessionID, req.SessionEpoch, req.MaxBytes, req.MaxWaitMillis = nil, s.id, s.epoch, 1, 0
	for _, t := range p.sortedTopics() {
		key := t.name + string(t.id[:])
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID = t.name, t.id
		for i := range t.parts {
			if pos, ok := s.at[key][int32(i)]; ok {
				rp := kmsg.NewFetchRequestTopicPartition()
				rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = int32(i), pos, 1<<20, -1, -1
				rt.Partitions = append(rt.Partitions, rp)
			}
		}
		if len(rt.Partitions) > 0 {
			req.Topics = append(req.Topics, rt)
		}
	}
	p.must("the session's next fetch", p.call(p.main, req).(*kmsg.FetchResponse).ErrorCode, nil)
	s.epoch++
	if p.n(4) == 0 {
		p.session = nil
	}
}

// verify reads everything.
func (p *player) verify() {
	p.note("read all")
	synctest.Wait()
	p.settle()
	p.invariants()
	for _, t := range p.sortedTopics() {
		for i, q := range t.parts {
			for at := q.start; at < q.hw; {
				req := fetchRequest(13, t.name, t.id, at)
				req.Topics[0].Partitions[0].Partition = int32(i)
				r := &p.call(p.main, req).(*kmsg.FetchResponse).Topics[0].Partitions[0]
				n := p.fetched(t, int32(i), at, r)
				if n == 0 {
					p.fail("%s-%d: nothing at %d, the watermark is %d", t.name, i, at, q.hw)
				}
				at = q.records[at].batch + int64(n)
			}
		}
	}
	p.verifyGroups()
}
