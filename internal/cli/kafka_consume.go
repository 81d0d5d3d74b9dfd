package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// span is the part of a partition's log that a reader can see: [start, end).
type span struct{ start, end int64 }

// consumeSpec says what is read.
type consumeSpec struct {
	topics     []string
	group      string  // "" reads without one
	partitions []int32 // nil: all
	start      startSpec
	// toEnd says that the reading stops at the ends as they are now.
	toEnd bool
}

// consumer reads records, in a group or from fixed partitions.
type consumer struct {
	*client
	group string
	// autoCommit says that what was printed is committed.
	autoCommit bool

	mu struct {
		sync.Mutex
		assigned map[model.TopicPartition]bool // in a group: owned now
		changes  int                           // assignments so far
	}
	rec     consumedRecord // handed out by each
	headers []header
	marks   map[string]map[int32]kgo.EpochOffset
	// suspects are the topics that may have been deleted.
	suspects map[string]bool
}

// spans returns log start and end of the partitions that s selects. A topic that does
// not exist or has not all of the partitions is an error.
func (c *client) spans(ctx context.Context, s consumeSpec) (map[model.TopicPartition]span, error) {
	starts, err := c.adm.ListStartOffsets(ctx, s.topics...)
	if err != nil {
		return nil, c.explain(err)
	}
	ends, err := c.adm.ListEndOffsets(ctx, s.topics...)
	if err != nil {
		return nil, c.explain(err)
	}
	all := make(map[model.TopicPartition]span)
	for _, t := range s.topics {
		parts := s.partitions
		if parts == nil {
			for p := range ends[t] {
				parts = append(parts, p)
			}
		}
		for _, p := range parts {
			lo, ok1 := starts.Lookup(t, p)
			hi, ok2 := ends.Lookup(t, p)
			_, topicGone := ends.Lookup(t, -1)
			switch {
			case topicGone || len(ends[t]) == 0:
				return nil, failed(errorOfListing(ends[t]), "topic %s", t)
			case !ok1 || !ok2:
				return nil, &failure{what: fmt.Sprintf("topic %s has no partition %d; it has %d", t, p, len(ends[t])), code: ExitNotFound}
			case lo.Err != nil || hi.Err != nil:
				return nil, failed(c.explain(errors.Join(lo.Err, hi.Err)), "look up offsets of %s", model.TopicPartition{Topic: t, Partition: p})
			}
			all[model.TopicPartition{Topic: t, Partition: p}] = span{lo.Offset, hi.Offset}
		}
		if len(ends[t]) == 0 {
			return nil, failed(kerr.UnknownTopicOrPartition, "topic %s", t)
		}
	}
	return all, nil
}

// errorOfListing is the error of a topic whose partitions could not be listed.
func errorOfListing(ps map[int32]kadm.ListedOffset) error {
	for _, p := range ps {
		if p.Err != nil {
			return convert(p.Err)
		}
	}
	return kerr.UnknownTopicOrPartition
}

// resolve turns a place into an offset for each partition of spans. Offsets outside a
// log become its nearest end; moved is called for these.
func (c *client) resolve(ctx context.Context, s consumeSpec, spans map[model.TopicPartition]span, moved func(tp model.TopicPartition, want, got int64)) (map[model.TopicPartition]int64, error) {
	at := make(map[model.TopicPartition]int64, len(spans))
	var later kadm.ListedOffsets
	if s.start.kind == startTime {
		var err error
		if later, err = c.adm.ListOffsetsAfterMilli(ctx, s.start.at.UnixMilli(), s.topics...); err != nil {
			return nil, c.explain(err)
		}
	}
	for tp, sp := range spans {
		want := sp.start
		switch s.start.kind {
		case startEnd, startDefault:
			want = sp.end
		case startOffset:
			want = s.start.n
		case startBack:
			want = max(sp.start, sp.end-s.start.n)
		case startTime:
			want = sp.end
			if o, ok := later.Lookup(tp.Topic, tp.Partition); ok && o.Offset >= 0 {
				if o.Err != nil {
					return nil, failed(c.explain(o.Err), "look up the time in %s", tp)
				}
				want = o.Offset
			}
		}
		got := min(max(want, sp.start), sp.end)
		if got != want && s.start.kind == startOffset {
			moved(tp, want, got)
		}
		at[tp] = got
	}
	return at, nil
}

// openConsumer starts reading. at are the places of a reader without a group; in a group
// they come from the committed offsets, and s.start is used where there is none.
func (a *app) openConsumer(ctx context.Context, s consumeSpec, at map[model.TopicPartition]int64, more ...kgo.Opt) (*consumer, error) {
	props, err := parseProperties(a.props)
	if err != nil {
		return nil, err
	}
	c := &consumer{group: s.group, marks: make(map[string]map[int32]kgo.EpochOffset), suspects: make(map[string]bool)}
	c.mu.assigned = make(map[model.TopicPartition]bool)
	opts := []kgo.Opt{
		// Bounds the memory of what is fetched ahead: three answers of at most 16 MiB.
		kgo.FetchMaxBytes(16 << 20),
		kgo.MaxConcurrentFetches(3),
		// Damage on a broker's disk must be said, and the client would try it again in
		// silence for ever; poll passes over the other errors that it tries again.
		kgo.KeepRetryableFetchErrors(),
	}
	wait := 500 * time.Millisecond // Kafka's default of fetch.max.wait.ms
	if s.toEnd {
		// A fetch that waits on empty partitions holds up the one behind it.
		wait = 50 * time.Millisecond
		// A log may end in a marker of a transaction; without seeing it we would wait for
		// a record that never comes.
		opts = append(opts, kgo.KeepControlRecords())
	}
	opts = append(opts, kgo.FetchMaxWait(wait))
	if s.group == "" {
		places := make(map[string]map[int32]kgo.Offset)
		for tp, o := range at {
			if places[tp.Topic] == nil {
				places[tp.Topic] = make(map[int32]kgo.Offset)
			}
			places[tp.Topic][tp.Partition] = kgo.NewOffset().At(o)
		}
		opts = append(opts, kgo.ConsumePartitions(places))
	} else {
		c.autoCommit = props.autoCommit
		opts = append(opts,
			kgo.ConsumerGroup(s.group),
			kgo.ConsumeTopics(s.topics...),
			kgo.ConsumeStartOffset(startOffsetOf(s.start)),
			kgo.BlockRebalanceOnPoll(),
			kgo.OnPartitionsAssigned(c.onAssigned),
			kgo.OnPartitionsRevoked(c.onRevoked),
			kgo.OnPartitionsLost(c.onLost),
		)
		if c.autoCommit {
			opts = append(opts, kgo.AutoCommitMarks())
			if props.commitInterval > 0 {
				opts = append(opts, kgo.AutoCommitInterval(props.commitInterval))
			}
		} else {
			opts = append(opts, kgo.DisableAutoCommit())
		}
	}
	if c.client, err = a.open(ctx, append(opts, more...)...); err != nil {
		return nil, err
	}
	return c, nil
}

// startOffsetOf is a place in the form that a group member takes for partitions without a
// committed offset.
func startOffsetOf(s startSpec) kgo.Offset {
	o := kgo.NewOffset()
	switch s.kind {
	case startFirst:
		return o.AtStart()
	case startOffset:
		return o.At(s.n)
	case startBack:
		return o.AtEnd().Relative(-s.n)
	case startTime:
		return o.AfterMilli(s.at.UnixMilli())
	}
	return o.AtEnd()
}

func (c *consumer) onAssigned(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.changes++
	for t, ps := range m {
		for _, p := range ps {
			c.mu.assigned[model.TopicPartition{Topic: t, Partition: p}] = true
		}
	}
}

// onRevoked hands partitions back: what was printed of them is committed first, so that
// their next owner starts there.
func (c *consumer) onRevoked(ctx context.Context, cl *kgo.Client, m map[string][]int32) {
	if c.autoCommit {
		// An error means that the next owner prints again what we printed; redelivery is
		// what a group promises then, and the client logs it.
		_ = cl.CommitMarkedOffsets(ctx)
	}
	c.onLost(ctx, cl, m)
}

func (c *consumer) onLost(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t, ps := range m {
		for _, p := range ps {
			delete(c.mu.assigned, model.TopicPartition{Topic: t, Partition: p})
		}
	}
}

// assignment returns the partitions owned now and how often that was decided.
func (c *consumer) assignment() (owned map[model.TopicPartition]bool, changes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	owned = make(map[model.TopicPartition]bool, len(c.mu.assigned))
	for tp := range c.mu.assigned {
		owned[tp] = true
	}
	return owned, c.mu.changes
}

// fetched is what one poll brought.
type fetched struct {
	c  *consumer
	fs kgo.Fetches
	// passing says that it brought an error that the client tries again.
	passing bool
}

// poll waits for records at most wait. While its result is in use no partition is taken
// away; the caller must call release.
func (c *consumer) poll(ctx context.Context, wait time.Duration) (fetched, error) {
	bound, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	fs := c.cl.PollRecords(bound, 10_000) // a bound on how long a rebalance waits for the printing
	f := fetched{c: c, fs: fs}
	if ctx.Err() != nil {
		return f, context.Cause(ctx)
	}
	c.suspectUnknown(fs)
	var first error
	fs.EachError(func(t string, p int32, err error) {
		var loss *kgo.ErrDataLoss
		if first != nil || errors.As(err, &loss) || // the reader goes on at the next record
			(bound.Err() != nil && errors.Is(err, context.DeadlineExceeded)) {
			return
		}
		if passing(err) {
			f.passing = true
			return
		}
		first = c.explain(err)
		switch {
		case errors.Is(first, kerr.CorruptMessage):
			first = &failure{
				what: fmt.Sprintf("read %s: the records here are damaged on the broker's disk", model.TopicPartition{Topic: t, Partition: p}),
				hint: fmt.Sprintf("'kalda topic describe %s' may say which offsets; read on behind them with -o, or move the group there with 'kalda group seek'", t),
				err:  first,
			}
		case t != "":
			first = failed(first, "read %s", model.TopicPartition{Topic: t, Partition: p})
		case c.group != "":
			first = failed(first, "group %s", c.group)
		}
	})
	return f, first
}

// passing says that franz-go tries it again, and that trying may help.
func passing(err error) bool {
	k := protocolError(convert(err))
	return k != nil && k != kerr.CorruptMessage && k.Retriable
}

// release lets the group move partitions again.
func (f fetched) release() {
	if f.c.group != "" {
		f.c.cl.AllowRebalance()
	}
}

func (f fetched) empty() bool { return f.fs.Empty() }

// each calls fn for the records in order until it returns false. next is called with the
// offset behind the last record of each partition that fn accepted.
func (f fetched) each(fn func(*consumedRecord) bool, next func(tp model.TopicPartition, offset int64)) {
	stop := false
	f.fs.EachPartition(func(p kgo.FetchTopicPartition) {
		if stop || len(p.Records) == 0 {
			return
		}
		var last *kgo.Record
		for _, r := range p.Records {
			if !r.Attrs.IsControl() && !fn(f.c.view(r)) {
				stop = true
				break
			}
			last = r
		}
		if last == nil {
			return
		}
		tp := model.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		if f.c.group != "" {
			f.c.mark(tp, last)
		}
		next(tp, last.Offset+1)
	})
}

// view shows r in the type of this package; it is valid until the next call.
func (c *consumer) view(r *kgo.Record) *consumedRecord {
	c.headers = c.headers[:0]
	for _, h := range r.Headers {
		c.headers = append(c.headers, header{Key: h.Key, Value: h.Value})
	}
	c.rec = consumedRecord{
		topic: r.Topic, partition: r.Partition, offset: r.Offset, timestamp: r.Timestamp,
		key: r.Key, value: r.Value, headers: c.headers,
	}
	return &c.rec
}

// mark remembers r as handled; commitPrinted makes it ready for commit.
func (c *consumer) mark(tp model.TopicPartition, r *kgo.Record) {
	if c.marks[tp.Topic] == nil {
		c.marks[tp.Topic] = make(map[int32]kgo.EpochOffset)
	}
	c.marks[tp.Topic][tp.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
}

// printed says that everything handed out so far has reached stdout: from now on it may
// be committed.
func (c *consumer) printed() {
	if len(c.marks) == 0 {
		return
	}
	c.cl.MarkCommitOffsets(c.marks)
	clear(c.marks)
}

// commit stores what was printed.
func (c *consumer) commit(ctx context.Context) error {
	if c.group == "" || !c.autoCommit {
		return nil
	}
	return failed(c.explain(c.cl.CommitMarkedOffsets(ctx)), "commit offsets of group %s", c.group)
}

// leave commits, leaves the group and closes.
func (c *consumer) leave(ctx context.Context) error {
	var err error
	if c.group != "" {
		c.cl.AllowRebalance()
		err = c.commit(ctx)
		// A leave that fails costs the others one session timeout, nothing else.
		_ = c.cl.LeaveGroupContext(ctx)
	}
	c.cl.CloseAllowingRebalance()
	return err
}

// committed returns the group's committed offsets.
func (c *client) committed(ctx context.Context, group string) (map[model.TopicPartition]int64, error) {
	resp, err := coordinated(ctx, func() (kadm.OffsetResponses, error) {
		resp, err := c.adm.FetchOffsets(ctx, group)
		return resp, c.explain(err)
	})
	if err != nil {
		return nil, failed(err, "offsets of group %s", group)
	}
	m := make(map[model.TopicPartition]int64)
	for t, ps := range resp {
		for p, o := range ps {
			if o.Err == nil && o.At >= 0 {
				m[model.TopicPartition{Topic: t, Partition: p}] = o.At
			}
		}
	}
	return m, nil
}

// groupSize returns how many members a group has, and whether they have their partitions.
func (c *client) groupSize(ctx context.Context, group string) (members int, stable bool, err error) {
	g, err := coordinated(ctx, func() (kadm.DescribedGroup, error) {
		gs, err := c.adm.DescribeGroups(ctx, group)
		if err != nil {
			return kadm.DescribedGroup{}, c.explain(err)
		}
		return gs[group], c.explain(gs[group].Err)
	})
	return len(g.Members), g.State == "Stable", err
}

// tail looks at what a partition holds from an offset on and returns the offset up to
// which nothing is left that a consumer would get; from itself when a record is there.
// Compaction and aborted transactions leave such tails, and a consumer is never told.
func (c *client) tail(ctx context.Context, tp model.TopicPartition, from, end int64) (int64, error) {
	md, err := c.adm.Metadata(ctx, tp.Topic)
	if err != nil {
		return from, c.explain(err)
	}
	t := md.Topics[tp.Topic]
	part, ok := t.Partitions[tp.Partition]
	if !ok {
		return from, failed(kerr.UnknownTopicOrPartition, "read %s", tp)
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxBytes, req.SessionEpoch = -1, 1<<20, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = tp.Topic, t.ID
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = tp.Partition, from, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	got, err := c.cl.Broker(int(part.Leader)).Request(ctx, req)
	if err != nil {
		return from, c.explain(err)
	}
	resp := got.(*kmsg.FetchResponse)
	if err := errorOf(resp.ErrorCode, nil); err != nil {
		return from, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return from, fmt.Errorf("read %s: the broker answered for something else", tp)
	}
	p := &resp.Topics[0].Partitions[0]
	if err := errorOf(p.ErrorCode, nil); err != nil {
		return from, err
	}
	if len(p.RecordBatches) == 0 {
		return end, nil // asked to answer at once, the broker had nothing
	}
	o := kgo.ProcessFetchPartitionOpts{Topic: tp.Topic, Partition: tp.Partition, Offset: from, KeepControlRecords: true}
	fp, next := kgo.ProcessFetchPartition(o, p, kgo.DefaultDecompressor(), nil)
	for _, r := range fp.Records {
		if !r.Attrs.IsControl() && r.Offset < end {
			return from, nil
		}
	}
	return max(from, next), fp.Err
}
