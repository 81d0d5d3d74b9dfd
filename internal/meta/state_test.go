package meta_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
)

var keys = meta.NewKeys("", "c")

// No name, whatever its bytes, reaches into another key's range, and every name is found
// again.
func TestNamesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))
		enc := meta.EncodeName(name)
		if enc == "" || strings.Contains(enc, "/") {
			t.Fatalf("%q is encoded as %q", name, enc)
		}
		if got, ok := meta.DecodeName(enc); !ok || got != name {
			t.Fatalf("%q -> %q -> %q, %v", name, enc, got, ok)
		}
		other := string(rapid.SliceOf(rapid.Byte()).Draw(t, "other"))
		if other != name && meta.EncodeName(other) == enc {
			t.Fatalf("%q and %q are both %q", name, other, enc)
		}
	})
	for _, bad := range []string{"", "%", "%2", "%2f", "%41", "a/b", "é", "%zz"} {
		if got, ok := meta.DecodeName(bad); ok {
			t.Errorf("%q is read as %q, though nothing is written so", bad, got)
		}
	}
}

func TestKeyLayout(t *testing.T) {
	k := meta.NewKeys("/a b/c/", "blue/1")
	id := model.TopicID{1}
	for got, want := range map[string]string{
		k.Prefix():                    "/a%20b/c/blue%2F1/",
		k.Generation():                "/a%20b/c/blue%2F1/meta/generation",
		keys.Controller():             "/kalda/c/controller",
		keys.Registration(7):          "/kalda/c/brokers/reg/7",
		keys.BrokerState(7):           "/kalda/c/brokers/state/7",
		keys.TopicName("x.y"):         "/kalda/c/topics/name/x.y",
		keys.Topic(id):                "/kalda/c/topics/id/AQAAAAAAAAAAAAAAAAAAAA",
		keys.Tombstone(id):            "/kalda/c/topics/tomb/AQAAAAAAAAAAAAAAAAAAAA",
		keys.Config(4, ""):            "/kalda/c/config/broker/<default>",
		keys.Config(4, "<default>"):   "/kalda/c/config/broker/%3Cdefault%3E",
		keys.Config(32, "my group"):   "/kalda/c/config/group/my%20group",
		keys.Config(2, "t"):           "/kalda/c/config/topic/t",
		keys.ProducerIDs():            "/kalda/c/pid/next",
		keys.Feature("kalda.version"): "/kalda/c/features/kalda.version",
		keys.Op("o"):                  "/kalda/c/ops/o",
		keys.Partition(model.Partition{Topic: id, Index: 3}): "/kalda/c/parts/AQAAAAAAAAAAAAAAAAAAAA/3",
	} {
		if got != want {
			t.Errorf("key %s, want %s", got, want)
		}
	}
}

func TestValues(t *testing.T) {
	rec := meta.TopicNameRecord{ID: model.TopicID{1}, Status: "live"}
	plain := meta.EncodeValue(rec, nil)
	if string(plain) != `{"v":1,"id":"AQAAAAAAAAAAAAAAAAAAAA","status":"live"}` {
		t.Errorf("stored as %s", plain)
	}
	if string(meta.EncodeValue(struct{}{}, nil)) != `{"v":1}` {
		t.Errorf("an empty record is stored as %s", meta.EncodeValue(struct{}{}, nil))
	}
	for _, c := range []struct{ in, again, err string }{
		{string(plain), string(plain), ""},
		{`{"v":1}`, `{"v":1,"id":"AAAAAAAAAAAAAAAAAAAAAA","status":""}`, ""},
		{`{"status":"live","v":1,"id":"AQAAAAAAAAAAAAAAAAAAAA"}`, string(plain), ""}, // any order
		{
			`{"v":1,"z":[1],"status":"live","id":"AQAAAAAAAAAAAAAAAAAAAA","a":null}`,
			`{"v":1,"id":"AQAAAAAAAAAAAAAAAAAAAA","status":"live","a":null,"z":[1]}`, "",
		},
		{`{"v":2,"status":"live"}`, "", "format version 2"},
		{`{"status":"live"}`, "", "format version 0"},
		{`{"v":1,"status":7}`, "", "cannot unmarshal"},
		{`{"v":1,"status":"live"`, "", "not an object"},
		{`{"v":1} x`, "", "not an object"},
		{`[]`, "", "not an object"},
		{``, "", "not an object"},
	} {
		var r meta.TopicNameRecord
		extra, err := meta.DecodeValue([]byte(c.in), &r)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
		} else if got := string(meta.EncodeValue(r, extra)); got != c.again {
			t.Errorf("%s is written again as %s, want %s", c.in, got, c.again)
		}
	}
}

// writer fills a store with topics.
type writer struct {
	t testing.TB
	s meta.Store
}

func (w writer) txn(ops ...meta.Op) int64 {
	w.t.Helper()
	res, err := w.s.Txn(context.Background(), meta.Txn{Then: ops})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Revision
}

func put(key string, v any) meta.Op { return meta.Put(key, meta.EncodeValue(v, nil)) }

func part(id model.TopicID, n int32, epoch model.PartitionEpoch) meta.Op {
	return put(keys.Partition(model.Partition{Topic: id, Index: n}), meta.PartitionState{PartitionEpoch: epoch, Replicas: []model.BrokerID{1}, Leader: model.Pair{ID: model.NoBroker}, ISR: []model.Pair{}})
}

func topicOps(id model.TopicID, name string, partitions int32) []meta.Op {
	ops := []meta.Op{
		put(keys.TopicName(name), meta.TopicNameRecord{ID: id, Status: meta.TopicLive}),
		put(keys.Topic(id), meta.TopicRecord{Name: name, Partitions: partitions, ReplicationFactor: 1, Status: meta.TopicLive}),
	}
	for n := range partitions {
		ops = append(ops, part(id, n, 0))
	}
	return ops
}

func load(t *testing.T, s meta.Store) *meta.Publisher {
	t.Helper()
	p := meta.NewPublisher(s, keys, nil)
	if err := p.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs a publisher for the length of a test in a bubble; stop waits for its end.
func run(p *meta.Publisher) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

// Applying a revision shares whatever did not change and leaves older images alone.
func TestImagesShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		w := writer{t, m}
		a, b := model.TopicID{1}, model.TopicID{2}
		w.txn(topicOps(a, "a", 3)...)
		w.txn(topicOps(b, "b", 2)...)
		p := load(t, m)
		stop := run(p)
		before := p.Image()
		names := maps.Clone(before.Topics)
		rev := w.txn(part(a, 1, 7))
		im, err := p.WaitFor(t.Context(), rev)
		if err != nil {
			t.Fatal(err)
		}
		ta := im.Topics["a"]
		switch {
		case im.Revision != rev:
			t.Fatalf("image at %d, want %d", im.Revision, rev)
		case ta == before.Topics["a"] || ta.Partitions[1].PartitionEpoch != 7:
			t.Fatal("the changed partition is not shown")
		case ta.Partitions[0] != before.Topics["a"].Partitions[0] || ta.Partitions[2] != before.Topics["a"].Partitions[2]:
			t.Fatal("an unchanged partition of the topic was copied")
		case im.Topics["b"] != before.Topics["b"] || im.TopicsByID[b] != im.Topics["b"]:
			t.Fatal("an unchanged topic was copied")
		case before.Topics["a"].Partitions[1].PartitionEpoch != 0 || !maps.Equal(before.Topics, names):
			t.Fatal("the older image has changed")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A topic is shown when its name, its record and all its partitions are there, and not
// before or after.
func TestTopicIsShownWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		w := writer{t, m}
		p := load(t, m)
		stop := run(p)
		id, id2 := model.TopicID{1}, model.TopicID{2}
		step := func(want string, ops ...meta.Op) {
			t.Helper()
			rev := w.txn(ops...)
			im, err := p.WaitFor(t.Context(), rev)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, name := range im.TopicNames() {
				tp := im.Topics[name]
				got = append(got, fmt.Sprintf("%s/%d", name, len(tp.Partitions)))
				if im.TopicsByID[tp.ID] != tp || len(im.TopicsByID) != len(im.Topics) {
					t.Fatalf("the two maps of topics differ: %v %v", im.Topics, im.TopicsByID)
				}
			}
			if strings.Join(got, " ") != want {
				t.Fatalf("shown: %v, want %s", got, want)
			}
		}
		name := func(id model.TopicID, status string) meta.Op {
			return put(keys.TopicName("t"), meta.TopicNameRecord{ID: id, Status: status})
		}
		rec := func(id model.TopicID, n int32, status string) meta.Op {
			return put(keys.Topic(id), meta.TopicRecord{Name: "t", Partitions: n, Status: status})
		}
		step("", name(id, meta.TopicCreating))
		step("", part(id, 1, 0))
		step("", name(id, meta.TopicLive), rec(id, 2, meta.TopicLive)) // partition 0 is missing
		step("t/2", part(id, 0, 0))
		step("t/2", part(id, 2, 0)) // written first, counted later
		step("t/3", rec(id, 3, meta.TopicLive))
		// Deleted and created again in one revision: another topic of that name.
		step("t/1", meta.Delete(keys.Topic(id)), name(id2, meta.TopicLive), rec(id2, 1, meta.TopicLive), part(id2, 0, 0))
		step("", rec(id2, 1, meta.TopicDeleting), meta.Delete(keys.TopicName("t")),
			put(keys.Tombstone(id2), meta.TombstoneRecord{Name: "t"}))
		if p.Image().Tombstones[id2] != "t" {
			t.Fatal("the tombstone is not shown")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// pagedStore changes the ensemble between the pages of a load.
type pagedStore struct {
	*meta.Memory
	between func(n int)
	pages   int
}

func (s *pagedStore) Range(ctx context.Context, prefix, after string, limit int, rev int64) (meta.Page, error) {
	page, err := s.Memory.Range(ctx, prefix, after, limit, rev)
	s.pages++
	s.between(s.pages)
	return page, err
}

// A load of many pages is one revision, whatever is written or compacted meanwhile.
func TestLoadIsOneRevision(t *testing.T) {
	m := newMemory(t)
	w := writer{t, m}
	var last int64
	for i := range 12 {
		last = w.txn(topicOps(model.TopicID{byte(i + 1)}, fmt.Sprintf("t%02d", i), 100)...)
	}
	s := &pagedStore{Memory: m, between: func(n int) {
		if n == 1 { // a topic far behind the first page goes, one in the first page comes
			w.txn(meta.Delete(keys.TopicName("t11")))
			w.txn(topicOps(model.TopicID{99}, "aaa", 1)...)
		}
	}}
	im := load(t, s).Image()
	if im.Revision != last || len(im.Topics) != 12 || im.Topics["t11"] == nil {
		t.Fatalf("image at %d (want %d) with %d topics", im.Revision, last, len(im.Topics))
	}
	if s.pages != 3 { // 12 x 102 keys, 500 a page
		t.Fatalf("%d pages", s.pages)
	}
	// Compacted under way: it starts again.
	s = &pagedStore{Memory: m, between: func(n int) {
		if n == 1 {
			m.Compact(w.txn(topicOps(model.TopicID{98}, "bbb", 1)...))
		}
	}}
	if im := load(t, s).Image(); im.Topics["bbb"] == nil || im.Topics["t11"] != nil {
		t.Fatalf("topics after a compaction: %v", im.TopicNames())
	}
}

// tamper drops events of watches.
type tamper struct {
	*meta.Memory
	drop atomic.Bool
	fail atomic.Bool
}

type tamperWatcher struct {
	meta.Watcher
	s *tamper
}

func (s *tamper) Watch(ctx context.Context, prefix string, from int64) (meta.Watcher, error) {
	if s.fail.Load() {
		return nil, errors.New("no ensemble")
	}
	w, err := s.Memory.Watch(ctx, prefix, from)
	return &tamperWatcher{w, s}, err
}

func (w *tamperWatcher) Next(ctx context.Context) ([]meta.Revision, error) {
	revs, err := w.Watcher.Next(ctx)
	if w.s.fail.Load() {
		return nil, meta.ErrWatchLost
	}
	if w.s.drop.Load() {
		for i := range revs {
			revs[i].Events = slices.DeleteFunc(slices.Clone(revs[i].Events), func(e meta.Event) bool { return strings.Contains(e.Key, "/parts/") })
		}
	}
	return revs, err
}

// The audit finds events that the watch swallowed, and repairs the image.
func TestAuditFindsLostEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tamper{Memory: newMemory(t)}
		w := writer{t, s}
		id := model.TopicID{1}
		w.txn(topicOps(id, "t", 2)...)
		p := load(t, s)
		stop := run(p)
		s.drop.Store(true)
		rev := w.txn(part(id, 1, 5), put(keys.Feature("f"), meta.FeatureRecord{Level: 1}))
		im, err := p.WaitFor(t.Context(), rev)
		if err != nil || im.Topics["t"].Partitions[1].PartitionEpoch != 0 {
			t.Fatal("the event was not lost: the test shows nothing", err)
		}
		s.drop.Store(false)
		start := time.Now()
		if _, err := p.WaitUntil(t.Context(), func(im *meta.Image) bool {
			return im.Topics["t"].Partitions[1].PartitionEpoch == 5
		}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 6*time.Minute {
			t.Errorf("found after %v, want about 5 min", took)
		}
		if n := p.Mismatches(); n != 1 {
			t.Errorf("%d mismatches counted, want 1", n)
		}
		// Nothing is wrong from now on, so nothing is counted.
		<-time.After(time.Hour)
		if n := p.Mismatches(); n != 1 {
			t.Errorf("%d mismatches after an hour of peace", n)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A watch that is lost or falls behind a compaction is replaced by a load that compares;
// what did not change is still the same pointer.
func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tamper{Memory: newMemory(t)}
		w := writer{t, s}
		a, b, c := model.TopicID{1}, model.TopicID{2}, model.TopicID{3}
		w.txn(topicOps(a, "a", 2)...)
		w.txn(topicOps(b, "b", 2)...)
		p := load(t, s)
		stop := run(p)
		before := p.Image()
		s.fail.Store(true)
		w.txn(part(a, 0, 1))
		w.txn(meta.Delete(keys.TopicName("b")), meta.Delete(keys.Topic(b)))
		w.txn(topicOps(c, "c", 1)...)
		s.Compact(w.txn(put(keys.Feature("f"), meta.FeatureRecord{Level: 2})))
		<-time.After(3 * time.Second) // several attempts fail
		s.fail.Store(false)
		im, err := p.WaitUntil(t.Context(), func(im *meta.Image) bool { return im.Features["f"] == 2 })
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(im.TopicNames(), []string{"a", "c"}) || im.Topics["a"].Partitions[0].PartitionEpoch != 1 ||
			im.Topics["a"].Partitions[1] != before.Topics["a"].Partitions[1] {
			t.Fatalf("after the reload: %v", im.TopicNames())
		}
		if _, err := p.WaitFor(t.Context(), w.txn(part(a, 0, 2))); err != nil { // and the watch goes on
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A value that this version cannot read ends Run with an error that names the key.
func TestUnreadableValueStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		w := writer{t, m}
		p := load(t, m)
		done := make(chan error, 1)
		go func() { done <- p.Run(context.Background()) }()
		w.txn(meta.Put(keys.Topic(model.TopicID{1}), []byte(`{"v":2}`)))
		err := <-done
		if !meta.IsUnreadable(err) && (err == nil || !strings.Contains(err.Error(), "topics/id/")) {
			t.Fatalf("Run ended with %v", err)
		}
		if err := meta.NewPublisher(m, keys, nil).Load(t.Context()); !meta.IsUnreadable(err) || !strings.Contains(err.Error(), "topics/id/") {
			t.Fatalf("Load: %v", err)
		}
	})
}

// Keys of kinds that this version does not know are kept out of the way, and clusters of
// one ensemble do not see each other.
func TestStrangersAreIgnored(t *testing.T) {
	m := newMemory(t)
	w := writer{t, m}
	w.txn(meta.Put(keys.Prefix()+"acl/x", []byte("anything")), meta.Put(keys.Prefix()+"config/client/x", []byte("{}")))
	w.txn(meta.Put(meta.NewKeys("", "c2").TopicName("t"), []byte("damage")))
	w.txn(meta.Put("/kalda/c2x", []byte("damage")))
	im := load(t, m).Image()
	if len(im.Topics) != 0 || im.Revision == 0 {
		t.Fatalf("%+v", im)
	}
}

// What an image says of brokers.
func TestImageBrokers(t *testing.T) {
	m := newMemory(t)
	w := writer{t, m}
	reg := func(inc string, carried model.BrokerEpoch) meta.Registration {
		return meta.Registration{Incarnation: inc, CarriedEpoch: carried, Want: meta.WantRunning, Endpoints: []meta.Endpoint{{Name: "PLAINTEXT", Host: inc, Port: 1}}}
	}
	state := func(e model.BrokerEpoch, st meta.BrokerStatus) meta.BrokerState {
		return meta.BrokerState{Epoch: e, Incarnation: "old", Status: st, Endpoints: []meta.Endpoint{{Name: "PLAINTEXT", Host: "old", Port: 1}}}
	}
	r1 := w.txn(put(keys.Registration(1), reg("new", 0)))                                               // never admitted
	w.txn(put(keys.BrokerState(2), state(7, meta.BrokerActive)))                                        // lease lost a moment ago
	r3 := w.txn(put(keys.Registration(3), reg("new", 0)), put(keys.BrokerState(3), state(7, "fenced"))) // back, not admitted
	w.txn(put(keys.Registration(4), reg("new", 7)), put(keys.BrokerState(4), state(7, "draining")))
	w.txn(put(keys.Registration(5), reg("new", 0)), put(keys.BrokerState(5), state(7, "active"))) // old life not fenced yet
	im := load(t, m).Image()
	var got []string
	for _, id := range im.BrokerIDs() {
		b := im.Brokers[id]
		e, ok := b.Endpoint("PLAINTEXT")
		got = append(got, fmt.Sprintf("%d@%d %s %s %v", id, b.Epoch, b.Status, e.Host, ok))
	}
	want := fmt.Sprintf("[1@%d fenced new true 2@7 active old true 3@%d fenced new true 4@7 draining old true 5@7 active old true]", r1, r3)
	if fmt.Sprint(got) != want {
		t.Fatalf("brokers %v\nwant    %s", got, want)
	}
}

// One change in a cluster of many partitions copies little: pointers of the topics, not
// the partitions.
func TestApplyIsCheap(t *testing.T) {
	m := newMemory(t)
	w := writer{t, m}
	const topics = 200
	for i := range topics {
		w.txn(topicOps(model.TopicID{byte(i), byte(i >> 8), 1}, fmt.Sprintf("t%d", i), 50)...)
	}
	s := meta.NewState(keys)
	if _, err := s.Load(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	rev := s.Revision()
	value := meta.EncodeValue(meta.PartitionState{PartitionEpoch: 1, Replicas: []model.BrokerID{1}, Leader: model.Pair{ID: model.NoBroker}}, nil)
	key := keys.Partition(model.Partition{Topic: model.TopicID{1, 0, 1}, Index: 7})
	s.Image()
	allocs := testing.AllocsPerRun(20, func() {
		rev++
		if err := s.Apply(meta.Revision{Revision: rev, Events: []meta.Event{{KV: meta.KV{Key: key, Value: value, ModRevision: rev, CreateRevision: 1}}}}); err != nil {
			t.Fatal(err)
		}
		s.Image()
	})
	if allocs > 200 { // a copy of every topic would be 200 more
		t.Fatalf("%v allocations for one change among %d topics", allocs, topics)
	}
}
